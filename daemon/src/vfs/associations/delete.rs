//! Deleting associations. The bucket's objects stay as they are, whichever way.
//!
//! Without their data, files would be lost with the link; so all that is only in the bucket is brought here first, and from then on exists only here. With
//! `delete_data` the names go instead. Either way goes through the tree as often as it takes until nothing is left to do, so that it may be interrupted anywhere and goes on
//! at the next mount.

use super::{Association, AssociationView};
use crate::config::RepositorySettings;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{AssociationId, Ino};
use crate::meta::{AssociationState, FileKind, Inode, MetaError, REPOSITORY_SETTING};
use crate::vfs::listing::Goal;
use crate::vfs::{Inner, Vfs, metadata_error};
use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Entries read at a time.
const PAGE: usize = 1000;
/// Files brought here at once.
const AT_ONCE: usize = 16;
/// Times through the tree before whoever changes it all the time is told so.
const PASSES: usize = 10;

impl Vfs {
    /// Begins to unlink a directory from its bucket; [`Vfs::association_at`] says how far it is, and finds nothing once that is done. The files stay, unless `delete_data`.
    pub async fn delete_association(&self, path: &[u8], delete_data: bool) -> Result<AssociationView> {
        let inner = &self.0;
        let ino = inner.walk(path).await?;
        let _alone = inner.associations.alone().await;
        let association = inner.association_of_directory(ino)?;
        if association.row.state == AssociationState::Deleting {
            return Ok(association.view(inner.config.store_deadline));
        }
        let deleting = inner.note(&association, |row| {
            (row.state, row.delete_data) = (AssociationState::Deleting, delete_data);
            row.failure.clear();
        })?;
        inner.make_durable().await?;
        inner.go_on_deleting(&deleting);
        Ok(deleting.view(inner.config.store_deadline))
    }
}

impl Inner {
    pub(super) fn go_on_deleting(self: &Arc<Self>, association: &Arc<Association>) {
        let (inner, association) = (Arc::clone(self), Arc::clone(association));
        self.runtime.spawn(async move {
            let outcome = inner.take_apart(&association).await;
            let _alone = inner.associations.alone().await;
            let recorded = match outcome {
                Ok(()) => inner.end_association(&association).await,
                Err(error) => {
                    tracing::error!(association = %association.id, path = association.shown(), %error, "an association could not be deleted");
                    let failure = error.message;
                    inner.note(&association, |row| (row.state, row.failure) = (AssociationState::Failed, failure)).map(drop)
                }
            };
            if let Err(error) = recorded {
                tracing::error!(%error, "the end of an association could not be recorded; the next mount goes on");
            }
        });
    }

    async fn take_apart(self: &Arc<Self>, association: &Association) -> Result<()> {
        for _ in 0..PASSES {
            let pass = Pass { inner: self, association, left: AtomicBool::new(false) };
            if association.row.delete_data {
                pass.remove_below(association.row.root).await?;
            } else {
                pass.keep_below(association.row.root).await?;
            }
            if !pass.left.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        let message = format!("what is below '{}' changes all the time; try again when it is quiet", association.shown());
        Err(Error::new(ErrorKind::Busy, message))
    }

    async fn end_association(self: &Arc<Self>, association: &Association) -> Result<()> {
        // What was made independent of the bucket is durable before the link is gone.
        self.make_durable().await?;
        self.meta.remove_association(association.id, association.row.root).map_err(metadata_error)?;
        if association.id == AssociationId::ROOT {
            // The next mount is to be one without a bucket: this cache's root has none any more.
            self.meta.set_setting(REPOSITORY_SETTING, RepositorySettings::NONE.as_bytes()).map_err(metadata_error)?;
        }
        self.associations.remove(association.id);
        self.repository.unlink(association.id);
        self.directories.forget_all();
        self.invalidator.inode(association.row.root);
        self.make_durable().await
    }
}

/// Once through the tree.
struct Pass<'a> {
    inner: &'a Arc<Inner>,
    association: &'a Association,
    /// Something was not done, and has to be done again.
    left: AtomicBool,
}

impl Pass<'_> {
    /// Makes everything below a directory independent of the bucket.
    fn keep_below(&self, dir: Ino) -> BoxFuture<'_, Result<()>> {
        async move {
            let inner = self.inner;
            let directory = inner.directory(dir)?;
            if directory.in_store {
                inner.list(&directory, Goal::Everything).await?;
            }
            let (mut under_way, mut after) = (FuturesUnordered::new(), None::<Vec<u8>>);
            loop {
                let page = inner.meta.read_dir(dir, after.as_deref(), PAGE).map_err(metadata_error)?;
                let Some((last, ..)) = page.last() else { break };
                after = Some(last.clone());
                for (_, ino, row) in page {
                    if row.kind == FileKind::Directory {
                        self.keep_below(ino).await?;
                    } else if row.origin.is_some() || !row.local {
                        under_way.push(self.keep(ino, row));
                    }
                    while under_way.len() >= AT_ONCE {
                        under_way.next().await.transpose()?;
                    }
                }
            }
            while let Some(kept) = under_way.next().await {
                kept?;
            }
            if dir != self.association.row.root {
                self.detach(dir)?;
                inner.directories.forget(dir);
            }
            Ok(())
        }
        .boxed()
    }

    async fn keep(&self, ino: Ino, row: Inode) -> Result<()> {
        if row.kind == FileKind::File {
            let file = self.inner.file_of(ino, &row)?;
            self.inner.cache.bring_here(&file).await.map_err(|error| self.explain(error))?;
        }
        self.detach(ino)?;
        self.association.progress.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn detach(&self, ino: Ino) -> Result<()> {
        if !self.inner.meta.detach(ino).map_err(metadata_error)? {
            self.left.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn explain(&self, error: Error) -> Error {
        let path = self.association.shown();
        match error.kind {
            ErrorKind::NoSpace | ErrorKind::OverQuota => Error::new(
                error.kind,
                format!(
                    "what is below '{path}' does not fit here ({error}); remove files, or delete the association with --delete-data"
                ),
            ),
            _ => Error::new(error.kind, format!("what is below '{path}' could not be brought here: {error}")),
        }
    }

    /// Removes everything below a directory, here only.
    fn remove_below(&self, dir: Ino) -> BoxFuture<'_, Result<()>> {
        async move {
            let inner = self.inner;
            loop {
                let page = inner.meta.read_dir(dir, None, PAGE).map_err(metadata_error)?;
                if page.is_empty() {
                    return Ok(());
                }
                for (name, ino, row) in page {
                    if row.kind == FileKind::Directory {
                        self.remove_below(ino).await?;
                    }
                    self.remove(dir, &name, row.kind).await?;
                }
            }
        }
        .boxed()
    }

    async fn remove(&self, dir: Ino, name: &[u8], kind: FileKind) -> Result<()> {
        let (inner, now_ns) = (self.inner, self.inner.clock.wall_ns());
        let nothing = |_| None;
        let removed = match kind {
            FileKind::Directory => inner.meta.rmdir(dir, name, &nothing, now_ns),
            _ => inner.meta.unlink(dir, name, now_ns),
        };
        let removed = match removed {
            Ok(removed) => removed,
            // Somebody was faster, or made something in it.
            Err(MetaError::Refused(_)) => {
                self.left.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => return Err(metadata_error(error)),
        };
        inner.names_changed(dir);
        inner.directories.forget(removed.ino);
        if removed.orphaned && kind != FileKind::Directory {
            inner.cache.unlinked(removed.ino);
        }
        inner.invalidator.entry(dir, name);
        self.association.progress.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
