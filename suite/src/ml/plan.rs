//! Which files a dataset has: how many fit, and how large each of them is to the byte. Pure.

use super::error::MlError;
use super::format::{tar, tfrecord};
use super::workload::{Layout, Params};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The smallest a record is drawn: DLIO too cuts its normal distribution off at something positive.
const SMALLEST: f64 = 64.0;
/// Steps that an accelerator has to have in an epoch: the first of them is not counted.
const LEAST_STEPS: u64 = 2;

/// A file to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedFile {
    /// Bytes of each of its samples.
    pub(super) record_bytes: u64,
    /// How many there are.
    pub(super) records: u64,
}

impl PlannedFile {
    /// Its size on disk, to the byte.
    pub(super) fn bytes(self, layout: Layout) -> u64 {
        match layout {
            Layout::Npz | Layout::Images => self.record_bytes,
            Layout::TfRecord => self.records * tfrecord::framed(self.record_bytes),
            Layout::Tar => tar::shard_bytes(self.records, self.record_bytes),
        }
    }
}

/// The files of a dataset that are no more than `limit` bytes together, for so many accelerators.
pub(super) fn files(params: &Params, limit: u64, accelerators: usize, seed: u64) -> Result<Vec<PlannedFile>, MlError> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut left = limit;
    let mut files = Vec::new();
    while (files.len() as u64) < params.files {
        let file = PlannedFile { record_bytes: record_bytes(params, &mut random), records: params.samples_per_file };
        match left.checked_sub(file.bytes(params.layout)) {
            Some(rest) => left = rest,
            None => break,
        }
        files.push(file);
    }
    check_enough(params, files.len() as u64, limit, accelerators)?;
    Ok(files)
}

/// An error if so many files are not enough for every accelerator to take two steps.
pub(super) fn check_enough(params: &Params, files: u64, given: u64, accelerators: usize) -> Result<(), MlError> {
    // Files are dealt to accelerators whole.
    let least = accelerators as u64 * (LEAST_STEPS * params.batch_size).div_ceil(params.samples_per_file);
    if files >= least {
        return Ok(());
    }
    let one = PlannedFile { record_bytes: params.record_bytes, records: params.samples_per_file };
    Err(MlError::TooSmall { given, needed: (least + 1) * one.bytes(params.layout), accelerators })
}

/// Steps of an accelerator in an epoch. All take as many, from files of their own; what is left over of files and of batches is not read.
pub(super) fn steps(params: &Params, files: u64, accelerators: usize) -> u64 {
    files / accelerators as u64 * params.samples_per_file / params.batch_size
}

fn record_bytes(params: &Params, random: &mut SmallRng) -> u64 {
    if params.record_stdev_bytes == 0 {
        return params.record_bytes;
    }
    let size = params.record_bytes as f64 + params.record_stdev_bytes as f64 * normal(random);
    size.max(SMALLEST).round() as u64
}

/// From the standard normal distribution, by Box and Muller.
fn normal(random: &mut SmallRng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::workload::{Gpu, Workload};

    fn params(workload: Workload) -> Params {
        workload.params(Gpu::H100).expect("it trains")
    }

    #[test]
    fn the_whole_dataset_is_planned_where_it_fits_and_no_byte_more_than_the_limit_where_not() {
        let unet3d = params(Workload::Unet3d);
        assert_eq!(files(&unet3d, u64::MAX, 1, 1).expect("fits").len(), 168);
        for limit in [3 << 30, 10 << 30] {
            let planned = files(&unet3d, limit, 1, 1).expect("fits");
            let total: u64 = planned.iter().map(|file| file.bytes(Layout::Npz)).sum();
            assert!(total <= limit && total > limit - (600 << 20), "{total} of {limit}");
        }
    }

    #[test]
    fn sizes_have_the_mean_and_the_deviation_they_should() {
        let cosmoflow = params(Workload::Cosmoflow);
        let planned = files(&Params { files: 20_000, ..cosmoflow }, u64::MAX, 1, 5).expect("fits");
        let sizes = planned.iter().map(|file| file.record_bytes as f64);
        let mean = sizes.clone().sum::<f64>() / 20_000.0;
        let deviation = (sizes.map(|size| (size - mean).powi(2)).sum::<f64>() / 20_000.0).sqrt();
        assert!((mean - 2_828_486.0).abs() < 2_500.0, "mean {mean}");
        assert!((deviation - 71_311.0).abs() < 2_500.0, "deviation {deviation}");
    }

    #[test]
    fn the_same_seed_gives_the_same_files() {
        let unet3d = params(Workload::Unet3d);
        let plan = |seed| files(&unet3d, 10 << 30, 1, seed).expect("fits");
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn steps_are_those_of_dlio() {
        // 168 files in batches of 7 are 24 steps; 5 accelerators take 4 each, and 28 files are left over.
        assert_eq!([1, 2, 5].map(|n| steps(&params(Workload::Unet3d), 168, n)), [24, 12, 4]);
        assert_eq!(steps(&params(Workload::Resnet50), 1024, 1), 3202);
    }

    #[test]
    fn too_few_bytes_for_two_steps_are_refused_with_what_it_takes() {
        let resnet50 = params(Workload::Resnet50);
        let refused = files(&resnet50, 100 << 20, 1, 1).unwrap_err();
        let MlError::TooSmall { needed, .. } = refused else { panic!("{refused}") };
        assert!(files(&resnet50, needed, 1, 1).is_ok());
        assert!(files(&resnet50, 2 << 30, 100, 1).is_err(), "each accelerator reads files of its own");
    }
}
