//! Materialize: brings all of a snapshot here that only the bucket has, and holds it until the snapshot is deleted.
//!
//! Files are gone through in the order of their paths, in rounds: the parts of a round are fetched many at a time, then recorded together, and only then counted. So
//! what is counted is held, also after `kill -9`. The cursor is the path of the last file that was dealt with; what is held already costs no request.
//!
//! At the end every file is looked at once more, in the metadata alone, and only if nothing is lacking the snapshot is called materialized.

use super::preload::Why;
use super::release::join;
use super::{Context, ErrorCode, Failure, Job, Step, TaskError, TaskKind, TaskRequest};
use crate::cache::PreloadError;
use crate::repository::StoreError;
use crate::vfs::{Closed, FoundFile, MaterializedFile, Materializing, Vfs, preload_parts};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use std::ops::Range;

/// Where snapshots are seen.
const SNAPSHOTS: &[u8] = b".snapshots/";
/// Parts of one round.
const ROUND: usize = 1024;
/// Parts under way at once.
const AT_ONCE: u64 = 128;
/// The same where they are large.
const LEAST_AT_ONCE: u64 = 4;

/// The materialize job.
pub struct Materialize {
    vfs: Vfs,
}

impl Materialize {
    /// Materializes snapshots of a file system.
    pub fn new(vfs: Vfs) -> Self {
        Materialize { vfs }
    }

    /// The path that such a task is about.
    pub fn path_of(snapshot: &[u8]) -> Vec<u8> {
        [SNAPSHOTS, snapshot].concat()
    }
}

fn snapshot_in(paths: &[Vec<u8>]) -> Result<Vec<u8>, TaskError> {
    let name = match paths {
        [path] => path.strip_prefix(SNAPSHOTS).filter(|name| !name.is_empty() && !name.contains(&b'/')),
        _ => None,
    };
    name.map(<[u8]>::to_vec).ok_or_else(|| TaskError::Invalid("materialize: give .snapshots/NAME, and nothing else".into()))
}

#[async_trait]
impl Job for Materialize {
    fn kind(&self) -> TaskKind {
        TaskKind::Materialize
    }

    fn check(&self, request: &TaskRequest) -> Result<(), TaskError> {
        if let Some((name, value)) = request.options.first_key_value() {
            return Err(TaskError::Invalid(format!("materialize: option {name}={value} is not known")));
        }
        self.vfs.begin_materialize(&snapshot_in(&request.paths)?)?;
        Ok(())
    }

    async fn run(&self, context: &Context) -> Result<(), TaskError> {
        let snapshot = self.vfs.begin_materialize(&snapshot_in(&context.paths())?)?;
        let window = self.vfs.preload_window();
        let path = context.paths().swap_remove(0);
        let mut pass = Pass { context, snapshot: &snapshot, path, window, round: Round::default(), has_failed: false };
        // A file's path below the snapshot is never empty: a snapshot is of a directory.
        let cursor = Some(context.cursor()).filter(|cursor| !cursor.is_empty());
        let mut walk = snapshot.walk(cursor);
        while let Some(found) = walk.next().await {
            match found {
                Ok(found) if found.is_passed => {}
                Ok(found) => pass.file(found).await?,
                Err(closed) => pass.closed(closed),
            }
        }
        pass.end_round().await?;
        let lacking = snapshot.finish().await?;
        match lacking.filter(|_| !pass.has_failed) {
            Some(below) => Err(TaskError::NotHeld { path: pass.shown(&below) }),
            None => Ok(()),
        }
    }
}

/// A file of which parts are to be brought, or have been.
struct File {
    below: Vec<u8>,
    file: MaterializedFile,
    bytes: u64,
    /// All of its parts are in this round, or were in one before.
    is_whole: bool,
    failure: Option<Why>,
}

#[derive(Default)]
struct Round {
    /// In the order of their paths. Only the last may go on in the next round.
    files: Vec<File>,
    /// Which file, and what of it.
    parts: Vec<(usize, Range<u64>)>,
    failures: Vec<Failure>,
    /// Directories among them.
    closed: u64,
}

/// One run over a snapshot.
struct Pass<'a> {
    context: &'a Context,
    snapshot: &'a Materializing,
    path: Vec<u8>,
    window: u64,
    round: Round,
    has_failed: bool,
}

impl Pass<'_> {
    async fn file(&mut self, found: FoundFile) -> Result<(), TaskError> {
        let FoundFile { below, ino, row, .. } = found;
        let file = self.snapshot.file(ino, &row)?;
        self.round.files.push(File { below, file, bytes: row.size, is_whole: false, failure: None });
        for part in preload_parts(0, row.size).filter(|part| !part.is_empty()) {
            let last = self.round.files.len() - 1;
            if self.round.files[last].failure.is_some() {
                break;
            }
            self.round.parts.push((last, part));
            if self.round.parts.len() == ROUND {
                self.end_round().await?;
            }
        }
        if let Some(file) = self.round.files.last_mut() {
            file.is_whole = true;
        }
        // Of empty files as well there are not too many in a round.
        if self.round.files.len() >= ROUND { self.end_round().await } else { Ok(()) }
    }

    fn closed(&mut self, closed: Closed) {
        self.round.closed += 1;
        self.fail(&closed.below, ErrorCode::from(closed.error.kind), closed.error.message);
    }

    fn fail(&mut self, below: &[u8], code: ErrorCode, why: String) {
        self.has_failed = true;
        let failure = Failure { path: join(&self.path, below), code, why };
        let path = String::from_utf8_lossy(&failure.path);
        tracing::warn!(%path, code = code.name(), why = failure.why, "not held for the snapshot");
        self.round.failures.push(failure);
    }

    fn shown(&self, below: &[u8]) -> String {
        String::from_utf8_lossy(&join(&self.path, below)).into_owned()
    }

    /// Brings the parts gathered so far, records them, and counts the files that are dealt with.
    async fn end_round(&mut self) -> Result<(), TaskError> {
        let stopped = self.bring().await;
        // Also what was brought before the task was stopped.
        self.snapshot.record().await?;
        let full = self.count(stopped.is_some());
        match (stopped, full) {
            (_, Some(path)) => Err(TaskError::NoRoomToHold { path }),
            (Some(error), None) => Err(error),
            (None, None) => Ok(()),
        }
    }

    /// Why it was stopped, if it was.
    async fn bring(&mut self) -> Option<TaskError> {
        let parts = std::mem::take(&mut self.round.parts);
        let bytes: u64 = parts.iter().map(|(_, part)| part.end - part.start).sum();
        let mean = (bytes / (parts.len() as u64).max(1)).max(1);
        let at_once = (self.window / mean).clamp(LEAST_AT_ONCE, AT_ONCE) as usize;
        let (context, snapshot, files) = (self.context, self.snapshot, &self.round.files);
        let bring = |(at, part): (usize, Range<u64>)| {
            let file = files[at].file.clone();
            async move {
                // All units end by themselves, those that have not begun at once.
                let _turn = match context.turn().await {
                    Ok(turn) => turn,
                    Err(error) => return (at, Err(error)),
                };
                (at, Ok(snapshot.part(&file, part).await))
            }
        };
        let outcomes: Vec<_> = stream::iter(parts).map(bring).buffer_unordered(at_once).collect().await;
        let mut stopped = None;
        for (at, outcome) in outcomes {
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => drop(self.round.files[at].failure.get_or_insert_with(|| why(error))),
                Err(error) => stopped = Some(error),
            }
        }
        stopped
    }

    /// Counts what the round came to; of a round that was stopped nothing, since it is done again. The path of a file that there was no room for.
    fn count(&mut self, was_stopped: bool) -> Option<String> {
        let full = self.round.files.iter().find(|file| file.failure.as_ref().is_some_and(|why| why.is_full));
        let full = full.map(|file| self.shown(&file.below));
        if was_stopped || full.is_some() {
            self.round = Round::default();
            return full;
        }
        let goes_on = self.round.files.pop_if(|file| !file.is_whole);
        let found = std::mem::take(&mut self.round.closed) + self.round.files.len() as u64;
        let mut step = Step { found, ..Step::default() };
        for file in std::mem::take(&mut self.round.files) {
            step.cursor = Some(file.below.clone());
            match file.failure {
                Some(Why { code, message, .. }) => self.fail(&file.below, code, message),
                None => (step.succeeded, step.bytes) = (step.succeeded + 1, step.bytes + file.bytes),
            }
        }
        self.round.files.extend(goes_on);
        step.failures = std::mem::take(&mut self.round.failures);
        self.context.record(step);
        None
    }
}

fn why(error: PreloadError) -> Why {
    let is_gone = matches!(error, PreloadError::Store(StoreError::Changed { .. } | StoreError::NotFound { .. }));
    let why = Why::from(error);
    if !is_gone {
        return why;
    }
    let message =
        "its object was replaced or deleted in the bucket before it was loaded; a new snapshot would have what is there now";
    Why { message: message.into(), ..why }
}
