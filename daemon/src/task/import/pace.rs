//! What drives a walk over keys, and what becomes of what it finds: a task that somebody asked for, or the watch over a bucket.

use crate::meta::Missing;
use crate::task::{Context, Step, TaskError, Turn};
use crate::vfs::{ImportDir, ImportPart, Unread, Vfs};
use async_trait::async_trait;

/// Spans listed at once. Enough to hide 100 ms a page at 50,000 keys a second, and some for what follows from them.
const LISTINGS: usize = 12;

/// The driver of a walk.
#[async_trait]
pub(in crate::task) trait Pace: Clone + Send + Sync + 'static {
    /// Leave to do one unit of work.
    type Turn: Send + 'static;
    /// Spans listed at once.
    fn listings(&self) -> usize;
    /// Waits for a turn to do one unit of work.
    async fn turn(&self) -> Result<Self::Turn, TaskError>;
    /// Whether the walk is to end.
    fn is_stopped(&self) -> bool;
    /// When it began, ns since the Unix epoch.
    fn started_ns(&self) -> i64;
    /// Counts what was done.
    fn record(&self, step: Step);
    /// Takes over what was listed. Returns the objects whose metadata is to be read.
    async fn merge(&self, parts: Vec<ImportPart>) -> Result<Vec<Unread>, TaskError>;
    /// Settles one name by asking for it.
    async fn settle(&self, dir: &ImportDir, name: &str) -> Result<Vec<Unread>, TaskError>;
    /// Whether directories in which nobody has looked are left out.
    fn passes_over(&self) -> bool;
    /// Whether a directory is complete once the walk was everywhere in it.
    fn completes(&self, dir: &ImportDir) -> bool;
}

/// A task's walk: everything is taken over.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) context: Context,
    pub(super) vfs: Vfs,
    pub(super) missing: Missing,
}

#[async_trait]
impl Pace for Asked {
    type Turn = Turn;

    fn listings(&self) -> usize {
        LISTINGS
    }

    async fn turn(&self) -> Result<Turn, TaskError> {
        self.context.turn().await
    }

    fn is_stopped(&self) -> bool {
        self.context.is_stopped()
    }

    fn started_ns(&self) -> i64 {
        self.context.started_ns()
    }

    fn record(&self, step: Step) {
        self.context.record(step);
    }

    async fn merge(&self, parts: Vec<ImportPart>) -> Result<Vec<Unread>, TaskError> {
        Ok(self.vfs.import_merge(parts, self.missing).await?)
    }

    async fn settle(&self, dir: &ImportDir, name: &str) -> Result<Vec<Unread>, TaskError> {
        Ok(self.vfs.import_name(dir, name, self.missing).await?)
    }

    fn passes_over(&self) -> bool {
        false
    }

    fn completes(&self, _: &ImportDir) -> bool {
        true
    }
}
