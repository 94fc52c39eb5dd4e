//! The in-memory index: which frame holds a block, keyed by the first eight bytes of the block's identity.
//!
//! Twenty bytes per slot in open-addressing shards that grow by a quarter when nine tenths full, so that a block costs 22 to 28 bytes.
//! Eight bytes of BLAKE3 may collide; a reader compares the whole identity with the frame's header.
//!
//! Invariants:
//! 1. A fingerprint is in the index at most once.
//! 2. Along a probe sequence, no entry is further from its home slot than one before it could be: an absent key is
//!    noticed as soon as a richer entry is met (Robin Hood order).
//! 3. A shard has at least one empty slot, so every probe ends.
//! 4. Whether a block is held (its only copy may be here) is what the entry's LOCAL flag says. What a frame's header or a footer says was true
//!    when it was written; nothing is decided by it once the entry exists. So it is with first and second copies, each of which have an index of their own.

use crate::format::FrameSummary;
use parking_lot::Mutex;

const SHARD_BITS: u32 = 8;
const SHARDS: usize = 1 << SHARD_BITS;
/// The highest frequency an entry counts to.
pub const FREQUENCY_MAX: u8 = 3;

/// A segment's number over all devices of the array, in memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentNo(pub u32);

/// The number of segments an index can tell apart.
pub const SEGMENTS_MAX: u32 = 1 << 22;

/// Where a block is, and how often it was read lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The segment.
    pub segment: SegmentNo,
    /// The frame in it.
    pub frame: FrameSummary,
    /// Reads since it came to its segment, up to [`FREQUENCY_MAX`].
    pub frequency: u8,
}

impl Entry {
    /// Whether both mean the same bytes on the same device.
    pub fn same_place(&self, other: &Entry) -> bool {
        self.segment == other.segment && self.frame.grain == other.frame.grain
    }

    /// Whether the frame is the one that a header or footer describes. Their flags may differ (invariant 4).
    pub fn is_of(&self, frame: &FrameSummary) -> bool {
        self.frame == FrameSummary { local_only: self.frame.local_only, second: self.frame.second, ..*frame }
    }
}

/// What became of an [`Index::replace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The new entry is in; the old one, if any, is out.
    Stored(Option<Entry>),
    /// The old entry, or its absence, was kept.
    Kept,
}

/// One slot: fingerprint, then 96 bits of place, lengths and flags.
#[derive(Clone, Copy)]
struct Slot([u32; 5]);

const EMPTY: Slot = Slot([0; 5]);
const OCCUPIED: u128 = 1 << 95;
const LOCAL: u128 = 1 << 94;

impl Slot {
    fn pack(entry: &Entry) -> Self {
        let frame = &entry.frame;
        debug_assert!(entry.segment.0 < SEGMENTS_MAX && frame.grain < 1 << 22 && frame.header_distance < 1 << 10);
        let mut bits = u128::from(entry.segment.0)
            | u128::from(frame.grain) << 22
            | u128::from(frame.header_distance) << 44
            | u128::from(frame.stored_len - 1) << 54
            | u128::from(frame.plain_len - 1) << 73
            | u128::from(entry.frequency) << 92
            | OCCUPIED;
        if frame.local_only {
            bits |= LOCAL;
        }
        let fingerprint = frame.fingerprint;
        Slot([fingerprint as u32, (fingerprint >> 32) as u32, bits as u32, (bits >> 32) as u32, (bits >> 64) as u32])
    }

    fn unpack(self, second: bool) -> Entry {
        let bits = u128::from(self.0[2]) | u128::from(self.0[3]) << 32 | u128::from(self.0[4]) << 64;
        let field = |at: u32, width: u32| ((bits >> at) as u64 & ((1 << width) - 1)) as u32;
        let frame = FrameSummary {
            fingerprint: self.fingerprint(),
            grain: field(22, 22),
            header_distance: field(44, 10) as u16,
            stored_len: field(54, 19) + 1,
            plain_len: field(73, 19) + 1,
            local_only: bits & LOCAL != 0,
            second,
        };
        Entry { segment: SegmentNo(field(0, 22)), frame, frequency: field(92, 2) as u8 }
    }

    fn fingerprint(self) -> u64 {
        u64::from(self.0[0]) | u64::from(self.0[1]) << 32
    }

    fn is_occupied(self) -> bool {
        self.0[4] & (1 << 31) != 0
    }

    fn set_local(&mut self, local: bool) {
        let bit = (LOCAL >> 64) as u32;
        self.0[4] = if local { self.0[4] | bit } else { self.0[4] & !bit };
    }

    fn bump(&mut self) {
        let frequency = self.0[4] >> 28 & 3;
        if frequency < u32::from(FREQUENCY_MAX) {
            self.0[4] += 1 << 28;
        }
    }
}

struct Shard {
    slots: Box<[Slot]>,
    len: usize,
}

impl Shard {
    fn new() -> Self {
        Shard { slots: vec![EMPTY; 8].into_boxed_slice(), len: 0 }
    }

    fn home(&self, fingerprint: u64) -> usize {
        ((u128::from(fingerprint << SHARD_BITS) * self.slots.len() as u128) >> 64) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    fn distance(&self, at: usize) -> usize {
        let home = self.home(self.slots[at].fingerprint());
        if at >= home { at - home } else { at + self.slots.len() - home }
    }

    fn find(&self, fingerprint: u64) -> Option<usize> {
        let (mut at, mut walked) = (self.home(fingerprint), 0);
        loop {
            let slot = self.slots[at];
            if !slot.is_occupied() {
                return None;
            }
            if slot.fingerprint() == fingerprint {
                return Some(at);
            }
            if self.distance(at) < walked {
                return None;
            }
            at = self.next(at);
            walked += 1;
        }
    }

    fn insert_new(&mut self, slot: Slot) {
        if (self.len + 1) * 10 > self.slots.len() * 9 {
            self.grow();
        }
        self.place(slot);
        self.len += 1;
    }

    fn place(&mut self, mut slot: Slot) {
        let (mut at, mut walked) = (self.home(slot.fingerprint()), 0);
        while self.slots[at].is_occupied() {
            let there = self.distance(at);
            if there < walked {
                std::mem::swap(&mut self.slots[at], &mut slot);
                walked = there;
            }
            at = self.next(at);
            walked += 1;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let capacity = self.slots.len() + self.slots.len() / 4;
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; capacity].into_boxed_slice());
        for slot in old.into_iter().filter(|slot| slot.is_occupied()) {
            self.place(slot);
        }
    }

    fn remove_at(&mut self, mut at: usize) {
        loop {
            let next = self.next(at);
            if !self.slots[next].is_occupied() || self.distance(next) == 0 {
                break;
            }
            self.slots[at] = self.slots[next];
            at = next;
        }
        self.slots[at] = EMPTY;
        self.len -= 1;
    }
}

/// The index. Every method is short: none holds a shard for longer than a probe, or a growth of that shard.
pub struct Index {
    shards: Box<[Mutex<Shard>]>,
    second: bool,
}

impl Index {
    /// How many parts [`Index::shard_entries`] can be asked for.
    pub const SHARDS: usize = SHARDS;

    /// An index of first or of second copies.
    pub fn new(second: bool) -> Self {
        Index { shards: (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect(), second }
    }

    fn shard(&self, fingerprint: u64) -> &Mutex<Shard> {
        &self.shards[(fingerprint >> (64 - SHARD_BITS)) as usize]
    }

    /// The entry of a fingerprint.
    pub fn get(&self, fingerprint: u64) -> Option<Entry> {
        let shard = self.shard(fingerprint).lock();
        shard.find(fingerprint).map(|at| shard.slots[at].unpack(self.second))
    }

    /// The entry of a fingerprint, counted as read.
    pub fn touch(&self, fingerprint: u64) -> Option<Entry> {
        let mut shard = self.shard(fingerprint).lock();
        let at = shard.find(fingerprint)?;
        shard.slots[at].bump();
        Some(shard.slots[at].unpack(self.second))
    }

    /// Puts in the entry that `decide` makes after seeing the one there is, if it makes one.
    pub fn replace(&self, fingerprint: u64, decide: impl FnOnce(Option<&Entry>) -> Option<Entry>) -> Replaced {
        let mut shard = self.shard(fingerprint).lock();
        let found = shard.find(fingerprint);
        let old = found.map(|at| shard.slots[at].unpack(self.second));
        let Some(entry) = decide(old.as_ref()) else { return Replaced::Kept };
        debug_assert_eq!(entry.frame.fingerprint, fingerprint, "an entry takes the place of its own fingerprint");
        match found {
            Some(at) => shard.slots[at] = Slot::pack(&entry),
            None => shard.insert_new(Slot::pack(&entry)),
        }
        Replaced::Stored(old)
    }

    /// Sets or clears an entry's LOCAL flag; `changed` runs, before anybody else sees the entry, if that changes it. `false` if there is none.
    pub fn set_local(&self, fingerprint: u64, local: bool, changed: impl FnOnce(&Entry)) -> bool {
        let mut shard = self.shard(fingerprint).lock();
        let Some(at) = shard.find(fingerprint) else { return false };
        let before = shard.slots[at].unpack(self.second);
        if before.frame.local_only != local {
            shard.slots[at].set_local(local);
            changed(&before);
        }
        true
    }

    /// Takes an entry out if `decide` says so.
    pub fn remove_if(&self, fingerprint: u64, decide: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let mut shard = self.shard(fingerprint).lock();
        let at = shard.find(fingerprint)?;
        let entry = shard.slots[at].unpack(self.second);
        decide(&entry).then(|| {
            shard.remove_at(at);
            entry
        })
    }

    /// Visits every entry, one shard at a time.
    pub fn for_each(&self, mut visit: impl FnMut(&Entry)) {
        (0..SHARDS).for_each(|shard| self.for_each_in(shard, &mut visit));
    }

    /// The entries of one shard, which is that of their fingerprints in every index.
    pub fn shard_entries(&self, shard: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.for_each_in(shard, &mut |entry| entries.push(*entry));
        entries
    }

    fn for_each_in(&self, shard: usize, visit: &mut impl FnMut(&Entry)) {
        let shard = self.shards[shard].lock();
        shard.slots.iter().filter(|slot| slot.is_occupied()).for_each(|slot| visit(&slot.unpack(self.second)));
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len).sum()
    }

    /// Memory of all shards, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let slots: usize = self.shards.iter().map(|shard| shard.lock().slots.len()).sum();
        slots * size_of::<Slot>() + SHARDS * size_of::<Mutex<Shard>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::collections::HashMap;

    fn entry(fingerprint: u64, salt: u32) -> Entry {
        let frame = FrameSummary {
            fingerprint,
            grain: (salt * 7 + 512) & 0x3f_ffff,
            header_distance: (salt % 1023 + 1) as u16,
            stored_len: salt % (512 << 10) + 1,
            plain_len: 512 << 10,
            local_only: salt % 2 == 1,
            second: false,
        };
        Entry { segment: SegmentNo(salt % SEGMENTS_MAX), frame, frequency: (salt % 4) as u8 }
    }

    #[test]
    fn slots_keep_every_field_at_its_limits() {
        let frame = FrameSummary {
            fingerprint: u64::MAX,
            grain: (1 << 22) - 1,
            header_distance: 1023,
            stored_len: 512 << 10,
            plain_len: 512 << 10,
            local_only: true,
            second: true,
        };
        for entry in [Entry { segment: SegmentNo(SEGMENTS_MAX - 1), frame, frequency: 3 }, entry(0, 0)] {
            assert_eq!(Slot::pack(&entry).unpack(entry.frame.second), entry);
        }
    }

    #[test]
    fn frequency_saturates() {
        let index = Index::new(false);
        index.replace(5, |_| Some(entry(5, 4)));
        let seen: Vec<u8> = (0..5).map(|_| index.touch(5).expect("just inserted").frequency).collect();
        assert_eq!(seen, [1, 2, 3, 3, 3]);
    }

    #[test]
    fn a_million_blocks_cost_at_most_32_bytes_each() {
        let index = Index::new(false);
        let mut random = StdRng::seed_from_u64(1);
        let mut worst = 0.0f64;
        for count in 1..=1_000_000usize {
            let fingerprint = random.random();
            index.replace(fingerprint, |_| Some(entry(fingerprint, count as u32)));
            if count >= 100_000 && count % 10_000 == 0 {
                worst = worst.max(index.memory_bytes() as f64 / count as f64);
            }
        }
        assert_eq!(index.len(), 1_000_000);
        assert!(worst <= 32.0, "{worst} bytes per block");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64, u32),
        InsertIfAbsent(u64, u32),
        Remove(u64),
        Touch(u64),
        SetLocal(u64, bool),
    }

    fn op() -> impl Strategy<Value = Op> {
        // Few distinct homes, so that probes are long and wrap around.
        let key = (0u64..4, 0u64..40).prop_map(|(high, low)| (high << 62) | ((u64::MAX >> 10 << 8) - low * 3));
        (key, any::<u32>(), 0..5).prop_map(|(key, salt, kind)| match kind {
            0 => Op::Insert(key, salt % 1_000_000),
            1 => Op::InsertIfAbsent(key, salt % 1_000_000),
            2 => Op::Remove(key),
            3 => Op::SetLocal(key, salt % 2 == 0),
            _ => Op::Touch(key),
        })
    }

    proptest! {
        #[test]
        fn behaves_like_a_hash_map(ops in proptest::collection::vec(op(), 1..400)) {
            let index = Index::new(false);
            let mut model: HashMap<u64, Entry> = HashMap::new();
            for op in ops {
                match op {
                    Op::Insert(key, salt) => {
                        let old = index.replace(key, |_| Some(entry(key, salt)));
                        prop_assert_eq!(old, Replaced::Stored(model.insert(key, entry(key, salt))));
                    }
                    Op::InsertIfAbsent(key, salt) => {
                        let done = index.replace(key, |old| old.is_none().then(|| entry(key, salt)));
                        prop_assert_eq!(done == Replaced::Kept, model.contains_key(&key));
                        model.entry(key).or_insert(entry(key, salt));
                    }
                    Op::Remove(key) => prop_assert_eq!(index.remove_if(key, |_| true), model.remove(&key)),
                    Op::SetLocal(key, local) => {
                        let mut changed = false;
                        let there = index.set_local(key, local, |_| changed = true);
                        prop_assert_eq!(there, model.contains_key(&key));
                        let expected = model.get_mut(&key).is_some_and(|entry| {
                            std::mem::replace(&mut entry.frame.local_only, local) != local
                        });
                        prop_assert_eq!(changed, expected);
                    }
                    Op::Touch(key) => {
                        let expected = model.get_mut(&key).map(|entry| {
                            entry.frequency = (entry.frequency + 1).min(FREQUENCY_MAX);
                            *entry
                        });
                        prop_assert_eq!(index.touch(key), expected);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
            }
            let mut seen = 0;
            index.for_each(|entry| {
                seen += 1;
                assert_eq!(model.get(&entry.frame.fingerprint), Some(entry));
            });
            prop_assert_eq!(seen, model.len());
        }
    }
}
