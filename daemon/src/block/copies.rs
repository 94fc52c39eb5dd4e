//! The copies of a block: one, or for held blocks two on different devices (`copies` of the settings), so that the loss of a device loses
//! nothing that exists only here.
//!
//! A second copy is a frame like any other. It is found through an index of its own, by the same fingerprint: so a first and a second copy
//! never take each other's place, and an entry costs what every entry costs. The flag in a frame's header that makes it the second copy serves recovery,
//! so that after a start each stripe is read from the device that it was laid out for; a copy that is alone serves as well in either place.
//!
//! Invariants (checked by [`super::check`]):
//! 1. The two copies of a block are on different devices.
//! 2. Both are flagged LOCAL, or neither is.
//! 3. A put of a held block is answered when both copies are on their devices, with one only if there was one device that took it: the others are out of
//!    service, or failed it twice (see [`super::pair`]). What lacks its second copy is found by looking at the index, so no list of it can be wrong.
//! 4. When the last reference to a block goes, so does its second copy, unless it is alone.
//!
//! Entries of both copies change under the lock of the block's claims (see [`super::held`]), except that reclaim moves frames within their device.

use super::BlockStore;
use super::core::Core;
use super::disk::Disk;
use super::index::{Entry, Index};
use super::room::{Keep, room};
use crate::ids::DeviceId;
use std::cmp::Reverse;

impl BlockStore {
    /// How many copies of a held block there are to be.
    pub fn local_copies(&self) -> u8 {
        self.core().config.copies
    }

    /// Held blocks that have fewer copies within reach than asked for. Looks at every entry.
    pub fn lacking_copies(&self) -> u64 {
        self.core().lacking_copies()
    }
}

impl Core {
    /// The entries of a block, the first copy first.
    pub(super) fn copies(&self, fingerprint: u64) -> impl Iterator<Item = Entry> + use<> {
        self.index.get(fingerprint).into_iter().chain(self.seconds.get(fingerprint))
    }

    /// The copy of a block to be read: on a device in service, the first rather than the second.
    pub(super) fn served_copy(&self, fingerprint: u64) -> Option<Entry> {
        self.copies(fingerprint).find(|entry| self.is_served(entry))
    }

    /// Whether there is an entry for this very place.
    pub(super) fn is_indexed(&self, entry: &Entry) -> bool {
        self.table(entry).get(entry.frame.fingerprint).is_some_and(|now| now.same_place(entry))
    }

    /// Visits every entry, of first and of second copies.
    pub(super) fn for_each_entry(&self, mut visit: impl FnMut(&Entry)) {
        self.index.for_each(&mut visit);
        self.seconds.for_each(&mut visit);
    }

    pub(super) fn wants_two(&self) -> bool {
        self.config.copies > 1
    }

    pub(super) fn same_disk(&self, one: &Entry, other: &Entry) -> bool {
        let number = |entry: &Entry| self.locate(entry.segment).map(|(disk, _)| disk.id);
        number(one) == number(other)
    }

    /// The other copy of a block, as it is now.
    pub(super) fn other_copy(&self, entry: &Entry) -> Option<Entry> {
        let table = if entry.frame.second { &self.index } else { &self.seconds };
        table.get(entry.frame.fingerprint)
    }

    /// After an entry went in: the other copy goes if it is on the same device (invariant 1), or if this one is held and the other was only cached
    /// (invariant 2): nobody has made sure of what it is.
    pub(super) fn supersede_other(&self, entry: &Entry, held: bool) {
        let goes = |other: &Entry| self.same_disk(entry, other) || other.frame.local_only != held;
        self.other_copy(entry).filter(goes).map(|other| self.index_remove(&other, |_| true));
    }

    /// Devices in service with the most room for what is held first: whoever pairs with the largest uses up all there is.
    pub(super) fn roomiest(&self, without: impl Fn(&Disk) -> bool) -> Vec<usize> {
        let serves = |at: &usize| self.serves(&self.disks[*at]) && !without(&self.disks[*at]);
        let mut order: Vec<usize> = (0..self.disks.len()).filter(serves).collect();
        order.sort_by_key(|at| Reverse(room(&self.disks[*at], Keep::Held)));
        order
    }

    /// Device bytes that held blocks may still take, given what each device in service has left: both copies counted, and each on a device of its own.
    pub(super) fn room_for_copies(&self) -> u64 {
        let rooms: Vec<u64> = self.disks.iter().filter(|disk| self.serves(disk)).map(|disk| room(disk, Keep::Held)).collect();
        let all: u64 = rooms.iter().sum();
        match rooms.iter().max() {
            Some(most) if self.wants_two() && rooms.len() > 1 => (all / 2).min(all - most),
            _ => all,
        }
    }

    /// Whether a held block has fewer copies within reach than it should.
    pub(super) fn lacks_copy(&self, entry: &Entry) -> bool {
        entry.frame.local_only && self.copies(entry.frame.fingerprint).filter(|copy| self.is_served(copy)).count() < 2
    }

    /// Entries of held blocks that lack a copy, in one shard of the indices; one entry for each block.
    pub(super) fn lacking_in(&self, shard: usize) -> Vec<Entry> {
        let mut lacking = self.index.shard_entries(shard);
        lacking.retain(|entry| self.lacks_copy(entry));
        let alone = self.seconds.shard_entries(shard);
        lacking.extend(alone.into_iter().filter(|entry| self.other_copy(entry).is_none() && self.lacks_copy(entry)));
        lacking
    }

    pub(super) fn lacking_copies(&self) -> u64 {
        if !self.wants_two() {
            return 0;
        }
        (0..Index::SHARDS).map(|shard| self.lacking_in(shard).len() as u64).sum()
    }

    /// Whether every held block with a copy on one of these devices has another within reach, on a device that is not one of them.
    pub(super) fn all_held_beside(&self, failed: &[DeviceId]) -> bool {
        let is_on_failed = |entry: &Entry| self.locate(entry.segment).is_some_and(|(disk, _)| failed.contains(&disk.id));
        let is_safe = |entry: &Entry| {
            let on_others = |copy: Entry| !is_on_failed(&copy) && self.is_served(&copy);
            !entry.frame.local_only || !is_on_failed(entry) || self.copies(entry.frame.fingerprint).any(on_others)
        };
        let tables = [&self.index, &self.seconds];
        (0..Index::SHARDS).all(|shard| tables.iter().all(|table| table.shard_entries(shard).iter().all(is_safe)))
    }

    /// Takes out second copies of blocks that are not held any more.
    pub(super) fn drop_idle_seconds(&self, shard: usize) {
        for entry in self.seconds.shard_entries(shard).iter().filter(|entry| !entry.frame.local_only) {
            let _claims = self.holds.lock(entry.frame.fingerprint);
            self.index_remove(entry, |now| now.same_place(entry) && !now.frame.local_only);
        }
    }
}
