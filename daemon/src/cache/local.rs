//! A file's local data, reached through one type that says which form it has.
//!
//! *Packed*: blocks in segment logs, named by the file map. *Flat* (one plain file that the kernel can open for
//! passthrough) joins as a second variant; callers match on the form, so the compiler finds every place that must know.

use super::filemap::{Chunk, FileMaps, Mapped};
use crate::block::BlockWant;
use crate::ids::{BlockIndex, Ino};
use crate::meta::{BLOCKS_PER_CHUNK, MetaError};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a file's local data is.
#[derive(Debug)]
pub enum LocalData {
    /// In the block store.
    Packed(Packed),
}

/// The packed form: the file map says which block is where.
#[derive(Debug)]
pub struct Packed {
    pub(super) ino: Ino,
    /// Bytes that the origin has of it: all of a file that was never written.
    pub(super) base: AtomicU64,
    pub(super) block_size: u64,
}

impl Packed {
    /// Bytes that the origin has of it.
    pub(super) fn base(&self) -> u64 {
        self.base.load(Ordering::Acquire)
    }

    /// The plain length of a block of the origin: the block size, less at its end.
    pub(super) fn block_len(&self, index: u64) -> u32 {
        let start = index * self.block_size;
        self.block_size.min(self.base().saturating_sub(start)) as u32
    }

    /// The blocks a byte range touches.
    pub(super) fn blocks(&self, bytes: &Range<u64>) -> Range<u64> {
        bytes.start / self.block_size..bytes.end.div_ceil(self.block_size)
    }

    /// The part of a block that a byte range wants: start and length within the block.
    pub(super) fn part(&self, index: u64, bytes: &Range<u64>) -> (u32, u32) {
        let block_start = index * self.block_size;
        let from = bytes.start.max(block_start) - block_start;
        let to = bytes.end.min(block_start + self.block_size) - block_start;
        (from as u32, (to - from) as u32)
    }

    /// What to ask the block store for, if the map names every block of the range; otherwise `None`.
    pub(super) fn wants(&self, maps: &FileMaps, bytes: &Range<u64>) -> Result<Option<Vec<BlockWant>>, MetaError> {
        let blocks = self.blocks(bytes);
        let mut wants = Vec::with_capacity((blocks.end - blocks.start) as usize);
        let mut chunk: Option<(u64, Arc<Chunk>)> = None;
        for index in blocks {
            let number = index / BLOCKS_PER_CHUNK;
            if chunk.as_ref().is_none_or(|(have, _)| *have != number) {
                chunk = Some((number, maps.chunk(self.ino, number)?));
            }
            let (_, rows) = chunk.as_ref().expect("just loaded");
            let Mapped::Origin(Some(id)) = rows.mapped(BlockIndex(index)) else { return Ok(None) };
            let (start, len) = self.part(index, bytes);
            wants.push(BlockWant { id, plain_len: self.block_len(index), start, len });
        }
        Ok(Some(wants))
    }
}
