//! `forebay release`: data goes that the bucket has, and nothing else; reading brings it back.

use super::hsm::{clear, noise, read_anew, set, states, task};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::task::{TaskKind, TaskRow, TaskState};
use forebay_loopback_s3::Op;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

fn release(mount: &Mounted, paths: &[&str]) -> TaskRow {
    task(mount, TaskKind::Release, paths, &[])
}

fn stored(mount: &Mounted) -> u64 {
    mount.settle();
    mount.fs.status().cache.stored_bytes
}

#[test]
fn what_the_bucket_has_goes_and_comes_back_with_a_read() {
    let site = Site::new();
    let body = |at: u64| noise(at, 1_000_000);
    for at in 0..3 {
        site.bucket().put(&format!("d/e/{at}"), body(at), []);
    }
    // In a directory of its own: what is beside files that are read is read ahead.
    site.bucket().put("d/f/unread", body(3), []);
    let mount = site.mount(&Options::default());
    for at in 0..3 {
        assert!(mount.read(&format!("d/e/{at}")).expect("reads") == body(at));
    }
    std::fs::write(mount.path("d/here"), noise(9, 500_000)).expect("writes");
    let before = std::fs::metadata(mount.path("d/e/0")).expect("is there");
    let full = stored(&mount);
    let row = release(&mount, &["d"]);
    assert_eq!(row.state, TaskState::Succeeded, "{row:?}");
    assert_eq!((row.counters.total, row.counters.succeeded, row.counters.bytes), (3, 3, 3_000_000), "those that had data here");
    assert!(stored(&mount) + 3_000_000 <= full, "{full} bytes, then {}", stored(&mount));
    assert_eq!(states(&mount, "d/e/0"), "released exists archived");
    assert_eq!(states(&mount, "d/here"), "", "it is nowhere else");
    use std::os::unix::fs::MetadataExt;
    let after = std::fs::metadata(mount.path("d/e/0")).expect("is there");
    assert_eq!((before.ino(), before.len(), before.mtime()), (after.ino(), after.len(), after.mtime()));
    site.server.requests().reset();
    assert!(read_anew(&mount, "d/e/0") == body(0));
    assert!(site.count(Op::GetObject) > 0);
    assert_eq!(states(&mount, "d/e/0"), "exists archived");
    assert!(read_anew(&mount, "d/here") == noise(9, 500_000));
    // Again: what is gone is not counted.
    assert_eq!(release(&mount, &["d"]).counters.total, 1);
    drop(mount);
    let mount = site.mount(&Options::default());
    assert_eq!(states(&mount, "d/e/1"), "released exists archived", "also after a restart");
    assert_eq!(mount.fs.status().cache.lost_local_blocks, 0);
}

#[test]
fn what_is_only_here_open_for_writing_or_pinned_stays_and_says_so_where_it_was_named() {
    let site = Site::new();
    for name in ["changed", "open", "pinned", "plain"] {
        site.bucket().put(name, noise(1, 300_000), []);
    }
    let mount = site.mount(&Options::default());
    for name in ["changed", "open", "pinned", "plain"] {
        mount.read(name).expect("reads");
    }
    mount.settle();
    let file = std::fs::OpenOptions::new().write(true).open(mount.path("changed")).expect("opens");
    file.write_all_at(b"ours", 200_000).expect("writes");
    drop(file);
    set(&mount, "pinned", &["norelease"]);
    let open = std::fs::OpenOptions::new().read(true).write(true).open(mount.path("open")).expect("opens");
    let row = release(&mount, &[""]);
    assert_eq!((row.state, row.counters.succeeded, row.counters.failed), (TaskState::Failed, 1, 1), "{row:?}");
    assert!(row.last_error.contains("open: ResourceBusy"), "{}", row.last_error);
    for (path, code) in [("changed", "NotExported"), ("pinned", "ResourceBusy"), ("open", "ResourceBusy")] {
        let row = release(&mount, &[path]);
        assert_eq!((row.state, row.counters.failed), (TaskState::Failed, 1), "{path}");
        assert!(row.last_error.contains(code), "{}", row.last_error);
    }
    drop(open);
    clear(&mount, "pinned", &["norelease"]);
    // The kernel tells of a close when it likes.
    eventually("it is closed", || release(&mount, &["open", "pinned"]).state == TaskState::Succeeded);
    assert_eq!(
        (states(&mount, "open"), states(&mount, "pinned")),
        ("released exists archived".into(), "released exists archived".into())
    );
    let mut expected = noise(1, 300_000);
    expected[200_000..200_004].copy_from_slice(b"ours");
    assert!(read_anew(&mount, "changed") == expected);
}

#[test]
fn what_other_files_share_stays_for_them() {
    let site = Site::new();
    let body = noise(5, 1_000_000);
    for name in ["one", "other", "written"] {
        site.bucket().put(name, body.clone(), []);
    }
    let mount = site.mount(&Options::default());
    assert!(mount.read("one").expect("reads") == body && mount.read("other").expect("reads") == body);
    let full = stored(&mount);
    assert!(full < 1_500_000, "stored once: {full}");
    assert_eq!(release(&mount, &["one"]).counters.succeeded, 1);
    assert_eq!(stored(&mount), full);
    site.server.requests().reset();
    assert!(read_anew(&mount, "other") == body);
    assert_eq!(site.count(Op::GetObject), 0);
    assert_eq!(states(&mount, "one"), "released exists archived");
    // A file that was written here and has the same blocks keeps them as well.
    std::fs::write(mount.path("mine"), &body).expect("writes");
    std::fs::File::open(mount.path("mine")).expect("opens").sync_all().expect("syncs");
    assert_eq!(release(&mount, &["other"]).counters.succeeded, 1);
    assert!(read_anew(&mount, "mine") == body);
    assert!(stored(&mount) >= 1_000_000);
}

#[test]
fn what_was_used_lately_stays_where_an_age_is_given() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 86_400);
    for name in ["old", "young", "read"] {
        let file = std::fs::File::create(mount.path(name)).expect("makes");
        file.write_all_at(&noise(3, 200_000), 0).expect("writes");
        drop(file);
        let age = if name == "young" { std::time::SystemTime::now() } else { long_ago };
        let times = std::fs::FileTimes::new().set_accessed(age).set_modified(age);
        let file = std::fs::File::options().write(true).open(mount.path(name)).expect("opens");
        file.set_times(times).expect("sets times");
    }
    let week = [("older-than", "604800")];
    assert_eq!(task(&mount, TaskKind::Export, &[""], &[]).counters.failed, 0);
    // Its status changed just now, and it was opened.
    assert_eq!(task(&mount, TaskKind::Release, &[""], &week).counters.succeeded, 0);
    eventually("all are closed", || {
        let row = task(&mount, TaskKind::Release, &[""], &[("older-than", "0")]);
        row.state == TaskState::Succeeded && states(&mount, "young") == "released exists archived"
    });
    assert_eq!(states(&mount, "old"), "released exists archived");
}

/// A file mapped for reading.
struct Map {
    start: *mut std::ffi::c_void,
    len: usize,
}

impl Map {
    fn of(file: &std::fs::File, len: usize) -> Self {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        // SAFETY: a new mapping, where the kernel wants it.
        let start = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) }.expect("maps");
        Map { start, len }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for reading until dropped; nobody changes the file.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped in `of`, and no slice of it outlives this.
        let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
    }
}

#[test]
fn readers_get_the_right_bytes_while_files_are_released_under_them() {
    let site = Site::new();
    let body = noise(11, 6 << 20);
    site.bucket().put("f", body.clone(), []);
    let mount = site.mount(&Options::default());
    let done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|at| {
                let (mount, body, done) = (&mount, &body, &done);
                scope.spawn(move || {
                    let file = std::fs::File::open(mount.path("f")).expect("opens");
                    let map = Map::of(&file, body.len());
                    let (mut reads, mut offset) = (0_u64, at * 777_777);
                    let mut buffer = vec![0; 100_000];
                    while !done.load(Ordering::Relaxed) {
                        mount.forget_pages("f");
                        file.read_exact_at(&mut buffer, offset as u64).expect("reads");
                        assert!(buffer == body[offset..offset + buffer.len()], "wrong bytes at {offset}");
                        assert!(map.bytes()[offset] == body[offset]);
                        offset = (offset + 1_234_567) % (body.len() - buffer.len());
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let (mut released, mut rounds) = (0, 0);
        // How soon there is something here that can go is not the test's to say.
        eventually("it went often enough", || {
            released += release(&mount, &["f"]).counters.bytes;
            rounds += 1;
            rounds >= 20 && released > 0
        });
        done.store(true, Ordering::Relaxed);
        let reads: u64 = readers.into_iter().map(|reader| reader.join().expect("reads on")).sum();
        (released, reads)
    });
    assert!(rounds.0 > 0 && rounds.1 > 0, "{rounds:?}: something was released and read");
}
