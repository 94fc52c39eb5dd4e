//! Going through a snapshot, in the order of a manifest: the names of a directory in theirs, with what is below one in its place.

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Entry, Node};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, Origin, SnapshotRow};
use crate::vfs::{Inner, metadata_error};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Entries of a directory read at a time.
const PAGE: usize = 1000;

/// A name of the snapshot.
pub(super) struct Found {
    /// Its path below the snapshot's directory.
    pub(super) path: Vec<u8>,
    /// Its inode, as the snapshot shows it.
    pub(super) ino: Ino,
    /// Its row.
    pub(super) row: Inode,
}

struct Level {
    dir: Ino,
    path: Vec<u8>,
    after: Option<Vec<u8>>,
    page: VecDeque<(Vec<u8>, Ino, Inode)>,
}

/// A walk.
pub(super) struct Tree {
    inner: Arc<Inner>,
    root: Option<Found>,
    levels: Vec<Level>,
}

impl Tree {
    pub(super) fn of(inner: &Arc<Inner>, snapshot: &SnapshotRow) -> Result<Self> {
        let ino = snapshot.root.at(snapshot.epoch);
        let root = Found { path: Vec::new(), ino, row: inner.inode(ino)? };
        let levels = vec![Level { dir: ino, path: Vec::new(), after: None, page: VecDeque::new() }];
        Ok(Tree { inner: Arc::clone(inner), root: Some(root), levels })
    }

    /// The next names, at most so many; none at the end.
    pub(super) fn next(&mut self, most: usize) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = self.root.take().into_iter().collect();
        while found.len() < most
            && let Some(level) = self.levels.last_mut()
        {
            let Some((name, ino, row)) = level.page.pop_front() else {
                let page = self.inner.meta.read_dir(level.dir, level.after.as_deref(), PAGE).map_err(metadata_error)?;
                match page.last() {
                    Some((last, ..)) => (level.after, level.page) = (Some(last.clone()), page.into()),
                    None => drop(self.levels.pop()),
                }
                continue;
            };
            let path = if level.path.is_empty() { name } else { [level.path.as_slice(), &name].join(&b'/') };
            if row.kind == FileKind::Directory {
                self.levels.push(Level { dir: ino, path: path.clone(), after: None, page: VecDeque::new() });
            }
            found.push(Found { path, ino, row });
        }
        Ok(found)
    }
}

impl Found {
    /// What the manifest says of it.
    pub(super) fn entry(&self, inner: &Inner, object: Option<Origin>) -> Result<Entry> {
        let (ino, row) = (self.ino, &self.row);
        let node = match row.kind {
            FileKind::Directory => Node::Directory,
            FileKind::File => Node::File { size: row.size, object },
            FileKind::Symlink => {
                let target = inner.meta.symlink_target(ino).map_err(metadata_error)?;
                Node::Symlink { target: target.ok_or_else(|| Error::new(ErrorKind::Stale, "its target is gone"))? }
            }
            kind => Node::Special { kind, rdev: row.rdev },
        };
        let mut xattrs = BTreeMap::new();
        for name in inner.meta.xattr_names(ino).map_err(metadata_error)? {
            if let Some(value) = inner.meta.xattr(ino, &name).map_err(metadata_error)? {
                xattrs.insert(name, value);
            }
        }
        let (perm, uid, gid, mtime_ns) = (row.perm, row.uid, row.gid, row.mtime_ns);
        Ok(Entry { path: self.path.clone(), perm, uid, gid, mtime_ns, xattrs, node })
    }
}
