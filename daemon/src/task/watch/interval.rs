//! When a watched bucket is listed again. Pure, given a random number.

use crate::config::Polling;
use std::time::Duration;

/// A pass takes at most this part of the time.
const SHARE: u32 = 20;

/// What is known when a pass has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// How long it took.
    pub(super) took: Duration,
    /// Whether it found changes; of one that failed, nothing is known.
    pub(super) found: Option<bool>,
    /// Whether a queue tells of changes as they come.
    pub(super) is_told: bool,
}

/// The time to the next pass, given the time before this one. `random` is uniform in 0..1: daemons that mount together must not list together.
pub(super) fn next(polling: &Polling, before: Duration, ended: Ended, random: f64) -> Duration {
    let wait = match ended.found {
        Some(true) => polling.shortest,
        Some(false) => before.saturating_mul(3) / 2,
        // The store's trouble is not mended by asking.
        None => before.saturating_mul(2),
    };
    let wait = wait.clamp(polling.shortest, polling.longest.max(polling.shortest));
    let wait = if ended.is_told && ended.found.is_some() { polling.reconcile.max(wait) } else { wait };
    // One that failed was mostly spent waiting for the store, which is to be found well again soon.
    let share = if ended.found.is_some() { SHARE } else { 1 };
    let wait = wait.max(ended.took.saturating_mul(share));
    wait.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLLING: Polling =
        Polling { shortest: Duration::from_secs(10), longest: Duration::from_secs(300), reconcile: Duration::from_secs(1800) };

    fn after(before: u64, ended: Ended) -> u64 {
        next(&POLLING, Duration::from_secs(before), ended, 0.5).as_secs()
    }

    const QUIET: Ended = Ended { took: Duration::from_millis(100), found: Some(false), is_told: false };

    #[test]
    fn it_is_short_after_changes_and_grows_while_there_are_none() {
        assert_eq!(after(200, Ended { found: Some(true), ..QUIET }), 10);
        assert_eq!((after(10, QUIET), after(15, QUIET), after(250, QUIET), after(300, QUIET)), (15, 22, 300, 300));
    }

    #[test]
    fn a_store_that_fails_is_asked_less() {
        assert_eq!((after(10, Ended { found: None, ..QUIET }), after(290, Ended { found: None, ..QUIET })), (20, 300));
    }

    #[test]
    fn a_queue_that_tells_of_changes_makes_it_rare() {
        assert_eq!(after(10, Ended { is_told: true, ..QUIET }), 1800);
        assert_eq!(after(10, Ended { is_told: true, found: Some(true), ..QUIET }), 1800);
        assert_eq!(after(10, Ended { is_told: true, found: None, ..QUIET }), 20, "a pass that failed has reconciled nothing");
    }

    #[test]
    fn a_long_pass_takes_a_small_share_of_the_time() {
        let took = Duration::from_secs(500);
        assert_eq!(after(300, Ended { took, found: Some(true), is_told: false }), 10_000);
    }

    #[test]
    fn a_pass_that_failed_for_long_is_tried_again_soon() {
        let ended = Ended { took: Duration::from_secs(60), found: None, is_told: false };
        assert_eq!((after(10, ended), after(300, ended)), (60, 300));
        assert_eq!(after(300, Ended { took: Duration::from_secs(900), ..ended }), 900);
    }

    #[test]
    fn daemons_spread() {
        let of = |random| next(&POLLING, Duration::from_secs(300), QUIET, random).as_secs();
        assert_eq!((of(0.0), of(1.0)), (270, 330));
    }
}
