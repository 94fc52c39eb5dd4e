//! The seam between tasks and what they do: a kind of task is a [`Job`], and is given a [`Context`].

use super::progress::{Stop, Task};
use super::turns::Turns;
use super::{ErrorCode, TaskError, TaskKind, TaskRequest};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

pub use super::turns::Turn;

/// A kind of task.
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// Which kind this is.
    fn kind(&self) -> TaskKind;

    /// Refuses a request that makes no sense, before it becomes a task. Must not take long: somebody waits.
    fn check(&self, request: &TaskRequest) -> Result<(), TaskError>;

    /// Does it, from the context's cursor on. `Ok` means that it went to the end, however many files failed; a job that is stopped returns
    /// [`TaskError::Stopped`] at the next unit's boundary and is called again, with the cursor it recorded last, at the next mount
    /// (unless it was canceled).
    async fn run(&self, context: &Context) -> Result<(), TaskError>;
}

/// A file that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The file, below the root.
    pub path: Vec<u8>,
    /// Why.
    pub code: ErrorCode,
    /// Why, in words.
    pub why: String,
}

/// What was done, counted together with the cursor that says so.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Files found that were not counted in the total before.
    pub found: u64,
    /// Files done.
    pub succeeded: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files that failed.
    pub failures: Vec<Failure>,
    /// Where to go on after this; `None` leaves the cursor.
    pub cursor: Option<Vec<u8>>,
}

/// What a job is given.
#[derive(Clone)]
pub struct Context {
    task: Arc<Task>,
    turns: Turns,
    stop: watch::Receiver<Stop>,
}

impl Context {
    pub(super) fn new(task: Arc<Task>, turns: Turns) -> Self {
        let stop = task.stop.subscribe();
        Context { task, turns, stop }
    }

    /// The task's number.
    pub fn id(&self) -> u64 {
        self.task.id
    }

    /// What it is about: paths below the root, without a slash in front.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        self.task.progress.lock().row.paths.clone()
    }

    /// An option of the request.
    pub fn option(&self, name: &str) -> Option<String> {
        self.task.progress.lock().row.options.get(name).cloned()
    }

    /// All options of the request.
    pub fn options(&self) -> BTreeMap<String, String> {
        self.task.progress.lock().row.options.clone()
    }

    /// The cursor recorded last; empty at the start.
    pub fn cursor(&self) -> Vec<u8> {
        self.task.progress.lock().row.cursor.clone()
    }

    /// When the task was asked for, ns since the Unix epoch.
    pub fn created_ns(&self) -> i64 {
        self.task.progress.lock().row.created_ns
    }

    /// When the task first began, ns since the Unix epoch; the same after a restart.
    pub fn started_ns(&self) -> i64 {
        let progress = self.task.progress.lock();
        progress.row.started_ns.unwrap_or(progress.row.created_ns)
    }

    /// Whether the job is to end: canceled, or the daemon stops.
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow() != Stop::No
    }

    /// Whether it was canceled.
    pub fn is_canceled(&self) -> bool {
        *self.stop.borrow() == Stop::Cancel
    }

    /// Waits for a turn to do one unit of work: a request and what follows from it, about as much as a hundredth of a second or one file. Hold
    /// it while doing that and drop it then. A unit must not wait for another turn of its own task.
    pub async fn turn(&self) -> Result<Turn, TaskError> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop != Stop::No) => Err(TaskError::Stopped),
            turn = self.turns.acquire(self.task.id) => Ok(turn),
        }
    }

    /// Counts and records what was done. Cheap: it reaches the metadata once a second, with everything recorded until then.
    pub fn record(&self, step: Step) {
        self.task.record(step);
    }

    /// A file that is done.
    pub fn succeeded(&self, bytes: u64) {
        self.record(Step { succeeded: 1, bytes, ..Step::default() });
    }

    /// A file that failed.
    pub fn failed(&self, path: &[u8], code: ErrorCode, why: impl Into<String>) {
        let failure = Failure { path: path.to_vec(), code, why: why.into() };
        self.record(Step { failures: vec![failure], ..Step::default() });
    }

    /// Files found, beside those found before.
    pub fn found(&self, files: u64) {
        self.record(Step { found: files, ..Step::default() });
    }

    /// A guess of how many files there will be, until the total is final.
    pub fn expect(&self, files: u64) {
        self.task.progress.lock().expected = Some(files);
    }

    /// All files are found: the total is one, and progress can be told as a share of it.
    pub fn total_is_final(&self) {
        self.task.total_is_final();
    }
}
