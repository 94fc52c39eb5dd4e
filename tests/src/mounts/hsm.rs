//! The states of files' data: what follows from what happens, and what people set.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{AutoExport, MetadataTtl, OnConflict};
use forebay_daemon::control::hsm::{self, HsmInfo, HsmRequest};
use forebay_daemon::control::types::ApiError;
use forebay_daemon::ids::Ino;
use forebay_daemon::repository::Urgency;
use forebay_daemon::task::{TaskKind, TaskRequest, TaskRow};
use forebay_daemon::units::{ByteCount, MIB};
use forebay_daemon::vfs::Exported;
use forebay_loopback_s3::Op;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::time::Duration;

pub(super) fn info(mount: &Mounted, path: &str) -> HsmInfo {
    let tasks = mount.fs.tasks().list();
    mount.fs.runtime().block_on(hsm::info(mount.fs.vfs(), &tasks, path.as_bytes())).expect("has states")
}

pub(super) fn states(mount: &Mounted, path: &str) -> String {
    info(mount, path).states.join(" ")
}

fn change(mount: &Mounted, path: &str, set: &[&str], clear: &[&str]) -> Result<HsmInfo, ApiError> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let request = HsmRequest { set: owned(set), clear: owned(clear) };
    mount.fs.runtime().block_on(hsm::set(mount.fs.vfs(), &[], path.as_bytes(), &request))
}

pub(super) fn set(mount: &Mounted, path: &str, names: &[&str]) {
    change(mount, path, names, &[]).expect("can be set");
}

pub(super) fn clear(mount: &Mounted, path: &str, names: &[&str]) {
    change(mount, path, &[], names).expect("can be cleared");
}

/// Runs a task to its end.
pub(super) fn task(mount: &Mounted, kind: TaskKind, paths: &[&str], options: &[(&str, &str)]) -> TaskRow {
    let request = TaskRequest {
        kind,
        paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
        options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        report: None,
    };
    let id = mount.fs.tasks().create(request).expect("a task").id;
    let shown = mount.fs.runtime().block_on(mount.fs.tasks().wait(id, Duration::from_secs(120))).expect("there is one");
    assert!(shown.row.state.is_final(), "{shown:?}");
    shown.row
}

/// Content that nothing else has, and that compresses to nothing less.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Reads through the mount, not from the kernel's pages.
pub(super) fn read_anew(mount: &Mounted, name: &str) -> Vec<u8> {
    mount.forget_pages(name);
    let bytes = mount.read(name).expect("reads");
    mount.settle();
    bytes
}

fn export(mount: &Mounted, name: &str) -> Exported {
    let ino = mount.fs.vfs().known_at(name.as_bytes()).expect("is known");
    mount.fs.runtime().block_on(mount.fs.vfs().export(ino, OnConflict::Fail, Urgency::Demand)).expect("exports")
}

#[test]
fn states_follow_from_what_happens_to_a_file() {
    let site = Site::new();
    site.bucket().put("d/f", noise(1, 300_000), []);
    site.bucket().put("empty", "", []);
    let mount = site.mount(&Options::default());
    assert_eq!(info(&mount, "d/f").state_line(), "(0x0000000d) released exists archived, archive_id:1");
    assert_eq!(mount.read("d/f").expect("reads").len(), 300_000);
    mount.settle();
    assert_eq!(info(&mount, "d/f").state_line(), "(0x00000009) exists archived, archive_id:1");
    let file = std::fs::OpenOptions::new().write(true).open(mount.path("d/f")).expect("opens");
    file.write_all_at(b"changed", 5).expect("writes");
    assert_eq!(states(&mount, "d/f"), "exists dirty", "also before anything is flushed");
    file.sync_all().expect("syncs");
    drop(file);
    assert_eq!(states(&mount, "d/f"), "exists dirty");
    assert!(matches!(export(&mount, "d/f"), Exported::Sent(_)));
    assert_eq!(states(&mount, "d/f"), "exists archived");
    std::fs::set_permissions(mount.path("d/f"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("sets a mode");
    assert_eq!(states(&mount, "d/f"), "exists dirty archived", "its content is there, its mode is not");
    std::fs::write(mount.path("new"), "x").expect("writes");
    assert_eq!(info(&mount, "new").state_line(), "(0x00000000)");
    assert_eq!(info(&mount, "d").state_line(), "(0x00000000)", "directories have no states");
    assert_eq!(states(&mount, "empty"), "exists archived", "of an empty file there is nothing that could be gone");
    assert_eq!(info(&mount, "d/f").action_line(), "NOOP");
}

#[test]
fn what_says_how_things_are_is_not_set_by_hand() {
    let site = Site::new();
    site.bucket().put("f", "content", []);
    let mount = site.mount(&Options::default());
    std::fs::write(mount.path("new"), "only here").expect("writes");
    let cases: [(&str, &[&str], &[&str]); 6] = [
        ("new", &["archived"], &[]),
        ("new", &["exists"], &[]),
        ("f", &[], &["archived"]),
        ("f", &["dirty"], &[]),
        ("f", &["lost"], &[]),
        ("f", &["norelease", "dirty"], &[]),
    ];
    for (path, names, clears) in cases {
        let refused = change(&mount, path, names, clears).expect_err("refused");
        assert!(refused.message.contains("cannot be"), "{refused}");
    }
    assert_eq!(states(&mount, "f"), "released exists archived", "nothing was set where something was refused");
    set(&mount, "f", &["archived", "exists"]);
    assert!(change(&mount, "", &["norelease"], &[]).is_err_and(|error| error.message.contains("not a regular file")));
}

#[test]
fn what_is_not_to_be_archived_is_passed_over_and_still_counts_as_only_here() {
    let site = Site::new();
    let auto_export = AutoExport { new: true, changed: true, deleted: true, ..AutoExport::default() };
    let mount = site.mount(&Options::default());
    for name in ["secret", "public"] {
        std::fs::write(mount.path(name), name).expect("writes");
    }
    set(&mount, "secret", &["noarchive"]);
    let row = task(&mount, TaskKind::Export, &[""], &[]);
    assert_eq!((row.counters.failed, site.bucket().keys()), (0, vec!["public".to_owned()]));
    assert_eq!(mount.fs.status().unexported.changes, 1);
    assert_eq!(states(&mount, "secret"), "noarchive");
    drop(mount);
    let mount = site.mount(&Options { auto_export, ..Options::default() });
    std::fs::write(mount.path("secret"), "more").expect("writes");
    std::fs::write(mount.path("another"), "another").expect("writes");
    eventually("the other one is exported", || site.bucket().bytes("another").is_some());
    assert_eq!(states(&mount, "secret"), "noarchive", "also after a restart");
    assert_eq!(site.bucket().bytes("secret"), None);
    clear(&mount, "secret", &["noarchive"]);
    eventually("it goes out by itself", || site.bucket().bytes("secret").is_some_and(|bytes| bytes.as_ref() == b"more"));
}

/// A cache of 64 MiB, much smaller than what is read through it; what comes into the bucket meanwhile shows at once.
fn small() -> Options {
    Options { cache_size: ByteCount(64 * MIB), ttl: MetadataTtl::For(Duration::ZERO), ..Options::default() }
}

fn scan(site: &Site, mount: &Mounted, round: u64) {
    for at in 0..24 {
        let name = format!("scan/{round}-{at}");
        site.bucket().put(&name, noise(round * 100 + at + 1000, 4 << 20), []);
        assert_eq!(mount.read(&name).expect("reads").len(), 4 << 20);
    }
    mount.settle();
}

fn gets_of(site: &Site, key: &str) -> usize {
    site.server.requests().log().iter().filter(|request| request.op == Op::GetObject && request.key == key).count()
}

#[test]
fn a_pinned_file_stays_whatever_else_is_read_also_after_a_restart_until_it_is_let_go_of() {
    let site = Site::new();
    let bodies = [noise(1, 8 << 20), noise(2, 8 << 20)];
    site.bucket().put("before", bodies[0].clone(), []);
    site.bucket().put("after", bodies[1].clone(), []);
    let mount = site.mount(&small());
    // One that is here when it is pinned, one that comes later.
    assert!(mount.read("before").expect("reads") == bodies[0]);
    mount.settle();
    set(&mount, "before", &["norelease"]);
    set(&mount, "after", &["norelease"]);
    assert_eq!(states(&mount, "after"), "released exists archived norelease");
    assert!(mount.read("after").expect("reads") == bodies[1]);
    mount.settle();
    scan(&site, &mount, 1);
    let status = mount.fs.status().cache;
    assert!(status.evicted_blocks > 100 && status.dropped_pins == 0, "{status:?}");
    drop(mount);
    let mount = site.mount(&small());
    scan(&site, &mount, 2);
    site.server.requests().reset();
    assert!(read_anew(&mount, "before") == bodies[0] && read_anew(&mount, "after") == bodies[1]);
    assert_eq!((gets_of(&site, "before"), gets_of(&site, "after")), (0, 0));
    assert_eq!(states(&mount, "before"), "exists archived norelease");
    clear(&mount, "before", &["norelease"]);
    eventually("it is pinned no more", || mount.fs.status().cache.pinned_bytes < 9 << 20);
    assert!(mount.fs.status().cache.pinned_bytes >= 8 << 20, "the other one is");
}

#[test]
fn what_was_written_to_a_pinned_file_stays_after_it_was_exported() {
    let site = Site::new();
    let mount = site.mount(&small());
    let body = noise(7, 8 << 20);
    std::fs::write(mount.path("f"), &body).expect("writes");
    set(&mount, "f", &["norelease"]);
    assert!(matches!(export(&mount, "f"), Exported::Sent(_)));
    scan(&site, &mount, 1);
    scan(&site, &mount, 2);
    site.server.requests().reset();
    assert!(read_anew(&mount, "f") == body);
    assert_eq!(gets_of(&site, "f"), 0);
}

#[test]
fn pins_for_more_than_the_cache_refuse_nothing() {
    let site = Site::new();
    let mount = site.mount(&small());
    for at in 0..24 {
        let name = format!("pinned/{at}");
        site.bucket().put(&name, noise(at, 4 << 20), []);
        set(&mount, &name, &["norelease"]);
        assert!(mount.read(&name).expect("reads") == noise(at, 4 << 20));
    }
    mount.settle();
    let status = mount.fs.status().cache;
    assert!(status.dropped_pins > 0, "96 MiB do not fit: {status:?}");
    // Others are read all the same, and written.
    site.bucket().put("other", noise(99, 1 << 20), []);
    assert!(mount.read("other").expect("reads") == noise(99, 1 << 20));
    mount.settle();
    assert!(read_anew(&mount, "other") == noise(99, 1 << 20));
    let written = noise(100, 8 << 20);
    std::fs::write(mount.path("written"), &written).expect("a pin is no reason for ENOSPC");
    std::fs::File::open(mount.path("written")).expect("opens").sync_all().expect("syncs");
    assert!(read_anew(&mount, "written") == written);
    assert_ne!(mount.fs.vfs().known_at(b"written").expect("known"), Ino::ROOT);
}
