//! Tasks, as they go over the control socket.

use super::server::{Target, parameter};
use super::types::{ApiError, ApiErrorKind};
pub use crate::format::text::{decode as decode_path, encode as encode_path};
use crate::task::{Shown, TaskError, TaskKind, TaskRequest, report_of};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest that an answer waits for a task to end; a client that waits longer asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A task to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskOrder {
    /// `import`, `export`, `release`, `preload`, `materialize`.
    pub kind: String,
    /// Paths below the root, percent-encoded where they are not plain text (`%` itself, control characters, what is not UTF-8).
    pub paths: Vec<String>,
    /// Options of the kind.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Where the completion report is to go: an absolute directory, or a place in a bucket by its URL.
    #[serde(default)]
    pub report: Option<String>,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its number.
    pub id: u64,
    /// What it does: a verb.
    pub kind: String,
    /// `PENDING`, `EXECUTING`, `SUCCEEDED`, `FAILED`, `CANCELING`, `CANCELED`.
    pub state: String,
    /// Whether nothing more happens to it.
    pub has_ended: bool,
    /// What it is about, encoded as in [`TaskOrder`].
    pub paths: Vec<String>,
    /// Options of the kind.
    pub options: BTreeMap<String, String>,
    /// When it was made, seconds since the Unix epoch.
    pub created: f64,
    /// When it began.
    pub started: Option<f64>,
    /// When it ended.
    pub ended: Option<f64>,
    /// Files it is about, as far as known.
    pub total: u64,
    /// Whether that is all there are.
    pub total_is_final: bool,
    /// A guess of the total, where there is one that is not final.
    #[serde(default)]
    pub expected: Option<u64>,
    /// Files done.
    pub succeeded: u64,
    /// Files that could not be done.
    pub failed: u64,
    /// Bytes of the files done.
    pub bytes: u64,
    /// The last failure.
    pub last_error: Option<String>,
    /// Where its completion report is, or will be.
    pub report: Option<String>,
}

impl TaskOrder {
    /// The paths, as bytes.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        self.paths.iter().map(|path| decode_path(path)).collect()
    }

    /// What is asked for.
    pub fn request(self) -> Result<TaskRequest, ApiError> {
        let paths = self.paths();
        let kind = TaskKind::ALL.into_iter().find(|kind| kind.name() == self.kind);
        let unknown = || ApiError::new(ApiErrorKind::Unsupported, format!("there are no '{}' tasks", self.kind));
        Ok(TaskRequest { kind: kind.ok_or_else(unknown)?, paths, options: self.options, report: self.report })
    }
}

impl From<Shown> for TaskInfo {
    fn from(Shown { id, expected, row }: Shown) -> Self {
        let seconds = |ns: i64| ns as f64 / 1e9;
        let counters = row.counters;
        TaskInfo {
            id,
            kind: row.kind.name().into(),
            state: row.state.name().into(),
            has_ended: row.state.is_final(),
            paths: row.paths.iter().map(|path| encode_path(path)).collect(),
            options: row.options,
            created: seconds(row.created_ns),
            started: row.started_ns.map(seconds),
            ended: row.ended_ns.map(seconds),
            total: counters.total,
            total_is_final: counters.total_is_final,
            expected: expected.filter(|_| !counters.total_is_final),
            succeeded: counters.succeeded,
            failed: counters.failed,
            bytes: counters.bytes,
            last_error: Some(row.last_error).filter(|error| !error.is_empty()),
            report: row.report.map(|report| report_of(&report.directory, id, row.kind)),
        }
    }
}

impl From<TaskError> for ApiError {
    fn from(error: TaskError) -> Self {
        let kind = match &error {
            TaskError::NoSuchTask(_) => ApiErrorKind::NotFound,
            TaskError::NotBuilt(_) => ApiErrorKind::Unsupported,
            TaskError::Ended { .. } | TaskError::Invalid(_) | TaskError::Report { .. } => ApiErrorKind::Invalid,
            TaskError::FileSystem(error) => return error.clone().into(),
            TaskError::CacheFull { .. }
            | TaskError::NoRoomToHold { .. }
            | TaskError::NotHeld { .. }
            | TaskError::ReportStore { .. }
            | TaskError::Cursor
            | TaskError::Stopped
            | TaskError::Store(_)
            | TaskError::Metadata(_)
            | TaskError::Panicked => ApiErrorKind::Failed,
        };
        ApiError::new(kind, error.to_string())
    }
}

pub(super) async fn start(
    State(target): Target,
    body: Result<Json<TaskOrder>, JsonRejection>,
) -> Result<Json<TaskInfo>, ApiError> {
    let Json(order) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.start_task(order).await.map(Json)
}

pub(super) async fn list(State(target): Target) -> Result<Json<Vec<TaskInfo>>, ApiError> {
    target.tasks().await.map(Json)
}

pub(super) async fn show(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<TaskInfo>, ApiError> {
    let wait = number(query.as_deref(), "wait_ms")?.map_or(Duration::ZERO, Duration::from_millis);
    target.task(id_of(query.as_deref())?, wait.min(LONGEST_WAIT)).await.map(Json)
}

pub(super) async fn cancel(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<TaskInfo>, ApiError> {
    target.cancel_task(id_of(query.as_deref())?).await.map(Json)
}

fn id_of(query: Option<&str>) -> Result<u64, ApiError> {
    number(query, "id")?.ok_or_else(|| ApiError::new(ApiErrorKind::Invalid, "'id' is missing"))
}

fn number(query: Option<&str>, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(bytes) = parameter(query, name) else { return Ok(None) };
    let number = String::from_utf8_lossy(&bytes).parse();
    number.map(Some).map_err(|_| ApiError::new(ApiErrorKind::Invalid, format!("'{name}' is not a number")))
}
