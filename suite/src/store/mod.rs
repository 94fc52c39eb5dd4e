//! An object store itself, without a file system: what its PUT, GET, LIST and DELETE give, so that people see what share of it a mount has. Everything
//! is made below one prefix of the bench's own, and removed at the end.

mod get;
mod list;
#[cfg(test)]
mod memory;
mod put;
#[cfg(test)]
mod tests;

pub use bytes::Bytes;

use crate::data::Objects;
use crate::error::{Error, Result};
use crate::meter::for_each;
use crate::order::splitmix;
use crate::plan::{Group, Plan};
use crate::row::{Recorder, RowId, State, Unit};
use crate::run::{Target, TargetInfo};
use crate::stop::Stop;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const GROUPS: [Group; 3] = [Group::Put, Group::Get, Group::List];

/// What a bench needs of a store. Each call is one request, made by the thread that calls; many threads call at the same time.
pub trait ObjectStore: Send + Sync {
    /// Writes a whole object.
    fn put(&self, key: &str, body: Bytes) -> std::result::Result<(), StoreFault>;
    /// Reads a range and throws it away.
    fn get(&self, key: &str, range: Range<u64>) -> std::result::Result<Fetched, StoreFault>;
    /// One page of the keys that begin with a prefix.
    fn list(&self, prefix: &str, token: Option<String>) -> std::result::Result<KeyPage, StoreFault>;
    /// Deletes a key.
    fn delete(&self, key: &str) -> std::result::Result<(), StoreFault>;
    /// What whoever reads the figures should know, such as requests that had to be repeated.
    fn notes(&self) -> Vec<String>;
}

/// What a GET gave.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// How many bytes.
    pub bytes: u64,
    /// After how long the first of them was there.
    pub first_byte: Duration,
}

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub struct KeyPage {
    /// Full keys.
    pub keys: Vec<String>,
    /// How to ask for the next page.
    pub next: Option<String>,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct StoreFault {
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// Whether it will be the same for every other request: no access, no such bucket, no connection.
    pub is_lasting: bool,
}

/// A store that is measured.
pub struct Store {
    name: String,
    store: Arc<dyn ObjectStore>,
    /// The bench's own prefix, with a slash at its end.
    prefix: String,
    plan: Plan,
    content: Objects,
    /// Objects that are there to be read, by size.
    objects: BTreeMap<u64, Vec<String>>,
    /// How many keys were ever thought of.
    numbered: u64,
    has_left: bool,
}

impl Store {
    /// Takes a prefix in a store; `own` must be a name that nobody else has there.
    pub fn open(name: &str, store: Arc<dyn ObjectStore>, below: &str, own: &str, plan: &Plan) -> Self {
        let largest = plan.blocks.iter().copied().max().unwrap_or(0).max(list::TINY);
        Store {
            name: name.to_owned(),
            store,
            prefix: format!("{below}{own}/"),
            content: Objects::new(plan.data, splitmix(plan.seed), largest as usize),
            plan: plan.clone(),
            objects: BTreeMap::new(),
            numbered: 0,
            has_left: false,
        }
    }

    fn id(group: Group, what: &'static str, block_bytes: Option<u64>, threads: usize, unit: Unit) -> RowId {
        RowId { group, what, block_bytes, threads, state: State::Store, unit }
    }

    /// Keys that were never used.
    fn new_keys(&mut self, kind: &str, count: u64) -> Vec<(u64, String)> {
        let from = self.numbered;
        self.numbered += count;
        (from..self.numbered).map(|number| (number, format!("{}{kind}/{number:09}", self.prefix))).collect()
    }

    fn delete(&self, keys: &[String], stop: &Stop) -> Result<()> {
        for_each(keys, self.plan.threads, stop, |key| self.store.delete(key).of("delete", key))
    }

    /// Deletes whatever is below a prefix of the bench's own.
    fn clean(&self, prefix: &str, stop: &Stop) -> Result<()> {
        loop {
            let page = self.store.list(prefix, None).of("list", prefix)?;
            if page.keys.is_empty() {
                return Ok(());
            }
            self.delete(&page.keys, stop)?;
        }
    }

    /// Deletes all that the bench made: whoever was asked to stop still has to.
    fn clean_all(&self) -> Result<()> {
        self.clean(&self.prefix, &Stop::default())
    }
}

/// Says of a refusal what was tried on which key.
trait Of<T> {
    fn of(self, what: &'static str, key: &str) -> Result<T>;
}

impl<T> Of<T> for std::result::Result<T, StoreFault> {
    fn of(self, what: &'static str, key: &str) -> Result<T> {
        self.map_err(|source| Error::Store { what, key: key.to_owned(), source })
    }
}

impl Target for Store {
    fn info(&self) -> TargetInfo {
        TargetInfo { name: self.name.clone(), kind: "store", file_system: None, notes: self.store.notes() }
    }

    fn groups(&self) -> Vec<Group> {
        GROUPS.into_iter().filter(|group| self.plan.wants(*group)).collect()
    }

    fn round(&mut self, group: Group, _round: u32, to: &mut Recorder<'_>) -> Result<()> {
        match group {
            Group::Put => put::round(self, to),
            Group::Get => get::round(self, to),
            Group::List => list::round(self, to),
            _ => Ok(()),
        }
    }

    fn leave(&mut self) -> Result<()> {
        self.has_left = true;
        self.clean_all()
            .map_err(|error| Error::Left { left: format!("{} ({})", self.prefix, self.name), cause: error.to_string() })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.has_left {
            // Only after a panic: there is nobody left to tell.
            let _ = self.clean_all();
        }
    }
}
