//! `setattr`: modes, owners, times.

use super::lookup::attr_of;
use super::types::{Answer, Caller, Entry, SetAttr};
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{Enforce, FileKind, Inode};
use futures::FutureExt;
use std::sync::Arc;

impl Vfs {
    /// Changes attributes. Whether the caller may is the kernel's to check (`default_permissions`).
    pub fn setattr(&self, ino: Ino, change: SetAttr, caller: Caller) -> Answer<Entry> {
        let enforce = Enforce::of_user(caller.uid);
        let Some(size) = change.size else { return Answer::Ready(self.0.set_attributes(ino, &change, enforce)) };
        let inner = Arc::clone(&self.0);
        let resized = async move {
            let row = inner.inode(ino)?;
            match row.kind {
                FileKind::File => {}
                FileKind::Directory => return Err(Error::new(ErrorKind::IsDirectory, format!("{ino} is a directory"))),
                _ => return Err(Error::new(ErrorKind::Invalid, format!("{ino} is no regular file"))),
            }
            let file = inner.file_of(ino, &row)?;
            // POSIX: an empty file that is opened with O_TRUNC is marked as changed, too.
            inner.resize(&file, size, enforce).await?;
            inner.set_attributes(ino, &change, enforce)
        };
        Answer::Pending(resized.boxed())
    }
}

impl Inner {
    fn set_attributes(&self, ino: Ino, change: &SetAttr, enforce: Enforce) -> Result<Entry> {
        let now_ns = self.clock.wall_ns();
        let apply = |row: &mut Inode| apply(row, change, now_ns);
        let update = || self.meta.update_inode_for(ino, enforce, now_ns, &apply).map_err(metadata_error);
        let row = if change.mtime.is_some() { self.cache.set_times(ino, update)? } else { update()? };
        row.ok_or_else(|| Error::new(ErrorKind::Stale, format!("{ino} no longer exists")))?;
        Ok(Entry { attr: attr_of(ino, &self.inode(ino)?), ttl: self.ttl() })
    }
}

fn apply(row: &mut Inode, change: &SetAttr, now_ns: i64) {
    row.perm = change.perm.unwrap_or(row.perm);
    row.uid = change.uid.unwrap_or(row.uid);
    row.gid = change.gid.unwrap_or(row.gid);
    row.atime_ns = change.atime.map_or(row.atime_ns, |time| time.or_at(now_ns));
    row.mtime_ns = change.mtime.map_or(row.mtime_ns, |time| time.or_at(now_ns));
    row.ctime_ns = now_ns;
    let attributes =
        [change.perm.is_some(), change.uid.is_some(), change.gid.is_some(), change.atime.is_some(), change.mtime.is_some()];
    row.attrs_changed |= attributes.contains(&true);
}
