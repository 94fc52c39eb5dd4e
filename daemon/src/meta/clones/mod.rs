//! Clones: writable copies of directories as they were in a snapshot, which share its blocks.
//!
//! A clone is one row at first. Its entries are made when somebody looks for them, and in the background in the order of their names; a directory that still
//! has entries to be made has a row in the table `clones`.
//!
//! Invariants:
//! 1. While a directory has such a row, each name that its source has is an entry here, or comes after the row's `after` and is still to be made.
//! 2. No name is taken from such a directory: first all of them are made. So what is not here and comes after `after` never was.
//! 3. The snapshot of an unfinished clone is not deleted, and no snapshot is taken while there is one.
//! 4. A file whose row says that its origin is borrowed is in the table `borrowers` under that object's key. (So may others be, for a while.)

mod borrow;
mod copy;
mod fill;

pub use borrow::Borrowers;
pub(super) use borrow::enter as enter_borrower;

use super::dir::{read_dirents, whole_directory};
use super::engine::{KeyRange, Order, Table, View};
use super::inode::read_inode;
use super::names::{entry, live_directory, touch_directory};
use super::rows::{Reading, Txn, damaged};
use super::snapshots::read_snapshot;
use super::{FileKind, Inode, ListingState, MetaError, MetaStore, REPOSITORY_SETTING, Refusal, SnapshotRow};
use crate::config::RepositorySettings;
use crate::format::rows::key::{self, Space};
use crate::format::rows::{CloneRow, decode_number, encode_number};
use crate::ids::{Epoch, Ino};
pub(super) use copy::Copying;
use parking_lot::{RwLock, RwLockReadGuard};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether any clone may be unfinished, so that nobody else pays for there being clones.
#[derive(Default)]
pub(super) struct Clones {
    may_be_unfinished: AtomicBool,
    /// Held for reading while a clone is begun.
    beginning: RwLock<()>,
}

impl Clones {
    pub(super) fn load(store: &MetaStore) -> Result<(), MetaError> {
        let any = first_unfinished(&*store.engine().view())?.is_some();
        store.shared.clones.may_be_unfinished.store(any, Ordering::Release);
        Ok(())
    }

    /// Has everybody look for unfinished clones; held until the row of a new one is there.
    pub(super) fn begin(&self) -> RwLockReadGuard<'_, ()> {
        let beginning = self.beginning.read();
        self.may_be_unfinished.store(true, Ordering::Release);
        beginning
    }

    fn any(&self) -> bool {
        self.may_be_unfinished.load(Ordering::Acquire)
    }
}

/// How often clones were begun: a snapshot depends on it.
pub(super) fn begun_key() -> Vec<u8> {
    key::setting(Space::Internal, "clones")
}

fn decode_clone(row: &[u8]) -> Result<CloneRow, MetaError> {
    CloneRow::decode(row).map_err(damaged(Table::Clones))
}

/// The first directory with entries still to be made.
pub(super) fn first_unfinished(view: &dyn View) -> Result<Option<Ino>, MetaError> {
    let mut found = None;
    view.scan(Table::Clones, &KeyRange { start: Vec::new(), end: None }, Order::Ascending, &mut |key, _| {
        found = key::leading_ino(key);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Whether an unfinished clone is of an epoch.
pub(super) fn is_cloned_from(view: &dyn View, epoch: Epoch) -> Result<bool, MetaError> {
    let (mut found, mut failure) = (false, None);
    view.scan(
        Table::Clones,
        &KeyRange { start: Vec::new(), end: None },
        Order::Ascending,
        &mut |_, row| match decode_clone(row) {
            Ok(row) if row.epoch == epoch => {
                found = true;
                ControlFlow::Break(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failure.map_or(Ok(found), Err)
}

impl MetaStore {
    /// Clones a snapshot's tree under a new name. Takes one commit, and a look at the names that the snapshot has: about a microsecond each.
    ///
    /// # Errors
    /// `NotFound` without such a snapshot, `Exists` where the name is taken, `Unlisted` if the snapshot has directories of which nobody knew what is in them.
    pub fn clone_snapshot(&self, name: &[u8], to: (Ino, &[u8]), now_ns: i64) -> Result<(Ino, Inode), MetaError> {
        let snapshot = self.snapshot(name)?.ok_or(Refusal::NotFound)?;
        self.must_be_listed(&snapshot)?;
        self.ensure_entry(to.0, to.1)?;
        let ino = Ino(self.take_inos(1)?.start);
        let _beginning = self.shared.clones.begin();
        self.transact(|txn| {
            // Not deleted meanwhile, and not another of the same name.
            if read_snapshot(txn, name)? != snapshot {
                return Err(Refusal::NotFound.into());
            }
            let directory = live_directory(txn, to.0)?;
            if entry(txn, to.0, to.1)?.is_some() {
                return Err(Refusal::Exists.into());
            }
            let old = self.as_it_was(snapshot.epoch);
            let row = read_inode(&old, snapshot.root)?.ok_or(Refusal::NotFound)?;
            let row = Copying::new(&old, ino, now_ns).copy(txn, to, (snapshot.root, row), ino)?;
            touch_directory(txn, to.0, directory, 1, now_ns);
            note_begun(txn)?;
            Ok((ino, row))
        })
    }

    /// Whether there is a clone whose entries are not all made.
    pub fn has_unfinished_clones(&self) -> Result<bool, MetaError> {
        Ok(self.shared.clones.any() && first_unfinished(&*self.engine().view())?.is_some())
    }

    pub(super) fn as_it_was(&self, epoch: Epoch) -> Reading<'_> {
        Reading { view: self.engine().view(), epoch }
    }

    /// Refuses a snapshot with directories of which it is not known what was in them.
    ///
    /// # Errors
    /// `Unlisted`, with the first of them.
    pub fn must_be_listed(&self, snapshot: &SnapshotRow) -> Result<(), MetaError> {
        let old = self.as_it_was(snapshot.epoch);
        let mut left = vec![snapshot.root];
        while let Some(dir) = left.pop() {
            let row = read_inode(&old, dir)?.ok_or(Refusal::NotFound)?;
            if !self.is_listed(&old, dir, &row)? {
                return Err(Refusal::Unlisted(dir).into());
            }
            let entries = read_dirents(&old, &whole_directory(dir), usize::MAX)?;
            left.extend(entries.iter().filter(|(_, dirent)| dirent.kind == FileKind::Directory).map(|(_, dirent)| dirent.ino));
        }
        Ok(())
    }

    fn is_listed(&self, old: &Reading<'_>, dir: Ino, row: &Inode) -> Result<bool, MetaError> {
        if row.local && row.origin.is_none() {
            return Ok(true);
        }
        if dir == Ino::ROOT && self.setting(REPOSITORY_SETTING)?.is_none_or(|of| is_nowhere(&of)) {
            return Ok(true);
        }
        let state = old.newest(Table::Listing, &key::ino(dir))?;
        let state = state.map(|row| ListingState::decode(&row).map_err(damaged(Table::Listing))).transpose()?;
        Ok(state.is_some_and(|state| state.complete))
    }
}

/// Whether the setting says that the root has no bucket. (An endpoint may follow.)
fn is_nowhere(repository: &[u8]) -> bool {
    repository.split(|byte| *byte == b' ').next() == Some(RepositorySettings::NONE.as_bytes())
}

/// Counts a clone that begins. Directories below it are made while it is unfinished, which says enough.
pub(super) fn note_begun(txn: &mut Txn<'_>) -> Result<(), MetaError> {
    let begun = txn.read_plain(Table::Settings, &begun_key())?.map_or(Ok(0), |row| decode_number(&row));
    let begun = begun.map_err(damaged(Table::Settings))?;
    txn.write_plain(Table::Settings, &begun_key(), encode_number(begun + 1));
    Ok(())
}

/// The row of a directory that has entries still to be made; the transaction depends on it.
fn read_clone(txn: &mut Txn<'_>, dir: Ino) -> Result<Option<CloneRow>, MetaError> {
    txn.read_plain(Table::Clones, &key::ino(dir))?.map(|row| decode_clone(&row)).transpose()
}
