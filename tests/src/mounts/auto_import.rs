//! Changes of the bucket that come in by themselves: found by listing it now and then, taken over as the policy says, and never over what was
//! made or changed here.

use super::crash::Serving;
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{AutoExport, AutoImport, MetadataTtl, OnConflict, Polling};
use forebay_daemon::repository::Urgency;
use forebay_daemon::task::watch::AutoImportStatus;
use forebay_loopback_s3::{Fault, Op, Rule};
use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

pub(super) const ALL: AutoImport = AutoImport { new: true, changed: true, deleted: true };

/// Names never grow old by themselves: what shows came in.
pub(super) fn importing(policy: AutoImport) -> Options {
    let polling = Polling {
        shortest: Duration::from_millis(50),
        longest: Duration::from_millis(200),
        reconcile: Duration::from_secs(3600),
    };
    Options { ttl: MetadataTtl::Indefinite, auto_import: policy, polling, ..Options::default() }
}

pub(super) fn status(mount: &Mounted) -> AutoImportStatus {
    mount.fs.auto_import_status().remove(0)
}

/// Waits until a pass that began from now on has ended.
pub(super) fn listed(mount: &Mounted) -> AutoImportStatus {
    let ended = || {
        let status = status(mount);
        status.passes + status.failed_passes
    };
    let before = ended();
    // The first to end may have begun before.
    for passes in 1..=2 {
        mount.fs.watch().list_now();
        eventually("a pass", || ended() >= before + passes);
    }
    status(mount)
}

/// All paths below a directory, each directory listed.
pub(super) fn find(root: &Path) -> BTreeSet<String> {
    let (mut found, mut below) = (BTreeSet::new(), vec![root.to_path_buf()]);
    while let Some(dir) = below.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            found.insert(path.strip_prefix(root).expect("below").to_str().expect("text").to_owned());
            if path.is_dir() {
                below.push(path);
            }
        }
    }
    found
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn put(site: &Site, key: &str, body: &str) {
    site.bucket().put(key, body.to_owned(), []);
}

fn has(mount: &Mounted, name: &str, body: &str) -> bool {
    mount.read(name).is_ok_and(|bytes| bytes == body.as_bytes())
}

#[test]
fn new_changed_and_deleted_objects_show_and_an_open_file_keeps_its_version() {
    let site = Site::new();
    for key in ["d/stays", "d/changes", "d/goes", "gone/f", "f"] {
        put(&site, key, "old");
    }
    let mount = site.mount(&importing(ALL));
    assert_eq!(find(mount.root()), names(["d", "d/stays", "d/changes", "d/goes", "gone", "gone/f", "f"]));
    let stays = std::fs::metadata(mount.path("d/stays")).unwrap().ino();
    let open = std::fs::File::open(mount.path("d/changes")).unwrap();
    assert_eq!(mount.read("d/changes").unwrap(), b"old");
    mount.settle();
    put(&site, "d/changes", "newer");
    put(&site, "d/comes", "new");
    put(&site, "made/of/it", "new");
    site.bucket().delete("d/goes");
    site.bucket().delete("gone/f");
    let expected = names(["d", "d/stays", "d/changes", "d/comes", "f", "made", "made/of", "made/of/it"]);
    eventually("all of it shows", || find(mount.root()) == expected && has(&mount, "d/changes", "newer"));
    assert_eq!(std::fs::metadata(mount.path("d/stays")).unwrap().ino(), stays);
    let mut bytes = [0; 3];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"old", "who has it open goes on with what was opened");
    let status = listed(&mount);
    assert_eq!((status.changed, status.deleted, status.conflicts), (1, 2, 0), "{status:?}");
    assert!(status.new >= 2 && status.last_pass.is_some_and(|pass| pass.objects == 5), "d/comes and made");
}

#[test]
fn only_what_the_policy_names_comes_in() {
    for (new, changed, deleted) in [(true, false, false), (false, true, false), (false, false, true)] {
        let site = Site::new();
        for key in ["d/changes", "d/goes"] {
            put(&site, key, "old");
        }
        let mount = site.mount(&importing(AutoImport { new, changed, deleted }));
        find(mount.root());
        assert!(has(&mount, "d/changes", "old"));
        mount.settle();
        put(&site, "d/changes", "newer");
        put(&site, "d/comes", "new");
        site.bucket().delete("d/goes");
        let status = listed(&mount);
        let counts = (status.new, status.changed, status.deleted);
        assert_eq!(counts, (u64::from(new), u64::from(changed), u64::from(deleted)));
        let is = |name: &str| mount.path(name).exists();
        eventually("the kernel heard of it", || {
            (is("d/comes"), has(&mount, "d/changes", "newer"), !is("d/goes")) == (new, changed, deleted)
        });
        assert!(changed || has(&mount, "d/changes", "old"), "as it was");
    }
}

#[test]
fn a_policy_of_some_does_not_pass_for_a_listing() {
    let site = Site::new();
    put(&site, "d/old", "old");
    let ttl = MetadataTtl::For(Duration::from_secs(1));
    let mount = site.mount(&Options { ttl, ..importing(AutoImport { deleted: true, ..AutoImport::default() }) });
    find(mount.root());
    put(&site, "d/comes", "new");
    listed(&mount);
    eventually("whoever looks after the time that names hold sees it", || mount.path("d/comes").exists());
}

#[test]
fn where_nobody_has_looked_nothing_is_listed_and_nothing_comes_in() {
    let site = Site::new();
    site.bucket().insert_synthetic(20_000, |i| format!("big/{:02}/{i:06}", i % 20), 1);
    put(&site, "seen/f", "old");
    put(&site, "zzz", "old");
    let mount = site.mount(&importing(ALL));
    site.server.requests().reset();
    assert_eq!(listed(&mount).last_pass.unwrap().objects, 0);
    assert_eq!(site.count(Op::ListObjects), 0, "nothing is known, so nothing can be wrong");
    std::fs::read_dir(mount.root()).unwrap().for_each(drop);
    assert!(!mount.path("seen/comes").exists());
    let before = status(&mount).passes;
    site.server.requests().reset();
    let passed = listed(&mount).passes - before;
    let lists = site.count(Op::ListObjects);
    assert!(lists <= 3 * (passed + 1), "{lists} LISTs in {passed} passes: what nobody has looked into is passed over");
    put(&site, "seen/comes", "new");
    put(&site, "zzz", "newer");
    listed(&mount);
    eventually("negative answers are taken back", || has(&mount, "seen/comes", "new"));
    eventually("what comes after is not passed over", || has(&mount, "zzz", "newer"));
    assert_eq!(find(&mount.path("big")).len(), 20_020);
    listed(&mount);
    assert_eq!(find(&mount.path("big")).len(), 20_020, "and once somebody has looked, nothing is missing");
}

fn export(mount: &Mounted, name: &str, on_conflict: OnConflict) -> bool {
    let vfs = mount.fs.vfs();
    let ino = vfs.known_at(name.as_bytes()).unwrap();
    mount.fs.runtime().block_on(vfs.export(ino, on_conflict, Urgency::Demand)).is_ok()
}

#[test]
fn what_both_sides_changed_is_told_and_stays_on_both() {
    let site = Site::new();
    for key in ["d/changed", "d/deleted", "gone/below", "calm"] {
        put(&site, key, "old");
    }
    let mount = site.mount(&importing(ALL));
    find(mount.root());
    for name in ["d/changed", "d/deleted", "d/made", "gone/below"] {
        std::fs::write(mount.path(name), "here").unwrap();
    }
    put(&site, "d/changed", "there");
    put(&site, "d/made", "there");
    site.bucket().delete("d/deleted");
    site.bucket().delete("gone/below");
    let status = listed(&mount);
    assert_eq!((status.conflicts, status.changed, status.deleted), (4, 0, 0), "{status:?}");
    assert!(status.conflict.is_some_and(|key| key.starts_with("d/") || key == "gone/below"));
    for name in ["d/changed", "d/deleted", "d/made", "gone/below"] {
        assert!(has(&mount, name, "here"), "{name} stays");
    }
    let there = |key: &str| site.bucket().bytes(key).map(|bytes| bytes.to_vec());
    assert_eq!((there("d/changed"), there("d/deleted")), (Some(b"there".to_vec()), None));
    assert!(!export(&mount, "d/changed", OnConflict::Fail), "as export has it");
    assert!(export(&mount, "d/changed", OnConflict::Overwrite));
    assert_eq!(there("d/changed"), Some(b"here".to_vec()));
    assert_eq!(listed(&mount).conflicts, 3, "what was settled is none any more");
    assert!(has(&mount, "d/changed", "here"));
}

#[test]
fn what_was_exported_does_not_come_back_as_a_change() {
    let site = Site::new();
    put(&site, "d/changes", "old");
    put(&site, "d/goes", "old");
    let auto_export = AutoExport { new: true, changed: true, deleted: true, ..AutoExport::default() };
    let mount = site.mount(&Options { auto_export, ..importing(ALL) });
    find(mount.root());
    std::fs::create_dir_all(mount.path("new/dir")).unwrap();
    for round in 0..5 {
        std::fs::write(mount.path("d/changes"), format!("here {round}")).unwrap();
        std::fs::write(mount.path(&format!("new/dir/{round}")), "here").unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    std::fs::rename(mount.path("new/dir/0"), mount.path("d/moved")).unwrap();
    std::fs::remove_file(mount.path("d/goes")).unwrap();
    let wanted = names(["d/changes", "d/moved", "new/", "new/dir/", "new/dir/1", "new/dir/2", "new/dir/3", "new/dir/4"]);
    let keys = || site.bucket().keys().into_iter().collect::<BTreeSet<_>>();
    let body = || site.bucket().bytes("d/changes").is_some_and(|bytes| bytes.as_ref() == b"here 4");
    let quiet = || mount.fs.vfs().auto_export_status().waiting == 0;
    // Deletions wait for what needs the objects, directories for what is made in them.
    let tries = (0..6).any(|_| {
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while std::time::Instant::now() < until && !(keys() == wanted && body() && quiet()) {
            std::thread::sleep(Duration::from_millis(50));
        }
        keys() == wanted
    });
    assert!(tries, "all is exported: {:?}, {:?}", keys(), mount.fs.vfs().auto_export_status());
    let status = listed(&mount);
    assert_eq!((status.new, status.changed, status.deleted, status.conflicts), (0, 0, 0, 0), "{status:?}");
    assert!(has(&mount, "d/changes", "here 4") && has(&mount, "d/moved", "here") && !mount.path("d/goes").exists());
}

#[test]
fn a_store_that_is_down_is_told_and_what_it_missed_comes_later() {
    let site = Site::new();
    for key in ["d/changes", "d/goes", "d/stays"] {
        put(&site, key, "old");
    }
    let mount = site.mount(&Options { deadline: Duration::from_millis(300), ..importing(ALL) });
    find(mount.root());
    assert!(has(&mount, "d/stays", "old"));
    mount.settle();
    site.server.faults().add(Rule::new(Fault::InternalError).on(Op::ListObjects));
    put(&site, "d/changes", "newer");
    site.bucket().delete("d/goes");
    eventually("a pass fails", || status(&mount).last_error.is_some());
    assert!(has(&mount, "d/stays", "old") && mount.path("d/goes").exists(), "names and data are as they were");
    let failed = status(&mount);
    assert!(failed.failed_passes > 0 && failed.last_error.unwrap().contains("gave up"), "{:?}", status(&mount));
    site.server.faults().clear();
    site.server.faults().add(Rule::new(Fault::SlowDown { retry_after_s: None }).share(0.3).times(5));
    eventually("it comes later", || has(&mount, "d/changes", "newer") && !mount.path("d/goes").exists());
    eventually("and that is told", || status(&mount).last_error.is_none());
}

#[test]
fn a_daemon_that_is_killed_in_the_midst_of_a_pass_misses_nothing() {
    let site = Site::new();
    let keys: Vec<String> = (0..6_000).map(|i| format!("d{}/{i:05}", i % 5)).collect();
    keys.iter().for_each(|key| put(&site, key, "old"));
    {
        let _serving = Serving::start(&site.place());
        find(&site.mountpoint());
    }
    for (number, key) in keys.iter().enumerate() {
        match number % 3 {
            0 => put(&site, key, "newer"),
            1 => drop(site.bucket().delete(key)),
            _ => {}
        }
    }
    put(&site, "d3/comes", "new");
    site.server.faults().set_latency(Duration::from_millis(40));
    for _ in 0..3 {
        site.server.requests().reset();
        let serving = Serving::start_importing(&site.place());
        eventually("a pass is under way", || site.count(Op::ListObjects) >= 3);
        drop(serving);
    }
    site.server.faults().set_latency(Duration::ZERO);
    let mount = site.mount(&importing(ALL));
    listed(&mount);
    site.server.requests().reset();
    let kept = keys.iter().enumerate().filter(|(number, _)| number % 3 != 1).map(|(_, key)| key.clone());
    let wanted: BTreeSet<String> = kept.chain((0..5).map(|dir| format!("d{dir}"))).chain(["d3/comes".to_owned()]).collect();
    assert_eq!(find(mount.root()), wanted);
    let lists = site.count(Op::ListObjects);
    for name in [&keys[0], &keys[3], &keys[5_997]] {
        assert!(has(&mount, name, "newer"), "{name}");
    }
    assert!(has(&mount, &keys[2], "old"));
    let status = listed(&mount);
    assert_eq!(status.last_pass.map(|pass| pass.new + pass.changed + pass.deleted), Some(0), "nothing is left; {lists} LISTs");
}
