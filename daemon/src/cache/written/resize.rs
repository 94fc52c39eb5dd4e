//! Changing sizes, and making ranges zeros.

use super::flush::{Cut, Job};
use super::state::{Recorded, State};
use super::{DoneReply, SIZE_MAX};
use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::cache::local::LocalData;
use crate::cache::read::metadata_error;
use crate::error::{Error, ErrorKind};
use crate::meta::{BLOCKS_PER_CHUNK, Enforce, allocated_bytes};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Cache {
    /// Cuts a file, or lengthens it with zeros.
    pub fn resize(self: &Arc<Self>, file: &Arc<CachedFile>, size: u64, enforce: Enforce, now_ns: i64, reply: DoneReply) {
        if size > SIZE_MAX {
            return reply(Err(Error::new(ErrorKind::TooLarge, format!("{size} bytes, more than a file can have"))));
        }
        if let Err(error) = self.claim(file, enforce, now_ns).map(drop) {
            return reply(Err(error));
        }
        if size < file.size() {
            return self.flusher.push(Job::Cut(Cut { file: Arc::clone(file), size, now_ns, flushed: false, reply }));
        }
        let (cache, grown) = (Arc::clone(self), Arc::clone(file));
        let then = move |outcome: Result<(), Error>| {
            reply(outcome.and_then(|()| cache.grow(&grown, size, enforce, now_ns)));
        };
        self.ready_to_grow(file, size, Box::new(then));
    }

    /// Makes sure that nothing behind the end of a file can show once it is longer.
    pub(super) fn ready_to_grow(self: &Arc<Self>, file: &Arc<CachedFile>, size: u64, then: DoneReply) {
        let needed = file.written().lock().needed_to_grow(size, self.block_size(), &|index| self.has_excess(file, index));
        match needed {
            Some(index) => self.load(file, index, then),
            None => then(Ok(())),
        }
    }

    pub(super) fn grow(&self, file: &Arc<CachedFile>, size: u64, enforce: Enforce, now_ns: i64) -> Result<(), Error> {
        let _claim = self.claim(file, enforce, now_ns)?;
        let mut state = file.written().lock();
        let size = size.max(state.size);
        let block_size = self.block_size();
        let growth = |state: &State, is_local: &dyn Fn(u64) -> bool| state.growth_of_end(size, block_size, is_local);
        self.reserve(file, &mut state, enforce, now_ns, growth)?;
        state.resize(size, self.block_size(), now_ns);
        file.set_size(size);
        drop(state);
        self.flusher.note_dirty(file);
        Ok(())
    }

    /// Makes a range zeros; beyond the end of the file it lengthens it if `grow` says so.
    pub fn zero(
        self: &Arc<Self>,
        file: &Arc<CachedFile>,
        range: Range<u64>,
        grow: bool,
        enforce: Enforce,
        now_ns: i64,
        reply: DoneReply,
    ) {
        if range.end > SIZE_MAX {
            return reply(Err(Error::new(ErrorKind::TooLarge, "more than a file can have")));
        }
        let claim = match self.claim(file, enforce, now_ns) {
            Ok(claim) => claim,
            Err(error) => return reply(Err(error)),
        };
        if grow && range.end > file.size() {
            drop(claim);
            let (cache, grown, end) = (Arc::clone(self), Arc::clone(file), range.end);
            let then = move |ready: Result<(), Error>| match ready.and_then(|()| cache.grow(&grown, end, enforce, now_ns)) {
                Ok(()) => cache.zero(&grown, range, false, enforce, now_ns, reply),
                Err(error) => reply(Err(error)),
            };
            return self.ready_to_grow(file, end, Box::new(then));
        }
        let end = range.end.min(file.size());
        if range.start >= end {
            self.flusher.note_dirty(file);
            return reply(Ok(()));
        }
        let block = self.block_size();
        let whole = range.start.div_ceil(block)..if end == file.size() { end.div_ceil(block) } else { end / block };
        if whole.start < whole.end {
            let freed = file.written().lock().clear(whole.clone(), now_ns);
            self.flusher.give_back(freed);
            self.flusher.note_dirty(file);
        }
        drop(claim);
        let mut edges = Vec::new();
        if whole.start >= whole.end {
            edges.push(range.start..end);
        } else {
            edges.push(range.start..whole.start * block);
            edges.push(whole.end * block..end);
        }
        self.zero_edges(file, edges, enforce, now_ns, reply);
    }

    fn zero_edges(
        self: &Arc<Self>,
        file: &Arc<CachedFile>,
        mut edges: Vec<Range<u64>>,
        enforce: Enforce,
        now_ns: i64,
        reply: DoneReply,
    ) {
        let Some(edge) = edges.pop() else { return reply(Ok(())) };
        if edge.start >= edge.end {
            return self.zero_edges(file, edges, enforce, now_ns, reply);
        }
        let (cache, written) = (Arc::clone(self), Arc::clone(file));
        let next = move |outcome: Result<(), Error>| match outcome {
            Ok(()) => cache.zero_edges(&written, edges, enforce, now_ns, reply),
            Err(error) => reply(Err(error)),
        };
        self.write(file, edge.start, &vec![0; (edge.end - edge.start) as usize], enforce, now_ns, Box::new(next));
    }

    /// Does a cut, on the flusher's thread and between two rounds. Returns whether it is in the metadata.
    pub(super) fn cut_now(&self, file: &Arc<CachedFile>, size: u64, now_ns: i64) -> Result<(), Error> {
        let LocalData::Packed(packed) = file.local();
        let _claim = self.claim(file, Enforce::Nothing, now_ns)?;
        let mut state = file.written().lock();
        let old = state.size;
        let freed = state.resize(size, packed.block_size, now_ns);
        state.settle_if_empty();
        file.set_size(size);
        let _gate = file.map_gate().write();
        let base = state.base;
        packed.base.store(base, Ordering::Release);
        drop(state);
        self.flusher.give_back(freed);
        if size >= old {
            return Ok(());
        }
        let _references = self.references.lock();
        let cut = self.meta.cut_content(file.ino(), size, base, packed.block_size, now_ns);
        let released = cut.map_err(|error| Error::new(ErrorKind::Io, format!("'{}' could not be cut: {error}", file.key())))?;
        let logged = std::mem::take(&mut file.written().lock().log);
        self.flusher.forget_logged(logged.bytes);
        let chunk_bytes = packed.block_size * BLOCKS_PER_CHUNK;
        self.maps.drop_rows(file.ino(), size / chunk_bytes..old.div_ceil(chunk_bytes));
        self.release(&released);
        let row = self.meta.inode(file.ino()).map_err(|error| metadata_error(file, &error))?;
        if let Some(row) = row {
            file.written().lock().recorded = Recorded { size: row.size, allocated: allocated_bytes(&row) };
        }
        Ok(())
    }

    /// Whether all rows of a file's map can go in one transaction.
    pub(super) fn can_be_emptied(&self, file: &CachedFile) -> bool {
        let most = crate::meta::CUT_ROWS as u64 * BLOCKS_PER_CHUNK * self.block_size();
        file.size().max(file.written().lock().recorded.size) <= most
    }

    /// Empties a file, on the flusher's thread and between two rounds. The next round records that, with what was written by then: whoever empties a file
    /// mostly writes it anew, and a crash in between would leave neither what it was nor what it was to be.
    pub(super) fn empty(&self, file: &Arc<CachedFile>, now_ns: i64) -> Result<(), Error> {
        let LocalData::Packed(packed) = file.local();
        let _claim = self.claim(file, Enforce::Nothing, now_ns)?;
        let mut state = file.written().lock();
        let freed = state.resize(0, packed.block_size, now_ns);
        state.settle_if_empty();
        (state.anew, state.recorded) = (true, Recorded::default());
        file.set_size(0);
        let _gate = file.map_gate().write();
        packed.base.store(0, Ordering::Release);
        self.maps.empty(file.ino(), crate::meta::CUT_ROWS as u64);
        drop(state);
        self.flusher.give_back(freed);
        self.flusher.note_dirty(file);
        Ok(())
    }

    /// The last block of what a cut leaves, if the cut goes through it and it is not in memory.
    pub(super) fn needed_to_cut(&self, file: &CachedFile, size: u64) -> Option<u64> {
        let last = size / self.block_size();
        let through = size < file.size() && !size.is_multiple_of(self.block_size());
        (through && !file.written().lock().holds(last) && self.has_content(file, last).unwrap_or(true)).then_some(last)
    }

    pub(in crate::cache) fn block_size(&self) -> u64 {
        self.config.block_size.into()
    }
}
