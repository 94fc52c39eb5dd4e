//! How many requests are under way at once: a limit that grows while the store keeps up and halves when it says SlowDown,
//! with demand before read-ahead.
//!
//! Invariants, checked by [`Limiter::check`]:
//! 1. the permits out are those of demand plus those of ahead;
//! 2. nobody waits while a permit is free for them and no pause is on;
//! 3. ahead is granted nothing while fewer than a quarter of the permits would stay free, save that after
//!    [`AHEAD_TURN`] grants to demand the oldest ahead gets one, so that a reader who waits for a read-ahead's data is served.

use super::Urgency;
use crate::clock::SharedClock;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// After so many grants to demand in a row, an ahead that waits gets one.
pub const AHEAD_TURN: u32 = 16;

/// Settings of the limiter.
#[derive(Clone, Copy, Debug)]
pub struct PacingConfig {
    /// Requests at once to begin with.
    pub start: u32,
    /// Never fewer.
    pub least: u32,
    /// Never more.
    pub most: u32,
}

impl Default for PacingConfig {
    fn default() -> Self {
        PacingConfig { start: 32, least: 4, most: 256 }
    }
}

/// Several SlowDowns within this time are one event: requests sent before the first of them is heard.
const ONE_EVENT: Duration = Duration::from_millis(500);
/// How long nothing is sent after a SlowDown that names no time.
const PAUSE: Duration = Duration::from_millis(250);
/// However long the store asks for, trying is no worse than waiting after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Answers this much slower than the fastest are a queue building up, not noise.
const SLOWER: f64 = 3.0;
/// Differences in latency below this mean nothing, in seconds.
const NOISE_S: f64 = 0.020;

struct Waiter {
    granted: oneshot::Sender<Permit>,
    urgency: Urgency,
}

struct State {
    limit: f64,
    /// Whether the limit doubles per round trip; until the first sign of congestion.
    doubling: bool,
    demand_out: u32,
    ahead_out: u32,
    demand: VecDeque<Waiter>,
    ahead: VecDeque<Waiter>,
    grants_since_ahead: u32,
    paused_until: Duration,
    slowed_at: Option<Duration>,
    wake_scheduled: bool,
    /// Sends per second allowed after a SlowDown; grows back and then goes.
    bucket: Option<Bucket>,
    /// Grants in the current and the last whole second, to know the rate that was too much.
    rate: RateMeter,
    fastest_s: f64,
    recent_s: f64,
}

/// A token bucket.
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled_at: Duration,
    gone_at_rate: f64,
}

#[derive(Default)]
struct RateMeter {
    second: u64,
    count: u32,
    last: u32,
}

/// Hands out permits to send. Cheap to share.
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    config: PacingConfig,
    clock: SharedClock,
    /// The runtime that pauses are timed on; permits may be dropped on threads that belong to none.
    runtime: OnceLock<Handle>,
}

/// Leave to send one request; held until its body has ended or is dropped.
pub struct Permit {
    shared: Arc<Shared>,
    urgency: Urgency,
}

impl Limiter {
    /// A limiter with nothing under way.
    pub fn new(config: PacingConfig, clock: SharedClock) -> Self {
        let state = State {
            limit: f64::from(config.start.clamp(config.least, config.most)),
            doubling: true,
            demand_out: 0,
            ahead_out: 0,
            demand: VecDeque::new(),
            ahead: VecDeque::new(),
            grants_since_ahead: 0,
            paused_until: Duration::ZERO,
            slowed_at: None,
            wake_scheduled: false,
            bucket: None,
            rate: RateMeter::default(),
            fastest_s: f64::INFINITY,
            recent_s: 0.0,
        };
        Limiter { shared: Arc::new(Shared { state: Mutex::new(state), config, clock, runtime: OnceLock::new() }) }
    }

    /// Waits for leave to send. Dropping the future gives up the place in the queue.
    pub async fn acquire(&self, urgency: Urgency) -> Permit {
        self.shared.runtime.get_or_init(Handle::current);
        let (granted, wait) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            let queue = if urgency == Urgency::Demand { &mut state.demand } else { &mut state.ahead };
            queue.push_back(Waiter { granted, urgency });
        }
        Shared::dispatch(&self.shared);
        wait.await.expect("a waiter in the queue is granted a permit before it is dropped")
    }

    /// A request was answered: how long its headers took, where that says how busy the store is.
    pub fn answered(&self, first_byte: Option<Duration>) {
        let mut state = self.shared.state.lock();
        if let Some(first_byte) = first_byte {
            state.observe(first_byte.as_secs_f64());
        }
        state.grow(self.shared.config.most);
        drop(state);
        Shared::dispatch(&self.shared);
    }

    /// The store asked to slow down.
    pub fn slow_down(&self, retry_after: Option<Duration>) {
        let now = self.shared.clock.monotonic();
        let mut state = self.shared.state.lock();
        let pause = retry_after.unwrap_or(PAUSE).min(LONGEST_PAUSE);
        state.paused_until = state.paused_until.max(now + pause);
        if state.slowed_at.is_some_and(|at| now < at + ONE_EVENT) {
            return;
        }
        state.slowed_at = Some(now);
        state.doubling = false;
        state.limit = (state.limit / 2.0).max(f64::from(self.shared.config.least));
        let seen = state.rate.seen(now).max(2.0 * state.limit);
        let at = state.paused_until;
        state.bucket = Some(Bucket { per_second: seen / 2.0, tokens: 1.0, filled_at: at, gone_at_rate: seen * 2.0 });
    }

    /// Requests allowed at once, now.
    pub fn limit(&self) -> u32 {
        self.shared.state.lock().limit as u32
    }

    /// Requests under way.
    pub fn in_use(&self) -> u32 {
        self.shared.state.lock().out()
    }

    /// Checks the invariants; for tests. Panics with the one that does not hold.
    pub fn check(&self) {
        let now = self.shared.clock.monotonic();
        let state = self.shared.state.lock();
        let waiting = |queue: &VecDeque<Waiter>| queue.iter().any(|waiter| !waiter.granted.is_closed());
        let open = now >= state.paused_until && state.bucket.is_none();
        assert!(!(open && waiting(&state.demand) && f64::from(state.out()) + 1.0 <= state.limit), "invariant 2: demand waits");
        assert!(!(open && waiting(&state.ahead) && state.room_for_ahead()), "invariant 2: ahead waits");
    }
}

impl State {
    fn out(&self) -> u32 {
        self.demand_out + self.ahead_out
    }

    fn room_for_demand(&self) -> bool {
        f64::from(self.out()) + 1.0 <= self.limit
    }

    fn room_for_ahead(&self) -> bool {
        f64::from(self.out()) + 1.0 <= (self.limit * 0.75).max(1.0)
    }

    fn observe(&mut self, seconds: f64) {
        // The fastest drifts up slowly, so that a store that got farther away is learnt.
        self.fastest_s = seconds.min(self.fastest_s * 1.001);
        self.recent_s = if self.recent_s == 0.0 { seconds } else { self.recent_s * 0.9 + seconds * 0.1 };
    }

    fn grow(&mut self, most: u32) {
        let is_queueing = self.recent_s > self.fastest_s * SLOWER + NOISE_S;
        if is_queueing {
            self.doubling = false;
            return;
        }
        // A limit that is not reached says nothing about what the store can take.
        if f64::from(self.out()) + 1.0 < self.limit * 0.5 {
            return;
        }
        let step = if self.doubling { 1.0 } else { 1.0 / self.limit };
        self.limit = (self.limit + step).min(f64::from(most));
    }

    /// Whose turn it is; `None` if nobody may go.
    fn next(&mut self) -> Option<Waiter> {
        drop_closed(&mut self.demand);
        drop_closed(&mut self.ahead);
        let is_turn = self.grants_since_ahead >= AHEAD_TURN && !self.ahead.is_empty();
        if is_turn && self.room_for_demand() {
            return self.ahead.pop_front();
        }
        if !self.demand.is_empty() {
            return if self.room_for_demand() { self.demand.pop_front() } else { None };
        }
        if self.room_for_ahead() { self.ahead.pop_front() } else { None }
    }

    fn count_grant(&mut self, urgency: Urgency, now: Duration) {
        match urgency {
            Urgency::Demand => {
                self.demand_out += 1;
                self.grants_since_ahead = if self.ahead.is_empty() { 0 } else { self.grants_since_ahead + 1 };
            }
            Urgency::Ahead => {
                self.ahead_out += 1;
                self.grants_since_ahead = 0;
            }
        }
        self.rate.count(now);
    }

    /// Takes a token; `Err` with the time when there will be one.
    fn take_token(&mut self, now: Duration) -> Result<(), Duration> {
        if now < self.paused_until {
            return Err(self.paused_until);
        }
        let Some(bucket) = &mut self.bucket else { return Ok(()) };
        bucket.fill(now);
        if bucket.per_second >= bucket.gone_at_rate {
            self.bucket = None;
            return Ok(());
        }
        if bucket.tokens < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - bucket.tokens) / bucket.per_second);
            return Err(now + wait.max(Duration::from_millis(1)));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

impl Bucket {
    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        // A tenth of a second's worth may go in a burst; the rate itself grows by a quarter per second.
        self.tokens = (self.tokens + passed * self.per_second).min((self.per_second / 10.0).max(1.0));
        self.per_second *= 1.25f64.powf(passed);
    }
}

impl RateMeter {
    fn count(&mut self, now: Duration) {
        self.roll(now);
        self.count += 1;
    }

    fn roll(&mut self, now: Duration) {
        let second = now.as_secs();
        if second != self.second {
            self.last = if second == self.second + 1 { self.count } else { 0 };
            (self.second, self.count) = (second, 0);
        }
    }

    /// Grants per second, the busier of this second and the last.
    fn seen(&mut self, now: Duration) -> f64 {
        self.roll(now);
        f64::from(self.count.max(self.last))
    }
}

fn drop_closed(queue: &mut VecDeque<Waiter>) {
    while queue.front().is_some_and(|waiter| waiter.granted.is_closed()) {
        queue.pop_front();
    }
}

impl Shared {
    /// Grants what can be granted. Grants are sent with the lock released, since one that nobody takes any more comes back
    /// through [`Permit::drop`].
    fn dispatch(shared: &Arc<Shared>) {
        loop {
            let mut state = shared.state.lock();
            let now = shared.clock.monotonic();
            let Some(waiter) = state.next() else { return };
            if let Err(until) = state.take_token(now) {
                let queue = if waiter.urgency == Urgency::Demand { &mut state.demand } else { &mut state.ahead };
                queue.push_front(waiter);
                Self::wake_at(shared, &mut state, until.saturating_sub(now));
                return;
            }
            state.count_grant(waiter.urgency, now);
            drop(state);
            let permit = Permit { shared: shared.clone(), urgency: waiter.urgency };
            drop(waiter.granted.send(permit));
        }
    }

    fn wake_at(shared: &Arc<Shared>, state: &mut State, after: Duration) {
        let Some(runtime) = shared.runtime.get().filter(|_| !state.wake_scheduled) else { return };
        state.wake_scheduled = true;
        let weak = Arc::downgrade(shared);
        runtime.spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(shared) = weak.upgrade() {
                shared.state.lock().wake_scheduled = false;
                Shared::dispatch(&shared);
            }
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state.lock();
            match self.urgency {
                Urgency::Demand => state.demand_out -= 1,
                Urgency::Ahead => state.ahead_out -= 1,
            }
        }
        Shared::dispatch(&self.shared);
    }
}

#[cfg(test)]
#[path = "pacing_tests.rs"]
mod tests;
