//! Rows of recent commits in memory, all versions of them, in order.
//!
//! One writer at a time inserts; readers neither wait nor make it wait, and see the state at the sequence number they ask for.

use super::super::Order;
use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;
use std::cmp::Reverse;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A stored key with the commit that wrote it, newest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    key: Vec<u8>,
    sequence: Reverse<u64>,
}

impl Version {
    /// Before all versions of a key.
    fn before(key: &[u8]) -> Self {
        Version { key: key.to_vec(), sequence: Reverse(u64::MAX) }
    }
}

/// What a table knows of a row.
pub(super) type Known = Option<Vec<u8>>;

/// Rows in memory.
#[derive(Default)]
pub(super) struct Memtable {
    rows: SkipMap<Version, Known>,
    bytes: AtomicUsize,
}

impl Memtable {
    /// Adds a row's new state; `None` removes it.
    pub fn insert(&self, key: Vec<u8>, sequence: u64, value: Known) {
        self.bytes.fetch_add(key.len() + value.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
        self.rows.insert(Version { key, sequence: Reverse(sequence) }, value);
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A row's state at a sequence number: `None` if nothing is known here, `Some(None)` if it was removed.
    pub fn get(&self, key: &[u8], sequence: u64) -> Option<Known> {
        if self.rows.is_empty() {
            return None;
        }
        let at = Version { key: key.to_vec(), sequence: Reverse(sequence) };
        let found = self.rows.lower_bound(Bound::Included(&at))?;
        (found.key().key == key).then(|| found.value().clone())
    }

    /// The states of all rows in a range at a sequence number.
    pub fn range(&self, start: &[u8], end: &[u8], sequence: u64, order: Order) -> Rows<'_> {
        let bounds = (Bound::Included(Version::before(start)), Bound::Excluded(Version::before(end)));
        let rows: Box<dyn Iterator<Item = _> + '_> = match order {
            Order::Ascending => Box::new(self.rows.range(bounds)),
            Order::Descending => Box::new(self.rows.range(bounds).rev()),
        };
        Rows { versions: rows, sequence, order, held: None }
    }
}

type Found<'a> = Entry<'a, Version, Known>;

/// One state per row, of the versions that a reader may see.
pub(super) struct Rows<'a> {
    versions: Box<dyn Iterator<Item = Found<'a>> + 'a>,
    sequence: u64,
    order: Order,
    /// Ascending: the row given out last. Descending: the newest version seen yet of the next row, its newest coming last.
    held: Option<Found<'a>>,
}

fn row(found: &Found<'_>) -> (Vec<u8>, Known) {
    (found.key().key.clone(), found.value().clone())
}

impl Iterator for Rows<'_> {
    type Item = (Vec<u8>, Known);

    fn next(&mut self) -> Option<Self::Item> {
        for found in self.versions.by_ref() {
            if found.key().sequence.0 > self.sequence {
                continue;
            }
            let same_row = self.held.as_ref().is_some_and(|held| held.key().key == found.key().key);
            match (self.order, same_row) {
                (Order::Ascending, true) => {}
                (Order::Ascending, false) => {
                    let next = row(&found);
                    self.held = Some(found);
                    return Some(next);
                }
                (Order::Descending, true) => self.held = Some(found),
                (Order::Descending, false) => {
                    if let Some(done) = self.held.replace(found) {
                        return Some(row(&done));
                    }
                }
            }
        }
        match self.order {
            Order::Ascending => None,
            Order::Descending => self.held.take().map(|done| row(&done)),
        }
    }
}
