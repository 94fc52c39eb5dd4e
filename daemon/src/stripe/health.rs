//! The health of one device: when it goes out of service, when it is probed, when it is back.
//!
//! Invariants:
//! 1. A device goes out after [`CONSECUTIVE`] failures in a row, one time-out, or when failures outweigh successes for long
//!    (more than about one in [`ERROR_COST`] requests). A full file system or a bad request says nothing about the device.
//! 2. Nothing takes a device out for good: it is probed after a pause that starts at [`FIRST_PAUSE`], doubles with every
//!    failure up to [`LONGEST_PAUSE`], and starts over once the device has served that long.
//! 3. At most one probe of a device is under way.

use crate::io::IoError;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Failures in a row that take a device out.
const CONSECUTIVE: u32 = 3;
/// What a failure adds to a device's debt; each success pays one off.
const ERROR_COST: u32 = 16;
/// The debt that takes a device out: ten failures more than were paid off.
const DEBT_LIMIT: u32 = 10 * ERROR_COST;
/// The pause before the first probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between probes.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One device's health. Counting costs a served request one load.
pub(super) struct Health {
    out: AtomicBool,
    errors: AtomicU64,
    in_a_row: AtomicU32,
    debt: AtomicU32,
    probing: Mutex<Probing>,
}

/// When the next probe is due. Times are those of the array's clock.
struct Probing {
    under_way: bool,
    pause: Duration,
    due: Duration,
    back_since: Duration,
}

impl Health {
    pub(super) fn new() -> Self {
        Health {
            out: AtomicBool::new(false),
            errors: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            debt: AtomicU32::new(0),
            probing: Mutex::new(Probing {
                under_way: false,
                pause: FIRST_PAUSE / 2,
                due: Duration::ZERO,
                back_since: Duration::ZERO,
            }),
        }
    }

    pub(super) fn in_service(&self) -> bool {
        !self.out.load(Relaxed)
    }

    /// Failed requests since start.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Counts a served request.
    pub(super) fn ok(&self) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
        }
        if self.debt.load(Relaxed) != 0 {
            let _ = self.debt.fetch_update(Relaxed, Relaxed, |debt| debt.checked_sub(1));
        }
    }

    /// Counts a failed request. The pause before the first probe, if this takes the device out.
    pub(super) fn failed(&self, error: &IoError, now: Duration) -> Option<Duration> {
        self.errors.fetch_add(1, Relaxed);
        let too_much = match Blame::of(error) {
            Blame::None => false,
            Blame::Device => {
                let in_a_row = self.in_a_row.fetch_add(1, Relaxed) + 1;
                let debt = self.debt.fetch_add(ERROR_COST, Relaxed) + ERROR_COST;
                in_a_row >= CONSECUTIVE || debt >= DEBT_LIMIT
            }
            Blame::Fatal => true,
        };
        let taken_out = too_much && !self.out.swap(true, Relaxed);
        taken_out.then(|| self.probing.lock().schedule(now))
    }

    /// Whether a probe is due; if so, it counts as under way.
    pub(super) fn start_probe(&self, now: Duration) -> bool {
        let mut probing = self.probing.lock();
        let start = !self.in_service() && !probing.under_way && probing.due <= now;
        probing.under_way |= start;
        start
    }

    /// A probe ended. True if the device is back in service.
    pub(super) fn probed(&self, success: bool, now: Duration) -> bool {
        let mut probing = self.probing.lock();
        probing.under_way = false;
        if !success {
            probing.schedule_next(now);
            return false;
        }
        probing.back_since = now;
        self.in_a_row.store(0, Relaxed);
        self.debt.store(0, Relaxed);
        self.out.swap(false, Relaxed)
    }

    #[cfg(test)]
    pub(super) fn probe_under_way(&self) -> bool {
        self.probing.lock().under_way
    }
}

impl Probing {
    /// The device went out: a device that was back only for a short time is left alone for longer.
    fn schedule(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.back_since) >= LONGEST_PAUSE {
            self.pause = FIRST_PAUSE / 2;
        }
        self.schedule_next(now)
    }

    fn schedule_next(&mut self, now: Duration) -> Duration {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.due = now + self.pause;
        self.pause
    }
}

/// What a failure says about the device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// Nothing: the request was bad, or the space was used up.
    None,
    /// It may be failing.
    Device,
    /// It is gone or hangs; every further request would cost a deadline.
    Fatal,
}

impl Blame {
    fn of(error: &IoError) -> Blame {
        match error {
            IoError::Os { errno, .. } => match *errno {
                libc::ENOSPC | libc::EDQUOT | libc::EINVAL | libc::ENOMEM | libc::EOPNOTSUPP | libc::EFBIG => Blame::None,
                _ => Blame::Device,
            },
            IoError::UnexpectedEnd { .. } => Blame::Device,
            IoError::Timeout { .. } => Blame::Fatal,
            // What a device out of service answers says nothing new.
            IoError::Offline => Blame::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn os(errno: i32) -> IoError {
        IoError::Os { op: "read", offset: 0, len: 4096, errno }
    }

    fn timeout() -> IoError {
        IoError::Timeout { op: "read", offset: 0, seconds: 10 }
    }

    #[test]
    fn three_failures_in_a_row_take_a_device_out() {
        let health = Health::new();
        for _ in 0..3 {
            assert_eq!(health.failed(&os(libc::EIO), START), None);
            assert_eq!(health.failed(&os(libc::EIO), START), None);
            health.ok();
        }
        health.failed(&os(libc::EIO), START);
        health.failed(&os(libc::EIO), START);
        assert!(health.failed(&os(libc::EIO), START).is_some());
        assert!(!health.in_service());
    }

    #[test]
    fn one_timeout_takes_a_device_out_once() {
        let health = Health::new();
        assert_eq!(health.failed(&timeout(), START), Some(FIRST_PAUSE));
        assert_eq!(health.failed(&timeout(), START), None, "it is out already");
        assert_eq!(health.errors(), 2);
    }

    #[test]
    fn a_lasting_error_rate_takes_a_device_out_and_a_low_one_does_not() {
        let outlasts = |successes_per_error: usize| {
            let health = Health::new();
            (0..2000).all(|_| {
                (0..successes_per_error).for_each(|_| health.ok());
                health.failed(&os(libc::EIO), START).is_none()
            })
        };
        assert!(!outlasts(9), "one request in ten fails");
        assert!(outlasts(40), "one request in forty fails");
    }

    #[test]
    fn a_full_file_system_is_not_a_bad_device() {
        let health = Health::new();
        for _ in 0..100 {
            assert_eq!(health.failed(&os(libc::ENOSPC), START), None);
        }
        assert!(health.in_service());
    }

    #[test]
    fn a_flapping_device_is_left_alone_for_longer_and_longer() {
        let health = Health::new();
        let mut now = START;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = health.failed(&timeout(), now).expect("it was in service");
            pauses.push(pause.as_secs());
            assert!(!health.start_probe(now + pause - Duration::from_millis(1)));
            now += pause;
            assert!(health.start_probe(now));
            assert!(!health.start_probe(now), "one probe at a time");
            assert!(health.probed(true, now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_device_that_served_for_long_is_probed_soon_again() {
        let health = Health::new();
        let mut now = START;
        for _ in 0..5 {
            now += health.failed(&timeout(), now).expect("it was in service");
            assert!(health.start_probe(now) && health.probed(true, now));
        }
        now += LONGEST_PAUSE;
        assert_eq!(health.failed(&timeout(), now), Some(FIRST_PAUSE));
    }
}
