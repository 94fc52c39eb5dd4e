//! What a device has done, counted as requests complete.

use super::IoOp;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A reading of a device's counters. Requests and bytes are those that succeeded, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Read requests.
    pub reads: u64,
    /// Write requests.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests submitted whose completion has not run yet.
    pub in_flight: u64,
}

/// The counters of a live device.
#[derive(Default)]
pub(super) struct LiveCounters {
    reads: AtomicU64,
    writes: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    in_flight: AtomicU64,
}

impl LiveCounters {
    /// `requests` were submitted.
    pub(super) fn submitted(&self, requests: usize) {
        self.in_flight.fetch_add(requests as u64, Relaxed);
    }

    /// A request is about to complete, whatever came of it.
    pub(super) fn completed(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// A transfer succeeded.
    pub(super) fn transferred(&self, op: IoOp, bytes: usize) {
        let (requests, total) = match op {
            IoOp::Read => (&self.reads, &self.read_bytes),
            IoOp::Write | IoOp::WriteThrough => (&self.writes, &self.written_bytes),
        };
        requests.fetch_add(1, Relaxed);
        total.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn read(&self) -> DeviceCounters {
        DeviceCounters {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
        }
    }
}
