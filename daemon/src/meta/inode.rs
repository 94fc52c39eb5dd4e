//! Inodes and symlink targets.

use super::engine::Table;
use super::quota::{Enforce, Spending};
use super::rows::{Reading, Txn, damaged};
use super::snapshots::shown;
use super::{FileKind, Inode, MetaError, MetaStore, acl};
use crate::format::rows::{Dirent, InodeRow, decode_text, encode_text, key};
use crate::ids::Ino;

const PERM_BITS: u16 = 0o7777;

pub(super) fn decode_inode(row: &[u8]) -> Result<InodeRow, MetaError> {
    InodeRow::decode(row).map_err(damaged(Table::Inodes))
}

pub(super) fn read_inode(reading: &Reading<'_>, ino: Ino) -> Result<Option<InodeRow>, MetaError> {
    reading.newest(Table::Inodes, &key::ino(ino))?.map(|row| decode_inode(&row)).transpose()
}

/// Reads an inode that the transaction depends on.
pub(super) fn read_for_change(txn: &mut Txn<'_>, ino: Ino) -> Result<Option<InodeRow>, MetaError> {
    txn.read(Table::Inodes, &key::ino(ino))?.map(|row| decode_inode(&row)).transpose()
}

fn update(txn: &mut Txn<'_>, ino: Ino, change: &dyn Fn(&mut Inode)) -> Result<Option<Inode>, MetaError> {
    let Some(before) = read_for_change(txn, ino)? else { return Ok(None) };
    let mut after = before.clone();
    change(&mut after);
    after.perm &= PERM_BITS;
    (after.kind, after.link) = (before.kind, before.link.clone());
    if after.perm != before.perm {
        acl::follow_mode(txn, ino, after.perm)?;
    }
    if after != before {
        txn.write(Table::Inodes, &key::ino(ino), after.encode());
    }
    Ok(Some(after))
}

impl MetaStore {
    /// An inode's newest row; of an inode seen through a snapshot, the row as it was.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>, MetaError> {
        let (reading, own) = self.reading_of(ino)?;
        Ok(read_inode(&reading, own)?.map(|row| shown(ino, row)))
    }

    /// Reads, changes and writes an inode's row atomically (retrying on conflict); `None` if there is no such inode.
    /// The row's kind and name are part of its directory entry as well and cannot be changed here.
    pub fn update_inode(&self, ino: Ino, change: &dyn Fn(&mut Inode)) -> Result<Option<Inode>, MetaError> {
        self.update_inode_for(ino, Enforce::Nothing, 0, change)
    }

    /// The same for what the bucket said, and for what it need not know.
    pub fn update_inode_quietly(&self, ino: Ino, change: &dyn Fn(&mut Inode)) -> Result<Option<Inode>, MetaError> {
        self.transact(|txn| {
            txn.says_what_the_bucket_says();
            update(txn, ino, change)
        })
    }

    /// The same where a user asked for it: quotas may refuse it.
    pub fn update_inode_for(
        &self,
        ino: Ino,
        enforce: Enforce,
        now_ns: i64,
        change: &dyn Fn(&mut Inode),
    ) -> Result<Option<Inode>, MetaError> {
        self.transact_for(&Spending { enforce, now_ns, ..Spending::default() }, |txn| update(txn, ino, change))
    }

    /// The directory an inode was found in and its name there; `None` for the root.
    pub fn parent_of(&self, ino: Ino) -> Result<Option<(Ino, Vec<u8>)>, MetaError> {
        Ok(self.inode(ino)?.and_then(|row| row.link).map(|link| (link.parent, link.name)))
    }

    /// A symlink's target, if known.
    pub fn symlink_target(&self, ino: Ino) -> Result<Option<Vec<u8>>, MetaError> {
        let (reading, own) = self.reading_of(ino)?;
        let row = reading.newest(Table::Symlinks, &key::ino(own))?;
        row.map(|row| decode_text(&row).map(<[u8]>::to_vec).map_err(damaged(Table::Symlinks))).transpose()
    }

    /// Turns an inode into a symlink with this target (its object's metadata said so): kind, size and dirent change.
    /// An inode that is gone stays gone.
    pub fn become_symlink(&self, ino: Ino, target: &[u8]) -> Result<(), MetaError> {
        self.transact(|txn| {
            txn.says_what_the_bucket_says();
            let Some(mut row) = read_for_change(txn, ino)? else { return Ok(()) };
            row.kind = FileKind::Symlink;
            row.size = target.len() as u64;
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            txn.write(Table::Symlinks, &key::ino(ino), encode_text(target));
            let Some(link) = row.link else { return Ok(()) };
            let at = key::dirent(link.parent, &link.name);
            // The name may belong to a newer inode by now.
            if let Some(dirent) = txn.read(Table::Dirents, &at)?
                && Dirent::decode(&dirent).map_err(damaged(Table::Dirents))?.ino == ino
            {
                txn.write(Table::Dirents, &at, Dirent { ino, kind: FileKind::Symlink }.encode());
            }
            Ok(())
        })
    }
}
