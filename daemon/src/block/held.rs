//! Held blocks: those whose only copy may be here, because users wrote them and they are not in the bucket yet. They are never dropped.
//!
//! Who references a block is kept by the metadata store. Here is only a flag in the index entry (LOCAL), and for a short while a count of
//! puts whose result the caller has not yet recorded or refused.
//!
//! Invariants (2 to 4 are checked by [`super::check`]):
//! 1. An entry flagged LOCAL leaves the index only because its bytes are lost (a corrupt frame, an exchanged device), for a newer frame of the same
//!    block, or after its flag was cleared. A frame that takes the place of one flagged is flagged.
//! 2. While a block is claimed (local puts answered `Ok` and not yet kept or discarded, or a copy being verified), its entry is flagged: the flag is
//!    cleared only under the lock of the claims.
//! 3. A block that is held but has no entry (it is lost, or on a device that is not here yet) is awaited: it is flagged as soon as it
//!    has one. Nothing with an entry is awaited.
//! 4. What held frames take is counted exactly, per segment, device and store.
//! 5. With `holds_follow`, no frame is dropped and no segment freed before all holds are known.
//!
//! Calls about one block must come in the order of the changes they tell of: a `release` that is late, after the `keep` of a newer
//! reference, lets go of a block in use.

use super::core::Core;
use super::index::Entry;
use super::{BlockStore, PutDone};
use crate::ids::{BlockId, DeviceId};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

const SHARDS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    count: u32,
    /// The last thing the caller said about the block is that nothing references it.
    unreferenced: bool,
}

/// What became of a block one of whose copies is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It was not held.
    Cached,
    /// It has another copy, which may be out of reach.
    Copy,
    /// It was held, and is lost.
    Local,
}

/// What is known about blocks whose fingerprints fall into one shard.
#[derive(Default)]
pub(super) struct Claims {
    claims: HashMap<u64, Claim>,
    awaited: HashSet<u64>,
}

/// What is known about held blocks beside their flags. A lock of it is taken before one of the index.
pub(super) struct Holds {
    known: AtomicBool,
    shards: [Mutex<Claims>; SHARDS],
}

impl Holds {
    /// `known`: whether the flags that recovery finds are all there are.
    pub(super) fn new(known: bool) -> Self {
        Holds { known: AtomicBool::new(known), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub(super) fn lock(&self, fingerprint: u64) -> MutexGuard<'_, Claims> {
        self.shards[fingerprint as usize % SHARDS].lock()
    }

    /// Whether reclaim may drop what is not flagged.
    pub(super) fn are_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// Visits every claimed (`true`) and awaited (`false`) fingerprint.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u64, bool)) {
        for shard in &self.shards {
            let shard = shard.lock();
            shard.claims.keys().for_each(|fingerprint| visit(*fingerprint, true));
            shard.awaited.iter().for_each(|fingerprint| visit(*fingerprint, false));
        }
    }
}

impl Claims {
    /// Whether an entry that comes into the index now must be flagged whoever brings it. Nothing is awaited that has come.
    pub(super) fn demand(&mut self, fingerprint: u64) -> bool {
        self.awaited.remove(&fingerprint) | self.claims.contains_key(&fingerprint)
    }

    pub(super) fn claim(&mut self, fingerprint: u64, count: u32) {
        if count > 0 {
            self.claims.entry(fingerprint).or_default().count += count;
        }
    }

    pub(super) fn is_claimed(&self, fingerprint: u64) -> bool {
        self.claims.contains_key(&fingerprint)
    }

    /// Takes one claim away; `true` if that was the last one, and nothing references the block. `word` is what the caller says now.
    fn unclaim(&mut self, fingerprint: u64, word: Option<bool>) -> bool {
        let Some(claim) = self.claims.get_mut(&fingerprint) else {
            debug_assert!(false, "only what was put is kept or discarded, once");
            return false;
        };
        claim.count -= 1;
        if let Some(referenced) = word {
            claim.unreferenced = !referenced;
        }
        let Claim { count, unreferenced } = *claim;
        if count == 0 {
            self.claims.remove(&fingerprint);
        }
        count == 0 && unreferenced
    }

    /// Notes what the caller says about a block that is claimed; `false` if it is not.
    fn note(&mut self, fingerprint: u64, referenced: bool) -> bool {
        let claim = self.claims.get_mut(&fingerprint);
        claim.map(|claim| claim.unreferenced = !referenced).is_some()
    }
}

impl BlockStore {
    /// Like [`BlockStore::put`], for a block whose only copy this is: it is held. A held copy that is already here is read back and compared before
    /// it is referenced instead; a copy that is only cached is not referenced. On `Ok` the block is claimed, once for each put, until
    /// [`BlockStore::keep`] or [`BlockStore::discard`].
    ///
    /// # Panics
    /// If the block is empty or larger than the block size.
    pub fn put_local(&self, plain: Bytes, place: DeviceId, done: PutDone) {
        if let Some(put) = self.admit(plain, place, true, done) {
            self.core().take_in_elsewhere(put);
        }
    }

    /// The same, with the work done on the caller's thread where that is possible: sooner done for one block, later for many. Waits for a free
    /// segment.
    pub fn put_local_here(&self, plain: Bytes, place: DeviceId, done: PutDone) {
        if let Some(put) = self.admit(plain, place, true, done) {
            self.core().take_in_here(put);
        }
    }

    /// The result of a local put is referenced, durably. It stays held.
    pub fn keep(&self, id: &BlockId) {
        let core = self.core();
        core.holds.lock(id.fingerprint()).unclaim(id.fingerprint(), Some(true));
    }

    /// The result of a local put is not wanted after all; `referenced` says whether something else references the block.
    pub fn discard(&self, id: &BlockId, referenced: bool) {
        self.core().unclaim(id.fingerprint(), Some(referenced));
    }

    /// The last reference to a block is gone: unless it is claimed, it is an ordinary cached block from now on.
    pub fn release(&self, fingerprint: u64) {
        let core = self.core();
        let mut claims = core.holds.lock(fingerprint);
        if !claims.note(fingerprint, false) {
            core.let_go(&mut claims, fingerprint);
        }
    }

    /// Holds a block that is already here; `false` if it is not. It is held then as soon as it comes.
    pub fn hold(&self, fingerprint: u64) -> bool {
        let core = self.core();
        let mut claims = core.holds.lock(fingerprint);
        claims.note(fingerprint, true);
        let here = core.index_flag(fingerprint, true);
        if !here {
            claims.awaited.insert(fingerprint);
        } else if core.wants_two() && core.holds.are_known() {
            core.mender.ring();
        }
        here
    }

    /// [`BlockStore::hold`] was called for every block that is referenced: from now on what is not held may be dropped (see
    /// [`super::BlockStoreConfig::holds_follow`]).
    pub fn holds_known(&self) {
        self.core().holds.known.store(true, Ordering::Release);
        self.core().keeper.ring();
        self.core().mender.ring();
    }

    /// Device bytes that blocks may still take and be held, as far as is known now: rather too few than too many. Where a block has two copies, they are
    /// counted as one.
    pub fn room_for_local(&self) -> u64 {
        self.core().room_for_copies()
    }

    /// Whether any device is in service.
    pub fn is_in_service(&self) -> bool {
        let core = self.core();
        core.disks.iter().any(|disk| core.serves(disk))
    }
}

impl Core {
    /// A put's frame is on its device: it goes into the index, held if somebody wants it so, and is claimed by `claims` local puts. A clean put does
    /// not displace a held copy within reach: should that be another block that looks alike, what was put is as if it had been dropped at once.
    /// Whether the block was held before.
    pub(super) fn settle(&self, entry: &Entry, local: bool, count: u32) -> bool {
        let fingerprint = entry.frame.fingerprint;
        if let Some((disk, _)) = self.locate(entry.segment).filter(|_| local) {
            disk.owe_flush();
        }
        let mut claims = self.holds.lock(fingerprint);
        let held: Vec<Entry> = self.copies(fingerprint).filter(|copy| copy.frame.local_only).collect();
        let was_held = claims.demand(fingerprint) | !held.is_empty();
        claims.claim(fingerprint, count);
        if local || !held.iter().any(|copy| self.is_served(copy)) {
            self.index_insert(entry, |_| Some(was_held || local));
            self.supersede_other(entry, was_held || local);
        }
        if was_held && !local && self.wants_two() {
            self.mender.ring();
        }
        was_held
    }

    /// Claims a block if it has an entry that is flagged, and within reach. That it is claimed keeps it.
    pub(super) fn claim_held(&self, fingerprint: u64) -> Option<Entry> {
        let mut claims = self.holds.lock(fingerprint);
        let entry = self.served_copy(fingerprint).filter(|entry| entry.frame.local_only)?;
        claims.claim(fingerprint, 1);
        Some(entry)
    }

    /// The copy that was claimed to be verified is good: so many local puts claim it instead.
    pub(super) fn hand_claim_on(&self, fingerprint: u64, count: u32) {
        let mut claims = self.holds.lock(fingerprint);
        claims.claim(fingerprint, count);
        if claims.unclaim(fingerprint, None) {
            self.let_go(&mut claims, fingerprint);
        }
    }

    /// Takes one claim away.
    pub(super) fn unclaim(&self, fingerprint: u64, word: Option<bool>) {
        let mut claims = self.holds.lock(fingerprint);
        if claims.unclaim(fingerprint, word) {
            self.let_go(&mut claims, fingerprint);
        }
    }

    fn let_go(&self, claims: &mut Claims, fingerprint: u64) {
        claims.awaited.remove(&fingerprint);
        self.index_flag(fingerprint, false);
        if let (Some(_), Some(second)) = (self.index.get(fingerprint), self.seconds.get(fingerprint)) {
            self.index_remove(&second, |now| !now.frame.local_only);
        }
    }

    /// Takes an entry out whose bytes are lost.
    pub(super) fn lose(&self, entry: &Entry) -> Lost {
        let fingerprint = entry.frame.fingerprint;
        let mut claims = self.holds.lock(fingerprint);
        let removed = self.index_remove(entry, |now| now.same_place(entry));
        if !removed.is_some_and(|removed| removed.frame.local_only) {
            return Lost::Cached;
        }
        if self.copies(fingerprint).next().is_some() {
            self.mender.ring();
            return Lost::Copy;
        }
        claims.awaited.insert(fingerprint);
        self.counters.lost_local_blocks.fetch_add(1, Ordering::Relaxed);
        Lost::Local
    }
}
