//! Deleting a snapshot: its name goes at once, then the rows that only it read, some at a time.

use super::{Kept, SnapshotRow};
use crate::format::rows::{is_tombstone, key};
use crate::ids::{Epoch, Ino};
use crate::meta::engine::{KeyRange, Order, Table, View};
use crate::meta::quota::Spending;
use crate::meta::rows::Txn;
use crate::meta::{MetaError, MetaStore, Refusal};
use std::ops::ControlFlow;

/// Keys looked at in one transaction.
const STEP: usize = 500;

impl MetaStore {
    /// Deletes a snapshot. Nobody reads it from here on; [`MetaStore::reclaim_snapshots`] frees what it kept.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<SnapshotRow, MetaError> {
        let row = self.transact(|txn| {
            let mut row = super::read_snapshot(txn, name)?;
            if super::is_cloned_from(&*txn.reading().view, row.epoch)? {
                return Err(Refusal::Cloning.into());
            }
            row.deleting = true;
            // From here on nobody opens it. Its name is free for another.
            self.shared.kept.close(row.epoch);
            txn.remove_plain(Table::Snapshots, name);
            txn.write_plain(Table::Snapshots, &key::deleted_snapshot(row.epoch), row.encode());
            Ok(row)
        });
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                // It is there still.
                Kept::load(self)?;
                return Err(error);
            }
        };
        // Who found it open is done after this.
        let by = Spending { alone_in_turn: true, ..Spending::default() };
        self.transact_for(&by, |_| Ok(()))?;
        Ok(row)
    }

    /// Frees what deleted snapshots kept, some rows at a time: before each step `enter` says whether to go on, and what it gives is held until the step is
    /// done. `release` gets the fingerprints of blocks that nothing refers to any more.
    pub fn reclaim_snapshots<G>(
        &self,
        enter: &dyn Fn() -> Option<G>,
        release: &mut dyn FnMut(Vec<u64>),
    ) -> Result<(), MetaError> {
        for (name, row) in self.all_snapshots()?.into_iter().filter(|(_, row)| row.deleting) {
            // Rows that only this snapshot read were written after the last one kept before it, and written over before the next one kept.
            let (before, next) = self.neighbours(row.epoch)?;
            let start = key::rewritten(Epoch(before.map_or(0, |epoch| epoch.0) + 1), 0, &[]);
            let range = KeyRange { start, end: next.map(|next| key::rewritten(Epoch(next.0 + 1), 0, &[])) };
            if !self.sweep(Some(row.epoch), range, enter, release)? {
                return Ok(());
            }
            if !self.forget_cached_maps(row.epoch, enter, release)? {
                return Ok(());
            }
            self.transact(|txn| {
                txn.remove_plain(Table::Snapshots, &name);
                Ok(())
            })?;
            self.shared.kept.remove(row.epoch);
        }
        if self.shared.kept.is_empty() {
            self.sweep(None, KeyRange { start: Vec::new(), end: None }, enter, release)?;
        }
        Ok(())
    }

    /// The epochs that somebody may read next to one.
    fn neighbours(&self, gone: Epoch) -> Result<(Option<Epoch>, Option<Epoch>), MetaError> {
        let kept = epochs_read(&*self.engine().view())?;
        let before = kept.iter().copied().filter(|epoch| *epoch < gone).max();
        Ok((before, kept.into_iter().filter(|epoch| *epoch > gone).min()))
    }

    /// Tidies every key that was written over in a range of the log, of a deleted snapshot from where it stopped before; `false` if there is more to do.
    fn sweep<G>(
        &self,
        of: Option<Epoch>,
        range: KeyRange,
        enter: &dyn Fn() -> Option<G>,
        release: &mut dyn FnMut(Vec<u64>),
    ) -> Result<bool, MetaError> {
        let KeyRange { mut start, end } = range;
        if let Some(reached) = of.and_then(|epoch| self.shared.kept.reached(epoch)) {
            start = start.max(reached);
        }
        loop {
            let Some(_step) = enter() else { return Ok(false) };
            let found = self.rewritten_in(&KeyRange { start: start.clone(), end: end.clone() })?;
            let Some(last) = found.last() else { return Ok(true) };
            let next = [last.as_slice(), &[0]].concat();
            let by = Spending { alone_in_turn: true, ..Spending::default() };
            let ((), released) = self.transact_releasing(&by, |txn| {
                // A snapshot that is taken meanwhile ends the epoch, and this is done again.
                let kept = epochs_read(&*txn.reading().view)?;
                found.iter().try_for_each(|row| tidy(txn, row, &kept))
            })?;
            if let Some(epoch) = of {
                self.shared.kept.note_reached(epoch, next.clone());
            }
            start = next;
            if !released.is_empty() {
                release(released);
            }
        }
    }

    fn rewritten_in(&self, range: &KeyRange) -> Result<Vec<Vec<u8>>, MetaError> {
        let mut found = Vec::new();
        self.engine().view().scan(Table::Rewritten, range, Order::Ascending, &mut |key, _| {
            found.push(key.to_vec());
            if found.len() < STEP { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(found)
    }

    /// Removes the rows that say what of a snapshot's files was cached or held for it since; `false` if there is more to do.
    fn forget_cached_maps<G>(
        &self,
        gone: Epoch,
        enter: &dyn Fn() -> Option<G>,
        release: &mut dyn FnMut(Vec<u64>),
    ) -> Result<bool, MetaError> {
        loop {
            let keys = self.cached_maps(gone)?;
            if keys.is_empty() {
                return Ok(true);
            }
            let Some(_step) = enter() else { return Ok(false) };
            let by = Spending { alone_in_turn: true, ..Spending::default() };
            let ((), released) = self.transact_releasing(&by, |txn| {
                keys.iter().for_each(|key| txn.remove_plain(Table::FileMap, key));
                Ok(())
            })?;
            if !released.is_empty() {
                release(released);
            }
        }
    }

    /// Some of these rows.
    fn cached_maps(&self, gone: Epoch) -> Result<Vec<Vec<u8>>, MetaError> {
        let mut keys = Vec::new();
        self.engine().view().scan(Table::FileMap, &maps_of(gone), Order::Ascending, &mut |key, _| {
            keys.push(key.to_vec());
            if keys.len() < STEP { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(keys)
    }
}

/// Where the rows are that say what was cached or held for a snapshot.
pub(super) fn maps_of(epoch: Epoch) -> KeyRange {
    let first = |epoch| key::ino(Ino(0).at(epoch)).to_vec();
    KeyRange { start: first(epoch), end: Some(first(Epoch(epoch.0 + 1))) }
}

/// The epochs of snapshots that may be read.
pub(super) fn epochs_read(view: &dyn View) -> Result<Vec<Epoch>, MetaError> {
    Ok(super::read_snapshots(view)?.into_iter().filter(|(_, row)| !row.deleting).map(|(_, row)| row.epoch).collect())
}

/// Removes those rows of one key that neither the current tree nor a kept epoch reads. Nobody else changes anything meanwhile.
fn tidy(txn: &mut Txn<'_>, rewritten: &[u8], kept: &[Epoch]) -> Result<(), MetaError> {
    let Some((written, table, prefix)) = key::split_rewritten(rewritten) else { return Ok(()) };
    let Some(table) = Table::from_number(table) else { return Ok(()) };
    // Newest first.
    let mut rows: Vec<(Epoch, bool)> = Vec::new();
    let range =
        KeyRange { start: key::versioned(prefix, Epoch(u64::MAX)), end: key::after_prefix(&key::versioned(prefix, Epoch(0))) };
    txn.reading().view.scan(table, &range, Order::Ascending, &mut |key, row| {
        if let Some((_, epoch)) = key::split_versioned(key).filter(|(of, _)| *of == prefix) {
            rows.push((epoch, is_tombstone(row)));
        }
        ControlFlow::Continue(())
    })?;
    let is_read = |at: usize| at == 0 || kept.iter().any(|epoch| rows[at].0 <= *epoch && *epoch < rows[at - 1].0);
    let mut left: Vec<usize> = (0..rows.len()).filter(|at| is_read(*at)).collect();
    // With nothing older below it, a tombstone says what no row says as well.
    while left.last().is_some_and(|at| rows[*at].1) {
        left.pop();
    }
    for at in (0..rows.len()).filter(|at| !left.contains(at)) {
        let (epoch, _) = rows[at];
        txn.remove_plain(table, &key::versioned(prefix, epoch));
        txn.remove_plain(Table::Rewritten, &key::rewritten(epoch, table as u8, prefix));
    }
    // The entry leads to rows below its own, and says to somebody who compares two snapshots what is between them. Else it is done with.
    let leads = left.iter().any(|at| rows[*at].0 < written);
    let is_between = left.iter().any(|at| rows[*at].0 == written) && kept.iter().any(|epoch| *epoch < written);
    if !leads && !is_between {
        txn.remove_plain(Table::Rewritten, rewritten);
    }
    Ok(())
}
