//! Whole runs, as small as they can be.

use super::*;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A run of a second at most.
fn tiny(workload: Workload) -> MlSettings {
    let samples_per_file = matches!(workload, Workload::Webdataset | Workload::Resnet50).then_some(6);
    let overrides = Overrides {
        epochs: Some(2),
        batch_size: Some(3),
        compute: Some(Duration::from_micros(100)),
        record_bytes: Some(5000),
        samples_per_file,
        ..Overrides::default()
    };
    MlSettings { accelerators: 2, dataset_bytes: 600_000, overrides, ..MlSettings::new(workload) }
}

fn run_in(dir: &Path, settings: &MlSettings) -> Result<MlReport, MlError> {
    run(dir, settings, &Silent, &AtomicBool::new(false))
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("list").next().is_none()
}

#[test]
fn every_workload_runs_and_leaves_nothing() {
    for workload in Workload::ALL {
        for evict in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let settings = MlSettings { evict, ..tiny(workload) };
            let report = run_in(dir.path(), &settings).unwrap_or_else(|error| panic!("{workload}: {error}"));
            assert!(is_empty(dir.path()), "{workload}");
            let rounds = match &report.figures {
                Figures::Training(training) => training.epochs.len(),
                Figures::Load(load) => load.loads.len(),
                Figures::Checkpoint(checkpoint) => checkpoint.saves.len().min(checkpoint.restores.len()),
            };
            assert_eq!(rounds, 2, "{workload}");
            assert!(report.to_string().starts_with(workload.name()), "{report}");
            let json = serde_json::to_value(&report).expect("JSON");
            assert_eq!(json["workload"], workload.name());
        }
    }
}

#[test]
fn every_step_of_every_accelerator_is_taken() {
    for workload in [Workload::Unet3d, Workload::Resnet50, Workload::Cosmoflow, Workload::Imagefolder] {
        let dir = tempfile::tempdir().expect("a directory");
        let report = run_in(dir.path(), &tiny(workload)).expect("it runs");
        let steps = plan::steps(&report.params.expect("it trains"), report.dataset.files, 2);
        let Figures::Training(training) = report.figures else { panic!("{workload} trains") };
        assert!(
            training.epochs.iter().all(|epoch| epoch.counted_steps as u64 == steps - 1),
            "{workload}: {training:?}, {steps} steps"
        );
    }
}

#[test]
fn a_set_that_was_kept_is_read_again_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = run_in(dir.path(), &MlSettings { keep: true, ..tiny(Workload::Resnet50) }).expect("it runs");
    let kept = first.dataset.kept.clone().expect("kept");
    let settings = MlSettings { dataset: Some(kept.clone()), ..tiny(Workload::Resnet50) };
    let second = run_in(Path::new("/nowhere"), &settings).expect("it runs");
    assert_eq!((second.dataset.files, second.dataset.bytes), (first.dataset.files, first.dataset.bytes));
    assert_eq!(second.dataset.existing, Some(kept));
}

#[test]
fn a_set_with_fewer_samples_than_claimed_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = run_in(dir.path(), &MlSettings { keep: true, ..tiny(Workload::Webdataset) }).expect("it runs");
    let mut settings = MlSettings { dataset: first.dataset.kept, accelerators: 1, ..tiny(Workload::Webdataset) };
    settings.overrides.samples_per_file = Some(6000);
    settings.overrides.batch_size = Some(6000);
    assert!(matches!(run_in(dir.path(), &settings), Err(MlError::Setting { .. })));
}

#[test]
fn a_run_that_is_cancelled_in_any_phase_leaves_nothing() {
    /// Sets the wish to end as soon as an event of a kind comes.
    struct CancelAt<'a>(&'a AtomicBool, fn(Event) -> bool);
    impl Progress for CancelAt<'_> {
        fn event(&self, event: Event) {
            if self.1(event) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
    }
    let phases: [fn(Event) -> bool; 2] =
        [|event| matches!(event, Event::Generated { .. }), |event| matches!(event, Event::Round { .. })];
    for workload in Workload::ALL {
        for phase in phases {
            let dir = tempfile::tempdir().expect("a directory");
            let cancel = AtomicBool::new(false);
            let result = run(dir.path(), &tiny(workload), &CancelAt(&cancel, phase), &cancel);
            // A checkpoint has nothing to generate.
            assert!(matches!(result, Err(MlError::Cancelled)) || workload == Workload::Checkpoint, "{workload}");
            assert!(is_empty(dir.path()), "{workload}");
        }
    }
}

#[test]
fn too_little_space_is_told_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = MlSettings { dataset_bytes: 1 << 50, ..MlSettings::new(Workload::Checkpoint) };
    assert!(matches!(run_in(dir.path(), &settings), Err(MlError::Space { .. })));
    assert!(is_empty(dir.path()));
}
