//! Resolving names: from rows while they are fresh, else by listing the directory, or by probing the one name where the
//! directory is too large to list for its sake.

use super::directory::Directory;
use super::listing::Goal;
use super::types::{Answer, Attr, Entry, Lookup};
use super::{Inner, Vfs, metadata_error};
use crate::config::PosixMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode};
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;

/// A stale directory with more entries than this is not listed again for one name's sake (5 LISTs of 1,000).
const LIST_AGAIN_UP_TO: u64 = 5_000;
/// `NAME_MAX` of Linux.
const NAME_MAX: usize = 255;

impl Vfs {
    /// Resolves a name in a directory.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Answer<Lookup> {
        if let Err(error) = check_name(name) {
            return Answer::Ready(Err(error));
        }
        match self.0.known(parent, name).transpose() {
            Some(answer) => Answer::Ready(answer),
            None => {
                let (inner, name) = (Arc::clone(&self.0), name.to_vec());
                Answer::Pending(async move { inner.resolve(parent, &name).await }.boxed())
            }
        }
    }
}

/// Refuses names that are too long.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Error::new(ErrorKind::NameTooLong, format!("a name of {} bytes", name.len())));
    }
    Ok(())
}

/// Whether the store has no say in what an inode is: it was made or written here.
pub(super) fn is_ours(row: &Inode) -> bool {
    row.local || row.base.is_some()
}

impl Inner {
    /// What the rows say about a name, if they are fresh enough to say it.
    fn known(&self, parent: Ino, name: &[u8]) -> Result<Option<Lookup>> {
        if let Some(ours) = self.our_entry(parent, name)? {
            return Ok(Some(Lookup::Found(ours)));
        }
        let directory = self.directory(parent)?;
        let Some(ttl) = self.freshness(&directory, name) else { return Ok(None) };
        let found = self.found(parent, name, ttl)?;
        if let Lookup::Found(entry) = &found
            && self.needs_head(entry)?
        {
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// A name that the store has no say in.
    fn our_entry(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>> {
        let Some(dirent) = self.meta.lookup(parent, name).map_err(metadata_error)? else { return Ok(None) };
        let row = self.inode(dirent.ino)?;
        Ok(is_ours(&row).then(|| Entry { attr: attr_of(dirent.ino, &row), ttl: self.ttl() }))
    }

    /// How much longer what is known about a name holds; `None` if it has to be asked.
    pub(super) fn freshness(&self, directory: &Directory, name: &[u8]) -> Option<Duration> {
        if !directory.in_store {
            return Some(self.ttl());
        }
        let checked = directory.listed_at(name).max(self.directories.probed_at(directory.ino, name))?;
        let age = Duration::from_nanos(u64::try_from(self.clock.wall_ns() - checked).unwrap_or(0));
        self.ttl().checked_sub(age).filter(|left| !left.is_zero())
    }

    fn found(&self, parent: Ino, name: &[u8], ttl: Duration) -> Result<Lookup> {
        let Some(dirent) = self.meta.lookup(parent, name).map_err(metadata_error)? else {
            return Ok(Lookup::Absent { ttl });
        };
        let row = self.inode(dirent.ino)?;
        Ok(Lookup::Found(Entry { attr: attr_of(dirent.ino, &row), ttl }))
    }

    fn needs_head(&self, entry: &Entry) -> Result<bool> {
        if self.config.posix_metadata != PosixMetadata::Eager || entry.attr.kind != FileKind::File {
            return Ok(false);
        }
        let row = self.inode(entry.attr.ino)?;
        Ok(!row.posix_known && row.origin.is_some())
    }

    /// Resolves a name with the store's help.
    pub(super) async fn resolve(self: &Arc<Self>, parent: Ino, name: &[u8]) -> Result<Lookup> {
        if let Some(ours) = self.our_entry(parent, name)? {
            return Ok(Lookup::Found(ours));
        }
        let directory = self.directory(parent)?;
        if self.freshness(&directory, name).is_none() {
            self.refresh(&directory, name).await?;
        }
        let ttl = self.freshness(&directory, name).unwrap_or_default();
        let found = self.found(parent, name, ttl)?;
        if let Lookup::Found(entry) = &found
            && self.needs_head(entry)?
        {
            self.head_now(entry.attr.ino).await?;
            return self.found(parent, name, ttl);
        }
        Ok(found)
    }

    /// Makes what is known about a name fresh.
    async fn refresh(self: &Arc<Self>, directory: &Arc<Directory>, name: &[u8]) -> Result<()> {
        let goal = match directory.state() {
            None => Some(Goal::FirstPage),
            Some(state) if state.complete && state.entries <= LIST_AGAIN_UP_TO => Some(Goal::Everything),
            Some(_) => None,
        };
        if let Some(goal) = goal {
            self.list(directory, goal).await?;
        }
        if self.freshness(directory, name).is_none() {
            self.probe(directory, name).await?;
        }
        Ok(())
    }

    /// An inode's object turned out to be another version: looks at its name again, so that the next open finds the new one.
    pub(super) fn recheck(self: &Arc<Self>, ino: Ino) {
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Err(error) = inner.recheck_now(ino).await {
                tracing::warn!(%ino, %error, "a replaced object could not be looked up again");
            }
        });
    }

    /// Probes the name of an inode whatever its age.
    pub(super) async fn recheck_now(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let Some((parent, name)) = self.meta.parent_of(ino).map_err(metadata_error)? else { return Ok(()) };
        let directory = self.directory(parent)?;
        self.probe(&directory, &name).await
    }
}

/// `stat` of a row.
pub(super) fn attr_of(ino: Ino, row: &Inode) -> Attr {
    Attr {
        ino,
        kind: row.kind,
        perm: row.perm,
        uid: row.uid,
        gid: row.gid,
        nlink: row.nlink,
        size: row.size,
        atime_ns: row.atime_ns,
        mtime_ns: row.mtime_ns,
        ctime_ns: row.ctime_ns,
        rdev: row.rdev,
    }
}
