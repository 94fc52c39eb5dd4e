//! The thread that waits for completions and runs them. It sleeps while nothing is under way, and spins never.

use super::ring::{Finished, Rest, Ring};
use crate::io::complete;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long closing waits for the kernel to drop requests that outlived their deadline.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// The longest wait before deadlines are looked at: a quarter of one, so that a timeout is at most that late.
fn tick(deadline: Duration) -> Duration {
    (deadline / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// Runs until the ring is closed and all requests are over.
pub(super) fn run(ring: Arc<Ring>) {
    let tick = tick(ring.deadline);
    let mut finished = Vec::with_capacity(64);
    let mut look_at = Instant::now() + tick;
    let mut lull = false;
    loop {
        ring.reap(&mut finished);
        let now = Instant::now();
        if now >= look_at {
            ring.expire(now, &mut finished);
            look_at = now + tick;
        }
        if !finished.is_empty() {
            lull = false;
            deliver(&ring, &mut finished);
            ring.retry();
            continue;
        }
        match ring.rest(tick, lull) {
            Rest::Wait(limit) => lull = !ring.wait(limit),
            Rest::Park => {
                std::thread::park();
                ring.unparked();
                lull = false;
            }
            Rest::Exit => break,
        }
        ring.retry();
    }
    abandon(&ring, &mut finished);
}

fn deliver(ring: &Ring, finished: &mut Vec<Finished>) {
    for (done, outcome) in finished.drain(..) {
        ring.counters.completed();
        complete(done, outcome);
    }
}

/// Ends what outlived its deadline: cancelled if the kernel can; what it cannot cancel is left to the ring's end.
fn abandon(ring: &Ring, finished: &mut Vec<Finished>) {
    if ring.cancel_all() == 0 {
        return;
    }
    let until = Instant::now() + CANCEL_WAIT;
    while ring.with_kernel() > 0 && Instant::now() < until {
        ring.wait(CANCEL_WAIT / 20);
        ring.reap(finished);
        deliver(ring, finished);
    }
}
