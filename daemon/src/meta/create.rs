//! New files, directories, symlinks and special files; and further names of files.

use super::engine::Table;
use super::inode::read_for_change;
use super::names::{enter, entry, give_name, links_of, live_directory, touch_directory};
use super::quota::{Enforce, Spending};
use super::{FileKind, Inode, MetaError, MetaStore, Refusal, acl};
use crate::format::rows::{Link, encode_text, key};
use crate::ids::Ino;

/// Names a file can have; what ext4 allows.
const LINKS_MAX: u32 = 65_000;
const SET_GID: u16 = 0o2000;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct NewNode<'a> {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits asked for.
    pub perm: u16,
    /// Those of them that it does not get, unless the directory has a default access control list.
    pub umask: u16,
    /// Owner and group of whoever makes it; a set-group-ID directory gives its own group.
    pub owner: (u32, u32),
    /// Device number of a device, else 0.
    pub rdev: u32,
    /// Target of a symlink, else empty.
    pub target: &'a [u8],
}

impl MetaStore {
    /// Makes something new under a name that is free.
    pub fn create(&self, parent: Ino, name: &[u8], node: NewNode<'_>, now_ns: i64) -> Result<(Ino, Inode), MetaError> {
        self.ensure_entry(parent, name)?;
        let ino = Ino(self.take_inos(1)?.start);
        let by = Spending { enforce: Enforce::of_user(node.owner.0), now_ns, ..Spending::default() };
        self.transact_for(&by, |txn| {
            let directory = live_directory(txn, parent)?;
            if entry(txn, parent, name)?.is_some() {
                return Err(Refusal::Exists.into());
            }
            let inherited = acl::inherit(txn, parent, &node)?;
            let (mut perm, mut owner) = (inherited.perm, node.owner);
            if directory.perm & SET_GID != 0 {
                owner.1 = directory.gid;
                perm |= if node.kind == FileKind::Directory { SET_GID } else { 0 };
            }
            let link = Link { parent, name: name.to_vec() };
            let mut row = Inode::new(node.kind, perm, owner, now_ns, Some(link));
            (row.local, row.rdev, row.size) = (true, node.rdev, node.target.len() as u64);
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            inherited.write(txn, ino);
            if node.kind == FileKind::Symlink {
                txn.write(Table::Symlinks, &key::ino(ino), encode_text(node.target));
            }
            enter(txn, parent, name, ino, node.kind);
            touch_directory(txn, parent, directory, links_of(node.kind), now_ns);
            Ok((ino, row))
        })
    }

    /// Gives a file a further name.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8], now_ns: i64) -> Result<Inode, MetaError> {
        self.ensure_entry(parent, name)?;
        self.transact(|txn| {
            let directory = live_directory(txn, parent)?;
            let mut row = read_for_change(txn, ino)?.filter(|row| row.nlink > 0).ok_or(Refusal::NotFound)?;
            if row.kind == FileKind::Directory {
                return Err(Refusal::NotPermitted.into());
            }
            if entry(txn, parent, name)?.is_some() {
                return Err(Refusal::Exists.into());
            }
            if row.nlink >= LINKS_MAX {
                return Err(Refusal::TooManyLinks.into());
            }
            give_name(txn, parent, name, ino, &mut row);
            (row.nlink, row.ctime_ns) = (row.nlink + 1, now_ns);
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            touch_directory(txn, parent, directory, 0, now_ns);
            Ok(row)
        })
    }
}
