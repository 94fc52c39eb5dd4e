//! Appending: frames are gathered into an extent, extents are written one after the other into the lane's open segment.
//!
//! Invariants:
//! 1. A frame is published (index, callbacks) only after its own extent and every earlier extent of its segment were written: a
//!    scan after a crash follows the chain of extents and stops at the first hole.
//! 2. After a failed write nothing more of that segment is published; what was on its way is reported as failed.
//! 3. Once an open segment is closed and all its writes are answered and published, and not before, it is handed over for sealing.
//! 4. Extents leave room behind them for a footer that names every frame of the segment.

use super::disk::{Disk, SegmentState};
use super::index::{Entry, SegmentNo};
use super::pair::Leg;
use super::reclaim::MoveGroup;
use crate::format::{Encoding, ExtentBuilder, ExtentHeader, Footer, FrameSpec, FrameSummary, SegmentClass, SegmentHeader, Stamp};
use crate::ids::{BlockId, FsId};
use crate::io::{BufferPool, Device, IoBuf, IoError, is_whole_sectors};
use crate::units::{SECTOR, sector_up};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Frames an extent can have at most (its header sector is full then).
const FRAMES_PER_EXTENT: usize = 77;

/// A frame ready to be appended.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) id: BlockId,
    pub(super) encoding: Encoding,
    pub(super) plain_len: u32,
    pub(super) local_only: bool,
    pub(super) second: bool,
    pub(super) stored: &'a [u8],
    pub(super) checks: &'a [u32],
}

impl Frame<'_> {
    fn spec(&self) -> FrameSpec<'_> {
        FrameSpec {
            id: self.id,
            encoding: self.encoding,
            stored_len: self.stored.len() as u32,
            plain_len: self.plain_len,
            local_only: self.local_only,
            second: self.second,
            checks: self.checks,
        }
    }
}

/// What is to happen when a frame is on its device, or could not be written.
pub(super) enum Cargo {
    /// A block that somebody put; its plain bytes are kept for a second try.
    Put {
        /// Its identity, under which those who wait for it are registered.
        id: BlockId,
        /// Its bytes.
        plain: Bytes,
        /// Whether it is to be held.
        local: bool,
        /// Whether this is the second try.
        retried: bool,
        /// Which of two copies this is, if there are to be two.
        leg: Option<Leg>,
    },
    /// A copy of the frame at `from`, which is on another device.
    Copied {
        /// The entry of the other copy.
        from: Entry,
        /// Whom to tell.
        group: Arc<MoveGroup>,
    },
    /// A frame that reclaim moves here from `from`.
    Moved {
        /// The entry it replaces.
        from: Entry,
        /// How often it counts as read from now on.
        frequency: u8,
        /// Whom to tell.
        group: Arc<MoveGroup>,
    },
}

/// An extent that has been handed to the device.
pub(super) struct Flight {
    pub(super) header: ExtentHeader,
    pub(super) cargo: Vec<Cargo>,
    answer: Option<Result<(), IoError>>,
}

#[derive(Default)]
struct Order {
    flights: VecDeque<Flight>,
    /// Ticket of the first of `flights`.
    first_ticket: u64,
    /// Flights whose frames have not been published or reported yet.
    unsettled: usize,
    table: Vec<FrameSummary>,
    end_sector: u32,
    error: Option<IoError>,
    closed: bool,
    handed_over: bool,
}

/// A segment that is being appended to.
pub(super) struct OpenSegment {
    pub(super) number: SegmentNo,
    pub(super) stamp: Stamp,
    pub(super) class: SegmentClass,
    order: Mutex<Order>,
}

/// What an answered write settled.
pub(super) struct Settled {
    /// Extents to publish, in order.
    pub(super) written: Vec<Flight>,
    /// Extents that are lost, and why.
    pub(super) failed: Vec<(Flight, IoError)>,
}

impl OpenSegment {
    /// A segment in use whose frames so far are `table`, ending before `end_sector`.
    pub(super) fn new(
        number: SegmentNo,
        stamp: Stamp,
        class: SegmentClass,
        table: Vec<FrameSummary>,
        end_sector: u32,
    ) -> Arc<Self> {
        let order = Mutex::new(Order { table, end_sector, ..Order::default() });
        Arc::new(OpenSegment { number, stamp, class, order })
    }

    fn launch(&self, header: ExtentHeader, cargo: Vec<Cargo>) -> u64 {
        let mut order = self.order.lock();
        order.unsettled += 1;
        order.flights.push_back(Flight { header, cargo, answer: None });
        order.first_ticket + order.flights.len() as u64 - 1
    }

    /// Records the device's answer to a flight and says what can be published now (invariants 1 and 2).
    pub(super) fn answer(&self, ticket: u64, result: Result<(), IoError>) -> Settled {
        let mut order = self.order.lock();
        let at = (ticket - order.first_ticket) as usize;
        order.flights[at].answer = Some(result);
        let mut settled = Settled { written: Vec::new(), failed: Vec::new() };
        while let Some(flight) = order.pop_answered() {
            match order.error.clone() {
                Some(error) => settled.failed.push((flight, error)),
                None => {
                    order.end_sector = flight.header.sector + flight.header.sectors;
                    order.table.extend(flight.header.summaries());
                    settled.written.push(flight);
                }
            }
        }
        settled
    }

    /// Counts published or reported flights; `true` if the segment is now to be sealed (invariant 3; said once).
    pub(super) fn settled(&self, flights: usize) -> bool {
        let mut order = self.order.lock();
        order.unsettled -= flights;
        order.hand_over()
    }

    /// No more extents will come; `true` if the segment is now to be sealed (said once).
    fn close(&self) -> bool {
        let mut order = self.order.lock();
        order.closed = true;
        order.hand_over()
    }

    fn has_failed(&self) -> bool {
        self.order.lock().error.is_some()
    }

    /// The footer as of now: everything published so far.
    pub(super) fn footer(&self, sealed: bool) -> Footer {
        let order = self.order.lock();
        Footer { stamp: self.stamp, sealed, end_sector: order.end_sector.max(1), frames: order.table.clone() }
    }
}

impl Order {
    fn hand_over(&mut self) -> bool {
        let now = self.closed && self.unsettled == 0 && !self.handed_over;
        self.handed_over |= now;
        now
    }

    fn pop_answered(&mut self) -> Option<Flight> {
        self.flights.front()?.answer.as_ref()?;
        let flight = self.flights.pop_front()?;
        self.first_ticket += 1;
        if let (None, Some(Err(error))) = (&self.error, &flight.answer) {
            self.error = Some(error.clone());
        }
        Some(flight)
    }
}

/// An extent being filled. `lead` is a sector when the segment's header goes out in front of it.
struct Filling {
    layout: ExtentBuilder,
    body: Body,
    lead: usize,
    cargo: Vec<Cargo>,
}

/// What an extent is written from.
enum Body {
    /// The headers' sectors, and behind them the frames, from where their blocks lie: each is whole sectors, so that there is no gap. The blocks are
    /// kept for a second try anyway.
    Apart { head: IoBuf, frames: Vec<Bytes> },
    /// One buffer, with room for all of it.
    Copied(IoBuf),
}

/// Appends to one class of one device.
#[derive(Default)]
pub(super) struct Lane {
    open: Option<Arc<OpenSegment>>,
    next_sector: u32,
    /// Frames put into the open segment so far, written or not.
    frames: usize,
    filling: Option<Filling>,
}

/// What a lane needs of its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) disk: &'a Disk,
    pub(super) device: &'a dyn Device,
    pub(super) class: SegmentClass,
    pub(super) fs: FsId,
    pub(super) pool: &'a BufferPool,
    /// The next sequence number of the store.
    pub(super) next_seq: &'a AtomicU64,
    /// Whether the last free segments may be taken.
    pub(super) for_reclaim: bool,
}

impl Site<'_> {
    /// A free segment that the file system below has space for. One without is put aside: the cache then makes do with
    /// the space there is.
    fn take_backed(&self) -> Option<u32> {
        loop {
            let segment = self.disk.take_free(self.for_reclaim)?;
            match self.device.allocate(self.disk.offset(segment, 0), self.disk.geometry.segment_bytes) {
                Ok(()) => return Some(segment),
                Err(error) => {
                    tracing::warn!(device = %self.disk.id, segment, %error, "no space for a cache segment");
                    self.disk.put_aside(segment);
                }
            }
        }
    }
}

/// An extent to be given to the device once the lane is unlocked.
pub(super) struct Write {
    pub(super) segment: Arc<OpenSegment>,
    pub(super) ticket: u64,
    /// Byte offset on the device.
    pub(super) offset: u64,
    pub(super) buf: IoBuf,
    /// What goes behind `buf`.
    pub(super) behind: Vec<Bytes>,
}

impl Cargo {
    /// The memory of a block that a frame stores as it is, if a device can take it from there.
    fn at_rest(&self, frame: &Frame) -> Option<&Bytes> {
        let Cargo::Put { plain, .. } = self else { return None };
        (frame.encoding == Encoding::Raw && std::ptr::eq(frame.stored, &plain[..]) && is_whole_sectors(plain)).then_some(plain)
    }
}

impl Body {
    /// For an extent that begins with such a frame and grows to `limit` bytes, the lead included.
    fn new(pool: &BufferPool, lead: usize, limit: usize, begins_at_rest: bool) -> Self {
        if begins_at_rest {
            return Body::Apart { head: pool.alloc(lead + SECTOR), frames: Vec::new() };
        }
        Body::Copied(pool.alloc(limit))
    }

    /// The one buffer of so many bytes, with what there is of the extent in it.
    fn copied(&mut self, pool: &BufferPool, limit: usize) -> &mut IoBuf {
        if let Body::Apart { head, frames } = self {
            let mut buf = pool.alloc(limit);
            let mut at = head.len();
            for frame in frames {
                buf[at..at + frame.len()].copy_from_slice(frame);
                at += frame.len();
            }
            *self = Body::Copied(buf);
        }
        match self {
            Body::Copied(buf) => buf,
            Body::Apart { .. } => unreachable!("just made one buffer"),
        }
    }
}

impl Filling {
    fn add(&mut self, pool: &BufferPool, frame: &Frame, cargo: &Cargo) -> bool {
        let gap = self.lead + self.layout.end();
        let Some(offset) = self.layout.push(&frame.spec()) else { return false };
        let start = self.lead + offset;
        if let (Body::Apart { frames, .. }, Some(plain)) = (&mut self.body, cargo.at_rest(frame)) {
            debug_assert_eq!(gap, start, "frames of whole sectors have no gap between them");
            frames.push(plain.clone());
            return true;
        }
        let buf = self.body.copied(pool, self.lead + self.layout.limit());
        buf[gap..start].fill(0);
        buf[start..start + frame.stored.len()].copy_from_slice(frame.stored);
        true
    }
}

impl Lane {
    /// Adds a frame; extents that became full on the way are pushed to `writes`. Without a free segment the cargo comes back.
    pub(super) fn append(&mut self, site: Site, frame: &Frame, cargo: Cargo, writes: &mut Vec<Write>) -> Result<(), Cargo> {
        if self.filling.as_mut().is_some_and(|filling| filling.add(site.pool, frame, &cargo)) {
            self.filling.as_mut().expect("just added to").cargo.push(cargo);
            return Ok(());
        }
        self.cut(site, writes);
        let Some(mut filling) = self.start_filling(site, cargo.at_rest(frame).is_some()) else { return Err(cargo) };
        assert!(filling.add(site.pool, frame, &cargo), "an empty extent holds any block");
        filling.cargo.push(cargo);
        self.filling = Some(filling);
        Ok(())
    }

    /// Adds a frame as [`Self::append`] does, but only to a segment that is open; `false`: there is none with room for it.
    pub(super) fn append_to_open(&mut self, site: Site, frame: &Frame, cargo: Cargo, writes: &mut Vec<Write>) -> bool {
        if self.filling.as_mut().is_some_and(|filling| filling.add(site.pool, frame, &cargo)) {
            self.filling.as_mut().expect("just added to").cargo.push(cargo);
            return true;
        }
        // What is being filled is full and ends here in any case.
        self.cut(site, writes);
        self.has_room(site.disk) && self.append(site, frame, cargo, writes).is_ok()
    }

    /// Whether the open segment takes another extent.
    fn has_room(&self, disk: &Disk) -> bool {
        let is_sound = self.open.as_ref().is_some_and(|open| !open.has_failed());
        is_sound && room(disk, self.next_sector, self.frames) >= least_extent(disk)
    }

    /// Ends the extent being filled, if there is one, and pushes it to `writes`.
    pub(super) fn cut(&mut self, site: Site, writes: &mut Vec<Write>) {
        let Some(Filling { layout, body, lead, cargo }) = self.filling.take() else { return };
        let segment = self.open.clone().expect("an extent is filled for an open segment");
        let end = lead + layout.end();
        let (mut buf, behind) = match body {
            Body::Apart { head, frames } => (head, frames),
            Body::Copied(mut buf) => {
                buf[end..lead + sector_up(layout.end())].fill(0);
                buf.truncate(sector_up(end));
                (buf, Vec::new())
            }
        };
        self.frames += layout.len();
        let header = layout.finish(segment.stamp, self.next_sector);
        header.encode_into(&mut buf[lead..lead + SECTOR]);
        if lead > 0 {
            SegmentHeader { stamp: segment.stamp, class: segment.class }.encode_into(&mut buf[..SECTOR]);
        }
        let offset = site.disk.offset(segment.stamp.segment, self.next_sector) - lead as u64;
        self.next_sector += header.sectors;
        let ticket = segment.launch(header, cargo);
        writes.push(Write { segment, ticket, offset, buf, behind });
    }

    /// Goes on with a segment that recovery found unsealed.
    pub(super) fn resume(&mut self, segment: Arc<OpenSegment>, next_sector: u32, frames: usize) {
        debug_assert!(self.open.is_none(), "a lane resumes one segment");
        (self.open, self.next_sector, self.frames) = (Some(segment), next_sector, frames);
    }

    /// Whether a segment with so much in it is worth going on with.
    pub(super) fn is_worth_resuming(disk: &Disk, next_sector: u32, frames: usize) -> bool {
        room(disk, next_sector, frames) >= least_extent(disk)
    }

    /// Leaves the open segment. It is sealed when its writes are answered.
    pub(super) fn close(&mut self, disk: &Disk) {
        debug_assert!(self.filling.is_none(), "cut before closing");
        let Some(segment) = self.open.take() else { return };
        disk.segments[segment.stamp.segment as usize].set_state(SegmentState::Closed);
        if segment.close() {
            disk.to_seal.lock().push(segment);
        }
    }

    /// The device has been replaced: nothing more of the open segment is published.
    pub(super) fn give_up_segment(&mut self) {
        if let Some(open) = &self.open {
            open.order.lock().error.get_or_insert(IoError::Offline);
        }
    }

    /// Takes the open segment out, as it is.
    pub(super) fn take_open(&mut self) -> Option<Arc<OpenSegment>> {
        self.open.take()
    }

    fn start_filling(&mut self, site: Site, begins_at_rest: bool) -> Option<Filling> {
        let disk = site.disk;
        if !self.has_room(disk) {
            self.close(disk);
            self.open_segment(site)?;
        }
        // Nothing has been written to a segment whose first extent comes now: its header goes with it.
        let lead = if self.next_sector == 1 { SECTOR } else { 0 };
        let limit = disk.geometry.extent_bytes().min(room(disk, self.next_sector, self.frames)) - lead;
        let body = Body::new(site.pool, lead, limit + lead, begins_at_rest);
        Some(Filling { layout: ExtentBuilder::new(limit), body, lead, cargo: Vec::new() })
    }

    fn open_segment(&mut self, site: Site) -> Option<()> {
        let segment = site.take_backed()?;
        let seq = site.next_seq.fetch_add(1, Ordering::AcqRel);
        site.disk.segments[segment as usize].begin(seq, site.class, SegmentState::Open);
        let stamp = site.disk.stamp(site.fs, segment);
        self.open = Some(OpenSegment::new(site.disk.number(segment), stamp, site.class, Vec::new(), 1));
        (self.next_sector, self.frames) = (1, 0);
        Some(())
    }
}

/// Bytes an extent may take so that the footer still fits behind it (invariant 4).
fn room(disk: &Disk, next_sector: u32, frames: usize) -> usize {
    let used = next_sector as usize * SECTOR + Footer::encoded_len(frames + FRAMES_PER_EXTENT);
    (disk.geometry.segment_bytes as usize).saturating_sub(used)
}

/// An extent of one block, with the segment's header in front.
fn least_extent(disk: &Disk) -> usize {
    disk.geometry.block_size as usize + 2 * SECTOR
}
