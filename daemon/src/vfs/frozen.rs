//! The tree as it was: `.snapshots` in the root, a directory for each snapshot in it, and below that the tree of its instant.
//!
//! Inodes seen there have numbers that carry the snapshot's epoch (`Ino::at`), by which the metadata finds the rows of that time; so nearly every
//! operation that only looks is the same there. Everything that changes something is refused.

use super::lookup::attr_of;
use super::types::{Entry, Lookup};
use super::{Inner, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::OWN_NAME;
use crate::ids::Ino;
use crate::meta::{FileKind, Inode};
use std::time::Duration;

/// The name of the directory of snapshots in the root. It is in no listing, so that nobody copies or searches snapshots by accident.
pub(super) const SNAPSHOTS_NAME: &[u8] = b".snapshots";
const READABLE: u16 = 0o555;

/// Refuses to change what cannot change any more.
pub(super) fn must_be_now(ino: Ino) -> Result<()> {
    if ino.is_frozen() {
        return Err(Error::new(ErrorKind::ReadOnly, "snapshots do not change"));
    }
    Ok(())
}

/// Refuses names that cannot be made, moved or removed.
pub(super) fn may_change_name(parent: Ino, name: &[u8]) -> Result<()> {
    must_be_now(parent)?;
    if name == OWN_NAME.as_bytes() {
        return Err(Error::new(ErrorKind::NotPermitted, "'.forebay' is kept for snapshots that are exported to buckets"));
    }
    if parent == Ino::ROOT && name == SNAPSHOTS_NAME {
        return Err(Error::new(ErrorKind::Busy, "'.snapshots' in the root shows snapshots; 'forebay snapshot' changes them"));
    }
    Ok(())
}

impl Inner {
    /// What a name is that leads to snapshots; `None` for others.
    pub(super) fn snapshot_entry(&self, parent: Ino, name: &[u8]) -> Option<Result<Lookup>> {
        if parent == Ino::ROOT && name == SNAPSHOTS_NAME {
            let row = self.snapshots_row();
            return Some(row.map(|row| Lookup::Found(Entry { attr: attr_of(Ino::SNAPSHOTS, &row), ttl: self.ttl() })));
        }
        (parent == Ino::SNAPSHOTS).then(|| {
            let found = self.meta.snapshot(name).map_err(metadata_error)?;
            let Some(snapshot) = found else { return Ok(Lookup::Absent { ttl: Duration::ZERO }) };
            let ino = snapshot.root.at(snapshot.epoch);
            Ok(Lookup::Found(Entry { attr: attr_of(ino, &self.inode(ino)?), ttl: self.ttl() }))
        })
    }

    /// The directory of snapshots.
    pub(super) fn snapshots_row(&self) -> Result<Inode> {
        let all = self.meta.snapshots().map_err(metadata_error)?;
        let newest = all.iter().map(|(_, snapshot)| snapshot.created_ns).max().unwrap_or(0);
        let mut row = Inode::new(FileKind::Directory, READABLE, (0, 0), newest, None);
        (row.local, row.nlink) = (true, 2 + all.len() as u32);
        Ok(row)
    }

    /// Its entries after a name, at most `limit`.
    pub(super) fn snapshots_after(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Ino, Inode)>> {
        let all = self.meta.snapshots().map_err(metadata_error)?;
        let later = all.into_iter().filter(|(name, _)| after.is_none_or(|after| name.as_slice() > after));
        let entry = |(name, snapshot): (Vec<u8>, crate::meta::SnapshotRow)| {
            let ino = snapshot.root.at(snapshot.epoch);
            match self.inode(ino) {
                Ok(row) => Some(Ok((name, ino, row))),
                // Deleted meanwhile.
                Err(error) if error.kind == ErrorKind::Stale => None,
                Err(error) => Some(Err(error)),
            }
        };
        later.filter_map(entry).take(limit).collect()
    }
}

/// What is not known of a directory in a snapshot is not to be had any more.
pub(super) fn never_listed(ino: Ino) -> Error {
    Error::new(
        ErrorKind::Stale,
        format!("{ino} had not been listed when the snapshot was taken: 'forebay import' before it would have"),
    )
}
