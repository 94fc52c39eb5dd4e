//! The log of rows that were written over those of older epochs.

use super::Kept;
use crate::format::rows::{encode_text, key};
use crate::ids::{Epoch, Ino};
use crate::meta::MetaError;
use crate::meta::engine::Table;
use crate::meta::rows::Txn;
use std::collections::BTreeSet;

/// Enters what a transaction writes for the first time in its epoch.
pub(in crate::meta) fn note(txn: &mut Txn<'_>, kept: &Kept) -> Result<(), MetaError> {
    let (epoch, are_kept) = (txn.reading().epoch, !kept.is_empty());
    if epoch == Epoch::FIRST && !are_kept {
        return Ok(());
    }
    let mut first: BTreeSet<Vec<u8>> = BTreeSet::new();
    for write in txn.writes().iter().filter(|write| write.table.is_versioned()) {
        let Some((prefix, of)) = key::split_versioned(&write.key) else { continue };
        // What was cached of a snapshot's files is in rows that go with it.
        let is_cached = write.table == Table::FileMap && key::leading_ino(prefix).is_some_and(Ino::is_frozen);
        if is_cached || of != epoch || txn.reading().view.get(write.table, &write.key)?.is_some() {
            continue;
        }
        // Without snapshots, what an earlier one left behind is all there is to be found.
        if are_kept || txn.reading().before(write.table, prefix, epoch)?.is_some() {
            first.insert(key::rewritten(epoch, write.table as u8, prefix));
        }
    }
    first.into_iter().for_each(|row| txn.write_plain(Table::Rewritten, &row, encode_text(b"")));
    Ok(())
}
