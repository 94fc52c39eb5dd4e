//! Snapshots on a real mount: what is below `.snapshots` is the tree of its instant, whatever is done afterwards.

use super::hsm::noise;
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::meta::SnapshotRow;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn take(mount: &Mounted, name: &str, path: &str) -> SnapshotRow {
    mount.fs.runtime().block_on(mount.fs.vfs().take_snapshot(name.as_bytes(), path.as_bytes())).expect("takes")
}

fn in_snapshot(name: &str, path: &str) -> String {
    format!(".snapshots/{name}/{path}")
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> String {
    let output = Command::new(program).args(arguments).output().expect("runs");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_snapshot_shows_files_names_and_attributes_as_they_were() {
    let site = Site::new();
    site.bucket().put("lazy/never-read", noise(3, 400_000), []);
    site.bucket().put("lazy/removed", noise(4, 300_000), []);
    let mount = site.mount(&Options::default());
    std::fs::create_dir_all(mount.path("made/deep")).expect("makes");
    std::fs::write(mount.path("made/file"), noise(1, 500_000)).expect("writes");
    std::fs::write(mount.path("made/deep/other"), b"other").expect("writes");
    std::os::unix::fs::symlink("file", mount.path("made/link")).expect("links");
    std::fs::set_permissions(mount.path("made/file"), std::fs::Permissions::from_mode(0o640)).expect("sets");
    rustix::fs::setxattr(mount.path("made/file"), "user.note", b"then", rustix::fs::XattrFlags::empty()).expect("sets");
    assert_eq!(std::fs::read_dir(mount.path("lazy")).expect("lists").count(), 2);
    let copy = tempfile::tempdir().expect("a temporary directory");
    run("cp", &["-a".as_ref(), mount.path("made").as_os_str(), copy.path().as_os_str()]);

    take(&mount, "one", "");
    let file = std::fs::OpenOptions::new().write(true).open(mount.path("made/file")).expect("opens");
    file.write_all_at(b"changed", 100).expect("writes");
    file.set_len(200_000).expect("cuts");
    std::fs::rename(mount.path("made/deep"), mount.path("moved")).expect("renames");
    std::fs::remove_file(mount.path("made/link")).expect("removes");
    std::fs::remove_file(mount.path("lazy/removed")).expect("removes");
    std::fs::write(mount.path("made/later"), b"later").expect("writes");
    std::fs::set_permissions(mount.path("made/file"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    drop(file);
    mount.settle();

    let there = mount.path(&in_snapshot("one", "made"));
    run("diff", &["-r".as_ref(), "--no-dereference".as_ref(), copy.path().join("made").as_os_str(), there.as_os_str()]);
    assert!(mount.read(&in_snapshot("one", "lazy/never-read")).expect("reads") == noise(3, 400_000));
    assert!(mount.read(&in_snapshot("one", "lazy/removed")).expect("reads") == noise(4, 300_000));
    let seen = std::fs::metadata(there.join("file")).expect("is there");
    assert_eq!((seen.permissions().mode() & 0o7777, seen.len()), (0o640, 500_000));
    assert_eq!(std::fs::read_link(there.join("link")).expect("reads"), std::path::Path::new("file"));
    let mut note = [0_u8; 16];
    assert_eq!(rustix::fs::getxattr(there.join("file"), "user.note", &mut note[..]), Ok(4));
    assert_eq!(&note[..4], b"then");
    assert_eq!(std::fs::metadata(mount.path("made/file")).expect("is there").len(), 200_000);
    let listed: Vec<_> =
        std::fs::read_dir(mount.root()).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(!listed.iter().any(|name| name == ".snapshots"), "nobody walks into snapshots by accident: {listed:?}");
    let names: Vec<_> =
        std::fs::read_dir(mount.path(".snapshots")).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["one"]);

    // Nothing of it can be changed.
    let refused = |result: std::io::Result<()>| assert_eq!(result.expect_err("is refused").kind(), ErrorKind::ReadOnlyFilesystem);
    refused(std::fs::write(there.join("file"), b"no"));
    refused(std::fs::remove_file(there.join("file")));
    refused(std::fs::rename(there.join("file"), there.join("other")));
    refused(std::fs::create_dir(there.join("new")));
    refused(std::fs::set_permissions(there.join("file"), std::fs::Permissions::from_mode(0o777)));
    refused(std::fs::create_dir(mount.path(".snapshots/two")));
    assert!(std::fs::create_dir(mount.path(".snapshots")).is_err());
    assert!(std::fs::rename(there.join("file"), mount.path("out")).is_err());
    assert!(std::fs::hard_link(there.join("file"), mount.path("out")).is_err());

    drop(mount);
    let mount = site.mount(&Options::default());
    let there = mount.path(&in_snapshot("one", "made"));
    run("diff", &["-r".as_ref(), "--no-dereference".as_ref(), copy.path().join("made").as_os_str(), there.as_os_str()]);
    // What was read of an object through the snapshot is cached for it.
    site.server.requests().reset();
    assert!(mount.read(&in_snapshot("one", "lazy/never-read")).expect("reads") == noise(3, 400_000));
    assert_eq!(site.count(forebay_loopback_s3::Op::GetObject), 0);
}

#[test]
fn an_object_that_was_replaced_before_it_was_read_is_stale_and_never_the_new_one() {
    let site = Site::new();
    site.bucket().put("d/object", noise(1, 200_000), []);
    site.bucket().put("d/unlisted/x", noise(1, 10), []);
    let mount = site.mount(&Options::default());
    std::fs::metadata(mount.path("d/object")).expect("is known");
    take(&mount, "s", "d");
    site.bucket().put("d/object", noise(2, 200_000), []);
    let error = mount.read(&in_snapshot("s", "object")).expect_err("is gone");
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
    // What nobody had listed is not made up from what the bucket has now.
    let error = std::fs::read_dir(mount.path(&in_snapshot("s", "unlisted"))).expect_err("is not known");
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
}

#[test]
fn a_deleted_snapshot_is_gone_at_once_and_its_space_comes_back() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    std::fs::write(mount.path("file"), noise(1, 4_000_000)).expect("writes");
    take(&mount, "s", "");
    assert!(mount.fs.runtime().block_on(mount.fs.vfs().take_snapshot(b"s", b"")).is_err(), "a name is taken once");
    std::fs::write(mount.path("file"), noise(2, 4_000_000)).expect("writes");
    std::fs::File::open(mount.path("file")).and_then(|file| file.sync_all()).expect("syncs");
    let held = || mount.fs.status().cache.held_bytes;
    assert!(held() >= 8_000_000, "{}", held());
    assert!(mount.read(&in_snapshot("s", "file")).expect("reads") == noise(1, 4_000_000));
    mount.fs.vfs().delete_snapshot(b"s").expect("deletes");
    eventually("the kernel has heard of it", || std::fs::metadata(mount.path(&in_snapshot("s", ""))).is_err());
    assert!(mount.fs.vfs().delete_snapshot(b"s").is_err());
    eventually("what only it had is freed", || held() < 5_000_000);
    assert!(mount.read("file").expect("reads") == noise(2, 4_000_000));
    take(&mount, "s", "");
    assert!(mount.read(&in_snapshot("s", "file")).expect("reads") == noise(2, 4_000_000));
}

#[test]
fn snapshots_taken_while_many_write_have_what_was_answered_and_nothing_that_followed() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    const WRITERS: u64 = 4;
    let (stop, counts) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; WRITERS as usize]);
    // Each writer counts up: first in `a`, then in `b`, then a name. So in any instant a >= b >= names, and each at most one apart.
    let write = |writer: u64| {
        let dir = mount.path(&format!("w{writer}"));
        std::fs::create_dir(&dir).expect("makes");
        let open = |name| std::fs::File::create(dir.join(name)).expect("creates");
        let (a, b) = (open("a"), open("b"));
        let mut count = 0_u64;
        while !stop.load(Ordering::Acquire) {
            count += 1;
            a.write_all_at(&count.to_le_bytes(), 0).expect("writes");
            b.write_all_at(&count.to_le_bytes(), 0).expect("writes");
            let name = |count: u64| dir.join(format!("n{count}"));
            if count == 1 {
                std::fs::File::create(name(count)).expect("creates").write_all(b"!").expect("writes");
            } else {
                std::fs::rename(name(count - 1), name(count)).expect("renames");
            }
            counts[writer as usize].store(count, Ordering::Release);
        }
    };
    std::thread::scope(|scope| {
        (0..WRITERS).for_each(|writer| drop(scope.spawn(move || write(writer))));
        let stopped = scopeguard(&stop);
        eventually("all write", || counts.iter().all(|count| count.load(Ordering::Acquire) > 3));
        for round in 0..12 {
            let before: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Acquire)).collect();
            let name = format!("s{round}");
            take(&mount, &name, "");
            let after: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Acquire)).collect();
            for writer in 0..WRITERS as usize {
                let dir = mount.path(&in_snapshot(&name, &format!("w{writer}")));
                let number = |file: &str| {
                    let bytes = std::fs::read(dir.join(file)).expect("reads");
                    u64::from_le_bytes(bytes.try_into().expect("a number"))
                };
                let (a, b) = (number("a"), number("b"));
                let named = std::fs::read_dir(&dir).expect("lists").find_map(|entry| {
                    entry.expect("an entry").file_name().to_str().and_then(|name| name.strip_prefix('n')?.parse::<u64>().ok())
                });
                let named = named.expect("it has a name");
                assert!(a >= b && b >= named && a <= named + 1, "{name}, writer {writer}: a {a}, b {b}, named {named}");
                assert!(named >= before[writer], "{name}: {named} is less than what was answered before, {}", before[writer]);
                assert!(named <= after[writer] + 1, "{name}: {named} is more than was done when it was there, {}", after[writer]);
            }
        }
        drop(stopped);
    });
    let mount_again = {
        drop(mount);
        site.mount(&Options::default())
    };
    assert_eq!(std::fs::read_dir(mount_again.path(".snapshots")).expect("lists").count(), 12);
}

/// Ends the writers, also when an assertion fails.
fn scopeguard(stop: &AtomicBool) -> impl Drop + '_ {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    Stop(stop)
}

#[test]
fn a_snapshot_of_a_directory_is_that_directory() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    std::fs::create_dir_all(mount.path("a/b")).expect("makes");
    std::fs::write(mount.path("a/b/file"), b"x").expect("writes");
    std::fs::write(mount.path("beside"), b"x").expect("writes");
    assert_eq!(take(&mount, "b", "a/b").path, b"a/b");
    assert_eq!(mount.read(&in_snapshot("b", "file")).expect("reads"), b"x");
    assert!(std::fs::metadata(mount.path(&in_snapshot("b", "beside"))).is_err());
    for (name, path) in [("x/y", ""), ("..", ""), ("x", "nothing"), ("x", "beside")] {
        assert!(
            mount.fs.runtime().block_on(mount.fs.vfs().take_snapshot(name.as_bytes(), path.as_bytes())).is_err(),
            "{name} of {path}"
        );
    }
    let again = mount.path(&in_snapshot("b", "")).metadata().expect("is there");
    assert_ne!(again.ino(), mount.path("a/b").metadata().expect("is there").ino());
}
