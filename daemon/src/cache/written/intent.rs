//! Small syncs: an intent in the metadata's journal instead of a round, and after a crash the writes done over from it.
//!
//! A synced append of a few bytes would else store its whole block again, and wait for two devices' caches in turn. What an intent
//! holds stays dirty; a round follows in its time, or as soon as the log has [`LOG_BYTES`]. See [`crate::meta::MetaStore::log_intents`].

use super::DoneReply;
use super::flush::Job;
use super::state::State;
use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::cache::filemap::Mapped;
use crate::cache::local::LocalData;
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{Enforce, Intent, IntentLog};
use parking_lot::MutexGuard;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc;

/// The most that one sync logs, in bytes.
const INTENT_BYTES: u64 = 32 << 10;
/// The most pieces of one intent.
const INTENT_PIECES: usize = 16;
/// How often a log is settled before times are set, while somebody goes on syncing.
const SETTLE_TRIES: usize = 3;
/// What the log may hold, in bytes, before a round is due: little to do over, and gone from the journal before that is full.
pub(super) const LOG_BYTES: usize = 1 << 20;

/// What was written since the last round or intent, while it is little enough to be logged.
#[derive(Debug, Default)]
pub(super) struct Unlogged {
    pieces: Vec<Range<u64>>,
    bytes: u64,
    /// Anything changed.
    changed: bool,
    /// More changed than `pieces` say.
    incomplete: bool,
}

impl Unlogged {
    /// Bytes were written, or for an empty range the file has grown.
    pub fn note(&mut self, range: Range<u64>) {
        self.changed = true;
        if self.incomplete || range.is_empty() {
            return;
        }
        self.bytes += range.end - range.start;
        match self.pieces.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(range),
        }
        if self.bytes > INTENT_BYTES || self.pieces.len() > INTENT_PIECES {
            self.lose();
        }
    }

    /// Something changed that is not logged.
    pub fn lose(&mut self) {
        *self = Unlogged { changed: true, incomplete: true, ..Unlogged::default() };
    }
}

/// What of a file is in the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Logged {
    /// The places of its intents.
    pub places: Range<u64>,
    /// Their bytes.
    pub bytes: usize,
}

impl Logged {
    /// A round has recorded what these intents hold.
    pub fn forget(&mut self, done: &Logged) {
        self.places.start = done.places.end;
        self.bytes -= done.bytes;
    }
}

/// How a file is synced.
enum Way {
    /// There is nothing to do.
    Nothing,
    /// By an intent.
    Log(u64, Intent),
    /// By a round.
    Round,
}

impl State {
    /// What has to be logged for everything written so far to be durable; `None` if that cannot be. `is_here` says whether the rest of a block
    /// will be here when it is wanted.
    fn intent(&self, block_size: u64, is_here: &dyn Fn(u64) -> bool) -> Option<Intent> {
        // On what is recorded of an emptied file an intent would say nothing.
        if self.unlogged.incomplete || self.anew {
            return None;
        }
        let mut intent = Intent { size: self.size, mtime_ns: self.mtime_ns, ctime_ns: self.ctime_ns, pieces: Vec::new() };
        for piece in &self.unlogged.pieces {
            let mut bytes = Vec::with_capacity((piece.end - piece.start) as usize);
            for (index, within, _) in super::state::pieces(piece.clone(), block_size) {
                if !is_here(index) {
                    return None;
                }
                bytes.extend_from_slice(&self.held(index, within)?);
            }
            intent.pieces.push((piece.start, bytes));
        }
        Some(intent)
    }

    /// An intent was recorded.
    fn logged(&mut self, bytes: usize) {
        self.unlogged = Unlogged::default();
        self.log.places.end += 1;
        self.log.bytes += bytes;
    }

    /// Does over what intents say, if everything needed is there; else says which block is not. Returns by how much the memory held has grown.
    fn redo(
        &mut self,
        intents: &[Intent],
        block_size: u64,
        has_content: &dyn Fn(u64) -> bool,
        has_excess: &dyn Fn(u64) -> bool,
    ) -> std::result::Result<usize, u64> {
        for (offset, bytes) in intents.iter().flat_map(|intent| &intent.pieces) {
            let range = *offset..offset + bytes.len() as u64;
            if let Some(index) = self.need(range, block_size, has_content, has_excess) {
                return Err(index);
            }
        }
        let size = intents.iter().map(|intent| intent.size).max().unwrap_or(0);
        if let Some(index) = self.needed_to_grow(size, block_size, has_excess) {
            return Err(index);
        }
        let mut grown = 0;
        for intent in intents {
            for (offset, bytes) in &intent.pieces {
                grown += self.write(*offset, bytes, block_size, intent.ctime_ns);
            }
            if intent.size > self.size {
                self.resize(intent.size, block_size, intent.ctime_ns);
            }
            self.mtime_ns = intent.mtime_ns;
            self.ctime_ns = self.ctime_ns.max(intent.ctime_ns);
        }
        // Also where nothing was left to do: the round that records it removes the intents.
        self.changed = true;
        Ok(grown)
    }
}

impl Cache {
    /// Syncs files by intents where that is possible; returns those that need a round.
    pub(super) fn log(&self, files: Vec<Arc<CachedFile>>) -> Vec<Arc<CachedFile>> {
        // Times are not set meanwhile.
        let _references = self.references.lock();
        let (mut rounds, mut logging, mut intents) = (Vec::new(), Vec::new(), Vec::new());
        for file in files {
            match self.way_to_sync(&file) {
                Way::Nothing => {}
                Way::Round => rounds.push(file),
                Way::Log(place, intent) => {
                    intents.push((file.ino(), place, intent));
                    logging.push(file);
                }
            }
        }
        if intents.is_empty() {
            return rounds;
        }
        if let Err(error) = self.meta.log_intents(&intents) {
            tracing::warn!(%error, "a sync could not be logged: its blocks are stored instead");
            rounds.append(&mut logging);
            return rounds;
        }
        rounds
    }

    fn way_to_sync(&self, file: &CachedFile) -> Way {
        let LocalData::Packed(packed) = file.local();
        let mut state = file.written().lock();
        if !state.is_dirty() || (!state.unlogged.changed && !state.log.places.is_empty()) {
            return Way::Nothing;
        }
        if file.is_unlinked() || self.flusher.logged() > LOG_BYTES {
            return Way::Round;
        }
        // What the origin has may be out of reach when a mount does it over.
        let is_here = |index| match self.maps.mapped(file.ino(), index) {
            Ok(Mapped::Local(_) | Mapped::Hole) => true,
            Ok(Mapped::Origin(_)) => packed.block_len(index) == 0,
            Err(_) => false,
        };
        match state.intent(packed.block_size, &is_here) {
            None => Way::Round,
            Some(intent) => {
                let (place, bytes) = (state.log.places.end, intent.pieces.iter().map(|(_, bytes)| bytes.len() + 64).sum());
                state.logged(bytes);
                self.flusher.note_logged(bytes);
                Way::Log(place, intent)
            }
        }
    }

    /// Does over what was logged of a file and not recorded before the last end. Blocks.
    pub fn redo(self: &Arc<Self>, file: &Arc<CachedFile>, log: &IntentLog, now_ns: i64) -> Result<()> {
        let intents = &log.intents[..];
        let LocalData::Packed(packed) = file.local();
        {
            let mut state = file.written().lock();
            for (offset, bytes) in intents.iter().flat_map(|intent| &intent.pieces) {
                let range = *offset..offset + bytes.len() as u64;
                let growth = |state: &State, is_local: &dyn Fn(u64) -> bool| state.growth(range, packed.block_size, is_local);
                self.reserve(file, &mut state, Enforce::Nothing, now_ns, growth)?;
            }
        }
        loop {
            let mut state = file.written().lock();
            let has_content = |index| self.has_content(file, index).unwrap_or(true);
            match state.redo(intents, packed.block_size, &has_content, &|index| self.has_excess(file, index)) {
                Ok(grown) => {
                    self.flusher.take(grown);
                    file.set_size(state.size);
                    state.log.places = log.places.clone();
                    state.unlogged.lose();
                    drop(state);
                    self.flusher.note_dirty(file);
                    return Ok(());
                }
                Err(index) => {
                    drop(state);
                    self.load_now(file, index)?;
                }
            }
        }
    }

    fn load_now(self: &Arc<Self>, file: &Arc<CachedFile>, index: u64) -> Result<()> {
        let (loaded, outcome) = mpsc::sync_channel(1);
        let done: DoneReply = Box::new(move |result| drop(loaded.send(result)));
        self.load(file, index, done);
        outcome.recv().unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the block was not read")))
    }

    /// Has what was logged of a file recorded by a round, and keeps rounds and intents away until the answer is dropped: intents done over would
    /// set times again. Blocks. A round that fails leaves them: then a crash may bring older times back.
    pub(in crate::cache) fn without_log(&self, file: &Arc<CachedFile>) -> MutexGuard<'_, ()> {
        for _ in 0..SETTLE_TRIES {
            let quiet = self.references.lock();
            if file.written().lock().log.places.is_empty() {
                return quiet;
            }
            drop(quiet);
            let (settled, outcome) = mpsc::sync_channel(1);
            let reply: DoneReply = Box::new(move |result| drop(settled.send(result)));
            self.flusher.push(Job::Settle { file: Arc::clone(file), reply });
            let _ = outcome.recv();
        }
        self.references.lock()
    }
}
