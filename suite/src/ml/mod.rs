//! What training jobs do to a file system: emulated accelerators that want their next batch, a model being loaded, a checkpoint being written.
//!
//! The parameters are those of MLPerf Storage ([`workload`]), the loops are those of DLIO, on which MLPerf Storage is built ([`train`]), and so is
//! the definition of accelerator utilisation ([`train::utilisation`]). `docs/ml-workloads.md` says where each number comes from.
//!
//! | module | owns |
//! | --- | --- |
//! | `workload`, `settings` | the table of parameters; what the caller wants, checked |
//! | `plan`, `dataset` | which files of which sizes; making them, or finding those that are there |
//! | `format` | TFRecord, tar, safetensors: a file each, pure encode and decode |
//! | `train` | loaders, accelerators, epochs |
//! | `model`, `checkpoint` | loading tensors; saving and restoring |
//! | `scratch`, `halt`, `stream` | the one directory that is written to; stopping; reading in the sizes the real readers use |
//! | `report`, `table` | what was measured, for machines and for people |
//!
//! What is written is inside one directory below the one given, and removed when the run ends, however it ends, unless it is to be kept.

mod checkpoint;
mod dataset;
mod error;
mod format;
mod halt;
mod model;
mod noise;
mod plan;
mod report;
mod scratch;
mod settings;
mod stream;
mod table;
mod train;
mod workload;

pub use error::{FormatFault, MlError};
pub use report::{
    CheckpointFigures, DatasetFacts, EpochFigures, Figures, LoadFigures, MlReport, PageCache, TrainingFigures, Transfer,
};
pub use settings::{MlSettings, Overrides};
pub use workload::{Gpu, Loader, Params, Workload};

use halt::Halt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Somebody who wants to know how far a run is.
pub trait Progress: Sync {
    /// Called from any thread of the run, often.
    fn event(&self, event: Event);
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many bytes of the files are written.
    Generated {
        /// Bytes written.
        bytes: u64,
        /// Bytes to write.
        of: u64,
    },
    /// A round begins: an epoch, a load, a checkpoint.
    Round {
        /// Which, from 1.
        number: u32,
        /// Of how many.
        of: u32,
    },
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}

/// Runs one workload in `dir` (or on `settings.dataset`) and says what it measured.
///
/// # Errors
/// Settings that cannot be, too little space (told before anything is written), a failed call, or `cancel` having been set.
pub fn run(dir: &Path, settings: &MlSettings, progress: &dyn Progress, cancel: &AtomicBool) -> Result<MlReport, MlError> {
    settings.check()?;
    let halt = Halt::new(cancel);
    match settings.workload {
        Workload::Safetensors => model::run(dir, settings, progress, &halt),
        Workload::Checkpoint => checkpoint::run(dir, settings, progress, &halt),
        _ => train::run(dir, settings, progress, &halt),
    }
}

#[cfg(test)]
mod tests;
