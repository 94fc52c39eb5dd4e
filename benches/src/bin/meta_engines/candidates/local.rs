//! The engine the daemon runs.

use super::{Candidate, Change, Table, Visit};
use crate::Outcome;
use forebay_daemon::meta::engine::local::LocalEngine;
use forebay_daemon::meta::engine::{Batch, Durability, Engine, KeyRange, Order};
use std::ops::ControlFlow;
use std::path::Path;

pub struct Local(LocalEngine);

impl Local {
    pub fn open(dir: &Path, memory_bytes: usize) -> Outcome<Self> {
        Ok(Local(LocalEngine::open(dir, memory_bytes)?))
    }
}

impl Candidate for Local {
    fn commit(&mut self, changes: &[Change], durable: bool) -> Outcome<()> {
        let mut batch = Batch::default();
        for (table, key, value) in changes {
            match value {
                Some(value) => batch.put(*table, key.as_slice(), value.as_slice()),
                None => batch.remove(*table, key.as_slice()),
            }
        }
        Ok(self.0.commit(batch, if durable { Durability::Durable } else { Durability::Process })?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Ok(self.0.view().get(table, key)?)
    }

    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Outcome<()> {
        let mut outcome = Ok(());
        let everything = KeyRange { start: Vec::new(), end: None };
        self.0.view().scan(table, &everything, Order::Ascending, &mut |_, value| {
            outcome = visit(value);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }

    fn flush(&mut self) -> Outcome<()> {
        Ok(self.0.flush()?)
    }
}
