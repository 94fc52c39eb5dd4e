//! Which blocks files name, for figures: of one file, and of all files and snapshots together.
//!
//! A block is visited once for each place that it has: a place is one block's worth of one file. A block that stays in its place while snapshots come and
//! go is visited once, however many rows name it, so that a snapshot makes no duplicates; what a place had before and only a snapshot still has is visited
//! as well. Maps of what is cached are hints, so some of these blocks may be gone.

use super::content::chunk_number;
use super::engine::{KeyRange, Order, Table};
use super::inode::decode_inode;
use super::map::{decode_chunk, fill_in};
use super::rows::{Reading, damaged};
use super::{FileKind, HOLE, Inode, MapChunk, MetaError, MetaStore};
use crate::format::rows::{RowError, is_tombstone, key};
use crate::ids::{Epoch, Ino};
use std::ops::ControlFlow;

/// All rows as they are at one moment.
pub struct Moment<'a> {
    reading: Reading<'a>,
}

impl MetaStore {
    /// This moment: what is changed later does not show in it.
    pub fn moment(&self) -> Moment<'_> {
        Moment { reading: self.reading() }
    }

    /// Visits the fingerprints of the blocks that one file's map names; of a file in a snapshot also those that were cached through it since.
    pub fn blocks_of(&self, ino: Ino, visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        let (reading, own) = self.reading_of(ino)?;
        if !ino.is_frozen() {
            return reading.scan(Table::FileMap, &KeyRange::prefix(&key::ino(own)), &mut |_, row| {
                visit_blocks(&decode_chunk(row)?, None, visit);
                Ok(ControlFlow::Continue(()))
            });
        }
        let cached = self.reading();
        reading.scan(Table::FileMap, &KeyRange::prefix(&key::ino(own)), &mut |prefix, row| {
            let mut chunk = decode_chunk(row)?;
            if let Some(row) = cached.newest(Table::FileMap, &key::chunk(ino, chunk_number(prefix)?))? {
                fill_in(&mut chunk, &decode_chunk(&row)?);
            }
            visit_blocks(&chunk, None, visit);
            Ok(ControlFlow::Continue(()))
        })?;
        cached.scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
            if reading.newest(Table::FileMap, &key::chunk(own, chunk_number(prefix)?))?.is_none() {
                visit_blocks(&decode_chunk(row)?, None, visit);
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// Visits the blocks of a row, but those that another has in the same slots.
fn visit_blocks(chunk: &MapChunk, but: Option<&MapChunk>, visit: &mut dyn FnMut(u64)) {
    for (slot, id) in chunk.blocks.iter().enumerate() {
        if let Some(id) = id.filter(|id| *id != HOLE)
            && but.is_none_or(|but| but.blocks.get(slot).copied().flatten() != Some(id))
        {
            visit(id.fingerprint());
        }
    }
}

impl Moment<'_> {
    /// Visits every file that has a name in the present tree, with its row.
    pub fn files(&self, visit: &mut dyn FnMut(Ino, &Inode)) -> Result<(), MetaError> {
        let mut unnamed = self.orphans()?.into_iter().peekable();
        let everything = KeyRange { start: Vec::new(), end: None };
        self.reading.scan(Table::Inodes, &everything, &mut |prefix, row| {
            let ino = key::leading_ino(prefix).ok_or_else(|| damaged(Table::Inodes)(RowError::Field("key")))?;
            while unnamed.next_if(|orphan| *orphan < ino).is_some() {}
            let row = decode_inode(row)?;
            if row.kind == FileKind::File && unnamed.peek() != Some(&ino) {
                visit(ino, &row);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn orphans(&self) -> Result<Vec<Ino>, MetaError> {
        let mut found = Vec::new();
        let everything = KeyRange { start: Vec::new(), end: None };
        self.reading.view.scan(Table::Orphans, &everything, Order::Ascending, &mut |key, _| {
            found.extend(key::leading_ino(key));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Visits the fingerprints of the blocks of all places, of the present and of snapshots.
    pub fn blocks(&self, visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        let mut newer = Newer::default();
        let everything = KeyRange { start: Vec::new(), end: None };
        self.reading.each(Table::FileMap, &everything, &mut |key, row| self.visit_row(key, row, &mut newer, visit))
    }

    fn visit_row(&self, key: &[u8], row: &[u8], newer: &mut Newer, visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        let (prefix, _) = key::split_versioned(key).ok_or_else(|| damaged(Table::FileMap)(RowError::Field("key")))?;
        let chunk = if is_tombstone(row) { MapChunk::default() } else { decode_chunk(row)? };
        if newer.prefix == prefix {
            visit_blocks(&chunk, Some(&newer.chunk), visit);
        } else {
            visit_blocks(&chunk, self.row_below(prefix)?.as_ref(), visit);
            newer.prefix = prefix.to_vec();
        }
        newer.chunk = chunk;
        Ok(())
    }

    /// Of a row that says what was cached through a snapshot: the one that the snapshot shares with the tree.
    fn row_below(&self, prefix: &[u8]) -> Result<Option<MapChunk>, MetaError> {
        let Some((epoch, own)) = key::leading_ino(prefix).and_then(Ino::in_snapshot) else { return Ok(None) };
        let at = key::chunk(own, chunk_number(prefix)?);
        let row = self.reading.before(Table::FileMap, &at, Epoch(epoch.0 + 1))?;
        row.filter(|row| !is_tombstone(row)).map(|row| decode_chunk(&row)).transpose()
    }
}

/// The row that was visited last: of the same place, it is the next younger one.
#[derive(Default)]
struct Newer {
    prefix: Vec<u8>,
    chunk: MapChunk,
}
