//! The control API: HTTP + JSON over a unix socket, one socket per mount.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`types::Status`] |
//! | `POST /v1/unmount` | nothing, once unmounted; 409 while the mount is busy |
//! | `GET /v1/stripe?path=…` | [`types::StripeInfo`] |
//! | `PUT /v1/stripe?path=…` with [`types::StripeRequest`] | nothing |
//! | `GET /v1/hidden-keys?limit=…` | [`types::HiddenKeys`] |
//! | `GET /v1/quota?path=…&kind=user\|group\|project&id=…` | [`quota::QuotaInfo`]; of a project, the one that the path is in |
//! | `PUT /v1/quota?path=…` with [`quota::QuotaRequest`] | nothing, once what is here is counted |
//! | `GET /v1/quotas` | [`quota::QuotaReport`] |
//! | `PUT /v1/quota-grace` with [`quota::GraceInfo`] | nothing |
//! | `GET /v1/hsm?path=…` | [`hsm::HsmInfo`] |
//! | `PUT /v1/hsm?path=…` with [`hsm::HsmRequest`] | [`hsm::HsmInfo`] |
//! | `POST /v1/tasks` with [`task::TaskOrder`] | [`task::TaskInfo`] of the task made |
//! | `GET /v1/tasks` | all [`task::TaskInfo`]s, oldest first |
//! | `GET /v1/task?id=…&wait_ms=…` | [`task::TaskInfo`], once the task has ended or after so long |
//! | `POST /v1/task/cancel?id=…` | [`task::TaskInfo`] |
//! | `POST /v1/associations` with [`dra::AssociationOrder`] | [`dra::AssociationInfo`] of the association made, once it is in use |
//! | `GET /v1/associations` | all [`dra::AssociationInfo`]s, after a look whether their buckets can be used |
//! | `GET /v1/association?path=…` | [`dra::AssociationInfo`] |
//! | `PUT /v1/association?path=…` with [`dra::AssociationUpdate`] | [`dra::AssociationInfo`] |
//! | `DELETE /v1/association?path=…&delete_data=true\|false` | [`dra::AssociationInfo`] of what is being deleted |
//! | `POST /v1/snapshots` with [`snapshot::SnapshotOrder`] | [`snapshot::SnapshotInfo`] of the snapshot taken |
//! | `GET /v1/snapshots` | all [`snapshot::SnapshotInfo`]s, in order of their names |
//! | `GET /v1/snapshot?name=…` | [`snapshot::SnapshotInfo`] |
//! | `POST /v1/snapshot/clone` with [`snapshot::SnapshotOrder`]: the snapshot, and the path of the clone | [`snapshot::SnapshotInfo`] of the snapshot |
//! | `POST /v1/snapshot/restore?name=…` | [`snapshot::RestoredInfo`] |
//! | `POST /v1/snapshot/export` with [`publish::SnapshotExportOrder`] | [`publish::SnapshotExportInfo`] of the export begun, or of the same one under way |
//! | `GET /v1/snapshot/export?id=…` | [`publish::SnapshotExportInfo`] |
//! | `DELETE /v1/snapshot?name=…` | [`snapshot::SnapshotInfo`] of the one that is gone |
//! | `GET /v1/figures` | [`figures::FiguresInfo`] of the file system |
//! | `GET /v1/figures?path=…` | [`figures::FiguresInfo`] of what is at and below a path, also in a snapshot |
//! | `GET /v1/snapshot/figures?name=…` | [`figures::SnapshotFiguresInfo`] |
//! | `GET /v1/snapshot/diff?name=…&other=…` | a line with a [`diff::DiffEntry`] for each difference; without `other`, to what is there now |
//! | `GET /v1/snapshot/digest?name=…` | lines with a [`diff::DigestInfo`] each, how far it is, the last with the digest |
//!
//! Answers of lines are [`lines::Line`]s in JSON, one after the other as they come.
//! | `POST /v1/care` with [`care::CareOrder`] | [`care::CareInfo`] of what was begun; 409 while another is under way |
//! | `GET /v1/care?id=…&wait_ms=…` | [`care::CareInfo`], once it has ended or after so long |
//!
//! `path` is below the mount's root, without a leading slash, percent-encoded byte for byte (names need not be UTF-8).
//! A failure is a [`types::ApiError`] with a fitting HTTP status.
//!
//! The server knows no FUSE: what is mounted stands behind [`ControlTarget`]. Access is what the directory of the sockets
//! gives: it belongs to the user and is closed to others ([`socket`] checks that at both ends).

pub mod care;
pub mod client;
pub mod diff;
pub mod dra;
pub mod figures;
pub mod hsm;
pub mod lines;
pub mod publish;
pub mod quota;
pub mod server;
pub mod snapshot;
pub mod socket;
pub mod task;
pub mod types;

#[cfg(test)]
mod tests;

pub use client::{Client, ClientError};
pub use server::{ControlServer, ServeError};
pub use socket::{SocketDir, SocketDirError};

use crate::stripe::Layout;
use async_trait::async_trait;
use care::{CareInfo, CareOrder};
use diff::{DiffEntry, DigestInfo};
use dra::{AssociationInfo, AssociationOrder, AssociationUpdate};
use figures::{FiguresInfo, SnapshotFiguresInfo};
use hsm::{HsmInfo, HsmRequest};
use lines::Items;
use publish::{SnapshotExportInfo, SnapshotExportOrder};
use quota::{GraceInfo, Kind, QuotaInfo, QuotaReport, QuotaRequest};
use snapshot::{RestoredInfo, SnapshotInfo, SnapshotOrder};
use std::time::Duration;
use task::{TaskInfo, TaskOrder};
use types::{ApiError, HiddenKeys, Status, StripeInfo};

/// What the control API controls: a mounted file system.
#[async_trait]
pub trait ControlTarget: Send + Sync + 'static {
    /// Figures for `forebay status`.
    async fn status(&self) -> Result<Status, ApiError>;
    /// Unmounts; returns when the mount is out of the tree. The daemon then shuts down by itself.
    async fn request_unmount(&self) -> Result<(), ApiError>;
    /// The stripe layout of a path below the root.
    async fn stripe(&self, path: &[u8]) -> Result<StripeInfo, ApiError>;
    /// Sets the stripe layout of a path below the root.
    async fn set_stripe(&self, path: &[u8], layout: Layout) -> Result<(), ApiError>;
    /// Keys of the bucket that no POSIX tree can hold, at most `limit` of them.
    async fn hidden_keys(&self, limit: usize) -> Result<HiddenKeys, ApiError>;
    /// The quota of a user or group, or of the project that a path is in.
    async fn quota(&self, path: &[u8], kind: Kind, id: u64) -> Result<QuotaInfo, ApiError>;
    /// Changes limits, of a project those of the directory that the path is.
    async fn set_quota(&self, path: &[u8], request: QuotaRequest) -> Result<(), ApiError>;
    /// Every quota.
    async fn quotas(&self) -> Result<QuotaReport, ApiError>;
    /// Sets the grace periods of a kind.
    async fn set_quota_grace(&self, grace: GraceInfo) -> Result<(), ApiError>;
    /// The states of the file at a path.
    async fn hsm(&self, path: &[u8]) -> Result<HsmInfo, ApiError>;
    /// Sets and clears states of the file at a path.
    async fn set_hsm(&self, path: &[u8], request: HsmRequest) -> Result<HsmInfo, ApiError>;
    /// Makes a task.
    async fn start_task(&self, order: TaskOrder) -> Result<TaskInfo, ApiError>;
    /// Every task, oldest first.
    async fn tasks(&self) -> Result<Vec<TaskInfo>, ApiError>;
    /// A task, once it has ended or after so long.
    async fn task(&self, id: u64, wait: Duration) -> Result<TaskInfo, ApiError>;
    /// Has a task end as soon as what it has in flight is done.
    async fn cancel_task(&self, id: u64) -> Result<TaskInfo, ApiError>;
    /// Links a directory to a bucket.
    async fn create_association(&self, order: AssociationOrder) -> Result<AssociationInfo, ApiError>;
    /// Every association, in the order of paths.
    async fn associations(&self) -> Result<Vec<AssociationInfo>, ApiError>;
    /// The association of a directory.
    async fn association(&self, path: &[u8]) -> Result<AssociationInfo, ApiError>;
    /// Changes what goes by itself.
    async fn update_association(&self, path: &[u8], update: AssociationUpdate) -> Result<AssociationInfo, ApiError>;
    /// Begins to unlink a directory from its bucket.
    async fn delete_association(&self, path: &[u8], delete_data: bool) -> Result<AssociationInfo, ApiError>;
    /// Takes a snapshot.
    async fn take_snapshot(&self, order: SnapshotOrder) -> Result<SnapshotInfo, ApiError>;
    /// Every snapshot, in order of their names.
    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, ApiError>;
    /// Clones a snapshot under a path.
    async fn clone_snapshot(&self, order: SnapshotOrder) -> Result<SnapshotInfo, ApiError>;
    /// Rolls a directory back to a snapshot of it.
    async fn restore_snapshot(&self, name: &[u8]) -> Result<RestoredInfo, ApiError>;
    /// Begins to export a snapshot.
    async fn export_snapshot(&self, order: SnapshotExportOrder) -> Result<SnapshotExportInfo, ApiError>;
    /// How an export of a snapshot stands.
    async fn snapshot_export(&self, id: u64) -> Result<SnapshotExportInfo, ApiError>;
    /// Deletes a snapshot.
    async fn delete_snapshot(&self, name: &[u8]) -> Result<SnapshotInfo, ApiError>;
    /// Figures of what is at and below a path; without one of the file system.
    async fn figures(&self, path: Option<&[u8]>) -> Result<FiguresInfo, ApiError>;
    /// Figures of a snapshot.
    async fn snapshot_figures(&self, name: &[u8]) -> Result<SnapshotFiguresInfo, ApiError>;
    /// What differs between a snapshot and another, or now.
    fn diff_snapshots(&self, name: Vec<u8>, other: Option<Vec<u8>>) -> Items<DiffEntry>;
    /// The digest of a snapshot.
    fn digest_snapshot(&self, name: Vec<u8>) -> Items<DigestInfo>;
    /// Begins a check, a scrub or a collection.
    async fn start_care(&self, order: CareOrder) -> Result<CareInfo, ApiError>;
    /// How far it is, once it has ended or after so long.
    async fn care(&self, id: u64, wait: Duration) -> Result<CareInfo, ApiError>;
}
