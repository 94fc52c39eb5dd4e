//! The rows on disk: one redb table, changed only by checkpoints.
//!
//! A checkpoint is one durable redb transaction that also says up to which commit the tree is complete, so that tree and journal
//! always fit. It saves redb's allocator state ("quick repair"): without that, opening after a crash reads the whole file.

use super::journal::sync_dir;
use super::memtable::Memtable;
use crate::meta::engine::{EngineError, Order};
use redb::{Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition, TableError, WriteTransaction};
use std::path::Path;

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");
const STATE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("state");
const APPLIED: &str = "applied";

pub(super) fn failed(error: impl Into<redb::Error>) -> EngineError {
    EngineError::Failed { engine: "redb", source: Box::new(error.into()) }
}

/// An unchanging state of the tree.
pub(super) type TreeSnapshot = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The rows on disk.
pub(super) struct Tree {
    db: Database,
}

impl Tree {
    /// Opens or creates the file; it is locked against other processes.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, EngineError> {
        let opened = Database::builder().set_cache_size(cache_bytes).create(path);
        let db = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => EngineError::Locked,
            other => failed(other),
        })?;
        let tree = Tree { db };
        if matches!(tree.db.begin_read().map_err(failed)?.open_table(STATE), Err(TableError::TableDoesNotExist(_))) {
            tree.checkpoint(&Memtable::default(), 0)?;
            // Journal files go once the tree has their commits, so the tree's own name must not be lost.
            path.parent().map_or(Ok(()), sync_dir).map_err(super::journal::failed)?;
        }
        Ok(tree)
    }

    /// The last commit whose rows are all in the tree.
    pub fn applied(&self) -> Result<u64, EngineError> {
        let state = self.db.begin_read().map_err(failed)?.open_table(STATE).map_err(failed)?;
        Ok(state.get(APPLIED).map_err(failed)?.map_or(0, |number| number.value()))
    }

    /// The tree as it is now.
    pub fn snapshot(&self) -> Result<TreeSnapshot, EngineError> {
        self.db.begin_read().map_err(failed)?.open_table(ROWS).map_err(failed)
    }

    /// Takes in the newest state of every row of a memtable, durably; complete up to commit `applied` then.
    pub fn checkpoint(&self, rows: &Memtable, applied: u64) -> Result<(), EngineError> {
        let mut txn = self.db.begin_write().map_err(failed)?;
        txn.set_durability(Durability::Immediate).map_err(failed)?;
        txn.set_quick_repair(true);
        write(&txn, rows, applied)?;
        txn.commit().map_err(failed)
    }
}

fn write(txn: &WriteTransaction, rows: &Memtable, applied: u64) -> Result<(), EngineError> {
    let mut table = txn.open_table(ROWS).map_err(failed)?;
    for (key, value) in rows.range(&[0], &[u8::MAX], u64::MAX, Order::Ascending) {
        match value {
            Some(value) => table.insert(key.as_slice(), value.as_slice()).map(drop).map_err(failed)?,
            None => table.remove(key.as_slice()).map(drop).map_err(failed)?,
        }
    }
    txn.open_table(STATE).map_err(failed)?.insert(APPLIED, applied).map(drop).map_err(failed)
}
