//! Reading: submit the plan, verify what arrives, put the run of bytes together.
//!
//! Invariants:
//! 1. Bytes are handed out only after they matched the checksum of a frame header that names the block asked for.
//! 2. A mismatch is corruption only if the index still points at the same frame and its segment has not been used anew since the
//!    read was planned. Otherwise reclaim overtook the read: it is planned once more, and then the block is missing. That is why a read
//!    holds no lock or reference on a segment, and reclaim never waits for readers.
//! 3. Every read is answered exactly once.
//! 4. What one copy of a block cannot give is read from the other, if that is within reach. The devices that failed are avoided then, so a read is planned
//!    at most once more for each.

use super::core::Core;
use super::disk::SegmentState;
use super::header_cache::HeaderKey;
use super::held::Lost;
use super::index::Entry;
use super::read_plan::{HeaderFrom, Landing, Piece, Plan, Target, plan};
use super::{BlockWant, ReadDone, ReadFault};
use crate::codec::decompress;
use crate::format::{Encoding, ExtentHeader, FormatError, FrameHeader, Stamp};
use crate::io::{IoBuf, IoError, IoOp, IoOutcome, IoRequest};
use crate::units::{SECTOR, sector_down, sector_up};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Larger results are verified on a thread of their own, so that one device thread does not become everybody's bottleneck.
const INLINE_BYTES: usize = 128 << 10;

/// How often a read is planned anew for copies that turn out to be corrupt: each has one other.
const CORRUPT_TRIES: usize = 4;

/// A read under way.
struct Job {
    core: Arc<Core>,
    wants: Vec<BlockWant>,
    plan: Plan,
    /// Parts of the output buffer that no transfer fills, with their offsets.
    held: Vec<(usize, IoBuf)>,
    before: Before,
    done: ReadDone,
}

/// What a read has met that is planned once more.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// It was overtaken by reclaim.
    stale: bool,
    /// Copies were corrupt, so often.
    corrupt: usize,
    /// These devices failed.
    failed: Vec<usize>,
}

struct Gathering {
    job: Option<Job>,
    outcomes: Vec<Option<IoOutcome>>,
    left: usize,
}

/// Why a piece cannot be served.
enum Trouble {
    /// Overtaken by reclaim.
    Stale,
    Fault(ReadFault),
}

impl Core {
    /// Reads ranges of blocks as one run.
    pub(super) fn read(self: &Arc<Self>, wants: Vec<BlockWant>, before: Before, done: ReadDone) {
        if self.is_closing() {
            return done(Err(wants.iter().enumerate().map(|(at, want)| (at, ReadFault::Missing(want.id))).collect()));
        }
        match plan(self, &wants, &before.failed) {
            Err(missing) => done(Err(missing.into_iter().map(|at| (at, ReadFault::Missing(wants[at].id))).collect())),
            Ok(plan) if plan.pieces.is_empty() => done(Ok(Bytes::new())),
            Ok(plan) => submit(Job { core: self.clone(), wants, plan, held: Vec::new(), before, done }),
        }
    }

    /// Whether a piece still is where it was planned to be (invariant 2).
    fn is_current(&self, piece: &Piece) -> bool {
        let disk = &self.disks[piece.disk];
        let Some(local) = disk.local(piece.entry.segment) else { return false };
        let segment = &disk.segments[local as usize];
        let indexed = self.is_indexed(&piece.entry);
        indexed && segment.seq() == piece.seq && segment.state() != SegmentState::Free
    }

    /// Takes a header that was read into the cache, if it is the one that was meant.
    pub(super) fn accept_header(&self, key: HeaderKey, sector: &[u8]) -> Result<Arc<ExtentHeader>, FormatError> {
        let header = ExtentHeader::decode(sector)?;
        let (disk, segment) = self.locate(key.segment).ok_or(FormatError::Foreign)?;
        let stamp = Stamp { fs: self.fs, device: disk.id, segment, seq: key.seq };
        if header.stamp != stamp || header.sector != key.sector {
            return Err(FormatError::Foreign);
        }
        let header = Arc::new(header);
        self.headers.insert(key, header.clone());
        Ok(header)
    }

    fn mismatch(&self, piece: &Piece) -> Trouble {
        if !self.is_current(piece) {
            return Trouble::Stale;
        }
        let lost = self.lose(&piece.entry);
        self.counters.corrupt_blocks.fetch_add(1, Ordering::Relaxed);
        let device = self.disks[piece.disk].id;
        let block = piece.want.id;
        match lost {
            Lost::Local => {
                tracing::error!(?block, %device, "a block whose only copy is here does not match its checksum: it is lost")
            }
            Lost::Copy => {
                tracing::warn!(?block, %device, "a copy of a block does not match its checksum; it is made anew from the other")
            }
            Lost::Cached => tracing::warn!(?block, %device, "a cached block does not match its checksum and was dropped"),
        }
        Trouble::Fault(ReadFault::Corrupt { id: piece.want.id, device })
    }
}

/// Cuts the output buffer along the transfers and starts them, one submission per device.
fn submit(mut job: Job) {
    let mut rest = Some(job.core.pool.alloc(job.plan.buffer_len()));
    let mut buffers: Vec<Option<IoBuf>> = job.plan.transfers.iter().map(|_| None).collect();
    for (at, transfer) in job.plan.transfers.iter().enumerate().rev() {
        buffers[at] = Some(match &transfer.target {
            Target::Output(range) => {
                let mut front = rest.take().expect("ranges ascend and do not touch twice");
                if front.len() > range.end {
                    job.held.push((range.end, front.split_off(range.end)));
                }
                if range.start == 0 {
                    front
                } else {
                    let part = front.split_off(range.start);
                    rest = Some(front);
                    part
                }
            }
            Target::Aside(_) | Target::Header(_) => job.core.pool.alloc(transfer.len()),
        });
    }
    if let Some(front) = rest {
        job.held.push((0, front));
    }
    start(job, buffers);
}

fn start(job: Job, buffers: Vec<Option<IoBuf>>) {
    let core = job.core.clone();
    let spots: Vec<(usize, u64)> = job.plan.transfers.iter().map(|transfer| (transfer.disk, transfer.offset)).collect();
    let outcomes = spots.iter().map(|_| None).collect();
    let gathering = Arc::new(Mutex::new(Gathering { left: spots.len(), job: Some(job), outcomes }));
    let mut batches: Vec<Vec<IoRequest>> = core.disks.iter().map(|_| Vec::new()).collect();
    for (at, ((disk, offset), buf)) in spots.into_iter().zip(buffers).enumerate() {
        let gathering = gathering.clone();
        let buf = buf.expect("every transfer was given a buffer");
        let done = Box::new(move |outcome| arrived(&gathering, at, outcome));
        batches[disk].push(IoRequest::new(IoOp::Read, offset, buf, done));
    }
    for (disk, batch) in batches.into_iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
        core.array.device(core.disks[disk].id).submit(batch);
    }
}

fn arrived(gathering: &Mutex<Gathering>, at: usize, outcome: IoOutcome) {
    let mut state = gathering.lock();
    state.outcomes[at] = Some(outcome);
    state.left -= 1;
    if state.left > 0 {
        return;
    }
    let job = state.job.take().expect("the last answer comes once");
    let outcomes = std::mem::take(&mut state.outcomes);
    drop(state);
    if job.plan.len <= INLINE_BYTES {
        return finish(job, outcomes);
    }
    let chores = job.core.chores.clone();
    if let Err(refused) = chores.send(Some(Box::new(move || finish(job, outcomes))))
        && let Some(chore) = refused.into_inner()
    {
        chore();
    }
}

/// What the transfers brought, by number.
struct Arrived {
    results: Vec<Result<(), IoError>>,
    aside: Vec<Option<IoBuf>>,
    headers: Vec<Option<Result<Arc<ExtentHeader>, FormatError>>>,
}

fn finish(mut job: Job, outcomes: Vec<Option<IoOutcome>>) {
    let mut arrived = Arrived { results: Vec::new(), aside: Vec::new(), headers: Vec::new() };
    let mut parts = std::mem::take(&mut job.held);
    for (transfer, outcome) in job.plan.transfers.iter().zip(outcomes) {
        let outcome = outcome.expect("every transfer was answered");
        job.core.record(&job.core.disks[transfer.disk], &outcome.result);
        let good = outcome.result.is_ok();
        arrived.results.push(outcome.result);
        let (mut aside, mut header) = (None, None);
        match (&transfer.target, outcome.buf) {
            (Target::Output(range), Some(buf)) => parts.push((range.start, buf)),
            (Target::Aside(_), buf) => aside = buf,
            (Target::Header(key), Some(buf)) if good => header = Some(job.core.accept_header(*key, &buf)),
            _ => {}
        }
        arrived.aside.push(aside);
        arrived.headers.push(header);
    }
    let output = join(parts, job.plan.buffer_len());
    serve(job, arrived, output);
}

/// Puts the parts of the output together; `None` if a timed-out transfer kept one.
fn join(mut parts: Vec<(usize, IoBuf)>, len: usize) -> Option<IoBuf> {
    if parts.iter().map(|(_, part)| part.len()).sum::<usize>() < len {
        return None;
    }
    parts.sort_unstable_by_key(|(at, _)| *at);
    let joined = parts.into_iter().map(|(_, part)| part).reduce(|mut front, back| {
        front.unsplit(back);
        front
    });
    joined.filter(|joined| joined.len() >= len)
}

fn serve(job: Job, arrived: Arrived, mut output: Option<IoBuf>) {
    let mut faults = Vec::new();
    let mut stale = false;
    for piece in &job.plan.pieces {
        match serve_piece(&job.core, piece, &arrived, output.as_deref_mut()) {
            Ok(()) => {}
            Err(Trouble::Stale) if job.before.stale => faults.push((piece.at, ReadFault::Missing(piece.want.id))),
            Err(Trouble::Stale) => stale = true,
            Err(Trouble::Fault(fault)) => faults.push((piece.at, fault)),
        }
    }
    if let Some(before) = again(&job, stale, &faults) {
        return job.core.read(job.wants, before, job.done);
    }
    match output {
        Some(output) if faults.is_empty() => {
            let range = job.plan.pad..job.plan.pad + job.plan.len;
            (job.done)(Ok(Bytes::from_owner(output).slice(range)));
        }
        _ => (job.done)(Err(faults)),
    }
}

/// Whether a read is worth planning once more, and what it has met by then.
fn again(job: &Job, stale: bool, faults: &[(usize, ReadFault)]) -> Option<Before> {
    let mut before = Before { stale: job.before.stale || stale, ..job.before.clone() };
    let mut elsewhere = false;
    for (at, fault) in faults {
        let copies = job.core.copies(job.wants[*at].id.fingerprint()).filter(|copy| job.core.is_served(copy));
        let disk = |copy: &Entry| job.core.disks.iter().position(|disk| disk.local(copy.segment).is_some());
        match fault {
            ReadFault::Missing(_) => {}
            ReadFault::Corrupt { .. } => elsewhere |= before.corrupt < CORRUPT_TRIES && copies.count() > 0,
            ReadFault::Io { device, source, .. } => {
                before.failed.push(usize::from(device.0));
                let (here, others): (Vec<Entry>, Vec<Entry>) = copies.partition(|copy| disk(copy) == Some(usize::from(device.0)));
                let other = others.iter().filter_map(disk).any(|disk| !before.failed.contains(&disk));
                elsewhere |= other;
                // A place that cannot be read is no copy; a device that does not answer may come back with all it had.
                if other && matches!(source, IoError::Os { errno: libc::EIO, .. }) {
                    for copy in here.iter().filter(|copy| copy.frame.local_only) {
                        job.core.lose(copy);
                    }
                }
            }
        }
    }
    before.corrupt += usize::from(elsewhere);
    (stale || elsewhere).then_some(before)
}

fn serve_piece(core: &Core, piece: &Piece, arrived: &Arrived, output: Option<&mut [u8]>) -> Result<(), Trouble> {
    let data = match piece.landing {
        Landing::Direct { transfer, .. } | Landing::Aside { transfer, .. } => transfer,
    };
    arrived.check(core, piece, data)?;
    let header = arrived.header(core, piece)?;
    let frame = find_frame(core, piece, &header)?;
    // A transfer that kept its buffer failed, so that some piece has a fault; this one is read again then.
    let Some(output) = output else { return Ok(()) };
    let good = match &piece.landing {
        Landing::Direct { sectors, .. } => {
            let from = sector_down(piece.want.start as usize);
            let len = sectors.len().min(frame.stored_len as usize - from);
            header.verify(frame, from, &output[sectors.start..sectors.start + len])
        }
        Landing::Aside { transfer, skip } => {
            let buf = arrived.aside[*transfer].as_ref().expect("a good transfer gives its buffer back");
            unpack(piece, &header, frame, &buf[*skip..], &mut output[piece.out.clone()])
        }
    };
    if good { Ok(()) } else { Err(core.mismatch(piece)) }
}

/// Verifies a frame (or the sectors of it that were read) and puts the wanted part into `out`.
fn unpack(piece: &Piece, header: &ExtentHeader, frame: &FrameHeader, bytes: &[u8], out: &mut [u8]) -> bool {
    let (start, len) = (piece.want.start as usize, piece.want.len as usize);
    let stored = frame.stored_len as usize;
    match frame.encoding {
        Encoding::Raw => {
            let whole = stored < SECTOR;
            let from = if whole { 0 } else { sector_down(start) };
            let to = if whole { stored } else { sector_up(start + len).min(stored) };
            let good = header.verify(frame, from, &bytes[..to - from]);
            out.copy_from_slice(&bytes[start - from..start - from + len]);
            good
        }
        Encoding::Lz4 if !header.verify(frame, 0, &bytes[..stored]) => false,
        Encoding::Lz4 if out.len() == frame.plain_len as usize => decompress(&bytes[..stored], out).is_ok(),
        Encoding::Lz4 => {
            let mut plain = vec![0; frame.plain_len as usize];
            let good = decompress(&bytes[..stored], &mut plain).is_ok();
            out.copy_from_slice(&plain[start..start + len]);
            good
        }
    }
}

/// The frame's description, if the header is about this very block.
fn find_frame<'a>(core: &Core, piece: &Piece, header: &'a ExtentHeader) -> Result<&'a FrameHeader, Trouble> {
    match header.frame_at(piece.entry.frame.grain) {
        Some(frame) if frame.id == piece.want.id && piece.entry.is_of(&frame.summary(header.sector)) => Ok(frame),
        // Another block with the same fingerprint: ours is not stored.
        Some(frame) if frame.id != piece.want.id && frame.id.fingerprint() == piece.want.id.fingerprint() => {
            Err(Trouble::Fault(ReadFault::Missing(piece.want.id)))
        }
        _ => Err(core.mismatch(piece)),
    }
}

impl Arrived {
    fn check(&self, core: &Core, piece: &Piece, transfer: usize) -> Result<(), Trouble> {
        match &self.results[transfer] {
            Ok(()) => Ok(()),
            Err(source) => {
                let device = core.disks[piece.disk].id;
                Err(Trouble::Fault(ReadFault::Io { id: piece.want.id, device, source: source.clone() }))
            }
        }
    }

    fn header(&self, core: &Core, piece: &Piece) -> Result<Arc<ExtentHeader>, Trouble> {
        match &piece.header {
            HeaderFrom::Memory(header) => Ok(header.clone()),
            HeaderFrom::Transfer(at) => {
                self.check(core, piece, *at)?;
                let header = self.headers[*at].as_ref().expect("a good header transfer was looked at");
                header.clone().map_err(|_| core.mismatch(piece))
            }
        }
    }
}
