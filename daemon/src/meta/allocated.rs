//! How many bytes of a file have something in them: what `stat` shows as its blocks.
//!
//! A block counts if it was written here and is not a hole, or if it is the origin's and nothing was put in its place; as far as the file's end
//! and in whole sectors, as for quotas. Quotas keep a count of their own: what the bucket has counts for nobody there, and there may be none.
//!
//! Invariants:
//! 1. The count in a file's row is what counting its map again gives. It changes in the transaction that changes the map, the size or the base.
//! 2. A file that is its object, unchanged, has no count in its row: all of it counts. Nor has one that was last changed before there were
//!    counts; whoever asks first has it counted.

use super::engine::{KeyRange, Table};
use super::inode::read_for_change;
use super::map::decode_chunk;
use super::quota::{BLOCK, block_bytes};
use super::rows::{Reading, Txn};
use super::{BLOCKS_PER_CHUNK, FileKind, HOLE, Inode, MapChunk, MetaError, MetaStore};
use crate::format::rows::key;
use crate::ids::Ino;
use crate::units::SECTOR;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// How far a file goes, and how far its origin has something of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub size: u64,
    pub base: u64,
}

impl Extent {
    pub fn of(row: &Inode) -> Self {
        Extent { size: row.size, base: row.base.unwrap_or(row.size) }
    }

    /// What it comes to where the map names no block.
    fn of_origin(self) -> u64 {
        let blocks = self.base.div_ceil(BLOCK).saturating_mul(BLOCK);
        blocks.min(self.size.next_multiple_of(SECTOR as u64))
    }

    /// What a row of the map makes it more, or less.
    fn of_row(self, number: u64, chunk: &MapChunk) -> i64 {
        let slots = chunk.blocks.iter().enumerate().filter(|(slot, _)| chunk.is_local(*slot));
        let change = |(slot, id): (usize, &Option<_>)| {
            let index = number * BLOCKS_PER_CHUNK + slot as u64;
            let (is_data, was_data) = (*id != Some(HOLE), index * BLOCK < self.base);
            (i64::from(is_data) - i64::from(was_data)) * block_bytes(index, self.size).cast_signed()
        };
        slots.map(change).sum()
    }
}

/// What a transaction does to a file's count.
pub(super) struct Change {
    was: Extent,
    now: Extent,
    delta: i64,
    /// What the rows it writes come to, by number.
    rows: BTreeMap<u64, i64>,
}

impl Change {
    pub fn new(was: Extent, now: Extent) -> Self {
        let delta = now.of_origin().cast_signed() - was.of_origin().cast_signed();
        Change { was, now, delta, rows: BTreeMap::new() }
    }

    /// A row of the map as it is before it is changed.
    pub fn leaves(&mut self, number: u64, chunk: &MapChunk) {
        self.delta -= self.was.of_row(number, chunk);
    }

    /// The same row afterwards.
    pub fn becomes(&mut self, number: u64, chunk: &MapChunk) {
        let bytes = self.now.of_row(number, chunk);
        self.delta += bytes;
        self.rows.insert(number, bytes);
    }

    /// The count afterwards, where all rows were told of that lie behind a cut.
    pub fn after(mut self, txn: &Txn<'_>, ino: Ino, before: &Inode) -> Result<u64, MetaError> {
        let counted = match (before.allocated, before.base) {
            (Some(counted), _) => counted,
            (None, None) => self.was.of_origin(),
            (None, Some(_)) => return self.anew(txn.reading(), ino),
        };
        // The block at the end counts as far as the end.
        if self.was.size != self.now.size {
            for size in [self.was.size, self.now.size] {
                let number = size / BLOCK / BLOCKS_PER_CHUNK;
                if !self.rows.contains_key(&number) {
                    let row = txn.reading().newest(Table::FileMap, &key::chunk(ino, number))?;
                    let chunk = row.as_deref().map(decode_chunk).transpose()?.unwrap_or_default();
                    self.leaves(number, &chunk);
                    self.becomes(number, &chunk);
                }
            }
        }
        Ok(counted.saturating_add_signed(self.delta))
    }

    /// The count afterwards, from the whole map.
    pub fn anew(&self, reading: &Reading<'_>, ino: Ino) -> Result<u64, MetaError> {
        let written = self.rows.values().sum::<i64>();
        let rest = sum_of_rows(reading, ino, self.now, &|number| self.rows.contains_key(&number))?;
        Ok(self.now.of_origin().saturating_add_signed(written + rest))
    }
}

fn sum_of_rows(reading: &Reading<'_>, ino: Ino, extent: Extent, skip: &dyn Fn(u64) -> bool) -> Result<i64, MetaError> {
    let mut sum = 0;
    reading.scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
        let number = prefix.get(8..).and_then(key::leading_ino).map_or(0, |number| number.0);
        if !skip(number) {
            sum += extent.of_row(number, &decode_chunk(row)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(sum)
}

/// Counts a file's map.
pub(super) fn recount(reading: &Reading<'_>, ino: Ino, row: &Inode) -> Result<u64, MetaError> {
    let extent = Extent::of(row);
    Change::new(extent, extent).anew(reading, ino)
}

/// Makes the row of a file that is its object that of one that is written here.
pub fn claim(row: &mut Inode) {
    if row.base.is_none() {
        row.allocated = Some(Extent::of(row).of_origin());
        row.base = Some(row.size);
    }
}

/// Bytes of a file that have something in them, as its row has it; nothing for what is no file.
pub fn allocated_bytes(row: &Inode) -> u64 {
    match row.kind {
        FileKind::File => row.allocated.unwrap_or_else(|| Extent::of(row).of_origin()),
        _ => 0,
    }
}

impl MetaStore {
    /// Counts a file that was last changed before there were counts, unless that was done.
    pub fn count_allocated(&self, ino: Ino) -> Result<Option<Inode>, MetaError> {
        self.transact(|txn| {
            txn.says_what_the_bucket_says();
            let Some(mut row) = read_for_change(txn, ino)? else { return Ok(None) };
            if is_uncounted(&row) {
                row.allocated = Some(recount(txn.reading(), ino, &row)?);
                txn.write(Table::Inodes, &key::ino(ino), row.encode());
            }
            Ok(Some(row))
        })
    }
}

/// Whether a file has no count and should.
pub fn is_uncounted(row: &Inode) -> bool {
    row.kind == FileKind::File && row.base.is_some() && row.allocated.is_none()
}
