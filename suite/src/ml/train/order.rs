//! In which order files are read, and by which accelerator. Pure.

use crate::ml::workload::Layout;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::path::PathBuf;

/// The files in the order of an epoch.
pub(super) fn shuffled(files: &[PathBuf], seed: u64) -> Vec<PathBuf> {
    let mut files = files.to_vec();
    files.shuffle(&mut SmallRng::seed_from_u64(seed));
    files
}

/// What one of `ranks` accelerators reads. All read as many files; what is left over nobody reads in this epoch.
pub(super) fn share(layout: Layout, files: &[PathBuf], rank: usize, ranks: usize) -> Vec<PathBuf> {
    let each = files.len() / ranks;
    match layout {
        // PyTorch's sampler gives each rank a stretch of the samples.
        Layout::Npz | Layout::Images => files[rank * each..(rank + 1) * each].to_vec(),
        // `tf.data` and WebDataset deal files out in turn.
        Layout::TfRecord | Layout::Tar => dealt(files, rank, ranks).take(each).cloned().collect(),
    }
}

/// Each `of`-th of the files, from `first`.
pub(super) fn dealt(files: &[PathBuf], first: usize, of: usize) -> impl Iterator<Item = &PathBuf> {
    files.iter().skip(first).step_by(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn files(count: usize) -> Vec<PathBuf> {
        (0..count).map(|number| PathBuf::from(format!("{number:03}"))).collect()
    }

    #[test]
    fn every_epoch_has_an_order_of_its_own_with_every_file_in_it() {
        let (first, second) = (shuffled(&files(100), 1), shuffled(&files(100), 2));
        assert_ne!(first, second);
        assert_eq!(first, shuffled(&files(100), 1));
        assert_eq!(first.into_iter().collect::<BTreeSet<_>>(), files(100).into_iter().collect());
    }

    #[test]
    fn no_file_is_read_by_two_accelerators_and_all_read_as_many() {
        for layout in [Layout::Npz, Layout::TfRecord] {
            let shares: Vec<_> = (0..3).map(|rank| share(layout, &files(11), rank, 3)).collect();
            assert!(shares.iter().all(|share| share.len() == 3), "{layout:?}");
            assert_eq!(shares.concat().into_iter().collect::<BTreeSet<_>>().len(), 9, "{layout:?}");
        }
    }
}
