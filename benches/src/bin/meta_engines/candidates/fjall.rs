//! fjall, as the daemon runs it.

use super::{Candidate, Change, Table, Visit};
use crate::Outcome;
use forebay_daemon::meta::engine::fjall::FjallEngine;
use forebay_daemon::meta::engine::{Batch, Durability, Engine, KeyRange, Order};
use std::ops::ControlFlow;
use std::path::Path;

pub struct Fjall(FjallEngine);

impl Fjall {
    pub fn open(dir: &Path, memory_bytes: usize) -> Outcome<Self> {
        Ok(Fjall(FjallEngine::open(dir, memory_bytes)?))
    }
}

impl Candidate for Fjall {
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
