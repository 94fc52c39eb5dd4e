//! Resolving names: from rows while they are fresh, else by listing the directory, or by probing the one name where the
//! directory is too large to list for its sake.

use super::directory::Directory;
use super::frozen::never_listed;
use super::listing::Goal;
use super::types::{Answer, Attr, Entry, Lookup};
use super::{Inner, Vfs, metadata_error};
use crate::config::PosixMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, allocated_bytes};
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
        if let Some(found) = self.snapshot_entry(parent, name) {
            return found.map(Some);
        }
        // Before the row: what a listing brings in between is seen, and what it had not brought yet is not taken for absent.
        let directory = self.directory(parent)?;
        let fresh = self.freshness(&directory, name);
        let row = self.row_of(parent, name)?;
        if let Some((ino, row)) = row.as_ref().filter(|(_, row)| is_ours(row)) {
            return Ok(Some(Lookup::Found(Entry { attr: attr_of(*ino, row), ttl: self.ttl() })));
        }
        let Some(ttl) = fresh else { return Ok(None) };
        Ok(match row {
            Some((_, row)) if self.needs_head(&row) => None,
            Some((ino, row)) => Some(Lookup::Found(Entry { attr: attr_of(ino, &row), ttl })),
            None if parent.is_frozen() && !self.directory_ready(parent)? => return Err(never_listed(parent)),
            None => Some(Lookup::Absent { ttl }),
        })
    }

    fn row_of(&self, parent: Ino, name: &[u8]) -> Result<Option<(Ino, Inode)>> {
        let Some(dirent) = self.meta.lookup(parent, name).map_err(metadata_error)? else { return Ok(None) };
        Ok(Some((dirent.ino, self.inode(dirent.ino)?)))
    }

    /// How much longer what is known about a name holds; `None` if it has to be asked.
    pub(super) fn freshness(&self, directory: &Directory, name: &[u8]) -> Option<Duration> {
        // Nothing about a snapshot is asked for again.
        if !directory.in_store || directory.ino.is_frozen() {
            return Some(self.ttl());
        }
        let checked = directory.listed_at(name).max(self.directories.probed_at(directory.ino, name))?;
        let age = Duration::from_nanos(u64::try_from(self.clock.wall_ns() - checked).unwrap_or(0));
        self.ttl().checked_sub(age).filter(|left| !left.is_zero())
    }

    fn needs_head(&self, row: &Inode) -> bool {
        let eager = self.config.posix_metadata == PosixMetadata::Eager && row.kind == FileKind::File;
        let of_now = row.link.as_ref().is_none_or(|link| !link.parent.is_frozen());
        eager && !row.posix_known && row.origin.is_some() && of_now
    }

    /// Resolves a name with the store's help.
    pub(super) async fn resolve(self: &Arc<Self>, parent: Ino, name: &[u8]) -> Result<Lookup> {
        if let Some(known) = self.known(parent, name)? {
            return Ok(known);
        }
        let directory = self.directory(parent)?;
        if self.freshness(&directory, name).is_none() {
            self.refresh(&directory, name).await?;
        }
        let ttl = self.freshness(&directory, name).unwrap_or_default();
        let Some((ino, row)) = self.row_of(parent, name)? else { return Ok(Lookup::Absent { ttl }) };
        if self.needs_head(&row) {
            self.head_now(ino).await?;
            // The name may belong to another inode by now.
            match self.row_of(parent, name)? {
                Some((ino, row)) => return Ok(Lookup::Found(Entry { attr: attr_of(ino, &row), ttl })),
                None => return Ok(Lookup::Absent { ttl }),
            }
        }
        Ok(Lookup::Found(Entry { attr: attr_of(ino, &row), ttl }))
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
        // In a directory that no bucket has, the name stands for what it stood for when it was made.
        if directory.in_store { self.probe(&directory, &name).await } else { Ok(()) }
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
        allocated: allocated_bytes(row),
        atime_ns: row.atime_ns,
        mtime_ns: row.mtime_ns,
        ctime_ns: row.ctime_ns,
        rdev: row.rdev,
    }
}
