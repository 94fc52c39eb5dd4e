//! Blocks that two files have in common: whole blocks of one become blocks of another, and no data moves.

use super::content::{self, Content, FileContent};
use super::engine::Table;
use super::inode::read_for_change;
use super::map::decode_chunk;
use super::quota::{Reservation, Spending};
use super::rows::Txn;
use super::{BLOCKS_PER_CHUNK, HOLE, Inode, MapChunk, MetaError, MetaStore, Refusal};
use crate::format::rows::key;
use crate::ids::Ino;

/// Whole blocks that one file is to have of another, or of itself elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The file that has them, and the first of them.
    pub from: (Ino, u64),
    /// The file that gets them, and where.
    pub to: (Ino, u64),
    /// How many.
    pub count: u64,
    /// Bytes of a block.
    pub block_size: u64,
    /// The time of the change.
    pub now_ns: i64,
}

/// What became of a [`Share`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedBlocks {
    /// What the blocks are now, in order: fewer than asked for where the source has something that is not recorded here.
    pub blocks: Vec<Content>,
    /// Bytes that the file that got them has from its origin.
    pub base: u64,
    /// Size in bytes of the file that got them, as it is recorded, and how many bytes of it have something in them.
    pub recorded: (u64, u64),
    /// Fingerprints of blocks that nothing refers to any more.
    pub released: Vec<u64>,
}

impl MetaStore {
    /// Shares blocks, in one transaction. It ends before the first block that only the origin has, and before the recorded end of the
    /// source: what is not recorded cannot be referred to.
    pub fn share_content(&self, share: &Share) -> Result<SharedBlocks, MetaError> {
        let (shared, released) = self.transact_releasing(&Spending::default(), |txn| {
            let source = read_for_change(txn, share.from.0)?.ok_or(Refusal::NotFound)?;
            // All of it before anything is written: source and target may be rows of one file.
            let blocks = recorded(txn, &source, share)?;
            if blocks.is_empty() {
                return Ok(SharedBlocks::default());
            }
            let row = read_for_change(txn, share.to.0)?.ok_or(Refusal::NotFound)?;
            let end = (share.to.1 + blocks.len() as u64) * share.block_size;
            let base = row.base.unwrap_or(row.size);
            let file = FileContent {
                ino: share.to.0,
                size: row.size.max(end),
                base,
                block_size: share.block_size,
                mtime_ns: Some(share.now_ns),
                ctime_ns: share.now_ns,
                reserved: Reservation::default(),
                // Whatever was logged of it has been recorded: nothing of it is dirty.
                intents: 0..0,
                anew: false,
                blocks: (share.to.1..).zip(blocks.iter().copied()).collect(),
            };
            let allocated = content::record(txn, &file, row)?;
            Ok(SharedBlocks { blocks, base, recorded: (file.size, allocated), released: Vec::new() })
        })?;
        Ok(SharedBlocks { released, ..shared })
    }
}

/// What is recorded of the source's blocks, up to the first that is not.
fn recorded(txn: &mut Txn<'_>, source: &Inode, share: &Share) -> Result<Vec<Content>, MetaError> {
    let base = source.base.unwrap_or(source.size);
    let (ino, first) = share.from;
    let end = (first + share.count).min(source.size / share.block_size);
    let mut found = Vec::new();
    let mut chunk: Option<(u64, MapChunk)> = None;
    for index in first..end {
        let number = index / BLOCKS_PER_CHUNK;
        if chunk.as_ref().is_none_or(|(have, _)| *have != number) {
            let row = txn.read(Table::FileMap, &key::chunk(ino, number))?;
            chunk = Some((number, row.as_deref().map(decode_chunk).transpose()?.unwrap_or_default()));
        }
        let (_, row) = chunk.as_ref().expect("just loaded");
        let slot = (index % BLOCKS_PER_CHUNK) as usize;
        match row.blocks.get(slot).copied().flatten().filter(|_| row.is_local(slot)) {
            Some(HOLE) => found.push(Content::Zeros),
            Some(id) => found.push(Content::Block(id)),
            None if index * share.block_size < base => break,
            None => found.push(Content::Zeros),
        }
    }
    Ok(found)
}
