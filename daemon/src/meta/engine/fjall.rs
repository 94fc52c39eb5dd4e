//! The metadata engine on fjall: an LSM tree with a write-ahead journal, in Rust.
//!
//! All tables share one keyspace, told apart by the first byte of the key. A journal can be dropped only when every keyspace
//! with rows in it has been written out, so one rarely written table of its own would keep old journals, and their replay,
//! alive.
//!
//! Commits are written to the journal file before they return (`PersistMode::Buffer`), which is what the death of the process
//! cannot take back; `flush` and durable commits add `fdatasync`. Journals are replayed in order and end at the first
//! incomplete batch, so what survives a power cut is a prefix.

use super::{Batch, Durability, Engine, EngineError, KeyRange, Order, Table, View, Visit, expectations_hold};
use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use parking_lot::Mutex;
use std::ops::Bound;
use std::path::Path;

/// Bytes of rows in memory before they are written out as a table. Small, because a replay after a crash fills them again.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Memtables that can exist at once: the active one, and the sealed ones at which fjall stops writers.
const MEMTABLES_MAX: u64 = 5;
/// The least block cache, in bytes, however little memory is granted.
const CACHE_MIN_BYTES: u64 = 8 << 20;
/// fjall's least: journals beyond this force their tables out.
const JOURNAL_BYTES: u64 = 64 << 20;
/// One thread for flushes, one for compactions.
const WORKERS: usize = 2;
/// Open table files.
const OPEN_FILES: usize = 128;

/// An open fjall database.
pub struct FjallEngine {
    db: Database,
    rows: Keyspace,
    /// Makes "check the preconditions, then write" one step. fjall serialises commits anyway.
    committing: Mutex<()>,
}

impl FjallEngine {
    /// Opens or creates a database in a directory; caches and write buffers together stay near `memory_bytes`.
    pub fn open(dir: &Path, memory_bytes: usize) -> Result<Self, EngineError> {
        let cache = (memory_bytes as u64).saturating_sub(MEMTABLES_MAX * MEMTABLE_BYTES).max(CACHE_MIN_BYTES);
        let db = Database::builder(dir)
            .cache_size(cache)
            .worker_threads(WORKERS)
            .max_journaling_size(JOURNAL_BYTES)
            .max_cached_files(Some(OPEN_FILES))
            .open()
            .map_err(failed)?;
        let rows = db.keyspace("rows", || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)).map_err(failed)?;
        Ok(FjallEngine { db, rows, committing: Mutex::new(()) })
    }

    fn open_view(&self) -> FjallView<'_> {
        FjallView { snapshot: self.db.snapshot(), rows: &self.rows }
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        let _one_at_a_time = self.committing.lock();
        if !batch.expects.is_empty() && !expectations_hold(&self.open_view(), &batch)? {
            return Err(EngineError::Conflict);
        }
        let mut writes = self.db.batch().durability(Some(PersistMode::Buffer));
        for write in last_writes(batch.writes) {
            let key = stored_key(write.table, &write.key);
            match write.value {
                Some(value) => writes.insert(&self.rows, key, value),
                None => writes.remove(&self.rows, key),
            }
        }
        writes.commit().map_err(failed)
    }
}

impl Engine for FjallEngine {
    fn view(&self) -> Box<dyn View + '_> {
        Box::new(self.open_view())
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.apply(batch)?;
        match durability {
            Durability::Process => Ok(()),
            Durability::Durable => self.flush(),
        }
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.db.persist(PersistMode::SyncData).map_err(failed)
    }
}

struct FjallView<'a> {
    snapshot: Snapshot,
    rows: &'a Keyspace,
}

impl View for FjallView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let found = self.snapshot.get(self.rows, stored_key(table, key)).map_err(failed)?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: &KeyRange, order: Order, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        if range.is_empty() {
            return Ok(());
        }
        let start = Bound::Included(stored_key(table, &range.start));
        let end = Bound::Excluded(match &range.end {
            Some(end) => stored_key(table, end),
            None => vec![table as u8 + 1],
        });
        let mut rows = self.snapshot.range::<Vec<u8>, _>(self.rows, (start, end));
        let mut next = || match order {
            Order::Ascending => rows.next(),
            Order::Descending => rows.next_back(),
        };
        while let Some(row) = next() {
            let (key, value) = row.into_inner().map_err(failed)?;
            if visit(&key[1..], &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn stamp(&self) -> u64 {
        self.snapshot.seqno()
    }
}

fn stored_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(table as u8);
    stored.extend_from_slice(key);
    stored
}

/// Drops all but the last write to each row: a batch's writes share one sequence number, and fjall orders rows by that.
fn last_writes(mut writes: Vec<super::Write>) -> Vec<super::Write> {
    writes.reverse();
    writes.sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
    writes.dedup_by(|later, kept| (later.table, &later.key) == (kept.table, &kept.key));
    writes
}

fn failed(error: ::fjall::Error) -> EngineError {
    match error {
        ::fjall::Error::Locked => EngineError::Locked,
        other => EngineError::Failed { engine: "fjall", source: Box::new(other) },
    }
}
