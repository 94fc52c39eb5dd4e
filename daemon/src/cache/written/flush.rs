//! The thread that turns dirty memory into local data, in rounds.
//!
//! A round takes the dirty blocks of some files, puts them into the block store, waits until the devices have them, records all of it in
//! one metadata transaction, and makes that durable. It begins when somebody asks for a file to be synced, when dirty memory is half full, or a second
//! after the first write; the last is the group commit.

use super::DoneReply;
use super::copy::Sharing;
use super::intent::LOG_BYTES;
use super::sent::Sent;
use super::state::{Recorded, Snapshot};
use super::still::{AtStandstill, Still};
use super::write::Waiting;
use crate::block::PutError;
use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::error::{Error, ErrorKind};
use crate::ids::{BlockId, BlockIndex, Ino};
use crate::meta::{Content, FileContent};
use futures::channel::oneshot;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long something is dirty before a round takes it.
const GROUP_COMMIT: Duration = Duration::from_secs(1);
/// How long after a failed round the next one is tried.
const RETRY: Duration = Duration::from_millis(500);

/// Something to be done between rounds, or a round to be done now.
pub(in crate::cache) enum Job {
    /// Makes a file durable; without one, the changes of names and attributes so far.
    Sync { file: Option<Arc<CachedFile>>, reply: DoneReply },
    /// Has a round record what the intent log has of a file.
    Settle { file: Arc<CachedFile>, reply: DoneReply },
    /// Records that a file was sent to the bucket.
    Sent(Sent),
    /// Cuts a file.
    Cut(Cut),
    /// Makes blocks of one file blocks of another.
    Share(Sharing),
    /// Frees what files that are gone still count for.
    MakeRoom(DoneReply),
    /// Does something while nobody writes.
    StandStill(AtStandstill),
}

/// A file to be cut.
pub(in crate::cache) struct Cut {
    pub(super) file: Arc<CachedFile>,
    /// To so many bytes.
    pub(super) size: u64,
    pub(super) now_ns: i64,
    /// Whether what was written before is on its device.
    pub(super) flushed: bool,
    pub(super) reply: DoneReply,
}

#[derive(Default)]
struct Queue {
    dirty: HashMap<Ino, Arc<CachedFile>>,
    /// When something of `dirty` got dirty first, since a round took everything.
    since: Option<Instant>,
    jobs: VecDeque<Job>,
    parked: VecDeque<Waiting>,
    /// Not before this: the last round failed.
    not_before: Option<Instant>,
    closing: bool,
}

/// The flusher's queue and thread.
pub(in crate::cache) struct Flusher {
    queue: Mutex<Queue>,
    wake: Condvar,
    used: AtomicUsize,
    /// Bytes in the intent log.
    logged: AtomicUsize,
    limit: usize,
    durable: bool,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) still: Still,
}

/// A file in a round.
struct Rounded {
    file: Arc<CachedFile>,
    snapshot: Snapshot,
    outcome: Arc<Mutex<PutOutcome>>,
}

#[derive(Default)]
struct PutOutcome {
    blocks: Vec<(u64, Content)>,
    failure: Option<PutError>,
}

impl Flusher {
    pub(in crate::cache) fn new(limit: usize, durable: bool) -> Self {
        Flusher {
            queue: Mutex::default(),
            wake: Condvar::new(),
            used: AtomicUsize::new(0),
            logged: AtomicUsize::new(0),
            limit,
            durable,
            thread: Mutex::default(),
            still: Still::default(),
        }
    }

    pub(in crate::cache) fn start(cache: &Arc<Cache>) {
        let shared = Arc::clone(cache);
        let thread = std::thread::Builder::new().name("fby-flush".into()).spawn(move || shared.flush_rounds());
        *cache.flusher.thread.lock() = Some(thread.expect("the process can start a thread while starting up"));
    }

    /// Dirty memory, in bytes.
    pub(in crate::cache) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.used() >= self.limit
    }

    /// Whether the devices have room for what is to be written.
    pub(super) fn admit(&self, cache: &Cache, bytes: usize) -> Result<(), Error> {
        let wanted = (self.used() + bytes) as u64;
        if cache.store.room_for_local() < wanted && !cache.free_room(wanted) {
            if !cache.store.is_in_service() {
                return Err(Error::new(ErrorKind::Io, "no device of the cache is in service"));
            }
            return Err(Error::new(ErrorKind::NoSpace, "the cache is full of data that exists only here"));
        }
        Ok(())
    }

    pub(super) fn park(&self, waiting: Waiting) {
        self.queue.lock().parked.push_back(waiting);
        self.wake.notify_all();
    }

    pub(super) fn push(&self, job: Job) {
        self.queue.lock().jobs.push_back(job);
        self.wake.notify_all();
    }

    /// Memory grew. Called under the file's lock, so that nobody gives back what was not counted yet.
    pub(super) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes in the intent log.
    pub(super) fn logged(&self) -> usize {
        self.logged.load(Ordering::Relaxed)
    }

    /// Intents were added.
    pub(super) fn note_logged(&self, bytes: usize) {
        self.logged.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Intents are gone.
    pub(super) fn forget_logged(&self, bytes: usize) {
        self.logged.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A file got dirty.
    pub(super) fn note_dirty(&self, file: &Arc<CachedFile>) {
        let is_new = !std::mem::replace(&mut file.written().lock().queued, true);
        let mut is_first = false;
        if is_new {
            let mut queue = self.queue.lock();
            queue.dirty.insert(file.ino(), Arc::clone(file));
            queue.since.get_or_insert_with(Instant::now);
            is_first = queue.dirty.len() == 1;
        }
        if is_first || self.used() > self.limit / 2 {
            self.wake.notify_all();
        }
    }

    /// Every file of which something may not be in the metadata yet.
    pub(super) fn all_dirty(&self) -> Vec<Arc<CachedFile>> {
        self.queue.lock().dirty.values().cloned().collect()
    }

    /// The file, if something of it is not in the metadata yet.
    pub(in crate::cache) fn dirty_file(&self, ino: Ino) -> Option<Arc<CachedFile>> {
        self.queue.lock().dirty.get(&ino).cloned()
    }

    /// The dirty files that nobody can reach any more.
    pub(super) fn unreachable(&self) -> Vec<Arc<CachedFile>> {
        let queue = self.queue.lock();
        queue.dirty.values().filter(|file| file.is_unlinked() && !file.has_handles()).cloned().collect()
    }

    fn is_due(&self, queue: &Queue) -> bool {
        let now = Instant::now();
        let held_back = queue.not_before.is_some_and(|at| now < at);
        let old = queue.since.is_some_and(|since| now.duration_since(since) >= GROUP_COMMIT);
        let much = self.used() > self.limit / 2 || self.logged() > LOG_BYTES;
        !queue.dirty.is_empty() && !held_back && (old || much || !queue.parked.is_empty())
    }

    /// Waits for something to do; `None` once closed.
    fn next(&self) -> Option<(VecDeque<Job>, Vec<Arc<CachedFile>>)> {
        let mut queue = self.queue.lock();
        loop {
            // Jobs without end must not keep rounds waiting.
            let due = self.is_due(&queue) || (queue.closing && queue.jobs.is_empty() && !queue.dirty.is_empty());
            if due || !queue.jobs.is_empty() {
                let mut files = Vec::new();
                if due {
                    queue.since = None;
                    files.extend(queue.dirty.values().cloned());
                }
                return Some((std::mem::take(&mut queue.jobs), files));
            }
            if !queue.parked.is_empty() && !self.is_full() {
                return Some((VecDeque::new(), Vec::new()));
            }
            if queue.closing {
                return None;
            }
            let idle = queue.dirty.is_empty() && queue.parked.is_empty();
            let pause = if idle { Duration::from_secs(60) } else { Duration::from_millis(50) };
            self.wake.wait_for(&mut queue, pause);
        }
    }
}

impl Cache {
    fn flush_rounds(self: Arc<Self>) {
        while let Some((jobs, files)) = self.flusher.next() {
            self.do_jobs(jobs);
            self.flush_files(&files);
            self.resume_parked();
            self.give_up_when_closing();
        }
    }

    /// Makes a file durable, data first, or without one all changes of names and attributes; in a scratch deployment there is nothing to wait for.
    pub fn sync(&self, file: Option<&Arc<CachedFile>>, reply: DoneReply) {
        if !self.flusher.durable {
            return reply(Ok(()));
        }
        self.flusher.push(Job::Sync { file: file.cloned(), reply });
    }

    /// Begins to make durable what was written to a file, if some of it is only in memory. `None`: there is nothing to wait for.
    pub fn sync_dirty(&self, ino: Ino) -> Option<oneshot::Receiver<Result<(), Error>>> {
        let file = self.flusher.dirty_file(ino).filter(|file| file.written().lock().is_busy())?;
        let (done, outcome) = oneshot::channel();
        let (written, known) = (Arc::clone(&file), file.write_errors().count());
        let told = move |result: Result<(), Error>| {
            let failed = written.write_errors().after(known);
            drop(done.send(result.and_then(|()| failed.map_or(Ok(()), Err))));
        };
        self.sync(Some(&file), Box::new(told));
        Some(outcome)
    }

    /// Flushes what is dirty and stops the thread.
    pub(in crate::cache) fn close_flusher(&self) {
        self.flusher.queue.lock().closing = true;
        self.flusher.wake.notify_all();
        if let Some(thread) = self.flusher.thread.lock().take() {
            let _ = thread.join();
        }
    }

    fn do_jobs(self: &Arc<Self>, jobs: VecDeque<Job>) {
        let mut syncs: Vec<(Option<Arc<CachedFile>>, DoneReply)> = Vec::new();
        for job in jobs {
            match job {
                Job::Sync { file, reply } => syncs.push((file, reply)),
                Job::Settle { file, reply } => {
                    self.sync_all(std::mem::take(&mut syncs));
                    self.flush_files(&[file]);
                    reply(Ok(()));
                }
                Job::Sent(sent) => {
                    let outcome = self.record_sent(&sent);
                    sent.reply(outcome);
                }
                Job::Cut(cut) => {
                    self.sync_all(std::mem::take(&mut syncs));
                    self.cut(cut);
                }
                Job::Share(sharing) => {
                    self.sync_all(std::mem::take(&mut syncs));
                    self.share(sharing);
                }
                Job::MakeRoom(reply) => reply(self.make_room_now()),
                Job::StandStill(at) => {
                    self.sync_all(std::mem::take(&mut syncs));
                    self.stand_still(at);
                }
            }
        }
        self.sync_all(syncs);
    }

    fn cut(self: &Arc<Self>, cut: Cut) {
        // What was written below the cut comes first: else a crash would leave an older file, cut.
        let block_size = u64::from(self.config.block_size);
        if cut.size == 0 && self.can_be_emptied(&cut.file) {
            let outcome = self.empty(&cut.file, cut.now_ns);
            return (cut.reply)(outcome);
        }
        let is_unrecorded = || {
            let state = cut.file.written().lock();
            state.anew || !state.log.places.is_empty()
        };
        let is_below = || cut.file.written().lock().next_held(0).is_some_and(|first| first * block_size < cut.size);
        if is_unrecorded() || (!cut.flushed && is_below()) {
            self.flush_files(&[Arc::clone(&cut.file)]);
        }
        if is_unrecorded() {
            let message = format!("'{}' cannot be cut: what was synced of it could not be stored", cut.file.key());
            return (cut.reply)(Err(Error::new(ErrorKind::Io, message)));
        }
        let Some(index) = self.needed_to_cut(&cut.file, cut.size) else {
            let outcome = self.cut_now(&cut.file, cut.size, cut.now_ns);
            self.flusher.note_dirty(&cut.file);
            return (cut.reply)(outcome);
        };
        let (cache, file) = (Arc::clone(self), Arc::clone(&cut.file));
        let then = move |outcome: Result<(), Error>| match outcome {
            Ok(()) => cache.flusher.push(Job::Cut(Cut { flushed: true, ..cut })),
            Err(error) => (cut.reply)(Err(error)),
        };
        self.load(&file, index, Box::new(then));
    }

    fn sync_all(self: &Arc<Self>, syncs: Vec<(Option<Arc<CachedFile>>, DoneReply)>) {
        if syncs.is_empty() {
            return;
        }
        let mut files: HashMap<Ino, Arc<CachedFile>> = HashMap::new();
        files.extend(syncs.iter().flat_map(|(file, _)| file).map(|file| (file.ino(), Arc::clone(file))));
        let rounds = self.log(files.into_values().collect());
        self.flush_files(&rounds);
        let durable = self.make_durable().map_err(|error| Error::new(ErrorKind::Io, format!("metadata: {error}")));
        syncs.into_iter().for_each(|(_, reply)| reply(durable.clone()));
    }

    /// Lets go of what deleted files still hold; whether there is room then.
    fn free_room(&self, wanted: u64) -> bool {
        let freed = self.free_orphans().and_then(|_| self.make_durable());
        if let Err(error) = freed {
            tracing::warn!(%error, "space of deleted files could not be freed");
        }
        self.store.room_for_local() >= wanted
    }

    /// One round. What fails stays dirty, and the file knows of it.
    pub(super) fn flush_files(self: &Arc<Self>, files: &[Arc<CachedFile>]) {
        let began = Instant::now();
        let round: Vec<Rounded> = files.iter().filter_map(|file| self.begin(file, files.len() == 1)).collect();
        if !round.is_empty() {
            let (count, put) = (round.len(), began.elapsed());
            // Everything put is on its device after this, and in a persistent deployment durable: data before metadata.
            let flushed = if self.flusher.durable { self.store.flush() } else { self.store.drain() };
            let stored = began.elapsed();
            let (good, bad): (Vec<_>, Vec<_>) =
                round.into_iter().partition(|rounded| flushed.is_ok() && rounded.outcome.lock().failure.is_none());
            let failed = !bad.is_empty();
            for rounded in bad {
                let failure = rounded.outcome.lock().failure.clone().or_else(|| flushed.as_ref().err().cloned());
                self.give_up(&rounded, &put_error(&rounded.file, failure));
            }
            let failed = self.commit(good) || failed;
            if let Err(error) = self.make_durable() {
                tracing::error!(%error, "a group commit could not be made durable");
            }
            tracing::debug!(files = count, ?put, ?stored, all = ?began.elapsed(), used = self.flusher.used(), "round of writing");
            self.flusher.queue.lock().not_before = failed.then(|| Instant::now() + RETRY);
        }
        self.forget_clean();
    }

    /// Puts what is dirty of a file, which is `alone` in its round or not.
    fn begin(self: &Arc<Self>, file: &Arc<CachedFile>, alone: bool) -> Option<Rounded> {
        let block_size = u64::from(self.config.block_size);
        let mut state = file.written().lock();
        if file.is_unlinked() && !file.has_handles() {
            self.flusher.forget_logged(state.log.bytes);
            let freed = state.discard();
            drop(state);
            self.maps.is_recorded(file.ino());
            self.flusher.give_back(freed);
            return None;
        }
        let snapshot = state.begin_flush(block_size)?;
        drop(state);
        let outcome = Arc::new(Mutex::new(PutOutcome::default()));
        for (index, bytes) in &snapshot.blocks {
            if bytes.iter().all(|byte| *byte == 0) {
                outcome.lock().blocks.push((*index, Content::Zeros));
                continue;
            }
            let (index, result) = (*index, Arc::clone(&outcome));
            let place = self.array.place(file.layout(), file.ino().0, index * block_size);
            let done = move |put: Result<BlockId, PutError>| {
                let mut outcome = result.lock();
                match put {
                    Ok(id) => outcome.blocks.push((index, Content::Block(id))),
                    Err(error) => outcome.failure = Some(error),
                }
            };
            if snapshot.blocks.len() == 1 && alone {
                self.store.put_local_here(bytes.clone(), place, Box::new(done));
            } else {
                self.store.put_local(bytes.clone(), place, Box::new(done));
            }
        }
        Some(Rounded { file: Arc::clone(file), snapshot, outcome })
    }

    /// Records a round in the metadata; whether that failed.
    fn commit(&self, round: Vec<Rounded>) -> bool {
        if round.is_empty() {
            return false;
        }
        let _references = self.references.lock();
        let contents: Vec<FileContent> = round.iter().map(content_of).collect();
        match self.meta.write_content(&contents) {
            Ok(recorded) => {
                for ((rounded, content), allocated) in round.iter().zip(&contents).zip(recorded.allocated) {
                    self.show(rounded, content, allocated);
                }
                self.release(&recorded.released);
                false
            }
            Err(error) => {
                for rounded in &round {
                    let message = format!("'{}' could not be recorded: {error}", rounded.file.key());
                    self.give_up(rounded, &Error::new(ErrorKind::Io, message));
                }
                true
            }
        }
    }

    /// Lets readers find flushed blocks by the map, then lets memory go.
    fn show(&self, rounded: &Rounded, content: &FileContent, allocated: u64) {
        let file = &rounded.file;
        for (_, block) in &content.blocks {
            if let Content::Block(id) = block {
                self.store.keep(id);
            }
        }
        // Map and count change in one step for whoever asks how much the file allocates.
        let mut state = file.written().lock();
        for (index, block) in &content.blocks {
            self.maps.show_local(file.ino(), BlockIndex(*index), content.mapped(*index, *block));
        }
        if content.anew {
            self.maps.is_recorded(file.ino());
        }
        state.recorded = Recorded { size: content.size, allocated };
        let freed = state.end_flush(&rounded.snapshot, true);
        drop(state);
        self.flusher.give_back(freed);
        self.flusher.forget_logged(rounded.snapshot.log.bytes);
    }

    fn give_up(&self, rounded: &Rounded, error: &Error) {
        tracing::error!(key = &*rounded.file.key(), %error, "written data could not be stored; it stays in memory and is tried again");
        for (_, block) in &rounded.outcome.lock().blocks {
            if let Content::Block(id) = block {
                self.store.discard(id, self.may_be_referenced(id.fingerprint()));
            }
        }
        rounded.file.write_errors().note(error.clone());
        let freed = rounded.file.written().lock().end_flush(&rounded.snapshot, false);
        self.flusher.give_back(freed);
    }

    fn forget_clean(&self) {
        let mut queue = self.flusher.queue.lock();
        // Dropped after the lock: the last owner of a file frees what memory it has of it.
        let is_clean = |file: &CachedFile| {
            let mut state = file.written().lock();
            state.queued = state.is_busy();
            if !state.queued {
                // For a write that came to nothing.
                state.reservation.take().give_back();
            }
            !state.queued
        };
        let clean: Vec<_> = queue.dirty.extract_if(|_, file| is_clean(file)).collect();
        // A round for some files leaves the others as old as they were.
        queue.since = if queue.dirty.is_empty() { None } else { queue.since.or_else(|| Some(Instant::now())) };
        drop(queue);
        drop(clean);
    }

    /// At the end there is no later: what could not be stored in the last round is lost, and said so.
    fn give_up_when_closing(&self) {
        let mut queue = self.flusher.queue.lock();
        if !queue.closing || queue.not_before.is_none() {
            return;
        }
        for (_, file) in queue.dirty.drain() {
            tracing::error!(key = &*file.key(), "written data is lost: it could not be stored before the end");
        }
        for waiting in queue.parked.drain(..) {
            (waiting.reply)(Err(Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")));
        }
    }

    fn resume_parked(self: &Arc<Self>) {
        while !self.flusher.is_full() {
            let Some(waiting) = self.flusher.queue.lock().parked.pop_front() else { return };
            self.go_on(waiting);
        }
    }
}

fn content_of(rounded: &Rounded) -> FileContent {
    let mut blocks = rounded.outcome.lock().blocks.clone();
    blocks.sort_unstable_by_key(|(index, _)| *index);
    let snapshot = &rounded.snapshot;
    FileContent {
        ino: rounded.file.ino(),
        size: snapshot.size,
        base: snapshot.base,
        block_size: snapshot.block_size,
        mtime_ns: rounded.file.written().lock().mtime_of(snapshot),
        ctime_ns: snapshot.ctime_ns,
        blocks,
        reserved: snapshot.reserved.clone(),
        intents: snapshot.log.places.clone(),
        anew: snapshot.anew,
    }
}

fn put_error(file: &CachedFile, error: Option<PutError>) -> Error {
    match error {
        Some(PutError::NoSpace) => Error::new(ErrorKind::NoSpace, format!("no space for '{}'", file.key())),
        Some(error) => Error::new(ErrorKind::Io, format!("'{}': {error}", file.key())),
        None => Error::new(ErrorKind::Io, format!("'{}' could not be stored", file.key())),
    }
}
