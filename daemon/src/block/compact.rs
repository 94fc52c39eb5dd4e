//! Giving device space back: segments in which nothing counts any more are freed, those in which little does are emptied, and what is free is given to the file
//! system below.
//!
//! The keeper does a little of this by itself, whenever it has nothing better to do: a dead segment a second. [`BlockStore::give_back`] does all of it.
//!
//! Invariants:
//! 1. Nothing that the index points at is dropped here: of a segment that is emptied all frames move, whatever they are, or it stays.
//! 2. The space of a free segment is given back while nobody can take the segment. Who takes it afterwards reserves space anew.
//! 3. As few free segments as reclaim keeps for itself stay reserved: nobody who writes waits for this.

use super::BlockStore;
use super::core::Core;
use super::disk::{Disk, SegmentState};
use crate::format::geometry::SEGMENTS_MIN;
use std::sync::Arc;
use std::time::Duration;

/// How often the keeper gives a dead segment back.
pub(super) const GIVE_BACK: Duration = Duration::from_secs(1);
/// A segment is worth emptying if at most one part in this many of it counts.
const LITTLE: u64 = 2;

impl BlockStore {
    /// Frees and empties segments as long as `go_on` says so, and gives their space to the file system below; how many segments were freed.
    pub fn give_back(&self, go_on: &dyn Fn() -> bool) -> u64 {
        let core = self.core();
        let go_on = || go_on() && !core.is_closing();
        let mut freed = 0;
        for at in 0..core.disks.len() {
            let disk = &core.disks[at];
            core.seal_what_is_full(disk);
            for segment in 0..disk.geometry.segments {
                if go_on() && core.free_if_dead(at, segment) {
                    freed += 1;
                }
            }
            for segment in core.nearly_empty(disk) {
                if go_on() && core.empty_whole(at, segment) {
                    freed += 1;
                }
            }
            for segment in SEGMENTS_MIN as u32..disk.geometry.segments {
                if !go_on() {
                    return freed;
                }
                core.discard(disk, segment);
            }
        }
        freed
    }
}

impl Core {
    fn may_free(&self, disk: &Disk) -> bool {
        self.holds.are_known() && self.serves(disk)
    }

    /// The keeper may not have come to it yet.
    fn seal_what_is_full(&self, disk: &Disk) {
        let _busy = self.housekeeping.lock();
        if self.may_free(disk) {
            self.seal_closed(disk);
        }
    }

    fn is_dead(disk: &Disk, segment: u32) -> bool {
        let figures = &disk.segments[segment as usize];
        figures.state() == SegmentState::Sealed && figures.live_frames() == 0
    }

    fn free_if_dead(self: &Arc<Self>, at: usize, segment: u32) -> bool {
        let disk = &self.disks[at];
        if !Self::is_dead(disk, segment) || !self.may_free(disk) {
            return false;
        }
        let _busy = self.housekeeping.lock();
        Self::is_dead(disk, segment) && self.free(disk, segment)
    }

    /// Segments that are worth emptying, the emptiest first.
    fn nearly_empty(&self, disk: &Disk) -> Vec<u32> {
        let live = |segment: &u32| disk.segments[*segment as usize].live_bytes();
        let is_sealed = |segment: &u32| disk.segments[*segment as usize].state() == SegmentState::Sealed;
        let mut found: Vec<u32> = (0..disk.geometry.segments)
            .filter(|segment| is_sealed(segment) && live(segment) * LITTLE <= disk.geometry.segment_bytes)
            .collect();
        found.sort_by_key(live);
        found
    }

    /// Moves everything out of a segment and frees it (invariant 1).
    fn empty_whole(self: &Arc<Self>, at: usize, segment: u32) -> bool {
        let disk = &self.disks[at];
        let _busy = self.housekeeping.lock();
        let figures = &disk.segments[segment as usize];
        // Reclaim needs what room there is.
        let has_room = disk.free_segments() > disk.low_water();
        if figures.state() != SegmentState::Sealed || !has_room || !self.may_free(disk) {
            return false;
        }
        let mut moves = self.entries_in(disk, segment);
        moves.sort_by_key(|entry| super::room::moving_order(&entry.frame));
        self.move_on(at, segment, figures.class(), &moves);
        self.seal_closed(disk);
        figures.live_frames() == 0 && self.free(disk, segment)
    }

    /// Gives the space of a segment to the file system below, if it is free (invariant 2).
    fn discard(&self, disk: &Disk, segment: u32) {
        let _busy = self.housekeeping.lock();
        if !self.serves(disk) || !disk.take_this(segment, disk.low_water()) {
            return;
        }
        let device = self.array.device(disk.id);
        if let Err(error) = device.discard(disk.offset(segment, 0), disk.geometry.segment_bytes) {
            // A file system that cannot do it keeps the space reserved, as before.
            tracing::debug!(device = %disk.id, segment, %error, "space could not be given back");
        }
        disk.give_free(segment);
    }

    /// The keeper's share: one dead segment, if it is time. Housekeeping is locked.
    pub(super) fn give_back_one(&self, disk: &Disk) {
        if !self.may_free(disk) || !disk.is_time_to_give_back() {
            return;
        }
        let Some(dead) = (0..disk.geometry.segments).find(|segment| Self::is_dead(disk, *segment)) else { return };
        let is_pressed = disk.free_segments() < 2 * disk.low_water();
        // Where much is written, it is taken again at once.
        if !self.free(disk, dead) || is_pressed || dead < SEGMENTS_MIN as u32 || !disk.take_this(dead, disk.low_water()) {
            return;
        }
        let _ = self.array.device(disk.id).discard(disk.offset(dead, 0), disk.geometry.segment_bytes);
        disk.give_free(dead);
    }
}
