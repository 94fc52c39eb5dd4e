//! The plan of a read: which device sectors go where. Pure, apart from asking the index and the header cache.
//!
//! The output is one aligned buffer. A part of a raw frame whose place in the output is congruent to its place on the device is read straight
//! into it, and neighbours on both sides become one request; everything else (LZ4, frames that share a sector) goes through a
//! buffer of its own. Between the first output byte and the first wanted byte lies less than a sector of padding.

use super::BlockWant;
use super::core::Core;
use super::header_cache::HeaderKey;
use super::index::Entry;
use crate::format::{ExtentHeader, GRAIN};
use crate::units::{SECTOR, sector_down, sector_up};
use std::ops::Range;
use std::sync::Arc;

/// Neighbouring pieces are merged up to this many bytes per request.
const MERGE_MAX: usize = 1 << 20;

/// Where a frame's header comes from.
#[derive(Clone, Debug)]
pub(super) enum HeaderFrom {
    /// It is in memory, verified.
    Memory(Arc<ExtentHeader>),
    /// It is read by this transfer.
    Transfer(usize),
}

/// Where a piece's bytes arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// In the output, by this transfer; the range of the output that holds stored bytes, padding of its sectors included.
    Direct { transfer: usize, sectors: Range<usize> },
    /// In a buffer of its own; the frame's bytes start at `skip`.
    Aside { transfer: usize, skip: usize },
}

/// One want, found.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Position in the list of wants.
    pub(super) at: usize,
    pub(super) want: BlockWant,
    pub(super) entry: Entry,
    /// Index of the device in the store.
    pub(super) disk: usize,
    /// The segment's sequence number when this was planned.
    pub(super) seq: u64,
    pub(super) header: HeaderFrom,
    pub(super) landing: Landing,
    /// Where its bytes go in the output buffer.
    pub(super) out: Range<usize>,
}

/// What one device request reads into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// This range of the output buffer.
    Output(Range<usize>),
    /// A buffer of this many bytes.
    Aside(usize),
    /// One sector: an extent header.
    Header(HeaderKey),
}

/// One device request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) disk: usize,
    /// Byte offset on the device.
    pub(super) offset: u64,
    pub(super) target: Target,
}

impl Transfer {
    pub(super) fn len(&self) -> usize {
        match &self.target {
            Target::Output(range) => range.len(),
            Target::Aside(len) => *len,
            Target::Header(_) => SECTOR,
        }
    }
}

/// A read, planned.
pub(super) struct Plan {
    pub(super) pieces: Vec<Piece>,
    pub(super) transfers: Vec<Transfer>,
    /// Bytes in front of the first wanted one.
    pub(super) pad: usize,
    /// Wanted bytes.
    pub(super) len: usize,
}

impl Plan {
    /// Bytes of the output buffer.
    pub(super) fn buffer_len(&self) -> usize {
        sector_up(self.pad + self.len)
    }
}

/// Plans a read, or names the wants that are not here. Devices to `avoid` are read only for what no other has.
pub(super) fn plan(core: &Core, wants: &[BlockWant], avoid: &[usize]) -> Result<Plan, Vec<usize>> {
    let first = wants.first().map_or(0, |want| want.start as usize % SECTOR);
    let mut plan = Plan { pieces: Vec::with_capacity(wants.len()), transfers: Vec::new(), pad: first, len: 0 };
    let mut missing = Vec::new();
    for (at, want) in wants.iter().enumerate() {
        match find(core, want, avoid) {
            Some(found) => plan.add(core, at, *want, found, at + 1 == wants.len()),
            None => missing.push(at),
        }
        plan.len += want.len as usize;
    }
    if missing.is_empty() { Ok(plan) } else { Err(missing) }
}

struct Found {
    entry: Entry,
    disk: usize,
    segment: u32,
    seq: u64,
}

fn find(core: &Core, want: &BlockWant, avoid: &[usize]) -> Option<Found> {
    let fingerprint = want.id.fingerprint();
    let first = core.index.touch(fingerprint).and_then(|entry| found(core, want, entry));
    if first.as_ref().is_some_and(|first| !avoid.contains(&first.disk)) {
        return first;
    }
    let second = core.seconds.touch(fingerprint).and_then(|entry| found(core, want, entry));
    match second {
        Some(second) if first.is_none() || !avoid.contains(&second.disk) => Some(second),
        _ => first,
    }
}

fn found(core: &Core, want: &BlockWant, entry: Entry) -> Option<Found> {
    let within = want.len > 0 && want.start.checked_add(want.len).is_some_and(|end| end <= want.plain_len);
    if !within || entry.frame.plain_len != want.plain_len {
        return None;
    }
    let (disk, segment) = core.disks.iter().enumerate().find_map(|(at, disk)| Some((at, disk.local(entry.segment)?)))?;
    let holder = &core.disks[disk];
    core.serves(holder).then(|| Found { entry, disk, segment, seq: holder.segments[segment as usize].seq() })
}

impl Plan {
    fn add(&mut self, core: &Core, at: usize, want: BlockWant, found: Found, last: bool) {
        let out = self.pad + self.len..self.pad + self.len + want.len as usize;
        let frame = &found.entry.frame;
        let frame_at = core.disks[found.disk].offset(found.segment, 0) + frame.grain as u64 * GRAIN as u64;
        let landing = match direct_sectors(&want, &found.entry, &out, last) {
            Some(sectors) => {
                let offset = frame_at + sector_down(want.start as usize) as u64;
                let transfer = self.transfer_into_output(found.disk, offset, sectors.clone());
                Landing::Direct { transfer, sectors }
            }
            None => self.transfer_aside(found.disk, frame_at, &want, &found.entry),
        };
        let header = self.header(core, &found);
        self.pieces.push(Piece { at, want, entry: found.entry, disk: found.disk, seq: found.seq, header, landing, out });
    }

    fn transfer_into_output(&mut self, disk: usize, offset: u64, sectors: Range<usize>) -> usize {
        // Headers of the pieces before may have been planned in between: the last transfer into the output is near the end.
        let neighbour = self.transfers.iter().enumerate().rev().find_map(|(at, transfer)| match &transfer.target {
            Target::Output(range) => Some((at, transfer.disk, transfer.offset + range.len() as u64, range.clone())),
            _ => None,
        });
        if let Some((at, its_disk, its_end, range)) = neighbour
            && its_disk == disk
            && its_end == offset
            && range.end == sectors.start
            && range.len() + sectors.len() <= MERGE_MAX
        {
            self.transfers[at].target = Target::Output(range.start..sectors.end);
            return at;
        }
        self.transfers.push(Transfer { disk, offset, target: Target::Output(sectors) });
        self.transfers.len() - 1
    }

    fn transfer_aside(&mut self, disk: usize, frame_at: u64, want: &BlockWant, entry: &Entry) -> Landing {
        let stored = entry.frame.stored_len as usize;
        let bytes = if entry.frame.is_compressed() || stored < SECTOR {
            0..stored
        } else {
            sector_down(want.start as usize)..sector_up((want.start + want.len) as usize).min(stored)
        };
        let start = frame_at + bytes.start as u64;
        let skip = start as usize % SECTOR;
        let len = sector_up(skip + bytes.len());
        self.transfers.push(Transfer { disk, offset: start - skip as u64, target: Target::Aside(len) });
        Landing::Aside { transfer: self.transfers.len() - 1, skip }
    }

    fn header(&mut self, core: &Core, found: &Found) -> HeaderFrom {
        let sector = found.entry.frame.header_sector();
        let key = HeaderKey { segment: found.entry.segment, seq: found.seq, sector };
        if let Some(header) = core.headers.get(&key) {
            return HeaderFrom::Memory(header);
        }
        let target = Target::Header(key);
        if let Some(at) = self.transfers.iter().rposition(|transfer| transfer.target == target) {
            return HeaderFrom::Transfer(at);
        }
        let offset = core.disks[found.disk].offset(found.segment, sector);
        self.transfers.push(Transfer { disk: found.disk, offset, target });
        HeaderFrom::Transfer(self.transfers.len() - 1)
    }
}

/// The sectors of the output that a raw frame's part can be read straight into, if it can.
fn direct_sectors(want: &BlockWant, entry: &Entry, out: &Range<usize>, last: bool) -> Option<Range<usize>> {
    let on_sectors = !entry.frame.is_compressed() && (entry.frame.grain as usize * GRAIN).is_multiple_of(SECTOR);
    let head = want.start as usize % SECTOR;
    let congruent = out.start % SECTOR == head;
    // A head of bytes not wanted must not fall on what the piece before put there, nor a tail on the piece behind.
    let head_free = head == 0 || want_is_first(out, head);
    let tail_free = out.end.is_multiple_of(SECTOR) || last;
    (on_sectors && congruent && head_free && tail_free).then(|| out.start - head..sector_up(out.end))
}

fn want_is_first(out: &Range<usize>, head: usize) -> bool {
    out.start == head
}
