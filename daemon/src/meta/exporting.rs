//! Which inodes are being exported, and which were of late: a listing that was asked for before an export ended says nothing about its name.
//!
//! In memory only: no listing outlives the process.

use super::MetaStore;
use crate::ids::Ino;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Ended exports remembered; when there are more, those that ended longer ago than [`REMEMBERED_NS`] are forgotten.
const REMEMBERED: usize = 100_000;
/// No page of a listing takes that long, in ns.
const REMEMBERED_NS: i64 = 900 * 1_000_000_000;

/// Exports under way and of late.
#[derive(Default)]
pub(super) struct Exporting {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    under_way: HashMap<Ino, u32>,
    /// When they ended, ns since the Unix epoch.
    ended: HashMap<Ino, i64>,
    forget_at: usize,
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

impl MetaStore {
    /// An inode is being sent to the bucket.
    pub fn begin_export(&self, ino: Ino) {
        *self.shared.exporting.table.lock().under_way.entry(ino).or_default() += 1;
    }

    /// What was sent of an inode is recorded, or came to nothing.
    pub fn end_export(&self, ino: Ino) {
        let mut table = self.shared.exporting.table.lock();
        let now_ns = now_ns();
        if let Some(count) = table.under_way.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                table.under_way.remove(&ino);
            }
        }
        table.ended.insert(ino, now_ns);
        if table.ended.len() > table.forget_at.max(REMEMBERED) {
            table.ended.retain(|_, ended| *ended > now_ns - REMEMBERED_NS);
            table.forget_at = 2 * table.ended.len();
        }
    }

    /// Whether an inode is being sent right now.
    pub fn is_exporting(&self, ino: Ino) -> bool {
        self.shared.exporting.table.lock().under_way.contains_key(&ino)
    }

    /// Whether an inode was being exported at a moment (ns since the Unix epoch) or since: what the store said then may be older than what is known here.
    pub(super) fn was_exported_since(&self, ino: Ino, asked_ns: i64) -> bool {
        let table = self.shared.exporting.table.lock();
        table.under_way.contains_key(&ino) || table.ended.get(&ino).is_some_and(|ended| *ended >= asked_ns)
    }
}
