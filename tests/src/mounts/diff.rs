//! What differs between snapshots, and their digests, on real mounts.

use super::hsm::noise;
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::error::{Error, ErrorKind};
use forebay_daemon::format::digest::{Digest, DirectoryHasher};
use forebay_daemon::meta::{Differs, FileKind};
use forebay_daemon::vfs::{DigestProgress, TreeDigest};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

fn take(mount: &Mounted, name: &str, path: &str) {
    mount.fs.runtime().block_on(mount.fs.vfs().take_snapshot(name.as_bytes(), path.as_bytes())).expect("takes");
}

fn diff(mount: &Mounted, one: &str, other: Option<&str>) -> Result<Vec<String>, Error> {
    let found = mount.fs.vfs().diff_snapshots(one.as_bytes(), other.map(str::as_bytes));
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).expect("text");
    let line = |found: forebay_daemon::meta::Difference| {
        let path = text(&found.path);
        match found.differs {
            Differs::Added => format!("+ {path}"),
            Differs::Removed => format!("- {path}"),
            Differs::Renamed { from } => format!("R {} -> {path}", text(&from)),
            Differs::Content => format!("M {path}"),
            Differs::Attributes => format!("m {path}"),
        }
    };
    Ok(mount.fs.runtime().block_on(found)?.into_iter().map(line).collect())
}

fn digest(mount: &Mounted, name: &str) -> Result<TreeDigest, Error> {
    let progress = Arc::new(DigestProgress::default());
    mount.fs.runtime().block_on(mount.fs.vfs().digest_snapshot(name.as_bytes(), progress))
}

/// The digest of a directory by the words of its definition.
fn by_hand(dir: &Path) -> Digest {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).expect("lists").map(|entry| entry.expect("an entry").file_name().as_bytes().to_vec()).collect();
    names.sort();
    let mut hasher = DirectoryHasher::default();
    for name in names {
        let path = dir.join(OsStr::from_bytes(&name));
        let metadata = path.symlink_metadata().expect("is there");
        let (kind, digest) = match metadata.file_type() {
            kind if kind.is_dir() => (FileKind::Directory, by_hand(&path)),
            kind if kind.is_symlink() => (FileKind::Symlink, Digest::of(path.read_link().expect("reads").as_os_str().as_bytes())),
            kind if kind.is_file() => (FileKind::File, Digest::of(&std::fs::read(&path).expect("reads"))),
            _ => (FileKind::Fifo, Digest::of(b"")),
        };
        hasher.entry(kind, (metadata.mode() & 0o7777) as u16, &name, &digest);
    }
    hasher.finish()
}

#[test]
fn what_programs_do_is_told_and_what_the_cache_does_is_not() {
    let site = Site::new();
    site.bucket().put("lazy/read", noise(3, 400_000), []);
    let mount = site.mount(&Options::default());
    assert_eq!(std::fs::read_dir(mount.path("lazy")).expect("lists").count(), 1);
    std::fs::create_dir_all(mount.path("made/deep/er")).expect("makes");
    for name in ["changed", "appended", "mode", "xattr", "moved", "gone", "saved", "exported", "cut"] {
        std::fs::write(mount.path(&format!("made/{name}")), noise(name.len() as u64, 500_000)).expect("writes");
    }
    std::fs::write(mount.path("made/deep/er/file"), b"x").expect("writes");
    take(&mount, "one", "");
    assert_eq!(diff(&mount, "one", None).expect("compares"), [""; 0]);

    assert!(mount.read("lazy/read").expect("reads") == noise(3, 400_000));
    super::export::export(&mount);
    mount.settle();
    assert_eq!(diff(&mount, "one", None).expect("compares"), [""; 0], "what was read and exported is the same");

    let open = |name: &str| std::fs::OpenOptions::new().write(true).open(mount.path(name)).expect("opens");
    open("made/changed").write_all_at(b"changed", 300_000).expect("writes");
    open("made/appended").write_all_at(b"more", 500_000).expect("writes");
    open("made/cut").set_len(300_000).expect("cuts");
    std::fs::set_permissions(mount.path("made/mode"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    rustix::fs::setxattr(mount.path("made/xattr"), "user.note", b"then", rustix::fs::XattrFlags::empty()).expect("sets");
    std::fs::rename(mount.path("made/moved"), mount.path("moved")).expect("renames");
    std::fs::remove_file(mount.path("made/gone")).expect("removes");
    std::fs::write(mount.path("made/.saved"), noise(9, 500_000)).expect("writes");
    std::fs::rename(mount.path("made/.saved"), mount.path("made/saved")).expect("renames");
    std::fs::rename(mount.path("made/deep"), mount.path("deep")).expect("renames");
    std::fs::create_dir(mount.path("new")).expect("makes");
    symlink("nowhere", mount.path("new/link")).expect("links");
    let expected = [
        "R made/deep -> deep",
        "M made/appended",
        "M made/changed",
        "M made/cut",
        "- made/gone",
        "m made/mode",
        "M made/saved",
        "m made/xattr",
        "R made/moved -> moved",
        "+ new",
        "+ new/link",
    ];
    assert_eq!(diff(&mount, "one", None).expect("compares"), expected, "also what no round has recorded");
    take(&mount, "two", "");
    take(&mount, "part", "made");
    std::fs::remove_dir_all(mount.path("new")).expect("removes");
    assert_eq!(diff(&mount, "one", Some("two")).expect("compares"), expected);
    assert_eq!(diff(&mount, "two", None).expect("compares"), ["- new", "- new/link"]);
    assert_eq!(diff(&mount, "two", Some("one")).expect("compares").len(), expected.len());
    let error = diff(&mount, "one", Some("part")).expect_err("are of different directories");
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("'one' is of directory '/' and 'part' of '/made'"), "{}", error.message);
    assert_eq!(diff(&mount, "one", Some("none")).expect_err("there is none").kind, ErrorKind::NotFound);
    std::fs::rename(mount.path("made"), mount.path("renamed")).expect("renames");
    std::fs::write(mount.path("renamed/new"), b"x").expect("writes");
    assert_eq!(diff(&mount, "part", None).expect("compares"), ["+ new"]);
    std::fs::remove_dir_all(mount.path("renamed")).expect("removes");
    let error = diff(&mount, "part", None).expect_err("its directory is no more");
    assert!(error.message.contains("it was '/made'"), "{}", error.message);
}

#[test]
fn equal_trees_have_one_digest_wherever_they_are() {
    let site = Site::new();
    site.bucket().put("data/object", noise(3, 3_000_000), []);
    site.bucket().put("data/empty", b"".to_vec(), []);
    for n in 0..100 {
        site.bucket().put(&format!("data/many/{n}"), noise(n + 1, 1000 + n as usize), []);
    }
    let mount = site.mount(&Options::default());
    // Listed, so that a snapshot knows of it.
    let list = |mount: &Mounted, dirs: &[&str]| {
        dirs.iter().for_each(|dir| assert!(std::fs::read_dir(mount.path(dir)).expect("lists").count() > 0));
    };
    let made = |mount: &Mounted| {
        std::fs::create_dir_all(mount.path("data/made/deep")).expect("makes");
        std::fs::write(mount.path("data/made/file"), noise(1, 2_000_000)).expect("writes");
        std::fs::write(mount.path("data/made/file-"), b"after 'file', before what is below 'file/'").expect("writes");
        symlink("file", mount.path("data/made/link")).expect("links");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            mount.path("data/made/pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o640),
            0,
        )
        .expect("makes");
        std::fs::File::create(mount.path("data/made/sparse")).and_then(|file| file.set_len(5_000_000)).expect("makes");
    };
    list(&mount, &["data", "data/many"]);
    made(&mount);
    take(&mount, "s", "data");
    let first = digest(&mount, "s").expect("digests");
    assert_eq!(first.digest, by_hand(&mount.path(".snapshots/s")), "as it is seen");
    assert_eq!(first.entries, 3 + 100 + 7, "{first:?}");
    // A copy on another file system.
    let copy = tempfile::tempdir().expect("a directory");
    let copied = std::process::Command::new("cp").arg("-a").arg(mount.path(".snapshots/s")).arg(copy.path()).status();
    assert!(copied.expect("runs").success());
    assert_eq!(first.digest, by_hand(&copy.path().join("s")), "of a copy");

    // Another mount: nothing cached, and what was made there is not this one's.
    let elsewhere = site.place().elsewhere();
    let other = elsewhere.place.mount(&Options::default());
    list(&other, &["data", "data/many"]);
    made(&other);
    take(&other, "t", "data");
    assert_eq!(digest(&other, "t").expect("digests"), first);

    // Whatever is done afterwards, and after a restart.
    std::fs::write(mount.path("data/made/file"), b"changed").expect("writes");
    std::fs::set_permissions(mount.path("data/object"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    take(&mount, "later", "data");
    drop(mount);
    let mount = site.mount(&Options::default());
    assert_eq!(digest(&mount, "s").expect("digests"), first);
    assert_ne!(digest(&mount, "later").expect("digests").digest, first.digest);
    assert_eq!(digest(&mount, "none").expect_err("there is none").kind, ErrorKind::NotFound);
}

#[test]
fn a_digest_of_what_is_not_to_be_had_fails_with_its_path() {
    let site = Site::new();
    site.bucket().put("d/sub/object", noise(1, 200_000), []);
    site.bucket().put("e/unlisted/x", noise(1, 10), []);
    let mount = site.mount(&Options::default());
    for dir in ["d/sub", "e"] {
        assert_eq!(std::fs::read_dir(mount.path(dir)).expect("lists").count(), 1);
    }
    take(&mount, "object", "d");
    take(&mount, "directory", "e");
    site.bucket().put("d/sub/object", noise(2, 200_000), []);
    for (name, path) in [("object", "'sub/object': "), ("directory", "'unlisted': ")] {
        let error = digest(&mount, name).expect_err("is gone");
        assert_eq!((error.kind, error.message.starts_with(path)), (ErrorKind::Stale, true), "{}", error.message);
    }
    eventually("the new object is seen", || mount.read("d/sub/object").is_ok_and(|bytes| bytes == noise(2, 200_000)));
}
