//! Exports of snapshots, as they go over the control socket. Names are encoded as paths of tasks are.

use super::server::{Target, parameter};
use super::task::{decode_path, encode_path};
use super::types::{ApiError, ApiErrorKind};
use crate::config::RepositorySettings;
use crate::vfs::{PublishOrder, PublishState, PublishView};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};

/// A snapshot to be exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotExportOrder {
    /// Its name.
    pub name: String,
    /// Where to: a bucket and prefix.
    pub url: String,
    /// Whether objects of that bucket are copied as well.
    #[serde(default)]
    pub copy: bool,
}

impl SnapshotExportOrder {
    /// What is asked for; another bucket is reached as `store` is.
    pub fn request(self, store: &RepositorySettings) -> PublishOrder {
        PublishOrder { name: decode_path(&self.name), url: self.url, copy: self.copy, store: store.clone() }
    }
}

/// An export of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotExportInfo {
    /// Its number, since the mount.
    pub id: u64,
    /// The snapshot.
    pub name: String,
    /// Where to.
    pub url: String,
    /// `EXECUTING`, `SUCCEEDED` or `FAILED`.
    pub state: String,
    /// Whether it had been exported there before.
    pub already: bool,
    /// Names seen to.
    pub entries: u64,
    /// Files whose content is in an object that was there.
    pub referenced: u64,
    /// Objects copied at the server.
    pub copied: u64,
    /// Objects sent.
    pub sent: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// Objects that an earlier export had sent or copied.
    pub kept: u64,
    /// Why it failed.
    pub error: Option<String>,
}

impl SnapshotExportInfo {
    /// Whether nothing more happens.
    pub fn has_ended(&self) -> bool {
        self.state != "EXECUTING"
    }
}

impl From<PublishView> for SnapshotExportInfo {
    fn from(view: PublishView) -> Self {
        let PublishView { id, order, state, entries, referenced, copied, sent, sent_bytes, kept } = view;
        let (state, already, error) = match state {
            PublishState::Running => ("EXECUTING", false, None),
            PublishState::Done { already } => ("SUCCEEDED", already, None),
            PublishState::Failed(error) => ("FAILED", false, Some(error.message)),
        };
        let (name, url, state) = (encode_path(&order.name), order.url, state.to_owned());
        SnapshotExportInfo { id, name, url, state, already, entries, referenced, copied, sent, sent_bytes, kept, error }
    }
}

pub(super) async fn begin(
    State(target): Target,
    body: Result<Json<SnapshotExportOrder>, JsonRejection>,
) -> Result<Json<SnapshotExportInfo>, ApiError> {
    let Json(order) = body.map_err(|error| ApiError::new(ApiErrorKind::Invalid, error.body_text()))?;
    target.export_snapshot(order).await.map(Json)
}

pub(super) async fn show(State(target): Target, RawQuery(query): RawQuery) -> Result<Json<SnapshotExportInfo>, ApiError> {
    let id = parameter(query.as_deref(), "id").and_then(|id| String::from_utf8_lossy(&id).parse().ok());
    let id = id.ok_or_else(|| ApiError::new(ApiErrorKind::Invalid, "'id' is missing, or not a number"))?;
    target.snapshot_export(id).await.map(Json)
}
