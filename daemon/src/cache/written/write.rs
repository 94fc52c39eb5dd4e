//! Writing into dirty memory.

use super::state::State;
use super::{DoneReply, SIZE_MAX};
use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::cache::local::LocalData;
use crate::cache::read::metadata_error;
use crate::error::{Error, ErrorKind};
use crate::meta::{Enforce, MetaError, Refusal, claim};
use bytes::Bytes;
use parking_lot::RwLockReadGuard;
use std::sync::Arc;

/// A write that could not be done at once.
pub(super) struct Waiting {
    pub(super) file: Arc<CachedFile>,
    pub(super) offset: u64,
    pub(super) data: Bytes,
    pub(super) now_ns: i64,
    /// Whose quotas may refuse it; `None` once they have agreed.
    pub(super) enforce: Option<Enforce>,
    pub(super) reply: DoneReply,
}

impl Cache {
    /// Writes bytes at an offset. What a partly written block held before is read first. `enforce` says whose quotas may refuse it.
    pub fn write(
        self: &Arc<Self>,
        file: &Arc<CachedFile>,
        offset: u64,
        data: &[u8],
        enforce: Enforce,
        now_ns: i64,
        reply: DoneReply,
    ) {
        let end = offset.saturating_add(data.len() as u64);
        if end > SIZE_MAX {
            return reply(Err(Error::new(ErrorKind::TooLarge, format!("{end} bytes, more than a file can have"))));
        }
        if data.is_empty() {
            return reply(Ok(()));
        }
        let admitted = self.flusher.admit(self, data.len());
        let enforce = Some(enforce);
        let waiting = |enforce, reply| {
            let data = Bytes::copy_from_slice(data);
            Waiting { file: Arc::clone(file), offset, data, now_ns, enforce, reply }
        };
        match admitted {
            Err(error) if self.may_make_room(&error) => return self.write_after_making_room(waiting(enforce, reply)),
            Err(error) => return reply(Err(error)),
            Ok(()) => {}
        }
        let moving = self.flusher.still.moving().filter(|_| !self.flusher.is_full());
        let Some(_moving) = moving else { return self.flusher.park(waiting(enforce, reply)) };
        match self.try_write(file, offset, data, now_ns, enforce) {
            Ok(None) => reply(Ok(())),
            Ok(Some(index)) => self.load_for(waiting(None, reply), index),
            Err(error) if self.may_make_room(&error) => self.write_after_making_room(waiting(enforce, reply)),
            Err(error) => reply(Err(error)),
        }
    }

    /// Before a change to a file that is its object: says so in the metadata, so that no listing replaces it. Holds for as long as the guard is kept.
    pub(super) fn claim<'a>(
        &self,
        file: &'a CachedFile,
        enforce: Enforce,
        now_ns: i64,
    ) -> Result<RwLockReadGuard<'a, ()>, Error> {
        let (guard, is_claimed) = file.claim();
        if is_claimed {
            return Ok(guard);
        }
        match self.meta.update_inode_for(file.ino(), enforce, now_ns, &claim) {
            Ok(_) => {}
            Err(MetaError::Refused(refusal @ Refusal::OverQuota(_))) => {
                return Err(Error::new(ErrorKind::OverQuota, format!("'{}': {refusal}", file.key())));
            }
            Err(error) => return Err(metadata_error(file, &error)),
        }
        file.mark_claimed();
        Ok(guard)
    }

    /// Writes after the block has been read, as often as it takes.
    pub(super) fn go_on(self: &Arc<Self>, waiting: Waiting) {
        let Some(_moving) = self.flusher.still.moving() else { return self.flusher.park(waiting) };
        match self.try_write(&waiting.file, waiting.offset, &waiting.data, waiting.now_ns, waiting.enforce) {
            Ok(None) => (waiting.reply)(Ok(())),
            Ok(Some(index)) => self.load_for(Waiting { enforce: None, ..waiting }, index),
            Err(error) => (waiting.reply)(Err(error)),
        }
    }

    /// Writes, unless a block has to be read first: then says which.
    fn try_write(
        &self,
        file: &Arc<CachedFile>,
        offset: u64,
        data: &[u8],
        now_ns: i64,
        enforce: Option<Enforce>,
    ) -> Result<Option<u64>, Error> {
        let LocalData::Packed(packed) = file.local();
        let _claim = self.claim(file, enforce.unwrap_or(Enforce::Nothing), now_ns)?;
        let mut state = file.written().lock();
        let range = offset..offset + data.len() as u64;
        if let Some(enforce) = enforce {
            let growth = |state: &State, is_local: &dyn Fn(u64) -> bool| state.growth(range.clone(), packed.block_size, is_local);
            self.reserve(file, &mut state, enforce, now_ns, growth)?;
        }
        // A row that cannot be read: reading the block fails, and says why.
        let has_content = |index| self.has_content(file, index).unwrap_or(true);
        let needed = state.need(range, packed.block_size, &has_content, &|index| self.has_excess(file, index));
        if needed.is_none() {
            let grown = state.write(offset, data, packed.block_size, now_ns);
            self.flusher.take(grown);
            file.set_size(state.size);
            drop(state);
            self.flusher.note_dirty(file);
        }
        Ok(needed)
    }

    fn load_for(self: &Arc<Self>, waiting: Waiting, index: u64) {
        let (cache, file) = (Arc::clone(self), Arc::clone(&waiting.file));
        let done = move |outcome| match outcome {
            Ok(()) => cache.go_on(waiting),
            Err(error) => (waiting.reply)(Err(error)),
        };
        self.load(&file, index, Box::new(done));
    }

    /// Brings a block's present content into dirty memory, unless somebody writes it meanwhile.
    pub(super) fn load(self: &Arc<Self>, file: &Arc<CachedFile>, index: u64, done: DoneReply) {
        let load = file.written().lock().begin_load(index);
        let (cache, loaded) = (Arc::clone(self), Arc::clone(file));
        let finish = move |outcome: Result<Bytes, Error>| {
            let mut state = loaded.written().lock();
            cache.flusher.take(state.loaded(index, load, outcome.as_deref().ok()));
            drop(state);
            cache.flusher.note_dirty(&loaded);
            done(outcome.map(drop));
        };
        self.read_block(file, index, Box::new(finish));
    }
}
