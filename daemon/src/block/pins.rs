//! Pinned blocks: clean copies that somebody wants to keep, because their file is pinned or because they were just fetched ahead of use. A pin is a
//! wish: reclaim drops pinned blocks last, and drops them rather than refuse to store something.
//!
//! Pins are in memory only. Whoever wants them makes a [`PinSet`] again after a restart, before anything is dropped (see [`super::BlockStore::holds_known`]).
//!
//! Invariants (3 is checked by [`super::check`]):
//! 1. A block is pinned while at least one living set has it, whether or not it is stored.
//! 2. A pinned block is dropped only where no segment can be emptied without dropping one.
//! 3. What pinned frames take that are not held is counted exactly, per segment and device: counts change under the lock of the fingerprint's shard.

use super::BlockStore;
use super::core::Core;
use super::disk::footprint;
use super::index::Entry;
use super::room::{Keep, room};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SHARDS: usize = 16;

/// How many sets have each block.
#[derive(Default)]
pub(super) struct Pinned(HashMap<u64, u32>);

impl Pinned {
    pub(super) fn has(&self, fingerprint: u64) -> bool {
        self.0.contains_key(&fingerprint)
    }
}

/// What is pinned. A lock of it is taken before one of the index.
#[derive(Default)]
pub(super) struct Pins {
    shards: [Mutex<Pinned>; SHARDS],
}

impl Pins {
    pub(super) fn lock(&self, fingerprint: u64) -> MutexGuard<'_, Pinned> {
        self.shards[fingerprint as usize % SHARDS].lock()
    }

    /// Whether a block is pinned.
    pub(super) fn has(&self, fingerprint: u64) -> bool {
        self.lock(fingerprint).has(fingerprint)
    }
}

/// Blocks that somebody wants to keep, until this is dropped.
pub struct PinSet {
    core: Arc<Core>,
    blocks: Mutex<HashSet<u64>>,
}

impl PinSet {
    /// Pins a block, stored or not, by its fingerprint.
    pub fn add(&self, fingerprint: u64) {
        if self.blocks.lock().insert(fingerprint) {
            self.core.pin(fingerprint);
        }
    }

    /// How many blocks it has.
    pub fn len(&self) -> usize {
        self.blocks.lock().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for PinSet {
    fn drop(&mut self) {
        for fingerprint in std::mem::take(self.blocks.get_mut()) {
            self.core.unpin(fingerprint);
        }
    }
}

impl BlockStore {
    /// A set that pins nothing yet.
    pub fn pin_set(&self) -> PinSet {
        PinSet { core: Arc::clone(self.core()), blocks: Mutex::default() }
    }

    /// Device bytes that blocks may still take and be kept, held ones and pinned ones counted; rather too few than too many.
    pub fn room_for_pins(&self) -> u64 {
        let core = self.core();
        core.disks.iter().filter(|disk| core.serves(disk)).map(|disk| room(disk, Keep::Pinned)).sum()
    }

    /// Bytes of all devices in service.
    pub fn capacity(&self) -> u64 {
        let core = self.core();
        core.disks.iter().filter(|disk| core.serves(disk)).map(|disk| core.array.device(disk.id).len()).sum()
    }

    /// Counts a block as read, so that it outlives its time on probation.
    pub fn touch(&self, fingerprint: u64) {
        self.core().index.touch(fingerprint);
    }

    /// Takes a block out that is neither held nor pinned; the device bytes that gives back. Who still refers to it fetches it again. After a crash it may be
    /// there again.
    pub fn forget(&self, fingerprint: u64) -> u64 {
        let core = self.core();
        if core.pins.has(fingerprint) {
            return 0;
        }
        // A put that is claimed flags its entry under this lock.
        let _claims = core.holds.lock(fingerprint);
        let entries: Vec<Entry> = core.copies(fingerprint).filter(|entry| !entry.frame.local_only).collect();
        let removed =
            entries.iter().filter_map(|entry| core.index_remove(entry, |now| now.same_place(entry) && !now.frame.local_only));
        removed.map(|entry| footprint(&entry.frame)).sum()
    }
}

impl Core {
    fn pin(&self, fingerprint: u64) {
        let mut pins = self.pins.lock(fingerprint);
        let count = pins.0.entry(fingerprint).or_default();
        *count += 1;
        if *count == 1 {
            self.copies(fingerprint).filter(|entry| !entry.frame.local_only).for_each(|entry| self.count_pinned(&entry));
        }
    }

    fn unpin(&self, fingerprint: u64) {
        let mut pins = self.pins.lock(fingerprint);
        let Some(count) = pins.0.get_mut(&fingerprint) else {
            debug_assert!(false, "what a set has is counted");
            return;
        };
        *count -= 1;
        if *count == 0 {
            pins.0.remove(&fingerprint);
            self.copies(fingerprint).filter(|entry| !entry.frame.local_only).for_each(|entry| self.count_unpinned(&entry));
        }
    }

    /// Counts in a pinned frame that is not held. Called with the fingerprint's pins locked, as the next.
    pub(super) fn count_pinned(&self, entry: &Entry) {
        if let Some((disk, segment)) = self.locate(entry.segment) {
            disk.pin(segment, &entry.frame);
        }
        self.counters.pinned_bytes.fetch_add(footprint(&entry.frame), Ordering::Relaxed);
    }

    /// Counts out a pinned frame that is not held.
    pub(super) fn count_unpinned(&self, entry: &Entry) {
        if let Some((disk, segment)) = self.locate(entry.segment) {
            disk.unpin(segment, &entry.frame);
        }
        self.counters.pinned_bytes.fetch_sub(footprint(&entry.frame), Ordering::Relaxed);
    }
}
