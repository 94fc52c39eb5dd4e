//! Snapshots exported to a bucket, and mounted from there elsewhere.

use super::export::{export, noise};
use super::import::import;
use crate::fixtures::mounted::{Elsewhere, Mounted, Options, Site, eventually};
use forebay_daemon::error::{Error, ErrorKind};
use forebay_daemon::meta::TaskState;
use forebay_daemon::vfs::{PublishOrder, PublishState, PublishView};
use forebay_loopback_s3::{Fault, Op, Rule, Versioning};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const URL: &str = "s3://bucket/lib";
const MANIFEST: &str = "lib/.forebay/snapshots/v1/manifest";

fn take(mount: &Mounted, name: &str, path: &str) {
    mount.fs.runtime().block_on(mount.fs.vfs().take_snapshot(name.as_bytes(), path.as_bytes())).expect("takes");
}

/// Exports the snapshot `v1` and waits for the end.
fn publish_to(mount: &Mounted, url: &str, copy: bool) -> PublishView {
    let store = mount.fs.settings().repository.clone();
    let id = mount.fs.vfs().publish_snapshot(PublishOrder { name: b"v1".to_vec(), url: url.into(), copy, store });
    let id = id.expect("begins");
    let view = || mount.fs.vfs().publication(id).expect("is known");
    let give_up = Instant::now() + Duration::from_secs(60);
    while view().state == PublishState::Running {
        assert!(Instant::now() < give_up, "the export does not end: {:?}", view());
        std::thread::sleep(Duration::from_millis(20));
    }
    view()
}

fn published(mount: &Mounted, copy: bool) -> PublishView {
    let view = publish_to(mount, URL, copy);
    assert_eq!(view.state, PublishState::Done { already: false });
    view
}

fn failure(view: &PublishView) -> &Error {
    match &view.state {
        PublishState::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

fn snapshot_at(prefix: &str) -> Options {
    Options { prefix: prefix.into(), snapshot: Some("v1".into()), ..Options::default() }
}

fn mounted(elsewhere: &Elsewhere) -> Mounted {
    elsewhere.place.mount(&snapshot_at("/lib"))
}

fn copy(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(copy.path()).status().expect("runs");
    assert!(done.success());
    copy
}

/// Contents, modes, owners, times and targets.
fn is_same_tree(one: &Path, other: &Path) {
    let output = Command::new("diff").args(["-r", "--no-dereference"]).args([one, other]).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(attributes(one), attributes(other));
}

fn attributes(root: &Path) -> String {
    let format = "%P %y %m %U %G %s %T@ %l\\n";
    let found = Command::new("find").arg(root).args(["!", "-type", "d", "-printf", format]).output().expect("runs");
    // A directory's size is its file system's own matter.
    let dirs = Command::new("find").arg(root).args(["-type", "d", "-printf", "%P %m %U %G %T@\\n"]).output().expect("runs");
    let mut lines: Vec<_> = String::from_utf8_lossy(&[found.stdout, dirs.stdout].concat()).lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

/// A mount with objects of the bucket and files made here in the directory `lib`, and a snapshot of it. What it looked like is copied.
fn prepared(site: &Site) -> (Mounted, tempfile::TempDir) {
    for n in 0..4 {
        site.bucket().put(&format!("lib/data/o{n}"), noise(2 * n + 1, 150_000), [("file-permissions", "0100600")]);
    }
    site.bucket().put("lib/large", noise(20, 3_000_000), []);
    let mount = site.mount(&Options::default());
    assert_eq!(std::fs::read_dir(mount.path("lib/data")).expect("lists").count(), 4);
    for n in 0..4 {
        let name = format!("lib/data/o{n}");
        assert!(mount.read(&name).expect("reads") == noise(2 * n + 1, 150_000));
        let mode = || std::fs::metadata(mount.path(&name)).expect("is there").permissions().mode();
        eventually("its attributes are known", || mode() & 0o7777 == 0o600);
    }
    std::fs::create_dir_all(mount.path("lib/made/deep")).expect("makes");
    std::fs::write(mount.path("lib/made/file"), noise(9, 700_000)).expect("writes");
    std::fs::write(mount.path("lib/made/deep/with % and ü"), b"named").expect("writes");
    std::fs::File::create(mount.path("lib/made/empty")).expect("makes");
    std::fs::hard_link(mount.path("lib/made/file"), mount.path("lib/made/again")).expect("links");
    std::os::unix::fs::symlink("made/file", mount.path("lib/link")).expect("links");
    std::fs::set_permissions(mount.path("lib/made/file"), std::fs::Permissions::from_mode(0o4711)).expect("sets");
    rustix::fs::setxattr(mount.path("lib/made/file"), "user.note", b"then", rustix::fs::XattrFlags::empty()).expect("sets");
    // One of the bucket's is changed here: it is no object any more.
    std::fs::write(mount.path("lib/data/o3"), b"written over").expect("writes");
    let looked = copy(&mount.path("lib"));
    mount.settle();
    take(&mount, "v1", "lib");
    (mount, looked)
}

/// Has the bucket be another afterwards.
fn spoil(site: &Site) {
    site.bucket().put("lib/data/o0", noise(50, 150_000), []);
    site.bucket().put("lib/large", noise(51, 3_000_000), []);
    site.bucket().delete("lib/data/o1");
}

#[test]
fn a_snapshot_is_mounted_elsewhere_as_it_was_by_version_ids() {
    let site = Site::new();
    site.bucket().set_versioning(Versioning::Enabled);
    let (mount, looked) = prepared(&site);
    std::fs::write(mount.path("lib/made/file"), b"later").expect("writes");
    let view = published(&mount, false);
    assert_eq!((view.referenced, view.copied, view.sent, view.kept), (4, 0, 4, 0), "{view:?}");
    spoil(&site);
    assert_eq!(publish_to(&mount, URL, false).state, PublishState::Done { already: true });

    let elsewhere = site.place().elsewhere();
    let other = mounted(&elsewhere);
    site.server.requests().reset();
    is_same_tree(looked.path(), other.root());
    is_same_tree(&mount.path(".snapshots/v1"), other.root());
    assert_eq!(site.count(Op::ListObjects), 0, "nothing is listed");
    let mut note = [0_u8; 16];
    assert_eq!(rustix::fs::getxattr(other.path("made/file"), "user.note", &mut note[..]), Ok(4));
    let unchanging = |result: std::io::Result<()>| assert_eq!(result.expect_err("is refused").raw_os_error(), Some(libc::EROFS));
    unchanging(std::fs::write(other.path("made/file"), b"no"));
    unchanging(std::fs::create_dir(other.path("new")));
    unchanging(std::fs::remove_file(other.path("link")));
    let status = other.fs.status();
    assert_eq!((status.repository.as_str(), status.unexported.changes, status.associations.len()), ("s3://bucket/lib@v1", 0, 0));
    other.settle();

    drop(other);
    site.server.requests().reset();
    let other = mounted(&elsewhere);
    is_same_tree(looked.path(), other.root());
    assert_eq!((site.count(Op::GetObject), site.count(Op::ListObjects)), (0, 1), "only the access check; nothing is read again");
    drop(other);
    let error = elsewhere.place.start(&Options { prefix: "/lib".into(), ..Options::default() }).err().expect("is refused");
    assert!(error.to_string().contains("belongs to s3://bucket/lib@v1"), "{error}");

    // A mount of the prefix shows nothing of it, and says so.
    let plain = site.place().elsewhere();
    let plain = plain.place.mount(&Options { prefix: "/lib".into(), ..Options::default() });
    let names: Vec<_> =
        std::fs::read_dir(plain.root()).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["data", "large"], "what was made here was not exported as files");
    let (hidden, _) = plain.fs.hidden_keys(10).expect("reads");
    assert_eq!(hidden, [("lib/.forebay/".to_owned(), "'.forebay' holds snapshots that were exported".to_owned())]);
    assert_eq!(std::fs::create_dir(plain.path(".forebay")).expect_err("is refused").raw_os_error(), Some(libc::EPERM));
}

#[test]
fn without_versions_what_was_replaced_is_stale_and_never_the_new_bytes() {
    let site = Site::new();
    let (mount, _) = prepared(&site);
    // Replaced before the export, and read here: it is sent from the cache. Not read: it fails by name.
    assert!(mount.read("lib/large").expect("reads") == noise(20, 3_000_000));
    mount.settle();
    site.bucket().put("lib/large", noise(51, 3_000_000), []);
    assert_eq!(published(&mount, false).referenced, 3);
    spoil(&site);
    let elsewhere = site.place().elsewhere();
    let other = mounted(&elsewhere);
    assert!(other.read("data/o2").expect("reads") == noise(5, 150_000));
    for name in ["data/o0", "data/o1"] {
        assert_eq!(other.read(name).expect_err("is gone").raw_os_error(), Some(libc::ESTALE), "{name}");
    }
    assert_eq!(std::fs::metadata(other.path("data/o0")).expect("is still named").len(), 150_000);
}

#[test]
fn what_is_gone_before_the_export_fails_it_by_name() {
    let site = Site::new();
    site.bucket().put("lib/sub/never-read", noise(1, 150_000), []);
    let mount = site.mount(&Options::default());
    take(&mount, "v1", "lib");
    let view = publish_to(&mount, URL, false);
    assert_eq!(
        (failure(&view).kind, failure(&view).message.contains("had not been listed")),
        (ErrorKind::Stale, true),
        "{view:?}"
    );
    mount.fs.vfs().delete_snapshot(b"v1").expect("deletes");
    assert_eq!(std::fs::read_dir(mount.path("lib/sub")).expect("lists").count(), 1);
    take(&mount, "v1", "lib");
    site.bucket().put("lib/sub/never-read", noise(2, 150_000), []);
    let view = publish_to(&mount, URL, false);
    assert_eq!((failure(&view).kind, failure(&view).message.contains("sub/never-read")), (ErrorKind::Stale, true), "{view:?}");
    assert!(site.bucket().bytes(MANIFEST).is_none());
    let store = mount.fs.settings().repository.clone();
    let order = PublishOrder { name: b"none".to_vec(), url: URL.into(), copy: false, store };
    assert_eq!(mount.fs.vfs().publish_snapshot(order).expect_err("is refused").kind, ErrorKind::NotFound);
}

#[test]
fn a_copy_needs_none_of_the_buckets_other_objects() {
    let site = Site::new();
    let (mount, looked) = prepared(&site);
    let view = published(&mount, true);
    assert_eq!((view.referenced, view.copied, view.sent), (0, 4, 4), "{view:?}");
    spoil(&site);
    // The same name again, of another kind.
    let view = publish_to(&mount, URL, false);
    assert_eq!((failure(&view).kind, failure(&view).message.contains("another snapshot 'v1'")), (ErrorKind::Exists, true));
    drop(mount);
    let elsewhere = site.place().elsewhere();
    is_same_tree(looked.path(), mounted(&elsewhere).root());
}

#[test]
fn a_snapshot_goes_to_another_bucket_and_comes_from_several() {
    let site = Site::new();
    site.server.create_bucket("attic").expect("makes");
    let (mount, looked) = prepared(&site);
    // Exported files, too, are objects of the bucket.
    export(&mount);
    mount.fs.vfs().delete_snapshot(b"v1").expect("deletes");
    drop(mount);
    let mount = site.mount(&Options::default());
    // Directories that were exported are the bucket's as well: what is in them is known once they are listed.
    is_same_tree(looked.path(), &mount.path("lib"));
    take(&mount, "v1", "lib");
    let view = publish_to(&mount, "s3://attic", false);
    assert_eq!((&view.state, view.referenced, view.sent), (&PublishState::Done { already: false }, 0, 8), "{view:?}");
    let view = published(&mount, false);
    assert_eq!((view.referenced, view.sent), (8, 0), "{view:?}");
    let elsewhere = site.place().elsewhere();
    let mut settings = elsewhere.place.settings(&snapshot_at(""));
    settings.repository.url = "s3://attic".into();
    let other = elsewhere.place.mount_with(settings, &snapshot_at(""));
    drop(mount);
    is_same_tree(looked.path(), other.root());
    assert_eq!(site.server.bucket("attic").keys().len(), 9);
}

#[test]
fn a_root_without_a_bucket_is_exported_too_and_an_import_of_the_place_passes_it_over() {
    let site = Site::new();
    let mount = site.mount(&Options { unlinked: true, ..Options::default() });
    std::fs::create_dir(mount.path("made")).expect("makes");
    for n in 0..5 {
        std::fs::write(mount.path(&format!("made/f{n}")), noise(n + 1, 10_000)).expect("writes");
    }
    take(&mount, "v1", "");
    assert_eq!(published(&mount, false).sent, 5);
    let elsewhere = site.place().elsewhere();
    is_same_tree(&mount.path(".snapshots/v1"), mounted(&elsewhere).root());
    let bucket = site.place().elsewhere();
    let bucket = bucket.place.mount(&Options::default());
    let row = import(&bucket, "", false);
    assert_eq!((row.state, row.counters.succeeded), (TaskState::Succeeded, 0), "{row:?}");
    let (hidden, _) = bucket.fs.hidden_keys(10).expect("reads");
    assert_eq!(hidden.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["lib/.forebay/"]);
    assert_eq!(std::fs::read_dir(bucket.path("lib")).expect("lists").count(), 0);
}

#[test]
fn an_interrupted_export_goes_on_and_sends_nothing_twice() {
    let site = Site::new();
    let (mount, looked) = prepared(&site);
    site.server.faults().add(Rule::new(Fault::AccessDenied).on(Op::PutObject).key_prefix(MANIFEST));
    let view = publish_to(&mount, URL, true);
    assert_eq!((failure(&view).kind, view.copied, view.sent), (ErrorKind::AccessDenied, 4, 4), "{view:?}");
    site.server.faults().clear();
    let error = site.place().elsewhere().place.start(&snapshot_at("/lib")).err().expect("there is none yet").to_string();
    assert!(error.contains("no exported snapshot 'v1' at s3://bucket/lib"), "{error}");
    let options = Options::default();
    drop(mount);
    let mount = site.mount(&options);
    let view = published(&mount, true);
    assert_eq!((view.copied, view.sent, view.kept), (0, 0, 8), "{view:?}");
    let elsewhere = site.place().elsewhere();
    is_same_tree(looked.path(), mounted(&elsewhere).root());

    // What somebody else has put in the way is not replaced.
    mount.fs.vfs().delete_snapshot(b"v1").expect("deletes");
    take(&mount, "v1", "lib");
    site.bucket().delete(MANIFEST);
    let view = publish_to(&mount, URL, true);
    assert_eq!((failure(&view).kind, failure(&view).message.contains("another object")), (ErrorKind::Exists, true), "{view:?}");
}

#[test]
fn a_cut_manifest_is_refused_and_a_whole_one_read_instead() {
    let site = Site::new();
    let (mount, looked) = prepared(&site);
    published(&mount, false);
    let whole = site.bucket().bytes(MANIFEST).expect("is there");
    let elsewhere = site.place().elsewhere();
    let refused = |bytes: Vec<u8>| {
        site.bucket().put(MANIFEST, bytes, []);
        elsewhere.place.start(&snapshot_at("/lib")).err().expect("is refused").to_string()
    };
    let error = refused(whole[..whole.len() - 100].to_vec());
    assert!(error.contains("is cut off after line"), "{error}");
    let mixed = String::from_utf8(whole.to_vec()).expect("text").replace("\"uid\":0", "\"uid\":1");
    let error = refused(mixed.into_bytes());
    assert!(error.contains("is damaged"), "{error}");
    site.bucket().put(MANIFEST, whole.clone(), []);
    is_same_tree(looked.path(), mounted(&elsewhere).root());
    let error = refused(whole[..10].to_vec());
    assert!(error.contains("was replaced since"), "{error}");
}

#[test]
fn a_large_manifest_and_large_files_go_out_in_parts() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    std::fs::create_dir(mount.path("lib")).expect("makes");
    std::fs::write(mount.path("lib/large"), noise(1, 20_000_000)).expect("writes");
    // Long targets make for long lines.
    let target = "t".repeat(4000);
    for n in 0..2500 {
        std::os::unix::fs::symlink(&target, mount.path(&format!("lib/l{n:04}"))).expect("links");
    }
    take(&mount, "v1", "lib");
    published(&mount, false);
    assert!(site.bucket().bytes(MANIFEST).expect("is there").len() > 8 << 20);
    assert_eq!(site.bucket().uploads(), []);
    let elsewhere = site.place().elsewhere();
    let other = mounted(&elsewhere);
    assert!(other.read("large").expect("reads") == noise(1, 20_000_000));
    assert_eq!(std::fs::read_dir(other.root()).expect("lists").count(), 2501);
    assert_eq!(std::fs::read_link(other.path("l2499")).expect("reads"), Path::new(&target));
    assert_eq!(std::fs::metadata(other.root()).expect("is there").nlink(), 2);
}
