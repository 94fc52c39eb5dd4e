//! Clones of snapshots, and directories rolled back to them, on a real mount.

use super::export::{export, export_as, noise};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::OnConflict;
use forebay_daemon::vfs::Restored;
use forebay_loopback_s3::Op;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

fn take(mount: &Mounted, name: &str, path: &str) {
    mount.fs.runtime().block_on(mount.fs.vfs().take_snapshot(name.as_bytes(), path.as_bytes())).expect("takes");
}

fn clone(mount: &Mounted, name: &str, to: &str) -> forebay_daemon::error::Result<()> {
    mount.fs.runtime().block_on(mount.fs.vfs().clone_snapshot(name.as_bytes(), to.as_bytes()))
}

fn restore(mount: &Mounted, name: &str) -> Restored {
    mount.fs.runtime().block_on(mount.fs.vfs().restore_snapshot(name.as_bytes())).expect("restores")
}

fn is_same_tree(one: &Path, other: &Path) {
    let output = Command::new("diff").args(["-r", "--no-dereference"]).args([one, other]).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn copy(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(copy.path()).status().expect("runs");
    assert!(done.success());
    copy
}

#[test]
fn a_clone_is_a_writable_copy_that_moves_no_data() {
    let site = Site::new();
    for n in 0..40 {
        site.bucket().put(&format!("data/part{}/o{n}", n % 4), noise(n + 1, 150_000), []);
    }
    let mount = site.mount(&Options::default());
    assert_eq!(std::fs::read_dir(mount.path("data/part0")).expect("lists").count(), 10);
    std::fs::create_dir(mount.path("data/made")).expect("makes");
    std::fs::write(mount.path("data/made/file"), noise(99, 3_000_000)).expect("writes");
    std::fs::hard_link(mount.path("data/made/file"), mount.path("data/made/again")).expect("links");
    std::os::unix::fs::symlink("made/file", mount.path("data/link")).expect("links");
    // Not all directories were looked into: nobody could say what was in them.
    take(&mount, "early", "data");
    let error = clone(&mount, "early", "clone").expect_err("is not known");
    assert!(error.to_string().contains("had not been listed"), "{error}");
    let expected = copy(&mount.path("data"));
    mount.settle();
    take(&mount, "s", "data");
    let held = mount.fs.status().cache.held_bytes;
    site.server.requests().reset();

    assert!(clone(&mount, "s", "no/such/place").is_err());
    assert!(clone(&mount, "s", "data").is_err());
    assert!(std::fs::metadata(mount.path("clone")).is_err(), "the kernel knows that it is not there");
    clone(&mount, "s", "clone").expect("clones");
    is_same_tree(expected.path(), &mount.path("clone"));
    mount.settle();
    assert_eq!(mount.fs.status().cache.held_bytes, held, "blocks are shared");
    let asked: Vec<_> = site.server.requests().log().into_iter().map(|asked| (asked.op, asked.key)).collect();
    assert_eq!(site.count(Op::GetObject) + site.count(Op::HeadObject), 0, "{asked:?}: and what was cached is not fetched again");
    let (one, two) = (mount.path("clone/made/file"), mount.path("clone/made/again"));
    let ino = |path: &Path| std::fs::metadata(path).expect("is there").ino();
    assert_eq!((ino(&one), ino(&one) == ino(&mount.path("data/made/file"))), (ino(&two), false));

    std::fs::remove_dir_all(mount.path("data/part1")).expect("removes");
    let file = std::fs::OpenOptions::new().write(true).open(&one).expect("opens");
    file.write_all_at(b"changed", 1_000_000).expect("writes");
    std::fs::rename(mount.path("clone/part2"), mount.path("clone/moved")).expect("renames");
    std::fs::remove_file(mount.path("clone/part0/o0")).expect("removes");
    assert!(mount.read("data/made/file").expect("reads") == noise(99, 3_000_000));
    is_same_tree(expected.path(), &mount.path(".snapshots/s"));
    drop(file);
    drop(mount);
    let mount = site.mount(&Options::default());
    assert_eq!(&mount.read("clone/made/again").expect("reads")[1_000_000..1_000_007], b"changed");
    assert!(mount.read("clone/moved/o2").expect("reads") == noise(3, 150_000));
    assert!(std::fs::metadata(mount.path("clone/part0/o0")).is_err());
}

#[test]
fn a_clone_is_exported_as_objects_of_its_own_and_outlives_those_it_came_from() {
    let site = Site::new();
    for n in 0..6 {
        site.bucket().put(&format!("data/o{n}"), noise(n + 1, 200_000), []);
    }
    let mount = site.mount(&Options::default());
    assert_eq!(std::fs::read_dir(mount.path("data")).expect("lists").count(), 6);
    take(&mount, "s", "data");
    clone(&mount, "s", "first").expect("clones");
    clone(&mount, "s", "second").expect("clones");
    // A clone's file takes nothing along that is another's.
    std::fs::remove_file(mount.path("first/o5")).expect("removes");
    let seen = export_as(&mount, OnConflict::Fail, true);
    assert!(seen.failed.lock().expect("no panic").is_empty(), "{:?}", seen.failed);
    assert_eq!(site.count(Op::GetObject), 0, "the store copies");
    for n in 0..5 {
        assert!(site.bucket().bytes(&format!("first/o{n}")).expect("is there") == noise(n + 1, 200_000));
    }
    assert!(site.bucket().bytes("first/o5").is_none());
    assert!(site.bucket().bytes("data/o5").is_some() && site.bucket().bytes("second/o5").is_some());

    // What is borrowed and not exported gets its bytes before its object goes.
    clone(&mount, "s", "third").expect("clones");
    std::fs::write(mount.path("data/o0"), b"replaced").expect("writes");
    std::fs::remove_file(mount.path("data/o1")).expect("removes");
    mount.settle();
    let sent = export_as(&mount, OnConflict::Fail, true);
    assert!(sent.failed.lock().expect("no panic").is_empty(), "{:?}", sent.failed);
    assert!(site.bucket().bytes("data/o0").expect("is there") == b"replaced"[..]);
    assert!(site.bucket().bytes("data/o1").is_none());
    for n in 0..2 {
        let name = format!("third/o{n}");
        assert!(mount.read(&name).expect("reads") == noise(n + 1, 200_000), "{name}");
    }
    export(&mount);
    assert!(site.bucket().bytes("third/o0").expect("is there") == noise(1, 200_000));
    drop(mount);
    let elsewhere = site.place().elsewhere();
    let mount = elsewhere.place.mount(&Options::default());
    for n in 0..6 {
        assert!(mount.read(&format!("second/o{n}")).expect("reads") == noise(n + 1, 200_000));
    }
}

#[test]
fn a_directory_is_rolled_back() {
    let site = Site::new();
    for n in 0..5 {
        site.bucket().put(&format!("d/lazy/o{n}"), noise(n + 1, 300_000), []);
    }
    let mount = site.mount(&Options::default());
    assert_eq!(std::fs::read_dir(mount.path("d/lazy")).expect("lists").count(), 5);
    for dir in ["d/a/deep", "d/b", "d/goes", "outside"] {
        std::fs::create_dir_all(mount.path(dir)).expect("makes");
    }
    for (n, name) in
        ["d/a/one", "d/a/deep/two", "d/b/three", "d/goes/four", "d/swap1", "d/swap2", "d/leaves", "d/kept"].iter().enumerate()
    {
        std::fs::write(mount.path(name), noise(n as u64 + 20, 260_000)).expect("writes");
    }
    std::fs::hard_link(mount.path("d/a/one"), mount.path("d/b/link")).expect("links");
    std::os::unix::fs::symlink("a/one", mount.path("d/symlink")).expect("links");
    std::fs::set_permissions(mount.path("d/kept"), std::fs::Permissions::from_mode(0o640)).expect("sets");
    rustix::fs::setxattr(mount.path("d/kept"), "user.note", b"then", rustix::fs::XattrFlags::empty()).expect("sets");
    let expected = copy(&mount.path("d"));
    take(&mount, "s", "d");
    assert_eq!(restore(&mount, "s"), Restored::default(), "nothing was changed");

    let mut open = std::fs::OpenOptions::new().read(true).write(true).open(mount.path("d/a/one")).expect("opens");
    open.write_all_at(b"since", 0).expect("writes");
    std::fs::rename(mount.path("d/a/deep"), mount.path("d/moved")).expect("renames");
    std::fs::rename(mount.path("d/b"), mount.path("d/moved/b")).expect("renames");
    std::fs::rename(mount.path("d/swap1"), mount.path("d/x")).expect("renames");
    std::fs::rename(mount.path("d/swap2"), mount.path("d/swap1")).expect("renames");
    std::fs::rename(mount.path("d/x"), mount.path("d/swap2")).expect("renames");
    std::fs::rename(mount.path("d/leaves"), mount.path("outside/left")).expect("renames");
    std::fs::remove_dir_all(mount.path("d/goes")).expect("removes");
    std::fs::remove_file(mount.path("d/lazy/o1")).expect("removes");
    std::fs::write(mount.path("d/lazy/o2"), b"since").expect("writes");
    std::fs::remove_file(mount.path("d/symlink")).expect("removes");
    std::fs::create_dir_all(mount.path("d/symlink/in/its/place")).expect("makes");
    std::fs::write(mount.path("d/symlink/in/new"), b"new").expect("writes");
    std::fs::set_permissions(mount.path("d/kept"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    rustix::fs::removexattr(mount.path("d/kept"), "user.note").expect("removes");
    std::fs::write(mount.path("outside/other"), b"other").expect("writes");

    let did = restore(&mount, "s");
    is_same_tree(expected.path(), &mount.path("d"));
    assert!(did.names > 0 && did.removed > 0 && did.contents > 0 && did.attributes > 0, "{did:?}");
    let mode = |name: &str| std::fs::metadata(mount.path(name)).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode("d/kept"), 0o640);
    let mut note = [0_u8; 8];
    assert_eq!(rustix::fs::getxattr(mount.path("d/kept"), "user.note", &mut note[..]), Ok(4));
    let links = |name: &str| std::fs::metadata(mount.path(name)).map(|seen| (seen.ino(), seen.nlink())).expect("is there");
    assert_eq!((links("d/a/one"), links("d/a/one").1), (links("d/b/link"), 2));
    let mut first = [0; 5];
    open.read_exact(&mut first).expect("reads");
    assert_eq!(&first, b"since", "who has it open goes on with what it has open");
    // What is outside is not the snapshot's.
    assert!(mount.read("outside/left").expect("reads") == noise(26, 260_000));
    assert_eq!(mount.read("outside/other").expect("reads"), b"other");
    assert_eq!(restore(&mount, "s"), Restored::default(), "it is as it was");
    drop(open);

    // The bucket learns of it.
    export(&mount);
    assert!(site.bucket().bytes("d/lazy/o2").expect("is there") == noise(3, 300_000));
    assert!(site.bucket().bytes("d/lazy/o1").expect("is there") == noise(2, 300_000));
    drop(mount);
    let mount = site.mount(&Options::default());
    is_same_tree(expected.path(), &mount.path("d"));
    eventually("all of it is the bucket's", || mount.fs.status().unexported.changes == 0);
}

#[test]
fn what_was_exported_since_is_rolled_back_in_the_bucket_as_well() {
    let site = Site::new();
    site.bucket().put("d/object", noise(1, 400_000), []);
    let mount = site.mount(&Options::default());
    assert!(mount.read("d/object").expect("reads") == noise(1, 400_000));
    std::fs::write(mount.path("d/file"), noise(2, 400_000)).expect("writes");
    mount.settle();
    take(&mount, "s", "d");
    export(&mount);
    std::fs::write(mount.path("d/object"), noise(3, 400_000)).expect("writes");
    std::fs::write(mount.path("d/file"), noise(4, 400_000)).expect("writes");
    export(&mount);
    assert!(site.bucket().bytes("d/object").expect("is there") == noise(3, 400_000));
    let did = restore(&mount, "s");
    assert_eq!(did, Restored { contents: 2, attributes: did.attributes, ..Restored::default() });
    assert!(mount.read("d/object").expect("reads") == noise(1, 400_000));
    assert!(mount.read("d/file").expect("reads") == noise(2, 400_000));
    export(&mount);
    assert!(site.bucket().bytes("d/object").expect("is there") == noise(1, 400_000));
    assert!(site.bucket().bytes("d/file").expect("is there") == noise(2, 400_000));
}
