//! A device with a bandwidth of its own: what shows on one disk that several devices work at once.

use super::worker::Worker;
use super::{Device, DeviceCounters, IoError, IoRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Passes requests on one after another, at most so many bytes a second.
pub struct ThrottledDevice {
    /// Before `inner`: were the worker to drop the last reference to it, inside a completion of `inner`, each would wait for
    /// the other.
    worker: Worker<IoRequest>,
    inner: Arc<dyn Device>,
    name: String,
}

impl ThrottledDevice {
    /// `inner`, slowed down to `bytes_per_second` (at least 1).
    pub fn new(inner: Arc<dyn Device>, bytes_per_second: u64) -> Self {
        let below = inner.clone();
        let mut free_at = Instant::now();
        let worker = Worker::start("fby-throttled", move |request: IoRequest| {
            let takes = Duration::from_secs_f64(request.bytes() as f64 / bytes_per_second.max(1) as f64);
            free_at = free_at.max(Instant::now()) + takes;
            std::thread::sleep(free_at.saturating_duration_since(Instant::now()));
            below.submit(vec![request]);
        });
        ThrottledDevice { name: format!("{} at {bytes_per_second} B/s", inner.name()), inner, worker }
    }
}

impl Device for ThrottledDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn submit(&self, batch: Vec<IoRequest>) {
        batch.into_iter().for_each(|request| self.worker.send(request));
    }

    fn flush(&self) -> Result<(), IoError> {
        self.inner.flush()
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.inner.allocate(offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.inner.discard(offset, len)
    }

    fn counters(&self) -> DeviceCounters {
        self.inner.counters()
    }
}
