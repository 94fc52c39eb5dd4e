//! Several blocking reads at once, for recovery and reclaim.

use crate::io::{BufferPool, Device, IoBuf, IoError, IoOp, IoOutcome, IoRequest};
use std::sync::mpsc;

/// Reads under way.
pub(super) struct Reads {
    arrived: mpsc::Receiver<(usize, IoOutcome)>,
    count: usize,
}

/// Starts reading ranges (offset and length, whole sectors).
pub(super) fn start_reads(device: &dyn Device, pool: &BufferPool, ranges: &[(u64, usize)]) -> Reads {
    let (answers, arrived) = mpsc::channel();
    let request = |(at, (offset, len)): (usize, &(u64, usize))| {
        let answers = answers.clone();
        let done = Box::new(move |outcome| {
            let _ = answers.send((at, outcome));
        });
        IoRequest::new(IoOp::Read, *offset, pool.alloc(*len), done)
    };
    device.submit(ranges.iter().enumerate().map(request).collect());
    Reads { arrived, count: ranges.len() }
}

impl Reads {
    /// Waits for all; the answers are in the order asked for.
    pub(super) fn wait(self) -> Vec<Result<IoBuf, IoError>> {
        let mut results: Vec<_> = (0..self.count).map(|_| Err(IoError::Offline)).collect();
        for (at, outcome) in self.arrived {
            results[at] = match (outcome.result, outcome.buf) {
                (Ok(()), Some(buf)) => Ok(buf),
                (Ok(()), None) => Err(IoError::Offline),
                (Err(error), _) => Err(error),
            };
        }
        results
    }
}

/// Reads ranges together and waits for all.
pub(super) fn read_all(device: &dyn Device, pool: &BufferPool, ranges: &[(u64, usize)]) -> Vec<Result<IoBuf, IoError>> {
    start_reads(device, pool, ranges).wait()
}
