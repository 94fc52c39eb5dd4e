//! Export: making the bucket say what the tree says.
//!
//! `place` says at which key an inode belongs and what is expected there; `file`, `upload` and `node` bring about its object; `removal` takes away objects whose names
//! were taken away here; `tree` goes through a directory, `auto` through the change log. Everything is conditional on the version last seen and may be done again at any time,
//! so that retries, coalesced changes and the way back after a crash are one thing.
//!
//! Invariants:
//! 1. What becomes visible under a key is one version of the file ([`crate::cache::Sending`]).
//! 2. An object is not overwritten or deleted while an inode's bytes come from it that are nowhere else.
//! 3. What somebody else put under a key is overwritten only if [`OnConflict`] says so.

mod aside;
mod auto;
mod collision;
mod file;
mod node;
mod place;
mod removal;
mod stray;
mod tree;
mod upload;

pub(super) use auto::Auto;
pub use auto::AutoExportStatus;
pub use removal::RemovalOutcome;
pub use tree::{ExportEvents, ExportTree};
pub(super) use upload::{COPY_PART, PARTS_AT_ONCE, WHOLE_UP_TO, parts_of};

use super::{ErrorCode, Inner, Vfs, metadata_error};
use crate::config::OnConflict;
use crate::error::{Error, ErrorKind};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode};
use crate::repository::{StoreError, Urgency, WriteToken};
use aside::Ended;
use collision::Sights;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// What became of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// The bucket had it already.
    Unchanged,
    /// The bucket has it now; bytes that were sent, or copied at the server.
    Sent(u64),
    /// It has no object: a special file, or gone meanwhile.
    Nothing,
    /// Passed over for a conflict.
    Skipped,
}

/// A failed export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFailure {
    /// The code for reports.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// Whether another try, without any change, may succeed.
    pub may_pass: bool,
}

impl std::fmt::Display for ExportFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl ExportFailure {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ExportFailure { code, message: message.into(), may_pass: false }
    }

    fn passing(code: ErrorCode, message: impl Into<String>) -> Self {
        ExportFailure { code, message: message.into(), may_pass: true }
    }
}

impl From<Error> for ExportFailure {
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Busy => ExportFailure::passing(ErrorCode::ResourceBusy, error.message),
            ErrorKind::Stale => ExportFailure::new(ErrorCode::S3FileDeleted, error.message),
            ErrorKind::AccessDenied => ExportFailure::passing(ErrorCode::S3AccessDenied, error.message),
            ErrorKind::TooLarge => ExportFailure::new(ErrorCode::FileSizeTooLarge, error.message),
            _ => ExportFailure::passing(ErrorCode::InternalError, error.message),
        }
    }
}

impl From<StoreError> for ExportFailure {
    fn from(error: StoreError) -> Self {
        let (code, may_pass) = match &error {
            StoreError::AccessDenied { .. } => (ErrorCode::S3AccessDenied, true),
            StoreError::NoSuchBucket { .. } => (ErrorCode::S3ObjectNotFound, true),
            StoreError::Changed { .. } | StoreError::NotFound { .. } => (ErrorCode::S3Conflict, false),
            _ => (ErrorCode::S3Error, true),
        };
        ExportFailure { code, message: error.to_string(), may_pass }
    }
}

/// The result of exporting one thing.
pub type ExportResult<T = Exported> = Result<T, ExportFailure>;

/// What exports share.
pub(super) struct Exports {
    /// Names this file system in tokens.
    tag: u32,
    /// Memory for bodies on their way, in KiB.
    memory: Arc<Semaphore>,
    memory_kib: u32,
    /// Links and directories being exported.
    under_way: parking_lot::Mutex<HashSet<Ino>>,
    /// Keys that are being written or deleted.
    keys: parking_lot::Mutex<HashSet<String>>,
    /// Counts moves of directories, before and after each.
    moves: AtomicU64,
    /// Prefixes that directories were moved from and not exported since, as of a count of moves.
    moved_from: parking_lot::Mutex<Option<(u64, Arc<Vec<String>>)>>,
    /// What was seen of the bucket of late, where something new is to go.
    sights: Sights,
}

impl Exports {
    pub(super) fn new(identity: u128, memory_bytes: u64) -> Self {
        let memory_kib = u32::try_from(memory_bytes >> 10).unwrap_or(u32::MAX).clamp(16 << 10, 1 << 22);
        Exports {
            tag: (identity >> 96) as u32 & 0xff_ffff,
            memory: Arc::new(Semaphore::new(memory_kib as usize)),
            memory_kib,
            under_way: parking_lot::Mutex::default(),
            keys: parking_lot::Mutex::default(),
            moves: AtomicU64::new(0),
            moved_from: parking_lot::Mutex::default(),
            sights: Sights::default(),
        }
    }

    /// Has nobody else write or delete a key; `None` if somebody does.
    fn lock(self: &Arc<Self>, key: &str) -> Option<KeyLock> {
        let is_free = self.keys.lock().insert(key.to_owned());
        is_free.then(|| KeyLock { exports: Arc::clone(self), key: key.to_owned() })
    }

    /// A directory is about to be moved, or was.
    pub(super) fn note_move(&self) {
        self.moves.fetch_add(1, Ordering::AcqRel);
    }

    /// The token of a write of an inode: who meets it in the bucket knows whose work it is. `write` is noted before the write is sent.
    fn token(&self, ino: Ino, write: u64) -> WriteToken {
        WriteToken::from_bits(u128::from(self.tag) << 104 | u128::from(ino.0 & INO_BITS) << 64 | u128::from(write))
    }
}

/// A key that nobody else writes or deletes.
struct KeyLock {
    exports: Arc<Exports>,
    key: String,
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        self.exports.keys.lock().remove(&self.key);
    }
}

const INO_BITS: u64 = (1 << 40) - 1;
/// Rows of the log of deletions read at a time.
const PAGE: usize = 1000;
/// How often something makes way in one export: itself, and directories above it.
const WAYS_MADE: usize = 8;

impl Vfs {
    /// What is at a path below the root, as far as it is known here: what is not was not changed here.
    pub fn known_at(&self, path: &[u8]) -> crate::error::Result<Ino> {
        let mut ino = Ino::ROOT;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let found = self.0.meta.lookup(ino, name).map_err(metadata_error)?;
            let missing = || Error::new(ErrorKind::NotFound, format!("'{}' is not there", String::from_utf8_lossy(path)));
            ino = found.ok_or_else(missing)?.ino;
        }
        Ok(ino)
    }

    /// How many changes the bucket does not have, with those of objects that are to go, or without. Looks at all of them.
    pub fn unexported(&self, with_removals: bool) -> crate::error::Result<u64> {
        let (mut count, _) = self.0.meta.count_changes().map_err(metadata_error)?;
        if !with_removals {
            return Ok(count);
        }
        let mut after = None::<String>;
        loop {
            let page = self.0.meta.doomed(after.as_deref(), PAGE).map_err(metadata_error)?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.key.clone());
            count += page.len() as u64;
        }
    }

    /// Makes the bucket have an inode as it is now.
    pub async fn export(&self, ino: Ino, on_conflict: OnConflict, urgency: Urgency) -> ExportResult {
        self.0.export(ino, on_conflict, urgency).await
    }
}

impl Inner {
    /// Makes everything recorded so far durable: what follows in the bucket must not come before it.
    async fn durable(&self) -> ExportResult<()> {
        let (done, outcome) = futures::channel::oneshot::channel();
        self.cache.sync(None, Box::new(move |result| drop(done.send(result))));
        let stopping = || Error::new(ErrorKind::ShuttingDown, "the file system is shutting down");
        Ok(outcome.await.unwrap_or_else(|_| Err(stopping()))?)
    }

    pub(super) async fn export(self: &Arc<Self>, ino: Ino, on_conflict: OnConflict, urgency: Urgency) -> ExportResult {
        for _ in 0..WAYS_MADE {
            let row = self.meta.inode(ino).map_err(metadata_error)?;
            let Some(row) = row else { return Ok(Exported::Nothing) };
            let Some(link) = &row.link else { return Ok(Exported::Nothing) };
            if !self.is_export_possible(&self.directory(link.parent)?.target) {
                // Nothing is linked there: it stays here.
                return Ok(Exported::Nothing);
            }
            if row.noarchive {
                return Ok(Exported::Skipped);
            }
            let ended = match row.kind {
                FileKind::File => self.export_file(ino, &row, on_conflict, urgency).await?,
                FileKind::Directory => self.export_directory(ino, on_conflict, urgency).await?,
                FileKind::Symlink => self.export_symlink(ino, on_conflict, urgency).await?,
                _ => return Ok(Exported::Nothing),
            };
            match ended {
                Ended::With(exported) => return Ok(exported),
                Ended::MakesWay(aside) => self.set_aside(&aside).await?,
            }
        }
        Err(ExportFailure::passing(ErrorCode::S3Conflict, "the bucket has something else under each name that it gets"))
    }
}

/// Whether a row's content is something else than its object's.
fn is_content_changed(row: &Inode) -> bool {
    row.base.is_some() || row.origin.is_none()
}
