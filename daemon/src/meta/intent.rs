//! The intent log: what was written to files and synced before their blocks were put on devices.
//!
//! A small sync of a file costs one record of the journal, and no block. The blocks stay dirty in memory, for the next round;
//! the transaction in which that records a file removes its intents. After a crash they are applied again, in their order.
//!
//! Invariants:
//! 1. Whatever changes what a file's map or size says removes its intents in the same transaction, and holds what they held.
//! 2. Applying intents twice leaves what applying them once does.

use super::engine::{KeyRange, Order, Table};
use super::rows::{Txn, damaged};
use super::{MetaError, MetaStore};
use crate::format::rows::{Intent, RowError, key};
use crate::ids::Ino;
use std::ops::{ControlFlow, Range};

impl MetaStore {
    /// Adds an intent to each of some files, in one transaction; each with its place in its file's log.
    pub fn log_intents(&self, intents: &[(Ino, u64, Intent)]) -> Result<(), MetaError> {
        self.transact(|txn| {
            for (ino, place, intent) in intents {
                txn.write_plain(Table::Intents, &key::intent(*ino, *place), intent.encode());
            }
            Ok(())
        })
    }

    /// Visits the intents of all files, file by file and in their order.
    pub fn intents(&self, visit: &mut dyn FnMut(Ino, u64, Intent)) -> Result<(), MetaError> {
        let everything = KeyRange { start: Vec::new(), end: None };
        let mut failure = None;
        self.reading().view.scan(Table::Intents, &everything, Order::Ascending, &mut |key, row| match (
            key::split_intent(key),
            Intent::decode(row),
        ) {
            (Some((ino, place)), Ok(intent)) => {
                visit(ino, place, intent);
                ControlFlow::Continue(())
            }
            (_, decoded) => {
                failure = Some(decoded.err().unwrap_or(RowError::Field("key")));
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), |why| Err(damaged(Table::Intents)(why)))
    }

    /// Removes intents of a file that is gone.
    pub fn forget_intents(&self, ino: Ino, places: Range<u64>) -> Result<(), MetaError> {
        self.transact(|txn| {
            remove(txn, ino, places.clone());
            Ok(())
        })
    }
}

/// Removes a file's intents.
pub(super) fn remove(txn: &mut Txn<'_>, ino: Ino, places: Range<u64>) {
    for place in places {
        txn.remove_plain(Table::Intents, &key::intent(ino, place));
    }
}

/// Removes all there are of a file.
pub(super) fn remove_all(txn: &mut Txn<'_>, ino: Ino) -> Result<(), MetaError> {
    let mut keys = Vec::new();
    txn.reading().view.scan(Table::Intents, &KeyRange::prefix(&key::ino(ino)), Order::Ascending, &mut |key, _| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    })?;
    keys.iter().for_each(|key| txn.remove_plain(Table::Intents, key));
    Ok(())
}
