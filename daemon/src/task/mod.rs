//! Tasks: long work that somebody asked for, over many files; several at once, each in its turn, resumed after a restart.
//!
//! | module | owns |
//! | --- | --- |
//! | `job` | the seam: what a kind of task implements, and what it is given |
//! | `scheduler` | which tasks run; asking, canceling, waiting; what survives the daemon |
//! | `turns` | who may do the next unit of work |
//! | `progress` | one task in memory: its row, its counters, its report |
//! | `report` | completion reports: the CSV, its spool |
//! | `place` | where reports go: a directory, a bucket |
//! | `export` | the kind that sends what was made and changed here to the bucket |
//! | `import` | the kind that brings names and attributes from the bucket |
//! | `preload` | the kind that brings data ahead of its use |
//! | `materialize` | the kind that has all of a snapshot here for good |
//! | `release` | the kind that lets go of data that the bucket has |
//! | `watch` | no task, but work over many files too: automatic import |
//!
//! Invariants:
//! 1. A task's cursor and counters are of one moment: what is done again after a crash is not counted twice, and nothing is left out.
//! 2. Work is cut into units, each with a turn of its own. Whoever waits for a turn and has the fewest goes first, so a task of a million
//!    files does not keep one of ten waiting.
//! 3. A unit that has begun ends by itself, also when its task is canceled or the daemon stops.

mod error;
pub mod export;
pub mod import;
mod job;
pub mod materialize;
mod place;
pub mod preload;
mod progress;
pub mod release;
mod report;
mod scheduler;
#[cfg(test)]
mod tests;
mod turns;
pub mod watch;

pub use crate::meta::{TaskCounters, TaskKind, TaskRow, TaskState};
pub use crate::vfs::ErrorCode;
pub use error::TaskError;
pub use job::{Context, Failure, Job, Step, Turn};
pub use place::ReportStores;
pub(crate) use place::report_of;
pub use scheduler::{Shown, TaskConfig, TaskParts, TaskRequest, Tasks};
