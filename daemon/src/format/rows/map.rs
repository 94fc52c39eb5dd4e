//! File maps: `version count bitmap:ceil(count/8) id:32 …`, one id per bit set, the last slot always set.

use super::RowError;
use super::wire::{Reader, Writer};
use crate::ids::BlockId;

/// Blocks in one file-map row: 64 blocks of 128 KiB = 8 MiB of file.
pub const BLOCKS_PER_CHUNK: u64 = 64;

/// One row of a file map: which block holds which part of a file, where known. Entries are hints checked by content:
/// a block that is named here but no longer stored is fetched again.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MapChunk {
    /// `BLOCKS_PER_CHUNK` slots or fewer; missing and `None` alike mean not known.
    pub blocks: Vec<Option<BlockId>>,
}

impl MapChunk {
    /// The row's bytes. Slots beyond [`BLOCKS_PER_CHUNK`] do not exist.
    pub fn encode(&self) -> Vec<u8> {
        let count = self.blocks.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        assert!(count as u64 <= BLOCKS_PER_CHUNK, "a chunk has {BLOCKS_PER_CHUNK} slots");
        let slots = &self.blocks[..count];
        let mut row = Writer::row(2 + 8 + count * 32);
        row.byte(count as u8);
        for eight in slots.chunks(8) {
            row.byte(eight.iter().enumerate().map(|(bit, slot)| u8::from(slot.is_some()) << bit).sum());
        }
        for id in slots.iter().flatten() {
            row.raw(&id.0);
        }
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let count = usize::from(row.byte()?);
        if count as u64 > BLOCKS_PER_CHUNK {
            return Err(RowError::Field("count"));
        }
        let bitmap = row.raw(count.div_ceil(8))?;
        let set = |slot: usize| bitmap[slot / 8] >> (slot % 8) & 1 == 1;
        let slots = bitmap.len() * 8;
        if (count..slots).any(set) || (count > 0 && !set(count - 1)) {
            return Err(RowError::Field("bitmap"));
        }
        let mut blocks = Vec::with_capacity(count);
        for slot in 0..count {
            blocks.push(if set(slot) { Some(BlockId(*row.raw(32)?.first_chunk().expect("32 bytes were taken"))) } else { None });
        }
        row.end()?;
        Ok(MapChunk { blocks })
    }
}
