//! Versioned rows: the one place that knows how epochs are read and written.
//!
//! Invariants:
//! 1. Rows are written in the current epoch only, and every commit depends on that epoch still being current. So the rows of
//!    an earlier epoch never change.
//! 2. A reader at epoch `e` sees, for each prefix, the newest row that is not younger than `e`; a tombstone means no row.
//! 3. A tombstone exists only above an older row; a row that has none below it is removed outright.

use super::MetaError;
use super::engine::{Batch, Durability, Engine, EngineError, KeyRange, Order, Table, View, Write};
use crate::format::rows::key::{self, Space};
use crate::format::rows::{self, RowError};
use crate::ids::{Epoch, Ino};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::ops::ControlFlow;

/// How often a transaction is tried before the conflict is the caller's.
const TRIES: usize = 64;
/// Tries after which whoever meets conflicts has the others wait.
const PATIENT_FOR: usize = 8;

impl From<EngineError> for MetaError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Conflict => MetaError::Conflict,
            other => MetaError::Engine(other.to_string()),
        }
    }
}

/// Names the table of a row that does not decode.
pub(super) fn damaged(table: Table) -> impl Fn(RowError) -> MetaError {
    move |why| MetaError::Damaged { table: table.name(), why: why.to_string() }
}

/// Called with each prefix and its newest row; breaks to stop.
pub(super) type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, MetaError> + 'a;

/// Called with each key and its row.
pub(super) type VisitKey<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), MetaError> + 'a;

/// A reader of versioned rows at one epoch.
pub(super) struct Reading<'a> {
    pub view: Box<dyn View + 'a>,
    pub epoch: Epoch,
}

impl Reading<'_> {
    /// The newest row of a prefix that is not younger than the epoch.
    pub fn newest(&self, table: Table, prefix: &[u8]) -> Result<Option<Vec<u8>>, MetaError> {
        if let Some(row) = self.view.get(table, &key::versioned(prefix, self.epoch))? {
            return Ok(live(row));
        }
        Ok(self.before(table, prefix, self.epoch)?.and_then(live))
    }

    /// The newest row older than an epoch, tombstones included.
    pub fn before(&self, table: Table, prefix: &[u8], epoch: Epoch) -> Result<Option<Vec<u8>>, MetaError> {
        Ok(self.older(table, prefix, epoch)?.map(|(_, row)| row))
    }

    /// The same with the epoch that it was written in.
    pub fn older(&self, table: Table, prefix: &[u8], epoch: Epoch) -> Result<Option<(Epoch, Vec<u8>)>, MetaError> {
        if epoch <= Epoch::FIRST {
            return Ok(None);
        }
        let range = KeyRange {
            start: key::versioned(prefix, Epoch(epoch.0 - 1)),
            end: key::after_prefix(&key::versioned(prefix, Epoch(0))),
        };
        let mut found = None;
        self.view.scan(table, &range, Order::Ascending, &mut |key, row| {
            found = key::split_versioned(key).map(|(_, epoch)| (epoch, row.to_vec()));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Every row in a range as it stands there, of all epochs, in order of the keys; ends at a failure.
    pub fn each(&self, table: Table, range: &KeyRange, visit: &mut VisitKey<'_>) -> Result<(), MetaError> {
        let mut failure = None;
        self.view.scan(table, range, Order::Ascending, &mut |key, row| match visit(key, row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Every prefix in a range with its newest row, in order of the keys; `visit` gets the prefix and the row.
    pub fn scan(&self, table: Table, range: &KeyRange, visit: &mut VisitRow<'_>) -> Result<(), MetaError> {
        let mut decided: Vec<u8> = Vec::new();
        let mut failure = None;
        self.view.scan(table, range, Order::Ascending, &mut |key, row| {
            let Some((prefix, epoch)) = key::split_versioned(key) else {
                failure = Some(damaged(table)(RowError::Field("key")));
                return ControlFlow::Break(());
            };
            if epoch > self.epoch || prefix == decided.as_slice() {
                return ControlFlow::Continue(());
            }
            decided.clear();
            decided.extend_from_slice(prefix);
            if rows::is_tombstone(row) {
                return ControlFlow::Continue(());
            }
            visit(prefix, row).unwrap_or_else(|error| {
                failure = Some(error);
                ControlFlow::Break(())
            })
        })?;
        failure.map_or(Ok(()), Err)
    }
}

fn live(row: Vec<u8>) -> Option<Vec<u8>> {
    (!rows::is_tombstone(&row)).then_some(row)
}

/// A transaction: reads from one view, writes into one batch, and depends on what it says it depends on.
pub(super) struct Txn<'a> {
    reading: Reading<'a>,
    batch: Batch,
    recount: Vec<Ino>,
    /// It only takes over what the bucket says.
    quiet: bool,
}

impl<'a> Txn<'a> {
    pub fn reading(&self) -> &Reading<'a> {
        &self.reading
    }

    /// The newest row; the transaction conflicts if somebody changes it.
    pub fn read(&mut self, table: Table, prefix: &[u8]) -> Result<Option<Vec<u8>>, MetaError> {
        let at = key::versioned(prefix, self.reading.epoch);
        let row = self.reading.view.get(table, &at)?;
        let newest = match &row {
            Some(row) => live(row.clone()),
            None => self.reading.before(table, prefix, self.reading.epoch)?.and_then(live),
        };
        // Only rows of the current epoch can change (invariant 1), so this one key stands for the newest row.
        self.batch.expect(table, at, row);
        Ok(newest)
    }

    /// Makes the transaction conflict if somebody else changes the newest row of a prefix.
    pub fn depend(&mut self, table: Table, prefix: &[u8]) -> Result<(), MetaError> {
        let at = key::versioned(prefix, self.reading.epoch);
        let row = self.reading.view.get(table, &at)?;
        self.batch.expect(table, at, row);
        Ok(())
    }

    /// The same for a prefix that a scan of this transaction found no row of.
    pub fn depend_absent(&mut self, table: Table, prefix: &[u8]) -> Result<(), MetaError> {
        if self.reading.epoch > Epoch::FIRST {
            // There may be a tombstone, which the scan passed over.
            return self.depend(table, prefix);
        }
        self.batch.expect(table, key::versioned(prefix, Epoch::FIRST), None);
        Ok(())
    }

    /// Writes a row in the current epoch.
    pub fn write(&mut self, table: Table, prefix: &[u8], row: Vec<u8>) {
        self.batch.put(table, key::versioned(prefix, self.reading.epoch), row);
    }

    /// Removes the newest row: outright, or by a tombstone where an older epoch still has one.
    pub fn remove(&mut self, table: Table, prefix: &[u8]) -> Result<(), MetaError> {
        let at = key::versioned(prefix, self.reading.epoch);
        match self.reading.before(table, prefix, self.reading.epoch)? {
            Some(older) if !rows::is_tombstone(&older) => self.batch.put(table, at, rows::TOMBSTONE),
            _ => self.batch.remove(table, at),
        }
        Ok(())
    }

    /// Reads a row of a table without versions; the transaction conflicts if somebody changes it.
    pub fn read_plain(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, MetaError> {
        let row = self.reading.view.get(table, key)?;
        self.batch.expect(table, key, row.clone());
        Ok(row)
    }

    /// Writes a row of a table without versions.
    pub fn write_plain(&mut self, table: Table, key: &[u8], row: Vec<u8>) {
        self.batch.put(table, key, row);
    }

    /// Removes a row of a table without versions.
    pub fn remove_plain(&mut self, table: Table, key: &[u8]) {
        self.batch.remove(table, key);
    }

    /// What this transaction writes of inodes is not a change that the bucket would have to know.
    pub fn says_what_the_bucket_says(&mut self) {
        self.quiet = true;
    }

    /// Whether inodes written are changes that the bucket has to know.
    pub fn changes_objects(&self) -> bool {
        !self.quiet
    }

    /// What was written so far.
    pub fn writes(&self) -> &[Write] {
        &self.batch.writes
    }

    /// What was written so far of the tree as it is: without what is done to rows of epochs that have ended.
    pub fn writes_now(&self) -> impl Iterator<Item = &Write> {
        let now = self.reading.epoch;
        let is_now = move |write: &&Write| {
            !write.table.is_versioned() || key::split_versioned(&write.key).is_some_and(|(_, epoch)| epoch == now)
        };
        self.batch.writes.iter().filter(is_now)
    }

    /// Has an inode counted again for quotas, though nothing of it is written.
    pub fn recount(&mut self, ino: Ino) {
        self.recount.push(ino);
    }

    /// The inodes to be counted again.
    pub fn to_recount(&self) -> &[Ino] {
        &self.recount
    }

    /// Notes that an inode has lost its name; [`super::MetaStore::free_orphans`] frees it.
    pub fn orphan(&mut self, ino: Ino) {
        self.batch.put(Table::Orphans, key::ino(ino), rows::encode_text(b""));
    }
}

/// The key of the current epoch.
pub(super) fn epoch_key() -> Vec<u8> {
    key::setting(Space::Internal, "epoch")
}

/// The current epoch as a view shows it.
pub(super) fn epoch_of(view: &dyn View) -> Result<Option<Epoch>, MetaError> {
    let row = view.get(Table::Settings, &epoch_key())?;
    row.map(|row| rows::decode_number(&row).map(Epoch).map_err(damaged(Table::Settings))).transpose()
}

/// Whose turn it is, among the transactions of one process: all at once, until one has met conflicts so often that the others let it through. The engine decides
/// what conflicts; this only keeps many who change the same rows from starving one of them.
#[derive(Default)]
pub(super) struct Turns(RwLock<()>);

/// A turn, alone or with others.
enum Turn<'t> {
    Shared { _turn: RwLockReadGuard<'t, ()> },
    Alone { _turn: RwLockWriteGuard<'t, ()> },
}

impl Turns {
    fn take(&self, tries: usize, alone: bool) -> Turn<'_> {
        match tries {
            _ if alone => Turn::Alone { _turn: self.0.write() },
            ..PATIENT_FOR => Turn::Shared { _turn: self.0.read() },
            _ => Turn::Alone { _turn: self.0.write() },
        }
    }
}

/// The same as [`transact_in_turn`] for whoever has no others to fear.
pub(super) fn transact<T>(
    engine: &dyn Engine,
    body: impl FnMut(&mut Txn<'_>) -> Result<T, MetaError>,
) -> Result<(T, Epoch), MetaError> {
    transact_in_turn(engine, &Turns::default(), false, body)
}

/// Runs `body` in a transaction, again from the start when it conflicts with somebody else's. Returns the epoch it ran in, too. `body` runs no other transaction.
pub(super) fn transact_in_turn<T>(
    engine: &dyn Engine,
    turns: &Turns,
    alone: bool,
    mut body: impl FnMut(&mut Txn<'_>) -> Result<T, MetaError>,
) -> Result<(T, Epoch), MetaError> {
    for tries in 0..TRIES {
        let turn = turns.take(tries, alone);
        let view = engine.view();
        let stamp = view.stamp();
        let epoch = epoch_of(&*view)?.unwrap_or(Epoch::FIRST);
        let mut batch = Batch::default();
        batch.read_at(stamp);
        batch.expect(Table::Settings, epoch_key(), Some(rows::encode_number(epoch.0)));
        let mut txn = Txn { reading: Reading { view, epoch }, batch, recount: Vec::new(), quiet: false };
        let result = body(&mut txn)?;
        let Txn { reading, batch, .. } = txn;
        drop(reading);
        if batch.is_empty() {
            return Ok((result, epoch));
        }
        let committed = engine.commit(batch, Durability::Process);
        drop(turn);
        match committed {
            Ok(()) => return Ok((result, epoch)),
            Err(EngineError::Conflict) => std::thread::yield_now(),
            Err(other) => return Err(other.into()),
        }
    }
    Err(MetaError::Conflict)
}
