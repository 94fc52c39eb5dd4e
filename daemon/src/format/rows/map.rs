//! File maps: `version count bitmap:ceil(count/8) [local:ceil(count/8)] id:32 …`, one id per bit set, the last slot always set.
//! The second bitmap, present if bit 7 of the count is set, says which of these blocks were written here.

use super::RowError;
use super::wire::{Reader, Writer};
use crate::ids::BlockId;

/// Blocks in one file-map row: 64 blocks of 128 KiB = 8 MiB of file.
pub const BLOCKS_PER_CHUNK: u64 = 64;

/// Bit 7 of the count: the bitmap of local blocks follows.
const HAS_LOCAL: u8 = 1 << 7;

/// One row of a file map: which block holds which part of a file, where known. Entries of blocks that came from the store are hints
/// checked by content: one that is named here but no longer stored is fetched again. A local block is the content, and is referenced.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MapChunk {
    /// `BLOCKS_PER_CHUNK` slots or fewer; missing and `None` alike mean not known.
    pub blocks: Vec<Option<BlockId>>,
    /// Which slots hold blocks written here, a bit each, the first slot lowest. Only slots that hold a block.
    pub local: u64,
}

/// The identity that stands for a block of zeros that takes no space: a hole in what would else come from the origin.
pub const HOLE: BlockId = BlockId([0; 32]);

impl MapChunk {
    /// Whether a slot holds a block written here (or a hole made here).
    pub fn is_local(&self, slot: usize) -> bool {
        self.local >> slot & 1 == 1
    }
}

impl MapChunk {
    /// The row's bytes. Slots beyond [`BLOCKS_PER_CHUNK`] do not exist.
    pub fn encode(&self) -> Vec<u8> {
        let count = self.blocks.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        assert!(count as u64 <= BLOCKS_PER_CHUNK, "a chunk has {BLOCKS_PER_CHUNK} slots");
        let slots = &self.blocks[..count];
        let mut row = Writer::row(2 + 8 + count * 32);
        row.byte(count as u8 | if self.local != 0 { HAS_LOCAL } else { 0 });
        for eight in slots.chunks(8) {
            row.byte(eight.iter().enumerate().map(|(bit, slot)| u8::from(slot.is_some()) << bit).sum());
        }
        if self.local != 0 {
            row.raw(&self.local.to_le_bytes()[..count.div_ceil(8)]);
        }
        for id in slots.iter().flatten() {
            row.raw(&id.0);
        }
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let first = row.byte()?;
        let count = usize::from(first & !HAS_LOCAL);
        if count as u64 > BLOCKS_PER_CHUNK {
            return Err(RowError::Field("count"));
        }
        let bitmap = row.raw(count.div_ceil(8))?;
        let set = |slot: usize| bitmap[slot / 8] >> (slot % 8) & 1 == 1;
        let slots = bitmap.len() * 8;
        if (count..slots).any(set) || (count > 0 && !set(count - 1)) {
            return Err(RowError::Field("bitmap"));
        }
        let local = if first & HAS_LOCAL != 0 { decode_local(row.raw(count.div_ceil(8))?, &set)? } else { 0 };
        let mut blocks = Vec::with_capacity(count);
        for slot in 0..count {
            blocks.push(if set(slot) { Some(BlockId(*row.raw(32)?.first_chunk().expect("32 bytes were taken"))) } else { None });
        }
        row.end()?;
        Ok(MapChunk { blocks, local })
    }
}

fn decode_local(bytes: &[u8], set: &dyn Fn(usize) -> bool) -> Result<u64, RowError> {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let local = u64::from_le_bytes(word);
    let stray = |slot: usize| local >> slot & 1 == 1 && (slot >= bytes.len() * 8 || !set(slot));
    if local == 0 || (0..64).any(stray) { Err(RowError::Field("local")) } else { Ok(local) }
}
