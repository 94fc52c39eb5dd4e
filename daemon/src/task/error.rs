//! Why a task could not be made, or could not go on.

use super::TaskKind;
use crate::error::Error;
use crate::meta::MetaError;
use crate::repository::StoreError;
use std::path::PathBuf;

/// A failure of a task as a whole. What happens to single files is counted and reported instead.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No task has this number, or it was long ago.
    #[error("there is no task {0}; 'forebay task list' shows those there are")]
    NoSuchTask(u64),
    /// This version cannot do it.
    #[error("'{}' tasks are not built yet", .0.name())]
    NotBuilt(TaskKind),
    /// The task has ended.
    #[error("task {id} has ended: {state}")]
    Ended {
        /// The task.
        id: u64,
        /// How.
        state: &'static str,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The report cannot be written.
    #[error("report in '{}': {source}", path.display())]
    Report {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The report could not be delivered.
    #[error("report '{place}': {why}; it is kept in '{}'", spool.display())]
    ReportStore {
        /// Where it was to go.
        place: String,
        /// Why it did not.
        why: String,
        /// Where it is.
        spool: PathBuf,
    },
    /// The cursor is not one of this kind.
    #[error("the task's cursor is damaged")]
    Cursor,
    /// The task was canceled, or the daemon stops: a job returns this from wherever it is.
    #[error("stopped")]
    Stopped,
    /// There is room for no more in the cache.
    #[error(
        "the cache is full: '{path}', and what comes after it, was not preloaded; release something, clear pins, or preload less at a time"
    )]
    CacheFull {
        /// The first file that there was no room for.
        path: String,
    },
    /// There is no room to hold more of a snapshot.
    #[error(
        "the cache is full: '{path}', and what comes after it, is not held; delete snapshots, export, or mount with more --cache, and 'forebay snapshot materialize' goes on"
    )]
    NoRoomToHold {
        /// The first file that there was no room for.
        path: String,
    },
    /// Something of a snapshot is not held, though nothing failed.
    #[error("'{path}' is not held; 'forebay snapshot materialize' tries again")]
    NotHeld {
        /// The first path.
        path: String,
    },
    /// The store refused or failed, after all tries.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation of the file system failed.
    #[error(transparent)]
    FileSystem(#[from] Error),
    /// Metadata failed.
    #[error(transparent)]
    Metadata(#[from] MetaError),
    /// The job panicked.
    #[error("the task failed in a way it should not; the daemon's log says more")]
    Panicked,
}
