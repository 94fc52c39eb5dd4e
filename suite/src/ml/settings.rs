//! What the caller wants, and whether it can be had.

use super::error::MlError;
use super::workload::{Gpu, Params, Workload};
use std::path::PathBuf;
use std::time::Duration;

/// Times that a model is loaded or a checkpoint saved, unless told otherwise.
const ROUNDS: u32 = 3;

/// A run.
#[derive(Clone, Debug)]
pub struct MlSettings {
    /// What is run.
    pub workload: Workload,
    /// Which accelerator is emulated.
    pub gpu: Gpu,
    /// How many; ranks that load or save, for the other two workloads.
    pub accelerators: usize,
    /// Bytes that the files may have together: a limit for a dataset, the size of a model and of a checkpoint.
    pub dataset_bytes: u64,
    /// Files that exist already, such as those below a mount of a bucket: nothing is written then.
    pub dataset: Option<PathBuf>,
    /// Whether the files that were made stay.
    pub keep: bool,
    /// Whether the kernel is asked, before each round, to forget the pages of the files.
    pub evict: bool,
    /// Decides sizes, bytes and orders.
    pub seed: u64,
    /// Parameters other than the workload's own.
    pub overrides: Overrides,
}

impl MlSettings {
    /// A run with one accelerator and 4 GiB of files.
    pub fn new(workload: Workload) -> Self {
        MlSettings {
            workload,
            gpu: Gpu::default(),
            accelerators: 1,
            dataset_bytes: 4 << 30,
            dataset: None,
            keep: false,
            evict: false,
            seed: 123,
            overrides: Overrides::default(),
        }
    }

    /// Times that anything is repeated.
    pub(super) fn rounds(&self) -> u32 {
        self.overrides.epochs.unwrap_or_else(|| self.params().map_or(ROUNDS, |params| params.epochs))
    }

    /// The parameters of a workload that trains, as they are to be.
    pub(super) fn params(&self) -> Option<Params> {
        self.workload.params(self.gpu).map(|params| self.overrides.apply(params))
    }

    pub(super) fn check(&self) -> Result<(), MlError> {
        let positive = |name, value: u64| {
            let wanted = "it has to be at least 1";
            if value > 0 { Ok(()) } else { Err(MlError::Setting { name, value: "0".into(), wanted }) }
        };
        positive("the number of accelerators", self.accelerators as u64)?;
        positive("the number of epochs", u64::from(self.rounds()))?;
        positive("the dataset's size", self.dataset_bytes)?;
        if let Some(params) = self.params() {
            positive("the batch size", params.batch_size)?;
            positive("the number of read threads", params.read_threads as u64)?;
            positive("the number of samples in a file", params.samples_per_file)?;
            positive("the size of a record", params.record_bytes)?;
        }
        match &self.dataset {
            Some(dataset) if self.workload == Workload::Checkpoint => Err(MlError::Setting {
                name: "the dataset",
                value: dataset.display().to_string(),
                wanted: "a checkpoint is written, and needs none",
            }),
            _ => Ok(()),
        }
    }
}

/// What is to be different from the workload's own parameters. Figures made with any of these are not MLPerf's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Times that the files are read.
    pub epochs: Option<u32>,
    /// Samples of a step.
    pub batch_size: Option<u64>,
    /// How long an accelerator computes on a batch.
    pub compute: Option<Duration>,
    /// Readers for each accelerator.
    pub read_threads: Option<usize>,
    /// Samples in a file.
    pub samples_per_file: Option<u64>,
    /// Mean size of a sample; the deviation changes with it.
    pub record_bytes: Option<u64>,
}

impl Overrides {
    /// Whether there is one that makes figures incomparable. Fewer epochs do not.
    pub(super) fn changes_figures(&self) -> bool {
        Overrides { epochs: None, ..*self } != Overrides::default()
    }

    fn apply(&self, params: Params) -> Params {
        let record_bytes = self.record_bytes.unwrap_or(params.record_bytes);
        let scale = record_bytes as f64 / params.record_bytes as f64;
        Params {
            record_bytes,
            record_stdev_bytes: (params.record_stdev_bytes as f64 * scale).round() as u64,
            epochs: self.epochs.unwrap_or(params.epochs),
            batch_size: self.batch_size.unwrap_or(params.batch_size),
            compute: self.compute.unwrap_or(params.compute),
            read_threads: self.read_threads.unwrap_or(params.read_threads),
            samples_per_file: self.samples_per_file.unwrap_or(params.samples_per_file),
            ..params
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_replace_what_they_name_and_the_deviation_follows_the_mean() {
        let mut settings = MlSettings::new(Workload::Unet3d);
        assert_eq!(settings.params(), Workload::Unet3d.params(Gpu::H100));
        settings.overrides = Overrides { record_bytes: Some(14_660_063), batch_size: Some(2), ..Overrides::default() };
        let params = settings.params().expect("it trains");
        assert_eq!((params.record_bytes, params.record_stdev_bytes, params.batch_size), (14_660_063, 6_834_181, 2));
        assert_eq!((params.read_threads, params.epochs), (4, 5));
        assert!(settings.overrides.changes_figures());
        assert!(!Overrides { epochs: Some(1), ..Overrides::default() }.changes_figures());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |change: fn(&mut MlSettings)| {
            let mut settings = MlSettings::new(Workload::Resnet50);
            change(&mut settings);
            settings.check().is_err()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|settings| settings.accelerators = 0));
        assert!(refused(|settings| settings.dataset_bytes = 0));
        assert!(refused(|settings| settings.overrides.epochs = Some(0)));
        assert!(refused(|settings| settings.overrides.read_threads = Some(0)));
        assert!(refused(|settings| {
            settings.workload = Workload::Checkpoint;
            settings.dataset = Some("/data".into());
        }));
    }
}
