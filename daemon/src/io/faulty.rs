//! A device that fails as told: errors, torn writes, flipped bits, silence. It wraps any other device.

use super::worker::Worker;
use super::{BufferPool, Completion, Device, DeviceCounters, IoBuf, IoError, IoOp, IoOutcome, IoRequest, complete};
use crate::units::sector_down;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOp {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Flushes.
    Flush,
    /// Reservations of space.
    Allocate,
    /// Discards.
    Discard,
}

/// How it fails. What says "transfers only" applies to reads and writes; other requests answer `EIO` instead.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers an errno; a write does not reach the device.
    Errno(i32),
    /// Transfers only: this many bytes (rounded down to sectors) get through. A read then meets the end of the device, a write
    /// answers `EIO` and is torn.
    Short(usize),
    /// Reads: succeeds, with one bit wrong, at a byte counted from the start of the request. Writes store it wrong.
    FlipBit {
        /// Which byte of the request.
        byte: usize,
        /// Which bit of it, 0 to 7.
        bit: u8,
    },
    /// Transfers only: answers a timeout, as the ring does, and keeps the buffer until [`FaultyDevice::release`].
    Timeout,
    /// Transfers only: no answer until [`FaultyDevice::release`], which carries the request out.
    Hang,
}

/// Which of the matching requests fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The next one only.
    Next,
    /// Only the nth from now; 1 is the next.
    Nth(u64),
    /// All of them.
    Every,
}

struct Rule {
    op: FaultOp,
    range: Range<u64>,
    /// Matching requests to let pass first.
    skip: u64,
    once: bool,
    fault: Fault,
}

#[derive(Default)]
struct Script {
    rules: Vec<Rule>,
    offline: bool,
    hung: Vec<Hung>,
    struck: u64,
}

enum Hung {
    /// To be carried out when released.
    Request(IoRequest),
    /// Answered with a timeout; held as the kernel would hold it.
    Buffer(#[expect(dead_code, reason = "held, not used")] IoBuf),
}

/// A device that does what a script says, and otherwise what the device below does.
pub struct FaultyDevice {
    inner: Arc<dyn Device>,
    name: String,
    script: Mutex<Script>,
    worker: Worker<(Completion, IoOutcome)>,
}

impl FaultyDevice {
    /// `inner`, with no faults yet.
    pub fn new(inner: Arc<dyn Device>) -> Self {
        let worker = Worker::start("fby-faulty", |(done, outcome)| complete(done, outcome));
        FaultyDevice { name: format!("faulty {}", inner.name()), inner, script: Mutex::default(), worker }
    }

    /// Adds a fault for requests of `op` that touch a byte of `range`. The first rule that strikes counts.
    pub fn script(&self, op: FaultOp, range: Range<u64>, when: When, fault: Fault) {
        let (skip, once) = match when {
            When::Next => (0, true),
            When::Nth(n) => (n.saturating_sub(1), true),
            When::Every => (0, false),
        };
        self.script.lock().rules.push(Rule { op, range, skip, once, fault });
    }

    /// Forgets all rules. Hung requests stay hung.
    pub fn heal(&self) {
        self.script.lock().rules.clear();
    }

    /// Unplugs the device (every request answers `ENODEV`), or plugs it in again.
    pub fn set_offline(&self, offline: bool) {
        self.script.lock().offline = offline;
    }

    /// Carries hung requests out, and drops the buffers of timed-out ones. Returns how many there were.
    pub fn release(&self) -> usize {
        let hung = std::mem::take(&mut self.script.lock().hung);
        let released = hung.len();
        let requests = hung.into_iter().filter_map(|hung| match hung {
            Hung::Request(request) => Some(request),
            Hung::Buffer(_) => None,
        });
        self.inner.submit(requests.collect());
        released
    }

    /// How many requests met a fault.
    pub fn struck(&self) -> u64 {
        self.script.lock().struck
    }

    fn strike(&self, op: FaultOp, offset: u64, len: u64) -> Option<Fault> {
        let mut script = self.script.lock();
        let fault = script.choose(op, offset, len)?;
        script.struck += 1;
        Some(fault)
    }

    /// A request without data: any fault is an error.
    fn control(&self, op: FaultOp, name: &'static str, offset: u64, len: u64) -> Result<(), IoError> {
        let errno = match self.strike(op, offset, len) {
            None => return Ok(()),
            Some(Fault::Errno(errno)) => errno,
            Some(_) => libc::EIO,
        };
        Err(IoError::Os { op: name, offset, len: len as usize, errno })
    }

    /// Carries out a request that meets a fault; returns what the device below is to do.
    fn spoil(&self, request: IoRequest, fault: Fault) -> Option<IoRequest> {
        let request = in_one_buffer(request);
        let (op, offset, len) = (request.op, request.offset, request.bytes());
        let os = move |errno| IoError::Os { op: op.name(), offset, len, errno };
        match fault {
            Fault::Errno(errno) => {
                self.worker.send((request.done, IoOutcome { buf: Some(request.buf), result: Err(os(errno)) }));
                None
            }
            Fault::Short(bytes) => {
                let error = if op == IoOp::Read { IoError::UnexpectedEnd { offset, len } } else { os(libc::EIO) };
                Some(cut_short(request, sector_down(bytes), error))
            }
            Fault::FlipBit { byte, bit } => Some(flip(request, byte, bit)),
            Fault::Timeout => {
                let error = IoError::Timeout { op: op.name(), offset, seconds: 0 };
                self.script.lock().hung.push(Hung::Buffer(request.buf));
                self.worker.send((request.done, IoOutcome { buf: None, result: Err(error) }));
                None
            }
            Fault::Hang => {
                self.script.lock().hung.push(Hung::Request(request));
                None
            }
        }
    }
}

impl Script {
    fn choose(&mut self, op: FaultOp, offset: u64, len: u64) -> Option<Fault> {
        if self.offline {
            return Some(Fault::Errno(libc::ENODEV));
        }
        let touched = |rule: &Rule| rule.op == op && (len == 0 || (rule.range.start < offset + len && offset < rule.range.end));
        let mut struck = None;
        for (at, rule) in self.rules.iter_mut().enumerate().filter(|(_, rule)| touched(rule)) {
            if rule.skip == 0 {
                struck = Some(at);
                break;
            }
            rule.skip -= 1;
        }
        let at = struck?;
        Some(if self.rules[at].once { self.rules.remove(at).fault } else { self.rules[at].fault.clone() })
    }
}

/// The same request with all its memory in one buffer, which can be cut and spoilt anywhere. The caller gets back what it gave.
fn in_one_buffer(mut request: IoRequest) -> IoRequest {
    if request.behind.is_empty() {
        return request;
    }
    let (own, mut at) = (request.buf.len(), request.buf.len());
    let mut whole = BufferPool::new(0).alloc(request.bytes());
    whole[..own].copy_from_slice(&request.buf);
    for piece in std::mem::take(&mut request.behind) {
        whole[at..at + piece.len()].copy_from_slice(&piece);
        at += piece.len();
    }
    let done = request.done;
    let back = move |mut outcome: IoOutcome| {
        outcome.buf.iter_mut().for_each(|buf| buf.truncate(own));
        done(outcome);
    };
    IoRequest { buf: whole, done: Box::new(back), ..request }
}

/// Transfers the first `bytes` of a request only, and answers `error`.
fn cut_short(mut request: IoRequest, bytes: usize, error: IoError) -> IoRequest {
    let back = request.buf.split_off(bytes.min(request.buf.len()));
    let done = request.done;
    request.done = Box::new(move |outcome| {
        let buf = outcome.buf.map(|mut front| {
            front.unsplit(back);
            front
        });
        done(IoOutcome { buf, result: outcome.result.and(Err(error)) });
    });
    request
}

/// Turns one bit over: of what is written, or of what was read.
fn flip(mut request: IoRequest, byte: usize, bit: u8) -> IoRequest {
    let turn = move |buf: &mut IoBuf| {
        if let Some(byte) = buf.get_mut(byte) {
            *byte ^= 1 << (bit % 8);
        }
    };
    if request.op.is_write() {
        turn(&mut request.buf);
    }
    let done = request.done;
    request.done = Box::new(move |mut outcome| {
        // After a write this restores the caller's bytes.
        outcome.buf.iter_mut().for_each(turn);
        done(outcome);
    });
    request
}

impl Device for FaultyDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn submit(&self, batch: Vec<IoRequest>) {
        let pass = batch.into_iter().filter_map(|request| {
            let op = if request.op == IoOp::Read { FaultOp::Read } else { FaultOp::Write };
            match self.strike(op, request.offset, request.bytes() as u64) {
                Some(fault) => self.spoil(request, fault),
                None => Some(request),
            }
        });
        self.inner.submit(pass.collect());
    }

    fn flush(&self) -> Result<(), IoError> {
        self.control(FaultOp::Flush, "flush", 0, 0)?;
        self.inner.flush()
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.control(FaultOp::Allocate, "allocate", offset, len)?;
        self.inner.allocate(offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.control(FaultOp::Discard, "discard", offset, len)?;
        self.inner.discard(offset, len)
    }

    fn counters(&self) -> DeviceCounters {
        self.inner.counters()
    }
}

#[cfg(test)]
#[path = "faulty_tests.rs"]
mod tests;
