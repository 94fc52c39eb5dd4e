//! What was measured, for machines; people get it from [`std::fmt::Display`].

use super::settings::MlSettings;
use super::train::utilisation::{RankEpoch, Share, UNCOUNTED};
use super::workload::{Gpu, Params, Workload};
use crate::system::total_memory;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How many times the memory MLPerf wants a dataset to be, so that the page cache does not answer.
const MEMORY_FACTOR: u64 = 5;
const MIB: f64 = 1_048_576.0;

/// A run, and what it measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MlReport {
    /// What was run.
    pub workload: Workload,
    /// Which accelerator was emulated.
    pub gpu: Gpu,
    /// How many.
    pub accelerators: usize,
    /// The parameters of a workload that trains, as they were.
    pub params: Option<Params>,
    /// Whether a parameter was other than the workload's own.
    pub has_overrides: bool,
    /// The files.
    pub dataset: DatasetFacts,
    /// The figures.
    pub figures: Figures,
}

impl MlReport {
    pub(super) fn new(settings: &MlSettings, dataset: DatasetFacts, figures: Figures) -> Self {
        MlReport {
            workload: settings.workload,
            gpu: settings.gpu,
            accelerators: settings.accelerators,
            params: settings.params(),
            has_overrides: settings.overrides.changes_figures(),
            dataset,
            figures,
        }
    }
}

/// The files of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatasetFacts {
    /// How many.
    pub files: u64,
    /// Samples, tensors or ranks' parts in all of them.
    pub samples: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where they were, if they existed before.
    pub existing: Option<PathBuf>,
    /// Where they are, if they were to stay.
    pub kept: Option<PathBuf>,
    /// Whether the kernel's memory may have answered.
    pub page_cache: PageCache,
}

/// What the kernel may have kept of the files between one round and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PageCache {
    /// It was asked to forget them before each round.
    Evicted,
    /// The files are at least five times the memory, as MLPerf demands.
    TooSmall,
    /// It may have kept them, in whole or in part: from the second round on, and of files that were just made from the first.
    MayAnswer,
}

impl PageCache {
    pub(super) fn of(bytes: u64, is_evicted: bool) -> Self {
        match total_memory() {
            _ if is_evicted => PageCache::Evicted,
            Some(memory) if bytes >= MEMORY_FACTOR * memory => PageCache::TooSmall,
            _ => PageCache::MayAnswer,
        }
    }
}

/// The figures of one of the three kinds of workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figures {
    /// Accelerators that take batches.
    Training(TrainingFigures),
    /// A model being loaded.
    Load(LoadFigures),
    /// A checkpoint, saved and restored.
    Checkpoint(CheckpointFigures),
}

/// Epochs, and what they say together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingFigures {
    /// Each of them.
    pub epochs: Vec<EpochFigures>,
    /// Mean over the epochs.
    pub utilisation_percent: f64,
    /// Mean over the epochs.
    pub samples_per_second: f64,
    /// Mean over the epochs.
    pub mib_per_second: f64,
    /// What MLPerf asks for.
    pub wanted_percent: Option<f64>,
    /// Whether that is met.
    pub is_met: Option<bool>,
}

impl TrainingFigures {
    pub(super) fn of(epochs: Vec<EpochFigures>, wanted: Option<f64>) -> Self {
        let mean = |of: fn(&EpochFigures) -> f64| epochs.iter().map(of).sum::<f64>() / epochs.len() as f64;
        let utilisation_percent = mean(|epoch| epoch.utilisation_percent);
        TrainingFigures {
            utilisation_percent,
            samples_per_second: mean(|epoch| epoch.samples_per_second),
            mib_per_second: mean(|epoch| epoch.mib_per_second),
            wanted_percent: wanted.map(|wanted| wanted * 100.0),
            is_met: wanted.map(|wanted| utilisation_percent >= wanted * 100.0),
            epochs,
        }
    }
}

/// An epoch of all accelerators.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EpochFigures {
    /// Which, from 1.
    pub number: u32,
    /// Mean over the accelerators.
    pub utilisation_percent: f64,
    /// Sum over the accelerators.
    pub samples_per_second: f64,
    /// Sum over the accelerators.
    pub mib_per_second: f64,
    /// Steps of each accelerator that are counted.
    pub counted_steps: usize,
    /// The longest that an accelerator waited for its first batch, which is not counted.
    pub first_batch_s: f64,
    /// The whole epoch.
    pub seconds: f64,
}

impl EpochFigures {
    pub(super) fn of(number: u32, ranks: &[RankEpoch], shares: &[Share]) -> Self {
        let sum = |of: fn(&Share) -> f64| shares.iter().map(of).sum::<f64>();
        let longest = |of: fn(&RankEpoch) -> Duration| ranks.iter().map(of).max().unwrap_or_default().as_secs_f64();
        EpochFigures {
            number,
            utilisation_percent: 100.0 * sum(|share| share.utilisation) / shares.len() as f64,
            samples_per_second: sum(|share| share.samples_per_second),
            mib_per_second: sum(|share| share.bytes_per_second) / MIB,
            counted_steps: ranks.iter().map(|rank| rank.steps.len().saturating_sub(UNCOUNTED)).min().unwrap_or(0),
            first_batch_s: longest(|rank| rank.steps.first().map(|step| step.load).unwrap_or_default()),
            seconds: longest(|rank| rank.span),
        }
    }
}

/// Bytes that all ranks moved at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Transfer {
    /// Until the slowest rank was done: MLPerf's duration.
    pub seconds: f64,
    /// All bytes in that time.
    pub mib_per_second: f64,
    /// What the slowest rank had: MLPerf's throughput is the least of all ranks.
    pub slowest_rank_mib_per_second: f64,
}

impl Transfer {
    /// Of what each rank moved in which time.
    pub(super) fn of(ranks: &[(u64, Duration)]) -> Self {
        let rate = |bytes: u64, seconds: f64| bytes as f64 / MIB / seconds.max(f64::MIN_POSITIVE);
        let seconds = ranks.iter().map(|(_, time)| time.as_secs_f64()).fold(0.0, f64::max);
        Transfer {
            seconds,
            mib_per_second: rate(ranks.iter().map(|(bytes, _)| bytes).sum(), seconds),
            slowest_rank_mib_per_second: ranks
                .iter()
                .map(|(bytes, time)| rate(*bytes, time.as_secs_f64()))
                .fold(f64::MAX, f64::min),
        }
    }
}

/// A model being loaded, again and again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadFigures {
    /// Each time.
    pub loads: Vec<Transfer>,
}

/// A checkpoint being saved and restored, again and again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckpointFigures {
    /// Each save, with fsync.
    pub saves: Vec<Transfer>,
    /// Each restore, the kernel having been asked to forget the pages.
    pub restores: Vec<Transfer>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::train::utilisation::Step;

    fn rank(span_s: u64, compute_s: u64, steps: usize) -> RankEpoch {
        let step = Step { load: Duration::ZERO, compute: Duration::from_secs(compute_s), samples: 4, bytes: 1 << 20 };
        RankEpoch { span: Duration::from_secs(span_s), steps: vec![step; steps] }
    }

    #[test]
    fn utilisation_is_the_mean_of_accelerators_and_throughput_their_sum() {
        let ranks = [rank(10, 2, 3), rank(8, 1, 3)];
        let shares: Vec<Share> = ranks.iter().filter_map(RankEpoch::share).collect();
        let epoch = EpochFigures::of(1, &ranks, &shares);
        // 4 of 8 counted seconds, and 2 of 7.
        assert!((epoch.utilisation_percent - 100.0 * (0.5 + 2.0 / 7.0) / 2.0).abs() < 1e-9);
        assert!((epoch.samples_per_second - (8.0 / 8.0 + 8.0 / 7.0)).abs() < 1e-9);
        assert!((epoch.mib_per_second - (2.0 / 8.0 + 2.0 / 7.0)).abs() < 1e-9);
        assert_eq!((epoch.counted_steps, epoch.seconds), (2, 10.0));
    }

    #[test]
    fn the_verdict_is_that_of_the_mean() {
        let epoch = |utilisation_percent| EpochFigures { utilisation_percent, ..EpochFigures::of(1, &[], &[]) };
        let is_met = |wanted| TrainingFigures::of(vec![epoch(95.0), epoch(85.0)], wanted).is_met;
        assert_eq!([is_met(Some(0.9)), is_met(Some(0.901)), is_met(None)], [Some(true), Some(false), None]);
    }

    #[test]
    fn a_transfer_is_as_slow_as_its_slowest_rank() {
        let transfer = Transfer::of(&[(8 << 20, Duration::from_secs(2)), (8 << 20, Duration::from_secs(4))]);
        assert_eq!(transfer, Transfer { seconds: 4.0, mib_per_second: 4.0, slowest_rank_mib_per_second: 2.0 });
    }
}
