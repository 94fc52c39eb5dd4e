//! Set-user-ID, set-group-ID and file capabilities go when a file is changed by somebody who may not keep them: in every case as on a file
//! system of the kernel's own.

use crate::fixtures::credentials::as_user;
use crate::fixtures::mounted::{Options, Site};
use rustix::fs::{FallocateFlags, XattrFlags, copy_file_range, fallocate, getxattr, setxattr};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, fchown};
use std::path::Path;

const CAPABILITY: &str = "security.capability";
/// `cap_net_raw+ep`, as `setcap` stores it.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const USER: u32 = 1234;
const CHOWN_OF_NOTHING: &str = "chown of nothing";

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("opens")
}

type Change = fn(&Path);

/// Changes of a file, by name. All are made by a user whose file it is, or by root.
const CHANGES: [(&str, Change); 12] = [
    ("write", |path| assert_eq!(open(path).write_at(b"new", 2).expect("writes"), 3)),
    ("write nothing", |path| assert_eq!(open(path).write_at(b"", 2).expect("writes"), 0)),
    ("two writes", |path| {
        let file = open(path);
        file.write_at(b"new", 2).expect("writes");
        file.write_at(b"new", 1 << 20).expect("writes");
    }),
    ("append", |path| {
        use std::io::Write;
        OpenOptions::new().append(true).open(path).expect("opens").write_all(b"new").expect("appends");
    }),
    ("ftruncate", |path| open(path).set_len(3).expect("cuts")),
    ("truncate", |path| assert_eq!(truncate(path, 5000), 0, "cuts")),
    ("open and cut", |path| drop(OpenOptions::new().write(true).truncate(true).open(path).expect("opens"))),
    ("create over", |path| drop(OpenOptions::new().write(true).create(true).truncate(true).open(path).expect("opens"))),
    ("fallocate", |path| fallocate(open(path), FallocateFlags::empty(), 0, 9000).expect("allocates")),
    ("copy into", |path| {
        let file = open(path);
        let copied = copy_file_range(&file, Some(&mut 0), &file, Some(&mut 100), 10).expect("copies");
        assert_eq!(copied, 10);
    }),
    // By root it is left to the system whether they go; elsewhere they do (decision 0011).
    (CHOWN_OF_NOTHING, |path| fchown(open(path), None, None).expect("gives away")),
    ("chown to the same", |path| fchown(open(path), None, Some(USER)).expect("gives away")),
];

fn truncate(path: &Path, size: i64) -> i32 {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: a path and a number.
    unsafe { libc::truncate(path.as_ptr(), size) }
}

/// What is left of mode and capabilities of a file that was made with this mode and changed.
fn left(dir: &Path, mode: u32, with_capability: bool, change: Change, uid: u32) -> (String, bool) {
    let path = dir.join("f");
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, "something of a few bytes").expect("writes");
    chown(&path, Some(USER), Some(USER)).expect("gives away");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("sets the mode");
    if with_capability {
        setxattr(&path, CAPABILITY, &NET_RAW, XattrFlags::empty()).expect("sets capabilities");
    }
    let at = path.clone();
    match uid {
        0 => change(&at),
        uid => as_user(uid, &[USER], move || change(&at)),
    }
    let mode = path.metadata().expect("stats").permissions().mode() & 0o7777;
    (format!("{mode:o}"), getxattr(&path, CAPABILITY, &mut [0; 64][..]).is_ok())
}

#[test]
fn every_change_takes_away_what_it_does_on_a_file_system_of_the_kernels_own() {
    let site = Site::new();
    let mount = site.mount(&Options { allow_other: true, ..Options::default() });
    site.open_to_others();
    let own = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    std::fs::set_permissions(own.path(), PermissionsExt::from_mode(0o755)).expect("opens to others");
    let mut differences = Vec::new();
    for (name, change) in CHANGES {
        for mode in [0o4755, 0o2755, 0o6775, 0o6767, 0o2644, 0o755, 0o1755] {
            for (with_capability, uid) in [(false, 0), (false, USER), (true, 0), (true, USER)] {
                if name == CHOWN_OF_NOTHING && uid == 0 {
                    continue;
                }
                let expected = left(own.path(), mode, with_capability, change, uid);
                let found = left(mount.root(), mode, with_capability, change, uid);
                if found != expected {
                    differences.push(format!("{name} of {mode:o} by {uid}: {found:?}, elsewhere {expected:?}"));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn bits_that_are_set_again_while_a_file_is_open_go_again_and_stay_gone() {
    let site = Site::new();
    let mount = site.mount(&Options { allow_other: true, ..Options::default() });
    site.open_to_others();
    let path = mount.path("f");
    std::fs::write(&path, "x").expect("writes");
    chown(&path, Some(USER), Some(USER)).expect("gives away");
    let mode = |path: &Path| path.metadata().expect("stats").permissions().mode() & 0o7777;
    let at = path.clone();
    let file = as_user(USER, &[USER], move || open(&at));
    for round in 0..50 {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o6755)).expect("sets the mode");
        let file = file.try_clone().expect("clones");
        as_user(USER, &[USER], move || file.write_at(b"new", round).expect("writes"));
        assert_eq!(mode(&path), 0o755, "round {round}");
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o6755)).expect("sets the mode");
    file.write_at(b"root", 0).expect("writes");
    assert_eq!(mode(&path), 0o6755, "root keeps them");
    let cloned = file.try_clone().expect("clones");
    as_user(USER, &[USER], move || cloned.write_at(b"new", 7).expect("writes"));
    drop((file, mount));
    let mount = site.mount(&Options { allow_other: true, ..Options::default() });
    assert_eq!(mode(&mount.path("f")), 0o755, "after a remount");
}
