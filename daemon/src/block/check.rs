//! The store's invariants as a whole, checked against its devices. Tests call it; fsck will.
//!
//! 1. An index entry points into a segment that is in use, on a device of the array.
//! 2. The extent header it names is intact, of this use of the segment, and has a frame at that very place with the same
//!    fingerprint and lengths.
//! 3. No two entries overlap.
//! 4. A segment's live counts are those of the entries that point into it; the totals are those of all entries.
//! 5. The free list of a device holds exactly its free segments.
//! 6. What is held per segment, device and in all is what the entries flagged LOCAL take.
//! 7. A claimed block's entry is flagged LOCAL, and an awaited block has no entry.
//! 8. The two copies of a block are on different devices, and both flagged LOCAL or neither.
//! 9. What is pinned and not held per segment, device and in all is what such entries take.

use super::core::Core;
use super::disk::{Disk, SegmentState, footprint};
use super::header_cache::HeaderKey;
use super::index::{Entry, SegmentNo};
use super::room::packed;
use crate::format::GRAIN;
use crate::ids::DeviceId;
use crate::io::read_blocking;
use crate::units::SECTOR;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant, as in the head of this module.
    pub invariant: u8,
    /// What was found.
    pub what: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Index entries looked at.
    pub entries: u64,
    /// Everything that does not hold; empty in a healthy store.
    pub violations: Vec<Violation>,
}

impl CheckReport {
    fn add(&mut self, invariant: u8, what: String) {
        self.violations.push(Violation { invariant, what });
    }
}

impl Core {
    /// Checks everything. No put may be under way; housekeeping waits.
    pub(super) fn check(&self) -> CheckReport {
        let _quiet = self.housekeeping.lock();
        let mut report = CheckReport::default();
        let mut by_segment: BTreeMap<SegmentNo, Vec<Entry>> = BTreeMap::new();
        self.for_each_entry(|entry| by_segment.entry(entry.segment).or_default().push(*entry));
        for (number, entries) in &mut by_segment {
            report.entries += entries.len() as u64;
            entries.sort_unstable_by_key(|entry| (entry.frame.header_sector(), entry.frame.grain));
            match self.locate(*number) {
                Some((disk, segment)) => self.check_segment(disk, segment, entries, &mut report),
                None => report.add(1, format!("{number:?} is on no device")),
            }
        }
        for disk in &self.disks {
            self.check_counts(disk, &by_segment, &mut report);
        }
        self.check_totals(&by_segment, &mut report);
        self.check_holds(&mut report);
        self.check_copies(&mut report);
        report
    }

    fn check_segment(&self, disk: &Disk, segment: u32, entries: &[Entry], report: &mut CheckReport) {
        let here = format!("{} segment {segment}", disk.id);
        if matches!(disk.segments[segment as usize].state(), SegmentState::Free | SegmentState::Unbacked) {
            report.add(1, format!("{here} is free but has {} entries", entries.len()));
        }
        let mut end = 0;
        for entry in entries {
            let start = entry.frame.grain as usize * GRAIN;
            if start < end {
                report.add(3, format!("{here}: frames overlap at byte {start}"));
            }
            end = start + entry.frame.stored_len as usize;
        }
        // What cannot be read says nothing about the store.
        if self.serves(disk) {
            for group in entries.chunk_by(|a, b| a.frame.header_sector() == b.frame.header_sector()) {
                self.check_extent(disk, segment, group, report);
            }
        }
    }

    fn check_extent(&self, disk: &Disk, segment: u32, entries: &[Entry], report: &mut CheckReport) {
        let sector = entries[0].frame.header_sector();
        let here = format!("{} segment {segment} sector {sector}", disk.id);
        let key = HeaderKey { segment: disk.number(segment), seq: disk.segments[segment as usize].seq(), sector };
        let device: DeviceId = disk.id;
        let read = read_blocking(&**self.array.device(device), &self.pool, disk.offset(segment, sector), SECTOR);
        let Ok(bytes) = read else { return report.add(2, format!("{here}: the extent header cannot be read")) };
        let header = match self.accept_header(key, &bytes) {
            Ok(header) => header,
            Err(error) => return report.add(2, format!("{here}: extent header: {error}")),
        };
        for entry in entries {
            let agrees = header.frame_at(entry.frame.grain).is_some_and(|frame| entry.is_of(&frame.summary(header.sector)));
            if !agrees {
                report.add(2, format!("{here}: no such frame: {:?}", entry.frame));
            }
        }
    }

    fn check_counts(&self, disk: &Disk, by_segment: &BTreeMap<SegmentNo, Vec<Entry>>, report: &mut CheckReport) {
        let listed = disk.free_list();
        let (mut held_in_all, mut pinned_in_all) = (0, 0);
        for segment in 0..disk.geometry.segments {
            let entries = by_segment.get(&disk.number(segment)).map_or(&[][..], Vec::as_slice);
            let figures = &disk.segments[segment as usize];
            let bytes: u64 = entries.iter().map(|entry| footprint(&entry.frame)).sum();
            if (figures.live_frames(), figures.live_bytes()) != (entries.len() as u64, bytes) {
                report.add(4, format!("{} segment {segment}: live counts are off", disk.id));
            }
            let held: u64 = held(entries).map(|entry| packed(&entry.frame, disk.geometry.extent_bytes())).sum();
            held_in_all += held;
            if figures.held() != held {
                report.add(6, format!("{} segment {segment}: {} bytes held, not {held}", disk.id, figures.held()));
            }
            let pinned = entries.iter().filter(|entry| !entry.frame.local_only && self.pins.has(entry.frame.fingerprint));
            let pinned: u64 = pinned.map(|entry| packed(&entry.frame, disk.geometry.extent_bytes())).sum();
            pinned_in_all += pinned;
            if figures.pinned() != pinned {
                report.add(9, format!("{} segment {segment}: {} bytes pinned, not {pinned}", disk.id, figures.pinned()));
            }
            let free = figures.state() == SegmentState::Free;
            if listed.iter().filter(|listed| **listed == segment).count() != usize::from(free) {
                report.add(5, format!("{} segment {segment}: {:?} disagrees with the free list", disk.id, figures.state()));
            }
        }
        if disk.pinned() != pinned_in_all {
            report.add(9, format!("{}: {} bytes pinned, not {pinned_in_all}", disk.id, disk.pinned()));
        }
        if disk.held() != held_in_all {
            report.add(6, format!("{}: {} bytes held, not {held_in_all}", disk.id, disk.held()));
        }
    }

    fn check_totals(&self, by_segment: &BTreeMap<SegmentNo, Vec<Entry>>, report: &mut CheckReport) {
        let entries = || by_segment.values().flatten();
        let plain: u64 = entries().map(|entry| u64::from(entry.frame.plain_len)).sum();
        let stored: u64 = entries().map(|entry| footprint(&entry.frame)).sum();
        let counted = (self.counters.plain_bytes.load(Ordering::Relaxed), self.counters.stored_bytes.load(Ordering::Relaxed));
        if counted != (plain, stored) {
            report.add(4, format!("totals are {counted:?}, entries add up to {:?}", (plain, stored)));
        }
        let held: u64 = by_segment.values().flat_map(|entries| held(entries)).map(|entry| footprint(&entry.frame)).sum();
        let counted = self.counters.held_bytes.load(Ordering::Relaxed);
        if counted != held {
            report.add(6, format!("{counted} bytes held in all, not {held}"));
        }
    }

    fn check_copies(&self, report: &mut CheckReport) {
        let mut seconds = Vec::new();
        self.seconds.for_each(|entry| seconds.push(*entry));
        for second in seconds {
            let Some(first) = self.other_copy(&second) else { continue };
            let fingerprint = second.frame.fingerprint;
            if self.same_disk(&first, &second) {
                report.add(8, format!("{fingerprint:016x} has both copies on one device"));
            }
            if first.frame.local_only != second.frame.local_only {
                report.add(8, format!("{fingerprint:016x} has one copy held, and one not"));
            }
        }
    }

    fn check_holds(&self, report: &mut CheckReport) {
        self.holds.for_each(|fingerprint, claimed| match self.copies(fingerprint).next() {
            Some(entry) if claimed && !entry.frame.local_only => {
                report.add(7, format!("{fingerprint:016x} is claimed, not held"))
            }
            Some(_) if !claimed => report.add(7, format!("{fingerprint:016x} is awaited, and here")),
            _ => {}
        });
    }
}

fn held(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| entry.frame.local_only)
}
