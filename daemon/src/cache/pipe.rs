//! How long GETs take, and so how much must be under way to keep the machine busy.
//!
//! More than that does harm: what waits in memory for its turn has left the processor's caches when its turn comes.

use crate::units::MIB;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The largest range of one GET, in bytes. 8 MiB is what S3's guidance names for throughput; more only delays the first block of
/// the next reader.
pub(super) const PART: u64 = 8 * MIB;
/// What a core can take in at the very most, in bytes per second.
const CORE: f64 = (512u64 << 20) as f64;
/// Never less, in bytes: it would only be asked for in more and smaller GETs, which the store pays for as well (decision 0017).
const LEAST: u64 = 16 * MIB;
/// See [`Pipe::gets`].
const NEAR_GETS: u64 = 16;
const FAR_GETS: u64 = 4;
/// GETs of fewer bytes say little of how long a whole part takes.
const TELLING: u64 = MIB / 2;
/// The fastest GET of the last one to two of these counts: under load every GET is slow, and not for the network's sake.
const MEMORY: Duration = Duration::from_secs(60);

/// Remembers the fastest recent GET.
pub(super) struct Pipe {
    cores: f64,
    fastest: Mutex<Fastest>,
    /// What [`Pipe::bytes`] says, for readers that must not wait for the lock; 0 = nothing yet.
    bytes: AtomicU64,
}

struct Fastest {
    since: Instant,
    /// Seconds a whole part takes: in this period and in the last one.
    seconds: [Option<f64>; 2],
}

impl Pipe {
    pub(super) fn new(cores: usize) -> Self {
        let fastest = Mutex::new(Fastest { since: Instant::now(), seconds: [None; 2] });
        Pipe { cores: cores as f64, fastest, bytes: AtomicU64::new(0) }
    }

    /// A GET brought `bytes`: the first after `waited`, the last after `took` in all.
    pub(super) fn note(&self, bytes: u64, waited: Duration, took: Duration, now: Instant) {
        if bytes < TELLING {
            return;
        }
        let transfer = took.saturating_sub(waited).as_secs_f64() * PART as f64 / bytes as f64;
        let seconds = waited.as_secs_f64() + transfer;
        let mut fastest = self.fastest.lock();
        if now.duration_since(fastest.since) >= MEMORY {
            *fastest = Fastest { since: now, seconds: [None, fastest.seconds[0]] };
        }
        let best = fastest.seconds[0].map_or(seconds, |best| best.min(seconds));
        fastest.seconds[0] = Some(best);
        let best = fastest.seconds[1].map_or(best, |last| best.min(last));
        self.bytes.store(((self.cores * CORE * best) as u64).max(LEAST), Ordering::Relaxed);
    }

    /// Bytes that the machine can take in while one GET runs: what all streams together should have under way. `None`
    /// as long as no GET has told.
    pub(super) fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Into how many GETs a stream cuts what it has under way. A near store's are small and many: such a body lies in the sockets' buffers
    /// before anybody takes it, so that neither side waits for the other (decision 0019). Far away each costs a round trip.
    pub(super) fn gets(&self) -> u64 {
        if self.bytes() == Some(LEAST) { NEAR_GETS } else { FAR_GETS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_far_store_needs_much_under_way_and_a_near_one_little() {
        let now = Instant::now();
        let (far, near) = (Pipe::new(2), Pipe::new(2));
        assert_eq!(near.bytes(), None);
        far.note(PART, ms(20), ms(113), now);
        assert_eq!(far.bytes().expect("told") / MIB, 115);
        near.note(MIB, ms(6), ms(8), now);
        near.note(PART, ms(60), ms(300), now);
        near.note(4096, ms(0), ms(0), now);
        assert_eq!(near.bytes().expect("told") / MIB, 22, "the fastest counts; a tiny one says nothing");
        near.note(PART, ms(1), ms(2), now);
        assert_eq!(near.bytes(), Some(LEAST), "and however near, the least");
        assert_eq!((near.gets(), far.gets()), (NEAR_GETS, FAR_GETS));
    }

    #[test]
    fn what_was_fast_long_ago_is_forgotten() {
        let pipe = Pipe::new(1);
        let start = Instant::now();
        pipe.note(PART, ms(1), ms(50), start);
        pipe.note(PART, ms(20), ms(100), start + MEMORY);
        assert_eq!(pipe.bytes().expect("told") / MIB, 25, "the last period still counts");
        pipe.note(PART, ms(20), ms(100), start + MEMORY * 2);
        assert_eq!(pipe.bytes().expect("told") / MIB, 51);
    }
}
