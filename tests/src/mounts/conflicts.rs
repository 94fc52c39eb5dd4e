//! Changed here and in the bucket: what each `--on-conflict` makes of it. With `keep-both` nothing is lost, and both versions show, here and there.

use super::crash::Serving;
use super::export::{Seen, body, expect_failure, export, export_as, names, noise};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{AutoExport, MetadataTtl, OnConflict, PosixMetadata};
use forebay_daemon::vfs::ErrorCode;
use forebay_loopback_s3::{Fault, Op, Rule};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

const THEIRS: &[u8] = b"theirs";
const OURS: &[u8] = b"ours";

/// A mount that takes what it knows for true until it is told otherwise: what shows of the bucket is what the export looked up.
fn trusting() -> Options {
    Options { ttl: MetadataTtl::Indefinite, ..Options::default() }
}

fn failures(seen: &Seen) -> Vec<(String, ErrorCode)> {
    let failed = seen.failed.lock().expect("no panic");
    failed.iter().map(|(path, failure)| (path.to_string_lossy().into_owned(), failure.code)).collect()
}

fn keep_both(mount: &Mounted) {
    let seen = export_as(mount, OnConflict::KeepBoth, true);
    assert_eq!(failures(&seen), []);
}

/// The one name that something got to make way.
fn aside(names: Vec<String>, stem: &str) -> String {
    let mut made_way: Vec<_> = names.into_iter().filter(|name| name.starts_with(&format!("{stem}.conflict-"))).collect();
    assert_eq!(made_way.len(), 1, "{stem}: {made_way:?}");
    made_way.remove(0)
}

/// Both versions of a file in the root are in the tree and in the bucket, theirs under the name; also in a mount that knows nothing yet, and nothing is left
/// to be exported.
fn both_are_kept(site: &Site, mount: &Mounted, name: &str, ours: &[u8]) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let other = aside(names(mount, ""), stem);
    let check = |mount: &Mounted| {
        assert_eq!(mount.read(name).expect("reads"), THEIRS, "{name}");
        assert!(mount.read(&other).expect("reads") == ours, "{other}");
    };
    check(mount);
    assert_eq!(body(site, name).as_deref(), Some(THEIRS));
    assert!(body(site, &other).as_deref() == Some(ours));
    assert_eq!(export(mount), Vec::<PathBuf>::new(), "all of it is there");
    let elsewhere = site.place().elsewhere();
    check(&elsewhere.place.mount(&Options::default()));
    other
}

#[test]
fn both_versions_of_what_both_sides_changed_or_made_are_kept() {
    let site = Site::new();
    let first = noise(1, 700_000);
    site.bucket().put("data.csv", first.clone(), []);
    let mount = site.mount(&trusting());
    // Most of ours still comes from the version that is about to go, and is here.
    assert!(mount.read("data.csv").expect("reads") == first);
    mount.settle();
    let file = std::fs::OpenOptions::new().write(true).open(mount.path("data.csv")).expect("opens");
    file.write_all_at(OURS, 300_000).expect("writes");
    drop(file);
    assert!(!mount.path("new").exists());
    std::fs::write(mount.path("new"), OURS).expect("writes");
    site.bucket().put("data.csv", THEIRS, []);
    site.bucket().put("new", THEIRS, []);
    keep_both(&mount);
    let mut expected = first;
    expected[300_000..300_004].copy_from_slice(OURS);
    let other = both_are_kept(&site, &mount, "data.csv", &expected);
    assert!(other.ends_with(".csv"), "{other}");
    both_are_kept(&site, &mount, "new", OURS);
    assert_eq!(site.bucket().keys().len(), 4);
    drop(mount);
    let again = site.mount(&trusting());
    assert!(again.read(&other).expect("reads") == expected && again.read("data.csv").expect("reads") == THEIRS);
}

#[test]
fn a_change_outlives_a_deletion_and_a_deletion_no_change() {
    let site = Site::new();
    for key in ["gone there", "gone here"] {
        site.bucket().put(key, "first", []);
    }
    let mount = site.mount(&trusting());
    std::fs::write(mount.path("gone there"), OURS).expect("writes");
    std::fs::remove_file(mount.path("gone here")).expect("removes");
    site.bucket().delete("gone there");
    site.bucket().put("gone here", THEIRS, []);
    keep_both(&mount);
    assert_eq!(body(&site, "gone there").as_deref(), Some(OURS));
    assert_eq!(mount.read("gone there").expect("reads"), OURS);
    assert_eq!(body(&site, "gone here").as_deref(), Some(THEIRS), "what was never seen here is not deleted");
    assert_eq!(site.bucket().keys().iter().filter(|key| key.contains("conflict")).count(), 0);
    drop(mount);
    let curious = site.mount(&Options { ttl: MetadataTtl::For(Duration::ZERO), ..Options::default() });
    assert_eq!(curious.read("gone here").expect("reads"), THEIRS, "and it shows again");
}

#[test]
fn what_is_gone_here_and_changed_there_is_passed_over_or_told() {
    for (on_conflict, expected) in [(OnConflict::Fail, 1), (OnConflict::Skip, 0), (OnConflict::KeepBoth, 0)] {
        let site = Site::new();
        site.bucket().put("f", "first", []);
        let mount = site.mount(&trusting());
        std::fs::remove_file(mount.path("f")).expect("removes");
        site.bucket().put("f", THEIRS, []);
        let seen = export_as(&mount, on_conflict, true);
        assert_eq!(failures(&seen).len(), expected, "{on_conflict:?}");
        assert_eq!(body(&site, "f").as_deref(), Some(THEIRS), "{on_conflict:?}");
    }
}

/// A file and a directory here whose names the bucket has as a directory and a file.
fn other_types(site: &Site, mount: &Mounted) {
    std::fs::write(mount.path("file"), OURS).expect("writes");
    std::fs::create_dir_all(mount.path("dir/sub")).expect("makes directories");
    std::fs::create_dir(mount.path("empty")).expect("makes a directory");
    for at in 0..20 {
        std::fs::write(mount.path(&format!("dir/sub/{at}")), OURS).expect("writes");
    }
    site.bucket().put("file/x", THEIRS, []);
    site.bucket().put("dir", THEIRS, []);
    site.bucket().put("empty", THEIRS, []);
}

#[test]
fn what_became_something_else_there_makes_way() {
    let site = Site::new();
    let mount = site.mount(&trusting());
    assert!(!mount.path("file").exists());
    other_types(&site, &mount);
    keep_both(&mount);
    let check = |mount: &Mounted| {
        let all = names(mount, "");
        let [file, dir, empty] = ["file", "dir", "empty"].map(|stem| aside(all.clone(), stem));
        assert_eq!(mount.read("file/x").expect("reads"), THEIRS);
        assert_eq!((mount.read("dir").expect("reads"), mount.read("empty").expect("reads")), (THEIRS.to_vec(), THEIRS.to_vec()));
        assert_eq!(mount.read(&file).expect("reads"), OURS);
        assert_eq!(names(mount, &format!("{dir}/sub")).len(), 20);
        assert_eq!(mount.read(&format!("{dir}/sub/7")).expect("reads"), OURS);
        assert!(mount.path(&empty).is_dir());
        assert_eq!(all.len(), 6, "{all:?}");
    };
    // What was on its way when the directory above it made way follows it with the next export.
    eventually("nothing is left to be sent", || export(&mount).is_empty());
    // The kernel is told from a thread of its own.
    eventually("the kernel has heard of it", || ["dir", "empty"].iter().all(|name| mount.path(name).is_file()));
    check(&mount);
    let elsewhere = site.place().elsewhere();
    check(&elsewhere.place.mount(&Options::default()));
    assert!(!site.bucket().keys().iter().any(|key| key.starts_with("dir/") || key.starts_with("empty/")));
}

#[test]
fn what_became_something_else_there_is_told_passed_over_or_overwritten() {
    let site = Site::new();
    let mount = site.mount(&trusting());
    other_types(&site, &mount);
    let before = site.bucket().keys();
    let seen = export_as(&mount, OnConflict::Fail, false);
    assert!(failures(&seen).iter().all(|(_, code)| *code == ErrorCode::S3ObjectTypeMismatch));
    assert!(failures(&seen).iter().any(|(path, _)| path == "file") && failures(&seen).len() >= 20);
    assert_eq!(site.bucket().keys(), before);
    assert_eq!(failures(&export_as(&mount, OnConflict::Skip, false)), []);
    assert_eq!(site.bucket().keys(), before);
    assert_eq!(mount.read("dir/sub/3").expect("reads"), OURS, "ours is here");
    // An object makes way for a directory; a directory of others makes no way for a file.
    expect_failure(&export_as(&mount, OnConflict::Overwrite, false), "file", ErrorCode::S3ObjectTypeMismatch);
    let after = site.bucket().keys();
    assert!(after.contains(&"dir/sub/19".to_owned()) && after.contains(&"empty/".to_owned()), "{after:?}");
    assert!(!after.contains(&"dir".to_owned()) && !after.contains(&"empty".to_owned()), "{after:?}");
    assert_eq!(body(&site, "file/x").as_deref(), Some(THEIRS));
}

#[test]
fn a_file_that_became_a_directory_there_while_it_was_changed_here_makes_way() {
    let site = Site::new();
    site.bucket().put("f.txt", "first", []);
    let mount = site.mount(&trusting());
    std::fs::write(mount.path("f.txt"), OURS).expect("writes");
    site.bucket().delete("f.txt");
    site.bucket().put("f.txt/x", THEIRS, []);
    keep_both(&mount);
    assert_eq!(mount.read("f.txt/x").expect("reads"), THEIRS);
    assert_eq!(mount.read(&aside(names(&mount, ""), "f")).expect("reads"), OURS);
    assert_eq!(export(&mount), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_that_takes_the_place_of_a_file_of_ours_is_no_conflict() {
    let site = Site::new();
    for key in ["was a file", "was moved", "was a directory/x", "was a directory/y"] {
        site.bucket().put(key, key.to_owned(), []);
    }
    let mount = site.mount(&trusting());
    names(&mount, "was a directory");
    std::fs::remove_file(mount.path("was a file")).expect("removes");
    std::fs::rename(mount.path("was moved"), mount.path("elsewhere")).expect("renames");
    std::fs::remove_dir_all(mount.path("was a directory")).expect("removes");
    std::fs::write(mount.path("was a directory"), OURS).expect("writes");
    for name in ["was a file", "was moved"] {
        std::fs::create_dir(mount.path(name)).expect("makes a directory");
        std::fs::write(mount.path(&format!("{name}/in it")), OURS).expect("writes");
    }
    keep_both(&mount);
    let expected = ["elsewhere", "was a directory", "was a file/", "was a file/in it", "was moved/", "was moved/in it"];
    assert_eq!(site.bucket().keys(), expected);
    assert_eq!(body(&site, "elsewhere"), Some(b"was moved".to_vec()));
}

#[test]
fn links_long_names_and_further_names_make_way() {
    let site = Site::new();
    let long = format!("{}.json", "ö".repeat(125));
    site.bucket().put("named", "first", []);
    let mount = site.mount(&trusting());
    symlink("ours", mount.path("link")).expect("links");
    std::fs::write(mount.path(&long), OURS).expect("writes");
    std::fs::write(mount.path("named"), OURS).expect("writes");
    std::fs::hard_link(mount.path("named"), mount.path("further")).expect("links");
    for key in ["link", &long, "named", "further"] {
        site.bucket().put(key, THEIRS, []);
    }
    keep_both(&mount);
    let all = names(&mount, "");
    assert_eq!(mount.path(&aside(all.clone(), "link")).read_link().expect("a link"), PathBuf::from("ours"));
    assert_eq!(mount.read("link").expect("reads"), THEIRS);
    let cut = all.iter().find(|name| name.starts_with('ö') && name.contains(".conflict-")).expect("another name");
    assert!(cut.len() <= 255 && cut.ends_with(".json"), "{cut}");
    assert_eq!((mount.read(cut).expect("reads"), mount.read(&long).expect("reads")), (OURS.to_vec(), THEIRS.to_vec()));
    for name in ["named", "further"] {
        both_are_kept(&site, &mount, name, OURS);
    }
    assert_eq!(all.len(), 8, "{all:?}");
    let stat = std::fs::metadata(mount.path(&aside(all, "named"))).expect("stats");
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&stat), 2, "one file still");
}

#[test]
fn whoever_has_it_open_writes_to_ours() {
    let site = Site::new();
    site.bucket().put("f", "first", []);
    let mount = site.mount(&trusting());
    let ours = std::fs::OpenOptions::new().read(true).write(true).open(mount.path("f")).expect("opens");
    ours.write_all_at(b"ours at first", 0).expect("writes");
    site.bucket().put("f", THEIRS, []);
    keep_both(&mount);
    ours.write_all_at(b"and later", 5).expect("writes");
    ours.sync_all().expect("syncs");
    keep_both(&mount);
    both_are_kept(&site, &mount, "f", b"ours and later");
    let mut read = [0; 14];
    ours.read_exact_at(&mut read, 0).expect("reads");
    assert_eq!(&read, b"ours and later");
}

#[test]
fn attributes_alone_are_a_change_and_what_is_not_here_cannot_be_kept() {
    let site = Site::new();
    let content = noise(2, 500_000);
    for key in ["here", "not here", "empty"] {
        site.bucket().put(key, if key == "empty" { Vec::new() } else { content.clone() }, []);
    }
    let mount = site.mount(&trusting());
    assert!(mount.read("here").expect("reads") == content);
    mount.settle();
    for key in ["here", "not here", "empty"] {
        std::fs::set_permissions(mount.path(key), PermissionsExt::from_mode(0o600)).expect("sets a mode");
        site.bucket().put(key, THEIRS, []);
    }
    let seen = export_as(&mount, OnConflict::KeepBoth, false);
    expect_failure(&seen, "not here", ErrorCode::S3FileDeleted);
    assert_eq!(body(&site, "not here").as_deref(), Some(THEIRS), "theirs is where it was");
    let all = names(&mount, "");
    let other = aside(all.clone(), "here");
    assert!(mount.read(&other).expect("reads") == content && body(&site, &other).as_deref() == Some(&content[..]));
    let mode = |name: &str| std::fs::metadata(mount.path(name)).expect("stats").permissions().mode() & 0o777;
    assert_eq!(mode(&other), 0o600);
    assert_eq!(mount.read("here").expect("reads"), THEIRS);
    assert_eq!(body(&site, &aside(all, "empty")), Some(Vec::new()));
}

#[test]
fn attributes_of_what_was_deleted_there_go_out_with_its_bytes() {
    let site = Site::new();
    let content = noise(3, 300_000);
    site.bucket().put("f", content.clone(), []);
    let mount = site.mount(&trusting());
    assert!(mount.read("f").expect("reads") == content);
    mount.settle();
    std::fs::set_permissions(mount.path("f"), PermissionsExt::from_mode(0o640)).expect("sets a mode");
    site.bucket().delete("f");
    keep_both(&mount);
    assert!(body(&site, "f") == Some(content.clone()) && mount.read("f").expect("reads") == content);
    assert_eq!(site.bucket().keys(), ["f"]);
}

#[test]
fn what_was_set_aside_is_not_deleted_and_deletes_nothing_later() {
    let site = Site::new();
    site.bucket().put("f", "first", []);
    let mount = site.mount(&trusting());
    std::fs::write(mount.path("f"), OURS).expect("writes");
    site.bucket().put("f", THEIRS, []);
    keep_both(&mount);
    // Whatever is asked for later, theirs was never removed here.
    let seen = export_as(&mount, OnConflict::Overwrite, true);
    assert_eq!(failures(&seen), []);
    both_are_kept(&site, &mount, "f", OURS);
    site.server.requests().reset();
    drop(mount);
    let mount = site.mount(&Options { ttl: MetadataTtl::For(Duration::ZERO), ..Options::default() });
    assert_eq!(names(&mount, "").len(), 2);
    assert_eq!(site.count(Op::DeleteObject), 0);
}

#[test]
fn a_store_that_fails_between_the_steps_delays_and_doubles_nothing() {
    let site = Site::new();
    for at in 0..8 {
        site.bucket().put(&format!("f{at}"), "first", []);
    }
    let mount = site.mount(&trusting());
    for at in 0..8 {
        std::fs::write(mount.path(&format!("f{at}")), OURS).expect("writes");
        site.bucket().put(&format!("f{at}"), THEIRS, []);
    }
    let faults = site.server.faults();
    faults.add(Rule::new(Fault::ReplyLost).on(Op::PutObject).share(0.4).times(12));
    faults.add(Rule::new(Fault::SlowDown { retry_after_s: None }).on(Op::HeadObject).times(3));
    faults.add(Rule::new(Fault::InternalError).on(Op::ListObjects).share(0.5).times(6));
    keep_both(&mount);
    assert!(site.server.faults().injected() > 5, "there were faults");
    for at in 0..8 {
        both_are_kept(&site, &mount, &format!("f{at}"), OURS);
    }
    assert_eq!(site.bucket().keys().len(), 16);
}

#[test]
fn automatic_export_keeps_both_too() {
    let site = Site::new();
    site.bucket().put("f.txt", "first", []);
    let on_conflict = OnConflict::KeepBoth;
    let auto_export = AutoExport { new: true, changed: true, deleted: true, on_conflict };
    let mount = site.mount(&Options { auto_export, posix: PosixMetadata::Free, ..trusting() });
    assert_eq!(mount.read("f.txt").expect("reads"), b"first");
    site.bucket().put("f.txt", THEIRS, []);
    std::fs::write(mount.path("f.txt"), OURS).expect("writes");
    eventually("both are in the bucket", || site.bucket().keys().len() == 2 && names(&mount, "").len() == 2);
    eventually("nothing is left to do", || mount.fs.vfs().auto_export_status().waiting == 0);
    both_are_kept(&site, &mount, "f.txt", OURS);
}

#[test]
fn kill_9_between_the_steps_neither_loses_nor_doubles_a_version() {
    const FILES: usize = 24;
    let site = Site::new();
    let place = site.place();
    let name = |at: usize| format!("f{at:02}");
    for at in 0..FILES {
        site.bucket().put(&name(at), "first", []);
    }
    let mount = site.mount(&trusting());
    for at in 0..FILES {
        std::fs::write(mount.path(&name(at)), format!("ours {at}")).expect("writes");
    }
    drop(mount);
    for at in 0..FILES {
        site.bucket().put(&name(at), THEIRS, []);
    }
    site.server.faults().set_latency(Duration::from_millis(15));
    for round in 0..4_u64 {
        let serving = Serving::start_keeping_both(&place);
        std::thread::sleep(Duration::from_millis(60 * round + 20));
        drop(serving);
    }
    site.server.faults().clear();
    let _serving = Serving::start_keeping_both(&place);
    let ours = |at: usize| {
        let prefix = format!("{}.conflict-", name(at));
        let others: Vec<_> = site.bucket().keys().into_iter().filter(|key| key.starts_with(&prefix)).collect();
        (others.len() == 1).then(|| body(&site, &others[0])).flatten()
    };
    eventually("all of ours is in the bucket", || site.bucket().keys().len() >= 2 * FILES);
    for at in 0..FILES {
        assert_eq!(ours(at), Some(format!("ours {at}").into_bytes()), "{at}");
        assert_eq!(body(&site, &name(at)).as_deref(), Some(THEIRS), "{at}");
    }
    assert_eq!(site.bucket().keys().len(), 2 * FILES);
    eventually("both show here", || std::fs::read_dir(site.mountpoint()).expect("lists").count() == 2 * FILES);
}
