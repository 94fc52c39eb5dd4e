//! `setattr`: modes, owners, times; and what becomes of set-user-ID and set-group-ID when a file is changed.

use super::frozen::must_be_now;
use super::lookup::attr_of;
use super::types::{Answer, Caller, Entry, SetAttr};
use super::{Inner, Vfs, metadata_error};
use crate::cache::CachedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{Enforce, FileKind, Inode};
use crate::repository::Urgency;
use futures::FutureExt;
use std::sync::Arc;

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const GROUP_EXEC: u16 = 0o010;

impl Vfs {
    /// Changes attributes. Whether the caller may is the kernel's to check (`default_permissions`).
    pub fn setattr(&self, ino: Ino, change: SetAttr, caller: Caller) -> Answer<Entry> {
        if let Err(error) = must_be_now(ino) {
            return Answer::Ready(Err(error));
        }
        let enforce = Enforce::of_user(caller.uid);
        let inner = Arc::clone(&self.0);
        // Of an inode that is gone the change itself says so.
        let lacks = change.sets_attributes() && inner.inode(ino).is_ok_and(|row| inner.lacks_attributes(ino, &row));
        if change.size.is_none() && !lacks {
            return Answer::Ready(inner.set_attributes(ino, &change, enforce));
        }
        let changed = async move {
            if lacks {
                inner.learn_attributes(ino, Urgency::Demand).await?;
            }
            if let Some(size) = change.size {
                let row = inner.inode(ino)?;
                match row.kind {
                    FileKind::File => {}
                    FileKind::Directory => return Err(Error::new(ErrorKind::IsDirectory, format!("{ino} is a directory"))),
                    _ => return Err(Error::new(ErrorKind::Invalid, format!("{ino} is no regular file"))),
                }
                let file = inner.file_of(ino, &row)?;
                inner.cache.wait_to_move();
                // POSIX: an empty file that is opened with O_TRUNC is marked as changed, too.
                inner.resize(&file, size, enforce).await?;
            }
            inner.set_attributes(ino, &change, enforce)
        };
        Answer::Pending(changed.boxed())
    }
}

impl Inner {
    fn set_attributes(&self, ino: Ino, change: &SetAttr, enforce: Enforce) -> Result<Entry> {
        self.cache.check_refused(ino)?;
        let now_ns = self.clock.wall_ns();
        let apply = |row: &mut Inode| apply(row, change, now_ns);
        let update = || self.meta.update_inode_for(ino, enforce, now_ns, &apply).map_err(metadata_error);
        let row = if change.mtime.is_some() { self.cache.set_times(ino, update)? } else { update()? };
        let row = row.ok_or_else(|| Error::new(ErrorKind::Stale, format!("{ino} no longer exists")))?;
        self.note_set_ids(ino, &row);
        Ok(Entry { attr: attr_of(ino, &self.inode(ino)?), ttl: self.ttl() })
    }

    /// Before a file is changed by somebody who may not keep them: its set-ID bits go. Costs nothing where it has none.
    pub(super) fn drop_ids(&self, file: &CachedFile) -> Result<()> {
        // Taken before the row is changed: bits that are set meanwhile are noted after it, and found by the next writer.
        if !file.take_set_ids() {
            return Ok(());
        }
        let now_ns = self.clock.wall_ns();
        let drop = |row: &mut Inode| {
            let kept = without_ids(row.perm);
            row.attrs_changed |= kept != row.perm;
            row.perm = kept;
            row.ctime_ns = now_ns;
        };
        self.meta.update_inode(file.ino(), &drop).map(|_| ()).map_err(|error| {
            file.note_set_ids();
            metadata_error(error)
        })
    }

    /// A row may have got set-ID bits, or what makes one go: whoever writes has to look.
    pub(super) fn note_set_ids(&self, ino: Ino, row: &Inode) {
        if has_ids(row) {
            self.cache.note_set_ids(ino);
        }
    }
}

/// Whether a row has a set-ID bit.
pub(super) fn has_ids(row: &Inode) -> bool {
    row.perm & (SET_UID | SET_GID) != 0
}

/// Permission bits without what a change by somebody else takes away. Set-group-ID without the group's right to execute stays: it once meant mandatory
/// locking.
fn without_ids(perm: u16) -> u16 {
    perm & !(SET_UID | if perm & GROUP_EXEC != 0 { SET_GID } else { 0 })
}

fn apply(row: &mut Inode, change: &SetAttr, now_ns: i64) {
    let perm_before = row.perm;
    row.perm = change.perm.unwrap_or(row.perm);
    if change.drops_ids && row.kind != FileKind::Directory {
        row.perm = without_ids(row.perm);
    }
    row.uid = change.uid.unwrap_or(row.uid);
    row.gid = change.gid.unwrap_or(row.gid);
    row.atime_ns = change.atime.map_or(row.atime_ns, |time| time.or_at(now_ns));
    row.mtime_ns = change.mtime.map_or(row.mtime_ns, |time| time.or_at(now_ns));
    row.ctime_ns = now_ns;
    let attributes = [
        row.perm != perm_before,
        change.perm.is_some(),
        change.uid.is_some(),
        change.gid.is_some(),
        change.atime.is_some(),
        change.mtime.is_some(),
    ];
    row.attrs_changed |= attributes.contains(&true);
}
