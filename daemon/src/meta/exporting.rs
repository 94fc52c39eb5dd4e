//! Which inodes are being exported, and which were of late: a listing that was asked for before an export ended says nothing about its name.
//!
//! In memory only: no listing outlives the process.

use super::MetaStore;
use crate::ids::Ino;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Ended exports remembered; when there are more, the older half is forgotten. No listing takes as long as that many exports.
const REMEMBERED: usize = 200_000;

/// A moment among ends of exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExportMark(u64);

/// Exports under way and of late.
#[derive(Default)]
pub(super) struct Exporting {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    clock: u64,
    under_way: HashMap<Ino, u32>,
    ended: HashMap<Ino, u64>,
}

impl MetaStore {
    /// An inode is being sent to the bucket.
    pub fn begin_export(&self, ino: Ino) {
        *self.shared.exporting.table.lock().under_way.entry(ino).or_default() += 1;
    }

    /// What was sent of an inode is recorded, or came to nothing.
    pub fn end_export(&self, ino: Ino) {
        let mut table = self.shared.exporting.table.lock();
        table.clock += 1;
        let now = table.clock;
        if let Some(count) = table.under_way.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                table.under_way.remove(&ino);
            }
        }
        table.ended.insert(ino, now);
        if table.ended.len() > REMEMBERED {
            let middle = now.saturating_sub(REMEMBERED as u64 / 2);
            table.ended.retain(|_, ended| *ended > middle);
        }
    }

    /// Whether an inode is being sent right now.
    pub fn is_exporting(&self, ino: Ino) -> bool {
        self.shared.exporting.table.lock().under_way.contains_key(&ino)
    }

    /// The present moment; to be taken before a listing is asked for.
    pub fn export_mark(&self) -> ExportMark {
        ExportMark(self.shared.exporting.table.lock().clock)
    }

    /// Whether an inode was being exported at a moment or since: what the store said then may be older than what is known here.
    pub(super) fn was_exported_since(&self, ino: Ino, mark: ExportMark) -> bool {
        let table = self.shared.exporting.table.lock();
        table.under_way.contains_key(&ino) || table.ended.get(&ino).is_some_and(|ended| *ended > mark.0)
    }
}
