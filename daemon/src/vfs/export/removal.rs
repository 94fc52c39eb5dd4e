//! Deleting objects whose names were taken away here.

use super::{ErrorCode, ExportFailure, ExportResult, Inner, OnConflict};
use crate::ids::Ino;
use crate::meta::{Doomed, FileKind};
use crate::repository::write::DeleteRequest;
use crate::repository::{Pin, StoreError, Urgency};
use crate::vfs::{Vfs, metadata_error};
use std::sync::Arc;

/// What became of a doomed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalOutcome {
    /// It is gone.
    Removed,
    /// It stays: something else has its key by now, here or in the bucket.
    Kept,
    /// Not yet: something here still needs its bytes, or is about to take its place.
    Later,
}

impl Vfs {
    /// Deletes an object whose name was taken away here.
    pub async fn export_removal(
        &self,
        doomed: &Doomed,
        on_conflict: OnConflict,
        urgency: Urgency,
    ) -> ExportResult<RemovalOutcome> {
        self.0.remove_object(doomed, on_conflict, urgency).await
    }
}

impl Inner {
    pub(super) async fn remove_object(
        self: &Arc<Self>,
        doomed: &Doomed,
        on_conflict: OnConflict,
        urgency: Urgency,
    ) -> ExportResult<RemovalOutcome> {
        if !self.is_export_possible(&doomed.key) {
            return Ok(RemovalOutcome::Later);
        }
        let Some(_key) = self.exports.lock(&doomed.key) else { return Ok(RemovalOutcome::Later) };
        if let Some(kept) = self.has_successor(&doomed.key)? {
            return if kept { self.let_live(doomed) } else { Ok(RemovalOutcome::Later) };
        }
        if self.in_need_of(&doomed.key)?.is_some() || self.is_of_moved_directory(&doomed.key)? {
            return Ok(RemovalOutcome::Later);
        }
        self.rescue_borrowers(&doomed.key, Ino(0)).await?;
        // A power cut must not take back what made the object needless.
        self.durable().await?;
        let mut pin =
            (!doomed.row.etag.is_empty()).then(|| Pin { etag: doomed.row.etag.clone(), version: doomed.row.version.clone() });
        if on_conflict == OnConflict::Overwrite && pin.is_some() {
            pin = match self.repository.head(&doomed.key, urgency).await {
                Ok(head) => Some(head.pin),
                Err(StoreError::NotFound { .. }) => pin,
                Err(error) => return Err(error.into()),
            };
        }
        match self.repository.delete(DeleteRequest { key: doomed.key.clone(), pin }, urgency).await {
            Ok(()) => {
                self.meta.undoom(doomed).map_err(metadata_error)?;
                if let Err(failure) = self.look_again_above(&doomed.key).await {
                    tracing::debug!(key = doomed.key, %failure, "what the bucket has there now shows with the next listing");
                }
                Ok(RemovalOutcome::Removed)
            }
            Err(StoreError::Changed { .. }) => {
                // Somebody else's object: it shows again with the next listing.
                self.let_live(doomed)?;
                if matches!(on_conflict, OnConflict::Skip | OnConflict::KeepBoth) {
                    return Ok(RemovalOutcome::Kept);
                }
                let message = format!("'{}' was deleted here and changed in the bucket, where it stays", doomed.key);
                Err(ExportFailure::new(ErrorCode::S3Conflict, message))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn let_live(&self, doomed: &Doomed) -> ExportResult<RemovalOutcome> {
        self.meta.undoom(doomed).map_err(metadata_error)?;
        Ok(RemovalOutcome::Kept)
    }

    /// Whether something here has the object's key as its own: `Some(true)` if it is that object already, `Some(false)` if it is going to be.
    fn has_successor(&self, key: &str) -> ExportResult<Option<bool>> {
        let Some((ino, is_directory)) = self.at_key(key)? else { return Ok(None) };
        let Some(row) = self.meta.inode(ino).map_err(metadata_error)? else { return Ok(None) };
        if is_directory {
            return Ok((row.kind == FileKind::Directory).then_some(true));
        }
        let is_it = row.own_origin().is_some_and(|origin| origin.key == key);
        Ok(matches!(row.kind, FileKind::File | FileKind::Symlink).then_some(is_it))
    }

    /// A directory of the bucket in which nothing is known to be may have lost its last object, and its name may be an object's: it is asked for again.
    async fn look_again_above(self: &Arc<Self>, key: &str) -> ExportResult<()> {
        let Some(association) = self.association_of_key(key) else { return Ok(()) };
        let Some(path) = key.strip_prefix(association.prefix.as_str()) else { return Ok(()) };
        let mut dir = association.row.root;
        for name in path.trim_end_matches('/').split('/') {
            let found = self.meta.lookup(dir, name.as_bytes()).map_err(metadata_error)?;
            let Some(inner) = found.filter(|dirent| dirent.kind == FileKind::Directory) else { return Ok(()) };
            let is_of_bucket = self.meta.inode(inner.ino).map_err(metadata_error)?.is_some_and(|row| !row.local);
            if is_of_bucket && self.meta.read_dir(inner.ino, None, 1).map_err(metadata_error)?.is_empty() {
                let directory = self.directory(dir)?;
                return Ok(self.probe(&directory, name.as_bytes()).await?);
            }
            dir = inner.ino;
        }
        Ok(())
    }

    /// What the tree has where an object's key leads, as far as the tree is known.
    fn at_key(&self, key: &str) -> ExportResult<Option<(Ino, bool)>> {
        let Some(association) = self.association_of_key(key) else { return Ok(None) };
        let Some(path) = key.strip_prefix(association.prefix.as_str()) else { return Ok(None) };
        let is_directory = path.ends_with('/');
        let mut ino = association.row.root;
        for name in path.trim_end_matches('/').split('/') {
            match self.meta.lookup(ino, name.as_bytes()).map_err(metadata_error)? {
                Some(dirent) => ino = dirent.ino,
                None => return Ok(None),
            }
        }
        Ok(Some((ino, is_directory)))
    }
}
