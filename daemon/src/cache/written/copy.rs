//! Copying from file to file. Whole blocks that are recorded here are shared: the other file refers to them, and no data moves. The rest is
//! carried through dirty memory: edges, ranges that lie differently in their blocks, and what only the origin has. A cached copy of such a
//! block may be lost at any time and fetched again; what becomes somebody's only copy is read, verified, and written.

use super::SIZE_MAX;
use super::flush::Job;
use super::state::Recorded;
use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::cache::filemap::Mapped;
use crate::cache::local::LocalData;
use crate::cache::read::{Reader, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::BlockIndex;
use crate::meta::{Enforce, FileContent, Share, SharedBlocks};
use futures::channel::oneshot;
use std::sync::Arc;

/// Blocks shared in one transaction: nobody waits longer for the flusher's thread than that takes.
const SHARE_BLOCKS: u64 = 1024;
/// Bytes shared before the caller gets an answer and asks for the rest: the kernel lets nobody else write to the file meanwhile.
const SHARE_BYTES: u64 = 256 << 20;
/// Bytes carried at a time.
const CARRY: u64 = 1 << 20;
/// Bytes carried before the caller gets an answer.
const CARRY_BYTES: u64 = 8 << 20;

/// Blocks of one file that are to be blocks of another.
pub(in crate::cache) struct Sharing {
    source: Arc<CachedFile>,
    dest: Arc<CachedFile>,
    blocks: Blocks,
    by: By,
    reply: Box<dyn FnOnce(Result<u64>) + Send>,
}

/// On whose behalf something is copied, and when.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// Whose quotas hold.
    pub enforce: Enforce,
    /// The time.
    pub now_ns: i64,
}

/// So many whole blocks: from where, to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocks {
    from: u64,
    to: u64,
    count: u64,
}

/// What a copy does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Share(Blocks),
    /// So many bytes.
    Carry(u64),
}

/// The next step of a copy of `len` bytes, as far as it depends on how the ranges lie.
fn step(from: u64, to: u64, len: u64, block_size: u64) -> Step {
    let head = to.next_multiple_of(block_size) - to;
    if from % block_size != to % block_size {
        Step::Carry(len.min(CARRY))
    } else if head > 0 {
        Step::Carry(len.min(head))
    } else if len < block_size {
        Step::Carry(len)
    } else {
        let count = (len / block_size).min(SHARE_BLOCKS);
        Step::Share(Blocks { from: from / block_size, to: to / block_size, count })
    }
}

impl Cache {
    /// Copies a byte range of one file into another, or elsewhere into the same. Returns how many bytes were copied: fewer than asked for at
    /// the end of the source, and where there is so much to do that the caller had better ask again.
    ///
    /// # Errors
    /// `Invalid` if the ranges overlap.
    pub async fn copy(self: &Arc<Self>, source: (&Reader, u64), dest: (&Arc<CachedFile>, u64), len: u64, by: By) -> Result<u64> {
        let len = len.min(source.0.file().size().saturating_sub(source.1));
        if source.0.file().ino() == dest.0.ino() && source.1 < dest.1.saturating_add(len) && dest.1 < source.1 + len {
            return Err(Error::new(ErrorKind::Invalid, "the ranges overlap"));
        }
        if dest.1.saturating_add(len) > SIZE_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "more than a file can have"));
        }
        if len == 0 {
            return Ok(0);
        }
        drop(self.claim(dest.0, by.enforce, by.now_ns)?);
        let (mut copied, mut carried) = (0, 0);
        while copied < len && copied < SHARE_BYTES && carried < CARRY_BYTES {
            let at = ((source.0, source.1 + copied), (dest.0, dest.1 + copied));
            match self.copy_some(at.0, at.1, len - copied, by).await {
                Ok((0, 0)) => break,
                Ok((shared, moved)) => (copied, carried) = (copied + shared + moved, carried + moved),
                // What was copied counts; whoever asks for the rest is told.
                Err(_) if copied > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(copied)
    }

    /// Does one step; returns the bytes shared and the bytes carried.
    async fn copy_some(
        self: &Arc<Self>,
        source: (&Reader, u64),
        dest: (&Arc<CachedFile>, u64),
        len: u64,
        by: By,
    ) -> Result<(u64, u64)> {
        let carry = match step(source.1, dest.1, len, self.block_size()) {
            Step::Carry(bytes) => bytes,
            Step::Share(blocks) => {
                let elsewhere = self.blocks_elsewhere(source.0.file(), blocks)?;
                if elsewhere == 0 {
                    let shared = self.share_soon(source.0.file(), dest.0, blocks, by).await?;
                    if shared > 0 {
                        return Ok((shared * self.block_size(), 0));
                    }
                }
                elsewhere.max(1) * self.block_size()
            }
        };
        let (read, bytes) = oneshot::channel();
        self.read(source.0, source.1, carry as u32, Box::new(move |outcome| drop(read.send(outcome))));
        let bytes = bytes.await.unwrap_or_else(|_| Err(stopping()))?;
        let (written, done) = oneshot::channel();
        self.write(dest.0, dest.1, &bytes, by.enforce, by.now_ns, Box::new(move |outcome| drop(written.send(outcome))));
        done.await.unwrap_or_else(|_| Err(stopping()))?;
        Ok((0, bytes.len() as u64))
    }

    /// How many blocks, as many as are carried at a time, are only where the origin is; looked at from the first on.
    fn blocks_elsewhere(&self, source: &CachedFile, blocks: Blocks) -> Result<u64> {
        let LocalData::Packed(packed) = source.local();
        for nth in 0..blocks.count.min(CARRY / self.block_size()) {
            let index = blocks.from + nth;
            let mapped = self.maps.mapped(source.ino(), index).map_err(|error| metadata_error(source, &error))?;
            if !matches!(mapped, Mapped::Origin(_)) || packed.block_len(index) == 0 || source.written().lock().holds(index) {
                return Ok(nth);
            }
        }
        Ok(blocks.count.min(CARRY / self.block_size()))
    }

    /// Has the flusher's thread share blocks; returns how many it could.
    async fn share_soon(
        self: &Arc<Self>,
        source: &Arc<CachedFile>,
        dest: &Arc<CachedFile>,
        blocks: Blocks,
        by: By,
    ) -> Result<u64> {
        let start = blocks.to * self.block_size();
        if dest.size() < start {
            let (ready, outcome) = oneshot::channel();
            self.ready_to_grow(dest, start, Box::new(move |result| drop(ready.send(result))));
            outcome.await.unwrap_or_else(|_| Err(stopping()))?;
            self.grow(dest, start, by.enforce, by.now_ns)?;
        }
        let (shared, outcome) = oneshot::channel();
        let reply = Box::new(move |result| drop(shared.send(result)));
        self.flusher.push(Job::Share(Sharing { source: Arc::clone(source), dest: Arc::clone(dest), blocks, by, reply }));
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Shares blocks, on the flusher's thread and between two rounds.
    pub(super) fn share(self: &Arc<Self>, sharing: Sharing) {
        // What was written to either file before is recorded first: the source's because that is what is shared, the other's because a
        // crash must not leave the copy without what came before it.
        let mut files = vec![Arc::clone(&sharing.dest)];
        if sharing.source.ino() != sharing.dest.ino() {
            files.push(Arc::clone(&sharing.source));
        }
        self.flush_files(&files);
        let outcome = self.share_recorded(&sharing);
        (sharing.reply)(outcome);
    }

    fn share_recorded(&self, sharing: &Sharing) -> Result<u64> {
        let Sharing { source, dest, blocks, by, .. } = sharing;
        let Blocks { from, to, count } = *blocks;
        let dirty = source.written().lock().next_held(from).unwrap_or(u64::MAX);
        let count = count.min(dirty - from);
        // The round failed, or somebody writes all the time.
        if count == 0 || self.maps.is_emptied(source.ino()) || dest.written().lock().is_dirty() {
            return Ok(0);
        }
        let block_size = self.block_size();
        // As far as the quota goes; what the transaction comes to, it records itself.
        let bytes = to * block_size..(to + count) * block_size;
        self.could_write(dest, &bytes, by.enforce, by.now_ns)?;
        let _claim = self.claim(dest, by.enforce, by.now_ns)?;
        let _references = self.references.lock();
        let share = Share { from: (source.ino(), from), to: (dest.ino(), to), count, block_size, now_ns: by.now_ns };
        let shared = self.meta.share_content(&share).map_err(|error| metadata_error(dest, &error))?;
        self.show_shared(dest, to, &shared);
        self.release(&shared.released);
        Ok(shared.blocks.len() as u64)
    }

    /// Lets readers find shared blocks by the map, in place of what memory has.
    fn show_shared(&self, dest: &Arc<CachedFile>, first: u64, shared: &SharedBlocks) {
        let (block_size, end) = (self.block_size(), first + shared.blocks.len() as u64);
        let mut state = dest.written().lock();
        let freed = state.supersede(first..end, end * block_size);
        let (size, allocated) = shared.recorded;
        state.recorded = Recorded { size, allocated };
        dest.set_size(state.size);
        for (index, content) in (first..end).zip(&shared.blocks) {
            let id = FileContent::map_entry(index, *content, block_size, shared.base);
            self.maps.show_local(dest.ino(), BlockIndex(index), id);
        }
        drop(state);
        self.flusher.give_back(freed);
    }
}

fn stopping() -> Error {
    Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_carried_and_what_lies_alike_is_shared() {
        let share = |from, to, count| Step::Share(Blocks { from, to, count });
        assert_eq!(step(0, 0, 100, 10), share(0, 0, 10));
        assert_eq!(step(20, 50, 19, 10), share(2, 5, 1));
        assert_eq!(step(30, 60, 9, 10), Step::Carry(9));
        assert_eq!(step(13, 53, 50, 10), Step::Carry(7));
        assert_eq!(step(13, 53, 2, 10), Step::Carry(2));
        assert_eq!(step(13, 54, 50, 10), Step::Carry(50));
        assert_eq!(step(0, 0, 1 << 40, 1 << 10), share(0, 0, SHARE_BLOCKS));
    }
}
