//! What was written: sizes, times and blocks of files.

use super::allocated::{Change, Extent};
use super::engine::{KeyRange, Table};
use super::inode::read_for_change;
use super::intent;
use super::map::decode_chunk;
use super::quota::{Reservation, Spending};
use super::rows::{Reading, Txn, damaged};
use super::{BLOCKS_PER_CHUNK, Inode, MapChunk, MetaError, MetaStore};
use crate::format::rows::{HOLE, RowError, key};
use crate::ids::{BlockId, Ino};
use std::ops::{ControlFlow, Range};

/// File-map rows cut off in one transaction.
pub const CUT_ROWS: usize = 256;

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is stored under this identity.
    Block(BlockId),
    /// It is zeros.
    Zeros,
}

/// What a file is after a round of writing.
#[derive(Clone, Debug)]
pub struct FileContent {
    /// The file.
    pub ino: Ino,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that still come from the origin where the map names no block.
    pub base: u64,
    /// Bytes of a block.
    pub block_size: u64,
    /// When it was written, if that is to be recorded.
    pub mtime_ns: Option<i64>,
    /// When it was changed.
    pub ctime_ns: i64,
    /// The blocks that changed.
    pub blocks: Vec<(u64, Content)>,
    /// What was reserved for them.
    pub reserved: Reservation,
    /// The intents that this is the outcome of.
    pub intents: Range<u64>,
    /// The file was emptied before: of what its map has so far nothing is left. Goes in the same transaction as what was written since, so that a
    /// crash leaves the old content or the new, and not nothing.
    pub anew: bool,
}

impl FileContent {
    /// What the map is to say of a block: zeros need saying only where the origin would say something else.
    pub fn mapped(&self, index: u64, content: Content) -> Option<BlockId> {
        Self::map_entry(index, content, self.block_size, self.base)
    }

    /// The same without the rest of the file.
    pub fn map_entry(index: u64, content: Content, block_size: u64, base: u64) -> Option<BlockId> {
        match content {
            Content::Block(id) => Some(id),
            Content::Zeros => (index * block_size < base).then_some(HOLE),
        }
    }
}

/// What recording a round of writing has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Fingerprints of blocks that nothing refers to any more.
    pub released: Vec<u64>,
    /// Bytes that have something in them, of each file; 0 of one that is gone.
    pub allocated: Vec<u64>,
}

impl MetaStore {
    /// Records what files are after a round of writing, in one transaction. Inodes that are gone are skipped.
    pub fn write_content(&self, files: &[FileContent]) -> Result<Recorded, MetaError> {
        let now_ns = files.iter().map(|file| file.ctime_ns).max().unwrap_or(0);
        let reserved: Vec<_> = files.iter().map(|file| file.reserved.clone()).collect();
        let by = Spending { now_ns, reserved: &reserved, ..Spending::default() };
        let (allocated, released) = self.transact_releasing(&by, |txn| {
            let mut allocated = Vec::with_capacity(files.len());
            for file in files {
                allocated.push(match read_for_change(txn, file.ino)? {
                    Some(row) => record(txn, file, row)?,
                    None => 0,
                });
            }
            Ok(allocated)
        })?;
        Ok(Recorded { released, allocated })
    }

    /// Cuts a file to `size`, and forgets its intents: rows of its map behind that go from the end on, a bounded number per transaction, each of which leaves a
    /// file that is merely less cut. The last block, where the cut goes through one that is here, is for the next round to write.
    pub fn cut_content(&self, ino: Ino, size: u64, base: u64, block_size: u64, now_ns: i64) -> Result<Vec<u64>, MetaError> {
        let mut released = Vec::new();
        loop {
            let step = |txn: &mut Txn<'_>| cut_step(txn, ino, size, base, block_size, now_ns);
            let (more, mut gone) = self.transact_releasing(&Spending::default(), step)?;
            released.append(&mut gone);
            if !more {
                return Ok(released);
            }
        }
    }

    /// The next row of a file's map at or after a number.
    pub fn next_chunk(&self, ino: Ino, from: u64) -> Result<Option<(u64, MapChunk)>, MetaError> {
        let (reading, own) = self.reading_of(ino)?;
        next_chunk(&reading, own, from)
    }
}

/// The next row of a file's map at or after a number.
pub(super) fn next_chunk(reading: &Reading<'_>, ino: Ino, from: u64) -> Result<Option<(u64, MapChunk)>, MetaError> {
    let range = KeyRange { start: key::chunk(ino, from).to_vec(), end: KeyRange::prefix(&key::ino(ino)).end };
    let mut found = None;
    reading.scan(Table::FileMap, &range, &mut |prefix, row| {
        found = Some((chunk_number(prefix)?, decode_chunk(row)?));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

pub(super) fn chunk_number(prefix: &[u8]) -> Result<u64, MetaError> {
    let number = prefix.get(8..).and_then(key::leading_ino).ok_or_else(|| damaged(Table::FileMap)(RowError::Field("key")))?;
    Ok(number.0)
}

/// Writes what a file is now over the row it had; returns how many bytes of it have something in them.
pub(super) fn record(txn: &mut Txn<'_>, file: &FileContent, mut row: Inode) -> Result<u64, MetaError> {
    let (was, now) = (Extent::of(&row), Extent { size: file.size, base: file.base });
    let mut change = Change::new(was, now);
    if file.anew {
        remove_others(txn, file, &mut change)?;
    }
    write_blocks(txn, file, &mut change)?;
    // Only a cut makes less of a file, unless it failed: then rows may be left behind the end.
    let is_cut = now.size < was.size || now.base != was.base;
    let allocated = if is_cut { change.anew(txn.reading(), file.ino)? } else { change.after(txn, file.ino, &row)? };
    row.allocated = Some(allocated);
    (row.size, row.base) = (file.size, Some(file.base));
    row.mtime_ns = file.mtime_ns.unwrap_or(row.mtime_ns);
    row.ctime_ns = row.ctime_ns.max(file.ctime_ns);
    txn.write(Table::Inodes, &key::ino(file.ino), row.encode());
    intent::remove(txn, file.ino, file.intents.clone());
    Ok(allocated)
}

fn write_blocks(txn: &mut Txn<'_>, file: &FileContent, change: &mut Change) -> Result<(), MetaError> {
    for chunk_blocks in file.blocks.chunk_by(|(a, _), (b, _)| a / BLOCKS_PER_CHUNK == b / BLOCKS_PER_CHUNK) {
        let number = chunk_blocks[0].0 / BLOCKS_PER_CHUNK;
        let at = key::chunk(file.ino, number);
        let before = txn.read(Table::FileMap, &at)?;
        let mut chunk = MapChunk::default();
        if !file.anew {
            chunk = before.as_deref().map(decode_chunk).transpose()?.unwrap_or_default();
            change.leaves(number, &chunk);
        }
        for (index, content) in chunk_blocks {
            set_slot(&mut chunk, (index % BLOCKS_PER_CHUNK) as usize, file.mapped(*index, *content));
        }
        change.becomes(number, &chunk);
        write_chunk(txn, &at, before.is_some(), &chunk)?;
    }
    Ok(())
}

/// Removes the rows of a file's map but those that are about to be written anew.
fn remove_others(txn: &mut Txn<'_>, file: &FileContent, change: &mut Change) -> Result<(), MetaError> {
    let mut rows = Vec::new();
    txn.reading().scan(Table::FileMap, &KeyRange::prefix(&key::ino(file.ino)), &mut |prefix, row| {
        rows.push((chunk_number(prefix)?, decode_chunk(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    for (number, chunk) in rows {
        change.leaves(number, &chunk);
        if file.blocks.iter().all(|(index, _)| index / BLOCKS_PER_CHUNK != number) {
            let at = key::chunk(file.ino, number);
            txn.depend(Table::FileMap, &at)?;
            txn.remove(Table::FileMap, &at)?;
            change.becomes(number, &MapChunk::default());
        }
    }
    Ok(())
}

fn set_slot(chunk: &mut MapChunk, slot: usize, id: Option<BlockId>) {
    if chunk.blocks.len() <= slot {
        chunk.blocks.resize(slot + 1, None);
    }
    chunk.blocks[slot] = id;
    match id {
        Some(_) => chunk.local |= 1 << slot,
        None => chunk.local &= !(1 << slot),
    }
}

fn write_chunk(txn: &mut Txn<'_>, at: &[u8], existed: bool, chunk: &MapChunk) -> Result<(), MetaError> {
    if chunk.blocks.iter().any(Option::is_some) {
        txn.write(Table::FileMap, at, chunk.encode());
    } else if existed {
        txn.remove(Table::FileMap, at)?;
    }
    Ok(())
}

fn cut_step(txn: &mut Txn<'_>, ino: Ino, size: u64, base: u64, block_size: u64, now_ns: i64) -> Result<bool, MetaError> {
    let Some(mut row) = read_for_change(txn, ino)? else { return Ok(false) };
    intent::remove_all(txn, ino)?;
    let first_gone = size.div_ceil(block_size);
    let chunk_bytes = block_size * BLOCKS_PER_CHUNK;
    let mut rows = Vec::new();
    let range =
        KeyRange { start: key::chunk(ino, first_gone / BLOCKS_PER_CHUNK).to_vec(), end: KeyRange::prefix(&key::ino(ino)).end };
    txn.reading().scan(Table::FileMap, &range, &mut |prefix, row| {
        rows.push((chunk_number(prefix)?, row.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    let more = rows.len() > CUT_ROWS;
    let cut = rows.split_off(rows.len().saturating_sub(CUT_ROWS));
    // Never more than what is recorded already: what was written since is for the next round, together with its size.
    let reached = if more { cut.first().map_or(size, |(number, _)| number * chunk_bytes) } else { size };
    let was = Extent::of(&row);
    let now = Extent { size: row.size.min(reached), base: was.base.min(base.max(reached)) };
    let mut change = Change::new(was, now);
    for (number, bytes) in &cut {
        let at = key::chunk(ino, *number);
        let mut chunk = decode_chunk(bytes)?;
        change.leaves(*number, &chunk);
        txn.depend(Table::FileMap, &at)?;
        for slot in 0..chunk.blocks.len() {
            if number * BLOCKS_PER_CHUNK + slot as u64 >= first_gone {
                set_slot(&mut chunk, slot, None);
            }
        }
        change.becomes(*number, &chunk);
        write_chunk(txn, &at, true, &chunk)?;
    }
    row.allocated = Some(change.after(txn, ino, &row)?);
    (row.size, row.base) = (now.size, Some(now.base));
    (row.mtime_ns, row.ctime_ns) = (now_ns, now_ns);
    txn.write(Table::Inodes, &key::ino(ino), row.encode());
    Ok(more)
}
