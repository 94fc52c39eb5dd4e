//! fjall, all tables in one keyspace: a journal can go only when every keyspace with rows in it has been written out, so a rarely
//! written one of its own would keep old journals alive.

use super::{Candidate, Change, Table, Visit};
use crate::Outcome;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use std::path::Path;

const MEMTABLE_BYTES: u64 = 8 << 20;
/// The active memtable, and the sealed ones at which fjall stops writers.
const MEMTABLES_MAX: u64 = 5;
/// The least that fjall allows.
const JOURNAL_BYTES: u64 = 64 << 20;

pub struct Fjall {
    db: Database,
    rows: Keyspace,
}

impl Fjall {
    pub fn open(dir: &Path, memory_bytes: usize) -> Outcome<Self> {
        let db = Database::builder(dir)
            .cache_size((memory_bytes as u64).saturating_sub(MEMTABLES_MAX * MEMTABLE_BYTES))
            .worker_threads(2)
            .max_journaling_size(JOURNAL_BYTES)
            .open()?;
        let rows = db.keyspace("rows", || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES))?;
        Ok(Fjall { db, rows })
    }
}

fn stored(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}

impl Candidate for Fjall {
    fn commit(&mut self, changes: &[Change], durable: bool) -> Outcome<()> {
        let mode = if durable { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.db.batch().durability(Some(mode));
        for (table, key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.rows, stored(*table, key), value.as_slice()),
                None => batch.remove(&self.rows, stored(*table, key)),
            }
        }
        Ok(batch.commit()?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        // Through a snapshot: a plain get can see half of a batch.
        let found = self.db.snapshot().get(&self.rows, stored(table, key))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Outcome<()> {
        for row in self.db.snapshot().range(&self.rows, [table as u8]..[table as u8 + 1]) {
            visit(&row.into_inner()?.1)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }
}
