//! Quotas on a real mount: who is refused what, and when it is free again. Other users are child processes.

use crate::fixtures::mounted::{Mounted, Options, Site};
use forebay_daemon::config::{Deployment, MetadataTtl};
use forebay_daemon::error::Result;
use forebay_daemon::meta::{Graces, QuotaKind, QuotaLimits};
use forebay_daemon::vfs::{Answer, ShownQuota};
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const USER: u32 = 4242;

fn settled<T>(mount: &Mounted, answer: Answer<T>) -> Result<T> {
    match answer {
        Answer::Ready(result) => result,
        Answer::Pending(answer) => mount.fs.runtime().block_on(answer),
    }
}

fn set(mount: &Mounted, path: &str, kind: QuotaKind, change: impl Fn(&mut QuotaLimits) + Send + 'static) {
    let set = mount.fs.vfs().set_quota(path.as_bytes(), kind, USER.into(), change);
    settled(mount, set).expect("sets");
}

fn shown(mount: &Mounted, path: &str, kind: QuotaKind) -> ShownQuota {
    settled(mount, mount.fs.vfs().quota(path.as_bytes(), kind, USER.into())).expect("shows")
}

fn used(mount: &Mounted, path: &str, kind: QuotaKind) -> (u64, u64) {
    let used = shown(mount, path, kind).quota.used;
    (used.bytes, used.inodes)
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.expect_err("refused").raw_os_error()
}

/// A mount that another user may write to, in a place that user can reach.
fn open_to_all(site: &Site, options: Options) -> Mounted {
    let home = site.place().home;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o755)).expect("opens the way");
    let mount = site.mount(&Options { allow_other: true, ttl: MetadataTtl::For(Duration::from_secs(60)), ..options });
    std::fs::set_permissions(mount.root(), std::fs::Permissions::from_mode(0o777)).expect("opens the root");
    mount
}

/// Runs a shell command as another user.
fn as_user(dir: &Path, script: &str) -> Output {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).current_dir(dir).env("LC_ALL", "C").uid(USER).gid(USER);
    shell.output().expect("runs a shell")
}

#[track_caller]
fn refused(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("Disk quota exceeded"), "{output:?}");
}

#[track_caller]
fn fine(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_user_over_the_limit_of_inodes_makes_nothing_until_something_is_removed() {
    if !is_root() {
        return println!("skipped: only root can be other users");
    }
    let site = Site::new();
    let mount = open_to_all(&site, Options::default());
    set(&mount, "", QuotaKind::User, |limits| limits.inodes.hard = 3);
    fine(&as_user(mount.root(), "touch a && mkdir b && ln -s a c"));
    for attempt in ["touch d", "mkdir d", "ln -s a d", "mkfifo d"] {
        refused(&as_user(mount.root(), attempt));
    }
    fine(&as_user(mount.root(), "ln a b/again"));
    std::fs::write(mount.path("by-root"), "x").expect("root may");
    chown(mount.path("by-root"), Some(USER), None).expect("root may give it away");
    assert_eq!(used(&mount, "", QuotaKind::User).1, 4);
    // What is gone is free at once, not with the next round.
    fine(&as_user(mount.root(), "rm -f by-root c && touch d && rm d && touch e"));
    refused(&as_user(mount.root(), "touch f"));
}

#[test]
fn a_user_over_the_limit_of_bytes_writes_nothing_more_also_after_a_remount() {
    if !is_root() {
        return println!("skipped: only root can be other users");
    }
    let site = Site::new();
    let mount = open_to_all(&site, Options::default());
    set(&mount, "", QuotaKind::User, |limits| limits.bytes.hard = 4 * MIB);
    fine(&as_user(mount.root(), "dd if=/dev/urandom of=a bs=1M count=3 2>&1"));
    // What is dirty counts: nothing had time to be flushed.
    refused(&as_user(mount.root(), "dd if=/dev/urandom of=b bs=1M count=2"));
    fine(&as_user(mount.root(), "truncate -s 1G hole && rm b && dd if=/dev/urandom of=b bs=1M count=1"));
    refused(&as_user(mount.root(), "fallocate -l 100M c"));
    assert_eq!(used(&mount, "", QuotaKind::User).0, 4 * MIB);
    drop(mount);
    let mount = open_to_all(&site, Options::default());
    assert_eq!(used(&mount, "", QuotaKind::User).0, 4 * MIB);
    refused(&as_user(mount.root(), "dd if=/dev/urandom of=d bs=1 count=1"));
    // Cut, emptied and overwritten it is free at once.
    fine(&as_user(mount.root(), ": > a && dd if=/dev/urandom of=d bs=1M count=3"));
    fine(&as_user(mount.root(), "dd if=/dev/urandom of=d bs=1M count=3 conv=notrunc"));
    refused(&as_user(mount.root(), "dd if=/dev/urandom of=f bs=1 count=1"));
}

#[test]
fn a_project_binds_root_and_what_leaves_it_is_free() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    for dir in ["p", "p/inner", "q"] {
        std::fs::create_dir(mount.path(dir)).expect("makes");
    }
    let before = std::fs::File::create(mount.path("p/inner/before")).expect("makes");
    before.write_all_at(&[7; 100_000], 0).expect("writes");
    before.sync_all().expect("syncs");
    set(&mount, "p", QuotaKind::Project, |limits| limits.bytes.hard = 2 * MIB);
    assert_eq!(shown(&mount, "p/inner/before", QuotaKind::Project).path.as_deref(), Some(&b"p"[..]));
    let missing = settled(&mount, mount.fs.vfs().quota(b"q", QuotaKind::Project, 0));
    assert_eq!(missing.expect_err("none").kind, forebay_daemon::error::ErrorKind::NotFound);

    let file = OpenOptions::new().create_new(true).write(true).open(mount.path("p/inner/f")).expect("makes");
    let noise: Vec<u8> = (0..4 * MIB as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(errno(file.write_all_at(&noise, 0)), Some(libc::EDQUOT));
    file.set_len(0).expect("cuts");
    file.write_all_at(&noise[..MIB as usize], 0).expect("writes");
    file.set_len(1 << 40).expect("a hole costs nothing");
    let allocated = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 1 << 40, 10 * MIB);
    assert_eq!(allocated, Err(rustix::io::Errno::DQUOT));
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 0, MIB / 2).expect("punches");
    file.sync_all().expect("syncs");
    let inner = 100_000_u64.next_multiple_of(4096);
    assert_eq!(used(&mount, "p", QuotaKind::Project), (inner + MIB / 2, 4));
    let space = rustix::fs::statvfs(mount.path("p/inner")).expect("statfs");
    assert_eq!(space.f_blocks * space.f_frsize, 2 * MIB);
    assert_eq!(space.f_bfree * space.f_frsize, (2 * MIB - inner - MIB / 2) / space.f_frsize * space.f_frsize);

    std::fs::rename(mount.path("p/inner"), mount.path("q/inner")).expect("moves out");
    assert_eq!(used(&mount, "p", QuotaKind::Project), (0, 1));
    std::fs::write(mount.path("big"), &noise).expect("outside there is no limit");
    std::fs::File::open(mount.path("big")).expect("opens").sync_all().expect("syncs");
    assert_eq!(errno(std::fs::rename(mount.path("big"), mount.path("p/big"))), Some(libc::EDQUOT));
    set(&mount, "p", QuotaKind::Project, |limits| *limits = QuotaLimits::default());
    std::fs::rename(mount.path("big"), mount.path("p/big")).expect("without a limit it may");
}

#[test]
fn a_soft_limit_may_be_exceeded_for_its_grace() {
    let site = Site::new();
    let mount = site.mount(&Options { deployment: Deployment::Scratch, ..Options::default() });
    std::fs::create_dir(mount.path("p")).expect("makes");
    set(&mount, "p", QuotaKind::Project, |limits| limits.inodes.soft = 2);
    let graces = |seconds| {
        let graces = Graces { bytes_s: seconds, inodes_s: seconds };
        mount.fs.vfs().set_quota_graces(QuotaKind::Project, graces).expect("sets");
    };
    for name in ["p/a", "p/b", "p/c"] {
        std::fs::write(mount.path(name), "").expect("within the grace period");
    }
    graces(0);
    assert_eq!(errno(std::fs::write(mount.path("p/d"), "")), Some(libc::EDQUOT));
    graces(3600);
    std::fs::write(mount.path("p/d"), "").expect("within the grace period");
    graces(0);
    for name in ["p/b", "p/c", "p/d"] {
        std::fs::remove_file(mount.path(name)).expect("removes");
    }
    std::fs::write(mount.path("p/e"), "").expect("it is below the limit again");
}

#[test]
fn a_shared_group_directory_is_limited_by_its_group_and_the_bucket_counts_for_nobody() {
    if !is_root() {
        return println!("skipped: only root can be other users");
    }
    let site = Site::new();
    for n in 0..20 {
        site.bucket().put(&format!("data/{n}"), vec![1; 10_000], []);
    }
    let mount = open_to_all(&site, Options::default());
    let shared = mount.path("shared");
    std::fs::create_dir(&shared).expect("makes");
    chown(&shared, None, Some(USER)).expect("gives to the group");
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o2777)).expect("sets the group bit");
    set(&mount, "", QuotaKind::Group, |limits| limits.inodes.hard = 3);
    let other = |script: &str| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).current_dir(&shared).env("LC_ALL", "C").uid(USER + 1).gid(USER + 1);
        shell.output().expect("runs a shell")
    };
    fine(&other("touch a b"));
    refused(&other("touch c"));
    assert_eq!(std::fs::read_dir(mount.path("data")).expect("lists").count(), 20);
    assert_eq!(mount.read("data/3").expect("reads").len(), 10_000);
    let root = mount.fs.vfs().quotas().expect("lists").into_iter().find(|shown| shown.quota.id.number() == 0);
    assert!(root.is_none_or(|root| root.quota.used.inodes <= 1), "only the directory made here");
}
