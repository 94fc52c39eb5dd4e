//! Holding for a snapshot what the bucket has of it: its blocks are entered in rows under the snapshot's own numbers, with the bit that makes a reference of each,
//! so that they are held like blocks that exist only here. They go with the snapshot.

use crate::format::rows::key;
use crate::ids::{BlockId, BlockIndex, Epoch, Ino};
use crate::meta::engine::Table;
use crate::meta::map::decode_chunk;
use crate::meta::quota::Spending;
use crate::meta::rows::Txn;
use crate::meta::{BLOCKS_PER_CHUNK, MetaError, MetaStore, Refusal, SnapshotRow};
use std::collections::BTreeMap;

/// Blocks of one row of a map, by slot.
type Slots = Vec<(usize, BlockId)>;

impl MetaStore {
    /// Enters blocks of files in snapshots as held, in one transaction; returns the fingerprints of blocks that nothing refers to any more. Whoever calls has
    /// them claimed.
    ///
    /// # Errors
    /// `NotFound` if a snapshot is gone: then nothing is entered.
    pub fn hold_blocks(&self, blocks: &[(Ino, BlockIndex, BlockId)]) -> Result<Vec<u64>, MetaError> {
        let mut rows: BTreeMap<(Ino, u64), Slots> = BTreeMap::new();
        for &(ino, BlockIndex(index), id) in blocks {
            debug_assert!(ino.is_frozen(), "{ino} is of the present, and what it has is held if it was written");
            rows.entry((ino, index / BLOCKS_PER_CHUNK)).or_default().push(((index % BLOCKS_PER_CHUNK) as usize, id));
        }
        let ((), released) = self.transact_releasing(&Spending::default(), |txn| {
            for ((ino, chunk), slots) in &rows {
                // A deletion closes the snapshot first, and then waits for whoever found it open.
                ino.in_snapshot().filter(|(epoch, _)| self.is_kept(*epoch)).ok_or(Refusal::NotFound)?;
                hold_in_row(txn, &key::chunk(*ino, *chunk), slots)?;
            }
            Ok(())
        })?;
        Ok(released)
    }

    /// Which slots of one row of a file in a snapshot are held for it, a bit each.
    pub fn held_slots(&self, ino: Ino, chunk: u64) -> Result<u64, MetaError> {
        let row = self.reading().newest(Table::FileMap, &key::chunk(ino, chunk))?;
        row.map_or(Ok(0), |row| Ok(decode_chunk(&row)?.local))
    }

    /// Whether the first so many blocks of a file in a snapshot are all held: written here, or held for it.
    pub fn is_held_whole(&self, ino: Ino, blocks: u64) -> Result<bool, MetaError> {
        let (reading, own) = self.reading_of(ino)?;
        for chunk in 0..blocks.div_ceil(BLOCKS_PER_CHUNK) {
            let row = reading.newest(Table::FileMap, &key::chunk(own, chunk))?;
            let written = row.map_or(Ok(0), |row| Ok::<_, MetaError>(decode_chunk(&row)?.local))?;
            let wanted = match blocks - chunk * BLOCKS_PER_CHUNK {
                left @ ..BLOCKS_PER_CHUNK => (1 << left) - 1,
                _ => u64::MAX,
            };
            if (written | self.held_slots(ino, chunk)?) & wanted != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes that all of a snapshot is held; durably.
    ///
    /// # Errors
    /// `NotFound` if it is gone, also if there is another of its name.
    pub fn set_materialized(&self, name: &[u8], epoch: Epoch) -> Result<SnapshotRow, MetaError> {
        let row = self.transact(|txn| {
            let mut row = super::read_snapshot(txn, name)?;
            if row.epoch != epoch {
                return Err(Refusal::NotFound.into());
            }
            row.materialized = true;
            txn.write_plain(Table::Snapshots, name, row.encode());
            Ok(row)
        })?;
        self.flush()?;
        Ok(row)
    }
}

fn hold_in_row(txn: &mut Txn<'_>, at: &[u8], slots: &[(usize, BlockId)]) -> Result<(), MetaError> {
    let row = txn.read(Table::FileMap, at)?;
    let mut chunk = row.as_deref().map(decode_chunk).transpose()?.unwrap_or_default();
    for &(slot, id) in slots {
        if chunk.blocks.len() <= slot {
            chunk.blocks.resize(slot + 1, None);
        }
        chunk.blocks[slot] = Some(id);
        chunk.local |= 1 << slot;
    }
    let encoded = chunk.encode();
    if row.as_ref() != Some(&encoded) {
        txn.write(Table::FileMap, at, encoded);
    }
    Ok(())
}
