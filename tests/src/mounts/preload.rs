//! `forebay preload`: data that is there before anybody asks, counted truly, for keeps.

use super::crash::Serving;
use super::hsm::{info, noise, read_anew, states, task};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::MetadataTtl;
use forebay_daemon::task::{TaskKind, TaskRequest, TaskRow, TaskState};
use forebay_daemon::units::{ByteCount, MIB};
use forebay_loopback_s3::{Fault, Op, Rule};
use std::time::Duration;

fn lasting() -> Options {
    Options { ttl: MetadataTtl::Indefinite, ..Options::default() }
}

fn preload(mount: &Mounted, paths: &[&str]) -> TaskRow {
    task(mount, TaskKind::Preload, paths, &[])
}

fn start(mount: &Mounted, path: &str) -> u64 {
    let paths = vec![path.as_bytes().to_vec()];
    let request = TaskRequest { kind: TaskKind::Preload, paths, options: [].into(), report: None };
    mount.fs.tasks().create(request).expect("a task").id
}

fn now(mount: &Mounted, id: u64) -> TaskRow {
    mount.fs.tasks().show(id).expect("there is one").row
}

fn wait(mount: &Mounted, id: u64) -> TaskRow {
    mount.fs.runtime().block_on(mount.fs.tasks().wait(id, Duration::from_secs(120))).expect("there is one").row
}

#[test]
fn all_below_a_path_is_here_without_a_reader() {
    let site = Site::new();
    let mut bytes = 0;
    for at in 0..1_200_u64 {
        let body = noise(at, (at % 50 * 100) as usize);
        bytes += body.len() as u64;
        site.bucket().put(&format!("d/small{}/{at}", at % 7), body, []);
    }
    let large = noise(7, (20 << 20) + 12_345);
    bytes += large.len() as u64;
    site.bucket().put("d/large", large.clone(), []);
    site.bucket().put("elsewhere", "x", []);
    let mount = site.mount(&lasting());
    let row = preload(&mount, &["d"]);
    assert_eq!((row.state, row.counters.failed, row.counters.total_is_final), (TaskState::Succeeded, 0, true), "{row:?}");
    assert_eq!((row.counters.total, row.counters.succeeded, row.counters.bytes), (1_201, 1_201, bytes));
    assert_eq!(states(&mount, "elsewhere"), "released exists archived");
    assert_eq!(states(&mount, "d/large"), "exists archived");
    let gets = site.count(Op::GetObject);
    assert!(gets <= 1_201 + 8, "{gets} GETs: one a part, none for empty files");
    site.server.requests().reset();
    assert!(mount.read("d/large").expect("reads") == large);
    for at in (0..1_200_u64).step_by(17) {
        assert!(mount.read(&format!("d/small{}/{at}", at % 7)).expect("reads") == noise(at, (at % 50 * 100) as usize));
    }
    assert_eq!(site.count(Op::GetObject), 0);
    // Again: nothing is fetched, and all is told to be there.
    let row = preload(&mount, &["d"]);
    assert_eq!((row.counters.succeeded, row.counters.bytes, site.count(Op::GetObject)), (1_201, bytes, 0));
    assert_eq!(mount.fs.status().cache.pinned_bytes, 0, "once it has ended nothing is pinned");
}

#[test]
fn a_file_that_was_written_to_is_completed_and_a_local_one_is_left_alone() {
    use std::os::unix::fs::FileExt;
    let site = Site::new();
    let mut body = noise(3, 3 << 20);
    site.bucket().put("f", body.clone(), []);
    let mount = site.mount(&lasting());
    let file = std::fs::OpenOptions::new().write(true).open(mount.path("f")).expect("opens");
    file.write_all_at(b"ours", 1_000_000).expect("writes");
    file.sync_all().expect("syncs");
    drop(file);
    body[1_000_000..1_000_004].copy_from_slice(b"ours");
    std::fs::write(mount.path("mine"), "here").expect("writes");
    let row = preload(&mount, &[""]);
    assert_eq!((row.state, row.counters.succeeded), (TaskState::Succeeded, 2), "{row:?}");
    site.server.requests().reset();
    assert!(read_anew(&mount, "f") == body);
    assert_eq!(site.count(Op::GetObject), 0);
}

#[test]
fn what_the_store_denies_or_lost_fails_by_itself() {
    let site = Site::new();
    for name in ["a", "denied", "gone", "large", "replaced", "z"] {
        site.bucket().put(name, noise(1, if name == "large" { 20 << 20 } else { 200_000 }), []);
    }
    let mount = site.mount(&Options { deadline: Duration::from_secs(2), ..lasting() });
    std::fs::read_dir(mount.root()).expect("lists").for_each(drop);
    site.bucket().delete("gone");
    let other = noise(2, 300_000);
    site.bucket().put("replaced", other.clone(), []);
    let faults = site.server.faults();
    faults.add(Rule::new(Fault::AccessDenied).on(Op::GetObject).key_prefix("denied"));
    faults.add(Rule::new(Fault::InternalError).on(Op::GetObject).key_prefix("large"));
    let reports = tempfile::tempdir().expect("a directory");
    let request = TaskRequest {
        kind: TaskKind::Preload,
        paths: vec![Vec::new()],
        options: [].into(),
        report: Some(reports.path().display().to_string()),
    };
    let row = wait(&mount, mount.fs.tasks().create(request).expect("a task").id);
    assert_eq!((row.state, row.counters.total, row.counters.failed), (TaskState::Failed, 6, 3), "{row:?}");
    assert_eq!(row.counters.succeeded, 3);
    let report: String = walk(reports.path());
    for line in ["denied,failed,S3AccessDenied", "gone,failed,S3ObjectNotFound", "large,failed,S3Error"] {
        assert!(report.lines().filter(|found| found.trim_start_matches('/') == line).count() == 1, "{line}: {report}");
    }
    site.server.requests().reset();
    assert!(mount.read("replaced").expect("reads") == other, "the new version was brought");
    assert_eq!(site.count(Op::GetObject), 0);
}

/// The contents of all files below a directory.
fn walk(dir: &std::path::Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        all += &if path.is_dir() { walk(&path) } else { std::fs::read_to_string(&path).expect("text") };
    }
    all
}

#[test]
fn a_cache_that_is_too_small_keeps_what_was_preloaded_and_says_so() {
    let site = Site::new();
    for at in 0..24 {
        site.bucket().put(&format!("d/{at:02}"), noise(at, 4 << 20), []);
    }
    site.bucket().put("before", noise(99, 30 << 20), []);
    let options = Options { cache_size: ByteCount(64 * MIB), ..lasting() };
    let mount = site.mount(&options);
    // What is cold goes for it.
    mount.read("before").expect("reads");
    mount.settle();
    let row = preload(&mount, &["d"]);
    assert_eq!(row.state, TaskState::Failed);
    assert!(row.last_error.contains("the cache is full"), "{}", row.last_error);
    let loaded = row.counters.succeeded;
    assert!((6..16).contains(&loaded), "{row:?}");
    assert!(row.counters.failed >= 1);
    let status = mount.fs.status().cache;
    assert_eq!(status.dropped_pins, 0, "it does not churn");
    let fetched = site.count(Op::GetObject);
    assert!(fetched < 60, "{fetched} GETs: it stopped");
    site.server.requests().reset();
    let here: Vec<u64> = (0..24).filter(|at| states(&mount, &format!("d/{at:02}")) == "exists archived").collect();
    assert!(here.len() as u64 >= loaded, "{here:?}, and {loaded} were counted");
    for at in here {
        assert!(mount.read(&format!("d/{at:02}")).expect("reads") == noise(at, 4 << 20));
    }
    assert_eq!(site.count(Op::GetObject), 0, "all that was counted is there");
}

#[test]
fn a_preload_can_be_canceled_and_says_what_is_under_way() {
    let site = Site::new();
    // More than are under way at once.
    for at in 0..600 {
        site.bucket().put(&format!("d/{at:03}"), noise(at, 1000), []);
    }
    site.server.faults().set_latency(Duration::from_millis(500));
    let mount = site.mount(&lasting());
    let id = start(&mount, "d");
    eventually("one of them is on its way", || info(&mount, "d/001").action_line().starts_with("RESTORE running"));
    assert!(mount.fs.tasks().cancel(id).is_ok());
    let row = wait(&mount, id);
    assert_eq!((row.state, row.counters.failed), (TaskState::Canceled, 0), "{row:?}");
    assert_eq!(mount.fs.status().cache.pinned_bytes, 0);
}

#[test]
fn a_preload_goes_on_where_a_stop_interrupted_it() {
    let site = Site::new();
    for at in 0..600 {
        site.bucket().put(&format!("d{}/{at:03}", at % 3), noise(at, 10_000), []);
    }
    // Slow, so that it does not end before it is interrupted: not all are under way at once.
    site.server.faults().set_latency(Duration::from_millis(700));
    let options = Options { memory_target: ByteCount(256 * MIB), ..lasting() };
    let mount = site.mount(&options);
    let id = start(&mount, "");
    eventually("something is counted", || now(&mount, id).counters.succeeded > 0);
    drop(mount);
    site.server.faults().set_latency(Duration::ZERO);
    site.server.requests().reset();
    let mount = site.mount(&options);
    let row = wait(&mount, id);
    assert_eq!((row.state, row.counters.total, row.counters.succeeded), (TaskState::Succeeded, 600, 600), "{row:?}");
    assert_eq!(row.counters.bytes, 6_000_000, "nothing is counted twice");
    let gets = site.count(Op::GetObject);
    assert!(gets > 0 && gets < 600, "it was interrupted, and what was there was not fetched again: {gets}");
    site.server.requests().reset();
    for at in 0..600 {
        assert!(mount.read(&format!("d{}/{at:03}", at % 3)).expect("reads") == noise(at, 10_000));
    }
    assert_eq!(site.count(Op::GetObject), 0);
}

#[test]
fn what_was_counted_before_kill_9_is_there_after_it() {
    let site = Site::new();
    let place = site.place();
    for at in 0..800 {
        site.bucket().put(&format!("{at:03}"), noise(at, 30_000), []);
    }
    site.server.faults().set_latency(Duration::from_millis(700));
    let id = {
        // Asked for, and not begun: the process that is killed finds it.
        let fs = site.start(&Options { watched: false, ..Options::default() }).expect("starts");
        let request = TaskRequest { kind: TaskKind::Preload, paths: vec![Vec::new()], options: [].into(), report: None };
        let id = fs.tasks().create(request).expect("a task").id;
        fs.shutdown();
        id
    };
    let serving = Serving::start(&place);
    eventually("some of it is fetched", || site.count(Op::GetObject) > 300);
    drop(serving);
    site.server.requests().reset();
    site.server.faults().set_latency(Duration::ZERO);
    let mount = site.mount(&Options::default());
    let row = wait(&mount, id);
    assert_eq!((row.state, row.counters.succeeded, row.counters.bytes), (TaskState::Succeeded, 800, 24_000_000), "{row:?}");
    assert!(site.count(Op::GetObject) < 800, "what was counted was not fetched again");
    site.server.requests().reset();
    for at in 0..800 {
        assert!(mount.read(&format!("{at:03}")).expect("reads") == noise(at, 30_000));
    }
    assert_eq!(site.count(Op::GetObject), 0);
}
