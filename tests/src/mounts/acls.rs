//! Access control lists: what happens on a mount is what happens on a file system of the kernel's own.
//!
//! Lists are encoded here by hand, so that the daemon's code is not its own judge.

use crate::fixtures::credentials::as_user;
use crate::fixtures::mounted::{Options, Site};
use forebay_daemon::config::MetadataTtl;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, chmodat, chownat, getxattr, listxattr, mkdirat, mknodat, open};
use rustix::fs::{removexattr, setxattr, symlinkat};
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

const OWNER: u16 = 1;
const USER: u16 = 2;
const OWNING_GROUP: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHERS: u16 = 32;

fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, perm, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(if matches!(*tag, USER | GROUP) { *id } else { u32::MAX }.to_le_bytes());
    }
    bytes
}

/// A directory of the kernel's own file systems that knows access control lists.
fn reference() -> tempfile::TempDir {
    let works = |dir: &tempfile::TempDir| setxattr(dir.path(), ACCESS, &minimal(), XattrFlags::empty()).is_ok();
    let dirs = [tempfile::tempdir(), tempfile::tempdir_in("/dev/shm"), tempfile::tempdir_in("/var/tmp")];
    let dir = dirs.into_iter().flatten().find(works).expect("a file system with access control lists to compare with");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("changes the mode");
    dir
}

fn minimal() -> Vec<u8> {
    list(&[(OWNER, 7, 0), (OWNING_GROUP, 5, 0), (OTHERS, 5, 0)])
}

/// Everything about a name that access control lists have to do with.
fn state(path: &Path) -> String {
    let Ok(meta) = path.symlink_metadata() else { return "absent".into() };
    if meta.is_symlink() {
        return format!("symlink {:o}", meta.mode());
    }
    let value = |name: &str| {
        let mut buffer = vec![0; 4096];
        getxattr(path, name, &mut buffer[..]).map(|len| buffer[..len].to_vec())
    };
    let mut names = vec![0; 4096];
    let len = listxattr(path, &mut names[..]).expect("lists attributes");
    let text = String::from_utf8_lossy(&names[..len]).into_owned();
    let mut names: Vec<_> = text.split_terminator('\0').filter(|name| name.starts_with("system.")).collect();
    names.sort_unstable();
    let (access, default) = (value(ACCESS), value(DEFAULT));
    format!("{:o} {}:{} {names:?} access {access:?} default {default:?}", meta.mode(), meta.uid(), meta.gid())
}

#[derive(Clone, Debug)]
enum Step {
    Set(&'static str, usize, Vec<u8>),
    Remove(&'static str, usize),
    Chmod(usize, u32),
    Chown(usize, u32, u32),
    Mkdir(usize, u32),
    Create(usize, u32),
    Fifo(usize, u32),
    Symlink(usize),
    Umask(u32),
    Unlink(usize),
}

/// Names, each in the one before it or in the root: so default lists are handed down.
const NAMES: [&str; 8] = ["a", "b", "a/c", "a/d", "a/c/e", "a/c/f", "b/g", "b/h"];

fn random_list(rng: &mut StdRng) -> Vec<u8> {
    let mut entries = vec![(OWNER, rng.random_range(0..8), 0)];
    let mut named = false;
    for (tag, before) in [(USER, OWNING_GROUP), (GROUP, MASK)] {
        for id in [1000, 2000, 65534] {
            if rng.random_range(0..4) == 0 {
                entries.push((tag, rng.random_range(0..8), id));
                named = true;
            }
        }
        if before == OWNING_GROUP {
            entries.push((OWNING_GROUP, rng.random_range(0..8), 0));
        }
    }
    if named || rng.random_range(0..5) == 0 {
        entries.push((MASK, rng.random_range(0..8), 0));
    }
    entries.push((OTHERS, rng.random_range(0..8), 0));
    // Now and then one that is none.
    match rng.random_range(0..12) {
        0 => entries.reverse(),
        1 => drop(entries.pop()),
        2 => entries[0].1 = 8,
        3 => entries.clear(),
        4 => entries.push((64, 0, 0)),
        5 => return list(&entries)[..rng.random_range(0..8)].to_vec(),
        6 => {
            let mut bytes = list(&entries);
            bytes[0] = 1;
            return bytes;
        }
        _ => {}
    }
    list(&entries)
}

fn random_step(rng: &mut StdRng) -> Step {
    let name = rng.random_range(0..NAMES.len());
    let kind = if rng.random() { ACCESS } else { DEFAULT };
    match rng.random_range(0..16) {
        0..5 => Step::Set(kind, name, random_list(rng)),
        5 => Step::Remove(kind, name),
        6..8 => Step::Chmod(name, rng.random_range(0..0o10000)),
        8 => Step::Chown(name, [0, 1000][rng.random_range(0..2)], [0, 1000, 2000][rng.random_range(0..3)]),
        9..11 => Step::Mkdir(name, rng.random_range(0..0o2000)),
        11..13 => Step::Create(name, rng.random_range(0..0o1000)),
        13 => {
            if rng.random() {
                Step::Fifo(name, rng.random_range(0..0o1000))
            } else {
                Step::Symlink(name)
            }
        }
        14 => Step::Umask([0, 0o22, 0o77, 0o177][rng.random_range(0..4)]),
        _ => Step::Unlink(name),
    }
}

fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

fn take(root: &Path, step: &Step) -> Result<(), Errno> {
    let path = |name: &usize| root.join(NAMES[*name]);
    match step {
        Step::Set(kind, name, value) => setxattr(path(name), *kind, value, XattrFlags::empty()),
        Step::Remove(kind, name) => removexattr(path(name), *kind),
        Step::Chmod(name, bits) => chmodat(CWD, path(name), mode(*bits), rustix::fs::AtFlags::empty()),
        Step::Chown(name, uid, gid) => {
            let (uid, gid) = (rustix::fs::Uid::from_raw(*uid), rustix::fs::Gid::from_raw(*gid));
            chownat(CWD, path(name), Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        }
        Step::Mkdir(name, bits) => mkdirat(CWD, path(name), mode(*bits)),
        Step::Create(name, bits) => open(path(name), OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, mode(*bits)).map(drop),
        Step::Fifo(name, bits) => mknodat(CWD, path(name), FileType::Fifo, mode(*bits), 0),
        Step::Symlink(name) => symlinkat("nowhere", CWD, path(name)),
        Step::Umask(bits) => {
            rustix::process::umask(mode(*bits));
            Ok(())
        }
        Step::Unlink(name) => match path(name).symlink_metadata() {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir(path(name)),
            _ => std::fs::remove_file(path(name)),
        }
        .map_err(|error| Errno::from_io_error(&error).expect("an errno")),
    }
}

/// What some users can do with each name: read, write, and (of a directory) enter.
fn access_of(root: &Path, user: (u32, &'static [u32])) -> Vec<String> {
    let root = root.to_owned();
    as_user(user.0, user.1, move || {
        let try_open = |name: &&str, flags: OFlags| open(root.join(name), flags | OFlags::NONBLOCK, Mode::empty()).map(drop);
        let probe = |name: &&str| {
            let entered = root.join(name).join("x").symlink_metadata().map(drop).map_err(|error| error.raw_os_error());
            format!("{name}: {:?} {:?} {entered:?}", try_open(name, OFlags::RDONLY), try_open(name, OFlags::RDWR))
        };
        NAMES.iter().map(probe).collect()
    })
}

/// Users that lists are about, and one that none is.
const USERS: [(u32, &[u32]); 4] = [(1000, &[1000]), (2000, &[3000, 2000]), (4000, &[4000, 1000]), (65534, &[65534])];

fn run_sequence(seed: u64, root: &Path, reference: &Path) {
    let mut rng = StdRng::seed_from_u64(seed);
    for number in 0..120 {
        let step = random_step(&mut rng);
        let what = format!("seed {seed}, step {number}: {step:?}");
        assert_eq!(take(root, &step), take(reference, &step), "{what}");
        for name in NAMES {
            assert_eq!(state(&root.join(name)), state(&reference.join(name)), "{what}: {name}");
        }
        if number % 20 == 19 {
            for user in USERS {
                assert_eq!(access_of(root, user), access_of(reference, user), "{what}: as {user:?}");
            }
        }
    }
}

/// A thread that has its umask for itself.
fn with_own_umask(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: no pointers; from here on this thread shares neither umask nor working directory with others.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0, "a thread can have its own umask");
        body();
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn random_lists_modes_and_new_files_are_what_they_are_on_a_file_system_of_the_kernels_own() {
    for seed in 0..6 {
        let site = Site::new();
        site.open_to_others();
        // Attributes and lists that the kernel has cached are as good as fresh ones, for a long time and for none.
        let ttl = MetadataTtl::For(if seed % 2 == 0 { Duration::from_secs(60) } else { Duration::ZERO });
        let mount = site.mount(&Options { allow_other: true, ttl, ..Options::default() });
        let reference = reference();
        let (root, other): (PathBuf, PathBuf) = (mount.root().to_owned(), reference.path().to_owned());
        with_own_umask(move || run_sequence(seed, &root, &other));
        let before: Vec<_> = NAMES.iter().map(|name| state(&mount.path(name))).collect();
        drop(mount);
        let mount = site.mount(&Options { allow_other: true, ..Options::default() });
        let after: Vec<_> = NAMES.iter().map(|name| state(&mount.path(name))).collect();
        assert_eq!(before, after, "seed {seed}, after a remount");
    }
}

#[test]
fn who_sets_a_list_and_is_not_in_the_files_group_takes_set_group_id_away() {
    let site = Site::new();
    site.open_to_others();
    let mount = site.mount(&Options { allow_other: true, ..Options::default() });
    let reference = reference();
    for groups in [&[1000_u32][..], &[1000, 2000], &[2000]] {
        let set_in = |root: &Path| {
            let path = root.join("f");
            std::fs::write(&path, "").expect("writes");
            std::os::unix::fs::chown(&path, Some(1000), Some(2000)).expect("changes the owner");
            chmodat(CWD, &path, mode(0o2770), rustix::fs::AtFlags::empty()).expect("changes the mode");
            let value = list(&[(OWNER, 7, 0), (USER, 4, 5), (OWNING_GROUP, 7, 0), (MASK, 7, 0), (OTHERS, 0, 0)]);
            let name = path.clone();
            as_user(1000, groups, move || setxattr(&name, ACCESS, &value, XattrFlags::empty())).expect("sets a list");
            let state = state(&path);
            std::fs::remove_file(path).expect("removes");
            state
        };
        let (here, there) = (set_in(mount.root()), set_in(reference.path()));
        assert_eq!(here, there, "{groups:?}");
        assert_eq!(here.starts_with("102770"), groups.contains(&2000), "{here}");
    }
}
