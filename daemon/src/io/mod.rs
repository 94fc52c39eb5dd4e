//! Block devices: aligned buffers in, completions out.
//!
//! Invariants:
//! 1. A buffer given to [`Device::submit`] belongs to the device until its completion runs. Only a completion (or the end
//!    of the device) gives it back; a caller that goes away changes nothing.
//! 2. A completion runs exactly once, on a thread of the device, and must not block.
//! 3. Success means every byte asked for was transferred; short transfers are continued inside the device.
//! 4. A request that outlives the device's deadline completes with [`IoError::Timeout`] and *without* its buffer, which
//!    stays with the kernel until the kernel is done with it.

mod arena;
mod buddy;
pub mod buffer;
#[cfg(test)]
mod conformance;
mod counters;
pub mod faulty;
pub mod memory;
mod pool;
pub mod throttled;
pub mod uring;
mod worker;

pub use buffer::{BufferPool, IoBuf};
pub use counters::DeviceCounters;
pub use faulty::FaultyDevice;
pub use memory::MemoryDevice;
pub use throttled::ThrottledDevice;
pub use uring::{UringDevice, UringOptions};

use crate::units::SECTOR;
use bytes::Bytes;

/// Why a device did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IoError {
    /// The kernel's answer, an errno (`EIO`, `ENOSPC`, …).
    #[error("{op} of {len} bytes at offset {offset}: {}", std::io::Error::from_raw_os_error(*errno))]
    Os {
        /// `read`, `write`, `flush`, …
        op: &'static str,
        /// Byte offset on the device.
        offset: u64,
        /// Length in bytes.
        len: usize,
        /// The errno.
        errno: i32,
    },
    /// The device ended before the request did.
    #[error("read of {len} bytes at offset {offset} passed the end of the device")]
    UnexpectedEnd {
        /// Byte offset on the device.
        offset: u64,
        /// Length in bytes.
        len: usize,
    },
    /// No answer within the deadline.
    #[error("{op} at offset {offset} had no answer within {seconds} s")]
    Timeout {
        /// `read`, `write`, `flush`, …
        op: &'static str,
        /// Byte offset on the device.
        offset: u64,
        /// The deadline.
        seconds: u64,
    },
    /// The device was taken out of service or shut down.
    #[error("the device is out of service")]
    Offline,
}

/// The direction of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoOp {
    /// Device to buffer.
    Read,
    /// Buffer to device.
    Write,
    /// The same, and durable when answered (`RWF_DSYNC`), which says nothing of other writes.
    WriteThrough,
}

impl IoOp {
    /// The word for messages.
    pub fn name(self) -> &'static str {
        match self {
            IoOp::Read => "read",
            IoOp::Write | IoOp::WriteThrough => "write",
        }
    }

    /// Whether the device changes.
    pub fn is_write(self) -> bool {
        self != IoOp::Read
    }
}

/// What came of a request.
pub struct IoOutcome {
    /// The request's buffer; `None` only after [`IoError::Timeout`], and even then only if the kernel still has it.
    pub buf: Option<IoBuf>,
    /// Whether all bytes were transferred.
    pub result: Result<(), IoError>,
}

/// Called once, on a thread of the device. Must not block.
pub type Completion = Box<dyn FnOnce(IoOutcome) + Send>;

/// One contiguous transfer. `offset`, and the address and length of each piece of memory, are multiples of [`crate::units::SECTOR`]; a
/// request where they are not completes with `EINVAL`, a read past the device's end with [`IoError::UnexpectedEnd`], and a
/// write past it with `ENOSPC`.
pub struct IoRequest {
    /// Read or write.
    pub op: IoOp,
    /// Byte offset on the device.
    pub offset: u64,
    /// The memory; its whole length is transferred.
    pub buf: IoBuf,
    /// Of a write: what goes behind `buf`, from where it lies. The device keeps it as long as it keeps `buf`. A read has none.
    pub behind: Vec<Bytes>,
    /// What to do afterwards.
    pub done: Completion,
}

impl IoRequest {
    /// A transfer of one buffer.
    pub fn new(op: IoOp, offset: u64, buf: IoBuf, done: Completion) -> Self {
        IoRequest { op, offset, buf, behind: Vec::new(), done }
    }

    /// Bytes to be transferred.
    pub fn bytes(&self) -> usize {
        self.buf.len() + self.behind.iter().map(Bytes::len).sum::<usize>()
    }

    /// What every device refuses before it looks at the data.
    fn check(&self, device_len: u64) -> Result<(), IoError> {
        let (op, offset, len) = (self.op, self.offset, self.bytes());
        if !self.behind.iter().all(|piece| op.is_write() && is_whole_sectors(piece)) {
            return Err(IoError::Os { op: op.name(), offset, len, errno: libc::EINVAL });
        }
        check_range(op, offset, len, device_len)
    }
}

/// Whether memory begins and ends with a sector, so that a device can take it from where it lies.
pub fn is_whole_sectors(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(SECTOR) && bytes.len().is_multiple_of(SECTOR)
}

/// A device: one file or block special file, read and written by offset.
pub trait Device: Send + Sync + 'static {
    /// A name for people: the path, or what kind of test device it is.
    fn name(&self) -> &str;
    /// Addressable bytes.
    fn len(&self) -> u64;
    /// Whether it has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Starts all requests, in one system call where the device can. Never blocks for their completion.
    fn submit(&self, batch: Vec<IoRequest>);
    /// Makes completed writes durable (fdatasync). Blocks.
    fn flush(&self) -> Result<(), IoError>;
    /// Reserves space for a byte range, so that later writes cannot meet `ENOSPC`. Blocks.
    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError>;
    /// Gives the space of a byte range back to the file system below; it reads as zeros afterwards. Blocks.
    fn discard(&self, offset: u64, len: u64) -> Result<(), IoError>;
    /// What it has done since it was opened.
    fn counters(&self) -> DeviceCounters;
}

fn check_range(op: IoOp, offset: u64, len: usize, device_len: u64) -> Result<(), IoError> {
    let os = |op, errno| Err(IoError::Os { op, offset, len, errno });
    if !offset.is_multiple_of(SECTOR as u64) {
        return os(op.name(), libc::EINVAL);
    }
    if offset.checked_add(len as u64).is_some_and(|end| end <= device_len) {
        return Ok(());
    }
    match op {
        IoOp::Read => Err(IoError::UnexpectedEnd { offset, len }),
        IoOp::Write | IoOp::WriteThrough => os(op.name(), libc::ENOSPC),
    }
}

/// Runs a completion. One that panics is its owner's bug and must not stop the device for everybody else.
fn complete(done: Completion, outcome: IoOutcome) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| done(outcome))).is_err() {
        tracing::error!("a device completion panicked");
    }
}

/// Reads `len` bytes and waits. For start-up and tests; the data paths use [`Device::submit`].
pub fn read_blocking(device: &dyn Device, pool: &BufferPool, offset: u64, len: usize) -> Result<IoBuf, IoError> {
    transfer_blocking(device, IoOp::Read, offset, pool.alloc(len))
}

/// Writes a buffer and waits. For start-up and tests; the data paths use [`Device::submit`].
pub fn write_blocking(device: &dyn Device, offset: u64, buf: IoBuf) -> Result<IoBuf, IoError> {
    transfer_blocking(device, IoOp::Write, offset, buf)
}

fn transfer_blocking(device: &dyn Device, op: IoOp, offset: u64, buf: IoBuf) -> Result<IoBuf, IoError> {
    let (tx, rx) = std::sync::mpsc::sync_channel(1);
    let done: Completion = Box::new(move |outcome| {
        let _ = tx.send(outcome);
    });
    device.submit(vec![IoRequest::new(op, offset, buf, done)]);
    let outcome = rx.recv().map_err(|_| IoError::Offline)?;
    outcome.result?;
    Ok(outcome.buf.expect("a successful transfer gives its buffer back"))
}
