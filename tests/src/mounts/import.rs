//! `forebay import`: names and attributes brought ahead of use, right whatever else happens meanwhile.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{MetadataTtl, PosixMetadata};
use forebay_daemon::task::{TaskKind, TaskRequest, TaskRow, TaskState};
use forebay_loopback_s3::{Fault, Op, Rule};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

fn lasting() -> Options {
    Options { ttl: MetadataTtl::Indefinite, ..Options::default() }
}

fn names_only() -> Options {
    Options { posix: PosixMetadata::Off, ..lasting() }
}

fn start(mount: &Mounted, path: &str, prune: bool) -> u64 {
    let request = TaskRequest {
        kind: TaskKind::Import,
        paths: vec![path.as_bytes().to_vec()],
        options: [("prune".to_owned(), prune.to_string())].into(),
        report: None,
    };
    mount.fs.tasks().create(request).expect("a task").id
}

fn ended(mount: &Mounted, id: u64) -> TaskRow {
    let shown = mount.fs.runtime().block_on(mount.fs.tasks().wait(id, Duration::from_secs(120))).expect("there is one");
    assert!(shown.row.state.is_final(), "{shown:?}");
    shown.row
}

pub(super) fn import(mount: &Mounted, path: &str, prune: bool) -> TaskRow {
    ended(mount, start(mount, path, prune))
}

fn succeeded(row: &TaskRow) -> u64 {
    assert_eq!((row.state, row.counters.failed), (TaskState::Succeeded, 0), "{row:?}");
    assert_eq!(row.counters.total, row.counters.succeeded);
    row.counters.succeeded
}

/// All paths below a directory.
fn find(root: &Path) -> BTreeSet<String> {
    let (mut found, mut below) = (BTreeSet::new(), vec![root.to_path_buf()]);
    while let Some(dir) = below.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = std::fs::symlink_metadata(&path).expect("exists");
            found.insert(path.strip_prefix(root).expect("below").to_str().expect("text").to_owned());
            if meta.is_dir() {
                below.push(path);
            }
        }
    }
    found
}

/// What a tree of these keys has.
fn tree_of<'k>(keys: impl IntoIterator<Item = &'k str>) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for key in keys {
        let ends = key.match_indices('/').map(|(at, _)| at).chain((!key.ends_with('/')).then_some(key.len()));
        paths.extend(ends.map(|end| key[..end].to_owned()));
    }
    paths
}

fn requests(site: &Site) -> u64 {
    [Op::ListObjects, Op::HeadObject, Op::GetObject].into_iter().map(|op| site.count(op)).sum()
}

#[test]
fn after_an_import_find_costs_no_request() {
    let site = Site::new();
    let keys: Vec<String> = (0..3_300).map(|i| format!("d{}/e{}/{i:05}", i % 3, i % 40)).collect();
    for key in &keys {
        site.bucket().put(key, "x", []);
    }
    for key in ["top", "empty/", "d1/marker/", "d1/marker/f"] {
        site.bucket().put(key, "x", []);
    }
    let mount = site.mount(&lasting());
    site.server.requests().reset();
    let row = import(&mount, "", false);
    assert_eq!((succeeded(&row), row.counters.bytes), (3_304, 3_304));
    let (lists, heads) = (site.count(Op::ListObjects), site.count(Op::HeadObject));
    assert!(lists <= 4 + 120, "{lists} LISTs: a page for each thousand, and some to cut");
    assert_eq!(heads, 3_304, "each object once");
    site.server.requests().reset();
    let all = keys.iter().map(String::as_str).chain(["top", "empty/", "d1/marker/", "d1/marker/f"]);
    assert_eq!(find(mount.root()), tree_of(all));
    assert!(std::fs::metadata(mount.path("d1/none")).is_err());
    assert_eq!(requests(&site), 0);
    // And again: nothing is read anew that did not change.
    assert_eq!(succeeded(&import(&mount, "", false)), 3_304);
    let heads = site.count(Op::HeadObject);
    assert!(heads <= 2, "{heads} HEADs: of young markers at most");
}

#[test]
fn what_came_changed_and_went_shows_and_what_went_stays_unless_pruned() {
    let site = Site::new();
    for key in ["a/stays", "a/changes", "a/goes", "b/gone/x", "b/kept", "f"] {
        site.bucket().put(key, "old", []);
    }
    let mount = site.mount(&lasting());
    import(&mount, "", false);
    find(mount.root());
    let inode = std::fs::metadata(mount.path("a/stays")).unwrap().ino();
    site.bucket().put("a/changes", "newer", []);
    site.bucket().put("a/comes", "new", []);
    site.bucket().put("c/also/comes", "new", []);
    for key in ["a/goes", "b/gone/x"] {
        site.bucket().delete(key);
    }
    assert_eq!(succeeded(&import(&mount, "", false)), 6);
    let with = |more: &[&'static str]| {
        let keys = ["a/stays", "a/changes", "a/comes", "b/kept", "c/also/comes", "f"];
        tree_of(keys.into_iter().chain(more.iter().copied()))
    };
    eventually("the kernel heard of it", || find(mount.root()) == with(&["a/goes", "b/gone/x"]));
    eventually("new content", || mount.read("a/changes").is_ok_and(|bytes| bytes == b"newer"));
    assert_eq!(std::fs::metadata(mount.path("a/stays")).unwrap().ino(), inode);
    import(&mount, "", true);
    eventually("what went is gone", || find(mount.root()) == with(&[]));
}

#[test]
fn what_was_made_moved_or_changed_here_is_not_touched() {
    let site = Site::new();
    for key in ["d/written", "d/moved", "d/removed", "d/goes", "dir/x", "mine"] {
        site.bucket().put(key, "bucket", []);
    }
    let mount = site.mount(&lasting());
    import(&mount, "", false);
    let path = |name: &str| mount.path(name);
    std::fs::write(path("d/written"), "here").unwrap();
    std::fs::rename(path("d/moved"), path("elsewhere")).unwrap();
    std::fs::remove_file(path("d/removed")).unwrap();
    std::fs::write(path("d/made"), "here").unwrap();
    std::fs::rename(path("dir"), path("moved-dir")).unwrap();
    std::fs::remove_file(path("mine")).unwrap();
    std::fs::create_dir(path("mine")).unwrap();
    std::fs::write(path("mine/made"), "here").unwrap();
    for key in ["d/written", "d/goes"] {
        site.bucket().delete(key);
    }
    site.bucket().put("mine/theirs", "bucket", []);
    import(&mount, "", true);
    let expected = ["d/written", "d/made", "elsewhere", "moved-dir/x", "mine/made"];
    eventually("only what the bucket had alone is gone", || find(mount.root()) == tree_of(expected));
    assert_eq!(mount.read("d/written").unwrap(), b"here");
    assert_eq!(mount.read("elsewhere").unwrap(), b"bucket");
    assert_eq!(mount.read("moved-dir/x").unwrap(), b"bucket");
}

#[test]
fn keys_in_awkward_order_at_page_and_span_ends_are_all_there() {
    let site = Site::new();
    let mut keys: BTreeSet<String> = BTreeSet::new();
    for i in 0..2_500 {
        keys.insert(format!("p-{i:05}"));
        keys.insert(format!("p.{i:05}/x"));
        keys.insert(format!("p/{i:05}"));
        keys.insert(format!("p/{:03}-a/{i:05}", i / 10));
    }
    for key in ["p", "p/100-a", "p-00999/in", "p0", "z/a", "z/a-b", "z/a/b"] {
        keys.insert(key.into());
    }
    for key in &keys {
        site.bucket().put(key, "x", []);
    }
    let mount = site.mount(&names_only());
    site.server.faults().set_latency(Duration::from_millis(5));
    let row = import(&mount, "", true);
    site.server.faults().set_latency(Duration::ZERO);
    // Four objects have names that are directories' too; one that a cut stands astride is recorded as hidden, but not as failed.
    assert_eq!((row.state, row.counters.total), (TaskState::Failed, keys.len() as u64), "{row:?}");
    assert!((1..=4).contains(&row.counters.failed), "{row:?}");
    assert!(row.last_error.contains("S3ObjectPathNotPosixCompliant"), "{}", row.last_error);
    site.server.requests().reset();
    assert_eq!(find(mount.root()), tree_of(keys.iter().map(String::as_str)));
    assert_eq!(requests(&site), 0);
    let other = site.place().elsewhere();
    assert_eq!(find(other.place.mount(&names_only()).root()), find(mount.root()), "as listings say it");
    let hidden = mount.fs.hidden_keys(10).unwrap().0;
    assert_eq!(hidden.len(), 4, "{hidden:?}");
}

#[test]
fn keys_that_no_tree_can_hold_fail_and_are_hidden() {
    let site = Site::new();
    for key in ["a//b", "a//c", "./x", "c/../d", "fine/f", "both", "both/in", &"n".repeat(256)] {
        site.bucket().put(key, "!", []);
    }
    let mount = site.mount(&lasting());
    let reports = tempfile::tempdir().unwrap();
    let request = TaskRequest {
        kind: TaskKind::Import,
        paths: vec![Vec::new()],
        options: [].into(),
        report: Some(reports.path().to_str().unwrap().into()),
    };
    let id = mount.fs.tasks().create(request).unwrap().id;
    let row = ended(&mount, id);
    assert_eq!((row.state, row.counters.failed, row.counters.succeeded), (TaskState::Failed, 6, 2), "{row:?}");
    assert_eq!(find(mount.root()), ["a", "both", "both/in", "c", "fine", "fine/f"].map(str::to_owned).into());
    let report = std::fs::read_to_string(reports.path().join(format!("task-{id}/report.csv"))).unwrap();
    let lines: BTreeSet<_> = report.lines().collect();
    assert!(lines.contains("a//b,failed,S3ObjectPathNotPosixCompliant") && lines.len() == 6, "{report}");
    assert_eq!(mount.fs.hidden_keys(10).unwrap().1, 5, "a// stands for two");
}

#[test]
fn attributes_and_links_come_with_the_import() {
    let site = Site::new();
    let posix = [("file-permissions", "0100640"), ("file-owner", "1234"), ("file-mtime", "1595002920000000001ns")];
    site.bucket().put("d/f", "data", posix);
    site.bucket().put("d/link", "f", [("file-permissions", "0120777")]);
    site.bucket().put("d/", "", [("file-permissions", "0040750"), ("file-group", "77")]);
    let mount = site.mount(&lasting());
    // Known without attributes before: the import reads them all the same.
    assert_eq!(std::fs::metadata(mount.path("d/f")).unwrap().uid(), 0);
    assert_eq!(succeeded(&import(&mount, "", false)), 3);
    site.server.requests().reset();
    eventually("the kernel heard of it", || std::fs::metadata(mount.path("d/f")).unwrap().uid() == 1234);
    let stat = std::fs::metadata(mount.path("d/f")).unwrap();
    assert_eq!((stat.permissions().mode() & 0o7777, stat.mtime(), stat.mtime_nsec()), (0o640, 1595002920, 1));
    assert_eq!(std::fs::read_link(mount.path("d/link")).unwrap().to_str(), Some("f"));
    let dir = std::fs::metadata(mount.path("d")).unwrap();
    assert_eq!((dir.permissions().mode() & 0o7777, dir.gid()), (0o750, 77));
    assert_eq!(requests(&site), 0);
}

#[test]
fn one_path_of_many_and_one_file() {
    let site = Site::new();
    for key in ["in/a/x", "in/b/y", "in/z", "out"] {
        site.bucket().put(key, "x", [("file-owner", "9")]);
    }
    let mount = site.mount(&Options { prefix: "/in".into(), ..lasting() });
    assert_eq!(succeeded(&import(&mount, "a", false)), 1);
    assert_eq!(succeeded(&import(&mount, "z", false)), 1);
    site.server.requests().reset();
    assert_eq!(std::fs::metadata(mount.path("a/x")).unwrap().uid(), 9);
    assert_eq!(std::fs::metadata(mount.path("z")).unwrap().uid(), 9);
    assert_eq!(find(&mount.path("a")), ["x".to_owned()].into());
    assert_eq!(requests(&site), 0);
    let row = import(&mount, "none", false);
    assert_eq!(row.state, TaskState::Failed);
    assert!(row.last_error.contains("'none' does not exist"), "{}", row.last_error);
}

#[test]
fn heads_that_are_denied_and_storms_of_503() {
    let site = Site::new();
    for i in 0..1_500 {
        site.bucket().put(&format!("d/{i:05}"), "x", [("file-owner", "9")]);
    }
    site.bucket().put("secret/f", "x", []);
    let denied = Fault::AccessDenied;
    site.server.faults().add(Rule::new(denied).on(Op::HeadObject).key_prefix("secret/"));
    let slow = Fault::SlowDown { retry_after_s: None };
    site.server.faults().add(Rule::new(slow).share(0.2).times(60));
    let mount = site.mount(&lasting());
    let row = import(&mount, "", false);
    assert_eq!((row.state, row.counters.failed, row.counters.succeeded), (TaskState::Failed, 1, 1_500), "{row:?}");
    assert!(row.last_error.starts_with("secret/f: S3AccessDenied"), "{}", row.last_error);
    assert!(site.server.faults().injected() > 30);
    assert_eq!(find(&mount.path("d")).len(), 1_500);
    assert_eq!(std::fs::metadata(mount.path("d/01499")).unwrap().uid(), 9);
}

#[test]
fn listings_and_local_changes_go_on_meanwhile() {
    let site = Site::new();
    let dirs = 40;
    for i in 0..8_000 {
        site.bucket().put(&format!("{:02}/{i:05}", i % dirs), "x", []);
    }
    let mount = site.mount(&Options {
        posix: PosixMetadata::Off,
        ttl: MetadataTtl::For(Duration::from_millis(200)),
        ..Options::default()
    });
    site.server.faults().set_latency(Duration::from_millis(10));
    let ids: Vec<u64> = (0..3).map(|_| start(&mount, "", true)).collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let mount = &mount;
            scope.spawn(move || {
                for round in 0..dirs {
                    let dir = format!("{:02}", (round + worker * 10) % dirs);
                    let made = mount.path(&format!("{dir}/made-{worker}"));
                    std::fs::write(&made, "here").unwrap();
                    let listed = std::fs::read_dir(mount.path(&dir)).unwrap().count();
                    assert!((200..=204).contains(&listed), "{listed} in {dir}");
                    assert_eq!(std::fs::read(&made).unwrap(), b"here");
                    if worker % 2 == 0 {
                        std::fs::remove_file(&made).unwrap();
                    }
                }
            });
        }
    });
    ids.into_iter().for_each(|id| assert_eq!(succeeded(&ended(&mount, id)), 8_000));
    site.server.faults().set_latency(Duration::ZERO);
    assert_eq!(find(mount.root()).len(), dirs + 8_000 + 2 * dirs);
}

#[test]
fn an_import_that_was_stopped_goes_on_at_the_next_mount() {
    let site = Site::new();
    for i in 0..12_000 {
        site.bucket().put(&format!("d{}/{i:06}", i % 4), "x", []);
    }
    let mount = site.mount(&lasting());
    site.server.faults().set_latency(Duration::from_millis(30));
    let id = start(&mount, "", true);
    eventually("some is done", || mount.fs.tasks().show(id).unwrap().row.counters.succeeded > 0);
    drop(mount);
    site.server.faults().set_latency(Duration::ZERO);
    let mount = site.mount(&lasting());
    let row = ended(&mount, id);
    assert_eq!(succeeded(&row), 12_000, "each once");
    site.server.requests().reset();
    assert_eq!(find(mount.root()).len(), 12_004);
    assert_eq!(requests(&site), 0);
}

#[test]
fn a_canceled_import_leaves_what_it_brought() {
    let site = Site::new();
    site.bucket().insert_synthetic(20_000, |i| format!("d/{i:06}"), 1);
    let mount = site.mount(&names_only());
    site.server.faults().set_latency(Duration::from_millis(50));
    let id = start(&mount, "", false);
    eventually("some is done", || mount.fs.tasks().show(id).unwrap().row.counters.succeeded > 0);
    mount.fs.tasks().cancel(id).unwrap();
    let row = ended(&mount, id);
    assert_eq!(row.state, TaskState::Canceled);
    assert!(row.counters.succeeded < 20_000 && !row.counters.total_is_final);
    site.server.faults().set_latency(Duration::ZERO);
    assert_eq!(find(&mount.path("d")).len(), 20_000, "a listing brings the rest");
}
