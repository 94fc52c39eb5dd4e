//! What the tests of this module share.

use crate::clock::{Clock, SharedClock};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

struct TokioClock {
    started: Instant,
}

impl Clock for TokioClock {
    fn wall_ns(&self) -> i64 {
        1_700_000_000_000_000_000 + self.started.elapsed().as_nanos() as i64
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that goes with tokio's, which tests pause.
pub fn tokio_clock() -> SharedClock {
    Arc::new(TokioClock { started: Instant::now() })
}
