//! Tasks: what somebody asked for, how far it has come, and where it goes on.
//!
//! ```text
//! version  kind:1 state:1 flags:1  created: le64  [started: le64] [ended: le64]
//!          total succeeded failed bytes: numbers  last_error: counted
//!          [report: counted  reported: number]  paths: number, then each: counted  options: number, then each: name value: counted
//!          cursor: counted
//! ```

use super::RowError;
use super::wire::{Reader, Writer};
use std::collections::BTreeMap;

const STARTED: u8 = 1;
const ENDED: u8 = 2;
const TOTAL_IS_FINAL: u8 = 4;
const REPORT: u8 = 8;

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TaskKind {
    /// Brings names and attributes from the bucket.
    Import = 0,
    /// Brings changes to the bucket.
    Export = 1,
    /// Drops data that the bucket has.
    Release = 2,
    /// Fetches data.
    Preload = 3,
    /// Fetches what the bucket has of a snapshot, and holds it.
    Materialize = 4,
}

impl TaskKind {
    /// Every kind.
    pub const ALL: [TaskKind; 5] =
        [TaskKind::Import, TaskKind::Export, TaskKind::Release, TaskKind::Preload, TaskKind::Materialize];

    /// Its name, which is the verb that starts it (of `forebay snapshot` the last).
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::Import => "import",
            TaskKind::Export => "export",
            TaskKind::Release => "release",
            TaskKind::Preload => "preload",
            TaskKind::Materialize => "materialize",
        }
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TaskState {
    /// Not begun.
    Pending = 0,
    /// Under way, or was when the daemon ended.
    Executing = 1,
    /// Done, every file.
    Succeeded = 2,
    /// Done, and some files failed; or it could not be done.
    Failed = 3,
    /// To end as soon as what is in flight has.
    Canceling = 4,
    /// Ended before it was done, as somebody asked.
    Canceled = 5,
}

impl TaskState {
    /// Every state.
    pub const ALL: [TaskState; 6] = [
        TaskState::Pending,
        TaskState::Executing,
        TaskState::Succeeded,
        TaskState::Failed,
        TaskState::Canceling,
        TaskState::Canceled,
    ];

    /// Its name as FSx for Lustre has it.
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Pending => "PENDING",
            TaskState::Executing => "EXECUTING",
            TaskState::Succeeded => "SUCCEEDED",
            TaskState::Failed => "FAILED",
            TaskState::Canceling => "CANCELING",
            TaskState::Canceled => "CANCELED",
        }
    }

    /// Whether nothing more happens to the task.
    pub fn is_final(self) -> bool {
        matches!(self, TaskState::Succeeded | TaskState::Failed | TaskState::Canceled)
    }
}

/// How far a task has come, in files and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounters {
    /// Files it is about, as far as known.
    pub total: u64,
    /// Whether `total` is all there are.
    pub total_is_final: bool,
    /// Files done.
    pub succeeded: u64,
    /// Files that could not be done.
    pub failed: u64,
    /// Bytes of the files done.
    pub bytes: u64,
}

/// A report that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskReport {
    /// Where it goes: an absolute directory.
    pub directory: String,
    /// Bytes of its spool file that count; more are of work that is done again.
    pub spooled_bytes: u64,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// What it does.
    pub kind: TaskKind,
    /// Where it stands.
    pub state: TaskState,
    /// When it was asked for, ns since the Unix epoch.
    pub created_ns: i64,
    /// When it first began.
    pub started_ns: Option<i64>,
    /// When it ended.
    pub ended_ns: Option<i64>,
    /// How far it has come.
    pub counters: TaskCounters,
    /// The last failure, in words; empty if there was none.
    pub last_error: String,
    /// The report that was asked for.
    pub report: Option<TaskReport>,
    /// What it is about: paths below the root, without a slash in front.
    pub paths: Vec<Vec<u8>>,
    /// What else was said, in words of the kind's own.
    pub options: BTreeMap<String, String>,
    /// Where it goes on, in bytes of the kind's own; empty at the start.
    pub cursor: Vec<u8>,
}

impl TaskRow {
    /// A task that was just asked for.
    pub fn new(kind: TaskKind, paths: Vec<Vec<u8>>, created_ns: i64) -> Self {
        TaskRow {
            kind,
            state: TaskState::Pending,
            created_ns,
            started_ns: None,
            ended_ns: None,
            counters: TaskCounters::default(),
            last_error: String::new(),
            report: None,
            paths,
            options: BTreeMap::new(),
            cursor: Vec::new(),
        }
    }

    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(96 + self.cursor.len());
        row.byte(self.kind as u8);
        row.byte(self.state as u8);
        row.byte(
            u8::from(self.started_ns.is_some()) * STARTED
                + u8::from(self.ended_ns.is_some()) * ENDED
                + u8::from(self.counters.total_is_final) * TOTAL_IS_FINAL
                + u8::from(self.report.is_some()) * REPORT,
        );
        row.i64(self.created_ns);
        [self.started_ns, self.ended_ns].into_iter().flatten().for_each(|time| row.i64(time));
        let TaskCounters { total, succeeded, failed, bytes, .. } = self.counters;
        [total, succeeded, failed, bytes].into_iter().for_each(|count| row.number(count));
        row.counted(self.last_error.as_bytes());
        if let Some(report) = &self.report {
            row.counted(report.directory.as_bytes());
            row.number(report.spooled_bytes);
        }
        row.number(self.paths.len() as u64);
        self.paths.iter().for_each(|path| row.counted(path));
        row.options(&self.options);
        row.counted(&self.cursor);
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let (kind, state, flags) = (row.byte()?, row.byte()?, row.byte()?);
        let kind = TaskKind::ALL.into_iter().find(|known| *known as u8 == kind).ok_or(RowError::Field("kind"))?;
        let state = TaskState::ALL.into_iter().find(|known| *known as u8 == state).ok_or(RowError::Field("state"))?;
        if flags & !(STARTED | ENDED | TOTAL_IS_FINAL | REPORT) != 0 {
            return Err(RowError::Field("flags"));
        }
        let created_ns = row.i64()?;
        let started_ns = (flags & STARTED != 0).then(|| row.i64()).transpose()?;
        let ended_ns = (flags & ENDED != 0).then(|| row.i64()).transpose()?;
        let counters = TaskCounters {
            total: row.number("total")?,
            total_is_final: flags & TOTAL_IS_FINAL != 0,
            succeeded: row.number("succeeded")?,
            failed: row.number("failed")?,
            bytes: row.number("bytes")?,
        };
        let last_error = row.text("last_error")?;
        let report = if flags & REPORT == 0 {
            None
        } else {
            Some(TaskReport { directory: row.text("report")?, spooled_bytes: row.number("reported")? })
        };
        let paths = read_paths(&mut row, bytes.len())?;
        let options = row.options()?;
        let cursor = row.counted("cursor")?.to_vec();
        row.end()?;
        Ok(TaskRow { kind, state, created_ns, started_ns, ended_ns, counters, last_error, report, paths, options, cursor })
    }
}

fn read_paths(row: &mut Reader<'_>, row_bytes: usize) -> Result<Vec<Vec<u8>>, RowError> {
    let count = row.small::<usize>("paths")?;
    // Each takes a byte or more, so a wrong count cannot ask for much memory.
    let mut paths = Vec::with_capacity(count.min(row_bytes));
    for _ in 0..count {
        paths.push(row.counted("path")?.to_vec());
    }
    Ok(paths)
}
