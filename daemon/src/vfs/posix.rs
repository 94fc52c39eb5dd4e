//! POSIX metadata of objects: from GETs that happen anyway, or from HEADs where `--posix-metadata eager` asks for them.

use super::{Inner, metadata_error};
use crate::config::PosixMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, Origin};
use crate::repository::posix::{ModeKind, PosixMetadata as PosixAttrs};
use crate::repository::{GetRequest, ObjectHead, ObjectSummary, Pin, StoreError, Urgency};
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;

/// HEADs under way at once in the background.
const HEADS_AT_ONCE: usize = 128;
/// `PATH_MAX` of Linux; a longer body is no symlink target.
const TARGET_MAX: u64 = 4096;

/// Why an object's metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HeadFailure {
    /// The store refused or failed.
    #[error("HEAD of '{key}': {error}")]
    Store {
        /// The object.
        key: String,
        /// How.
        error: StoreError,
    },
    /// What it says could not be taken over.
    #[error(transparent)]
    Here(#[from] Error),
}

impl From<HeadFailure> for Error {
    fn from(failure: HeadFailure) -> Self {
        match failure {
            HeadFailure::Here(error) => error,
            store => Error::new(ErrorKind::Io, store.to_string()),
        }
    }
}

/// HEADs under way, so that an inode is asked for once however many wait.
#[derive(Default)]
pub(super) struct Heads {
    under_way: parking_lot::Mutex<HashMap<Ino, Arc<tokio::sync::Mutex<()>>>>,
}

impl Inner {
    /// A GET brought an object's headers along.
    pub(super) fn learn_from_get(self: &Arc<Self>, ino: Ino, head: &ObjectHead) {
        if self.config.posix_metadata == PosixMetadata::Off {
            return;
        }
        let attrs = PosixAttrs::parse(&head.user_metadata);
        if is_empty(&attrs) && head.pin.version.is_none() {
            return;
        }
        let (inner, head) = (Arc::clone(self), head.clone());
        self.runtime.spawn(async move {
            if let Err(error) = inner.apply(ino, &head, &attrs).await {
                tracing::warn!(%ino, %error, "object metadata could not be recorded");
            }
        });
    }

    /// A directory's marker object may carry the directory's attributes; only HEAD shows them.
    pub(super) fn note_marker(self: &Arc<Self>, dir: Ino, marker: ObjectSummary) {
        if self.config.posix_metadata != PosixMetadata::Eager {
            return;
        }
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Err(error) = inner.read_marker(dir, &marker.key, Urgency::Ahead).await {
                tracing::debug!(%dir, %error, "a directory's marker could not be read");
            }
        });
    }

    /// HEADs of new inodes, in the background.
    pub(super) fn head_in_background(self: &Arc<Self>, inodes: Vec<Ino>) {
        if inodes.is_empty() {
            return;
        }
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            let inner = &inner;
            let head = |ino| async move {
                if let Err(error) = inner.head_once(ino, Urgency::Ahead).await {
                    tracing::debug!(%ino, %error, "background HEAD failed; a stat will try again");
                }
            };
            futures::stream::iter(inodes).for_each_concurrent(HEADS_AT_ONCE, head).await;
        });
    }

    /// Whether an object may say attributes that nobody has asked for: before some of them are set here, or ours go to the bucket, they have to be known, or
    /// the bucket would get our defaults for the others.
    pub(super) fn lacks_attributes(&self, ino: Ino, row: &Inode) -> bool {
        let is_object = row.kind == FileKind::File && row.origin.is_some();
        let is_unknown = !row.posix_known && !row.attrs_changed && self.config.posix_metadata != PosixMetadata::Off;
        is_object && is_unknown && !ino.is_frozen()
    }

    /// Takes over what an object says, as far as nothing else was set here. One that was replaced or deleted says nothing of this inode any more.
    pub(super) async fn learn_attributes(self: &Arc<Self>, ino: Ino, urgency: Urgency) -> std::result::Result<(), HeadFailure> {
        let row = self.inode(ino)?;
        let Some(origin) = row.origin else { return Ok(()) };
        match self.repository.head(&origin.key, urgency).await {
            Ok(head) => Ok(self.apply(ino, &head, &PosixAttrs::parse(&head.user_metadata)).await?),
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(HeadFailure::Store { key: origin.key, error }),
        }
    }

    /// Makes sure an inode's POSIX attributes are known; somebody waits for them.
    pub(super) async fn head_now(self: &Arc<Self>, ino: Ino) -> Result<()> {
        self.head_once(ino, Urgency::Demand).await
    }

    async fn head_once(self: &Arc<Self>, ino: Ino, urgency: Urgency) -> Result<()> {
        self.head_typed(ino, urgency).await.map_err(Error::from)
    }

    /// Reads an object's metadata, unless it is known.
    pub(super) async fn head_typed(self: &Arc<Self>, ino: Ino, urgency: Urgency) -> std::result::Result<(), HeadFailure> {
        let turn = Arc::clone(self.heads.under_way.lock().entry(ino).or_default());
        let outcome = {
            let _turn = turn.lock().await;
            self.head_unless_known(ino, urgency).await
        };
        self.heads.under_way.lock().remove(&ino);
        outcome
    }

    async fn head_unless_known(self: &Arc<Self>, ino: Ino, urgency: Urgency) -> std::result::Result<(), HeadFailure> {
        let row = self.inode(ino)?;
        let Some(origin) = row.origin.filter(|_| !row.posix_known && row.kind == FileKind::File) else { return Ok(()) };
        let head = self.repository.head(&origin.key, urgency).await;
        let head = head.map_err(|error| HeadFailure::Store { key: origin.key.clone(), error })?;
        if head.pin.etag != origin.etag {
            return Ok(self.recheck_now(ino).await?);
        }
        Ok(self.apply(ino, &head, &PosixAttrs::parse(&head.user_metadata)).await?)
    }

    /// A directory takes over what its marker says.
    pub(super) async fn read_marker(&self, dir: Ino, key: &str, urgency: Urgency) -> std::result::Result<(), HeadFailure> {
        let head = self.repository.head(key, urgency).await;
        let head = head.map_err(|error| HeadFailure::Store { key: key.to_owned(), error })?;
        let attrs = PosixAttrs::parse(&head.user_metadata);
        self.meta.update_inode_quietly(dir, &|row| assume(row, &attrs)).map_err(metadata_error)?;
        self.invalidator.inode(dir);
        Ok(())
    }

    async fn apply(self: &Arc<Self>, ino: Ino, head: &ObjectHead, attrs: &PosixAttrs) -> Result<()> {
        let row = self.inode(ino)?;
        let Some(origin) = row.origin.as_ref().filter(|origin| origin.etag == head.pin.etag) else { return Ok(()) };
        if attrs.kind() == Some(ModeKind::Symlink) && row.kind == FileKind::File && row.base.is_none() && row.size <= TARGET_MAX {
            let target = self.fetch_target(origin, row.size).await?;
            self.meta.become_symlink(ino, &target).map_err(metadata_error)?;
        }
        let change = |row: &mut Inode| {
            // It may have been exported meanwhile.
            if row.origin.as_ref().is_none_or(|origin| origin.etag != head.pin.etag) {
                return;
            }
            assume(row, attrs);
            if let (Some(origin), Some(version)) = (&mut row.origin, &head.pin.version) {
                origin.version = Some(version.clone());
            }
        };
        let changed = {
            let mut after = row.clone();
            change(&mut after);
            after != row
        };
        if changed {
            if let Some(row) = self.meta.update_inode_quietly(ino, &change).map_err(metadata_error)? {
                self.note_set_ids(ino, &row);
            }
            self.forget_in_kernel(ino, attrs)?;
        }
        Ok(())
    }

    fn forget_in_kernel(&self, ino: Ino, attrs: &PosixAttrs) -> Result<()> {
        if attrs.kind() == Some(ModeKind::Symlink)
            && let Some((parent, name)) = self.meta.parent_of(ino).map_err(metadata_error)?
        {
            // The kernel keeps an inode's type for life: the name has to be looked up again.
            self.invalidator.entry(parent, &name);
            self.invalidator.inode(parent);
        }
        if !is_empty(attrs) {
            self.invalidator.inode(ino);
        }
        Ok(())
    }

    async fn fetch_target(&self, origin: &Origin, size: u64) -> Result<Vec<u8>> {
        let failed = |error| Error::new(ErrorKind::Io, format!("symlink target '{}': {error}", origin.key));
        let pin = Pin { etag: origin.etag.clone(), version: origin.version.clone() };
        let request = GetRequest { key: origin.key.clone(), range: Some(0..size), pin: Some(pin) };
        let mut body = self.repository.fetch(request, Urgency::Demand).await.map_err(failed)?.body;
        let mut target = Vec::new();
        while let Some(chunk) = body.next().await {
            target.extend_from_slice(&chunk.map_err(failed)?);
        }
        Ok(target)
    }
}

fn assume(row: &mut Inode, attrs: &PosixAttrs) {
    // What was set here counts for more than what the object says.
    if row.attrs_changed {
        return;
    }
    row.perm = attrs.perm().unwrap_or(row.perm);
    row.uid = attrs.uid.unwrap_or(row.uid);
    row.gid = attrs.gid.unwrap_or(row.gid);
    if row.base.is_none() {
        row.atime_ns = attrs.atime_ns.unwrap_or(row.atime_ns);
        row.mtime_ns = attrs.mtime_ns.unwrap_or(row.mtime_ns);
    }
    row.posix_known = true;
}

/// Whether the metadata says nothing about attributes (a user agent is none).
fn is_empty(attrs: &PosixAttrs) -> bool {
    *attrs == PosixAttrs { agent: attrs.agent.clone(), ..PosixAttrs::default() }
}
