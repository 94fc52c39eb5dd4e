//! Taking, listing and deleting snapshots.

use super::frozen::may_change_name;
use super::lookup::check_name;
use super::types::Lookup;
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, MetaError, Refusal, SnapshotRow, is_snapshot_name};
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
        self.0.invalidator.settle();
        Ok(row)
    }

    /// Clones a snapshot's tree under a path below the root that nothing has yet.
    ///
    /// # Errors
    /// `Exists` if the path exists, `NotFound` without such a snapshot or without the directory above the path, `Stale` if there are directories in the snapshot of
    /// which nobody knew what was in them.
    pub async fn clone_snapshot(&self, name: &[u8], to: &[u8]) -> Result<()> {
        self.0.clone_snapshot(name, to).await
    }

    /// Makes what is still to be made of clones, until `stop`.
    pub fn finish_clones(&self, stop: &dyn Fn() -> bool) -> std::result::Result<bool, MetaError> {
        self.0.meta.finish_clones(stop)
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
    /// The snapshot of a name.
    pub(super) fn snapshot_named(&self, name: &[u8]) -> Result<SnapshotRow> {
        let found = self.meta.snapshot(name).map_err(metadata_error)?;
        found.ok_or_else(|| named(MetaError::Refused(Refusal::NotFound), name))
    }

    async fn take_snapshot(self: &Arc<Self>, name: Vec<u8>, path: Vec<u8>) -> Result<SnapshotRow> {
        if !is_snapshot_name(&name) {
            let message = "a snapshot's name is that of a directory: 1 to 255 bytes without '/', and not '.' or '..'";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if self.meta.snapshot(&name).map_err(metadata_error)?.is_some() {
            return Err(named(MetaError::Refused(Refusal::Exists), &name));
        }
        let root = self.walk(&path).await?;
        if root.is_frozen() || self.inode(root)?.kind != FileKind::Directory {
            return Err(Error::new(ErrorKind::NotDirectory, format!("'{}' is no directory", String::from_utf8_lossy(&path))));
        }
        self.finish_clones().await?;
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

    /// Waits until clones are whole.
    pub(super) async fn finish_clones(self: &Arc<Self>) -> Result<()> {
        if !self.meta.has_unfinished_clones().map_err(metadata_error)? {
            return Ok(());
        }
        let meta = Arc::clone(&self.meta);
        let finished = self.runtime.spawn_blocking(move || meta.finish_clones(&|| false)).await;
        let stopping = |_| Error::new(ErrorKind::ShuttingDown, "the file system is shutting down");
        finished.map_err(stopping)?.map_err(metadata_error).map(drop)
    }

    async fn clone_snapshot(self: &Arc<Self>, name: &[u8], to: &[u8]) -> Result<()> {
        let path = to.strip_suffix(b"/").unwrap_or(to);
        let shown = String::from_utf8_lossy(path);
        let (above, own) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        if own.is_empty() {
            return Err(Error::new(ErrorKind::Exists, "the root is there already: a clone needs a name of its own"));
        }
        let parent = self.walk(above).await?;
        check_name(own)?;
        may_change_name(parent, own)?;
        if matches!(self.resolve(parent, own).await?, Lookup::Found(_)) {
            return Err(Error::new(ErrorKind::Exists, format!("'{shown}' exists already")));
        }
        let made = self.meta.clone_snapshot(name, (parent, own), self.clock.wall_ns());
        let (ino, _) = made.map_err(|error| match error {
            MetaError::Refused(Refusal::Exists) => Error::new(ErrorKind::Exists, format!("'{shown}' exists already")),
            error => named(error, name),
        })?;
        self.names_changed(parent);
        self.directories.forget_probe(parent, own);
        self.invalidator.entry(parent, own);
        self.invalidator.inode(parent);
        let inner = Arc::clone(self);
        let _ = self.runtime.spawn_blocking(move || inner.invalidator.settle()).await;
        tracing::info!(name = %String::from_utf8_lossy(name), path = %shown, %ino, "snapshot cloned");
        Ok(())
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
