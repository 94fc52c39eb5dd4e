//! What was made and changed in a mount becomes objects, and what others make of them.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{MetadataTtl, OnConflict, PosixMetadata};
use forebay_daemon::ids::Ino;
use forebay_daemon::vfs::{ErrorCode, ExportEvents, ExportFailure, ExportResult, ExportTree};
use forebay_loopback_s3::{Fault, Op, Rule};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What an export did.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) sent: Mutex<Vec<PathBuf>>,
    pub(super) failed: Mutex<Vec<(PathBuf, ExportFailure)>>,
}

#[async_trait::async_trait]
impl ExportEvents for Seen {
    type Turn = ();

    async fn turn(&self) -> Option<()> {
        Some(())
    }

    fn ended(&self, path: &Path, result: &ExportResult) {
        match result {
            Ok(_) => self.sent.lock().expect("no panic").push(path.to_owned()),
            Err(failure) => self.failed.lock().expect("no panic").push((path.to_owned(), failure.clone())),
        }
    }

    fn is_canceled(&self) -> bool {
        false
    }
}

pub(super) fn export_as(mount: &Mounted, on_conflict: OnConflict, prune: bool) -> Seen {
    let seen = Seen::default();
    let how = ExportTree { root: Ino::ROOT, on_conflict, prune };
    mount.fs.runtime().block_on(mount.fs.vfs().export_tree(how, PathBuf::new(), &seen)).expect("the tree can be read");
    seen
}

/// Exports everything and expects it to work; returns the paths that were sent.
pub(super) fn export(mount: &Mounted) -> Vec<PathBuf> {
    let seen = export_as(mount, OnConflict::Fail, false);
    assert!(seen.failed.lock().expect("no panic").is_empty(), "{:?}", seen.failed);
    let mut sent = seen.sent.into_inner().expect("no panic");
    sent.sort();
    sent
}

pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn writes(site: &Site) -> u64 {
    [Op::PutObject, Op::CopyObject, Op::CreateUpload, Op::DeleteObject].iter().map(|op| site.count(*op)).sum()
}

/// Mode, owner, group, size, time in ns, content.
type Found = (u32, u32, u32, u64, i128, Vec<u8>);

/// Everything below a directory.
pub(super) fn tree(root: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(root.join(&dir)).expect("lists") {
            let path = dir.join(entry.expect("an entry").file_name());
            let full = root.join(&path);
            let stat = full.symlink_metadata().expect("stats");
            let content = if stat.is_file() {
                std::fs::read(&full).expect("reads")
            } else if stat.is_symlink() {
                full.read_link().expect("a target").into_os_string().into_encoded_bytes()
            } else {
                dirs.push(path.clone());
                Vec::new()
            };
            let mtime = i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
            let size = if stat.is_dir() { 0 } else { stat.size() };
            found.insert(path, (stat.mode(), stat.uid(), stat.gid(), size, mtime, content));
        }
    }
    found
}

/// A tree of all that can be exported.
fn plant(root: &Path) {
    std::fs::create_dir_all(root.join("deep/er")).expect("makes directories");
    std::fs::create_dir(root.join("empty")).expect("makes a directory");
    std::fs::write(root.join("none"), b"").expect("writes");
    std::fs::write(root.join("small.json"), b"{}").expect("writes");
    std::fs::write(root.join("deep/er/odd name +%ü&"), noise(1, 300_000)).expect("writes");
    std::fs::write(root.join("deep/large.bin"), noise(2, 40 << 20)).expect("writes");
    let sparse = std::fs::File::create(root.join("deep/sparse")).expect("makes");
    sparse.set_len(3 << 20).expect("grows");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 1 << 20).expect("writes");
    symlink("../small.json", root.join("deep/link")).expect("links");
    std::fs::hard_link(root.join("small.json"), root.join("deep/twin.json")).expect("links");
    std::fs::set_permissions(root.join("small.json"), PermissionsExt::from_mode(0o640)).expect("sets a mode");
    std::fs::set_permissions(root.join("deep/er"), PermissionsExt::from_mode(0o1777)).expect("sets a mode");
    std::os::unix::fs::chown(root.join("none"), Some(1000), Some(1001)).expect("sets an owner");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    std::fs::File::open(root.join("none")).expect("opens").set_modified(time).expect("sets a time");
}

#[test]
fn a_tree_that_was_exported_is_the_same_in_a_fresh_mount() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    plant(mount.root());
    let before = tree(mount.root());
    let sent = export(&mount);
    assert_eq!(sent.len(), before.len() - 1, "each but the further name: {sent:?}");
    assert_eq!(tree(mount.root()), before, "nothing changed here");
    let head = site.bucket().get("small.json").expect("an object");
    let metadata = head.object.as_ref().expect("not a deletion").user_metadata();
    assert_eq!(metadata.get("file-permissions").map(String::as_str), Some("0100640"));
    assert_eq!(metadata.get("file-owner").map(String::as_str), Some("0"));
    assert!(metadata.get("file-mtime").is_some_and(|time| time.ends_with("ns")) && metadata.contains_key("file-atime"));

    let puts = writes(&site);
    assert_eq!(export(&mount), Vec::<PathBuf>::new(), "all of it is there");
    assert_eq!(writes(&site), puts);
    eventually("nothing exists only here", || mount.fs.status().cache.held_bytes == 0);
    drop(mount);

    let elsewhere = site.place().elsewhere();
    let eager = Options { posix: PosixMetadata::Eager, ..Options::default() };
    let fresh = elsewhere.place.mount(&eager);
    // What a directory's marker says is known a moment after the directory was listed.
    eventually("directories have their attributes", || {
        let after = tree(fresh.root());
        before.iter().all(|(path, planted)| planted.5 != b"" || after.get(path) == Some(planted))
    });
    let after = tree(fresh.root());
    for (path, planted) in &before {
        let found = after.get(path).unwrap_or_else(|| panic!("{} is missing", path.display()));
        let attributes = |of: &Found| (of.0, of.1, of.2, of.3, of.4);
        assert_eq!(attributes(found), attributes(planted), "{}", path.display());
        assert!(found.5 == planted.5, "the content of {}", path.display());
    }
    assert_eq!(after.len(), before.len());
    drop(fresh);
    let again = site.mount(&Options::default());
    assert_eq!(tree(again.root()), before, "and after a remount of the first cache");
    assert!(site.bucket().uploads().is_empty());
}

pub(super) fn body(site: &Site, key: &str) -> Option<Vec<u8>> {
    site.bucket().bytes(key).map(|bytes| bytes.to_vec())
}

pub(super) fn expect_failure(seen: &Seen, path: &str, code: ErrorCode) {
    let failed = seen.failed.lock().expect("no panic");
    let codes: Vec<_> = failed.iter().map(|(path, failure)| (path.to_string_lossy().into_owned(), failure.code)).collect();
    assert_eq!(codes, [(path.to_owned(), code)], "{failed:?}");
}

#[test]
fn changes_go_out_and_nothing_else_does() {
    let site = Site::new();
    let large = noise(3, 1 << 20);
    site.bucket().put("a", large.clone(), []);
    site.bucket().put("b/c", "cc", [("theirs", "kept")]);
    site.bucket().put("b/d", "dd", []);
    site.bucket().put("b/e", "ee", []);
    let mount = site.mount(&Options::default());
    let a = std::fs::OpenOptions::new().write(true).open(mount.path("a")).expect("opens");
    std::os::unix::fs::FileExt::write_all_at(&a, b"changed", 500_000).expect("writes");
    std::fs::set_permissions(mount.path("b/c"), PermissionsExt::from_mode(0o600)).expect("sets a mode");
    std::fs::rename(mount.path("b/d"), mount.path("moved")).expect("renames");
    std::fs::remove_file(mount.path("b/e")).expect("removes");
    drop(a);
    site.server.requests().reset();
    assert_eq!(export(&mount), [Path::new("a"), Path::new("b/c"), Path::new("b/d"), Path::new("moved")]);
    assert_eq!((site.count(Op::PutObject), site.count(Op::CopyObject), site.count(Op::DeleteObject)), (1, 2, 1));
    let mut expected = large;
    expected[500_000..500_007].copy_from_slice(b"changed");
    assert!(body(&site, "a") == Some(expected));
    assert_eq!((body(&site, "b/c"), body(&site, "moved")), (Some(b"cc".to_vec()), Some(b"dd".to_vec())));
    let metadata = site.bucket().get("b/c").expect("an object").object.as_ref().expect("not a deletion").user_metadata();
    assert_eq!(metadata.get("file-permissions").map(String::as_str), Some("0100600"));
    assert_eq!(metadata.get("theirs").map(String::as_str), Some("kept"), "what others said about it stays");
    assert_eq!(site.bucket().keys(), ["a", "b/c", "b/e", "moved"], "a deletion is exported when it is asked for");
    assert!(!mount.path("b/e").exists() && !mount.path("b/d").exists());
    let seen = export_as(&mount, OnConflict::Fail, true);
    assert_eq!(*seen.sent.lock().expect("no panic"), [Path::new("b/e")]);
    assert_eq!(site.bucket().keys(), ["a", "b/c", "moved"]);
    assert_eq!(export(&mount), Vec::<PathBuf>::new());
    assert_eq!(mount.read("moved").expect("reads"), b"dd");
}

#[test]
fn a_moved_directory_is_copied_at_the_server_and_the_old_one_goes() {
    let site = Site::new();
    for at in 0..2500 {
        site.bucket().put(&format!("old/{at:04}"), format!("content {at}"), []);
    }
    site.bucket().put("old/sub/deeper/x", "xx", []);
    site.bucket().put("older", "stays", []);
    let mount = site.mount(&Options::default());
    std::fs::rename(mount.path("old"), mount.path("new")).expect("renames");
    std::fs::write(mount.path("new/made here"), "before the export").expect("writes");
    std::fs::remove_file(mount.path("new/0007")).expect("removes");
    site.server.requests().reset();
    let seen = export_as(&mount, OnConflict::Fail, true);
    assert!(seen.failed.lock().expect("no panic").is_empty(), "{:?}", seen.failed);
    assert_eq!(site.count(Op::GetObject), 0, "no data moves");
    let mut expected: Vec<String> = (0..2500).filter(|at| *at != 7).map(|at| format!("new/{at:04}")).collect();
    expected.extend(["new/", "new/made here", "new/sub/", "new/sub/deeper/", "new/sub/deeper/x", "older"].map(str::to_owned));
    expected.sort();
    let there = site.bucket().keys();
    assert_eq!(there.iter().filter(|key| !expected.contains(key)).collect::<Vec<_>>(), Vec::<&String>::new());
    for key in ["new/0000", "new/2499", "new/made here", "new/sub/deeper/x", "older"] {
        assert!(there.contains(&key.to_owned()), "{key}");
    }
    assert_eq!(there.iter().filter(|key| key.starts_with("new/") && !key.ends_with('/')).count(), 2501);
    assert_eq!(mount.read("new/1234").expect("reads"), b"content 1234");
    assert_eq!(mount.read("new/sub/deeper/x").expect("reads"), b"xx");
    assert_eq!(export(&mount), Vec::<PathBuf>::new());
    // From now on the bucket has a say in it again.
    let names = |mount: &Mounted| std::fs::read_dir(mount.path("new")).expect("lists").count();
    assert_eq!(names(&mount), 2501);
    drop(mount);
    let elsewhere = site.place().elsewhere();
    assert_eq!(names(&elsewhere.place.mount(&Options::default())), 2501);
}

#[test]
fn two_objects_that_changed_places_keep_their_bytes() {
    let site = Site::new();
    let (one, other) = (noise(4, 700_000), noise(5, 300_000));
    site.bucket().put("one", one.clone(), []);
    site.bucket().put("other", other.clone(), []);
    let mount = site.mount(&Options::default());
    std::fs::rename(mount.path("one"), mount.path("aside")).expect("renames");
    std::fs::rename(mount.path("other"), mount.path("one")).expect("renames");
    std::fs::rename(mount.path("aside"), mount.path("other")).expect("renames");
    export(&mount);
    assert!(body(&site, "one") == Some(other.clone()) && body(&site, "other") == Some(one.clone()));
    assert_eq!(site.bucket().keys(), ["one", "other"]);
    assert!(mount.read("one").expect("reads") == other && mount.read("other").expect("reads") == one);
}

#[test]
fn what_both_sides_changed_is_told_and_kept_unless_asked_otherwise() {
    let site = Site::new();
    site.bucket().put("both", "first", []);
    site.bucket().put("gone", "first", []);
    let mount = site.mount(&Options::default());
    for name in ["both", "gone"] {
        assert_eq!(mount.read(name).expect("reads"), b"first");
        std::fs::write(mount.path(name), "ours").expect("writes");
    }
    std::fs::write(mount.path("new"), "ours").expect("writes");
    site.bucket().put("both", "theirs", []);
    site.bucket().delete("gone");
    site.bucket().put("new", "theirs", []);

    let seen = export_as(&mount, OnConflict::Fail, false);
    let mut failed: Vec<_> =
        seen.failed.lock().expect("no panic").iter().map(|(path, failure)| (path.clone(), failure.code)).collect();
    failed.sort();
    assert_eq!(failed, ["both", "gone", "new"].map(|name| (PathBuf::from(name), ErrorCode::S3Conflict)));
    let theirs = || (body(&site, "both"), body(&site, "gone"), body(&site, "new"));
    assert_eq!(theirs(), (Some(b"theirs".to_vec()), None, Some(b"theirs".to_vec())));
    let seen = export_as(&mount, OnConflict::Skip, false);
    assert!(seen.failed.lock().expect("no panic").is_empty());
    assert_eq!(theirs(), (Some(b"theirs".to_vec()), None, Some(b"theirs".to_vec())));
    assert_eq!(mount.read("both").expect("reads"), b"ours", "and ours is here");
    let seen = export_as(&mount, OnConflict::Overwrite, false);
    assert!(seen.failed.lock().expect("no panic").is_empty());
    let ours = Some(b"ours".to_vec());
    assert_eq!(theirs(), (ours.clone(), ours.clone(), ours));
}

#[test]
fn what_was_deleted_here_and_changed_there_stays_there() {
    let site = Site::new();
    site.bucket().put("f", "first", []);
    let mount = site.mount(&Options::default());
    std::fs::remove_file(mount.path("f")).expect("removes");
    site.bucket().put("f", "theirs", []);
    expect_failure(&export_as(&mount, OnConflict::Fail, true), "f", ErrorCode::S3Conflict);
    assert_eq!(body(&site, "f"), Some(b"theirs".to_vec()));
}

#[test]
fn an_object_is_one_version_of_the_file_however_fast_it_is_written() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    const LEN: usize = 3 << 20;
    std::fs::write(mount.path("f"), vec![0; LEN]).expect("writes");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::OpenOptions::new().write(true).open(mount.path("f")).expect("opens");
            for version in (1..=255u8).cycle() {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                // One write of the kernel's at a time: the file is a mixture between them, which nobody may see in the bucket alone.
                for at in (0..LEN).step_by(1 << 20) {
                    std::os::unix::fs::FileExt::write_all_at(&file, &vec![version; 1 << 20], at as u64).expect("writes");
                }
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
        });
        for _ in 0..3 {
            let _ = export_as(&mount, OnConflict::Fail, false);
            if let Some(object) = body(&site, "f") {
                let firsts: Vec<u8> = object.chunks(1 << 20).map(|part| part[0]).collect();
                assert!(object.chunks(1 << 20).all(|part| part.iter().all(|byte| *byte == part[0])), "a torn write: {firsts:?}");
                assert!(
                    firsts.is_sorted_by(|a, b| a >= b || (*a == 1 && *b == 255)),
                    "later parts are not newer than earlier ones: {firsts:?}"
                );
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    export(&mount);
    assert!(body(&site, "f") == Some(mount.read("f").expect("reads")));
}

#[test]
fn who_reads_a_file_while_it_is_exported_and_its_object_replaced_gets_its_bytes() {
    let site = Site::new();
    let object = noise(6, 24 << 20);
    site.bucket().put("f", object.clone(), []);
    let mount = site.mount(&Options::default());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(mount.path("f")).expect("opens");
    let mut expected = object;
    for round in 0..6_u8 {
        let at = usize::from(round) * 4_000_000 + 17;
        std::os::unix::fs::FileExt::write_all_at(&file, &[round; 9], at as u64).expect("writes");
        expected[at..at + 9].fill(round);
        std::thread::scope(|scope| {
            let exported = scope.spawn(|| export(&mount));
            for nth in 0..200_usize {
                let from = nth * 7919 * 13 % (expected.len() - 5000);
                let mut read = vec![0; 5000];
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut read, from as u64).expect("reads");
                assert!(read == expected[from..from + 5000], "round {round}, at {from}");
            }
            exported.join().expect("exports");
        });
        assert!(body(&site, "f").as_ref() == Some(&expected), "round {round}");
    }
}

#[test]
fn what_was_on_its_way_from_the_old_object_never_shows_in_the_new_one() {
    const BLOCK: usize = 128 << 10;
    let site = Site::new();
    let old = noise(7, 4 * BLOCK);
    site.bucket().put("f", old.clone(), []);
    let mount = site.mount(&Options::default());
    // Past the page cache: else the kernel would keep the writer waiting for the reader.
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(direct).open(mount.path("f")).expect("opens");
    let slow = Fault::Stall { after_bytes: 1000, pause: std::time::Duration::from_millis(1500) };
    site.server.faults().add(Rule::new(slow).on(Op::GetObject).times(1));
    let new = noise(8, BLOCK);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| std::os::unix::fs::FileExt::read_exact_at(&file, &mut [0; 100], 0));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let writer = std::fs::OpenOptions::new().write(true).open(mount.path("f")).expect("opens");
        std::os::unix::fs::FileExt::write_all_at(&writer, &new, 0).expect("writes");
        writer.sync_all().expect("syncs");
        export(&mount);
        reader.join().expect("no panic").expect("reads one or the other");
    });
    let expected = [&new[..], &old[BLOCK..]].concat();
    assert!(body(&site, "f").as_ref() == Some(&expected));
    for _ in 0..3 {
        mount.forget_pages("f");
        assert!(mount.read("f").expect("reads") == expected);
        mount.settle();
    }
    drop(file);
    drop(mount);
    assert!(site.mount(&Options::default()).read("f").expect("reads") == expected, "after a remount");
}

#[test]
fn a_new_directory_in_the_place_of_a_moved_one_waits_for_it() {
    let site = Site::new();
    for name in ["x", "y", "sub/z"] {
        site.bucket().put(&format!("a/{name}"), format!("old {name}"), []);
    }
    let mount = site.mount(&Options::default());
    std::fs::rename(mount.path("a"), mount.path("b")).expect("renames");
    std::fs::create_dir_all(mount.path("a/sub")).expect("makes directories");
    for name in ["x", "sub/z"] {
        std::fs::write(mount.path(&format!("a/{name}")), format!("new {name}")).expect("writes");
    }
    let seen = export_as(&mount, OnConflict::Overwrite, true);
    assert!(seen.failed.lock().expect("no panic").is_empty(), "{:?}", seen.failed);
    for (key, expected) in
        [("a/x", "new x"), ("a/sub/z", "new sub/z"), ("b/x", "old x"), ("b/y", "old y"), ("b/sub/z", "old sub/z")]
    {
        assert_eq!(body(&site, key).as_deref(), Some(expected.as_bytes()), "{key}");
        assert_eq!(mount.read(key).expect("reads"), expected.as_bytes(), "{key}");
    }
    assert_eq!(body(&site, "a/y"), None);
    assert_eq!(export(&mount), Vec::<PathBuf>::new());
}

/// A mount that asks the bucket each time.
fn curious() -> Options {
    Options { ttl: MetadataTtl::For(std::time::Duration::ZERO), ..Options::default() }
}

pub(super) fn names(mount: &Mounted, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(mount.path(dir)).expect("lists");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn a_file_whose_object_was_replaced_before_all_of_it_was_here_is_a_conflict() {
    let site = Site::new();
    site.bucket().put("f", noise(9, 4 << 20), []);
    let mount = site.mount(&Options::default());
    let file = std::fs::OpenOptions::new().write(true).open(mount.path("f")).expect("opens");
    std::os::unix::fs::FileExt::write_all_at(&file, b"ours", 10).expect("writes");
    file.sync_all().expect("syncs");
    site.bucket().put("f", "theirs", []);
    let seen = export_as(&mount, OnConflict::Fail, false);
    assert_eq!(seen.failed.lock().expect("no panic").len(), 1, "and it ends");
    assert_eq!(body(&site, "f"), Some(b"theirs".to_vec()));
}

#[test]
fn markers_and_empty_directories_move_with_their_parents() {
    let site = Site::new();
    let mount = site.mount(&curious());
    std::fs::create_dir_all(mount.path("a/b")).expect("makes directories");
    std::fs::create_dir(mount.path("a/empty")).expect("makes a directory");
    std::fs::write(mount.path("a/b/f"), "content").expect("writes");
    std::fs::set_permissions(mount.path("a/empty"), PermissionsExt::from_mode(0o700)).expect("sets a mode");
    export(&mount);
    assert_eq!(site.bucket().keys(), ["a/", "a/b/", "a/b/f", "a/empty/"]);
    std::fs::rename(mount.path("a"), mount.path("c")).expect("renames");
    export(&mount);
    assert_eq!(site.bucket().keys(), ["c/", "c/b/", "c/b/f", "c/empty/"]);
    assert_eq!((names(&mount, ""), names(&mount, "c")), (vec!["c".to_owned()], vec!["b".to_owned(), "empty".to_owned()]));
    assert_eq!(export(&mount), Vec::<PathBuf>::new());
}

#[test]
fn names_that_were_taken_away_stay_away() {
    let site = Site::new();
    for key in ["d/one", "d/two", "gone/x"] {
        site.bucket().put(key, "old", []);
    }
    let mount = site.mount(&curious());
    std::fs::write(mount.path("a"), "linked").expect("writes");
    std::fs::hard_link(mount.path("a"), mount.path("b")).expect("links");
    std::fs::hard_link(mount.path("a"), mount.path("c")).expect("links");
    export(&mount);
    // A further name, then the file's own.
    std::fs::remove_file(mount.path("b")).expect("removes");
    std::fs::remove_file(mount.path("a")).expect("removes");
    // A directory that is made anew, and one whose name a file has.
    std::fs::remove_dir_all(mount.path("d")).expect("removes");
    std::fs::create_dir(mount.path("d")).expect("makes a directory");
    std::fs::write(mount.path("d/new"), "new").expect("writes");
    std::fs::remove_dir_all(mount.path("gone")).expect("removes");
    std::fs::write(mount.path("gone"), "a file").expect("writes");
    let check = |mount: &Mounted| {
        assert_eq!(
            (names(mount, ""), names(mount, "d")),
            (vec!["c".to_owned(), "d".to_owned(), "gone".to_owned()], vec!["new".to_owned()])
        );
        assert_eq!(
            (mount.read("c").expect("reads"), mount.read("gone").expect("reads")),
            (b"linked".to_vec(), b"a file".to_vec())
        );
    };
    check(&mount);
    export(&mount);
    check(&mount);
    let seen = export_as(&mount, OnConflict::Fail, true);
    assert!(seen.failed.lock().expect("no panic").is_empty(), "{:?}", seen.failed);
    check(&mount);
    assert_eq!(site.bucket().keys(), ["c", "d/", "d/new", "gone"]);
    drop(mount);
    check(&site.mount(&curious()));
}

#[test]
fn a_directory_that_is_moved_while_a_file_in_it_is_sent_keeps_the_file() {
    let site = Site::new();
    let mount = site.mount(&curious());
    std::fs::create_dir(mount.path("p")).expect("makes a directory");
    std::fs::write(mount.path("p/f"), "content").expect("writes");
    let slow = Fault::Delay(std::time::Duration::from_millis(800));
    site.server.faults().add(Rule::new(slow).on(Op::PutObject).key_prefix("p/f").times(1));
    std::thread::scope(|scope| {
        let exported = scope.spawn(|| export_as(&mount, OnConflict::Fail, false));
        std::thread::sleep(std::time::Duration::from_millis(300));
        std::fs::rename(mount.path("p"), mount.path("q")).expect("renames");
        exported.join().expect("no panic");
    });
    for _ in 0..2 {
        assert_eq!(names(&mount, "q"), ["f"]);
        export_as(&mount, OnConflict::Fail, true);
    }
    assert_eq!(mount.read("q/f").expect("reads"), b"content");
    assert_eq!(site.bucket().keys(), ["q/", "q/f"]);
}
