//! `mknod`, `mkdir`, `symlink`, `link`, and the making of a file for `create`.

use super::lookup::{attr_of, check_name};
use super::types::{Answer, Caller, Entry};
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, NewNode};

/// `PATH_MAX` of Linux without its NUL.
const TARGET_MAX: usize = 4095;

impl Vfs {
    /// Makes a file, fifo, socket or device.
    pub fn mknod(&self, parent: Ino, name: &[u8], kind: FileKind, perm: u16, rdev: u32, caller: Caller) -> Answer<Entry> {
        let node = caller.node(kind, perm, rdev, b"");
        Answer::Ready(self.0.make(parent, name, node))
    }

    /// Makes a directory.
    pub fn mkdir(&self, parent: Ino, name: &[u8], perm: u16, caller: Caller) -> Answer<Entry> {
        let node = caller.node(FileKind::Directory, perm, 0, b"");
        Answer::Ready(self.0.make(parent, name, node))
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], caller: Caller) -> Answer<Entry> {
        if target.len() > TARGET_MAX {
            let message = format!("a symlink target of {} bytes", target.len());
            return Answer::Ready(Err(Error::new(ErrorKind::NameTooLong, message)));
        }
        let node = caller.node(FileKind::Symlink, 0o777, 0, target);
        Answer::Ready(self.0.make(parent, name, node))
    }

    /// Gives a file a further name.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Answer<Entry> {
        let link = || {
            check_name(name)?;
            self.0.meta.link(ino, parent, name, self.0.clock.wall_ns()).map_err(metadata_error)?;
            self.0.names_changed(parent);
            // Not the row as it is there: what was written and not flushed counts.
            Ok(Entry { attr: attr_of(ino, &self.0.inode(ino)?), ttl: self.0.ttl() })
        };
        Answer::Ready(link())
    }
}

impl Caller {
    /// What this caller wants to be made.
    pub(super) fn node<'a>(&self, kind: FileKind, perm: u16, rdev: u32, target: &'a [u8]) -> NewNode<'a> {
        NewNode { kind, perm, umask: self.umask, owner: (self.uid, self.gid), rdev, target }
    }
}

impl Inner {
    pub(super) fn make(&self, parent: Ino, name: &[u8], node: NewNode<'_>) -> Result<Entry> {
        check_name(name)?;
        let (ino, row) = self.meta.create(parent, name, node, self.clock.wall_ns()).map_err(metadata_error)?;
        self.names_changed(parent);
        Ok(Entry { attr: attr_of(ino, &row), ttl: self.ttl() })
    }
}
