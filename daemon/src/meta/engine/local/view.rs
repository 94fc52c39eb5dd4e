//! Views: the memtables and the tree, laid over each other as they were at one commit.

use super::memtable::Memtable;
use super::stored_key;
use super::tree::{TreeSnapshot, failed};
use crate::meta::engine::{EngineError, KeyRange, Order, Table, View, Visit};
use std::iter::Peekable;
use std::sync::Arc;

/// Everything there is: newer before older.
pub(super) struct State {
    /// Commits are added here.
    pub active: Arc<Memtable>,
    /// Being taken into the tree, with the last commit in it.
    pub frozen: Option<(Arc<Memtable>, u64)>,
    /// Holds everything older. That it holds `frozen` already does not matter: the rows are the same.
    pub tree: TreeSnapshot,
}

/// A state at a commit.
pub(super) struct LocalView {
    pub state: Arc<State>,
    pub sequence: u64,
}

impl View for LocalView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let key = stored_key(table as u8, key);
        let in_memory = self.memtables().find_map(|memtable| memtable.get(&key, self.sequence));
        if let Some(known) = in_memory {
            return Ok(known);
        }
        let found = self.state.tree.get(key.as_slice()).map_err(failed)?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, table: Table, range: &KeyRange, order: Order, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        if range.is_empty() {
            return Ok(());
        }
        let start = stored_key(table as u8, &range.start);
        let end = range.end.as_ref().map_or_else(|| vec![table as u8 + 1], |end| stored_key(table as u8, end));
        let mut recent = Overlay::new(self.memtables().map(|m| m.range(&start, &end, self.sequence, order)), order);
        let rows = self.state.tree.range(start.as_slice()..end.as_slice()).map_err(failed)?;
        match order {
            Order::Ascending => merge(rows, &mut recent, visit),
            Order::Descending => merge(rows.rev(), &mut recent, visit),
        }
    }

    fn stamp(&self) -> u64 {
        self.sequence
    }
}

impl LocalView {
    fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        let frozen = self.state.frozen.as_ref().map(|(memtable, _)| memtable);
        std::iter::once(&self.state.active).chain(frozen).map(|memtable| &**memtable)
    }
}

type Row = (Vec<u8>, Option<Vec<u8>>);
type TreeRow<'a> = Result<(redb::AccessGuard<'a, &'static [u8]>, redb::AccessGuard<'a, &'static [u8]>), redb::StorageError>;

/// Several sorted sources as one; of equal keys the first source's row.
struct Overlay<I: Iterator<Item = Row>> {
    sources: Vec<Peekable<I>>,
    order: Order,
}

impl<I: Iterator<Item = Row>> Overlay<I> {
    fn new(sources: impl Iterator<Item = I>, order: Order) -> Self {
        Overlay { sources: sources.map(Iterator::peekable).collect(), order }
    }

    /// Whether `a` comes before `b`.
    fn is_before(&self, a: &[u8], b: &[u8]) -> bool {
        match self.order {
            Order::Ascending => a < b,
            Order::Descending => a > b,
        }
    }

    /// The next row, if it comes before `limit` or stands at it.
    fn next_until(&mut self, limit: Option<&[u8]>) -> Option<Row> {
        let mut first: Option<(usize, Vec<u8>)> = None;
        for index in 0..self.sources.len() {
            let Some((key, _)) = self.sources[index].peek() else { continue };
            if first.as_ref().is_none_or(|(_, best)| match self.order {
                Order::Ascending => key < best,
                Order::Descending => key > best,
            }) {
                first = Some((index, key.clone()));
            }
        }
        let (winner, key) = first?;
        if limit.is_some_and(|limit| self.is_before(limit, &key)) {
            return None;
        }
        let row = self.sources[winner].next();
        for source in &mut self.sources {
            source.next_if(|(other, _)| *other == key);
        }
        row
    }
}

/// Visits the tree's rows with the recent ones over them.
fn merge<'a, I: Iterator<Item = Row>>(
    rows: impl Iterator<Item = TreeRow<'a>>,
    recent: &mut Overlay<I>,
    visit: &mut Visit<'_>,
) -> Result<(), EngineError> {
    for row in rows {
        let (key, value) = row.map_err(failed)?;
        let key = key.value();
        let mut overlaid = false;
        while let Some((recent_key, recent_value)) = recent.next_until(Some(key)) {
            overlaid = recent_key == key;
            if recent_value.is_some_and(|value| visit(&recent_key[1..], &value).is_break()) {
                return Ok(());
            }
            if overlaid {
                break;
            }
        }
        if !overlaid && visit(&key[1..], value.value()).is_break() {
            return Ok(());
        }
    }
    while let Some((key, value)) = recent.next_until(None) {
        if value.is_some_and(|value| visit(&key[1..], &value).is_break()) {
            return Ok(());
        }
    }
    Ok(())
}
