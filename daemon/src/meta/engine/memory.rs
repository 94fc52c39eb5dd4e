//! The metadata engine in memory, for tests: a map that views share until the next commit copies it, and what a power cut would
//! leave of it.

use super::{Batch, Durability, Engine, EngineError, KeyRange, Order, Table, View, Visit, Write, expectations_hold};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

#[derive(Clone, Default)]
struct State {
    rows: Arc<Rows>,
    commits: u64,
}

/// What was durable at the last flush, and the commits since.
#[derive(Default)]
struct Past {
    durable: Arc<Rows>,
    since: Vec<Vec<Write>>,
}

/// Tables in memory. Clones share them, so that a test can "reopen" one.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    state: Arc<Mutex<State>>,
    past: Arc<Mutex<Past>>,
}

impl MemoryEngine {
    /// The engine a power cut now would leave: what was flushed, and by the seed some of the first commits since. This one goes on
    /// unharmed.
    pub fn power_cut(&self, seed: u64) -> MemoryEngine {
        let past = self.past.lock();
        let mut rows = Rows::clone(&past.durable);
        let left = StdRng::seed_from_u64(seed).random_range(0..=past.since.len());
        past.since[..left].iter().for_each(|writes| apply(&mut rows, writes));
        let rows = Arc::new(rows);
        let state = State { rows: Arc::clone(&rows), commits: 1 };
        let past = Past { durable: rows, since: Vec::new() };
        MemoryEngine { state: Arc::new(Mutex::new(state)), past: Arc::new(Mutex::new(past)) }
    }
}

fn apply(rows: &mut Rows, writes: &[Write]) {
    for write in writes {
        let key = (write.table, write.key.clone());
        match &write.value {
            Some(value) => rows.insert(key, value.clone()),
            None => rows.remove(&key),
        };
    }
}

impl Engine for MemoryEngine {
    fn view(&self) -> Box<dyn View + '_> {
        Box::new(self.state.lock().clone())
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let mut past = self.past.lock();
        let mut state = self.state.lock();
        if !expectations_hold(&*state, &batch)? {
            return Err(EngineError::Conflict);
        }
        state.commits += 1;
        apply(Arc::make_mut(&mut state.rows), &batch.writes);
        past.since.push(batch.writes);
        if durability == Durability::Durable {
            past.flush(&state);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut past = self.past.lock();
        past.flush(&self.state.lock());
        Ok(())
    }
}

impl Past {
    fn flush(&mut self, state: &State) {
        self.durable = Arc::clone(&state.rows);
        self.since.clear();
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
