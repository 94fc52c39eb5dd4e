//! Writing into dirty memory.

use super::{DoneReply, SIZE_MAX};
use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::cache::local::LocalData;
use crate::cache::read::metadata_error;
use crate::error::{Error, ErrorKind};
use bytes::Bytes;
use std::sync::Arc;

/// A write that could not be done at once.
pub(super) struct Waiting {
    pub(super) file: Arc<CachedFile>,
    pub(super) offset: u64,
    pub(super) data: Bytes,
    pub(super) now_ns: i64,
    pub(super) reply: DoneReply,
}

impl Cache {
    /// Writes bytes at an offset. What a partly written block held before is read first.
    pub fn write(self: &Arc<Self>, file: &Arc<CachedFile>, offset: u64, data: &[u8], now_ns: i64, reply: DoneReply) {
        let end = offset.saturating_add(data.len() as u64);
        if end > SIZE_MAX {
            return reply(Err(Error::new(ErrorKind::TooLarge, format!("{end} bytes, more than a file can have"))));
        }
        if data.is_empty() {
            return reply(Ok(()));
        }
        if let Err(error) = self.flusher.admit(self, data.len()) {
            return reply(Err(error));
        }
        if let Err(error) = self.claim(file) {
            return reply(Err(error));
        }
        if self.flusher.is_full() {
            let data = Bytes::copy_from_slice(data);
            return self.flusher.park(Waiting { file: Arc::clone(file), offset, data, now_ns, reply });
        }
        match self.try_write(file, offset, data, now_ns) {
            None => reply(Ok(())),
            Some(index) => {
                let data = Bytes::copy_from_slice(data);
                self.load_for(Waiting { file: Arc::clone(file), offset, data, now_ns, reply }, index);
            }
        }
    }

    /// Before the first change to a file that is its object: says so in the metadata, so that no listing replaces it.
    pub(super) fn claim(&self, file: &CachedFile) -> Result<(), Error> {
        if file.is_written() {
            return Ok(());
        }
        let claimed = self.meta.update_inode(file.ino(), &|row| row.base = row.base.or(Some(row.size)));
        claimed.map_err(|error| metadata_error(file, &error))?;
        file.mark_written();
        Ok(())
    }

    /// Writes after the block has been read, as often as it takes.
    pub(super) fn go_on(self: &Arc<Self>, waiting: Waiting) {
        match self.try_write(&waiting.file, waiting.offset, &waiting.data, waiting.now_ns) {
            None => (waiting.reply)(Ok(())),
            Some(index) => self.load_for(waiting, index),
        }
    }

    /// Writes, unless a block has to be read first: then says which.
    fn try_write(&self, file: &Arc<CachedFile>, offset: u64, data: &[u8], now_ns: i64) -> Option<u64> {
        let LocalData::Packed(packed) = file.local();
        let mut state = file.written().lock();
        let range = offset..offset + data.len() as u64;
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
        needed
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
        file.written().lock().begin_load(index);
        let (cache, loaded) = (Arc::clone(self), Arc::clone(file));
        let finish = move |outcome: Result<Bytes, Error>| {
            let mut state = loaded.written().lock();
            cache.flusher.take(state.loaded(index, outcome.as_deref().ok()));
            drop(state);
            cache.flusher.note_dirty(&loaded);
            done(outcome.map(drop));
        };
        self.read_block(file, index, Box::new(finish));
    }
}
