//! When a failed request is tried again: how long to wait, and when to give up. Pure, given a random number.

use super::StoreError;
use std::time::Duration;

/// Settings of retries.
#[derive(Clone, Copy, Debug)]
pub struct RetryConfig {
    /// How long one operation is tried while nothing comes of it. A body that makes progress starts this time anew.
    pub deadline: Duration,
    /// The first wait is random between zero and this.
    pub first: Duration,
    /// No wait is longer, unless the store asks for it.
    pub longest: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig { deadline: Duration::from_secs(60), first: Duration::from_millis(50), longest: Duration::from_secs(5) }
    }
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another try will not mend it.
    Final,
    /// Try again after this long.
    After(Duration),
    /// It would be tried again, but the time is up.
    TooLate,
}

impl RetryConfig {
    /// Judges the failure of try number `tries` (from 1), `elapsed` after the first one began. `random` is uniform in 0..1:
    /// full jitter, so that clients which failed together do not come back together.
    pub fn judge(&self, error: &StoreError, tries: u32, elapsed: Duration, random: f64) -> Verdict {
        let least = match error {
            StoreError::Transient { .. } | StoreError::Unreachable { .. } => Duration::ZERO,
            StoreError::SlowDown { retry_after } => retry_after.unwrap_or_default(),
            _ => return Verdict::Final,
        };
        let doubled = self.first.saturating_mul(1 << tries.saturating_sub(1).min(20));
        let wait = least + doubled.min(self.longest).mul_f64(random);
        if elapsed + wait >= self.deadline { Verdict::TooLate } else { Verdict::After(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: RetryConfig =
        RetryConfig { deadline: Duration::from_secs(60), first: Duration::from_millis(50), longest: Duration::from_secs(5) };

    fn transient() -> StoreError {
        StoreError::Transient { what: "k".into(), message: "reset".into() }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<_> = (1..=9).map(|tries| CONFIG.judge(&transient(), tries, Duration::ZERO, 1.0)).collect();
        let ms = [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000];
        assert_eq!(waits, ms.map(|ms| Verdict::After(Duration::from_millis(ms))));
        assert_eq!(CONFIG.judge(&transient(), u32::MAX, Duration::ZERO, 0.5), Verdict::After(Duration::from_millis(2500)));
    }

    #[test]
    fn the_store_is_given_the_time_it_asks_for() {
        let slow = StoreError::SlowDown { retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(CONFIG.judge(&slow, 1, Duration::ZERO, 0.0), Verdict::After(Duration::from_secs(7)));
    }

    #[test]
    fn what_another_try_will_not_mend_is_final() {
        let what = || "k".to_owned();
        for error in [
            StoreError::NotFound { key: what() },
            StoreError::Changed { key: what() },
            StoreError::NoSuchBucket { bucket: what() },
            StoreError::AccessDenied { what: what(), message: what() },
            StoreError::Permanent { what: what(), message: what() },
        ] {
            assert_eq!(CONFIG.judge(&error, 1, Duration::ZERO, 0.0), Verdict::Final, "{error:?}");
        }
    }

    #[test]
    fn nothing_is_tried_after_the_deadline() {
        let late = Duration::from_millis(59_990);
        assert_eq!(CONFIG.judge(&transient(), 1, late, 0.5), Verdict::TooLate);
        assert_eq!(CONFIG.judge(&transient(), 1, late, 0.1), Verdict::After(Duration::from_millis(5)));
        let slow = StoreError::SlowDown { retry_after: Some(Duration::from_secs(600)) };
        assert_eq!(CONFIG.judge(&slow, 1, Duration::ZERO, 0.0), Verdict::TooLate);
    }
}
