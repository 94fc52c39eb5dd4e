//! Taking, listing and deleting snapshots.

use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, MetaError, SnapshotRow, is_snapshot_name};
use std::sync::Arc;

impl Vfs {
    /// Takes a snapshot of the tree below a directory (a path below the root): of what was answered until then, data included, and of nothing that came after.
    ///
    /// # Errors
    /// `Exists` if there is one of that name, `Io` if something that was written cannot be stored.
    pub async fn take_snapshot(&self, name: &[u8], path: &[u8]) -> Result<SnapshotRow> {
        self.0.take_snapshot(name.to_vec(), path.to_vec()).await
    }

    /// The snapshots, in order of their names.
    pub fn snapshots(&self) -> Result<Vec<(Vec<u8>, SnapshotRow)>> {
        self.0.meta.snapshots().map_err(metadata_error)
    }

    /// Deletes a snapshot. What only it had is freed in the background.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<SnapshotRow> {
        let row = self.0.meta.delete_snapshot(name).map_err(|error| named(error, name))?;
        self.0.snapshots_changed(name);
        // The inodes go with the names; one that is open answers that it is stale.
        self.0.invalidator.inode(row.root.at(row.epoch));
        Ok(row)
    }

    /// Frees what deleted snapshots kept, until `stop`.
    pub fn reclaim_snapshots(&self, stop: &dyn Fn() -> bool) -> std::result::Result<(), MetaError> {
        self.0.cache.reclaim_snapshots(stop)
    }
}

pub(super) fn named(error: MetaError, name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    let error = metadata_error(error);
    match error.kind {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("there is no snapshot '{name}'")),
        ErrorKind::Exists => Error::new(ErrorKind::Exists, format!("there is a snapshot '{name}' already")),
        _ => error,
    }
}

impl Inner {
    async fn take_snapshot(self: &Arc<Self>, name: Vec<u8>, path: Vec<u8>) -> Result<SnapshotRow> {
        if !is_snapshot_name(&name) {
            let message = "a snapshot's name is that of a directory: 1 to 255 bytes without '/', and not '.' or '..'";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if self.meta.snapshot(&name).map_err(metadata_error)?.is_some() {
            return Err(named(MetaError::Refused(crate::meta::Refusal::Exists), &name));
        }
        let root = self.walk(&path).await?;
        if root.is_frozen() || self.inode(root)?.kind != FileKind::Directory {
            return Err(Error::new(ErrorKind::NotDirectory, format!("'{}' is no directory", String::from_utf8_lossy(&path))));
        }
        let (done, taken) = futures::channel::oneshot::channel();
        let (inner, of) = (Arc::clone(self), name.clone());
        self.cache.at_standstill(Box::new(move |recorded| {
            let take = || inner.take_now(&of, root, &path);
            let _ = done.send(recorded.and_then(|()| take()));
        }));
        let row = taken.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the file system is being unmounted")))?;
        self.snapshots_changed(&name);
        tracing::info!(name = %String::from_utf8_lossy(&name), epoch = row.epoch.0, "snapshot taken");
        Ok(row)
    }

    fn take_now(&self, name: &[u8], root: Ino, path: &[u8]) -> Result<SnapshotRow> {
        // Not removed meanwhile.
        self.inode(root)?;
        let path = path.strip_suffix(b"/").unwrap_or(path);
        self.meta.take_snapshot(name, root, path, self.clock.wall_ns()).map_err(|error| named(error, name))
    }

    fn snapshots_changed(&self, name: &[u8]) {
        self.names_changed(Ino::SNAPSHOTS);
        self.invalidator.entry(Ino::SNAPSHOTS, name);
        self.invalidator.inode(Ino::SNAPSHOTS);
    }
}
