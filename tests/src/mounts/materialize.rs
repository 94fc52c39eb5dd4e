//! Snapshots that are materialized: nothing that happens in the bucket can take anything from them.

use super::crash::Serving;
use super::hsm::{noise, task};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{MetadataTtl, Settings};
use forebay_daemon::engine::FileSystem;
use forebay_daemon::meta::{DefaultAttrs, MetaConfig, MetaStore, SnapshotRow};
use forebay_daemon::task::materialize::Materialize;
use forebay_daemon::task::{TaskKind, TaskRequest, TaskRow, TaskState};
use forebay_daemon::units::{ByteCount, MIB};
use forebay_loopback_s3::{Fault, Op, Rule};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const BLOCK: usize = Settings::BLOCK_SIZE as usize;

fn lasting() -> Options {
    Options { ttl: MetadataTtl::Indefinite, ..Options::default() }
}

fn take(fs: &FileSystem, name: &str, path: &str) -> SnapshotRow {
    fs.runtime().block_on(fs.vfs().take_snapshot(name.as_bytes(), path.as_bytes())).expect("takes")
}

fn materialize(mount: &Mounted, name: &str) -> TaskRow {
    task(mount, TaskKind::Materialize, &[&format!(".snapshots/{name}")], &[])
}

/// Takes a snapshot of a directory with all names in it, and materializes it.
fn take_whole(mount: &Mounted, name: &str, path: &str) {
    assert_eq!(task(mount, TaskKind::Import, &[path], &[]).state, TaskState::Succeeded);
    take(&mount.fs, name, path);
    let row = materialize(mount, name);
    assert_eq!((row.state, row.counters.failed), (TaskState::Succeeded, 0), "{row:?}");
    assert!(is_materialized(mount, name));
}

fn is_materialized(mount: &Mounted, name: &str) -> bool {
    let all = mount.fs.vfs().snapshots().expect("reads");
    all.iter().any(|(known, row)| known == name.as_bytes() && row.materialized)
}

/// Reads past the kernel's pages.
fn read_anew(mount: &Mounted, path: &str) -> Vec<u8> {
    mount.forget_pages(path);
    mount.read(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn held(mount: &Mounted) -> u64 {
    mount.fs.status().cache.held_bytes
}

/// Looks at the metadata of a mount that is gone.
fn assert_sound(site: &Site) {
    let defaults = DefaultAttrs { uid: 0, gid: 0, file_perm: 0o644, dir_perm: 0o755 };
    let rows = site.cache_dirs(1)[0].join("metadata");
    let store = MetaStore::open(&rows, MetaConfig { memory_bytes: 8 << 20 }, defaults, 1).expect("opens");
    assert_eq!(store.check().expect("reads"), []);
}

#[test]
fn what_is_materialized_outlives_its_objects_a_full_cache_and_a_restart() {
    let site = Site::new();
    let (a, b, c) = (noise(1, 9 * BLOCK + 77), noise(2, 300), noise(3, 20 * BLOCK));
    let bodies = [("d/a", a), ("d/deep/er/b", b), ("c", c), ("empty", Vec::new())];
    let key = |name: &str| format!("kept/{name}");
    bodies.iter().for_each(|(name, body)| drop(site.bucket().put(&key(name), body.clone(), [])));
    let mut partly = noise(4, 12 * BLOCK);
    site.bucket().put("kept/partly", partly.clone(), []);
    for at in 0..30 {
        site.bucket().put(&format!("passing/{at}"), noise(200 + at, 4 << 20), []);
    }
    let options = Options { cache_size: ByteCount(64 * MIB), ..lasting() };
    let mount = site.mount(&options);
    // One file of which a part was written here, and one that is here alone.
    let file = std::fs::OpenOptions::new().write(true).open(mount.path("kept/partly")).expect("opens");
    file.write_all_at(b"ours", 5 * BLOCK as u64 + 9).expect("writes");
    file.sync_all().expect("syncs");
    drop(file);
    partly[5 * BLOCK + 9..][..4].copy_from_slice(b"ours");
    std::fs::write(mount.path("kept/d/mine"), b"mine").expect("writes");
    take_whole(&mount, "s", "kept");
    let of_snapshot = held(&mount);
    assert!(of_snapshot >= (9 + 20 + 12) * BLOCK as u64, "{of_snapshot}");

    let expected: Vec<(&str, Vec<u8>)> = bodies.into_iter().chain([("partly", partly), ("d/mine", b"mine".to_vec())]).collect();
    let reads_as_it_was = |mount: &Mounted| {
        site.server.requests().reset();
        for (name, body) in &expected {
            assert!(read_anew(mount, &format!(".snapshots/s/{name}")) == *body, "{name}");
        }
        assert_eq!(site.count(Op::GetObject), 0, "nothing of it is asked of the bucket");
    };
    reads_as_it_was(&mount);
    for (name, _) in &expected {
        site.bucket().delete(&key(name));
    }
    site.bucket().put("kept/c", noise(33, 20 * BLOCK), []);
    reads_as_it_was(&mount);

    // More than the cache is large passes through it.
    for at in 0..30 {
        assert!(mount.read(&format!("passing/{at}")).expect("reads") == noise(200 + at, 4 << 20));
        mount.settle();
    }
    assert!(mount.fs.status().cache.evicted_blocks > 0, "what nobody holds is dropped");
    reads_as_it_was(&mount);

    drop(mount);
    let mount = site.mount(&options);
    assert!(is_materialized(&mount, "s"));
    reads_as_it_was(&mount);

    // Deleting it lets go of all that is not the tree's.
    let frees = mount.fs.runtime().block_on(mount.fs.vfs().snapshot_figures(b"s")).expect("counts").frees_bytes;
    let kept = of_snapshot - frees;
    assert!(frees >= (9 + 20 + 11) * BLOCK as u64 && kept >= BLOCK as u64, "{frees} of {of_snapshot}");
    mount.fs.vfs().delete_snapshot(b"s").expect("deletes");
    eventually("what was held for it is let go of", || held(&mount) == kept);
    drop(mount);
    assert_sound(&site);
}

#[test]
fn an_object_that_was_replaced_before_it_was_loaded_is_named_and_the_rest_is_held() {
    let site = Site::new();
    for name in ["a", "denied", "gone", "replaced", "z"] {
        site.bucket().put(&format!("d/{name}"), noise(1, 3 * BLOCK), []);
    }
    let mount = site.mount(&Options { deadline: Duration::from_secs(2), ..lasting() });
    assert_eq!(std::fs::read_dir(mount.path("d")).expect("lists").count(), 5);
    take(&mount.fs, "s", "d");
    site.bucket().put("d/replaced", noise(2, 3 * BLOCK), []);
    site.bucket().delete("d/gone");
    site.server.faults().add(Rule::new(Fault::AccessDenied).on(Op::GetObject).key_prefix("d/denied"));
    let reports = tempfile::tempdir().expect("a directory");
    let request = TaskRequest {
        kind: TaskKind::Materialize,
        paths: vec![Materialize::path_of(b"s")],
        options: [].into(),
        report: Some(reports.path().display().to_string()),
    };
    let id = mount.fs.tasks().create(request).expect("a task").id;
    let row = mount.fs.runtime().block_on(mount.fs.tasks().wait(id, Duration::from_secs(60))).expect("there is one").row;
    assert_eq!(
        (row.state, row.counters.total, row.counters.succeeded, row.counters.failed),
        (TaskState::Failed, 5, 2, 3),
        "{row:?}"
    );
    assert!(row.last_error.contains(".snapshots/s/replaced") && row.last_error.contains("a new snapshot"), "{}", row.last_error);
    let report = std::fs::read_to_string(reports.path().join(format!("task-{id}/failures.csv"))).expect("a report");
    for line in ["denied,failed,S3AccessDenied", "gone,failed,S3ObjectNotFound", "replaced,failed,S3Conflict"] {
        assert!(report.contains(&format!(".snapshots/s/{line}")), "{line}: {report}");
    }
    assert!(!is_materialized(&mount, "s"));
    // What could be loaded is held, and what could not is what it was: stale, never the new one.
    assert!(mount.read(".snapshots/s/replaced").is_err());
    eventually("the tree has the new one", || mount.read("d/replaced").is_ok_and(|body| body == noise(2, 3 * BLOCK)));

    // Where that can be helped, another run loads what is lacking, and only that.
    take(&mount.fs, "t", "d");
    std::fs::remove_file(mount.path("d/gone")).expect("removes");
    take(&mount.fs, "u", "d");
    assert_eq!(materialize(&mount, "u").counters.failed, 1);
    site.server.faults().clear();
    site.server.requests().reset();
    let row = materialize(&mount, "u");
    assert_eq!((row.state, row.counters.succeeded), (TaskState::Succeeded, 4), "{row:?}");
    assert_eq!(site.count(Op::GetObject), 1, "only what was denied before");
    assert!(is_materialized(&mount, "u") && !is_materialized(&mount, "t"));
    site.bucket().delete("d/a");
    assert!(read_anew(&mount, ".snapshots/s/a") == noise(1, 3 * BLOCK));
    for name in ["s", "t", "u"] {
        mount.fs.vfs().delete_snapshot(name.as_bytes()).expect("deletes");
    }
    eventually("nothing is held any more", || held(&mount) == 0);
    drop(mount);
    assert_sound(&site);
}

#[test]
fn a_directory_that_nobody_had_listed_keeps_a_snapshot_from_being_whole() {
    let site = Site::new();
    site.bucket().put("known", noise(1, 100), []);
    site.bucket().put("unlisted/x", noise(2, 100), []);
    let mount = site.mount(&lasting());
    assert_eq!(std::fs::read_dir(mount.root()).expect("lists").count(), 2);
    take(&mount.fs, "s", "");
    let row = materialize(&mount, "s");
    assert_eq!((row.state, row.counters.succeeded, row.counters.failed), (TaskState::Failed, 1, 1), "{row:?}");
    assert!(
        row.last_error.contains(".snapshots/s/unlisted") && row.last_error.contains("had not been listed"),
        "{}",
        row.last_error
    );
    assert!(!is_materialized(&mount, "s"));
    let refused = |paths: &[&str]| {
        let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let request = TaskRequest { kind: TaskKind::Materialize, paths, options: [].into(), report: None };
        mount.fs.tasks().create(request).expect_err("makes no sense").to_string()
    };
    assert!(refused(&[".snapshots/none"]).contains("there is no snapshot 'none'"));
    assert!(refused(&["known"]).contains(".snapshots/NAME") && refused(&[]).contains(".snapshots/NAME"));
}

#[test]
fn a_snapshot_that_does_not_fit_says_so_and_leaves_room() {
    let site = Site::new();
    for at in 0..24 {
        site.bucket().put(&format!("d/{at:02}"), noise(at, 4 << 20), []);
    }
    let mount = site.mount(&Options { cache_size: ByteCount(64 * MIB), ..lasting() });
    assert_eq!(std::fs::read_dir(mount.path("d")).expect("lists").count(), 24);
    take(&mount.fs, "s", "");
    let row = materialize(&mount, "s");
    assert_eq!(row.state, TaskState::Failed);
    assert!(row.last_error.contains("the cache is full: '.snapshots/s/d/"), "{}", row.last_error);
    assert!(!is_materialized(&mount, "s"));
    assert!(held(&mount) > 16 << 20, "what fitted is held");
    std::fs::write(mount.path("mine"), noise(77, 1 << 20)).expect("writes");
    std::fs::File::open(mount.path("mine")).and_then(|file| file.sync_all()).expect("there is room for what is written");
    mount.fs.vfs().delete_snapshot(b"s").expect("deletes");
    eventually("it is let go of", || held(&mount) < 2 << 20);
    drop(mount);
    assert_sound(&site);
}

#[test]
fn what_was_counted_before_kill_9_is_held_after_it_and_the_task_goes_on() {
    let site = Site::new();
    let place = site.place();
    const FILES: u64 = 2_000;
    for at in 0..FILES {
        site.bucket().put(&format!("{at:04}"), noise(at, 3_000), []);
    }
    let id = {
        let fs = site.start(&Options { watched: false, ..lasting() }).expect("starts");
        let run = |kind, path: &[u8]| {
            let request = TaskRequest { kind, paths: vec![path.to_vec()], options: [].into(), report: None };
            fs.tasks().create(request).expect("a task").id
        };
        let import = run(TaskKind::Import, b"");
        let imported = fs.runtime().block_on(fs.tasks().wait(import, Duration::from_secs(60))).expect("there is one");
        assert_eq!(imported.row.state, TaskState::Succeeded);
        take(&fs, "s", "");
        site.server.faults().set_latency(Duration::from_millis(400));
        site.server.requests().reset();
        let id = run(TaskKind::Materialize, b".snapshots/s");
        fs.shutdown();
        id
    };
    let serving = Serving::start(&place);
    // The first round is recorded and counted by then.
    let give_up = Instant::now() + Duration::from_secs(60);
    while site.count(Op::GetObject) < FILES - 200 {
        assert!(Instant::now() < give_up, "{} were fetched", site.count(Op::GetObject));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(serving);
    let fs = site.start(&Options { watched: false, ..lasting() }).expect("starts");
    let counted = fs.tasks().show(id).expect("there is one").row;
    assert!(!counted.state.is_final(), "it was interrupted: {counted:?}");
    let counted = counted.counters.succeeded;
    assert!(counted > 0, "something was counted");
    // What is counted is here for good.
    (0..counted).for_each(|at| _ = site.bucket().delete(&format!("{at:04}")));
    site.server.faults().set_latency(Duration::ZERO);
    let row = fs.runtime().block_on(fs.tasks().wait(id, Duration::from_secs(60))).expect("there is one").row;
    assert_eq!((row.state, row.counters.succeeded, row.counters.total), (TaskState::Succeeded, FILES, FILES), "{row:?}");
    fs.shutdown();
    drop(fs);
    (counted..FILES).for_each(|at| _ = site.bucket().delete(&format!("{at:04}")));
    let mount = site.mount(&lasting());
    assert!(is_materialized(&mount, "s"));
    site.server.requests().reset();
    for at in 0..FILES {
        assert!(mount.read(&format!(".snapshots/s/{at:04}")).expect("reads") == noise(at, 3_000), "{at}");
    }
    assert_eq!(site.count(Op::GetObject), 0);
    drop(mount);
    assert_sound(&site);
}
