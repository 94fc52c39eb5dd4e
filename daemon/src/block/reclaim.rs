//! Making room, after S3-FIFO, a segment at a time.
//!
//! New blocks go to *probation* segments, about a tenth of the device. The oldest probation segment is emptied first: what was read while
//! it was there moves to a *main* segment, the rest is dropped and remembered as ghosts; a block that is put while its ghost is
//! remembered goes to main directly. Main segments are emptied, oldest (or nearly dead) first, only while probation is
//! within its share: what was read since it came moves on with its count lowered by one, the rest is dropped. One pass over a huge data set
//! so flows through probation and leaves main alone.
//!
//! Invariants:
//! 1. A segment is freed only when no index entry points into it.
//! 2. Emptying always ends: a probation segment emptied is one fewer, whatever moves to main, and of a main segment at most three quarters
//!    move on.
//! 3. Before a freed segment is written over, what moved on is durable and the segment's header is gone (see `retire`).
//! 4. A held frame (its entry is flagged LOCAL at the moment it would go) is never dropped, not even a damaged one; a segment whose held frames cannot all
//!    be moved stays as it is, clean frames included, and the next one is tried.
//! 5. Where much is held, only segments are emptied that give room back (see [`super::victim`]): held frames are not moved about for ever.
//! 6. A moved frame keeps the flag that its entry has when it is published.
//! 7. A pinned frame (see [`super::pins`]) moves on like a held one, as long as there is a segment whose emptying makes room that way. Only where there
//!    is none are pins passed over, and frames dropped as if there were none.

use super::core::Core;
use super::disk::Disk;
use super::header_cache::HeaderKey;
use super::index::{Entry, SegmentNo};
use super::lane::{Cargo, Frame};
use super::room::{Keep, moving_order};
use super::transfer::read_all;
use super::victim::choose;
use crate::format::{ExtentHeader, FooterTrailer, FrameSummary, GRAIN, SegmentClass};
use crate::io::{IoError, IoOp, read_blocking, write_blocking};
use crate::units::{SECTOR, sector_up};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Frames read together while moving.
pub(super) const MOVE_WINDOW: usize = 16;

/// Counts frames that are being moved.
#[derive(Default)]
pub(super) struct MoveGroup {
    left: Mutex<usize>,
    changed: Condvar,
}

impl MoveGroup {
    pub(super) fn expect_one(&self) {
        *self.left.lock() += 1;
    }

    /// A moved frame is published, or lost.
    pub(super) fn arrived(&self) {
        *self.left.lock() -= 1;
        self.changed.notify_all();
    }

    pub(super) fn wait(&self, give_up: &dyn Fn() -> bool) {
        let mut left = self.left.lock();
        while *left > 0 && !give_up() {
            self.changed.wait_for(&mut left, Duration::from_millis(50));
        }
    }
}

/// What is to become of a segment's live frames.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    moves: Vec<Entry>,
    drops: Vec<Entry>,
}

/// Decides which frames move on (invariants 2 and 4). Pure.
fn judge(mut live: Vec<Entry>, class: SegmentClass, segment_bytes: u64, is_kept: &dyn Fn(&Entry) -> bool) -> Verdict {
    let limit = match class {
        SegmentClass::Probation => segment_bytes,
        SegmentClass::Main => segment_bytes / 4 * 3,
    };
    live.sort_by_key(|entry| (!entry.frame.local_only, !is_kept(entry), std::cmp::Reverse(entry.frequency), entry.frame.grain));
    let mut verdict = Verdict::default();
    let mut bytes = 0;
    for entry in live {
        bytes += u64::from(entry.frame.stored_len);
        if entry.frame.local_only || is_kept(&entry) || (entry.frequency > 0 && bytes <= limit) {
            verdict.moves.push(entry);
        } else {
            verdict.drops.push(entry);
        }
    }
    // Should the room not do for all, it does for what is held.
    verdict.moves.sort_by_key(|entry| (!entry.frame.local_only, !is_kept(entry), moving_order(&entry.frame)));
    verdict
}

impl Core {
    /// Empties one segment of a device; `false` if there is none to empty.
    pub(super) fn reclaim_one(self: &Arc<Self>, at: usize) -> bool {
        let disk = &self.disks[at];
        for keep in [Keep::Pinned, Keep::Held] {
            if keep == Keep::Held && disk.pinned() == 0 {
                break;
            }
            let freed = self.reclaim_keeping(at, keep);
            // What could not be emptied is tried again in the next round.
            disk.segments.iter().for_each(|segment| segment.set_stays(false));
            if let Some(freed) = freed {
                return freed;
            }
        }
        false
    }

    fn reclaim_keeping(self: &Arc<Self>, at: usize, keep: Keep) -> Option<bool> {
        let disk = &self.disks[at];
        while let Some(victim) = choose(disk, keep) {
            if self.empty(at, victim, keep) {
                return Some(self.free(disk, victim));
            }
            disk.segments[victim as usize].set_stays(true);
            if self.is_abandoned() || !self.serves(disk) {
                return Some(false);
            }
        }
        None
    }

    /// Moves and drops what is in a segment; `false` if it is not empty then.
    fn empty(self: &Arc<Self>, at: usize, victim: u32, keep: Keep) -> bool {
        let disk = &self.disks[at];
        let segment = &disk.segments[victim as usize];
        if segment.live_frames() == 0 {
            return true;
        }
        let class = segment.class();
        let is_kept = |entry: &Entry| keep == Keep::Pinned && self.pins.has(entry.frame.fingerprint);
        let verdict = judge(self.live_frames_of(disk, victim), class, disk.geometry.segment_bytes, &is_kept);
        self.move_on(at, victim, class, &verdict.moves);
        // Dropping the rest would not empty it.
        if keep.of_segment(disk, victim) > 0 {
            return false;
        }
        self.drop_entries(&verdict.drops, class);
        if segment.live_frames() > 0 {
            self.sweep(disk, victim, class);
        }
        segment.live_frames() == 0
    }

    pub(super) fn free(&self, disk: &Disk, victim: u32) -> bool {
        if let Err(error) = self.retire(disk, victim) {
            self.array.record_error(disk.id, &error);
            return false;
        }
        disk.give_free(victim);
        true
    }

    /// Makes what moved on durable, and wipes the segment's header, before anything is written over the segment: a power cut must neither lose
    /// a frame that an earlier flush had made durable, nor leave the old footer in charge of new bytes.
    fn retire(&self, disk: &Disk, segment: u32) -> Result<(), IoError> {
        let device = &**self.array.device(disk.id);
        self.flush_disk(disk)?;
        let mut zeros = self.pool.alloc(SECTOR);
        zeros.fill(0);
        write_blocking(device, disk.offset(segment, 0), zeros)?;
        device.flush()
    }

    /// Index entries that point into a segment: by its footer, or, where that cannot be read, by a walk over the index.
    pub(super) fn live_frames_of(&self, disk: &Disk, segment: u32) -> Vec<Entry> {
        let number = disk.number(segment);
        let Some(table) = self.read_table(disk, segment) else { return self.walk(number) };
        let live = table
            .into_iter()
            .flat_map(|frame| self.copies(frame.fingerprint).filter(move |entry| entry.segment == number && entry.is_of(&frame)));
        live.collect()
    }

    fn read_table(&self, disk: &Disk, segment: u32) -> Option<Vec<FrameSummary>> {
        let device = &**self.array.device(disk.id);
        let sectors = disk.geometry.segment_sectors();
        let end = disk.offset(segment + 1, 0);
        let read = |len: usize| read_blocking(device, &self.pool, end - len as u64, len).ok();
        let trailer = FooterTrailer::decode(&read(SECTOR)?[..SECTOR], sectors).ok()?;
        if trailer.stamp != disk.stamp(self.fs, segment) {
            return None;
        }
        let footer = trailer.decode_table(&read(trailer.footer_len())?, sectors).ok()?;
        footer.sealed.then_some(footer.frames)
    }

    pub(super) fn walk(&self, number: SegmentNo) -> Vec<Entry> {
        let mut found = Vec::new();
        self.for_each_entry(|entry| {
            if entry.segment == number {
                found.push(*entry);
            }
        });
        found
    }

    /// What is left after moving and dropping: frames that could not be moved, or came in meanwhile.
    fn sweep(&self, disk: &Disk, segment: u32, class: SegmentClass) {
        let left = self.walk(disk.number(segment));
        self.drop_entries(&left, class);
    }

    fn drop_entries(&self, entries: &[Entry], class: SegmentClass) {
        for entry in entries {
            let fingerprint = entry.frame.fingerprint;
            let is_pinned = self.pins.has(fingerprint);
            // Before it is gone: whoever misses it finds its ghost.
            if class == SegmentClass::Probation {
                self.ghosts.remember(fingerprint);
            }
            if self.index_remove(entry, |now| now.same_place(entry) && !now.frame.local_only).is_some() {
                self.counters.evicted_blocks.fetch_add(1, Ordering::Relaxed);
                self.counters.dropped_pins.fetch_add(is_pinned.into(), Ordering::Relaxed);
            }
        }
    }

    pub(super) fn move_on(self: &Arc<Self>, at: usize, segment: u32, class: SegmentClass, moves: &[Entry]) {
        let disk = &self.disks[at];
        let group = Arc::new(MoveGroup::default());
        let mut headers = HashMap::new();
        for window in moves.chunks(MOVE_WINDOW) {
            let ranges: Vec<(u64, usize)> = window.iter().map(|entry| stored_range(disk, segment, entry)).collect();
            let answers = read_all(&**self.array.device(disk.id), &self.pool, &ranges);
            for ((entry, (offset, _)), answer) in window.iter().zip(ranges).zip(answers) {
                let bytes = match answer {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        self.array.record_error(disk.id, &error);
                        continue;
                    }
                };
                let sector = entry.frame.header_sector();
                let header = headers.entry(sector).or_insert_with(|| self.header_of(disk, segment, sector));
                let Some(header) = header else { continue };
                let frame_at = disk.offset(segment, 0) + u64::from(entry.frame.grain) * GRAIN as u64;
                let stored = &bytes[(frame_at - offset) as usize..][..entry.frame.stored_len as usize];
                self.move_frame(at, class, entry, header, stored, &group);
            }
        }
        let mut writes = Vec::new();
        disk.lane(SegmentClass::Main).cut(self.site(disk, SegmentClass::Main, true), &mut writes);
        self.launch(at, IoOp::Write, writes);
        group.wait(&|| self.is_abandoned());
    }

    pub(super) fn header_of(&self, disk: &Disk, segment: u32, sector: u32) -> Option<Arc<ExtentHeader>> {
        let seq = disk.segments[segment as usize].seq();
        let key = HeaderKey { segment: disk.number(segment), seq, sector };
        self.headers.get(&key).or_else(|| {
            let device = &**self.array.device(disk.id);
            let bytes = read_blocking(device, &self.pool, disk.offset(segment, sector), SECTOR).ok()?;
            self.accept_header(key, &bytes).ok()
        })
    }

    /// Appends a verified frame to main. One that is damaged or finds no room stays behind, to be dropped.
    fn move_frame(
        self: &Arc<Self>,
        at: usize,
        class: SegmentClass,
        entry: &Entry,
        header: &ExtentHeader,
        stored: &[u8],
        group: &Arc<MoveGroup>,
    ) {
        let Some(found) = header.frame_at(entry.frame.grain).filter(|found| header.verify(found, 0, stored)) else { return };
        let frame = Frame {
            id: found.id,
            encoding: found.encoding,
            plain_len: found.plain_len,
            local_only: entry.frame.local_only,
            second: entry.frame.second,
            stored,
            checks: header.checksums(found),
        };
        let frequency = if class == SegmentClass::Main { entry.frequency.saturating_sub(1) } else { 0 };
        group.expect_one();
        let cargo = Cargo::Moved { from: *entry, frequency, group: group.clone() };
        let disk = &self.disks[at];
        let mut writes = Vec::new();
        let site = self.site(disk, SegmentClass::Main, true);
        let appended = disk.lane(SegmentClass::Main).append(site, &frame, cargo, &mut writes);
        self.launch(at, IoOp::Write, writes);
        if appended.is_err() {
            group.arrived();
        }
    }
}

/// Device range of a frame, whole sectors.
pub(super) fn stored_range(disk: &Disk, segment: u32, entry: &Entry) -> (u64, usize) {
    let start = u64::from(entry.frame.grain) * GRAIN as u64;
    let skip = start % SECTOR as u64;
    (disk.offset(segment, 0) + start - skip, sector_up(skip as usize + entry.frame.stored_len as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(grain: u32, frequency: u8, local_only: bool) -> Entry {
        let frame = FrameSummary {
            fingerprint: 1,
            grain,
            header_distance: 1,
            stored_len: 100,
            plain_len: 100,
            local_only,
            second: false,
        };
        Entry { segment: SegmentNo(0), frame, frequency }
    }

    #[test]
    fn what_was_read_moves_and_the_rest_is_dropped() {
        let verdict =
            judge(vec![entry(1, 0, false), entry(2, 1, false), entry(3, 0, true)], SegmentClass::Main, 1000, &|_| false);
        assert_eq!(verdict.moves, [entry(3, 0, true), entry(2, 1, false)]);
        assert_eq!(verdict.drops, [entry(1, 0, false)]);
    }

    #[test]
    fn a_main_segment_full_of_hot_frames_still_gives_a_quarter_back() {
        let live: Vec<Entry> = (0..10).map(|at| entry(at, if at < 5 { 1 } else { 3 }, false)).collect();
        assert_eq!(judge(live.clone(), SegmentClass::Probation, 1000, &|_| false).drops, []);
        let verdict = judge(live, SegmentClass::Main, 1000, &|_| false);
        let dropped: Vec<u32> = verdict.drops.iter().map(|entry| entry.frame.grain).collect();
        assert_eq!(dropped, [2, 3, 4]);
    }

    #[test]
    fn what_is_kept_moves_whatever_was_read() {
        let live: Vec<Entry> = (0..10).map(|at| entry(at, 3, false)).collect();
        let verdict = judge(live, SegmentClass::Main, 500, &|entry| entry.frame.grain >= 4);
        let dropped: Vec<u32> = verdict.drops.iter().map(|entry| entry.frame.grain).collect();
        assert_eq!(dropped, [0, 1, 2, 3], "six that are kept leave no room for more");
    }

    #[test]
    fn local_only_frames_never_drop() {
        let verdict = judge((0..10).map(|at| entry(at, 0, true)).collect(), SegmentClass::Main, 1000, &|_| false);
        assert_eq!(verdict.moves.len(), 10);
    }
}
