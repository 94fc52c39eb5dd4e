//! Accelerator utilisation, as DLIO defines it (`dlio_benchmark/utils/statscounter.py`, `compute_metrics_train`). Pure.
//!
//! ```text
//! utilisation = compute of the counted steps / (whole epoch - time of the steps that are not counted)
//! ```
//! The first step is not counted (`metric_exclude_start_steps: 1`), none at the end (`metric_exclude_end_steps: 0`): the first batch has to be waited
//! for whatever the storage. A step is loading and computing; waiting for the other accelerators behind it is part of the epoch only.
//!
//! Throughput is that of the counted steps in the same time. DLIO takes two steps off although it leaves out one: its figure is lower by
//! one part in the number of counted steps. This one is not.

use std::time::Duration;

/// Steps at the beginning of an epoch that are not counted.
pub(in crate::ml) const UNCOUNTED: usize = 1;

/// A step of an accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ml) struct Step {
    /// Waiting for the batch.
    pub(in crate::ml) load: Duration,
    /// Computing on it.
    pub(in crate::ml) compute: Duration,
    /// Samples of the batch.
    pub(in crate::ml) samples: u64,
    /// Bytes that were read for it.
    pub(in crate::ml) bytes: u64,
}

/// What an accelerator did in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ml) struct RankEpoch {
    /// From the beginning of the loader to the end of the last step.
    pub(in crate::ml) span: Duration,
    /// Its steps.
    pub(in crate::ml) steps: Vec<Step>,
}

/// One accelerator's figures of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::ml) struct Share {
    /// Of the counted time, what was computed.
    pub(in crate::ml) utilisation: f64,
    /// Samples taken.
    pub(in crate::ml) samples_per_second: f64,
    /// Bytes taken.
    pub(in crate::ml) bytes_per_second: f64,
}

impl RankEpoch {
    /// The figures; none if no step is counted.
    pub(in crate::ml) fn share(&self) -> Option<Share> {
        let (uncounted, counted) = self.steps.split_at_checked(UNCOUNTED)?;
        let left_out: Duration = uncounted.iter().map(|step| step.load + step.compute).sum();
        let time = self.span.saturating_sub(left_out).as_secs_f64();
        if counted.is_empty() || time == 0.0 {
            return None;
        }
        let compute: Duration = counted.iter().map(|step| step.compute).sum();
        let per_second = |of: fn(&Step) -> u64| counted.iter().map(of).sum::<u64>() as f64 / time;
        Some(Share {
            utilisation: compute.as_secs_f64() / time,
            samples_per_second: per_second(|step| step.samples),
            bytes_per_second: per_second(|step| step.bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(load_ms: u64, compute_ms: u64) -> Step {
        let ms = Duration::from_millis;
        Step { load: ms(load_ms), compute: ms(compute_ms), samples: 7, bytes: 700 }
    }

    fn epoch(span_ms: u64, steps: &[Step]) -> Option<Share> {
        RankEpoch { span: Duration::from_millis(span_ms), steps: steps.to_vec() }.share()
    }

    #[test]
    fn the_first_step_is_not_counted_neither_its_loading_nor_its_computing() {
        // 5 s for the first batch, which would make the utilisation 3/8.4 were it counted; then 3 steps of 0.1 + 0.9 s.
        let share = epoch(9000, &[step(5000, 1000), step(100, 900), step(100, 900), step(100, 900)]).expect("counted");
        assert_eq!(share, Share { utilisation: 0.9, samples_per_second: 7.0, bytes_per_second: 700.0 });
    }

    #[test]
    fn waiting_for_the_others_lowers_it() {
        // The counted steps are 2 s, and 2 s more were spent at the barrier.
        let share = epoch(5000, &[step(0, 1000), step(0, 1000), step(0, 1000)]).expect("counted");
        assert_eq!((share.utilisation, share.samples_per_second), (0.5, 3.5));
    }

    #[test]
    fn storage_that_gives_a_batch_in_twice_the_time_of_computing_halves_it() {
        // Reading goes on while computing: a batch comes every second, and half a second is computed on each.
        let share = epoch(4000, &[step(500, 500), step(500, 500), step(500, 500), step(500, 500)]).expect("counted");
        assert_eq!(share.utilisation, 0.5);
    }

    #[test]
    fn there_are_no_figures_without_a_counted_step() {
        assert_eq!(epoch(1000, &[]), None);
        assert_eq!(epoch(1000, &[step(500, 500)]), None);
    }
}
