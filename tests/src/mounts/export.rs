//! What was made and changed in a mount becomes objects, and what others make of them.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::{OnConflict, PosixMetadata};
use forebay_daemon::ids::Ino;
use forebay_daemon::vfs::{ExportEvents, ExportFailure, ExportResult, ExportTree};
use forebay_loopback_s3::Op;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What an export did.
#[derive(Default)]
struct Seen {
    sent: Mutex<Vec<PathBuf>>,
    failed: Mutex<Vec<(PathBuf, ExportFailure)>>,
}

impl ExportEvents for Seen {
    fn found(&self, _: &Path) {}

    fn ended(&self, path: &Path, result: &ExportResult) {
        match result {
            Ok(_) => self.sent.lock().expect("no panic").push(path.to_owned()),
            Err(failure) => self.failed.lock().expect("no panic").push((path.to_owned(), failure.clone())),
        }
    }

    fn is_canceled(&self) -> bool {
        false
    }
}

fn export_as(mount: &Mounted, on_conflict: OnConflict, prune: bool) -> Seen {
    let seen = Seen::default();
    let how = ExportTree { root: Ino::ROOT, on_conflict, prune };
    mount.fs.runtime().block_on(mount.fs.vfs().export_tree(how, PathBuf::new(), &seen)).expect("the tree can be read");
    seen
}

/// Exports everything and expects it to work; returns the paths that were sent.
fn export(mount: &Mounted) -> Vec<PathBuf> {
    let seen = export_as(mount, OnConflict::Fail, false);
    assert!(seen.failed.lock().expect("no panic").is_empty(), "{:?}", seen.failed);
    let mut sent = seen.sent.into_inner().expect("no panic");
    sent.sort();
    sent
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn writes(site: &Site) -> u64 {
    [Op::PutObject, Op::CopyObject, Op::CreateUpload, Op::DeleteObject].iter().map(|op| site.count(*op)).sum()
}

/// Mode, owner, group, size, time in ns, content.
type Found = (u32, u32, u32, u64, i128, Vec<u8>);

/// Everything below a directory.
fn tree(root: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(root.join(&dir)).expect("lists") {
            let path = dir.join(entry.expect("an entry").file_name());
            let full = root.join(&path);
            let stat = full.symlink_metadata().expect("stats");
            let content = if stat.is_file() {
                std::fs::read(&full).expect("reads")
            } else if stat.is_symlink() {
                full.read_link().expect("a target").into_os_string().into_encoded_bytes()
            } else {
                dirs.push(path.clone());
                Vec::new()
            };
            let mtime = i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
            let size = if stat.is_dir() { 0 } else { stat.size() };
            found.insert(path, (stat.mode(), stat.uid(), stat.gid(), size, mtime, content));
        }
    }
    found
}

/// A tree of all that can be exported.
fn plant(root: &Path) {
    std::fs::create_dir_all(root.join("deep/er")).expect("makes directories");
    std::fs::create_dir(root.join("empty")).expect("makes a directory");
    std::fs::write(root.join("none"), b"").expect("writes");
    std::fs::write(root.join("small.json"), b"{}").expect("writes");
    std::fs::write(root.join("deep/er/odd name +%ü&"), noise(1, 300_000)).expect("writes");
    std::fs::write(root.join("deep/large.bin"), noise(2, 40 << 20)).expect("writes");
    let sparse = std::fs::File::create(root.join("deep/sparse")).expect("makes");
    sparse.set_len(3 << 20).expect("grows");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 1 << 20).expect("writes");
    symlink("../small.json", root.join("deep/link")).expect("links");
    std::fs::hard_link(root.join("small.json"), root.join("deep/twin.json")).expect("links");
    std::fs::set_permissions(root.join("small.json"), PermissionsExt::from_mode(0o640)).expect("sets a mode");
    std::fs::set_permissions(root.join("deep/er"), PermissionsExt::from_mode(0o1777)).expect("sets a mode");
    std::os::unix::fs::chown(root.join("none"), Some(1000), Some(1001)).expect("sets an owner");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    std::fs::File::open(root.join("none")).expect("opens").set_modified(time).expect("sets a time");
}

#[test]
fn a_tree_that_was_exported_is_the_same_in_a_fresh_mount() {
    let site = Site::new();
    let mount = site.mount(&Options::default());
    plant(mount.root());
    let before = tree(mount.root());
    let sent = export(&mount);
    assert_eq!(sent.len(), before.len() - 1, "each but the further name: {sent:?}");
    assert_eq!(tree(mount.root()), before, "nothing changed here");
    let head = site.bucket().get("small.json").expect("an object");
    let metadata = head.object.as_ref().expect("not a deletion").user_metadata();
    assert_eq!(metadata.get("file-permissions").map(String::as_str), Some("0100640"));
    assert_eq!(metadata.get("file-owner").map(String::as_str), Some("0"));
    assert!(metadata.get("file-mtime").is_some_and(|time| time.ends_with("ns")) && metadata.contains_key("file-atime"));

    let puts = writes(&site);
    assert_eq!(export(&mount), Vec::<PathBuf>::new(), "all of it is there");
    assert_eq!(writes(&site), puts);
    eventually("nothing exists only here", || mount.fs.status().cache.held_bytes == 0);
    drop(mount);

    let elsewhere = site.place().elsewhere();
    let eager = Options { posix: PosixMetadata::Eager, ..Options::default() };
    let fresh = elsewhere.place.mount(&eager);
    // What a directory's marker says is known a moment after the directory was listed.
    eventually("directories have their attributes", || {
        let after = tree(fresh.root());
        before.iter().all(|(path, planted)| planted.5 != b"" || after.get(path) == Some(planted))
    });
    let after = tree(fresh.root());
    for (path, planted) in &before {
        let found = after.get(path).unwrap_or_else(|| panic!("{} is missing", path.display()));
        let attributes = |of: &Found| (of.0, of.1, of.2, of.3, of.4);
        assert_eq!(attributes(found), attributes(planted), "{}", path.display());
        assert!(found.5 == planted.5, "the content of {}", path.display());
    }
    assert_eq!(after.len(), before.len());
    drop(fresh);
    let again = site.mount(&Options::default());
    assert_eq!(tree(again.root()), before, "and after a remount of the first cache");
    assert!(site.bucket().uploads().is_empty());
}
