//! Training: epochs in which emulated accelerators take batch after batch, each from a loader of its own, and wait for each other after each step.
//!
//! The loops are DLIO's (`dlio_benchmark/main.py`, `_train`): load a batch, sleep for as long as the accelerator would compute, meet at a
//! barrier. A loader begins to read when its epoch begins, and reads ahead while accelerators compute.

mod accelerator;
mod batches;
mod order;
mod source;
mod tfdata;
mod torch;
pub(super) mod utilisation;

use super::dataset::{self, Dataset};
use super::error::MlError;
use super::halt::{Gate, Halt};
use super::report::{EpochFigures, Figures, MlReport, TrainingFigures};
use super::settings::MlSettings;
use super::workload::Params;
use super::{Event, Progress, plan};
use accelerator::Accelerator;
use std::path::{Path, PathBuf};
use utilisation::{RankEpoch, Share};

/// Runs all epochs.
pub(super) fn run(dir: &Path, settings: &MlSettings, progress: &dyn Progress, halt: &Halt<'_>) -> Result<MlReport, MlError> {
    let params = settings.params().expect("this workload trains");
    let dataset = Dataset::open(dir, settings, &params, progress, halt)?;
    let epochs = epochs(settings, &params, &dataset.files, progress, halt)?;
    let figures = TrainingFigures::of(epochs, params.wanted_utilisation);
    Ok(MlReport::new(settings, dataset.close()?, Figures::Training(figures)))
}

fn epochs(
    settings: &MlSettings,
    params: &Params,
    files: &[PathBuf],
    progress: &dyn Progress,
    halt: &Halt<'_>,
) -> Result<Vec<EpochFigures>, MlError> {
    let rounds = settings.rounds();
    let epoch = |number| {
        progress.event(Event::Round { number, of: rounds });
        if settings.evict {
            dataset::evict(files, halt)?;
        }
        let shuffled = order::shuffled(files, settings.seed.wrapping_add(u64::from(number)));
        let ranks = one_epoch(settings, params, &shuffled, halt)?;
        figures(number, &ranks)
    };
    (1..=rounds).map(epoch).collect()
}

fn one_epoch(settings: &MlSettings, params: &Params, files: &[PathBuf], halt: &Halt<'_>) -> Result<Vec<RankEpoch>, MlError> {
    let gate = Gate::new(settings.accelerators);
    let steps = plan::steps(params, files.len() as u64, settings.accelerators);
    halt.in_parallel(settings.accelerators, |rank| {
        let files = order::share(params.layout, files, rank, settings.accelerators);
        Accelerator { params, files: &files, steps }.epoch(gate.seat(), halt)
    })
}

fn figures(number: u32, ranks: &[RankEpoch]) -> Result<EpochFigures, MlError> {
    let shares: Option<Vec<Share>> = ranks.iter().map(RankEpoch::share).collect();
    // Planned from the number of files; an existing dataset may hold fewer samples in each.
    let shares = shares.ok_or(MlError::Setting {
        name: "the number of samples in a file",
        value: "more than there are".into(),
        wanted: "the files do not hold two steps for each accelerator",
    })?;
    Ok(EpochFigures::of(number, ranks, &shares))
}
