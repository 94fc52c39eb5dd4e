//! Snapshots: the end of an epoch that is kept, under a name.
//!
//! Invariants:
//! 1. The rows that a snapshot reads (the newest of each key not younger than its epoch) are there, unchanged, until it is deleted.
//! 2. While there are snapshots, each row written over one of an older epoch is in the table `rewritten`, so that what a deleted snapshot
//!    leaves behind is found at the cost of what changed, not of what there is.

mod diff;
mod frees;
mod hold;
mod reclaim;
mod rewritten;
mod since;
mod view;

pub use diff::{Difference, Differs};
pub use frees::Leaving;
pub(super) use rewritten::note;
pub use since::Since;
pub use view::TreeView;
pub(super) use view::{beside, shown};

use super::clones::{begun_key, first_unfinished, is_cloned_from};
use super::engine::{Batch, Durability, EngineError, KeyRange, Order, Table, View};
use super::rows::{Txn, damaged, epoch_key, epoch_of};
use super::{MetaError, MetaStore, Refusal, SnapshotRow};
use crate::format::rows::{encode_number, key};
use crate::ids::{Epoch, Ino};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The epochs whose rows are kept, and whether each may still be read.
#[derive(Default)]
pub(super) struct Kept {
    epochs: RwLock<BTreeMap<Epoch, bool>>,
    /// Up to where what a deleted snapshot kept was freed.
    reached: Mutex<BTreeMap<Epoch, Vec<u8>>>,
}

impl Kept {
    pub(super) fn load(store: &MetaStore) -> Result<(), MetaError> {
        let found = store.all_snapshots()?;
        // Those being deleted as well: what they left behind is to be found.
        *store.shared.kept.epochs.write() = found.into_iter().map(|(_, row)| (row.epoch, !row.deleting)).collect();
        Ok(())
    }

    fn may_be_read(&self, epoch: Epoch) -> bool {
        self.epochs.read().get(&epoch).is_some_and(|is_read| *is_read)
    }

    fn add(&self, epoch: Epoch) {
        self.epochs.write().insert(epoch, true);
    }

    fn close(&self, epoch: Epoch) {
        self.epochs.write().insert(epoch, false);
    }

    fn remove(&self, epoch: Epoch) {
        self.epochs.write().remove(&epoch);
        self.reached.lock().remove(&epoch);
    }

    fn reached(&self, epoch: Epoch) -> Option<Vec<u8>> {
        self.reached.lock().get(&epoch).cloned()
    }

    fn note_reached(&self, epoch: Epoch, key: Vec<u8>) {
        self.reached.lock().insert(epoch, key);
    }

    /// Whether there is a snapshot, or one being deleted, of an epoch from one to before another.
    fn has_any(&self, from: Epoch, to: Epoch) -> bool {
        self.epochs.read().range(from..to).next().is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.epochs.read().is_empty()
    }
}

/// A snapshot that may be read; the transaction conflicts with its deletion.
pub(super) fn read_snapshot(txn: &mut Txn<'_>, name: &[u8]) -> Result<SnapshotRow, MetaError> {
    let row = txn.read_plain(Table::Snapshots, name)?.ok_or(Refusal::NotFound)?;
    let row = SnapshotRow::decode(&row).map_err(damaged(Table::Snapshots))?;
    if row.deleting { Err(Refusal::NotFound.into()) } else { Ok(row) }
}

fn read_snapshots(view: &dyn View) -> Result<Vec<(Vec<u8>, SnapshotRow)>, MetaError> {
    let (mut found, mut failure) = (Vec::new(), None);
    let everything = KeyRange { start: Vec::new(), end: None };
    view.scan(Table::Snapshots, &everything, Order::Ascending, &mut |key, row| {
        match SnapshotRow::decode(row) {
            Ok(row) => found.push((key.to_vec(), row)),
            Err(why) => failure = Some(why),
        }
        ControlFlow::Continue(())
    })?;
    failure.map_or(Ok(found), |why| Err(damaged(Table::Snapshots)(why)))
}

impl MetaStore {
    /// Ends the current epoch durably and keeps it under a name: what is in the tree now stays readable, and changes from here on are written in
    /// the next. What is only in memory is not in the tree.
    ///
    /// # Errors
    /// `Exists` if there is one of that name.
    pub fn take_snapshot(&self, name: &[u8], root: Ino, path: &[u8], now_ns: i64) -> Result<SnapshotRow, MetaError> {
        loop {
            // A clone that is half made now would be so for ever.
            self.finish_clones(&|| false)?;
            let view = self.engine().view();
            let begun = view.get(Table::Settings, &begun_key())?;
            if first_unfinished(&*view)?.is_some() {
                continue;
            }
            let epoch = epoch_of(&*view)?.unwrap_or(Epoch::FIRST);
            if epoch > Ino::LAST_EPOCH {
                return Err(Refusal::Invalid("there were too many snapshots").into());
            }
            if view.get(Table::Snapshots, name)?.is_some() {
                return Err(Refusal::Exists.into());
            }
            drop(view);
            let row = SnapshotRow { epoch, root, created_ns: now_ns, path: path.to_vec(), deleting: false, materialized: false };
            let mut batch = Batch::default();
            batch.expect(Table::Settings, epoch_key(), Some(encode_number(epoch.0)));
            batch.expect(Table::Settings, begun_key(), begun);
            batch.expect(Table::Snapshots, name, None);
            batch.put(Table::Settings, epoch_key(), encode_number(epoch.0 + 1));
            batch.put(Table::Snapshots, name, row.encode());
            // Before the epoch is another: whoever writes in the next must know that this one is kept.
            self.shared.kept.add(epoch);
            match self.engine().commit(batch, Durability::Durable) {
                Ok(()) => {
                    self.saw_epoch(Epoch(epoch.0 + 1));
                    return Ok(row);
                }
                Err(error) => {
                    self.shared.kept.remove(epoch);
                    if !matches!(error, EngineError::Conflict) {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// A snapshot.
    pub fn snapshot(&self, name: &[u8]) -> Result<Option<SnapshotRow>, MetaError> {
        let row = self.engine().view().get(Table::Snapshots, name)?;
        let row = row.map(|row| SnapshotRow::decode(&row)).transpose().map_err(damaged(Table::Snapshots))?;
        Ok(row.filter(|row| !row.deleting))
    }

    /// The snapshots, in order of their names.
    pub fn snapshots(&self) -> Result<Vec<(Vec<u8>, SnapshotRow)>, MetaError> {
        Ok(self.all_snapshots()?.into_iter().filter(|(_, row)| !row.deleting).collect())
    }

    fn all_snapshots(&self) -> Result<Vec<(Vec<u8>, SnapshotRow)>, MetaError> {
        read_snapshots(&*self.engine().view())
    }

    /// How many there are with those that are being deleted.
    #[cfg(test)]
    pub(super) fn all_names(&self) -> usize {
        self.all_snapshots().expect("reads").len()
    }

    /// Whether there is a snapshot of an epoch.
    pub fn is_kept(&self, epoch: Epoch) -> bool {
        self.shared.kept.may_be_read(epoch)
    }
}

/// Whether a snapshot can have this name: one that a directory could have.
pub fn is_snapshot_name(name: &[u8]) -> bool {
    key::is_name(name) && name != b"." && name != b".."
}
