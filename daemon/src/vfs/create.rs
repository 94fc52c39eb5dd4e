//! `mknod`, `mkdir`, `symlink`, `link`, and the making of a file for `create`.

use super::frozen::{may_change_name, must_be_now};
use super::lookup::{attr_of, check_name};
use super::types::{Answer, Caller, Entry};
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, NewNode};
use futures::FutureExt;
use std::sync::Arc;

/// `PATH_MAX` of Linux without its NUL.
const TARGET_MAX: usize = 4095;

impl Vfs {
    /// Makes a file, fifo, socket or device.
    pub fn mknod(&self, parent: Ino, name: &[u8], kind: FileKind, perm: u16, rdev: u32, caller: Caller) -> Answer<Entry> {
        let node = caller.node(kind, perm, rdev, b"");
        self.0.made(parent, name, node)
    }

    /// Makes a directory.
    pub fn mkdir(&self, parent: Ino, name: &[u8], perm: u16, caller: Caller) -> Answer<Entry> {
        let node = caller.node(FileKind::Directory, perm, 0, b"");
        self.0.made(parent, name, node)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], caller: Caller) -> Answer<Entry> {
        if target.len() > TARGET_MAX {
            let message = format!("a symlink target of {} bytes", target.len());
            return Answer::Ready(Err(Error::new(ErrorKind::NameTooLong, message)));
        }
        let node = caller.node(FileKind::Symlink, 0o777, 0, target);
        self.0.made(parent, name, node)
    }

    /// Gives a file a further name.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Answer<Entry> {
        let link = || {
            check_name(name)?;
            must_be_now(ino)?;
            may_change_name(parent, name)?;
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
    fn made(self: &Arc<Self>, parent: Ino, name: &[u8], node: NewNode<'_>) -> Answer<Entry> {
        match self.make(parent, name, node) {
            Err(error) if self.cache.may_make_room(&error) => {
                Answer::Pending(self.make_after_making_room(parent, name, node).boxed())
            }
            made => Answer::Ready(made),
        }
    }

    /// Makes something that a quota refused, after what is gone was freed.
    pub(super) fn make_after_making_room(
        self: &Arc<Self>,
        parent: Ino,
        name: &[u8],
        node: NewNode<'_>,
    ) -> impl Future<Output = Result<Entry>> + Send + use<> {
        let (inner, name, target) = (Arc::clone(self), name.to_vec(), node.target.to_vec());
        let NewNode { kind, perm, umask, owner, rdev, .. } = node;
        async move {
            let (done, freed) = futures::channel::oneshot::channel();
            inner.cache.make_room(Box::new(move |_| {
                let _ = done.send(());
            }));
            let _ = freed.await;
            inner.make(parent, &name, NewNode { kind, perm, umask, owner, rdev, target: &target })
        }
    }

    pub(super) fn make(&self, parent: Ino, name: &[u8], node: NewNode<'_>) -> Result<Entry> {
        check_name(name)?;
        may_change_name(parent, name)?;
        let (ino, row) = self.meta.create(parent, name, node, self.clock.wall_ns()).map_err(metadata_error)?;
        self.names_changed(parent);
        Ok(Entry { attr: attr_of(ino, &row), ttl: self.ttl() })
    }
}
