//! The exercisers at full length, on the directory that `FOREBAY_EXERCISE_DIR` names (a mount, say) or on a temporary one,
//! from the seed `FOREBAY_EXERCISE_SEED`: `cargo nextest run -p forebay-tests --run-ignored only exercise::soak`.

use super::{crash, fsx, stress, trees};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A new directory, removed at the end.
fn new_directory() -> TempDir {
    let place = std::env::var_os("FOREBAY_EXERCISE_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(place).expect("a new directory")
}

fn seed() -> u64 {
    let seed = std::env::var("FOREBAY_EXERCISE_SEED").ok();
    seed.map_or(1, |seed| seed.parse().expect("FOREBAY_EXERCISE_SEED is a number"))
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    println!("{what}: {:.1} s", started.elapsed().as_secs_f64());
    result
}

#[test]
#[ignore = "takes minutes"]
fn fsx_a_million_operations() {
    let dir = new_directory();
    let plan = fsx::Plan { seed: seed(), operations: 1_000_000, max_file_bytes: 8 << 20, ..fsx::Plan::default() };
    let outcome = timed("a million operations", || fsx::run(dir.path(), &plan)).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{:?}, not offered: {:?}", outcome.done, outcome.not_offered);
    fsx::verify(dir.path(), &outcome).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
#[ignore = "takes minutes"]
fn stress_eight_threads() {
    let dir = new_directory();
    let plan = stress::Plan { seed: seed(), operations: 50_000, compare_every: 5000, ..stress::Plan::default() };
    let models = timed("8 x 50000 operations", || stress::run(dir.path(), &plan)).unwrap_or_else(|failure| panic!("{failure}"));
    stress::verify(dir.path(), &models).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
#[ignore = "takes minutes"]
fn crash_fifty_writers() {
    for round in 0..50 {
        let (dir, elsewhere) = (new_directory(), tempfile::tempdir().expect("a temporary directory"));
        kill_one(dir.path(), &elsewhere.path().join("log"), seed() + round);
    }
}

fn kill_one(dir: &Path, log: &Path, seed: u64) {
    let mut child = crash::spawn(dir, log, &crash::Plan { seed, ..crash::Plan::default() }).expect("start the writer");
    let acknowledged = crash::wait_for(log, 20 + 40 * (seed as usize % 50), Duration::from_secs(120));
    child.kill().expect("kill the writer");
    child.wait().expect("it ended");
    let survived = crash::check(dir, log, &crash::Rules::LOCAL).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(acknowledged >= 20 && survived.acknowledged >= acknowledged, "{survived:?}");
}

#[test]
#[ignore = "takes minutes"]
fn trees_of_two_thousand_files() {
    let dir = new_directory();
    let plan = trees::Plan { seed: seed(), items: 2000 };
    timed("every check", || trees::all(dir.path(), &plan)).unwrap_or_else(|failure| panic!("{failure}"));
}
