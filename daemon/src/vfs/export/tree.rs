//! Exporting everything below a directory.
//!
//! 1. Entries come from the metadata: what nobody looked at was not changed. A directory that was moved is listed to its end first: all below it is to be copied.
//! 2. A directory comes after what is below it: its marker has the times that it has then, and a moved one is settled once nothing comes from its old prefix.

use super::{ErrorCode, ExportResult, Exported, Inner, OnConflict, Vfs};
use crate::error::Result;
use crate::ids::Ino;
use crate::meta::{Doomed, FileKind};
use crate::repository::Urgency;
use crate::vfs::directory::Directory;
use crate::vfs::listing::Goal;
use crate::vfs::metadata_error;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Entries read at a time.
const PAGE: usize = 1000;
/// How often something that is being written to is tried again, and how long after the first try; twice as long each time.
const BUSY_TRIES: u32 = 6;
const BUSY_WAIT: Duration = Duration::from_millis(50);
/// Exports under way at once.
const AT_ONCE: usize = 64;

/// What is exported, and how.
#[derive(Clone, Copy, Debug)]
pub struct ExportTree {
    /// The directory, file or symlink.
    pub root: Ino,
    /// What is done about conflicts.
    pub on_conflict: OnConflict,
    /// Whether objects are deleted whose files were deleted here.
    pub prune: bool,
}

/// Told of what an export of a tree does, and asked for turns.
#[async_trait]
pub trait ExportEvents: Send + Sync {
    /// Held while one thing is exported.
    type Turn: Send;

    /// Waits for a turn to export one thing; `None`: begin nothing more.
    async fn turn(&self) -> Option<Self::Turn>;
    /// Something was exported, or was not.
    fn ended(&self, path: &Path, result: &ExportResult);
    /// Whether to begin nothing more.
    fn is_canceled(&self) -> bool;
}

/// One walk.
struct Walk<'a, E> {
    inner: &'a Arc<Inner>,
    how: ExportTree,
    events: &'a E,
    /// Something has to wait for something else to be exported first.
    has_later: AtomicBool,
    /// The tree is gone through for the second time.
    is_late: AtomicBool,
}

impl Vfs {
    /// Exports what is at and below an inode, which is at `path`.
    ///
    /// # Errors
    /// Only where the tree cannot be read; what could not be exported is told to `events`.
    pub async fn export_tree<E: ExportEvents>(&self, how: ExportTree, path: PathBuf, events: &E) -> Result<()> {
        let walk = Walk { inner: &self.0, how, events, has_later: AtomicBool::new(false), is_late: AtomicBool::new(false) };
        let Some(row) = self.0.meta.inode(how.root).map_err(metadata_error)? else { return Ok(()) };
        if row.kind == FileKind::Directory {
            walk.directory(how.root, path.clone()).await?;
            if walk.has_later.load(Ordering::Relaxed) {
                walk.is_late.store(true, Ordering::Relaxed);
                walk.directory(how.root, path.clone()).await?;
            }
        } else {
            walk.one(how.root, path).await;
            return Ok(());
        }
        walk.removals(&path).await
    }
}

impl<E: ExportEvents> Walk<'_, E> {
    /// Exports a directory and all below it; whether all of it was.
    fn directory(&self, dir: Ino, path: PathBuf) -> BoxFuture<'_, Result<bool>> {
        async move {
            let inner = self.inner;
            let directory = inner.directory(dir)?;
            let is_moved = directory.in_store && directory.prefix != directory.target;
            if is_moved {
                inner.list(&directory, Goal::Everything).await?;
            }
            let (mut under_way, mut all, mut after) = (FuturesUnordered::new(), true, None::<Vec<u8>>);
            loop {
                let page = inner.meta.read_dir(dir, after.as_deref(), PAGE).map_err(metadata_error)?;
                let Some((last, ..)) = page.last() else { break };
                after = Some(last.clone());
                for (name, ino, row) in page {
                    if self.events.is_canceled() {
                        break;
                    }
                    let path = path.join(as_name(&name));
                    if row.kind == FileKind::Directory {
                        all &= self.directory(ino, path).await?;
                    } else if row.kind.is_special() || !self.is_to_be_sent(ino, &row, &directory.target, &name)? {
                        continue;
                    } else {
                        under_way.push(self.one(ino, path));
                    }
                    while under_way.len() >= AT_ONCE {
                        all &= under_way.next().await.unwrap_or(true);
                    }
                }
            }
            while let Some(done) = under_way.next().await {
                all &= done;
            }
            if self.events.is_canceled() {
                return Ok(false);
            }
            let is_changed = inner.meta.change_of(dir).map_err(metadata_error)?.is_some();
            if dir != Ino::ROOT && inner.associations.at(dir).is_none() && (is_changed || is_moved) && all {
                all &= self.moved_or_made(&directory, path, is_moved).await;
            }
            Ok(all)
        }
        .boxed()
    }

    /// Whether a file or symlink is not what the bucket has at its place.
    fn is_to_be_sent(&self, ino: Ino, row: &crate::meta::Inode, prefix: &str, name: &[u8]) -> Result<bool> {
        let is_at = |key: &str| key.as_bytes().strip_prefix(prefix.as_bytes()) == Some(name);
        let is_there = row.own_origin().is_some_and(|origin| is_at(&origin.key)) || row.nlink > 1;
        Ok(!is_there || self.inner.meta.change_of(ino).map_err(metadata_error)?.is_some())
    }

    async fn one(&self, ino: Ino, path: PathBuf) -> bool {
        let Some(_turn) = self.events.turn().await else { return false };
        let mut tries = 0;
        let result = loop {
            let result = self.inner.export(ino, self.how.on_conflict, Urgency::Ahead).await;
            let is_busy = matches!(&result, Err(failure) if failure.code == ErrorCode::ResourceBusy && failure.may_pass);
            if !is_busy || tries == BUSY_TRIES || self.events.is_canceled() {
                break result;
            }
            if tries == 1 && !self.is_late.load(Ordering::Relaxed) {
                self.has_later.store(true, Ordering::Relaxed);
                return false;
            }
            tokio::time::sleep(BUSY_WAIT * 2_u32.pow(tries)).await;
            tries += 1;
        };
        self.events.ended(&path, &result);
        is_done(&result)
    }

    async fn moved_or_made(&self, dir: &Directory, path: PathBuf, is_moved: bool) -> bool {
        let Some(_turn) = self.events.turn().await else { return false };
        let result = match is_moved {
            true => self.inner.settle_moved(dir, self.how.on_conflict, Urgency::Ahead).await,
            false => self.inner.export(dir.ino, self.how.on_conflict, Urgency::Ahead).await,
        };
        self.events.ended(&path, &result);
        is_done(&result)
    }

    /// Deletes what lost its name below the directory's prefix: what was moved, and with `prune` what was deleted.
    async fn removals(&self, path: &Path) -> Result<()> {
        self.inner.settle_strays().await;
        let target = self.inner.directory(self.how.root)?.target.clone();
        if self.inner.association_of_key(&target).is_some() {
            return self.removals_below(path, target).await;
        }
        // Nothing is linked here, but perhaps to directories below.
        for association in self.inner.associations.all() {
            if association.above.contains(&self.how.root) {
                let path = Path::new(std::ffi::OsStr::from_bytes(&association.path));
                self.removals_below(path, association.prefix.clone()).await?;
            }
        }
        Ok(())
    }

    async fn removals_below(&self, path: &Path, prefix: String) -> Result<()> {
        let mut after = None::<String>;
        loop {
            let from = after.as_deref().or((!prefix.is_empty()).then_some(prefix.as_str()));
            let page = self.inner.meta.doomed(from, PAGE).map_err(metadata_error)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let is_past = !last.key.starts_with(&prefix);
            let mut under_way = FuturesUnordered::new();
            for doomed in page {
                if !doomed.key.starts_with(&prefix) {
                    continue;
                }
                under_way.push(self.removal(doomed, path, &prefix));
                if under_way.len() >= AT_ONCE {
                    under_way.next().await.transpose()?;
                }
            }
            while let Some(done) = under_way.next().await {
                done?;
            }
            if is_past || self.events.is_canceled() {
                return Ok(());
            }
        }
    }

    async fn removal(&self, doomed: Doomed, path: &Path, prefix: &str) -> Result<()> {
        let was_moved = self.inner.meta.inode(doomed.row.heir).map_err(metadata_error)?.is_some_and(|row| row.link.is_some());
        if self.events.is_canceled() || !(was_moved || self.how.prune) {
            return Ok(());
        }
        let Some(_turn) = self.events.turn().await else { return Ok(()) };
        let result = self.inner.remove_object(&doomed, self.how.on_conflict, Urgency::Ahead).await;
        let path = path.join(doomed.key.strip_prefix(prefix).unwrap_or(&doomed.key));
        match result {
            Ok(super::RemovalOutcome::Removed) => {
                self.events.ended(&path, &Ok(Exported::Sent(0)));
            }
            Ok(super::RemovalOutcome::Kept | super::RemovalOutcome::Later) => {}
            Err(failure) => {
                self.events.ended(&path, &Err(failure));
            }
        }
        Ok(())
    }
}

fn is_done(result: &ExportResult) -> bool {
    matches!(result, Ok(Exported::Sent(_) | Exported::Unchanged | Exported::Nothing))
}

fn as_name(name: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(name))
}
