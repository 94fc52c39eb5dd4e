//! Changes that go to the bucket by themselves: soon, once, in order, and after whatever comes between.

use super::crash::Serving;
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::AutoExport;
use forebay_loopback_s3::{Fault, Op, Rule};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn all() -> Options {
    Options { auto_export: AutoExport { new: true, changed: true, deleted: true, ..AutoExport::default() }, ..Options::default() }
}

fn body(site: &Site, key: &str) -> Option<Vec<u8>> {
    site.bucket().bytes(key).map(|bytes| bytes.to_vec())
}

/// Keys and bodies that a tree should have.
fn wanted(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(root.join(&dir)).expect("lists") {
            let path = dir.join(entry.expect("an entry").file_name());
            let key = path.to_str().expect("UTF-8").to_owned();
            if root.join(&path).is_dir() {
                found.insert(format!("{key}/"), Vec::new());
                dirs.push(path);
            } else {
                found.insert(key, std::fs::read(root.join(&path)).expect("reads"));
            }
        }
    }
    found
}

fn there(site: &Site) -> BTreeMap<String, Vec<u8>> {
    site.bucket().keys().into_iter().map(|key| (key.clone(), body(site, &key).unwrap_or_default())).collect()
}

fn until_exported(site: &Site, root: &Path, why_not: &dyn Fn() -> String) {
    let began = Instant::now();
    let wanted = wanted(root);
    while there(site) != wanted {
        let differs = || {
            let (there, wanted) = (there(site), &wanted);
            let missing: Vec<_> = wanted.keys().filter(|key| there.get(*key) != wanted.get(*key)).take(5).cloned().collect();
            let extra: Vec<_> = there.keys().filter(|key| !wanted.contains_key(*key)).take(5).cloned().collect();
            format!("missing or other: {missing:?}; too many: {extra:?}")
        };
        assert!(began.elapsed() < Duration::from_secs(150), "{}; {}", differs(), why_not());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn trouble(mount: &Mounted) -> String {
    format!("{:?}", mount.fs.vfs().auto_export_status())
}

fn is_quiet(mount: &Mounted) -> bool {
    let status = mount.fs.vfs().auto_export_status();
    status.waiting == 0 && status.failing == 0
}

#[test]
fn what_is_written_is_soon_in_the_bucket() {
    let site = Site::new();
    let mount = site.mount(&all());
    // How soon is for a bench to say (two seconds are promised where nothing else is going on).
    for round in 0..3 {
        let name = format!("f{round}");
        std::fs::write(mount.path(&name), format!("content {round}")).expect("writes");
        eventually("it is there", || body(&site, &name).is_some());
    }
}

#[test]
fn changes_of_every_kind_follow_and_many_of_one_file_are_few() {
    let site = Site::new();
    site.bucket().put("was/there", "before", []);
    site.bucket().put("was/going", "before", []);
    let mount = site.mount(&all());
    std::fs::create_dir(mount.path("made")).expect("makes a directory");
    for at in 0..50 {
        std::fs::write(mount.path(&format!("made/{at}")), format!("content {at}")).expect("writes");
    }
    for round in 0..10 {
        std::fs::write(mount.path("often"), format!("round {round}")).expect("writes");
    }
    std::fs::write(mount.path("was/there"), "after").expect("writes");
    std::fs::remove_file(mount.path("was/going")).expect("removes");
    eventually("all is there", || body(&site, "often").is_some_and(|body| body == b"round 9") && is_quiet(&mount));
    let puts =
        site.server.requests().log().iter().filter(|request| request.op == Op::PutObject && request.key == "often").count();
    assert!(puts <= 2, "ten writes, {puts} uploads");
    std::fs::rename(mount.path("made"), mount.path("moved")).expect("renames");
    std::fs::remove_file(mount.path("moved/7")).expect("removes");
    std::fs::set_permissions(mount.path("moved/8"), PermissionsExt::from_mode(0o600)).expect("sets a mode");
    std::fs::create_dir_all(mount.path("new/deeper")).expect("makes directories");
    std::fs::rename(mount.path("often"), mount.path("new/deeper/often")).expect("renames");
    let mut wanted = wanted(mount.root());
    // Implied by a key below it, and never told otherwise.
    wanted.remove("was/");
    let began = Instant::now();
    while there(&site) != wanted {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", there(&site).keys());
        std::thread::sleep(Duration::from_millis(50));
    }
    let metadata = site.bucket().get("moved/8").expect("an object").object.as_ref().expect("not a deletion").user_metadata();
    assert_eq!(metadata.get("file-permissions").map(String::as_str), Some("0100600"));
    eventually("nothing is left to do", || is_quiet(&mount));
}

#[test]
fn storms_throttling_and_lost_replies_delay_and_lose_nothing() {
    let site = Site::new();
    let mount = site.mount(&all());
    let faults = site.server.faults();
    faults.add(Rule::new(Fault::SlowDown { retry_after_s: None }).on(Op::PutObject).share(0.2).times(10));
    faults.add(Rule::new(Fault::ReplyLost).on(Op::PutObject).share(0.3).times(40));
    faults.add(Rule::new(Fault::ReplyLost).on(Op::CompleteUpload).times(2));
    faults.add(Rule::new(Fault::InternalError).on(Op::UploadPart).share(0.3).times(20));
    faults.add(Rule::new(Fault::ReplyLost).on(Op::DeleteObject).share(0.5).times(20));
    faults.add(Rule::new(Fault::ReplyLost).on(Op::CopyObject).share(0.5).times(20));
    std::fs::create_dir(mount.path("d")).expect("makes a directory");
    for at in 0..100 {
        std::fs::write(mount.path(&format!("d/{at}")), vec![at; 1000]).expect("writes");
    }
    std::fs::write(mount.path("large"), vec![7; 30 << 20]).expect("writes");
    until_exported(&site, mount.root(), &|| trouble(&mount));
    for at in 0..100 {
        let path = |dir: &str| mount.path(&format!("{dir}/{at}"));
        match at % 4 {
            0 => std::fs::write(path("d"), vec![at; 2000]).expect("writes"),
            1 => std::fs::remove_file(path("d")).expect("removes"),
            2 => std::fs::rename(path("d"), mount.path(&format!("moved-{at}"))).expect("renames"),
            _ => {}
        }
    }
    until_exported(&site, mount.root(), &|| trouble(&mount));
    assert!(site.server.faults().injected() > 15, "there were faults");
    eventually("nothing is left to do", || is_quiet(&mount));
    assert!(site.bucket().uploads().is_empty(), "no upload is left behind");
}

#[test]
fn kill_9_at_any_moment_loses_no_queued_change_and_leaves_no_upload() {
    let site = Site::new();
    let place = site.place();
    site.server.faults().set_latency(Duration::from_millis(5));
    for round in 0..5_u64 {
        let serving = Serving::start_with(&place, true);
        let dir = site.mountpoint().join(format!("round{round}"));
        std::fs::create_dir(&dir).expect("makes a directory");
        for at in 0..60_u64 {
            std::fs::write(dir.join(format!("{at}")), vec![at as u8; 100 * at as usize]).expect("writes");
        }
        let large = std::fs::File::create(dir.join("large")).expect("makes");
        for part in 0..40_u8 {
            std::os::unix::fs::FileExt::write_all_at(&large, &vec![part; 1 << 20], u64::from(part) << 20).expect("writes");
        }
        large.sync_all().expect("syncs");
        drop(large);
        if round > 0 {
            let before = site.mountpoint().join(format!("round{}", round - 1));
            std::fs::remove_file(before.join("3")).expect("removes");
            std::fs::rename(before.join("large"), before.join("still large")).expect("renames");
            std::fs::rename(&before, site.mountpoint().join(format!("moved{}", round - 1))).expect("renames");
        }
        std::thread::sleep(Duration::from_millis(300 * round + 200));
        drop(serving);
    }
    let _serving = Serving::start_with(&place, true);
    until_exported(&site, &site.mountpoint(), &String::new);
    eventually("no upload is left behind", || site.bucket().uploads().is_empty());
}

#[test]
fn a_write_that_happened_and_was_not_recorded_is_where_the_file_comes_from() {
    let site = Site::new();
    let place = site.place();
    let object: Vec<u8> = (0..3_u32 << 20).map(|at| (at / 1000) as u8).collect();
    site.bucket().put("f", object.clone(), []);
    let first = site.bucket().get("f").expect("an object").object.as_ref().map(|object| object.etag);
    let serving = Serving::start_with(&place, true);
    site.server.faults().add(Rule::new(Fault::Delay(Duration::from_secs(8))).on(Op::PutObject).times(1));
    let file = std::fs::OpenOptions::new().write(true).open(site.mountpoint().join("f")).expect("opens");
    std::os::unix::fs::FileExt::write_all_at(&file, b"ours", 2_000_000).expect("writes");
    file.sync_all().expect("syncs");
    drop(file);
    eventually("the object is replaced", || {
        site.bucket().get("f").expect("an object").object.as_ref().map(|object| object.etag) != first
    });
    drop(serving);
    let mut expected = object;
    expected[2_000_000..2_000_004].copy_from_slice(b"ours");
    let _serving = Serving::start_with(&place, true);
    eventually("it is readable", || std::fs::read(site.mountpoint().join("f")).is_ok_and(|read| read == expected));
    assert!(body(&site, "f") == Some(expected));
}
