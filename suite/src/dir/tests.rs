//! Whole rounds on a directory, tiny: every row has a figure or a reason, and nothing is left.

use super::*;
use crate::plan::{DirectUse, DropPages, tiny};
use crate::row::{Outcome, RowId};
use crate::stop::Stop;

fn rounds(plan: &Plan, path: &Path, read_from: Option<&Path>) -> Vec<(RowId, Outcome)> {
    let (mut rows, stop) = (Vec::new(), Stop::default());
    let mut dir = Directory::open(path, plan, 0, read_from).expect("opens");
    for group in dir.groups() {
        dir.round(group, 0, &mut Recorder::new(&mut rows, &stop, &|_| ())).expect("a round");
    }
    dir.leave().expect("leaves");
    rows
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).expect("reads").count() == 0
}

#[test]
fn every_row_has_a_figure_or_a_reason_and_nothing_is_left() {
    let home = tempfile::tempdir().expect("a directory");
    let rows = rounds(&tiny(), home.path(), None);
    assert!(is_empty(home.path()));
    for (id, outcome) in &rows {
        match outcome {
            Outcome::Measured { sample, .. } => assert!(sample.count > 0 && !sample.elapsed.is_zero(), "{}", id.slug()),
            Outcome::NotMeasured(why) => assert!(why.contains("names and inodes stay"), "{}: {why}", id.slug()),
        }
    }
    let mut slugs: Vec<String> = rows.iter().map(|(id, _)| id.slug()).collect();
    let count = slugs.len();
    slugs.sort();
    slugs.dedup();
    assert_eq!((count, slugs.len()), (40, 40), "{slugs:#?}");
}

#[test]
fn only_what_is_wanted_is_measured_and_never_dropping_says_so() {
    let home = tempfile::tempdir().expect("a directory");
    let (only, direct, drop) = (vec![Group::Sequential], DirectUse::Never, DropPages::Never);
    let rows = rounds(&Plan { only, direct, drop, threads: 1, ..tiny() }, home.path(), None);
    let measured: Vec<(String, bool)> =
        rows.iter().map(|(id, outcome)| (id.slug(), matches!(outcome, Outcome::Measured { .. }))).collect();
    let expected = [("write/65536/1/made", true), ("read/65536/1/device", false), ("read/65536/1/memory", true)];
    assert_eq!(measured, expected.map(|(slug, is)| (format!("sequential/{slug}"), is)));
}

#[test]
fn existing_data_is_read_first_once_and_nothing_is_made() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("data"), vec![3; 100_000]).expect("writes");
    let plan = Plan { only: vec![Group::Existing], ..tiny() };
    let mut dir = Directory::open(home.path(), &plan, 0, Some(Path::new("data"))).expect("opens");
    let (mut rows, stop) = (Vec::new(), Stop::default());
    for round in 0..2 {
        dir.round(Group::Existing, round, &mut Recorder::new(&mut rows, &stop, &|_| ())).expect("a round");
    }
    assert!(!dir.place.has_work());
    let states: Vec<String> = rows.iter().map(|(id, _)| format!("{:?}", id.state)).collect();
    assert_eq!(states, ["Found", "Device", "Memory", "Device", "Memory"]);
    assert!(rows.iter().all(|(_, outcome)| matches!(outcome, Outcome::Measured { sample, .. } if sample.bytes == 100_000)));
}

#[test]
fn a_bench_that_is_dropped_midway_leaves_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let (mut rows, stop) = (Vec::new(), Stop::default());
    let mut dir = Directory::open(home.path(), &tiny(), 0, None).expect("opens");
    stop.ask();
    assert!(dir.round(Group::Small, 0, &mut Recorder::new(&mut rows, &stop, &|_| ())).is_err());
    assert!(!is_empty(home.path()));
    drop(dir);
    assert!(is_empty(home.path()));
}
