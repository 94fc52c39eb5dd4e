//! The thread that gives requests to the kernel, waits for completions and runs them. It sleeps while nothing is under way, and spins never.

use super::ring::{Finished, Rest, Ring};
use crate::io::complete;
use std::collections::VecDeque;
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
    ring.own();
    let tick = tick(ring.deadline);
    let mut finished = VecDeque::with_capacity(64);
    let mut look_at = Instant::now() + tick;
    let mut lull = false;
    loop {
        match ring.rest(tick, lull && finished.is_empty()) {
            Rest::Wait(limit) => {
                let refused = ring.refused();
                lull = !ring.turn(Some(limit), &mut finished);
                if refused > 0 {
                    ring.retry(refused);
                }
            }
            Rest::Park => {
                std::thread::park();
                ring.unparked();
                lull = false;
            }
            Rest::Exit if finished.is_empty() => break,
            Rest::Exit => {}
        }
        let now = Instant::now();
        if now >= look_at {
            ring.expire(now, &mut finished);
            look_at = now + tick;
        }
        lull &= finished.is_empty();
        deliver(&ring, &mut finished);
    }
    abandon(&ring, &mut finished);
}

/// Runs the completions there are. Answering takes longer than asking: what callers ask for meanwhile goes to the device in
/// between, which would else stand idle. Answers that come with it wait for the next round, so that deadlines are looked at.
fn deliver(ring: &Ring, finished: &mut VecDeque<Finished>) {
    for _ in 0..finished.len() {
        let Some((done, outcome)) = finished.pop_front() else { return };
        ring.counters.completed();
        complete(done, outcome);
        if ring.has_waiting() {
            ring.turn(None, finished);
        }
    }
}

/// Ends what outlived its deadline: cancelled if the kernel can; what it cannot cancel is left to the ring's end.
fn abandon(ring: &Ring, finished: &mut VecDeque<Finished>) {
    if ring.cancel_all() == 0 {
        return;
    }
    let until = Instant::now() + CANCEL_WAIT;
    while ring.with_kernel() > 0 && Instant::now() < until {
        ring.turn(Some(CANCEL_WAIT / 20), finished);
        deliver(ring, finished);
    }
    while !finished.is_empty() {
        deliver(ring, finished);
    }
}
