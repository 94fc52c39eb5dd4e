//! Several buckets in one tree: links between directories and prefixes, made, used, changed and deleted.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{AutoExport, OnConflict};
use forebay_daemon::error::{ErrorKind, Result};
use forebay_daemon::format::located::locate;
use forebay_daemon::ids::Ino;
use forebay_daemon::meta::{AssociationState, DefaultAttrs, EventBits, MetaConfig, MetaStore};
use forebay_daemon::vfs::{AssociationChange, AssociationView, ExportEvents, ExportResult, ExportTree, NewAssociation};
use forebay_loopback_s3::{BucketHandle, Fault, Op, Rule};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

const EVERYTHING: AutoExport = AutoExport { new: true, changed: true, deleted: true, on_conflict: OnConflict::Fail };

fn unlinked() -> Options {
    Options { unlinked: true, ..Options::default() }
}

fn bucket(site: &Site, name: &str) -> BucketHandle {
    site.server.create_bucket(name).expect("a new bucket")
}

fn link(site: &Site, mount: &Mounted, path: &str, url: &str, auto_export: AutoExport) -> Result<AssociationView> {
    let new = NewAssociation {
        path: path.as_bytes().to_vec(),
        settings: site.place().repository(url),
        auto_import: EventBits::default(),
        auto_export,
        further: BTreeMap::new(),
    };
    mount.fs.runtime().block_on(mount.fs.vfs().create_association(new))
}

fn linked(site: &Site, mount: &Mounted, path: &str, url: &str) {
    let made = link(site, mount, path, url, AutoExport::default()).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!((made.state, made.path.as_slice()), (AssociationState::Available, path.as_bytes()));
}

fn at(mount: &Mounted, path: &str) -> Option<AssociationView> {
    match mount.fs.runtime().block_on(mount.fs.vfs().association_at(path.as_bytes())) {
        Ok(found) => Some(found),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(error) => panic!("{path}: {error}"),
    }
}

fn delete(mount: &Mounted, path: &str, delete_data: bool) {
    let deleting = mount.fs.runtime().block_on(mount.fs.vfs().delete_association(path.as_bytes(), delete_data)).expect("begins");
    assert_eq!(deleting.state, AssociationState::Deleting);
}

/// Exports everything; what failed.
fn export(mount: &Mounted) -> Vec<String> {
    #[derive(Default)]
    struct Failed(Mutex<Vec<String>>);
    #[async_trait::async_trait]
    impl ExportEvents for Failed {
        type Turn = ();
        async fn turn(&self) -> Option<()> {
            Some(())
        }
        fn ended(&self, path: &Path, result: &ExportResult) {
            if let Err(failure) = result {
                self.0.lock().expect("no panic").push(format!("{}: {failure}", path.display()));
            }
        }
        fn is_canceled(&self) -> bool {
            false
        }
    }
    let failed = Failed::default();
    let how = ExportTree { root: Ino::ROOT, on_conflict: OnConflict::Fail, prune: true };
    mount.fs.runtime().block_on(mount.fs.vfs().export_tree(how, PathBuf::new(), &failed)).expect("the tree can be read");
    failed.0.into_inner().expect("no panic")
}

fn names(mount: &Mounted, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(mount.path(dir)).unwrap_or_else(|error| panic!("{dir}: {error}"));
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn two_buckets_in_one_tree_are_read_and_written_also_after_a_remount() {
    let site = Site::new();
    let (one, two) = (bucket(&site, "one"), bucket(&site, "two"));
    one.put("x/y", "first", []);
    two.put("data/z", "second", []);
    two.put("elsewhere", "not ours", []);
    {
        let mount = site.mount(&unlinked());
        std::fs::write(mount.path("here"), "only here").expect("writes outside of every bucket");
        linked(&site, &mount, "a", "s3://one");
        let made = link(&site, &mount, "deep/down", "s3://two/data", EVERYTHING).expect("links");
        assert_eq!(made.url, "s3://two/data");
        assert_eq!(
            (names(&mount, ""), names(&mount, "deep/down")),
            (vec!["a".into(), "deep".into(), "here".into()], vec!["z".to_owned()])
        );
        assert_eq!(
            (mount.read("a/x/y").expect("reads"), mount.read("deep/down/z").expect("reads")),
            (b"first".to_vec(), b"second".to_vec())
        );
        std::fs::write(mount.path("deep/down/new"), "sent").expect("writes");
        std::fs::write(mount.path("a/new"), "not sent").expect("writes");
        std::fs::remove_file(mount.path("deep/down/z")).expect("removes");
        eventually("what is new is in its bucket", || two.bytes("data/new").is_some_and(|body| body == "sent"));
        eventually("what was removed is gone", || two.bytes("data/z").is_none());
        assert_eq!(one.keys(), ["x/y"], "nothing is sent to the other by itself");
    }
    let mount = site.mount(&unlinked());
    let all: Vec<_> = mount.fs.vfs().associations().into_iter().map(|view| (view.path, view.url)).collect();
    assert_eq!(all, [(b"a".to_vec(), "s3://one".to_owned()), (b"deep/down".to_vec(), "s3://two/data".to_owned())]);
    assert_eq!(
        (mount.read("deep/down/new").expect("reads"), mount.read("here").expect("reads")),
        (b"sent".to_vec(), b"only here".to_vec())
    );
    assert_eq!(export(&mount), Vec::<String>::new());
    assert_eq!(
        (one.keys(), one.bytes("new").expect("sent").as_ref()),
        (vec!["new".to_owned(), "x/y".to_owned()], b"not sent".as_slice())
    );
    assert_eq!(two.keys(), ["data/new", "elsewhere"], "nothing from outside goes anywhere");
    std::fs::write(mount.path("deep/down/later"), "sent too").expect("writes");
    eventually("the policy is remembered", || two.bytes("data/later").is_some());
}

#[test]
fn nothing_overlaps_on_either_side() {
    let site = Site::new();
    bucket(&site, "one");
    let other = site.place().elsewhere();
    let mount = site.mount(&unlinked());
    linked(&site, &mount, "a/b", "s3://one/p");
    for (path, url, why) in [
        ("a/b", "s3://one/q", "overlaps with '/a/b'"),
        ("a/b/c", "s3://one/q", "overlaps with '/a/b'"),
        ("a", "s3://one/q", "overlaps with '/a/b'"),
        ("", "s3://one/q", "the root is linked by 'forebay mount'"),
        ("c", "s3://one/p/deeper", "overlaps with s3://one/p"),
        ("c", "s3://one", "overlaps with s3://one/p"),
        ("c", "s3://absent", "does not exist"),
        ("c", "nonsense", "is not a repository"),
    ] {
        let refused = link(&site, &mount, path, url, AutoExport::default()).expect_err(path);
        assert!(refused.message.contains(why), "{path} {url}: {refused}");
    }
    linked(&site, &mount, "ab", "s3://one/pq");
    assert_eq!(
        (mount.fs.vfs().associations().len(), names(&mount, "")),
        (2, vec!["a".to_owned(), "ab".to_owned()]),
        "nothing else was made"
    );
    let rooted = other.place.mount(&Options::default());
    let refused = link(&site, &rooted, "c", "s3://one", AutoExport::default()).expect_err("the root has all of it");
    assert!(refused.message.contains("mount a file system of several buckets with 'none'"), "{refused}");
}

#[test]
fn a_linked_directory_and_those_above_it_stay_where_they_are() {
    let site = Site::new();
    bucket(&site, "one").put("x", "1", []);
    let mount = site.mount(&unlinked());
    std::fs::create_dir(mount.path("other")).expect("makes a directory");
    linked(&site, &mount, "above/linked", "s3://one");
    let busy = |result: std::io::Result<()>| assert_eq!(result.expect_err("refused").raw_os_error(), Some(libc::EBUSY));
    busy(std::fs::rename(mount.path("above/linked"), mount.path("moved")));
    busy(std::fs::rename(mount.path("above"), mount.path("moved")));
    busy(std::fs::rename(mount.path("other"), mount.path("above/linked")));
    std::fs::remove_file(mount.path("above/linked/x")).expect("removes what is in it");
    busy(std::fs::remove_dir(mount.path("above/linked")));
    std::fs::rename(mount.path("other"), mount.path("free")).expect("others move");
}

#[test]
fn what_moves_from_one_bucket_to_another_is_sent_there_and_goes_here() {
    let site = Site::new();
    let (one, two) = (bucket(&site, "one"), bucket(&site, "two"));
    let large: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 31) >> 7) as u8).collect();
    one.put("file", large.clone(), []);
    one.put("tree/a", "a", []);
    one.put("tree/sub/b", "b", []);
    let mount = site.mount(&unlinked());
    linked(&site, &mount, "one", "s3://one");
    linked(&site, &mount, "two", "s3://two/in");
    std::fs::rename(mount.path("one/file"), mount.path("two/file")).expect("moves a file");
    std::fs::rename(mount.path("one/tree"), mount.path("two/tree")).expect("moves a tree nobody looked into");
    assert_eq!(export(&mount), Vec::<String>::new());
    assert_eq!(export(&mount), Vec::<String>::new());
    let there: Vec<_> = two.keys().into_iter().filter(|key| !key.ends_with('/')).collect();
    assert_eq!(there, ["in/file", "in/tree/a", "in/tree/sub/b"]);
    assert_eq!(
        (two.bytes("in/file").expect("sent").as_ref(), two.bytes("in/tree/sub/b").expect("sent").as_ref()),
        (large.as_slice(), b"b".as_slice())
    );
    assert_eq!(one.keys(), Vec::<String>::new(), "nothing is left where it came from");
    assert_eq!((mount.read("two/file").expect("reads"), mount.read("two/tree/a").expect("reads")), (large, b"a".to_vec()));
}

#[test]
fn what_leaves_every_bucket_stays_here() {
    let site = Site::new();
    let one = bucket(&site, "one");
    one.put("file", "content", []);
    let mount = site.mount(&unlinked());
    linked(&site, &mount, "one", "s3://one");
    std::fs::rename(mount.path("one/file"), mount.path("file")).expect("moves it out");
    assert_eq!(export(&mount), Vec::<String>::new());
    assert_eq!(one.keys(), ["file"], "its bytes are nowhere else");
    assert_eq!(mount.read("file").expect("reads"), b"content");
}

#[test]
fn a_deleted_association_leaves_all_files_here_and_all_objects_there() {
    let site = Site::new();
    let one = bucket(&site, "one");
    let large: Vec<u8> = (0..2_000_000u32).map(|i| ((i * 17) >> 5) as u8).collect();
    one.put("tree/large", large.clone(), []);
    one.put("tree/empty", "", []);
    one.put("small", "small", []);
    {
        let mount = site.mount(&unlinked());
        linked(&site, &mount, "d", "s3://one");
        std::fs::write(mount.path("d/made"), "here").expect("writes");
        std::fs::write(mount.path("d/small"), "changed").expect("overwrites");
        delete(&mount, "d", false);
        eventually("it is deleted", || at(&mount, "d").is_none());
        assert_eq!(one.keys(), ["small", "tree/empty", "tree/large"]);
        for key in one.keys() {
            one.delete(&key);
        }
        assert_eq!(mount.read("d/tree/large").expect("reads"), large);
        assert_eq!(mount.fs.vfs().associations().len(), 0);
        std::fs::rename(mount.path("d"), mount.path("e")).expect("it moves again");
    }
    let mount = site.mount(&unlinked());
    assert_eq!(
        (names(&mount, "e"), names(&mount, "e/tree")),
        (vec!["made".into(), "small".into(), "tree".into()], vec!["empty".to_owned(), "large".into()])
    );
    assert_eq!((mount.read("e/tree/large").expect("reads"), mount.read("e/small").expect("reads")), (large, b"changed".to_vec()));
    assert_eq!(
        (mount.read("e/tree/empty").expect("reads"), mount.read("e/made").expect("reads")),
        (Vec::new(), b"here".to_vec())
    );
}

#[test]
fn an_association_deleted_with_its_data_leaves_an_empty_directory_and_all_objects() {
    let site = Site::new();
    let one = bucket(&site, "one");
    one.put("tree/a", "a", []);
    one.put("b", "b", []);
    let mount = site.mount(&unlinked());
    linked(&site, &mount, "d", "s3://one");
    assert_eq!(mount.read("d/tree/a").expect("reads"), b"a");
    std::fs::write(mount.path("d/made"), "here").expect("writes");
    delete(&mount, "d", true);
    eventually("it is deleted", || at(&mount, "d").is_none());
    assert_eq!((names(&mount, "d"), one.keys()), (Vec::<String>::new(), vec!["b".to_owned(), "tree/a".to_owned()]));
    assert_eq!(export(&mount), Vec::<String>::new());
    assert_eq!(one.keys().len(), 2, "nor is anything removed there later");
    linked(&site, &mount, "d", "s3://one");
    assert_eq!(mount.read("d/tree/a").expect("linked again, it is all there"), b"a");
}

#[test]
fn a_deletion_that_cannot_be_done_says_why_and_is_done_later() {
    let site = Site::new();
    let one = bucket(&site, "one");
    one.put("file", "content", []);
    let mount = site.mount(&Options { deadline: Duration::from_secs(1), ..unlinked() });
    linked(&site, &mount, "d", "s3://one");
    assert_eq!(names(&mount, "d"), ["file"]);
    site.server.faults().add(Rule::new(Fault::SlowDown { retry_after_s: None }).on(Op::GetObject));
    delete(&mount, "d", false);
    eventually("it fails", || at(&mount, "d").is_some_and(|view| view.state == AssociationState::Failed));
    let failed = at(&mount, "d").expect("it is there");
    assert!(failed.failure.contains("could not be brought here"), "{}", failed.failure);
    site.server.faults().clear();
    assert_eq!(mount.read("d/file").expect("it is linked still"), b"content");
    delete(&mount, "d", false);
    eventually("it is deleted", || at(&mount, "d").is_none());
    one.delete("file");
    assert_eq!(mount.read("d/file").expect("reads"), b"content");
}

#[test]
fn a_deletion_that_was_interrupted_goes_on_at_the_next_mount() {
    let site = Site::new();
    let one = bucket(&site, "one");
    for at in 0..20 {
        one.put(&format!("f{at:02}"), format!("content {at}"), []);
    }
    {
        let mount = site.mount(&unlinked());
        linked(&site, &mount, "d", "s3://one");
        assert_eq!(names(&mount, "d").len(), 20);
    }
    {
        // As it is when the daemon is killed right after the deletion was asked for.
        let defaults = DefaultAttrs { uid: 0, gid: 0, file_perm: 0o755, dir_perm: 0o755 };
        let rows = site.cache_dirs(1)[0].join("metadata");
        let rows = MetaStore::open(&rows, MetaConfig { memory_bytes: 8 << 20 }, defaults, 1).expect("opens");
        let (id, mut row) = rows.associations().expect("reads").remove(0);
        row.state = AssociationState::Deleting;
        rows.save_association(id, &row, &locate(id, "")).expect("writes");
        rows.flush().expect("is durable");
    }
    let mount = site.mount(&unlinked());
    eventually("it goes on to its end", || at(&mount, "d").is_none());
    for key in one.keys() {
        one.delete(&key);
    }
    for at in 0..20 {
        assert_eq!(mount.read(&format!("d/f{at:02}")).expect("reads"), format!("content {at}").into_bytes());
    }
}

#[test]
fn a_bucket_that_is_gone_is_said_and_hurts_nothing_else() {
    let site = Site::new();
    let (one, two) = (bucket(&site, "one"), bucket(&site, "two"));
    one.put("x", "1", []);
    two.put("data/y", "2", []);
    let options = Options { deadline: Duration::from_secs(1), ..unlinked() };
    {
        let mount = site.mount(&options);
        linked(&site, &mount, "one", "s3://one");
        linked(&site, &mount, "two", "s3://two/data");
    }
    site.server.faults().add(Rule::new(Fault::AccessDenied).key_prefix("data/"));
    let mount = site.mount(&options);
    eventually("it is noticed", || at(&mount, "two").is_some_and(|view| view.state == AssociationState::Misconfigured));
    assert!(at(&mount, "two").expect("it is there").failure.contains("access denied"), "{:?}", at(&mount, "two"));
    assert_eq!(
        (mount.read("one/x").expect("reads"), names(&mount, "")),
        (b"1".to_vec(), vec!["one".to_owned(), "two".to_owned()])
    );
    site.server.faults().clear();
    mount.fs.runtime().block_on(mount.fs.vfs().check_associations());
    assert_eq!(at(&mount, "two").expect("it is there").state, AssociationState::Available);
    assert_eq!(mount.read("two/y").expect("reads"), b"2");
}

#[test]
fn policies_are_changed_while_mounted() {
    let site = Site::new();
    let one = bucket(&site, "one");
    let mount = site.mount(&unlinked());
    linked(&site, &mount, "d", "s3://one");
    std::fs::write(mount.path("d/before"), "1").expect("writes");
    let change = |auto_export| {
        let change = AssociationChange { auto_export: Some(auto_export), ..AssociationChange::default() };
        mount.fs.runtime().block_on(mount.fs.vfs().update_association(b"d", change)).expect("changes")
    };
    let changed = change(EventBits::new(true, false, false));
    assert_eq!((changed.state, changed.auto_export), (AssociationState::Available, EventBits::new(true, false, false)));
    eventually("what was there before is sent as well", || one.bytes("before").is_some());
    change(EventBits::default());
    std::fs::write(mount.path("d/after"), "2").expect("writes");
    eventually("it is seen to", || mount.fs.vfs().auto_export_status().waiting == 0);
    assert_eq!(one.keys(), ["before"]);
}
