//! The workloads, and the table of their parameters.
//!
//! Those of unet3d, resnet50 and cosmoflow are MLPerf Storage v2.0's, read from `configs/dlio/workload/{unet3d,resnet50,cosmoflow}_{h100,a100}.yaml`
//! of github.com/mlcommons/storage; v1.0 has the same values. DLIO's own defaults fill what those files leave out: 2 batches of prefetch, 1
//! computation thread. webdataset and imagefolder are ResNet-50 with its samples stored in other ways.

use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Tar files, read from their beginning to their end.
    Webdataset,
    /// A file for each sample, in a directory for each class, in a random order.
    Imagefolder,
    /// A model's tensors, loaded into memory.
    Safetensors,
    /// 3D U-Net on KiTS19: whole files of 140 MB.
    Unet3d,
    /// ResNet-50 on ImageNet: many records in files of 137 MiB.
    Resnet50,
    /// CosmoFlow: one record in each file of 2.7 MiB.
    Cosmoflow,
    /// A checkpoint, saved and restored.
    Checkpoint,
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 7] = [
        Workload::Webdataset,
        Workload::Imagefolder,
        Workload::Safetensors,
        Workload::Unet3d,
        Workload::Resnet50,
        Workload::Cosmoflow,
        Workload::Checkpoint,
    ];

    /// Its name, as people type it.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Webdataset => "webdataset",
            Workload::Imagefolder => "imagefolder",
            Workload::Safetensors => "safetensors",
            Workload::Unet3d => "unet3d",
            Workload::Resnet50 => "resnet50",
            Workload::Cosmoflow => "cosmoflow",
            Workload::Checkpoint => "checkpoint",
        }
    }

    /// The parameters of those that train; the other two have none of these.
    pub fn params(self, gpu: Gpu) -> Option<Params> {
        match self {
            Workload::Unet3d => Some(unet3d(gpu)),
            Workload::Resnet50 => Some(resnet50(gpu)),
            Workload::Cosmoflow => Some(cosmoflow(gpu)),
            Workload::Webdataset => Some(webdataset(gpu)),
            Workload::Imagefolder => Some(imagefolder(gpu)),
            Workload::Safetensors | Workload::Checkpoint => None,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name).ok_or_else(|| format!("there is no workload '{name}'"))
    }
}

/// The accelerator that is emulated: it decides how long a batch is computed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gpu {
    /// NVIDIA H100.
    #[default]
    H100,
    /// NVIDIA A100.
    A100,
}

impl FromStr for Gpu {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "h100" => Ok(Gpu::H100),
            "a100" => Ok(Gpu::A100),
            _ => Err(format!("there is no accelerator '{name}': h100 or a100")),
        }
    }
}

/// How samples lie in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Layout {
    /// A file is a sample, read as numpy reads an archive.
    Npz,
    /// Files of records with checksums.
    TfRecord,
    /// A file is a sample, in a directory for its class.
    Images,
    /// Tar files of images and labels.
    Tar,
}

/// Which data loader's way of reading ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loader {
    /// PyTorch's `DataLoader`: each worker makes a whole batch by itself, and batches are taken from the workers in turn.
    Torch,
    /// TensorFlow's `tf.data`: readers take turns in giving a record, and batches are made of what they give.
    TfData,
}

/// The parameters of a workload that trains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Params {
    #[serde(skip)]
    pub(super) layout: Layout,
    /// How it reads ahead.
    pub loader: Loader,
    /// Files of the whole dataset.
    pub files: u64,
    /// Samples in each.
    pub samples_per_file: u64,
    /// Mean size of a sample.
    pub record_bytes: u64,
    /// Standard deviation of it.
    pub record_stdev_bytes: u64,
    /// Samples of a step.
    pub batch_size: u64,
    /// How long an accelerator computes on a batch.
    #[serde(rename = "compute_s", serialize_with = "seconds")]
    pub compute: Duration,
    /// Readers for each accelerator.
    pub read_threads: usize,
    /// Complete batches that are held ready beyond what readers are working on.
    pub prefetch_batches: usize,
    /// Times that the dataset is read.
    pub epochs: u32,
    /// Utilisation that MLPerf asks for; none where it knows no such workload.
    pub wanted_utilisation: Option<f64>,
}

fn seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

fn by_gpu(gpu: Gpu, h100: u64, a100: u64) -> Duration {
    Duration::from_micros(if gpu == Gpu::H100 { h100 } else { a100 })
}

fn unet3d(gpu: Gpu) -> Params {
    Params {
        layout: Layout::Npz,
        loader: Loader::Torch,
        files: 168,
        samples_per_file: 1,
        record_bytes: 146_600_628,
        record_stdev_bytes: 68_341_808,
        batch_size: 7,
        compute: by_gpu(gpu, 323_000, 636_000),
        read_threads: 4,
        prefetch_batches: 2,
        epochs: 5,
        wanted_utilisation: Some(0.9),
    }
}

fn resnet50(gpu: Gpu) -> Params {
    Params {
        layout: Layout::TfRecord,
        loader: Loader::TfData,
        files: 1024,
        samples_per_file: 1251,
        record_bytes: 114_660,
        record_stdev_bytes: 0,
        batch_size: 400,
        compute: by_gpu(gpu, 224_000, 435_000),
        read_threads: 8,
        // 2, and one for each of the 8 computation threads, each of which makes a batch into a tensor.
        prefetch_batches: 10,
        epochs: 5,
        wanted_utilisation: Some(0.9),
    }
}

fn cosmoflow(gpu: Gpu) -> Params {
    Params {
        layout: Layout::TfRecord,
        loader: Loader::TfData,
        files: 524_288,
        samples_per_file: 1,
        record_bytes: 2_828_486,
        record_stdev_bytes: 71_311,
        batch_size: 1,
        compute: by_gpu(gpu, 3_500, 5_510),
        read_threads: 4,
        // 2, one for the computation thread and 2 in the buffer in which samples are shuffled.
        prefetch_batches: 5,
        epochs: 5,
        wanted_utilisation: Some(0.7),
    }
}

fn imagefolder(gpu: Gpu) -> Params {
    Params {
        layout: Layout::Images,
        loader: Loader::Torch,
        // ImageNet-1k's training set.
        files: 1_281_167,
        samples_per_file: 1,
        prefetch_batches: 2,
        wanted_utilisation: None,
        ..resnet50(gpu)
    }
}

fn webdataset(gpu: Gpu) -> Params {
    // 626 shards of 2,048 hold ImageNet-1k; a shard is 227 MiB.
    Params { layout: Layout::Tar, files: 626, samples_per_file: 2048, ..imagefolder(gpu) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// name, gpu -> files, samples per file, mean, deviation, batch, seconds, threads, utilisation: as the YAML files have them.
    type Row = (Workload, Gpu, u64, u64, u64, u64, u64, f64, usize, f64);
    const MLPERF: [Row; 6] = [
        (Workload::Unet3d, Gpu::H100, 168, 1, 146_600_628, 68_341_808, 7, 0.323, 4, 0.90),
        (Workload::Unet3d, Gpu::A100, 168, 1, 146_600_628, 68_341_808, 7, 0.636, 4, 0.90),
        (Workload::Resnet50, Gpu::H100, 1024, 1251, 114_660, 0, 400, 0.224, 8, 0.90),
        (Workload::Resnet50, Gpu::A100, 1024, 1251, 114_660, 0, 400, 0.435, 8, 0.90),
        (Workload::Cosmoflow, Gpu::H100, 524_288, 1, 2_828_486, 71_311, 1, 0.00350, 4, 0.70),
        (Workload::Cosmoflow, Gpu::A100, 524_288, 1, 2_828_486, 71_311, 1, 0.00551, 4, 0.70),
    ];

    #[test]
    fn the_table_is_mlperfs() {
        for (workload, gpu, files, samples, mean, deviation, batch, compute, threads, wanted) in MLPERF {
            let params = workload.params(gpu).expect("it trains");
            assert_eq!((params.files, params.samples_per_file), (files, samples), "{workload}");
            assert_eq!((params.record_bytes, params.record_stdev_bytes), (mean, deviation), "{workload}");
            assert_eq!((params.batch_size, params.read_threads, params.epochs), (batch, threads, 5), "{workload}");
            assert_eq!(params.compute.as_secs_f64(), compute, "{workload} on {gpu:?}");
            assert_eq!(params.wanted_utilisation, Some(wanted), "{workload}");
        }
    }

    #[test]
    fn every_name_is_understood() {
        for workload in Workload::ALL {
            assert_eq!(workload.name().parse(), Ok(workload));
        }
        assert!("imagenet".parse::<Workload>().is_err());
        assert_eq!(("h100".parse(), "a100".parse()), (Ok(Gpu::H100), Ok(Gpu::A100)));
    }
}
