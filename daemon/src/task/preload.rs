//! Preload: brings the data of all files below paths into the cache, in the order of their paths, many at once.
//!
//! Files are cut into parts of one GET each. Parts end in any order and are counted in order: the cursor says up to where everything was dealt with, and what is counted
//! is found by readers, also after `kill -9`. So much is under way as the machine can take in while a GET runs, whatever the number of files.
//!
//! What was preloaded stays until the task ends: when there is room for no more beside it, the task stops and says so.

use super::release::join;
use super::{Context, ErrorCode, Failure, Job, Step, TaskError, TaskKind, TaskRequest, Turn};
use crate::cache::{Preload as Loaded, PreloadError};
use crate::format::rows::PreloadCursor;
use crate::vfs::{FoundFile, PreloadFile, Vfs, preload_parts};
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Parts under way at once: of files that are smaller than a part, files.
const AT_ONCE: usize = 128;
/// Parts that are done or under way and wait to be counted, because one before them is not done.
const UNCOUNTED: usize = 4096;
/// How often what is done is counted.
const COUNT_EVERY: Duration = Duration::from_millis(250);

/// The preload job.
pub struct Preload {
    vfs: Vfs,
}

impl Preload {
    /// Preloads into a file system.
    pub fn new(vfs: Vfs) -> Self {
        Preload { vfs }
    }
}

#[async_trait]
impl Job for Preload {
    fn kind(&self) -> TaskKind {
        TaskKind::Preload
    }

    fn check(&self, request: &TaskRequest) -> Result<(), TaskError> {
        if request.paths.is_empty() {
            return Err(TaskError::Invalid("preload: no path is given".into()));
        }
        match request.options.first_key_value() {
            Some((name, value)) => Err(TaskError::Invalid(format!("preload: option {name}={value} is not known"))),
            None => Ok(()),
        }
    }

    async fn run(&self, context: &Context) -> Result<(), TaskError> {
        let cursor = match context.cursor() {
            bytes if bytes.is_empty() => PreloadCursor::default(),
            bytes => PreloadCursor::decode(&bytes).map_err(|_| TaskError::Cursor)?,
        };
        let loaded = self.vfs.begin_preload();
        let has_begun = !context.cursor().is_empty();
        for (index, path) in (0u64..).zip(context.paths()) {
            // What was done before is gone through once more, without a request: it is to stay as well.
            let passed = match index.cmp(&cursor.path) {
                std::cmp::Ordering::Less => Passed::All,
                std::cmp::Ordering::Equal if has_begun => Passed::To(cursor.clone()),
                _ => Passed::Nothing,
            };
            Below { vfs: &self.vfs, context, loaded: &loaded, index, path: &path }.run(passed).await?;
        }
        context.total_is_final();
        Ok(())
    }
}

/// What of a path was done before.
enum Passed {
    Nothing,
    To(PreloadCursor),
    All,
}

/// The preload of what is below one path.
struct Below<'a> {
    vfs: &'a Vfs,
    context: &'a Context,
    loaded: &'a Loaded,
    index: u64,
    path: &'a [u8],
}

/// A file of which parts are under way.
struct File {
    below: Vec<u8>,
    file: PreloadFile,
    has_failed: AtomicBool,
    /// Its failure is counted.
    is_told: AtomicBool,
}

/// A part that is under way, or done and not counted.
struct Part {
    below: Vec<u8>,
    /// Whether it is the first of its file, so that the file is counted as found.
    is_first: bool,
    /// Whether it is the last.
    is_last: bool,
    end: u64,
    file: Option<Arc<File>>,
    outcome: Option<Result<u64, Why>>,
}

/// Why something failed.
pub(super) struct Why {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) is_full: bool,
}

impl From<PreloadError> for Why {
    fn from(error: PreloadError) -> Self {
        let is_full = matches!(error, PreloadError::Full);
        let (code, message) = match error {
            PreloadError::Store(error) => (ErrorCode::from(&error), error.to_string()),
            PreloadError::Full => (ErrorCode::CacheFull, "there is no more room in the cache beside what is to stay".into()),
            PreloadError::Device(error) => (ErrorCode::InternalError, error.to_string()),
            PreloadError::Metadata(error) => (ErrorCode::from(error.kind), error.message),
            PreloadError::Unstable => (ErrorCode::ResourceBusy, "it changes all the time".into()),
        };
        Why { code, message, is_full }
    }
}

/// A part as it ended: its number, the bytes that were set aside for it, and those that it loaded.
type EndedPart = (u64, u64, Result<u64, Why>);

/// What is under way and what is still to be counted, in order.
struct Pump<'a> {
    below: &'a Below<'a>,
    under_way: FuturesUnordered<BoxFuture<'a, EndedPart>>,
    bytes_under_way: u64,
    parts: VecDeque<Part>,
    /// The number of the first of them.
    first: u64,
    counted: Instant,
    full_at: Option<Vec<u8>>,
}

impl<'a> Below<'a> {
    async fn run(&'a self, passed: Passed) -> Result<(), TaskError> {
        let root = match self.vfs.find(self.path).await {
            Ok(root) => root,
            Err(error) => {
                if matches!(passed, Passed::Nothing) {
                    let code = ErrorCode::from(error.kind);
                    self.context.record(self.failure(&[], code, error.message));
                }
                return Ok(());
            }
        };
        let (to, offset, is_all) = match passed {
            Passed::Nothing => (None, 0, false),
            Passed::To(cursor) => (Some(cursor.below), cursor.offset, false),
            Passed::All => (None, 0, true),
        };
        let mut walk = self.vfs.walk_files(root, !is_all, to.clone());
        let mut pump = Pump {
            below: self,
            under_way: FuturesUnordered::new(),
            bytes_under_way: 0,
            parts: VecDeque::new(),
            first: 0,
            counted: Instant::now(),
            full_at: None,
        };
        let mut outcome = Ok(());
        while pump.full_at.is_none() && outcome.is_ok() {
            let found = match walk.next().await {
                None => break,
                Some(Ok(found)) => found,
                Some(Err(closed)) => {
                    pump.closed(closed.below, ErrorCode::from(closed.error.kind), closed.error.message);
                    continue;
                }
            };
            let is_last_passed = to.as_ref().is_some_and(|to| *to == found.below);
            let from = if is_last_passed { offset } else { 0 };
            if is_all || (found.is_passed && !(is_last_passed && from < found.row.size)) {
                self.vfs.keep_preloaded(self.loaded, found.ino, &found.row)?;
                continue;
            }
            outcome = pump.file(found, from).await;
        }
        pump.drain().await;
        if let Some(path) = pump.full_at {
            return Err(TaskError::CacheFull { path: String::from_utf8_lossy(&join(self.path, &path)).into_owned() });
        }
        outcome
    }

    fn failure(&self, below: &[u8], code: ErrorCode, why: String) -> Step {
        let failure = Failure { path: join(self.path, below), code, why };
        Step { found: 1, failures: vec![failure], ..Step::default() }
    }
}

impl<'a> Pump<'a> {
    /// Has a file brought, from an offset on; returns once its last part is under way.
    async fn file(&mut self, found: FoundFile, from: u64) -> Result<(), TaskError> {
        let FoundFile { below, ino, row, .. } = found;
        let file = self.below.vfs.preload_file(ino, &row)?;
        let file = Arc::new(File { below, file, has_failed: AtomicBool::new(false), is_told: AtomicBool::new(false) });
        let mut is_first = from == 0;
        for part in preload_parts(from, row.size) {
            self.wait_for_room(part.end - part.start).await;
            if self.full_at.is_some() {
                return Ok(());
            }
            if file.has_failed.load(Ordering::Acquire) {
                // No part of it is needed any more; this is the last one, so that a task that goes on later passes over the file.
                self.push(&file, part, is_first, row.size, Some(Ok(0)));
                self.parts.back_mut().into_iter().for_each(|last| (last.is_last, last.end) = (true, u64::MAX));
                return Ok(());
            }
            let turn = self.turn().await?;
            let number = self.first + self.parts.len() as u64;
            let len = part.end - part.start;
            self.push(&file, part.clone(), is_first, row.size, None);
            is_first = false;
            self.bytes_under_way += len;
            let (file, loaded) = (Arc::clone(&file), self.below.loaded);
            let load = async move {
                let outcome = file.file.part(loaded, part).await.map_err(Why::from);
                drop(turn);
                (number, len, outcome)
            };
            self.under_way.push(load.boxed());
        }
        Ok(())
    }

    /// Waits for a turn, and sees to what is under way meanwhile: it has turns that somebody else may wait for.
    async fn turn(&mut self) -> Result<Turn, TaskError> {
        let context = self.below.context;
        let turn = context.turn();
        tokio::pin!(turn);
        loop {
            tokio::select! {
                turn = &mut turn => return turn,
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.ended(done),
            }
        }
    }

    fn push(&mut self, file: &Arc<File>, part: Range<u64>, is_first: bool, size: u64, outcome: Option<Result<u64, Why>>) {
        let is_last = part.end >= size;
        let end = if is_last { u64::MAX } else { part.end };
        let file = Some(Arc::clone(file));
        let below = file.as_ref().map(|file| file.below.clone()).unwrap_or_default();
        self.parts.push_back(Part { below, is_first, is_last, end, file, outcome });
    }

    /// A directory could not be gone through.
    fn closed(&mut self, below: Vec<u8>, code: ErrorCode, message: String) {
        let outcome = Some(Err(Why { code, message, is_full: false }));
        self.parts.push_back(Part { below, is_first: true, is_last: true, end: u64::MAX, file: None, outcome });
    }

    /// Waits until so many more bytes may be under way.
    async fn wait_for_room(&mut self, bytes: u64) {
        loop {
            let window = self.below.vfs.preload_window();
            let is_full =
                self.under_way.len() >= AT_ONCE || self.parts.len() >= UNCOUNTED || self.bytes_under_way + bytes > window;
            if !is_full || self.under_way.is_empty() {
                break;
            }
            self.next().await;
        }
        // What is done meanwhile is taken note of, too.
        while self.under_way.next().now_or_never().flatten().map(|done| self.ended(done)).is_some() {}
        if self.counted.elapsed() >= COUNT_EVERY {
            self.count().await;
        }
    }

    async fn next(&mut self) {
        if let Some(done) = self.under_way.next().await {
            self.ended(done);
        }
        if self.counted.elapsed() >= COUNT_EVERY {
            self.count().await;
        }
    }

    fn ended(&mut self, (number, len, outcome): (u64, u64, Result<u64, Why>)) {
        self.bytes_under_way -= len;
        let part = &mut self.parts[(number - self.first) as usize];
        if let (Err(why), Some(file)) = (&outcome, &part.file) {
            file.has_failed.store(true, Ordering::Release);
            if why.is_full && self.full_at.is_none() {
                self.full_at = Some(part.below.clone());
            }
        }
        part.outcome = Some(outcome);
    }

    /// Counts what is done, up to the first part that is not.
    async fn count(&mut self) {
        self.counted = Instant::now();
        if self.parts.front().is_none_or(|part| part.outcome.is_none()) {
            return;
        }
        // Counted is what a reader finds, whatever happens to this process.
        self.below.vfs.preloaded_is_recorded().await;
        let mut step = Step::default();
        while let Some(Part { outcome: Some(_), .. }) = self.parts.front() {
            let Some(part) = self.parts.pop_front() else { break };
            self.first += 1;
            self.count_part(part, &mut step);
        }
        self.below.context.record(step);
    }

    fn count_part(&self, part: Part, step: &mut Step) {
        step.found += u64::from(part.is_first);
        let has_failed = part.file.as_ref().is_some_and(|file| file.has_failed.load(Ordering::Acquire));
        match part.outcome {
            Some(Ok(bytes)) => step.bytes += bytes,
            Some(Err(why)) => {
                // Each file fails once, however many of its parts do.
                let is_told = part.file.as_ref().is_some_and(|file| file.is_told.swap(true, Ordering::AcqRel));
                if !is_told {
                    let path = join(self.below.path, &part.below);
                    step.failures.push(Failure { path, code: why.code, why: why.message });
                }
            }
            None => {}
        }
        if part.is_last && !has_failed && part.file.is_some() {
            step.succeeded += 1;
        }
        let cursor = PreloadCursor { path: self.below.index, below: part.below, offset: part.end };
        step.cursor = Some(cursor.encode());
    }

    async fn drain(&mut self) {
        while !self.under_way.is_empty() {
            self.next().await;
        }
        self.count().await;
    }
}
