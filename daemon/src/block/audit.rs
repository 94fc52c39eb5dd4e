//! What the store says of single blocks, for those who compare it with what the metadata says. The parts are those of the index: the first eight bits of
//! a fingerprint.

use super::BlockStore;
use super::core::Core;
use super::index::{Entry, Index};
use std::ops::RangeInclusive;

/// What there is of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Copies, within reach or not.
    pub copies: u8,
    /// Copies within reach.
    pub in_reach: u8,
    /// Whether it is kept from being dropped.
    pub held: bool,
    /// Whether a put of it is on its way into the metadata.
    pub claimed: bool,
}

impl BlockStore {
    /// In how many parts all blocks are looked through.
    pub const PARTS: usize = Index::SHARDS;

    /// The fingerprints of a part.
    pub fn part(part: usize) -> RangeInclusive<u64> {
        let width = u64::MAX / Self::PARTS as u64 + 1;
        let start = part as u64 * width;
        start..=start + (width - 1)
    }

    /// What there is of a block.
    pub fn holding(&self, fingerprint: u64) -> Holding {
        self.core().holding(fingerprint)
    }

    /// The blocks of a part that are held, and are not on their way into the metadata.
    pub fn held_in(&self, part: usize) -> Vec<u64> {
        self.core().fingerprints_in(part, |core, entry| entry.frame.local_only && !core.holding(entry.frame.fingerprint).claimed)
    }

    /// The blocks of a part that may be dropped: neither held nor pinned.
    pub fn idle_in(&self, part: usize) -> Vec<u64> {
        self.core().fingerprints_in(part, |core, entry| !entry.frame.local_only && !core.pins.has(entry.frame.fingerprint))
    }

    /// Devices in service.
    pub fn devices_in_service(&self) -> usize {
        let core = self.core();
        core.disks.iter().filter(|disk| core.serves(disk)).count()
    }

    /// Has whoever makes missing copies look for them now.
    pub fn mend_now(&self) {
        self.core().mender.ring();
    }
}

impl Core {
    fn holding(&self, fingerprint: u64) -> Holding {
        let claimed = self.holds.lock(fingerprint).is_claimed(fingerprint);
        let copies: Vec<Entry> = self.copies(fingerprint).collect();
        Holding {
            copies: copies.len() as u8,
            in_reach: copies.iter().filter(|entry| self.is_served(entry)).count() as u8,
            held: copies.iter().any(|entry| entry.frame.local_only),
            claimed,
        }
    }

    fn fingerprints_in(&self, part: usize, is_wanted: impl Fn(&Core, &Entry) -> bool) -> Vec<u64> {
        let entries = self.index.shard_entries(part).into_iter().chain(self.seconds.shard_entries(part));
        let mut found: Vec<u64> = entries.filter(|entry| is_wanted(self, entry)).map(|entry| entry.frame.fingerprint).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_all_there_is_and_do_not_overlap() {
        let mut next = Some(0);
        for part in 0..BlockStore::PARTS {
            let range = BlockStore::part(part);
            assert_eq!(Some(*range.start()), next);
            next = range.end().checked_add(1);
        }
        assert_eq!(next, None);
    }
}
