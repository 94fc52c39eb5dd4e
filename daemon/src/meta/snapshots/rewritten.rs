//! The log of rows that were written over those of older epochs, and rows that go at once because nobody reads them.

use super::Kept;
use crate::format::rows::{TOMBSTONE, encode_text, is_tombstone, key};
use crate::ids::{Epoch, Ino};
use crate::meta::MetaError;
use crate::meta::engine::Table;
use crate::meta::rows::Txn;
use std::collections::BTreeMap;

/// A row that a transaction writes for the first time in its epoch.
type First = (Table, Vec<u8>);

/// Enters what a transaction writes for the first time in its epoch. What was written in epochs of which no snapshot is left, and is written over now, goes with
/// it: no deletion will look for it. To be called before references are counted.
pub(in crate::meta) fn note(txn: &mut Txn<'_>, kept: &Kept) -> Result<(), MetaError> {
    let (epoch, are_kept) = (txn.reading().epoch, !kept.is_empty());
    if epoch == Epoch::FIRST && !are_kept {
        return Ok(());
    }
    for ((table, prefix), is_removed) in first_writes(txn, epoch)? {
        let leads = drop_unread(txn, kept, table, &prefix, is_removed)?;
        // Without snapshots, what an earlier one left behind is all there is to be found.
        if are_kept || leads {
            txn.write_plain(Table::Rewritten, &key::rewritten(epoch, table as u8, &prefix), encode_text(b""));
        }
    }
    Ok(())
}

/// The rows that are written for the first time in the epoch, and whether they are tombstones.
fn first_writes(txn: &Txn<'_>, epoch: Epoch) -> Result<BTreeMap<First, bool>, MetaError> {
    let mut first = BTreeMap::new();
    for write in txn.writes().iter().filter(|write| write.table.is_versioned()) {
        let Some((prefix, of)) = key::split_versioned(&write.key) else { continue };
        // What was cached of a snapshot's files is in rows that go with it.
        let is_cached = write.table == Table::FileMap && key::leading_ino(prefix).is_some_and(Ino::is_frozen);
        if is_cached || of != epoch || txn.reading().view.get(write.table, &write.key)?.is_some() {
            continue;
        }
        // What was written last counts.
        first.insert((write.table, prefix.to_vec()), write.value.as_deref() == Some(TOMBSTONE));
    }
    Ok(first)
}

/// Removes the row below one that is written, if no snapshot reads it; whether there are rows below then.
fn drop_unread(txn: &mut Txn<'_>, kept: &Kept, table: Table, prefix: &[u8], is_removed: bool) -> Result<bool, MetaError> {
    let now = txn.reading().epoch;
    let Some((below, _)) = txn.reading().older(table, prefix, now)? else { return Ok(false) };
    if kept.has_any(below, now) {
        return Ok(true);
    }
    txn.remove_plain(table, &key::versioned(prefix, below));
    txn.remove_plain(Table::Rewritten, &key::rewritten(below, table as u8, prefix));
    let next = txn.reading().older(table, prefix, below)?;
    if is_removed && next.as_ref().is_none_or(|(_, row)| is_tombstone(row)) {
        // A tombstone says what no row says as well.
        txn.remove_plain(table, &key::versioned(prefix, now));
    }
    Ok(next.is_some())
}
