//! Putting blocks: hash, join or deduplicate, encode, append; and what happens when the device has answered.
//!
//! Invariants:
//! 1. Every admitted put is answered exactly once, also when its device fails (one more try elsewhere) or the store closes.
//! 2. Blocks under way take at most `put_bytes` of plain bytes (one block more if a single one is larger), and about as much
//!    again in extents.
//! 3. An index entry exists before the answer `Ok` is given, and before the block leaves the list of those under way: a second put of
//!    the same block meets it in one of the two.
//! 4. A local put is answered `Ok` only for a copy that was written for this very call or one under way with it, or that was held and has been verified;
//!    the block is then held and claimed (see [`super::held`]). That is settled in one step with leaving the list of those under way: a
//!    local put that joins a clean one is not forgotten.

use super::core::{Core, Cut};
use super::index::Entry;
use super::lane::{Cargo, Flight, Frame, OpenSegment};
use super::pair::Leg;
use super::verify::Existing;
use super::{PutDone, PutError};
use crate::codec::Encoder;
use crate::format::{Encoding, SegmentClass};
use crate::ids::{BlockId, DeviceId};
use crate::io::{IoError, IoOp};
use crate::units::SECTOR;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PENDING_SHARDS: usize = 16;
/// How long a drain waits before it looks again what could be written.
const DRAIN_PAUSE: Duration = Duration::from_millis(20);

/// Somebody who waits for a block to be on its device.
pub(super) struct Waiter {
    bytes: usize,
    phase: usize,
    /// Whether the block is to be held.
    local: bool,
    done: PutDone,
}

/// A block to be put.
pub(super) struct Put {
    /// Its bytes.
    pub(super) plain: Bytes,
    /// Where it should go.
    pub(super) place: DeviceId,
    /// Whether it is to be held.
    pub(super) local: bool,
    /// Who waits.
    pub(super) waiter: Waiter,
}

/// A block that has been put, and for which there is no other.
pub(super) struct Joined {
    /// Its identity, under which those who wait for it are registered.
    pub(super) id: BlockId,
    /// Its bytes.
    pub(super) plain: Bytes,
    /// Where it should go.
    pub(super) place: DeviceId,
    /// Whether it is to be held.
    pub(super) local: bool,
}

/// A block whose write failed.
pub(super) struct Again {
    /// Its identity.
    id: BlockId,
    /// Its bytes.
    plain: Bytes,
    /// Whether it is to be held.
    local: bool,
    /// Where it could not be written.
    failed: DeviceId,
    /// Why.
    error: IoError,
    /// Which of two copies it is.
    leg: Option<Leg>,
}

/// Work for the encoder threads.
pub(super) enum Work {
    /// A block just put.
    Put(Put),
    /// A block whose rest would have to wait for something.
    Joined(Joined),
    /// A block whose write failed.
    Again(Again),
    /// End of the thread.
    Stop,
}

#[derive(Default)]
struct Admitted {
    bytes: usize,
    /// Puts are counted under the phase in which they began; a flush starts a new phase and waits for the old one to drain.
    phase: usize,
    puts: [usize; 2],
    /// Somebody waits for everything put so far.
    draining: Option<Cut>,
}

/// Where puts queue up, are counted, and find each other.
pub(super) struct Desk {
    limit_bytes: usize,
    admitted: Mutex<Admitted>,
    changed: Condvar,
    flushing: Mutex<()>,
    pending: [Mutex<HashMap<BlockId, Vec<Waiter>>>; PENDING_SHARDS],
}

impl Desk {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Desk {
            limit_bytes,
            admitted: Mutex::default(),
            changed: Condvar::new(),
            flushing: Mutex::default(),
            pending: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Waits until there is room for a block and counts it in.
    pub(super) fn admit(&self, bytes: usize, local: bool, done: PutDone, closing: &dyn Fn() -> bool) -> Result<Waiter, PutDone> {
        let mut admitted = self.admitted.lock();
        while admitted.bytes > 0 && admitted.bytes + bytes > self.limit_bytes && !closing() {
            self.changed.wait_for(&mut admitted, Duration::from_millis(100));
        }
        if closing() {
            return Err(done);
        }
        admitted.bytes += bytes;
        let phase = admitted.phase;
        admitted.puts[phase] += 1;
        Ok(Waiter { bytes, phase, local, done })
    }

    fn answer(&self, waiter: Waiter, result: Result<BlockId, PutError>) {
        self.admitted.lock().bytes -= waiter.bytes;
        self.changed.notify_all();
        (waiter.done)(result);
        self.admitted.lock().puts[waiter.phase] -= 1;
        self.changed.notify_all();
    }

    fn shard(&self, id: &BlockId) -> &Mutex<HashMap<BlockId, Vec<Waiter>>> {
        &self.pending[id.0[31] as usize % PENDING_SHARDS]
    }

    /// Registers who waits for a block; `true` if nobody did before.
    fn join(&self, id: BlockId, waiter: Waiter) -> bool {
        let mut shard = self.shard(&id).lock();
        let waiters = shard.entry(id).or_default();
        waiters.push(waiter);
        waiters.len() == 1
    }

    /// Answers everybody who waits for a block that is on its device, after `settle`, which is told how many of them want it held and must
    /// be short.
    pub(super) fn finish(&self, id: &BlockId, settle: impl FnOnce(u32)) {
        let waiters = {
            let mut shard = self.shard(id).lock();
            let waiters = shard.remove(id).unwrap_or_default();
            settle(waiters.iter().filter(|waiter| waiter.local).count() as u32);
            waiters
        };
        waiters.into_iter().for_each(|waiter| self.answer(waiter, Ok(*id)));
    }

    /// Answers those who wait for a block and do not want it held; `true` if that were all.
    fn finish_clean(&self, id: &BlockId) -> bool {
        let mut shard = self.shard(id).lock();
        let waiters = shard.remove(id).unwrap_or_default();
        let (local, clean): (Vec<_>, Vec<_>) = waiters.into_iter().partition(|waiter| waiter.local);
        let all = local.is_empty();
        if !all {
            shard.insert(*id, local);
        }
        drop(shard);
        clean.into_iter().for_each(|waiter| self.answer(waiter, Ok(*id)));
        all
    }

    /// Tells everybody who waits for a block that it was not stored.
    pub(super) fn fail(&self, id: &BlockId, error: &PutError) {
        let waiters = self.shard(id).lock().remove(id).unwrap_or_default();
        waiters.into_iter().for_each(|waiter| self.answer(waiter, Err(error.clone())));
    }

    /// Waits until everything admitted before this call has been answered. `nudge` cuts what is being filled; for what encoders add later they
    /// do that themselves (see [`Self::draining`]).
    pub(super) fn drain(&self, cut: Cut, nudge: &dyn Fn()) {
        let _one_at_a_time = self.flushing.lock();
        let mut admitted = self.admitted.lock();
        let old = admitted.phase;
        admitted.phase = 1 - old;
        admitted.draining = Some(cut);
        while admitted.puts[old] > 0 {
            parking_lot::MutexGuard::unlocked(&mut admitted, nudge);
            if admitted.puts[old] > 0 {
                self.changed.wait_for(&mut admitted, DRAIN_PAUSE);
            }
        }
        admitted.draining = None;
    }

    /// Whether somebody waits for what is put: extents are then cut when there is nothing left to add, and not filled up at leisure.
    fn draining(&self) -> Option<Cut> {
        self.admitted.lock().draining
    }
}

/// What an encoder thread keeps from block to block.
#[derive(Default)]
pub(super) struct Tools {
    encoder: Encoder,
    checks: Vec<u32>,
}

/// The body of an encoder thread.
pub(super) fn encode_loop(core: &Arc<Core>, work: &crossbeam_channel::Receiver<Work>) {
    let mut tools = Tools::default();
    while let Ok(next) = work.recv() {
        match next {
            Work::Put(put) => core.take_in(&mut tools, put),
            Work::Joined(joined) => core.take_in_joined(&mut tools, joined),
            Work::Again(again) => core.try_again(&mut tools, again),
            Work::Stop => return,
        }
        if work.is_empty()
            && let Some(cut) = core.desk.draining()
        {
            core.cut_all(cut);
        }
    }
}

impl Core {
    /// Takes a block in on the caller's thread, unless another does so: a thread need not be woken for a single block.
    pub(super) fn take_in_here(self: &Arc<Self>, put: Put) {
        match self.tools.try_lock() {
            Some(mut tools) => self.take_in(&mut tools, put),
            None => self.take_in_elsewhere(put),
        }
    }

    /// Leaves a block to the encoder threads.
    pub(super) fn take_in_elsewhere(&self, put: Put) {
        let sent = self.work.send(Work::Put(put));
        assert!(sent.is_ok(), "the queue lives as long as the store");
    }

    fn take_in(self: &Arc<Self>, tools: &mut Tools, put: Put) {
        if let Some(joined) = self.join(put) {
            self.take_in_joined(tools, joined);
        }
    }

    /// Hashes a block; `None` if it need not be stored.
    pub(super) fn join(&self, put: Put) -> Option<Joined> {
        let Put { plain, place, local, waiter } = put;
        let id = BlockId::of(&plain);
        let len = plain.len() as u64;
        if !self.desk.join(id, waiter) {
            self.counters.dedup_bytes.fetch_add(len, Ordering::Relaxed);
            return None;
        }
        let cached = !local && self.config.dedup && self.find_served(&id, Some(len as u32)).is_some();
        if cached {
            self.counters.dedup_bytes.fetch_add(len, Ordering::Relaxed);
            if self.desk.finish_clean(&id) {
                return None;
            }
        }
        // Local puts that joined a clean one want more than a cached copy.
        Some(Joined { id, plain, place, local: local || cached })
    }

    fn take_in_joined(self: &Arc<Self>, tools: &mut Tools, joined: Joined) {
        let Joined { id, plain, place, local } = joined;
        if local && self.is_settled_by_existing(&id, &plain) {
            return;
        }
        let candidates = self.candidates(place, None);
        let frame = self.encode(tools, id, &plain, local);
        let class = self.class_for(&id);
        let stored = if local && self.wants_two() {
            self.start_pair(class, &frame, &plain, &candidates)
        } else {
            let cargo = Cargo::Put { id, plain: plain.clone(), local, retried: false, leg: None };
            self.store(class, &frame, &candidates, cargo)
        };
        if !stored {
            let all_gone = !self.disks.iter().any(|disk| self.serves(disk));
            self.desk.fail(&id, if all_gone { &PutError::NoDevice } else { &PutError::NoSpace });
        }
    }

    /// Whether a held block has one copy within reach where it could have two.
    fn could_have_another(&self, id: &BlockId) -> bool {
        let copies = || self.copies(id.fingerprint()).filter(|copy| self.is_served(copy)).count();
        self.wants_two() && copies() < 2 && self.disks.iter().filter(|disk| self.serves(disk)).count() > 1
    }

    /// Answers local puts of a block from the held copy there is, if it is good; also if it is another block's.
    fn is_settled_by_existing(&self, id: &BlockId, plain: &[u8]) -> bool {
        match self.existing(id, plain) {
            Existing::Same if self.config.dedup && !self.could_have_another(id) => {
                self.counters.dedup_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
                self.desk.finish(id, |locals| self.hand_claim_on(id.fingerprint(), locals));
                true
            }
            Existing::Same => {
                self.unclaim(id.fingerprint(), None);
                false
            }
            Existing::Other(other) => {
                self.desk.fail(id, &PutError::Collision { id: *id, other });
                true
            }
            Existing::None => false,
        }
    }

    fn try_again(self: &Arc<Self>, tools: &mut Tools, again: Again) {
        let Again { id, plain, local, failed, error, leg } = again;
        let next = DeviceId(((usize::from(failed.0) + 1) % self.disks.len()) as u8);
        let mut candidates = self.candidates(next, Some(failed));
        let error = PutError::Io { device: failed, source: error };
        let frame = self.encode(tools, id, &plain, local);
        let class = self.class_for(&id);
        let cargo = Cargo::Put { id, plain: plain.clone(), local, retried: true, leg: leg.clone() };
        let started = match &leg {
            Some(leg) => {
                // With two devices there may be no other than the one that failed.
                candidates.extend(self.candidates(failed, None).into_iter().filter(|at| self.disks[*at].id == failed));
                let frame = Frame { second: leg.is_second(), ..frame };
                self.start_leg(class, &frame, leg, cargo, &candidates).is_ok()
            }
            None => self.store(class, &frame, &candidates, cargo),
        };
        if !started {
            self.give_up(&id, leg, error);
        }
    }

    /// Devices in service, the preferred one first.
    pub(super) fn candidates(&self, place: DeviceId, without: Option<DeviceId>) -> Vec<usize> {
        let count = self.disks.len();
        let order = (0..count).map(|step| (usize::from(place.0) + step) % count);
        order.filter(|at| self.serves(&self.disks[*at]) && Some(self.disks[*at].id) != without).collect()
    }

    pub(super) fn encode<'a>(&self, tools: &'a mut Tools, id: BlockId, plain: &'a [u8], local_only: bool) -> Frame<'a> {
        let (encoding, stored) = tools.encoder.encode(plain, self.config.compress);
        tools.checks.clear();
        match encoding {
            Encoding::Raw => tools.checks.extend(stored.chunks(SECTOR).map(crc32c::crc32c)),
            Encoding::Lz4 => tools.checks.push(crc32c::crc32c(stored)),
        }
        Frame { id, encoding, plain_len: plain.len() as u32, local_only, second: false, stored, checks: &tools.checks }
    }

    pub(super) fn class_for(&self, id: &BlockId) -> SegmentClass {
        if self.ghosts.recall(id.fingerprint()) { SegmentClass::Main } else { SegmentClass::Probation }
    }

    fn store(self: &Arc<Self>, class: SegmentClass, frame: &Frame, candidates: &[usize], mut cargo: Cargo) -> bool {
        for at in candidates {
            match self.append(*at, class, frame, cargo) {
                Ok(()) => return true,
                Err(back) => cargo = back,
            }
        }
        false
    }

    /// Appends to a device, waiting for reclaim where that is needed.
    pub(super) fn append(self: &Arc<Self>, at: usize, class: SegmentClass, frame: &Frame, mut cargo: Cargo) -> Result<(), Cargo> {
        let disk = &self.disks[at];
        let give_up = || !self.serves(disk) || self.is_abandoned();
        let wake = || self.keeper.ring();
        loop {
            let mut writes = Vec::new();
            let appended = disk.lane(class).append(self.site(disk, class, false), frame, cargo, &mut writes);
            if !writes.is_empty() && disk.free_segments() < disk.low_water() {
                self.keeper.ring();
            }
            self.launch(at, IoOp::Write, writes);
            match appended {
                Ok(()) => {
                    self.linger.ring();
                    return Ok(());
                }
                Err(back) => cargo = back,
            }
            if !disk.wait_space(&wake, &give_up) {
                return Err(cargo);
            }
        }
    }

    /// A device has answered the write of an extent.
    pub(super) fn written(
        self: &Arc<Self>,
        at: usize,
        op: IoOp,
        segment: &Arc<OpenSegment>,
        ticket: u64,
        result: Result<(), IoError>,
    ) {
        let disk = &self.disks[at];
        if op == IoOp::Write {
            disk.note_unflushed();
        }
        self.record(disk, &result);
        if self.is_abandoned() {
            return;
        }
        let settled = segment.answer(ticket, result);
        let flights = settled.written.len() + settled.failed.len();
        for flight in settled.written {
            self.publish(segment, flight);
        }
        for (flight, error) in settled.failed {
            self.lost(disk.id, flight, &error);
        }
        if segment.settled(flights) {
            disk.to_seal.lock().push(segment.clone());
            self.keeper.ring();
        }
    }

    fn publish(&self, segment: &OpenSegment, flight: Flight) {
        let header = Arc::new(flight.header);
        let key = super::header_cache::HeaderKey { segment: segment.number, seq: segment.stamp.seq, sector: header.sector };
        self.headers.insert(key, header.clone());
        for (frame, cargo) in header.summaries().zip(flight.cargo) {
            let entry = |frequency| Entry { segment: segment.number, frame, frequency };
            match cargo {
                Cargo::Put { id, leg: Some(leg), .. } => self.leg_arrived(&id, &leg, &entry(0)),
                Cargo::Put { id, local, .. } => {
                    self.desk.finish(&id, |locals| {
                        self.settle(&entry(0), local || locals > 0, locals);
                    });
                }
                Cargo::Copied { from, group } => {
                    self.copied(&entry(0), &from);
                    group.arrived();
                }
                Cargo::Moved { from, frequency, group } => {
                    let still_there = |now: &&Entry| now.same_place(&from);
                    self.index_insert(&entry(frequency), |now| now.filter(still_there).map(|now| now.frame.local_only));
                    group.arrived();
                }
            }
        }
    }

    /// A block, or one of its two copies, could not be written.
    fn give_up(&self, id: &BlockId, leg: Option<Leg>, error: PutError) {
        match leg {
            Some(leg) => self.end_leg(id, &leg, Err(error), false),
            None => self.desk.fail(id, &error),
        }
    }

    fn lost(&self, device: DeviceId, flight: Flight, error: &IoError) {
        for cargo in flight.cargo {
            match cargo {
                Cargo::Put { id, plain, local, retried: false, leg } => {
                    leg.iter().for_each(Leg::give_up_place);
                    let again = Again { id, plain, local, failed: device, error: error.clone(), leg };
                    if let Err(crossbeam_channel::SendError(Work::Again(Again { id, leg, .. }))) =
                        self.work.send(Work::Again(again))
                    {
                        self.give_up(&id, leg, PutError::Closing);
                    }
                }
                Cargo::Put { id, retried: true, leg, .. } => {
                    self.give_up(&id, leg, PutError::Io { device, source: error.clone() });
                }
                Cargo::Moved { group, .. } | Cargo::Copied { group, .. } => group.arrived(),
            }
        }
    }
}
