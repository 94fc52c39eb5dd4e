//! Several blocking reads at once, for recovery and reclaim.

use crate::io::{BufferPool, Device, IoBuf, IoError, IoOp, IoRequest};
use std::sync::mpsc;

/// Reads ranges (offset and length, whole sectors) together and waits for all; the answers are in the order asked for.
pub(super) fn read_all(device: &dyn Device, pool: &BufferPool, ranges: &[(u64, usize)]) -> Vec<Result<IoBuf, IoError>> {
    let (answers, arrived) = mpsc::channel();
    let request = |(at, (offset, len)): (usize, &(u64, usize))| {
        let buf = pool.alloc(*len);
        let answers = answers.clone();
        let done = Box::new(move |outcome| {
            let _ = answers.send((at, outcome));
        });
        IoRequest { op: IoOp::Read, offset: *offset, buf, done }
    };
    device.submit(ranges.iter().enumerate().map(request).collect());
    drop(answers);
    let mut results: Vec<_> = ranges.iter().map(|_| Err(IoError::Offline)).collect();
    for (at, outcome) in arrived {
        results[at] = match (outcome.result, outcome.buf) {
            (Ok(()), Some(buf)) => Ok(buf),
            (Ok(()), None) => Err(IoError::Offline),
            (Err(error), _) => Err(error),
        };
    }
    results
}
