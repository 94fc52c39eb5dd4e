//! Files that are written anew, in place or by a rename: after a crash there is the old content or the new, and the bucket's is not replaced by nothing.

use super::crash::Serving;
use crate::fixtures::mounted::{Options, Site, eventually};
use forebay_daemon::config::AutoExport;
use forebay_daemon::ids::Ino;
use forebay_daemon::vfs::Answer;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::Duration;

const FILES: usize = 20;
const BYTES: usize = 70_000;

fn old(at: usize) -> Vec<u8> {
    vec![b'a' + at as u8; BYTES]
}

fn new(at: usize) -> Vec<u8> {
    vec![b'A' + at as u8; BYTES + 1000]
}

/// Writes all files anew with `write`, kills the daemon after a while, and checks what is left here and in the bucket.
fn kill_while(write: &dyn Fn(&std::path::Path, usize), after: Duration) -> usize {
    let site = Site::new();
    let (place, root) = (site.place(), site.mountpoint());
    let serving = Serving::start_with(&place, true);
    for at in 0..FILES {
        std::fs::write(root.join(format!("f{at}")), old(at)).expect("writes");
    }
    let object = |at: usize| site.bucket().bytes(&format!("f{at}")).map(|bytes| bytes.to_vec());
    eventually("all is in the bucket", || (0..FILES).all(|at| object(at).is_some_and(|bytes| bytes == old(at))));
    for at in 0..FILES {
        write(&root.join(format!("f{at}")), at);
    }
    std::thread::sleep(after);
    drop(serving);
    let _serving = Serving::start_with(&place, true);
    std::thread::sleep(Duration::from_millis(1500));
    let mut renewed = 0;
    for at in 0..FILES {
        let here = std::fs::read(root.join(format!("f{at}"))).expect("reads");
        assert!(here == old(at) || here == new(at), "f{at} has {} bytes here, {after:?}", here.len());
        let there = object(at).expect("is there");
        assert!(there == old(at) || there == new(at), "f{at} has {} bytes in the bucket, {after:?}", there.len());
        renewed += usize::from(here == new(at));
    }
    renewed
}

#[test]
fn a_file_that_is_emptied_and_written_is_old_or_new_after_a_kill() {
    let rewrite = |path: &std::path::Path, at| std::fs::write(path, new(at)).expect("writes");
    for after in [0, 350] {
        kill_while(&rewrite, Duration::from_millis(after));
    }
}

#[test]
fn a_file_that_takes_the_place_of_another_is_there_whole_after_a_kill() {
    let replace = |path: &std::path::Path, at| {
        let beside = path.with_extension("new");
        std::fs::write(&beside, new(at)).expect("writes");
        std::fs::rename(&beside, path).expect("renames");
    };
    assert_eq!(kill_while(&replace, Duration::ZERO), FILES, "a rename that was answered is kept, so its content is");
}

#[test]
fn an_emptied_file_reads_as_what_was_written_since_whatever_its_map_says() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let path = mount.path("file");
    std::fs::write(&path, vec![1; 3 << 20]).expect("writes");
    mount.settle();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
    for flush in [false, true, false] {
        file.set_len(0).expect("cuts");
        assert_eq!(file.metadata().expect("is there").len(), 0);
        file.write_all_at(b"later", 2 << 20).expect("writes");
        assert_eq!(file.metadata().expect("is there").blocks() * 512, 4096, "a hole and some bytes");
        if flush {
            file.sync_all().expect("syncs");
        }
        mount.forget_pages("file");
        let read = mount.read("file").expect("reads");
        assert!(read.len() == (2 << 20) + 5 && read[..2 << 20].iter().all(|byte| *byte == 0) && read[2 << 20..] == *b"later");
        // A cut of what was written anew, before that is recorded.
        file.set_len((2 << 20) + 2).expect("cuts");
        mount.forget_pages("file");
        assert!(mount.read("file").expect("reads")[2 << 20..] == *b"la");
    }
    // Emptied twice, and removed.
    file.set_len(0).expect("cuts");
    file.write_all_at(b"x", 0).expect("writes");
    file.set_len(0).expect("cuts");
    assert_eq!(mount.read("file").expect("reads"), b"");
    std::fs::remove_file(&path).expect("removes");
    std::fs::write(&path, b"another").expect("writes");
    drop(file);
    drop(mount);
    let mount = site.mount(&Options::default());
    assert_eq!(mount.read("file").expect("reads"), b"another");
}

#[test]
fn what_is_changed_of_an_object_nobody_has_read_leaves_the_rest_of_its_attributes() {
    let site = Site::new();
    let said = [
        ("file-owner", "1000"),
        ("file-group", "2000"),
        ("file-permissions", "0100640"),
        ("file-mtime", "1234567890123456789ns"),
    ];
    for name in ["moved", "chmod", "appended", "cut"] {
        site.bucket().put(name, b"content".to_vec(), said);
    }
    let auto_export = AutoExport { new: true, changed: true, deleted: true, ..AutoExport::default() };
    let mount = site.mount(&Options { auto_export, ..Options::default() });
    std::fs::rename(mount.path("moved"), mount.path("elsewhere")).expect("renames");
    std::fs::set_permissions(mount.path("chmod"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    let append = std::fs::OpenOptions::new().append(true).open(mount.path("appended"));
    append.expect("opens").write_all(b" and more").expect("writes");
    std::fs::File::create(mount.path("cut")).expect("cuts");
    let value = |key: &str, name: &str| {
        let revision = site.bucket().get(key).ok();
        let metadata = revision.and_then(|revision| Some(revision.object.as_ref()?.user_metadata()));
        metadata.and_then(|all| Some(all.get(name)?.to_string())).unwrap_or_default()
    };
    for (key, mode) in [("elsewhere", "0100640"), ("chmod", "0100600"), ("appended", "0100640"), ("cut", "0100640")] {
        eventually("it is exported", || !value(key, "user-agent").is_empty());
        let attributes = ["file-owner", "file-group", "file-permissions"].map(|name| value(key, name));
        assert_eq!(attributes, ["1000", "2000", mode], "{key}");
    }
    assert_eq!(value("elsewhere", "file-mtime"), said[3].1);
}

#[test]
fn times_before_1970_are_kept() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    std::fs::write(mount.path("file"), b"old").expect("writes");
    for (seconds, nanoseconds) in [(-2, 500_000_000), (-1, 1), (-3, 0), (0, 0), (-315_619_200, 250_000_000)] {
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, mount.path("file"), &times, rustix::fs::AtFlags::empty()).expect("sets");
        let found = std::fs::metadata(mount.path("file")).expect("is there");
        assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, nanoseconds));
    }
}

#[test]
fn a_file_that_is_open_for_writing_goes_out_once_it_is_closed() {
    let site = Site::new();
    let auto_export = AutoExport { new: true, changed: true, deleted: true, ..AutoExport::default() };
    let mount = site.mount(&Options { auto_export, ..Options::default() });
    let mut file = std::fs::File::create(mount.path("log")).expect("creates");
    for _ in 0..20 {
        file.write_all(&[b'l'; 1000]).expect("writes");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(site.bucket().bytes("log"), None, "it is being written");
    drop(file);
    eventually("it is there whole", || site.bucket().bytes("log").is_some_and(|bytes| bytes.len() == 20_000));
    assert_eq!(site.server.requests().count(forebay_loopback_s3::Op::PutObject), 1);
}

#[test]
fn who_reads_while_a_file_is_emptied_and_written_again_and_again_sees_no_zeros() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    let path = mount.path("file");
    std::fs::write(&path, vec![7; 400_000]).expect("writes");
    let stop = std::sync::atomic::AtomicBool::new(false);
    // Of the daemon: the kernel, where it asked for more than there is now, fills its page up with zeros.
    let (vfs, ino) = (mount.fs.vfs(), Ino(std::fs::metadata(&path).expect("is there").ino()));
    let read = || {
        let Answer::Ready(Ok(opened)) = vfs.open(ino, libc::O_RDONLY) else { panic!("it is here") };
        let mut seen = 0;
        while !stop.load(std::sync::atomic::Ordering::Acquire) {
            let (reply, answer) = std::sync::mpsc::channel();
            vfs.read(opened.handle, 0, 500_000, Box::new(move |result| drop(reply.send(result.map(|bytes| bytes.to_vec())))));
            let bytes = answer.recv().expect("an answer").expect("reads");
            let zero = bytes.iter().position(|byte| *byte != 7);
            assert_eq!(zero, None, "of {} bytes", bytes.len());
            seen += bytes.len();
        }
        vfs.release(opened.handle);
        seen
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read), scope.spawn(read)];
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(3) && readers.iter().all(|reader| !reader.is_finished()) {
            let file = std::fs::OpenOptions::new().write(true).truncate(true).open(&path).expect("empties");
            file.write_all_at(&vec![7; 400_000], 0).expect("writes");
            file.sync_data().expect("syncs");
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
        assert!(readers.into_iter().map(|reader| reader.join().expect("no zeros")).sum::<usize>() > 0);
    });
}
