//! File maps: which block holds which part of a file.

use super::engine::Table;
use super::inode::read_for_change;
use super::rows::{Txn, damaged};
use super::{BLOCKS_PER_CHUNK, MapChunk, MetaError, MetaStore};
use crate::format::rows::key;
use crate::ids::{BlockId, BlockIndex, Ino};
use std::collections::BTreeMap;

pub(super) fn decode_chunk(row: &[u8]) -> Result<MapChunk, MetaError> {
    MapChunk::decode(row).map_err(damaged(Table::FileMap))
}

impl MetaStore {
    /// One row of a file's map.
    pub fn map_chunk(&self, ino: Ino, chunk: u64) -> Result<Option<MapChunk>, MetaError> {
        let (reading, own) = self.reading_of(ino)?;
        let row = reading.newest(Table::FileMap, &key::chunk(own, chunk))?;
        let mut found = row.map(|row| decode_chunk(&row)).transpose()?;
        if ino.is_frozen()
            && let Some(cached) = self.reading().newest(Table::FileMap, &key::chunk(ino, chunk))?
        {
            let cached = decode_chunk(&cached)?;
            fill_in(found.get_or_insert_default(), &cached);
        }
        Ok(found)
    }

    /// Adds blocks to the maps of files, in one transaction. Inodes that are gone are skipped.
    pub fn map_blocks(&self, blocks: &[(Ino, BlockIndex, BlockId)]) -> Result<(), MetaError> {
        let mut by_file: BTreeMap<Ino, BTreeMap<u64, Vec<(usize, BlockId)>>> = BTreeMap::new();
        for &(ino, BlockIndex(index), id) in blocks {
            let slot = (index % BLOCKS_PER_CHUNK) as usize;
            by_file.entry(ino).or_default().entry(index / BLOCKS_PER_CHUNK).or_default().push((slot, id));
        }
        self.transact(|txn| {
            for (&ino, chunks) in &by_file {
                // Read, not just depended on: an inode freed meanwhile must not get a map that nobody frees. And of a file that was
                // written meanwhile these blocks may be what it no longer is.
                let takes = match ino.in_snapshot() {
                    // What was cached of it since is in rows of its own, which go with it.
                    Some((epoch, _)) => self.is_kept(epoch),
                    None => read_for_change(txn, ino)?.is_some_and(|row| row.base.is_none()),
                };
                if !takes {
                    continue;
                }
                for (&chunk, slots) in chunks {
                    add_to_chunk(txn, &key::chunk(ino, chunk), slots)?;
                }
            }
            Ok(())
        })
    }
}

/// Blocks of the origin that were cached (or held for the snapshot) since, where the map names none. To whoever reads they are cached blocks: one that is lost
/// is fetched again, in the same version.
pub(super) fn fill_in(chunk: &mut MapChunk, cached: &MapChunk) {
    for (slot, id) in cached.blocks.iter().enumerate().filter(|(_, id)| id.is_some()) {
        if chunk.blocks.len() <= slot {
            chunk.blocks.resize(slot + 1, None);
        }
        if !chunk.is_local(slot) {
            chunk.blocks[slot] = *id;
        }
    }
}

fn add_to_chunk(txn: &mut Txn<'_>, at: &[u8], slots: &[(usize, BlockId)]) -> Result<(), MetaError> {
    let row = txn.read(Table::FileMap, at)?;
    let mut chunk = row.as_deref().map(decode_chunk).transpose()?.unwrap_or_default();
    for &(slot, id) in slots {
        if chunk.blocks.len() <= slot {
            chunk.blocks.resize(slot + 1, None);
        }
        // What is held for a snapshot is not cached anew.
        if !chunk.is_local(slot) {
            chunk.blocks[slot] = Some(id);
        }
    }
    let encoded = chunk.encode();
    if row.as_ref() != Some(&encoded) {
        txn.write(Table::FileMap, at, encoded);
    }
    Ok(())
}
