//! One device's segments: which are free, open, closed or sealed, and how much of each is still referenced.
//!
//! Invariants (checked by [`super::check`]):
//! 1. A segment is in exactly one state; the free list holds exactly the free ones.
//! 2. `live_frames` and `live_bytes` of a segment are the number and footprint of the index entries that point into it
//!    (higher for moments while a frame is being published, never lower).
//!    `held` is what those flagged LOCAL take (see [`super::room::packed`]); it changes with the flag, under the index's lock.
//! 3. A free segment has no index entries.
//! 4. A segment's sequence number changes only on the way from free to open, and grows over the whole store.

use super::index::SegmentNo;
use super::lane::{Lane, OpenSegment};
use super::room::packed;
use crate::format::{FrameSummary, GRAIN, Geometry, SegmentClass, Stamp};
use crate::ids::{DeviceId, FsId};
use crate::units::{SECTOR, sector_up};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Segments that only reclaim may take: it needs somewhere to rewrite to before it can free anything.
const RESERVE: usize = 1;

/// What a segment is being used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SegmentState {
    /// Nothing in it counts.
    Free = 0,
    /// A lane appends to it.
    Open = 1,
    /// Full; its footer is still to be written.
    Closed = 2,
    /// Footer written (or given up on); may be reclaimed.
    Sealed = 3,
    /// The file system below has no space for it; not used again until the store is opened anew.
    Unbacked = 4,
}

/// One segment's figures.
pub(super) struct Segment {
    state: AtomicU8,
    class: AtomicU8,
    seq: AtomicU64,
    live_frames: AtomicU64,
    live_bytes: AtomicU64,
    held: AtomicU64,
    /// What pinned frames take that are not held (see [`super::pins`]).
    pinned: AtomicU64,
    /// Not to be emptied in this round of reclaim: that was tried, and something held could not be moved.
    stays: AtomicBool,
}

impl Segment {
    fn free() -> Self {
        Segment {
            state: AtomicU8::new(SegmentState::Free as u8),
            class: AtomicU8::new(SegmentClass::Probation as u8),
            seq: AtomicU64::new(0),
            live_frames: AtomicU64::new(0),
            live_bytes: AtomicU64::new(0),
            held: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
            stays: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> SegmentState {
        match self.state.load(Ordering::Acquire) {
            0 => SegmentState::Free,
            1 => SegmentState::Open,
            2 => SegmentState::Closed,
            3 => SegmentState::Sealed,
            _ => SegmentState::Unbacked,
        }
    }

    pub(super) fn set_state(&self, state: SegmentState) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub(super) fn class(&self) -> SegmentClass {
        if self.class.load(Ordering::Acquire) == 0 { SegmentClass::Probation } else { SegmentClass::Main }
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// Marks the start of a use of the segment.
    pub(super) fn begin(&self, seq: u64, class: SegmentClass, state: SegmentState) {
        self.seq.store(seq, Ordering::Release);
        self.class.store(class as u8, Ordering::Release);
        self.set_state(state);
    }

    pub(super) fn live_frames(&self) -> u64 {
        self.live_frames.load(Ordering::Acquire)
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Acquire)
    }

    /// What the held frames take.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// What the pinned frames take that are not held.
    pub(super) fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Acquire)
    }

    pub(super) fn stays(&self) -> bool {
        self.stays.load(Ordering::Acquire)
    }

    pub(super) fn set_stays(&self, stays: bool) {
        self.stays.store(stays, Ordering::Release);
    }
}

/// Bytes a frame takes on its device, padding included.
pub(super) fn footprint(frame: &FrameSummary) -> u64 {
    let len = frame.stored_len as usize;
    let padded = if !frame.is_compressed() && len >= SECTOR { sector_up(len) } else { len.next_multiple_of(GRAIN) };
    padded as u64
}

#[derive(Default)]
struct Space {
    free: VecDeque<u32>,
    /// Counts the times reclaim found nothing to free.
    stuck: u64,
}

/// One device of the store.
pub(super) struct Disk {
    pub(super) id: DeviceId,
    pub(super) geometry: Geometry,
    pub(super) segments: Box<[Segment]>,
    first: u32,
    /// The sum of `held` of all segments.
    held: AtomicU64,
    /// The same of `pinned`.
    pinned: AtomicU64,
    /// Something was written that may not be durable.
    unflushed: AtomicBool,
    /// Local blocks were written since the last flush that was asked for.
    owes_flush: AtomicBool,
    /// A flush failed that nobody was told of yet.
    flush_failed: AtomicBool,
    /// Local blocks were lost with it that nobody was told of yet.
    forgotten: AtomicBool,
    /// Segments that the file system below has no space for.
    unbacked: AtomicU64,
    attached: AtomicBool,
    /// It came back with something else on it: not looked at again before it has left once more.
    refused: AtomicBool,
    /// Whether the segments on the device have been looked through since the store was opened.
    recovered: AtomicBool,
    /// When a dead segment was last given back.
    gave_back: Mutex<Instant>,
    space: Mutex<Space>,
    space_changed: Condvar,
    lanes: [Mutex<Lane>; 2],
    /// Closed segments whose writes have all been answered.
    pub(super) to_seal: Mutex<Vec<Arc<OpenSegment>>>,
}

impl Disk {
    /// A device whose segments are all free, numbered from `first` on.
    pub(super) fn new(geometry: Geometry, first: u32) -> Self {
        Disk {
            id: geometry.device,
            geometry,
            segments: (0..geometry.segments).map(|_| Segment::free()).collect(),
            first,
            held: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
            // Who had it before may have left something.
            unflushed: AtomicBool::new(true),
            owes_flush: AtomicBool::new(false),
            flush_failed: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            unbacked: AtomicU64::new(0),
            attached: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            recovered: AtomicBool::new(false),
            gave_back: Mutex::new(Instant::now()),
            space: Mutex::new(Space { free: (0..geometry.segments).collect(), stuck: 0 }),
            space_changed: Condvar::new(),
            lanes: [Mutex::new(Lane::default()), Mutex::new(Lane::default())],
            to_seal: Mutex::default(),
        }
    }

    pub(super) fn number(&self, segment: u32) -> SegmentNo {
        SegmentNo(self.first + segment)
    }

    /// The segment's number on this device, if it is on this device.
    pub(super) fn local(&self, segment: SegmentNo) -> Option<u32> {
        segment.0.checked_sub(self.first).filter(|local| *local < self.geometry.segments)
    }

    /// Whether something was written that may not be durable.
    pub(super) fn is_unflushed(&self) -> bool {
        self.unflushed.load(Ordering::Acquire)
    }

    /// Notes a completed write that may not be durable; before anybody is told of it.
    pub(super) fn note_unflushed(&self) {
        self.unflushed.store(true, Ordering::Release);
    }

    /// Notes that a local block is about to be answered for: whoever asks for a flush must get one, or an error.
    pub(super) fn owe_flush(&self) {
        self.owes_flush.store(true, Ordering::Release);
    }

    /// Whether local blocks wait for a flush; they do no longer.
    pub(super) fn take_owed(&self) -> bool {
        self.owes_flush.swap(false, Ordering::AcqRel)
    }

    /// Notes a flush that failed: what was written before it may be lost.
    pub(super) fn note_flush_failed(&self) {
        self.note_unflushed();
        self.flush_failed.store(true, Ordering::Release);
    }

    /// Whether a flush failed since somebody was told.
    pub(super) fn take_flush_failed(&self) -> bool {
        self.flush_failed.swap(false, Ordering::AcqRel)
    }

    /// Notes that the device was exchanged and had what was nowhere else: perhaps what a flush is to be answered for.
    pub(super) fn note_forgotten(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    /// Whether local blocks went with the device since somebody was told.
    pub(super) fn take_forgotten(&self) -> bool {
        self.forgotten.swap(false, Ordering::AcqRel)
    }

    /// The device is about to be flushed; `false` if there is no need. If it fails, [`Self::note_unflushed`] is due again.
    pub(super) fn begin_flush(&self) -> bool {
        self.unflushed.swap(false, Ordering::AcqRel)
    }

    /// Counts in a frame that an index entry is about to point to.
    pub(super) fn add(&self, segment: u32, frame: &FrameSummary) {
        let figures = &self.segments[segment as usize];
        figures.live_frames.fetch_add(1, Ordering::AcqRel);
        figures.live_bytes.fetch_add(footprint(frame), Ordering::AcqRel);
    }

    /// Counts out a frame that no index entry points to any more.
    pub(super) fn remove(&self, segment: u32, frame: &FrameSummary) {
        let figures = &self.segments[segment as usize];
        figures.live_frames.fetch_sub(1, Ordering::AcqRel);
        figures.live_bytes.fetch_sub(footprint(frame), Ordering::AcqRel);
    }

    /// Counts a frame as held from now on.
    pub(super) fn hold(&self, segment: u32, frame: &FrameSummary) {
        let bytes = packed(frame, self.geometry.extent_bytes());
        self.segments[segment as usize].held.fetch_add(bytes, Ordering::AcqRel);
        self.held.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts a frame as held no more.
    pub(super) fn let_go(&self, segment: u32, frame: &FrameSummary) {
        let bytes = packed(frame, self.geometry.extent_bytes());
        self.segments[segment as usize].held.fetch_sub(bytes, Ordering::AcqRel);
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Counts a frame as pinned, and not held, from now on.
    pub(super) fn pin(&self, segment: u32, frame: &FrameSummary) {
        let bytes = packed(frame, self.geometry.extent_bytes());
        self.segments[segment as usize].pinned.fetch_add(bytes, Ordering::AcqRel);
        self.pinned.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts a frame as that no more.
    pub(super) fn unpin(&self, segment: u32, frame: &FrameSummary) {
        let bytes = packed(frame, self.geometry.extent_bytes());
        self.segments[segment as usize].pinned.fetch_sub(bytes, Ordering::AcqRel);
        self.pinned.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// What pinned frames that are not held take on the device.
    pub(super) fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Acquire)
    }

    /// What held frames take on the device.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// Segments without space below.
    pub(super) fn unbacked(&self) -> u64 {
        self.unbacked.load(Ordering::Acquire)
    }

    /// The file system below has no space for a segment.
    pub(super) fn put_aside(&self, segment: u32) {
        self.segments[segment as usize].set_state(SegmentState::Unbacked);
        self.unbacked.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn stamp(&self, fs: FsId, segment: u32) -> Stamp {
        Stamp { fs, device: self.id, segment, seq: self.segments[segment as usize].seq() }
    }

    /// Byte offset on the device of a sector of a segment.
    pub(super) fn offset(&self, segment: u32, sector: u32) -> u64 {
        self.geometry.segment_offset(segment) + u64::from(sector) * SECTOR as u64
    }

    /// Whether the device carries our superblock, as far as we know.
    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    pub(super) fn set_attached(&self, attached: bool) {
        self.attached.store(attached, Ordering::Release);
        self.space_changed.notify_all();
    }

    /// The device has left service.
    pub(super) fn detach(&self) {
        self.refused.store(false, Ordering::Release);
        self.set_attached(false);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    pub(super) fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    pub(super) fn set_recovered(&self) {
        self.recovered.store(true, Ordering::Release);
    }

    pub(super) fn lane(&self, class: SegmentClass) -> MutexGuard<'_, Lane> {
        self.lanes[class as usize].lock()
    }

    /// The same unless somebody has it, who may be opening a segment.
    pub(super) fn lane_if_free(&self, class: SegmentClass) -> Option<MutexGuard<'_, Lane>> {
        self.lanes[class as usize].try_lock()
    }

    pub(super) fn free_segments(&self) -> usize {
        self.space.lock().free.len()
    }

    pub(super) fn free_list(&self) -> Vec<u32> {
        self.space.lock().free.iter().copied().collect()
    }

    /// Free segments below which reclaim starts.
    pub(super) fn low_water(&self) -> usize {
        RESERVE + 1 + self.geometry.segments as usize / 64
    }

    /// Whether puts find a segment.
    pub(super) fn has_space(&self) -> bool {
        self.free_segments() > RESERVE
    }

    /// Takes a free segment; the last ones only for reclaim.
    pub(super) fn take_free(&self, for_reclaim: bool) -> Option<u32> {
        let mut space = self.space.lock();
        let keep = if for_reclaim { 0 } else { RESERVE };
        if space.free.len() > keep { space.free.pop_front() } else { None }
    }

    /// Takes a certain segment, if it is free and not one of the last so many; it goes back with [`Self::give_free`].
    pub(super) fn take_this(&self, segment: u32, keep: usize) -> bool {
        let mut space = self.space.lock();
        if space.free.len() <= keep {
            return false;
        }
        let at = space.free.iter().position(|free| *free == segment);
        at.is_some_and(|at| space.free.remove(at).is_some())
    }

    /// Whether a dead segment may be given back now; not again for a while then.
    pub(super) fn is_time_to_give_back(&self) -> bool {
        let mut last = self.gave_back.lock();
        let is_time = last.elapsed() >= super::compact::GIVE_BACK;
        if is_time {
            *last = Instant::now();
        }
        is_time
    }

    /// Gives a segment back.
    pub(super) fn give_free(&self, segment: u32) {
        self.segments[segment as usize].set_state(SegmentState::Free);
        self.space.lock().free.push_back(segment);
        self.space_changed.notify_all();
    }

    /// Makes the free list anew from the segments' states.
    pub(super) fn list_free(&self) {
        let free = |segment: &u32| self.segments[*segment as usize].state() == SegmentState::Free;
        self.space.lock().free = (0..self.geometry.segments).filter(free).collect();
        self.space_changed.notify_all();
    }

    /// Reclaim found nothing it may free: whoever waits for space gives up.
    pub(super) fn mark_stuck(&self) {
        self.space.lock().stuck += 1;
        self.space_changed.notify_all();
    }

    /// Waits until puts find a segment; `false` if reclaim says there is nothing to free, or `give_up` does. `wake` has reclaim look again.
    pub(super) fn wait_space(&self, wake: &dyn Fn(), give_up: &dyn Fn() -> bool) -> bool {
        let mut space = self.space.lock();
        let stuck = space.stuck;
        while space.free.len() <= RESERVE {
            // The first time may have been on the way already when this began.
            if space.stuck > stuck + 1 || give_up() {
                return false;
            }
            wake();
            self.space_changed.wait_for(&mut space, Duration::from_millis(50));
        }
        true
    }
}
