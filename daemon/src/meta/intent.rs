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

/// The intents of one file, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentLog {
    /// The file.
    pub ino: Ino,
    /// Their places in its log.
    pub places: Range<u64>,
    /// What they say.
    pub intents: Vec<Intent>,
}

impl IntentLog {
    fn add(logs: &mut Vec<Self>, (ino, place): (Ino, u64), intent: Intent) {
        match logs.last_mut().filter(|log| log.ino == ino) {
            Some(log) => {
                log.places.end = place + 1;
                log.intents.push(intent);
            }
            None => logs.push(IntentLog { ino, places: place..place + 1, intents: vec![intent] }),
        }
    }
}

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

    /// The intents there are, of all files.
    pub fn intents(&self) -> Result<Vec<IntentLog>, MetaError> {
        let everything = KeyRange { start: Vec::new(), end: None };
        let (mut logs, mut failure) = (Vec::new(), None);
        self.reading().view.scan(Table::Intents, &everything, Order::Ascending, &mut |key, row| {
            match (key::split_intent(key), Intent::decode(row)) {
                (Some(at), Ok(intent)) => {
                    IntentLog::add(&mut logs, at, intent);
                    return ControlFlow::Continue(());
                }
                (_, decoded) => failure = Some(decoded.err().unwrap_or(RowError::Field("key"))),
            }
            ControlFlow::Break(())
        })?;
        failure.map_or(Ok(logs), |why| Err(damaged(Table::Intents)(why)))
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
