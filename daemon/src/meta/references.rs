//! The count of references to blocks that exist only here, derived from what a transaction writes: no operation can forget to say.
//!
//! Invariants:
//! 1. The reference count of a fingerprint is the number of slots, in the rows of all file maps of all epochs, that hold a local block with it.
//! 2. A count and the slot it counts change in one transaction. Whoever learns that a count fell to nothing may let go of the block.

use super::engine::{KeyRange, Order, Table, View};
use super::map::decode_chunk;
use super::rows::{Txn, damaged};
use super::{HOLE, MapChunk, MetaError, MetaStore};
use crate::format::rows::{RowError, decode_number, encode_number, is_tombstone, key};
use crate::ids::BlockId;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};

/// Changes of counts, by fingerprint.
type Deltas = BTreeMap<u64, i64>;

/// Counts what a transaction has written; returns the fingerprints that nothing refers to any more.
pub(super) fn derive(txn: &mut Txn<'_>) -> Result<Vec<u64>, MetaError> {
    // What was written last counts.
    let rows: BTreeMap<Vec<u8>, Option<Vec<u8>>> = txn
        .writes()
        .iter()
        .filter(|write| write.table == Table::FileMap)
        .map(|write| (write.key.clone(), write.value.clone()))
        .collect();
    let mut deltas = Deltas::new();
    for (at, after) in rows {
        let before = txn.reading().view.get(Table::FileMap, &at)?;
        for (row, by) in [(before, -1), (after, 1)] {
            for fingerprint in row.as_deref().map(local_blocks).transpose()?.into_iter().flatten() {
                *deltas.entry(fingerprint).or_default() += by;
            }
        }
    }
    apply(txn, deltas)
}

/// The fingerprints of the blocks in a row of a file map that were written here.
pub(super) fn local_blocks(row: &[u8]) -> Result<impl Iterator<Item = u64>, MetaError> {
    let chunk = if is_tombstone(row) { MapChunk::default() } else { decode_chunk(row)? };
    let local = chunk.local;
    let written = move |(slot, id): (usize, Option<BlockId>)| id.filter(|id| *id != HOLE && local >> slot & 1 == 1);
    Ok(chunk.blocks.into_iter().enumerate().filter_map(written).map(|id| id.fingerprint()))
}

/// Visits every slot of all maps of all epochs that holds a local block, by the block's fingerprint; `false` if `go_on` ended that.
pub(super) fn count_slots(view: &dyn View, go_on: &dyn Fn() -> bool, visit: &mut dyn FnMut(u64)) -> Result<bool, MetaError> {
    let everything = KeyRange { start: Vec::new(), end: None };
    let (mut failure, mut whole) = (None, true);
    view.scan(Table::FileMap, &everything, Order::Ascending, &mut |_, row| {
        whole = go_on();
        match local_blocks(row) {
            Ok(blocks) => blocks.for_each(&mut *visit),
            Err(error) => failure = Some(error),
        }
        if whole && failure.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failure.map_or(Ok(whole), Err)
}

/// The fingerprint and the count of a row of the table.
pub(super) fn count_of(key: &[u8], row: &[u8]) -> Result<(u64, u64), MetaError> {
    let count = decode_number(row).map_err(damaged(Table::Refs))?;
    let fingerprint = key::referenced(key).ok_or_else(|| damaged(Table::Refs)(RowError::Field("key")))?;
    Ok((fingerprint, count))
}

fn apply(txn: &mut Txn<'_>, deltas: Deltas) -> Result<Vec<u64>, MetaError> {
    let mut released = Vec::new();
    for (fingerprint, change) in deltas.into_iter().filter(|(_, change)| *change != 0) {
        let at = key::reference(fingerprint);
        let count = txn.read_plain(Table::Refs, &at)?.map_or(Ok(0), |row| decode_number(&row)).map_err(damaged(Table::Refs))?;
        match count.saturating_add_signed(change) {
            0 => {
                txn.remove_plain(Table::Refs, &at);
                released.push(fingerprint);
            }
            count => txn.write_plain(Table::Refs, &at, encode_number(count)),
        }
    }
    Ok(released)
}

impl MetaStore {
    /// Whether a block written here is referred to.
    pub fn is_referenced(&self, fingerprint: u64) -> Result<bool, MetaError> {
        Ok(self.reading().view.get(Table::Refs, &key::reference(fingerprint))?.is_some())
    }

    /// Visits the fingerprint of every block that exists only here.
    pub fn references(&self, visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        self.references_in(&(0..=u64::MAX), visit)
    }

    /// The same of those in a range of fingerprints.
    pub fn references_in(&self, range: &RangeInclusive<u64>, visit: &mut dyn FnMut(u64)) -> Result<(), MetaError> {
        let range = KeyRange {
            start: key::reference(*range.start()).to_vec(),
            end: range.end().checked_add(1).map(|end| key::reference(end).to_vec()),
        };
        self.reading().view.scan(Table::Refs, &range, Order::Ascending, &mut |key, _| {
            if let Some(fingerprint) = key::referenced(key) {
                visit(fingerprint);
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }
}
