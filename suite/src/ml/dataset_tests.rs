use super::*;
use crate::ml::workload::Workload;
use crate::ml::{Overrides, Silent};
use std::process::Command;
use std::sync::atomic::AtomicBool;

/// A dataset of a few hundred kilobytes.
fn tiny(workload: Workload) -> MlSettings {
    let overrides = Overrides { batch_size: Some(2), samples_per_file: None, record_bytes: Some(10_000), ..Overrides::default() };
    let samples_per_file = matches!(workload, Workload::Webdataset | Workload::Resnet50).then_some(5);
    MlSettings { dataset_bytes: 300_000, overrides: Overrides { samples_per_file, ..overrides }, ..MlSettings::new(workload) }
}

fn opened(dir: &Path, settings: &MlSettings) -> Dataset {
    let cancel = AtomicBool::new(false);
    let params = settings.params().expect("it trains");
    Dataset::open(dir, settings, &params, &Silent, &Halt::new(&cancel)).expect("made")
}

fn sizes(dataset: &Dataset) -> Vec<u64> {
    dataset.files.iter().map(|path| fs::metadata(path).expect("there").len()).collect()
}

#[test]
fn every_file_has_the_size_that_was_planned() {
    for workload in [Workload::Unet3d, Workload::Cosmoflow, Workload::Resnet50, Workload::Webdataset, Workload::Imagefolder] {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = tiny(workload);
        let params = settings.params().expect("it trains");
        let dataset = opened(dir.path(), &settings);
        let planned = plan::files(&params, settings.dataset_bytes, 1, settings.seed).expect("enough");
        let wanted: Vec<u64> = planned.iter().map(|file| file.bytes(params.layout)).collect();
        assert_eq!(sizes(&dataset), wanted, "{workload}");
        assert_eq!(dataset.facts.bytes, wanted.iter().sum::<u64>(), "{workload}");
        assert!(dataset.facts.bytes <= 300_000 && dataset.facts.bytes > 200_000, "{workload}: {}", dataset.facts.bytes);
    }
}

#[test]
fn shards_are_what_tar_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let dataset = opened(dir.path(), &tiny(Workload::Webdataset));
    let output = Command::new("tar").arg("-tvf").arg(&dataset.files[0]).output().expect("run tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).expect("text");
    let images = listing.lines().filter(|line| line.ends_with(".jpg") && line.contains(" 10000 ")).count();
    let labels = listing.lines().filter(|line| line.ends_with(".cls") && line.contains(" 3 ")).count();
    assert_eq!((images, labels, listing.lines().count()), (5, 5, 10), "{listing}");
}

#[test]
fn records_have_the_checksums_they_should() {
    let dir = tempfile::tempdir().expect("a directory");
    let dataset = opened(dir.path(), &tiny(Workload::Resnet50));
    let mut rest = &fs::read(&dataset.files[0]).expect("read")[..];
    for _ in 0..5 {
        let (head, behind) = rest.split_first_chunk::<{ tfrecord::HEAD }>().expect("a head");
        let len = tfrecord::data_len(head).expect("intact") as usize;
        let (data, behind) = behind.split_at(len);
        assert_eq!((len, &behind[..tfrecord::TAIL]), (10_000, &tfrecord::tail(crc32c::crc32c(data))[..]));
        rest = &behind[tfrecord::TAIL..];
    }
    assert!(rest.is_empty());
}

#[test]
fn images_lie_in_directories_of_their_classes_and_are_found_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = tiny(Workload::Imagefolder);
    settings.keep = true;
    let made = opened(dir.path(), &settings);
    let (files, count) = (made.files.clone(), made.files.len());
    let kept = made.close().expect("kept").kept.expect("a path");
    assert_eq!(fs::read_dir(&kept).expect("list").count(), count.div_ceil(2));
    let found = opened(Path::new("/nowhere"), &MlSettings { dataset: Some(kept), ..settings });
    assert_eq!(found.files, files);
    assert!(found.close().expect("nothing to remove").kept.is_none());
}

#[test]
fn a_directory_without_such_files_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a.txt"), "x").expect("write");
    let cancel = AtomicBool::new(false);
    assert!(matches!(find(dir.path(), &["npz"], &Halt::new(&cancel)), Err(MlError::NoFiles { .. })));
}

#[test]
fn a_dataset_that_is_cut_short_leaves_nothing_even_if_it_was_to_be_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = MlSettings { keep: true, ..tiny(Workload::Unet3d) };
    let cancel = AtomicBool::new(true);
    let params = settings.params().expect("it trains");
    let result = Dataset::open(dir.path(), &settings, &params, &Silent, &Halt::new(&cancel));
    assert!(matches!(result, Err(MlError::Cancelled)));
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
}
