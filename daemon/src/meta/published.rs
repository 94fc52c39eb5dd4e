//! Entering the tree of a published snapshot ([`crate::format::manifest`]) into an empty store: rows that borrow the objects which the manifest names.
//!
//! Invariants:
//! 1. The setting [`PUBLISHED_SETTING`] is written in the same transaction as the last rows: with it the tree is whole.
//! 2. All directories are `local`, so nothing is ever listed; and no row is in the log of changes, so nothing is ever exported.

use super::clones::enter_borrower;
use super::engine::Table;
use super::names::{count_links, enter, links_of};
use super::rows::Txn;
use super::{FileKind, Inode, Link, MetaError, MetaStore};
use crate::format::manifest::{Entry, Node, split};
use crate::format::rows::key::{self, Space};
use crate::format::rows::{Origin, encode_text};
use crate::ids::Ino;
use std::collections::BTreeMap;

/// The setting that says which manifest a store's tree is of.
pub const PUBLISHED_SETTING: &str = "published";
/// Names entered in one transaction.
const STEP: usize = 1000;

/// An inode to be entered.
struct New {
    ino: Ino,
    row: Inode,
    target: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A directory whose entries are coming: its link count is known when all have come.
struct Open {
    path: Vec<u8>,
    new: New,
}

/// A tree being entered, in the order of a manifest's entries.
pub struct Published<'m> {
    meta: &'m MetaStore,
    open: Vec<Open>,
    batch: Vec<New>,
}

impl MetaStore {
    /// Begins to enter a published tree; the store has nothing but its root.
    pub fn enter_published(&self) -> Published<'_> {
        Published { meta: self, open: Vec::new(), batch: Vec::new() }
    }
}

impl Published<'_> {
    /// Takes the next entry, which the decoder found in its place.
    pub fn entry(&mut self, entry: Entry) -> Result<(), MetaError> {
        let Entry { path, perm, uid, gid, mtime_ns, xattrs, node } = entry;
        let (parent, name) = split(&path);
        if !path.is_empty() {
            self.close(|open| open.path.as_slice() != parent);
        }
        let (kind, size, origin, target, rdev) = parts_of(node);
        let (ino, link) = match self.open.last_mut() {
            Some(directory) => {
                count_links(&mut directory.new.row, links_of(kind));
                let link = Link { parent: directory.new.ino, name: name.to_vec() };
                (Ino(self.meta.take_inos(1)?.start), Some(link))
            }
            None => (Ino::ROOT, None),
        };
        let mut row = Inode::new(kind, perm, (uid, gid), mtime_ns, link);
        (row.local, row.posix_known, row.size, row.rdev) = (true, true, size, rdev);
        (row.borrowed, row.origin) = (origin.is_some(), origin);
        let new = New { ino, row, target, xattrs };
        match kind {
            FileKind::Directory => self.open.push(Open { path, new }),
            _ => self.batch.push(new),
        }
        if self.batch.len() >= STEP { self.write(None) } else { Ok(()) }
    }

    /// All entries have come: the tree is that of this manifest, durably.
    pub fn finish(mut self, manifest: &[u8]) -> Result<(), MetaError> {
        self.close(|_| true);
        self.write(Some(manifest))?;
        self.meta.flush()
    }

    fn close(&mut self, is_left: impl Fn(&Open) -> bool) {
        while let Some(open) = self.open.pop_if(|open| is_left(open)) {
            self.batch.push(open.new);
        }
    }

    fn write(&mut self, manifest: Option<&[u8]>) -> Result<(), MetaError> {
        let batch = std::mem::take(&mut self.batch);
        self.meta.transact(|txn| {
            txn.says_what_the_bucket_says();
            batch.iter().for_each(|new| new.write(txn));
            if let Some(manifest) = manifest {
                txn.write_plain(Table::Settings, &key::setting(Space::User, PUBLISHED_SETTING), encode_text(manifest));
            }
            Ok(())
        })
    }
}

impl New {
    fn write(&self, txn: &mut Txn<'_>) {
        let New { ino, row, target, xattrs } = self;
        txn.write(Table::Inodes, &key::ino(*ino), row.encode());
        if let Some(link) = &row.link {
            enter(txn, link.parent, &link.name, *ino, row.kind);
        }
        if row.kind == FileKind::Symlink {
            txn.write(Table::Symlinks, &key::ino(*ino), encode_text(target));
        }
        if let Some(origin) = &row.origin {
            enter_borrower(txn, &origin.key, *ino);
        }
        for (name, value) in xattrs {
            txn.write(Table::Xattrs, &key::xattr(*ino, name), encode_text(value));
        }
    }
}

fn parts_of(node: Node) -> (FileKind, u64, Option<Origin>, Vec<u8>, u32) {
    match node {
        Node::Directory => (FileKind::Directory, 0, None, Vec::new(), 0),
        Node::File { size, object } => (FileKind::File, size, object, Vec::new(), 0),
        Node::Symlink { target } => (FileKind::Symlink, target.len() as u64, None, target, 0),
        Node::Special { kind, rdev } => (kind, 0, None, Vec::new(), rdev),
    }
}
