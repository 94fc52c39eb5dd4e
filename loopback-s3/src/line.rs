//! What the requests on one connection share: how it ends, and how fast it may be.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    reset: AtomicBool,
    /// When the bytes sent so far will have gone through a line of the bandwidth set.
    clear_at: Mutex<Option<Instant>>,
}

impl Line {
    /// Asks that the connection end with a reset (RST) rather than in good order (FIN).
    pub(crate) fn mark_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wants_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// Books `bytes` on a line of `bandwidth` bytes per second; gives the time to wait before the next ones.
    pub(crate) fn book(&self, bytes: u64, bandwidth: u64) -> Duration {
        let now = Instant::now();
        let mut clear_at = self.clear_at.lock();
        let from = clear_at.map_or(now, |at| at.max(now));
        let until = from + Duration::from_secs_f64(bytes as f64 / bandwidth as f64);
        *clear_at = Some(until);
        until - now
    }
}
