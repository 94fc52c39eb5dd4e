//! Finding again what a device holds: footers of sealed segments, a scan of the extents of the others.
//!
//! 1. A footer that says *sealed* was written after its data had been made durable, and is trusted; reads verify anyway.
//! 2. Everything behind a footer's end is scanned, and each frame's bytes are checked: after a power cut an extent's header may
//!    be there without its data.
//! 3. Where two segments hold the same block, the one opened later wins; with two copies of held blocks, where two of one device do (see [`super::copies`]).
//! 4. With `holds_follow`, the flags of frames that say they exist only here are not taken over: the caller tells which blocks are held. A device
//!    that comes late meets blocks that are awaited, claimed or held already, and they are held from then on.

use super::core::Core;
use super::disk::{Disk, SegmentState};
use super::index::Entry;
use super::lane::{Lane, OpenSegment};
use super::transfer::start_reads;
use crate::format::{ExtentHeader, Footer, FooterTrailer, FrameSummary, SegmentClass, SegmentHeader, Stamp};
use crate::io::{Device, IoBuf, IoError, read_blocking};
use crate::units::SECTOR;
use std::sync::atomic::Ordering;

/// Segments looked at together; the next window is being read meanwhile, so recovery takes about 9 MiB of buffers per device.
const WINDOW: usize = 128;
/// What is read of a segment's end at once: most footers fit.
const TAIL_BYTES: usize = 32 << 10;

/// A segment in use, as found.
struct Found {
    header: SegmentHeader,
    frames: Vec<FrameSummary>,
    end_sector: u32,
    sealed: bool,
}

impl Core {
    /// Recovers a device's segments into the index, at the start or, `late`, when the device comes back into service.
    pub(super) fn recover(&self, disk: &Disk, late: bool) -> Result<(), IoError> {
        let device = &**self.array.device(disk.id);
        let mut unsealed = Vec::new();
        let all: Vec<u32> = (0..disk.geometry.segments).collect();
        let start = |window: &[u32]| {
            let ranges: Vec<(u64, usize)> = window.iter().flat_map(|segment| self.ends(disk, *segment)).collect();
            start_reads(device, &self.pool, &ranges)
        };
        let mut windows = all.chunks(WINDOW).map(|window| (window, start(window)));
        let mut next = windows.next();
        while let Some((window, reads)) = next.take() {
            next = windows.next();
            let answers = reads.wait();
            for (segment, answers) in window.iter().zip(answers.chunks_exact(2)) {
                let [head, tail] = answers else { unreachable!("two reads per segment") };
                if let Some(found) = self.inspect(disk, device, *segment, head, tail) {
                    self.take_over(disk, *segment, found, late, &mut unsealed);
                }
            }
        }
        disk.list_free();
        self.go_on(disk, unsealed);
        disk.set_recovered();
        Ok(())
    }

    fn ends(&self, disk: &Disk, segment: u32) -> [(u64, usize); 2] {
        let end = disk.offset(segment + 1, 0);
        [(disk.offset(segment, 0), SECTOR), (end - TAIL_BYTES as u64, TAIL_BYTES)]
    }

    fn inspect(
        &self,
        disk: &Disk,
        device: &dyn Device,
        segment: u32,
        head: &Result<IoBuf, IoError>,
        tail: &Result<IoBuf, IoError>,
    ) -> Option<Found> {
        self.note(disk, head);
        self.note(disk, tail);
        let header = SegmentHeader::decode(head.as_ref().ok()?).ok()?;
        let ours = Stamp { fs: self.fs, device: disk.id, segment, seq: header.stamp.seq };
        if header.stamp != ours {
            return None;
        }
        let footer = tail.as_ref().ok().and_then(|tail| self.footer(disk, device, header.stamp, tail));
        let (mut frames, mut end_sector, sealed) = match footer {
            Some(footer) => (footer.frames, footer.end_sector, footer.sealed),
            None => (Vec::new(), 1, false),
        };
        if !sealed {
            end_sector = self.scan(disk, device, header.stamp, end_sector, &mut frames);
        }
        Some(Found { header, frames, end_sector, sealed })
    }

    fn note<T>(&self, disk: &Disk, answer: &Result<T, IoError>) {
        if let Err(error) = answer {
            self.array.record_error(disk.id, error);
        }
    }

    fn footer(&self, disk: &Disk, device: &dyn Device, stamp: Stamp, tail: &[u8]) -> Option<Footer> {
        let sectors = disk.geometry.segment_sectors();
        let trailer = FooterTrailer::decode(&tail[tail.len() - SECTOR..], sectors).ok()?;
        if trailer.stamp != stamp {
            return None;
        }
        let len = trailer.footer_len();
        if len <= tail.len() {
            return trailer.decode_table(&tail[tail.len() - len..], sectors).ok();
        }
        let whole = read_blocking(device, &self.pool, disk.offset(stamp.segment + 1, 0) - len as u64, len);
        self.note(disk, &whole);
        trailer.decode_table(&whole.ok()?, sectors).ok()
    }

    /// Follows the chain of extents from a sector on; returns where it ends.
    fn scan(&self, disk: &Disk, device: &dyn Device, stamp: Stamp, from: u32, frames: &mut Vec<FrameSummary>) -> u32 {
        let mut sector = from;
        while let Some((header, data)) = self.extent(disk, device, stamp, sector) {
            let intact = header.frames.iter().filter(|frame| {
                let start = frame.offset() - SECTOR;
                header.verify(frame, 0, &data[start..start + frame.stored_len as usize])
            });
            frames.extend(intact.map(|frame| frame.summary(header.sector)));
            sector += header.sectors;
        }
        sector
    }

    fn extent(&self, disk: &Disk, device: &dyn Device, stamp: Stamp, sector: u32) -> Option<(ExtentHeader, IoBuf)> {
        if sector + 1 >= disk.geometry.segment_sectors() {
            return None;
        }
        let offset = disk.offset(stamp.segment, sector);
        let bytes = read_blocking(device, &self.pool, offset, SECTOR);
        self.note(disk, &bytes);
        let header = ExtentHeader::decode(&bytes.ok()?[..SECTOR]).ok()?;
        let fits = header.sectors.checked_add(sector).is_some_and(|end| end <= disk.geometry.segment_sectors());
        if header.stamp != stamp || header.sector != sector || !fits {
            return None;
        }
        let len = (header.sectors as usize - 1) * SECTOR;
        let data = read_blocking(device, &self.pool, offset + SECTOR as u64, len);
        self.note(disk, &data);
        Some((header, data.ok()?))
    }

    fn take_over(&self, disk: &Disk, segment: u32, found: Found, late: bool, unsealed: &mut Vec<(u32, Found)>) {
        let stamp = found.header.stamp;
        self.next_seq.fetch_max(stamp.seq + 1, Ordering::AcqRel);
        let state = if found.sealed { SegmentState::Sealed } else { SegmentState::Closed };
        disk.segments[segment as usize].begin(stamp.seq, found.header.class, state);
        for frame in &found.frames {
            self.take_frame(&Entry { segment: disk.number(segment), frame: *frame, frequency: 0 }, stamp.seq, late);
        }
        if !found.sealed {
            unsealed.push((segment, found));
        }
    }

    fn take_frame(&self, found: &Entry, seq: u64, late: bool) {
        let fingerprint = found.frame.fingerprint;
        let hint = found.frame.local_only && !self.config.holds_follow;
        // At the start nobody has said anything yet.
        let mut claims = (late || self.wants_two()).then(|| self.holds.lock(fingerprint));
        let second = self.wants_two() && self.is_second(found);
        let entry = Entry { frame: FrameSummary { second, ..found.frame }, ..*found };
        let held = claims.is_some() && self.copies(fingerprint).any(|copy| copy.frame.local_only);
        let (mut flag, mut entered) = (hint || held, false);
        self.index_insert(&entry, |now| {
            let newest = now.is_none_or(|now| self.seq_of(now) <= seq);
            newest.then(|| {
                entered = true;
                flag |= claims.as_mut().is_some_and(|claims| claims.demand(fingerprint));
                flag
            })
        });
        // Both are what the block is.
        if self.wants_two() && entered && flag {
            self.index_flag(fingerprint, true);
        }
    }

    /// Whether a frame that was found serves as the second copy of its block: there is at most one on each device, and a copy that comes first takes
    /// the place that it was written for. Where there are more than two, the newest count.
    fn is_second(&self, found: &Entry) -> bool {
        let copies: Vec<Entry> = self.copies(found.frame.fingerprint).collect();
        match &copies[..] {
            [only] if self.same_disk(only, found) => only.frame.second,
            [only] => !only.frame.second,
            [_, second] if self.same_disk(second, found) => true,
            [first, _] if self.same_disk(first, found) => false,
            _ => found.frame.second,
        }
    }

    fn seq_of(&self, entry: &Entry) -> u64 {
        self.locate(entry.segment).map_or(0, |(disk, segment)| disk.segments[segment as usize].seq())
    }

    /// Goes on appending to the newest unsealed segment of each class; the others are sealed as they are.
    fn go_on(&self, disk: &Disk, mut unsealed: Vec<(u32, Found)>) {
        unsealed.sort_unstable_by_key(|(_, found)| std::cmp::Reverse(found.header.stamp.seq));
        let mut resumed: Vec<SegmentClass> = Vec::new();
        for (segment, found) in unsealed {
            let class = found.header.class;
            let frames = found.frames.len();
            let number = disk.number(segment);
            let open = OpenSegment::new(number, found.header.stamp, class, found.frames, found.end_sector);
            if !resumed.contains(&class) && Lane::is_worth_resuming(disk, found.end_sector, frames) {
                resumed.push(class);
                disk.segments[segment as usize].set_state(SegmentState::Open);
                disk.lane(class).resume(open, found.end_sector, frames);
            } else {
                disk.to_seal.lock().push(open);
            }
        }
    }
}
