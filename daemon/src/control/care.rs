//! `fsck`, `scrub` and `gc`, as they go over the control socket. They take long: one is started, and asked how far it is until it has ended. One that
//! nobody asks about for a while ends by itself, so that whoever interrupts the command ends the work.

use super::server::{Target, parameter};
use super::types::{ApiError, ApiErrorKind};
pub use crate::cache::care::{FsckReport, GcReport, LostPart, Problem, ScrubReport};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// For how long it goes on with nobody asking.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that an answer waits for the end.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum CareOrder {
    /// The metadata and the blocks are checked against each other.
    Fsck {
        /// Whether what is wrong is repaired.
        repair: bool,
        /// Whether all data is read as well: so many bytes a second.
        data_rate: Option<u64>,
    },
    /// All data is read and checked, and healed.
    Scrub {
        /// Bytes a second.
        rate: u64,
    },
    /// What nothing refers to is freed.
    Gc {},
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum CareReport {
    /// Of a check.
    Fsck(FsckReport),
    /// Of a scrub.
    Scrub(ScrubReport),
    /// Of a collection.
    Gc(GcReport),
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CareInfo {
    /// Its number, to ask about it.
    pub id: u64,
    /// How much of the current step is done; bytes where data is read.
    pub done: u64,
    /// Of how much, as far as that is known.
    pub total: u64,
    /// What came of it, once it has ended.
    pub report: Option<CareReport>,
}

pub(super) async fn start(
    State(target): Target,
    body: Result<Json<CareOrder>, JsonRejection>,
) -> Result<Json<CareInfo>, ApiError> {
    let Json(order) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.start_care(order).await.map(Json)
}

pub(super) async fn show(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<CareInfo>, ApiError> {
    let number = |name: &str| {
        let text = parameter(query.as_deref(), name)?;
        String::from_utf8_lossy(&text).parse::<u64>().ok()
    };
    let id = number("id").ok_or_else(|| ApiError::new(ApiErrorKind::Invalid, "'id' is missing or not a number"))?;
    let wait = Duration::from_millis(number("wait_ms").unwrap_or(0));
    target.care(id, wait.min(LONGEST_WAIT)).await.map(Json)
}
