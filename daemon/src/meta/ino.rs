//! Inode numbers: handed out from ranges that were reserved durably before, so that no number is ever used twice, whatever
//! dies in between. What is left of a range at the end of a process is never used.

use super::MetaError;
use super::engine::{Engine, Table};
use super::rows::{damaged, transact};
use crate::format::rows::key::{self, Space};
use crate::format::rows::{decode_number, encode_number};
use crate::ids::Ino;
use parking_lot::Mutex;
use std::ops::Range;

/// Numbers reserved at a time.
pub(super) const RESERVE: u64 = 4096;

/// The numbers reserved and not handed out.
pub(super) struct InoAllocator {
    left: Mutex<Range<u64>>,
}

impl InoAllocator {
    /// An allocator that has reserved nothing yet.
    pub fn new() -> Self {
        InoAllocator { left: Mutex::new(0..0) }
    }

    /// `count` numbers in a row: neighbours in a directory become neighbours in the inode table.
    pub fn take(&self, engine: &dyn Engine, count: u64) -> Result<Range<u64>, MetaError> {
        let mut left = self.left.lock();
        if left.end - left.start < count {
            let fresh = reserve(engine, count.max(RESERVE))?;
            *left = if left.end == fresh.start { left.start..fresh.end } else { fresh };
        }
        let taken = left.start..left.start + count;
        left.start = taken.end;
        Ok(taken)
    }
}

fn reserve(engine: &dyn Engine, count: u64) -> Result<Range<u64>, MetaError> {
    let key = key::setting(Space::Internal, "next-ino");
    let (reserved, _) = transact(engine, |txn| {
        let start = match txn.read_plain(Table::Settings, &key)? {
            Some(row) => decode_number(&row).map_err(damaged(Table::Settings))?,
            None => Ino::ROOT.0 + 1,
        };
        let end = start + count;
        txn.write_plain(Table::Settings, &key, encode_number(end));
        Ok(start..end)
    })?;
    Ok(reserved)
}
