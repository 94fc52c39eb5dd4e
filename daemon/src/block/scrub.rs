//! Looking at every frame that counts: read from its device, checked, and healed where there is something to heal it from.
//!
//! Invariants:
//! 1. Header and bytes come from the device, not from memory: what counts is what a later start will find. What does not match is read once more before it is called damaged.
//! 2. Damaged is only what the index still points at, in the same use of its segment, after it was read: reclaim may move frames meanwhile, and never waits for this.
//! 3. A copy of what exists only here is dropped only if another copy of it was just read and is good. The last copy stays, damaged as it is: parts of it may still be readable.
//! 4. One read at a time, of one extent: whoever reads in the foreground waits for at most that.

use super::BlockStore;
use super::core::Core;
use super::disk::{Disk, SegmentState};
use super::held::Lost;
use super::index::Entry;
use super::reclaim::stored_range;
use super::transfer::read_all;
use crate::codec::decompress;
use crate::format::{ExtentHeader, GRAIN, Stamp};
use crate::ids::{BlockId, DeviceId};
use crate::io::{IoBuf, IoError};
use crate::units::{SECTOR, sector_up};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

/// What is damaged, and what that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A cached block: it is fetched again when somebody reads it.
    Cached,
    /// One of two copies of what exists only here; the other is good.
    Copy,
    /// What describes the frame was damaged; its bytes are those of the block, and were stored anew.
    Description,
    /// What exists only here: there is no good copy.
    Only,
}

/// A damaged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedFrame {
    /// The block.
    pub fingerprint: u64,
    /// Where it is.
    pub device: DeviceId,
    /// What became of it.
    pub damage: Damage,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Frames that were read and checked.
    pub frames: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Frames that could not be read because their device does not answer.
    pub unread: BTreeMap<DeviceId, u64>,
}

impl BlockStore {
    /// Reads and checks every frame that the index points at. `pace` gets the bytes of each read and may wait after it; `false` ends it. `found` gets what is damaged;
    /// with `heal` it is dropped or stored anew where that loses nothing, else only told.
    pub fn scrub(&self, heal: bool, pace: &mut dyn FnMut(u64) -> bool, found: &mut dyn FnMut(DamagedFrame)) -> Scrubbed {
        let core = self.core();
        let mut done = Scrubbed::default();
        for disk in &core.disks {
            for segment in 0..disk.geometry.segments {
                let entries = core.entries_in(disk, segment);
                for extent in entries.chunk_by(|a, b| a.frame.header_sector() == b.frame.header_sector()) {
                    let read = done.bytes;
                    self.scrub_extent(disk, segment, extent, heal, &mut done, found);
                    if core.is_closing() || !pace(done.bytes - read) {
                        return done;
                    }
                }
            }
        }
        done
    }

    /// Bytes that the frames take which the index points at: about what a scrub reads.
    pub fn scrub_bytes(&self) -> u64 {
        self.core().counters.stored_bytes.load(Ordering::Relaxed)
    }

    fn scrub_extent(
        &self,
        disk: &Disk,
        segment: u32,
        extent: &[Entry],
        heal: bool,
        done: &mut Scrubbed,
        found: &mut dyn FnMut(DamagedFrame),
    ) {
        let core = self.core();
        let answer = core.damaged_in(disk, segment, extent, done).and_then(|bad| match bad.is_empty() {
            true => Ok(bad),
            false => core.damaged_in(disk, segment, &bad, done),
        });
        let Ok(bad) = answer else {
            *done.unread.entry(disk.id).or_default() += extent.len() as u64;
            return;
        };
        done.frames += extent.len() as u64;
        for entry in bad {
            if let Some(damage) = self.deal_with(&entry, heal, done) {
                found(DamagedFrame { fingerprint: entry.frame.fingerprint, device: disk.id, damage });
            }
        }
    }

    /// What a damaged frame means, and, with `heal`, what can be done about it. `None`: it does not count any more.
    fn deal_with(&self, entry: &Entry, heal: bool, done: &mut Scrubbed) -> Option<Damage> {
        let core = self.core();
        let now = core.table(entry).get(entry.frame.fingerprint).filter(|now| now.same_place(entry))?;
        if !now.frame.local_only {
            let lost = heal.then(|| core.drop_damaged(&now));
            // Somebody may have come to hold it in between.
            return Some(if lost == Some(Lost::Local) { Damage::Only } else { Damage::Cached });
        }
        if core.other_copy(&now).is_some_and(|other| core.is_good(&other, done)) {
            if heal {
                core.drop_damaged(&now);
            }
            return Some(Damage::Copy);
        }
        Some(if heal && self.store_anew(&now, done) { Damage::Description } else { Damage::Only })
    }

    /// Stores a block anew whose bytes are what its fingerprint says, whatever its frame's description says; whether they are and it was.
    fn store_anew(&self, entry: &Entry, done: &mut Scrubbed) -> bool {
        let core = self.core();
        let Some((disk, _)) = core.locate(entry.segment) else { return false };
        let Some(plain) = core.plain_by_hash(entry, done) else { return false };
        let (answer, stored) = mpsc::channel();
        self.put_local_here(plain, disk.id, Box::new(move |result| drop(answer.send(result))));
        let Ok(Ok(id)) = stored.recv() else { return false };
        // It was referred to before, and what was said of that meanwhile holds.
        core.unclaim(id.fingerprint(), None);
        let is_durable = self.flush().is_ok();
        core.counters.corrupt_blocks.fetch_add(1, Ordering::Relaxed);
        is_durable
    }
}

impl Core {
    /// The index entries that point into a segment, in order of position.
    pub(super) fn entries_in(&self, disk: &Disk, segment: u32) -> Vec<Entry> {
        let figures = &disk.segments[segment as usize];
        let mut entries = match figures.state() {
            SegmentState::Free | SegmentState::Unbacked => return Vec::new(),
            SegmentState::Sealed => self.live_frames_of(disk, segment),
            SegmentState::Open | SegmentState::Closed => self.walk(disk.number(segment)),
        };
        // A footer that is damaged must hide nothing.
        if (entries.len() as u64) < figures.live_frames() {
            entries = self.walk(disk.number(segment));
        }
        entries.sort_unstable_by_key(|entry| (entry.frame.header_sector(), entry.frame.grain));
        entries
    }

    /// Those frames of an extent whose bytes on the device are not what they should be.
    fn damaged_in(&self, disk: &Disk, segment: u32, extent: &[Entry], done: &mut Scrubbed) -> Result<Vec<Entry>, IoError> {
        if !self.serves(disk) {
            return Err(IoError::Offline);
        }
        let Some(first) = extent.first() else { return Ok(Vec::new()) };
        let seq = disk.segments[segment as usize].seq();
        let start = first.frame.header_sector() as usize * SECTOR;
        let end = extent.iter().map(end_of).max().unwrap_or(start);
        let mut bad = Vec::new();
        match self.read_range(disk, (disk.offset(segment, 0) + start as u64, end - start), done) {
            Ok(bytes) => {
                let header = self.header_in(disk, segment, seq, first, &bytes[..SECTOR]);
                let is_bad = |entry: &&Entry| !header.as_ref().is_some_and(|header| is_intact(header, entry, &bytes, start));
                bad.extend(extent.iter().filter(is_bad).copied());
            }
            // A place that cannot be read: which of them it is shows when they are read one by one.
            Err(error) if is_bad_place(&error) => {
                for entry in extent {
                    if self.is_bad_alone(disk, segment, seq, entry, done)? {
                        bad.push(*entry);
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(if bad.is_empty() { bad } else { self.still_there(disk, segment, seq, &bad) })
    }

    fn is_bad_alone(&self, disk: &Disk, segment: u32, seq: u64, entry: &Entry, done: &mut Scrubbed) -> Result<bool, IoError> {
        let (offset, len) = stored_range(disk, segment, entry);
        let header = self.read_range(disk, (disk.offset(segment, entry.frame.header_sector()), SECTOR), done);
        let bytes = self.read_range(disk, (offset, len), done);
        match (header, bytes) {
            (Ok(header), Ok(bytes)) => {
                let header = self.header_in(disk, segment, seq, entry, &header);
                let start = (offset - disk.offset(segment, 0)) as usize;
                Ok(!header.is_some_and(|header| is_intact(&header, entry, &bytes, start)))
            }
            (Err(error), _) | (_, Err(error)) if is_bad_place(&error) => Ok(true),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// The header of an entry's extent as it was read, if it is the one that is meant.
    fn header_in(&self, disk: &Disk, segment: u32, seq: u64, entry: &Entry, sector: &[u8]) -> Option<ExtentHeader> {
        let stamp = Stamp { fs: self.fs, device: disk.id, segment, seq };
        let header = ExtentHeader::decode(sector).ok()?;
        (header.stamp == stamp && header.sector == entry.frame.header_sector()).then_some(header)
    }

    fn read_range(&self, disk: &Disk, range: (u64, usize), done: &mut Scrubbed) -> Result<IoBuf, IoError> {
        let answer = read_all(&**self.array.device(disk.id), &self.pool, &[range]).pop().unwrap_or(Err(IoError::Offline));
        self.record(disk, &answer.as_ref().map(|_| ()).map_err(Clone::clone));
        done.bytes += range.1 as u64;
        answer
    }

    /// Those entries that are still what they were when they were read (invariant 2).
    fn still_there(&self, disk: &Disk, segment: u32, seq: u64, entries: &[Entry]) -> Vec<Entry> {
        let figures = &disk.segments[segment as usize];
        let indexed: Vec<Entry> = entries.iter().copied().filter(|entry| self.is_indexed(entry)).collect();
        if figures.seq() == seq && figures.state() != SegmentState::Free { indexed } else { Vec::new() }
    }

    /// Whether an entry's frame is within reach and intact.
    fn is_good(&self, entry: &Entry, done: &mut Scrubbed) -> bool {
        let Some((disk, segment)) = self.locate(entry.segment) else { return false };
        self.damaged_in(disk, segment, std::slice::from_ref(entry), done).is_ok_and(|bad| bad.is_empty())
            && self.is_indexed(entry)
    }

    fn drop_damaged(&self, entry: &Entry) -> Lost {
        self.counters.corrupt_blocks.fetch_add(1, Ordering::Relaxed);
        self.lose(entry)
    }

    /// A block's bytes, if they hash to its fingerprint.
    fn plain_by_hash(&self, entry: &Entry, done: &mut Scrubbed) -> Option<Bytes> {
        let (disk, segment) = self.locate(entry.segment)?;
        let range = stored_range(disk, segment, entry);
        let bytes = self.read_range(disk, range, done).ok()?;
        let skip = entry.frame.grain as usize * GRAIN % SECTOR;
        let stored = bytes.get(skip..skip + entry.frame.stored_len as usize)?;
        let plain = if entry.frame.is_compressed() {
            let mut plain = vec![0; entry.frame.plain_len as usize];
            decompress(stored, &mut plain).ok()?;
            plain
        } else {
            stored.to_vec()
        };
        (BlockId::of(&plain).fingerprint() == entry.frame.fingerprint).then(|| Bytes::from(plain))
    }
}

/// The end of a frame's last sector, in bytes from the start of its segment.
fn end_of(entry: &Entry) -> usize {
    sector_up(entry.frame.grain as usize * GRAIN + entry.frame.stored_len as usize)
}

/// Whether a device said that it cannot read this place, rather than nothing.
fn is_bad_place(error: &IoError) -> bool {
    matches!(error, IoError::Os { errno: libc::EIO, .. })
}

/// Whether bytes that begin at byte `start` of the segment have an entry's frame in them as it should be.
fn is_intact(header: &ExtentHeader, entry: &Entry, bytes: &[u8], start: usize) -> bool {
    let Some(frame) = header.frame_at(entry.frame.grain) else { return false };
    let skip = entry.frame.grain as usize * GRAIN - start;
    let stored = bytes.get(skip..skip + frame.stored_len as usize);
    entry.is_of(&frame.summary(header.sector)) && stored.is_some_and(|stored| header.verify(frame, 0, stored))
}
