//! What the control socket controls: a running file system and its mount.

use async_trait::async_trait;
use forebay_daemon::control::ControlTarget;
use forebay_daemon::control::care::{CareInfo, CareOrder};
use forebay_daemon::control::diff::{self, DiffEntry, DigestInfo};
use forebay_daemon::control::dra::{AssociationInfo, AssociationOrder, AssociationUpdate};
use forebay_daemon::control::figures::{FiguresInfo, SnapshotFiguresInfo};
use forebay_daemon::control::hsm::{self, HsmInfo, HsmRequest};
use forebay_daemon::control::lines::Items;
use forebay_daemon::control::publish::{SnapshotExportInfo, SnapshotExportOrder};
use forebay_daemon::control::quota::{GraceInfo, Kind, QuotaInfo, QuotaReport, QuotaRequest};
use forebay_daemon::control::snapshot::{RestoredInfo, SnapshotInfo, SnapshotOrder};
use forebay_daemon::control::task::{TaskInfo, TaskOrder};
use forebay_daemon::control::types::{ApiError, ApiErrorKind, HiddenKey, HiddenKeys, Status, StripeInfo};
use forebay_daemon::engine::FileSystem;
use forebay_daemon::error::{Error, ErrorKind};
use forebay_daemon::meta::QuotaLimits;
use forebay_daemon::stripe::Layout;
use forebay_daemon::vfs::Answer;
use forebay_fuse::{UnmountError, Unmounter};
use std::sync::Arc;
use std::time::Duration;

/// A mounted file system.
pub(crate) struct Mounted {
    /// What is mounted.
    pub(crate) filesystem: Arc<FileSystem>,
    /// What unmounts it.
    pub(crate) unmounter: Unmounter,
}

async fn settled<T>(answer: Answer<T>) -> Result<T, Error> {
    match answer {
        Answer::Ready(result) => result,
        Answer::Pending(future) => future.await,
    }
}

/// Runs what blocks off the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let lost = |error| ApiError::new(ApiErrorKind::Failed, format!("the daemon could not do it: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(lost)
}

fn unmount_error(error: UnmountError) -> ApiError {
    let kind = match error {
        UnmountError::Busy { .. } => ApiErrorKind::Busy,
        UnmountError::NotMounted { .. } => ApiErrorKind::NotFound,
        UnmountError::Refused { .. } => ApiErrorKind::Failed,
    };
    ApiError::new(kind, error.to_string())
}

impl Mounted {
    /// Refuses what would change an exported snapshot that is mounted.
    fn must_change(&self) -> Result<(), ApiError> {
        match &self.filesystem.settings().snapshot {
            Some(name) => Err(ApiError::new(
                ApiErrorKind::Invalid,
                format!("an exported snapshot is mounted, '{name}': it does not change"),
            )),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl ControlTarget for Mounted {
    async fn status(&self) -> Result<Status, ApiError> {
        let filesystem = Arc::clone(&self.filesystem);
        let mountpoint = self.unmounter.mountpoint().display().to_string();
        blocking(move || Status { mountpoint, ..filesystem.status() }).await
    }

    async fn request_unmount(&self) -> Result<(), ApiError> {
        let unmounter = self.unmounter.clone();
        blocking(move || unmounter.unmount()).await?.map_err(unmount_error)
    }

    async fn stripe(&self, path: &[u8]) -> Result<StripeInfo, ApiError> {
        let (layout, set_here) = settled(self.filesystem.vfs().stripe(path)).await?;
        Ok(StripeInfo { stripe_count: layout.stripe_count, stripe_size: layout.stripe_size, inherited: !set_here })
    }

    async fn set_stripe(&self, path: &[u8], layout: Layout) -> Result<(), ApiError> {
        Ok(settled(self.filesystem.vfs().set_stripe(path, layout)).await?)
    }

    async fn quota(&self, path: &[u8], kind: Kind, id: u64) -> Result<QuotaInfo, ApiError> {
        Ok(settled(self.filesystem.vfs().quota(path, kind.into(), id)).await?.into())
    }

    async fn set_quota(&self, path: &[u8], request: QuotaRequest) -> Result<(), ApiError> {
        let change = move |limits: &mut QuotaLimits| request.apply(limits);
        Ok(settled(self.filesystem.vfs().set_quota(path, request.kind.into(), request.id, change)).await?)
    }

    async fn quotas(&self) -> Result<QuotaReport, ApiError> {
        let filesystem = Arc::clone(&self.filesystem);
        let report = move || {
            let vfs = filesystem.vfs();
            let quotas = vfs.quotas()?.into_iter().map(QuotaInfo::from).collect();
            let graces = Kind::ALL.map(|kind| GraceInfo::new(kind, vfs.quota_graces(kind.into()))).to_vec();
            Ok::<_, Error>(QuotaReport { quotas, graces, counting: vfs.is_counting() })
        };
        Ok(blocking(report).await??)
    }

    async fn set_quota_grace(&self, grace: GraceInfo) -> Result<(), ApiError> {
        let filesystem = Arc::clone(&self.filesystem);
        Ok(blocking(move || filesystem.vfs().set_quota_graces(grace.kind.into(), grace.graces())).await??)
    }

    async fn hsm(&self, path: &[u8]) -> Result<HsmInfo, ApiError> {
        hsm::info(self.filesystem.vfs(), &self.filesystem.tasks().list(), path).await
    }

    async fn set_hsm(&self, path: &[u8], request: HsmRequest) -> Result<HsmInfo, ApiError> {
        hsm::set(self.filesystem.vfs(), &self.filesystem.tasks().list(), path, &request).await
    }

    async fn start_task(&self, order: TaskOrder) -> Result<TaskInfo, ApiError> {
        let (filesystem, request) = (Arc::clone(&self.filesystem), order.request()?);
        Ok(blocking(move || filesystem.tasks().create(request)).await??.into())
    }

    async fn tasks(&self) -> Result<Vec<TaskInfo>, ApiError> {
        Ok(self.filesystem.tasks().list().into_iter().map(TaskInfo::from).collect())
    }

    async fn task(&self, id: u64, wait: Duration) -> Result<TaskInfo, ApiError> {
        Ok(self.filesystem.tasks().wait(id, wait).await?.into())
    }

    async fn cancel_task(&self, id: u64) -> Result<TaskInfo, ApiError> {
        let filesystem = Arc::clone(&self.filesystem);
        Ok(blocking(move || filesystem.tasks().cancel(id)).await??.into())
    }

    async fn create_association(&self, order: AssociationOrder) -> Result<AssociationInfo, ApiError> {
        self.must_change()?;
        let deadline = self.filesystem.settings().repository.deadline;
        let made = self.filesystem.vfs().create_association(order.request(deadline)).await?;
        Ok(self.filesystem.association_info(made))
    }

    async fn associations(&self) -> Result<Vec<AssociationInfo>, ApiError> {
        let vfs = self.filesystem.vfs();
        vfs.check_associations().await;
        Ok(vfs.associations().into_iter().map(|view| self.filesystem.association_info(view)).collect())
    }

    async fn association(&self, path: &[u8]) -> Result<AssociationInfo, ApiError> {
        let found = self.filesystem.vfs().association_at(path).await?;
        Ok(self.filesystem.association_info(found))
    }

    async fn update_association(&self, path: &[u8], update: AssociationUpdate) -> Result<AssociationInfo, ApiError> {
        let updated = self.filesystem.vfs().update_association(path, update.into()).await?;
        Ok(self.filesystem.association_info(updated))
    }

    async fn delete_association(&self, path: &[u8], delete_data: bool) -> Result<AssociationInfo, ApiError> {
        let deleting = self.filesystem.vfs().delete_association(path, delete_data).await?;
        Ok(self.filesystem.association_info(deleting))
    }

    async fn take_snapshot(&self, order: SnapshotOrder) -> Result<SnapshotInfo, ApiError> {
        let (name, path) = order.parts();
        let taken = self.filesystem.vfs().take_snapshot(&name, &path).await?;
        Ok(SnapshotInfo::new(&name, &taken))
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, ApiError> {
        let filesystem = Arc::clone(&self.filesystem);
        let all = blocking(move || filesystem.vfs().snapshots()).await??;
        Ok(all.iter().map(|(name, row)| SnapshotInfo::new(name, row)).collect())
    }

    async fn clone_snapshot(&self, order: SnapshotOrder) -> Result<SnapshotInfo, ApiError> {
        self.must_change()?;
        let (filesystem, (name, path)) = (Arc::clone(&self.filesystem), order.parts());
        self.filesystem.vfs().clone_snapshot(&name, &path).await?;
        let of = name.clone();
        let all = blocking(move || filesystem.vfs().snapshots()).await??;
        let row = all.into_iter().find(|(found, _)| *found == of).map(|(_, row)| row);
        let gone = || Error::new(ErrorKind::NotFound, "the snapshot was deleted meanwhile");
        Ok(SnapshotInfo::new(&name, &row.ok_or_else(gone)?))
    }

    async fn restore_snapshot(&self, name: &[u8]) -> Result<RestoredInfo, ApiError> {
        self.must_change()?;
        Ok(self.filesystem.vfs().restore_snapshot(name).await?.into())
    }

    async fn export_snapshot(&self, order: SnapshotExportOrder) -> Result<SnapshotExportInfo, ApiError> {
        let (filesystem, order) = (Arc::clone(&self.filesystem), order.request(&self.filesystem.settings().repository));
        let id = blocking(move || filesystem.vfs().publish_snapshot(order)).await??;
        self.snapshot_export(id).await
    }

    async fn snapshot_export(&self, id: u64) -> Result<SnapshotExportInfo, ApiError> {
        let found = self.filesystem.vfs().publication(id);
        let none = || ApiError::new(ApiErrorKind::NotFound, format!("there is no export of a snapshot with number {id}"));
        found.map(SnapshotExportInfo::from).ok_or_else(none)
    }

    async fn delete_snapshot(&self, name: &[u8]) -> Result<SnapshotInfo, ApiError> {
        let (filesystem, of) = (Arc::clone(&self.filesystem), name.to_vec());
        let deleted = blocking(move || filesystem.vfs().delete_snapshot(&of)).await??;
        Ok(SnapshotInfo::new(name, &deleted))
    }

    async fn figures(&self, path: Option<&[u8]>) -> Result<FiguresInfo, ApiError> {
        let vfs = self.filesystem.vfs();
        let counted = match path {
            Some(path) => vfs.figures_of(path).await?,
            None => vfs.recent_figures().await?,
        };
        Ok(counted.into())
    }

    async fn snapshot_figures(&self, name: &[u8]) -> Result<SnapshotFiguresInfo, ApiError> {
        Ok(self.filesystem.vfs().snapshot_figures(name).await?.into())
    }

    fn diff_snapshots(&self, name: Vec<u8>, other: Option<Vec<u8>>) -> Items<DiffEntry> {
        diff::differences(self.filesystem.vfs(), name, other)
    }

    fn digest_snapshot(&self, name: Vec<u8>) -> Items<DigestInfo> {
        diff::digest_of(self.filesystem.vfs(), name)
    }

    async fn start_care(&self, order: CareOrder) -> Result<CareInfo, ApiError> {
        let filesystem = Arc::clone(&self.filesystem);
        blocking(move || filesystem.start_care(order)).await?.map_err(|error| match error.kind {
            ErrorKind::Busy => ApiError::new(ApiErrorKind::Busy, error.message),
            _ => error.into(),
        })
    }

    async fn care(&self, id: u64, wait: Duration) -> Result<CareInfo, ApiError> {
        let filesystem = Arc::clone(&self.filesystem);
        Ok(blocking(move || filesystem.care(id, wait)).await??)
    }

    async fn hidden_keys(&self, limit: usize) -> Result<HiddenKeys, ApiError> {
        let filesystem = Arc::clone(&self.filesystem);
        let (keys, total) = blocking(move || filesystem.hidden_keys(limit)).await??;
        Ok(HiddenKeys { keys: keys.into_iter().map(|(key, reason)| HiddenKey { key, reason }).collect(), total })
    }
}
