//! Taking names away.

use super::dir::{read_dirents, whole_directory};
use super::names::{entry, links_of, live_directory, named_inode, take_name, touch_directory, unlinked};
use super::rows::Txn;
use super::{FileKind, MetaError, MetaStore, Origin, Refusal};
use crate::ids::Ino;

/// What a name that was removed stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The inode.
    pub ino: Ino,
    /// Whether it has no name any more.
    pub orphaned: bool,
}

impl MetaStore {
    /// Removes a name of anything but a directory.
    pub fn unlink(&self, parent: Ino, name: &[u8], now_ns: i64) -> Result<Removed, MetaError> {
        self.remove(parent, name, now_ns, &|_| None, |_, _, kind| match kind {
            FileKind::Directory => Err(Refusal::IsDirectory.into()),
            _ => Ok(()),
        })
    }

    /// Removes a directory without entries. What the store may have below it has to be listed before. `prefix_of` says which prefix its entries came from.
    pub fn rmdir(
        &self,
        parent: Ino,
        name: &[u8],
        prefix_of: &dyn Fn(Ino) -> Option<String>,
        now_ns: i64,
    ) -> Result<Removed, MetaError> {
        self.remove(parent, name, now_ns, prefix_of, |txn, ino, kind| match kind {
            FileKind::Directory => must_be_empty(txn, ino),
            _ => Err(Refusal::NotDirectory.into()),
        })
    }

    fn remove(
        &self,
        parent: Ino,
        name: &[u8],
        now_ns: i64,
        prefix_of: &dyn Fn(Ino) -> Option<String>,
        allowed: impl Fn(&mut Txn<'_>, Ino, FileKind) -> Result<(), MetaError>,
    ) -> Result<Removed, MetaError> {
        self.before_removal(parent, name)?;
        self.transact(|txn| {
            let directory = live_directory(txn, parent)?;
            let ino = entry(txn, parent, name)?.ok_or(Refusal::NotFound)?.ino;
            let mut row = named_inode(txn, parent, ino)?;
            allowed(txn, ino, row.kind)?;
            if row.kind == FileKind::Directory && !row.local {
                row.origin = prefix_of(ino).map(Origin::prefix);
            }
            take_name(txn, (parent, name), ino, &mut row, now_ns)?;
            let row = unlinked(txn, ino, row, now_ns);
            touch_directory(txn, parent, directory, -links_of(row.kind), now_ns);
            Ok(Removed { ino, orphaned: row.nlink == 0 })
        })
    }
}

/// Whoever enters a name changes the directory's row, which this transaction has read.
pub(super) fn must_be_empty(txn: &mut Txn<'_>, dir: Ino) -> Result<(), MetaError> {
    let empty = read_dirents(txn.reading(), &whole_directory(dir), 1)?.is_empty();
    if empty { Ok(()) } else { Err(Refusal::NotEmpty.into()) }
}
