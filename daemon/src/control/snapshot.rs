//! Snapshots, as they go over the control socket. Names and paths are encoded as paths of tasks are.

use super::server::{Target, parameter};
use super::task::{decode_path, encode_path};
use super::types::{ApiError, ApiErrorKind};
use crate::meta::SnapshotRow;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};

/// A snapshot to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotOrder {
    /// Its name.
    pub name: String,
    /// The directory it is of, below the root; empty: all.
    #[serde(default)]
    pub path: String,
}

impl SnapshotOrder {
    /// Name and path as bytes.
    pub fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        (decode_path(&self.name), decode_path(&self.path))
    }
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// The directory it is of, with a slash before it.
    pub path: String,
    /// When it was taken, seconds since the Unix epoch.
    pub created: f64,
    /// The epoch that ended with it: grows from snapshot to snapshot.
    pub epoch: u64,
}

impl SnapshotInfo {
    /// What is shown of a row.
    pub fn new(name: &[u8], row: &SnapshotRow) -> Self {
        SnapshotInfo {
            name: encode_path(name),
            path: format!("/{}", encode_path(&row.path)),
            created: row.created_ns as f64 / 1e9,
            epoch: row.epoch.0,
        }
    }
}

pub(super) async fn take(
    State(target): Target,
    body: Result<Json<SnapshotOrder>, JsonRejection>,
) -> Result<Json<SnapshotInfo>, ApiError> {
    let Json(order) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.take_snapshot(order).await.map(Json)
}

pub(super) async fn list(State(target): Target) -> Result<Json<Vec<SnapshotInfo>>, ApiError> {
    target.snapshots().await.map(Json)
}

pub(super) async fn show(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<SnapshotInfo>, ApiError> {
    let name = name_of(query.as_deref())?;
    let found = target.snapshots().await?.into_iter().find(|info| info.name == encode_path(&name));
    let none = || ApiError::new(ApiErrorKind::NotFound, format!("there is no snapshot '{}'", String::from_utf8_lossy(&name)));
    found.ok_or_else(none).map(Json)
}

pub(super) async fn delete(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<SnapshotInfo>, ApiError> {
    target.delete_snapshot(&name_of(query.as_deref())?).await.map(Json)
}

pub(super) fn name_of(query: Option<&str>) -> Result<Vec<u8>, ApiError> {
    parameter(query, "name").ok_or_else(|| ApiError::new(ApiErrorKind::Invalid, "'name' is missing"))
}
