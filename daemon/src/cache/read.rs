//! Reads: where each block is, and putting the answer together.

use super::fetch::Fetch;
use super::file::{BlockState, BlockWaiter, CachedFile};
use super::filemap::{Mapped, Rows};
use super::local::LocalData;
use super::readahead::{FIRST_WINDOW, Limit, ReadAhead};
use super::region::Piece;
use super::written::Told;
use super::{Cache, ReadReply};
use crate::block::{BlockWant, ReadFault};
use crate::error::{Error, ErrorKind};
use crate::ids::{BlockId, BlockIndex};
use crate::meta::MetaError;
use crate::repository::Urgency;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tries of a block that the store said it has and then has not: reclaim can win a race against a reader, but not for ever.
const STORE_TRIES: u32 = 2;

/// One handle on a file: its read-ahead state.
pub struct Reader {
    cache: Arc<Cache>,
    file: Arc<CachedFile>,
    ahead: Mutex<ReadAhead>,
    told: Told,
    may_map: bool,
    may_write: bool,
}

impl Reader {
    /// The file.
    pub fn file(&self) -> &Arc<CachedFile> {
        &self.file
    }

    /// Whether the file may be mapped for writing, by this handle not counted.
    pub(super) fn others_may_map(&self) -> bool {
        self.file.mapping_handles() > usize::from(self.may_map)
    }

    /// The error of a write that did not reach its device, once.
    pub fn write_error(&self) -> Option<Error> {
        self.file.write_errors().since(&self.told)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.file.handle_closed(self.may_map);
        if self.may_write {
            self.file.count_writer(false);
        }
        if self.ahead.get_mut().is_sequential() {
            self.cache.sequential_readers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Where a run of blocks comes from.
enum Part {
    /// Memory: bytes of one block.
    Here(Piece),
    /// The block store: consecutive blocks in one read.
    Stored { first: u64, wants: Vec<BlockWant> },
    /// In flight, with the position within the block.
    Flying { index: u64, start: u32, len: u32 },
}

impl Cache {
    /// Opens a reader on a file. `may_map`: whether whoever has it may map the file for writing.
    pub fn reader(self: &Arc<Self>, file: Arc<CachedFile>, may_map: bool) -> Reader {
        file.handle_opened(may_map);
        let told = file.write_errors().begin();
        Reader { cache: Arc::clone(self), file, ahead: Mutex::default(), told, may_map, may_write: false }
    }

    /// The same on a file that is opened for writing.
    pub fn writer(self: &Arc<Self>, file: Arc<CachedFile>, may_map: bool) -> Reader {
        file.count_writer(true);
        let mut reader = self.reader(file, may_map);
        reader.may_write = true;
        reader
    }

    /// Reads `len` bytes at `offset`, fewer at the end of the file.
    pub fn read(self: &Arc<Self>, reader: &Reader, offset: u64, len: u32, reply: ReadReply) {
        let file = &reader.file;
        let end = offset.saturating_add(len.into()).min(file.size());
        if offset >= end {
            return reply(Ok(Bytes::new()));
        }
        let bytes = offset..end;
        // Read-ahead is planned first, so that the guesses are on the wire while the demand waits.
        let planned = self.plan_ahead(reader, &bytes);
        if file.is_written() {
            self.read_written(file, bytes, reply);
        } else {
            self.read_range(file, bytes, reply);
        }
        if !planned.is_empty() {
            self.fetch_ahead(reader, planned);
        }
    }

    pub(super) fn read_range(self: &Arc<Self>, file: &Arc<CachedFile>, bytes: Range<u64>, reply: ReadReply) {
        if !file.has_resident() {
            let LocalData::Packed(packed) = file.local();
            match packed.wants(&self.maps, &bytes) {
                Ok(Some(wants)) => return self.read_stored(file, bytes, wants, reply),
                Ok(None) => {}
                Err(error) => return reply(Err(metadata_error(file, &error))),
            }
        }
        self.read_mixed(file, bytes, reply);
    }

    /// The hit path: all blocks are mapped.
    fn read_stored(self: &Arc<Self>, file: &Arc<CachedFile>, bytes: Range<u64>, wants: Vec<BlockWant>, reply: ReadReply) {
        let (cache, file) = (Arc::clone(self), Arc::clone(file));
        let asked = wants.clone();
        let done = move |outcome: Result<Bytes, Vec<(usize, ReadFault)>>| match outcome {
            Ok(data) => {
                cache.count_hit(data.len());
                reply(Ok(data));
            }
            Err(faults) => {
                let LocalData::Packed(packed) = file.local();
                cache.forget_faulty(&file, packed.blocks(&bytes).start, &asked, &faults);
                cache.read_mixed(&file, bytes, reply);
            }
        };
        self.store.read(wants, Box::new(done));
    }

    fn forget_faulty(&self, file: &CachedFile, first: u64, wants: &[BlockWant], faults: &[(usize, ReadFault)]) {
        for (position, fault) in faults {
            if !matches!(fault, ReadFault::Missing(_)) {
                tracing::warn!(key = &*file.key(), %fault, "cached block is lost; fetching it again");
            }
            self.maps.forget(file.ino(), BlockIndex(first + *position as u64), wants[*position].id);
        }
    }

    /// The general path: each block from where it is, absent ones fetched.
    fn read_mixed(self: &Arc<Self>, file: &Arc<CachedFile>, bytes: Range<u64>, reply: ReadReply) {
        match self.locate(file, &bytes) {
            Ok((parts, absent)) => {
                self.assemble(file, parts, reply);
                self.fetch_runs(file, absent, Urgency::Demand);
            }
            Err(error) => reply(Err(metadata_error(file, &error))),
        }
    }

    /// Says where each block is; blocks that are nowhere are marked in flight and returned for fetching.
    fn locate(&self, file: &CachedFile, bytes: &Range<u64>) -> Result<(Vec<Part>, Vec<u64>), MetaError> {
        let LocalData::Packed(packed) = file.local();
        let blocks = packed.blocks(bytes);
        // Rows are loaded before the file's lock is taken: a row may come from disk. They are read under it: a block that is
        // not in memory any more is in the map by then.
        let rows = self.maps.rows(file.ino(), &blocks)?;
        Ok(file.with_blocks(|states| {
            let (mut parts, mut absent) = (Vec::new(), Vec::new());
            for index in blocks {
                let (start, len) = packed.part(index, bytes);
                let to_end = start + len == packed.block_len(index);
                match states.entry(index) {
                    Entry::Occupied(mut entry) => match entry.get_mut() {
                        BlockState::Ready(ready) => {
                            parts.push(Part::Here(ready.bytes.slice(start, len)));
                            ready.consumed |= to_end;
                            if ready.consumed && ready.settled {
                                entry.remove();
                            }
                        }
                        BlockState::Flying(_) => parts.push(Part::Flying { index, start, len }),
                    },
                    Entry::Vacant(entry) => match self.cached(&rows, index) {
                        Some(id) => {
                            push_stored(&mut parts, index, BlockWant { id, plain_len: packed.block_len(index), start, len })
                        }
                        None => {
                            entry.insert(BlockState::Flying(Vec::new()));
                            absent.push(index);
                            parts.push(Part::Flying { index, start, len });
                        }
                    },
                }
            }
            (parts, absent)
        }))
    }

    fn assemble(self: &Arc<Self>, file: &Arc<CachedFile>, parts: Vec<Part>, reply: ReadReply) {
        let assembly = Assembly::new(parts.len(), reply);
        for (slot, part) in parts.into_iter().enumerate() {
            let assembly = Arc::clone(&assembly);
            match part {
                Part::Here(bytes) => {
                    self.count_hit(bytes.as_ref().len());
                    assembly.fill(slot, Ok(Data::Fetched(bytes)));
                }
                Part::Stored { first, wants } => {
                    self.read_part(
                        file,
                        first,
                        wants,
                        STORE_TRIES,
                        Box::new(move |outcome| assembly.fill(slot, outcome.map(Data::Stored))),
                    );
                }
                Part::Flying { index, start, len } => {
                    let slice = move |block: Piece| Data::Fetched(block.slice(start, len));
                    self.wait_for_block(file, index, Box::new(move |outcome| assembly.fill(slot, outcome.map(slice))));
                }
            }
        }
    }

    /// Reads a run of stored blocks; what turns out to be gone is fetched block by block.
    fn read_part(self: &Arc<Self>, file: &Arc<CachedFile>, first: u64, wants: Vec<BlockWant>, tries: u32, done: ReadReply) {
        let (cache, file) = (Arc::clone(self), Arc::clone(file));
        let asked = wants.clone();
        let finish = move |outcome: Result<Bytes, Vec<(usize, ReadFault)>>| match outcome {
            Ok(data) => {
                cache.count_hit(data.len());
                done(Ok(data));
            }
            Err(faults) => {
                cache.forget_faulty(&file, first, &asked, &faults);
                if tries == 0 {
                    let message = format!("cached blocks of '{}' keep vanishing while being read", file.key());
                    return done(Err(Error::new(ErrorKind::Io, message)));
                }
                let assembly = Assembly::new(asked.len(), done);
                for (slot, want) in asked.into_iter().enumerate() {
                    let assembly = Arc::clone(&assembly);
                    let index = first + slot as u64;
                    if faults.iter().any(|(position, _)| *position == slot) {
                        let slice = move |block: Piece| Data::Fetched(block.slice(want.start, want.len));
                        cache.wait_for_block(&file, index, Box::new(move |outcome| assembly.fill(slot, outcome.map(slice))));
                    } else {
                        let fill = Box::new(move |outcome: Result<Bytes, Error>| assembly.fill(slot, outcome.map(Data::Stored)));
                        cache.read_part(&file, index, vec![want], tries - 1, fill);
                    }
                }
            }
        };
        self.store.read(wants, Box::new(finish));
    }

    /// Calls `waiter` with the block: now if it is in memory, when it arrives if it is in flight, else after fetching it.
    pub(super) fn wait_for_block(self: &Arc<Self>, file: &Arc<CachedFile>, index: u64, waiter: BlockWaiter) {
        enum Found {
            Here(Piece, BlockWaiter),
            Joined,
            Absent,
        }
        let found = file.with_blocks(|states| match states.entry(index) {
            Entry::Occupied(mut entry) => match entry.get_mut() {
                BlockState::Ready(ready) => Found::Here(ready.bytes.clone(), waiter),
                BlockState::Flying(waiters) => {
                    waiters.push(waiter);
                    Found::Joined
                }
            },
            Entry::Vacant(entry) => {
                entry.insert(BlockState::Flying(vec![waiter]));
                Found::Absent
            }
        });
        match found {
            Found::Here(bytes, waiter) => waiter(Ok(bytes)),
            Found::Joined => {}
            Found::Absent => self.fetch_runs(file, vec![index], Urgency::Demand),
        }
    }

    /// Fetches blocks that were just marked in flight, one GET per consecutive run.
    fn fetch_runs(self: &Arc<Self>, file: &Arc<CachedFile>, blocks: Vec<u64>, urgency: Urgency) {
        for run in runs(&blocks) {
            let bytes = (run.end - run.start) as usize * self.config.block_size as usize;
            self.retained.make_room(&self.budget, bytes);
            let memory = self.budget.take(bytes);
            let stored = None;
            self.spawn_fetch(Fetch { file: Arc::clone(file), blocks: run, urgency, memory, while_open: false, stored });
        }
    }

    fn plan_ahead(&self, reader: &Reader, bytes: &Range<u64>) -> Vec<Range<u64>> {
        let mut ahead = reader.ahead.lock();
        let was = ahead.is_sequential();
        let LocalData::Packed(packed) = reader.file.local();
        let planned = ahead.on_read(bytes, packed.base(), Limit { window: self.window(), gets: self.pipe.gets() });
        match (was, ahead.is_sequential()) {
            (false, true) => drop(self.sequential_readers.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.sequential_readers.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        planned
    }

    /// How far ahead of its reader a stream may be, in bytes.
    fn window(&self) -> u64 {
        let streams = self.sequential_readers.load(Ordering::Relaxed).max(1);
        // All streams share the budget; three quarters of it, so that demand and short streams find room.
        let room = self.budget.limit() as u64 / 4 * 3 / streams;
        // And what is of use, but never less than what a stream begins with.
        let useful = self.pipe.bytes().map_or(u64::MAX, |bytes| (bytes / streams).max(FIRST_WINDOW));
        self.config.window_bytes.min(useful).min(room).max(self.config.block_size.into())
    }

    fn fetch_ahead(self: &Arc<Self>, reader: &Reader, parts: Vec<Range<u64>>) {
        for part in parts {
            let start = part.start;
            if !self.fetch_absent(&reader.file, part, true) {
                reader.ahead.lock().give_back(start);
                return;
            }
        }
    }

    /// Whether all of a file is in the block store, as far as its map and the index say.
    pub fn is_local(&self, file: &CachedFile) -> bool {
        self.has_stored(file, &(0..file.size()))
    }

    fn has_stored(&self, file: &CachedFile, bytes: &Range<u64>) -> bool {
        let LocalData::Packed(packed) = file.local();
        let wants = packed.wants(&self.maps, bytes);
        matches!(wants, Ok(Some(wants)) if wants.iter().all(|want| self.store.contains(&want.id)))
    }

    /// Fetches the blocks of a byte range that are nowhere yet, if there is memory for them. False: there was not.
    pub fn fetch_absent(self: &Arc<Self>, file: &Arc<CachedFile>, bytes: Range<u64>, while_open: bool) -> bool {
        if !file.has_resident() && self.has_stored(file, &bytes) {
            return true;
        }
        let LocalData::Packed(packed) = file.local();
        let span = (packed.blocks(&bytes).end - packed.blocks(&bytes).start) as usize * self.config.block_size as usize;
        self.retained.make_room(&self.budget, span);
        let Some(mut memory) = self.budget.try_take(span) else { return false };
        // Whole blocks: a part that begins inside a block was planned from a read that brings that block.
        let whole = packed.blocks(&bytes);
        let whole = whole.start * packed.block_size..(whole.end * packed.block_size).min(packed.base());
        let Ok(absent) = self.locate_absent(file, &whole) else { return true };
        for run in runs(&absent) {
            let memory = memory.split((run.end - run.start) as usize * self.config.block_size as usize);
            let (urgency, stored) = (Urgency::Ahead, None);
            self.spawn_fetch(Fetch { file: Arc::clone(file), blocks: run, urgency, memory, while_open, stored });
        }
        true
    }

    /// Marks the absent blocks of a range in flight, touching nothing else.
    pub(super) fn locate_absent(&self, file: &CachedFile, bytes: &Range<u64>) -> Result<Vec<u64>, MetaError> {
        let LocalData::Packed(packed) = file.local();
        let blocks = packed.blocks(bytes);
        let rows = self.maps.rows(file.ino(), &blocks)?;
        Ok(file.with_blocks(|states| {
            let mut take_off = |index: &u64| match states.entry(*index) {
                Entry::Vacant(entry)
                    if matches!(rows.mapped(*index), Mapped::Origin(_)) && self.cached(&rows, *index).is_none() =>
                {
                    entry.insert(BlockState::Flying(Vec::new()));
                    true
                }
                _ => false,
            };
            blocks.filter(|index| take_off(index)).collect()
        }))
    }

    /// The copy of a block of the origin in the block store.
    fn cached(&self, rows: &Rows, index: u64) -> Option<BlockId> {
        match rows.mapped(index) {
            Mapped::Origin(id) => id.filter(|id| self.store.contains(id)),
            Mapped::Local(_) | Mapped::Hole => None,
        }
    }
}

fn push_stored(parts: &mut Vec<Part>, index: u64, want: BlockWant) {
    match parts.last_mut() {
        Some(Part::Stored { wants, .. }) => wants.push(want),
        _ => parts.push(Part::Stored { first: index, wants: vec![want] }),
    }
}

/// Cuts ascending block indexes into consecutive runs.
pub(super) fn runs(blocks: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &index in blocks {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

pub(super) fn metadata_error(file: &CachedFile, error: &MetaError) -> Error {
    tracing::error!(key = &*file.key(), %error, "file map could not be read");
    Error::new(ErrorKind::Io, format!("metadata of '{}': {error}", file.key()))
}

/// One part of an answer.
pub(super) enum Data {
    Stored(Bytes),
    Fetched(Piece),
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        match self {
            Data::Stored(bytes) => bytes,
            Data::Fetched(piece) => piece.as_ref(),
        }
    }
}

/// An answer being put together from parts that arrive in any order.
pub(super) struct Assembly {
    slots: Mutex<Vec<Option<Result<Data, Error>>>>,
    missing: AtomicUsize,
    reply: Mutex<Option<ReadReply>>,
}

impl Assembly {
    pub(super) fn new(parts: usize, reply: ReadReply) -> Arc<Self> {
        let slots = Mutex::new((0..parts).map(|_| None).collect());
        Arc::new(Assembly { slots, missing: AtomicUsize::new(parts), reply: Mutex::new(Some(reply)) })
    }

    pub(super) fn fill(&self, slot: usize, outcome: Result<Data, Error>) {
        self.slots.lock()[slot] = Some(outcome);
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(reply) = self.reply.lock().take()
        {
            reply(self.join());
        }
    }

    fn join(&self) -> Result<Bytes, Error> {
        let mut slots = self.slots.lock();
        let mut parts: Vec<Data> = Vec::new();
        for slot in slots.drain(..) {
            let part = slot.expect("counted as filled")?;
            match (parts.last_mut(), part) {
                (Some(Data::Fetched(last)), Data::Fetched(next)) => match last.joined(&next) {
                    Some(both) => *last = both,
                    None => parts.push(Data::Fetched(next)),
                },
                (_, part) => parts.push(part),
            }
        }
        match parts.pop() {
            Some(Data::Stored(bytes)) if parts.is_empty() => Ok(bytes),
            Some(Data::Fetched(piece)) if parts.is_empty() => Ok(Bytes::from_owner(piece)),
            last => {
                parts.extend(last);
                let mut joined = BytesMut::with_capacity(parts.iter().map(|part| part.as_ref().len()).sum());
                parts.iter().for_each(|part| joined.extend_from_slice(part.as_ref()));
                Ok(joined.freeze())
            }
        }
    }
}
