//! The metadata engine in memory, for tests: a map that views share until the next commit copies it.

use super::{Batch, Durability, Engine, EngineError, KeyRange, Order, Table, View, Visit, expectations_hold};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

#[derive(Clone, Default)]
struct State {
    rows: Arc<Rows>,
    commits: u64,
}

/// Tables in memory. Clones share them, so that a test can "reopen" one.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    state: Arc<Mutex<State>>,
}

impl Engine for MemoryEngine {
    fn view(&self) -> Box<dyn View + '_> {
        Box::new(self.state.lock().clone())
    }

    fn commit(&self, batch: Batch, _: Durability) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        if !expectations_hold(&*state, &batch)? {
            return Err(EngineError::Conflict);
        }
        state.commits += 1;
        let rows = Arc::make_mut(&mut state.rows);
        for write in batch.writes {
            match write.value {
                Some(value) => rows.insert((write.table, write.key), value),
                None => rows.remove(&(write.table, write.key)),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

impl View for State {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.rows.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, range: &KeyRange, order: Order, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        if range.is_empty() {
            return Ok(());
        }
        let start = Bound::Included((table, range.start.clone()));
        let end = match &range.end {
            Some(end) => Bound::Excluded((table, end.clone())),
            None => Table::ALL.into_iter().find(|t| *t > table).map_or(Bound::Unbounded, |t| Bound::Excluded((t, Vec::new()))),
        };
        let mut rows = self.rows.range((start, end));
        let mut next = || match order {
            Order::Ascending => rows.next(),
            Order::Descending => rows.next_back(),
        };
        while let Some(((_, key), value)) = next() {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn stamp(&self) -> u64 {
        self.commits
    }
}
