//! Keys that no POSIX tree can hold, by the directory whose listing showed them, and their number in all.

use super::engine::{KeyRange, Order, Table};
use super::rows::{Txn, damaged};
use super::{MetaError, MetaStore};
use crate::format::rows::key::{self, Space};
use crate::format::rows::{RowError, decode_number, decode_text, encode_number, encode_text};
use crate::ids::Ino;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

fn count_key() -> Vec<u8> {
    key::setting(Space::Internal, "hidden-count")
}

fn decode_count(row: Option<Vec<u8>>) -> Result<u64, MetaError> {
    row.map_or(Ok(0), |row| decode_number(&row).map_err(damaged(Table::Settings)))
}

/// Replaces what is recorded for a directory in a half-open interval of object keys.
pub(super) fn replace(
    txn: &mut Txn<'_>,
    dir: Ino,
    covers: (Option<&str>, Option<&str>),
    keys: &[(String, String)],
) -> Result<(), MetaError> {
    let whole = KeyRange::prefix(&key::ino(dir));
    let range = KeyRange {
        start: covers.0.map_or(whole.start, |from| key::hidden(dir, from)),
        end: covers.1.map_or(whole.end, |to| Some(key::hidden(dir, to))),
    };
    let mut before = BTreeSet::new();
    txn.reading().view.scan(Table::Hidden, &range, Order::Ascending, &mut |key, _| {
        before.insert(key.to_vec());
        ControlFlow::Continue(())
    })?;
    if before.is_empty() && keys.is_empty() {
        return Ok(());
    }
    // The count is read for change, so two recordings can never both pass.
    let mut count = decode_count(txn.read_plain(Table::Settings, &count_key())?)?;
    for at in &before {
        txn.remove_plain(Table::Hidden, at);
    }
    let after: BTreeSet<Vec<u8>> = keys.iter().map(|(object_key, _)| key::hidden(dir, object_key)).collect();
    for at in after.difference(&before) {
        // A key outside of the interval may be recorded already.
        count += u64::from(txn.read_plain(Table::Hidden, at)?.is_none());
    }
    count = count.saturating_sub(before.difference(&after).count() as u64);
    for (object_key, reason) in keys {
        txn.write_plain(Table::Hidden, &key::hidden(dir, object_key), encode_text(reason.as_bytes()));
    }
    txn.write_plain(Table::Settings, &count_key(), encode_number(count));
    Ok(())
}

impl MetaStore {
    /// Records keys that no POSIX tree can hold (key, reason), seen while listing a directory; replaces what was recorded for
    /// it in the half-open interval `covers` of object keys (`None` = unbounded).
    pub fn record_hidden(
        &self,
        dir: Ino,
        covers: (Option<&str>, Option<&str>),
        keys: &[(String, String)],
    ) -> Result<(), MetaError> {
        self.transact(|txn| replace(txn, dir, covers, keys))
    }

    /// All recorded hidden keys with their reasons, at most `limit`, and how many there are in all.
    pub fn hidden_keys(&self, limit: usize) -> Result<(Vec<(String, String)>, u64), MetaError> {
        let reading = self.reading();
        let count = decode_count(reading.view.get(Table::Settings, &count_key())?)?;
        let mut found = Vec::new();
        let mut failure = None;
        let everything = KeyRange { start: Vec::new(), end: None };
        reading.view.scan(Table::Hidden, &everything, Order::Ascending, &mut |key, row| {
            if found.len() == limit {
                return ControlFlow::Break(());
            }
            match decode_hidden(key, row) {
                Ok(pair) => found.push(pair),
                Err(error) => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failure.map_or(Ok((found, count)), Err)
    }
}

fn decode_hidden(key: &[u8], row: &[u8]) -> Result<(String, String), MetaError> {
    let object_key = key::hidden_key(key).ok_or_else(|| damaged(Table::Hidden)(RowError::Text("key")))?;
    let reason = decode_text(row).map_err(damaged(Table::Hidden))?;
    Ok((object_key.to_owned(), String::from_utf8_lossy(reason).into_owned()))
}
