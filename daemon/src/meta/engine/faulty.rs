//! A metadata engine that fails when told to, around another one: for tests of what stands above.

use super::{Batch, Durability, Engine, EngineError, KeyRange, Order, Table, View, Visit};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// What happens to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers `Conflict`, nothing applied.
    Conflict,
    /// Fails, nothing applied.
    NotApplied,
    /// Fails although the batch was applied.
    AppliedReplyLost,
}

/// What the faulty engine says when it fails.
#[derive(Debug, thiserror::Error)]
#[error("injected fault in commit {0}")]
pub struct InjectedFault(pub u64);

#[derive(Default)]
struct Plan {
    commits: u64,
    faults: BTreeMap<u64, Fault>,
}

/// An engine whose commits fail on demand.
pub struct FaultyEngine<E> {
    inner: E,
    plan: Mutex<Plan>,
}

impl<E: Engine> FaultyEngine<E> {
    /// An engine that works, until told otherwise.
    pub fn new(inner: E) -> Self {
        FaultyEngine { inner, plan: Mutex::default() }
    }

    /// Commits tried so far.
    pub fn commits(&self) -> u64 {
        self.plan.lock().commits
    }

    /// Makes the `nth` commit from now on fail, the next one being the first.
    pub fn fail(&self, nth: u64, fault: Fault) {
        let mut plan = self.plan.lock();
        let at = plan.commits + nth;
        plan.faults.insert(at, fault);
    }

    fn next_fault(&self) -> (u64, Option<Fault>) {
        let mut plan = self.plan.lock();
        plan.commits += 1;
        let number = plan.commits;
        (number, plan.faults.remove(&number))
    }
}

impl<E: Engine> Engine for FaultyEngine<E> {
    fn view(&self) -> Box<dyn View + '_> {
        Box::new(FaultyView(self.inner.view()))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let (number, fault) = self.next_fault();
        let failed = || EngineError::Failed { engine: "faulty", source: Box::new(InjectedFault(number)) };
        match fault {
            None => self.inner.commit(batch, durability),
            Some(Fault::Conflict) => Err(EngineError::Conflict),
            Some(Fault::NotApplied) => Err(failed()),
            Some(Fault::AppliedReplyLost) => self.inner.commit(batch, durability).and_then(|()| Err(failed())),
        }
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.inner.flush()
    }
}

struct FaultyView<'a>(Box<dyn View + 'a>);

impl View for FaultyView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, order: Order, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        self.0.scan(table, range, order, visit)
    }

    fn stamp(&self) -> u64 {
        self.0.stamp()
    }
}
