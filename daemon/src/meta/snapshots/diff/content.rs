//! Whether two versions of a file have the same bytes, as far as their rows tell: from the identities of their blocks where these are known, from the versions of
//! their objects where not.
//!
//! Maps change without the content (blocks are cached, let go of, or become blocks of the object that a file was exported as), and objects change without
//! it as well (by that same export). So neither alone says that bytes differ; and nothing but an identity, or one version of one object, says that they do not.

use crate::format::rows::{HOLE, InodeRow, MapChunk, Origin, key};
use crate::ids::{BlockId, Ino};
use crate::meta::content::next_chunk;
use crate::meta::engine::Table;
use crate::meta::map::decode_chunk;
use crate::meta::quota::BLOCK;
use crate::meta::rows::Reading;
use crate::meta::{BLOCKS_PER_CHUNK, MetaError};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Whether two things are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Same {
    Yes,
    No,
    /// The rows do not tell.
    Unknown,
}

/// A file in one of the trees.
pub(super) struct Version<'a> {
    reading: &'a Reading<'a>,
    ino: Ino,
    extent: Extent<'a>,
}

/// How far a file goes, and how far its bytes come from its object where its map names no block.
#[derive(Clone, Copy)]
struct Extent<'a> {
    size: u64,
    base: u64,
    origin: Option<&'a Origin>,
    /// It is its object, whatever its map says.
    is_settled: bool,
}

/// What is known of a block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Zeros,
    Known(BlockId),
    /// So many bytes of the origin, and zeros behind them.
    Origin(u64),
    /// The same, all of the block, and its identity.
    Cached(u64, BlockId),
}

impl<'a> Version<'a> {
    pub fn new(reading: &'a Reading<'a>, ino: Ino, row: &'a InodeRow) -> Self {
        let origin = row.origin.as_ref();
        // What was made here has nothing to come from.
        let base = origin.map_or(0, |_| row.base.unwrap_or(row.size)).min(row.size);
        let is_settled = origin.is_some() && row.base.is_none();
        Version { reading, ino, extent: Extent { size: row.size, base, origin, is_settled } }
    }

    fn chunk(&self, number: u64) -> Result<Option<MapChunk>, MetaError> {
        let row = self.reading.newest(Table::FileMap, &key::chunk(self.ino, number))?;
        row.map(|row| decode_chunk(&row)).transpose()
    }

    fn next_chunk(&self, from: u64) -> Result<Option<(u64, MapChunk)>, MetaError> {
        next_chunk(self.reading, self.ino, from)
    }
}

impl Extent<'_> {
    fn block(&self, index: u64, chunk: Option<&MapChunk>) -> Block {
        let slot = (index % BLOCKS_PER_CHUNK) as usize;
        let id = chunk.and_then(|chunk| chunk.blocks.get(slot).copied().flatten());
        if chunk.is_some_and(|chunk| chunk.is_local(slot)) {
            return id.filter(|id| *id != HOLE).map_or(Block::Zeros, Block::Known);
        }
        let (start, end) = (index * BLOCK, self.size.min((index + 1) * BLOCK));
        match (self.base.min(end).saturating_sub(start), id) {
            (0, _) => Block::Zeros,
            // What was cached of a block that was cut since is more than what is left of it.
            (bytes, Some(id)) if self.base >= end => Block::Cached(bytes, id),
            (bytes, _) => Block::Origin(bytes),
        }
    }

    /// Blocks at which what a map without a row means may change.
    fn edges(&self) -> [u64; 2] {
        [self.base / BLOCK, self.base.div_ceil(BLOCK)]
    }
}

impl Block {
    fn id(self) -> Option<BlockId> {
        match self {
            Block::Known(id) | Block::Cached(_, id) => Some(id),
            Block::Zeros | Block::Origin(_) => None,
        }
    }

    fn of_origin(self) -> Option<u64> {
        match self {
            Block::Origin(bytes) | Block::Cached(bytes, _) => Some(bytes),
            Block::Zeros | Block::Known(_) => None,
        }
    }
}

/// Two versions, block by block.
struct Pair<'a> {
    one: &'a Version<'a>,
    other: &'a Version<'a>,
    /// Both come from one version of one object.
    one_object: bool,
    /// Blocks of either.
    blocks: u64,
}

/// Whether two files have the same bytes. `touched`: both are one inode, and the rows of its map but these are the same.
pub(super) fn same_bytes(one: &Version<'_>, other: &Version<'_>, touched: Option<&BTreeSet<u64>>) -> Result<Same, MetaError> {
    let (was, is) = (one.extent, other.extent);
    if was.size != is.size {
        return Ok(Same::No);
    }
    let is_one_inode = touched.is_some();
    let one_object = was.origin.zip(is.origin).is_some_and(|(was, is)| is_one_object(was, is, is_one_inode));
    if one_object && was.is_settled && is.is_settled {
        return Ok(Same::Yes);
    }
    let pair = Pair { one, other, one_object, blocks: was.size.div_ceil(BLOCK) };
    match touched {
        // What no row names is the same in both as well.
        Some(touched) if was.base == is.base && (one_object || was.base == 0) => pair.these_chunks(touched),
        _ => pair.all_chunks(),
    }
}

/// An inode stands for what was sent of it, also under another key.
fn is_one_object(one: &Origin, other: &Origin, is_one_inode: bool) -> bool {
    one.etag == other.etag && !one.etag.is_empty() && (is_one_inode || one.key == other.key)
}

impl Pair<'_> {
    fn these_chunks(&self, numbers: &BTreeSet<u64>) -> Result<Same, MetaError> {
        let mut so_far = Same::Yes;
        for number in numbers {
            so_far = so_far.and(self.chunk(*number, self.one.chunk(*number)?.as_ref(), self.other.chunk(*number)?.as_ref()));
            if so_far == Same::No {
                break;
            }
        }
        Ok(so_far)
    }

    /// All rows that either has, and what is between them.
    fn all_chunks(&self) -> Result<Same, MetaError> {
        let (mut one, mut other) = (self.one.next_chunk(0)?, self.other.next_chunk(0)?);
        let (mut so_far, mut reached) = (Same::Yes, 0);
        while so_far != Same::No {
            let next = [&one, &other].into_iter().flatten().map(|(number, _)| *number).min();
            let Some(number) = next.filter(|number| number * BLOCKS_PER_CHUNK < self.blocks) else {
                return Ok(so_far.and(self.without_rows(reached, self.blocks)));
            };
            so_far = so_far.and(self.without_rows(reached, number * BLOCKS_PER_CHUNK));
            so_far = so_far.and(self.chunk(number, row_at(one.as_ref(), number), row_at(other.as_ref(), number)));
            reached = (number + 1) * BLOCKS_PER_CHUNK;
            for (row, version) in [(&mut one, self.one), (&mut other, self.other)] {
                if row.as_ref().is_some_and(|(at, _)| *at == number) {
                    *row = version.next_chunk(number + 1)?;
                }
            }
        }
        Ok(so_far)
    }

    fn chunk(&self, number: u64, one: Option<&MapChunk>, other: Option<&MapChunk>) -> Same {
        let first = number * BLOCKS_PER_CHUNK;
        let blocks = first..self.blocks.min(first + BLOCKS_PER_CHUNK);
        blocks.fold(Same::Yes, |so_far, index| so_far.and(self.block(index, one, other)))
    }

    /// Blocks from one to another (exclusive) of which neither map has a row. They are of few kinds, so a few are looked at.
    fn without_rows(&self, from: u64, to: u64) -> Same {
        let edges = self.one.extent.edges().into_iter().chain(self.other.extent.edges());
        let looked_at = edges.chain([from, to.saturating_sub(1)]).filter(|index| (from..to).contains(index));
        looked_at.fold(Same::Yes, |so_far, index| so_far.and(self.block(index, None, None)))
    }

    fn block(&self, index: u64, one: Option<&MapChunk>, other: Option<&MapChunk>) -> Same {
        let (one, other) = (self.one.extent.block(index, one), self.other.extent.block(index, other));
        let bytes = (self.one.extent.size - index * BLOCK).min(BLOCK);
        if one == other && (self.one_object || one.of_origin().is_none()) {
            return Same::Yes;
        }
        match (one.id(), other.id()) {
            (Some(one), Some(other)) => Same::of(one == other),
            (Some(id), None) if other == Block::Zeros => Same::of(id == zeros(bytes)),
            (None, Some(id)) if one == Block::Zeros => Same::of(id == zeros(bytes)),
            _ => {
                let is_same = self.one_object && one.of_origin().is_some() && one.of_origin() == other.of_origin();
                if is_same { Same::Yes } else { Same::Unknown }
            }
        }
    }
}

fn row_at(row: Option<&(u64, MapChunk)>, number: u64) -> Option<&MapChunk> {
    row.filter(|(at, _)| *at == number).map(|(_, chunk)| chunk)
}

impl Same {
    fn of(is_same: bool) -> Self {
        if is_same { Same::Yes } else { Same::No }
    }

    /// What is known of two parts together.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Same::No, _) | (_, Same::No) => Same::No,
            (Same::Unknown, _) | (_, Same::Unknown) => Same::Unknown,
            (Same::Yes, Same::Yes) => Same::Yes,
        }
    }
}

/// The identity of a block of zeros.
fn zeros(bytes: u64) -> BlockId {
    static WHOLE: OnceLock<BlockId> = OnceLock::new();
    let of = |bytes: u64| BlockId::of(&vec![0; bytes as usize]);
    if bytes == BLOCK { *WHOLE.get_or_init(|| of(BLOCK)) } else { of(bytes) }
}
