//! What differs between two snapshots, or between one and now.

use super::snapshots::named;
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{Difference, MetaError, Refusal, SnapshotRow};
use futures::channel::oneshot;
use std::sync::Arc;

impl Vfs {
    /// What differs between a snapshot and another (older or younger), or the tree as it is now: all that was answered before this was asked is in it.
    /// In byte order of the paths, which are below the directory that the snapshots are of.
    ///
    /// # Errors
    /// `NotFound` if there is none of a name, `Invalid` if they are of different directories.
    pub async fn diff_snapshots(&self, one: &[u8], other: Option<&[u8]>) -> Result<Vec<Difference>> {
        let inner = Arc::clone(&self.0);
        let (first, second) = (inner.snapshot_row(one)?, other.map(|other| inner.snapshot_row(other)).transpose()?);
        if let Some(second) = second.as_ref().filter(|second| second.root != first.root) {
            let text = String::from_utf8_lossy;
            let (one, other) = (text(one), text(other.unwrap_or_default()));
            let message = format!(
                "snapshot '{one}' is of directory '/{}' and '{other}' of '/{}': only snapshots of one directory can be compared",
                text(&first.path),
                text(&second.path)
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if second.is_none() {
            inner.record_written().await?;
        }
        let runtime = inner.runtime.clone();
        let found = runtime.spawn_blocking(move || inner.diff(&first, second.as_ref())).await;
        found.map_err(|error| Error::new(ErrorKind::Io, format!("the snapshots could not be compared: {error}")))?
    }
}

impl Inner {
    pub(super) fn snapshot_row(&self, name: &[u8]) -> Result<SnapshotRow> {
        let found = self.meta.snapshot(name).map_err(metadata_error)?;
        found.ok_or_else(|| named(MetaError::Refused(Refusal::NotFound), name))
    }

    /// Has the metadata know of all that was written.
    async fn record_written(&self) -> Result<()> {
        let (done, recorded) = oneshot::channel();
        self.cache.at_standstill(Box::new(move |outcome| drop(done.send(outcome))));
        recorded.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the file system is being unmounted")))
    }

    fn diff(&self, first: &SnapshotRow, second: Option<&SnapshotRow>) -> Result<Vec<Difference>> {
        self.meta.diff(first, second).map_err(|error| match error {
            MetaError::Refused(Refusal::NotFound) => Error::new(ErrorKind::NotFound, "a snapshot was deleted meanwhile"),
            MetaError::Refused(Refusal::NotDirectory) => {
                let path = String::from_utf8_lossy(&first.path);
                Error::new(ErrorKind::NotFound, format!("the directory that the snapshot is of is no more: it was '/{path}'"))
            }
            other => metadata_error(other),
        })
    }
}
