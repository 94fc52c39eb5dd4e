//! Objects as FSx for Lustre and DataSync write them, whole ones and odd ones: what they look like in a mount, and what an export makes of them.

use super::export::{body, export, names};
use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::PosixMetadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// User metadata of an object.
type Meta<'a> = &'a [(&'a str, &'a str)];

const AGENT: (&str, &str) = ("user-agent", "aws-fsx-lustre");

fn eager() -> Options {
    Options { posix: PosixMetadata::Eager, ..Options::default() }
}

fn put(site: &Site, key: &str, content: &str, metadata: Meta<'_>) {
    site.bucket().put(key, content.to_owned(), metadata.iter().copied());
}

fn metadata(site: &Site, key: &str, name: &str) -> Option<String> {
    let found = site.bucket().get(key).expect("an object");
    found.object.as_ref().expect("not a deletion").user_metadata().get(name).cloned()
}

/// Mode with type bits, owner, group, time in ns.
fn stat(mount: &Mounted, name: &str) -> (u32, u32, u32, i128) {
    let stat = mount.path(name).symlink_metadata().expect("stats");
    (stat.mode(), stat.uid(), stat.gid(), i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec()))
}

#[test]
fn whole_metadata_is_shown_and_kept() {
    let site = Site::new();
    let of = |mode| [("file-permissions", mode), ("file-owner", "500"), ("file-group", "600")];
    let times = [("file-atime", "1595002920000000000ns"), ("file-mtime", "1595002920123456789ns"), AGENT];
    put(&site, "d/", "", &[&of("0040750")[..], &times].concat());
    put(&site, "d/file", "content", &[&of("0100664")[..], &times].concat());
    put(&site, "d/link", "file", &[&of("0120777")[..], &times].concat());
    put(&site, "d/ms", "older", &[&of("0100600")[..], &[("file-mtime", "1595002920123"), AGENT]].concat());
    // The slash beats the type bits.
    put(&site, "d/odd/", "", &[&of("0100700")[..], &times].concat());
    let mount = site.mount(&eager());
    let ns = 1_595_002_920_123_456_789;
    assert_eq!(names(&mount, "d"), ["file", "link", "ms", "odd"]);
    eventually("what objects and markers say is known a moment after they were listed", || {
        names(&mount, "d/odd");
        let directories = stat(&mount, "d") == (0o040_750, 500, 600, ns) && stat(&mount, "d/odd").0 == 0o040_700;
        directories && stat(&mount, "d/file") == (0o100_664, 500, 600, ns) && stat(&mount, "d/link").0 == 0o120_777
    });
    assert_eq!(mount.path("d/link").read_link().expect("a link"), PathBuf::from("file"));
    assert_eq!(stat(&mount, "d/link"), (0o120_777, 500, 600, ns));
    assert_eq!(stat(&mount, "d/ms"), (0o100_600, 500, 600, 1_595_002_920_123_000_000));
    // What was only read is not written; what changes keeps the rest.
    assert_eq!(export(&mount), Vec::<PathBuf>::new());
    std::fs::set_permissions(mount.path("d/file"), PermissionsExt::from_mode(0o2755)).expect("sets a mode");
    std::os::unix::fs::chown(mount.path("d/ms"), Some(7), None).expect("sets an owner");
    assert_eq!(export(&mount), [Path::new("d/file"), Path::new("d/ms")]);
    assert_eq!(metadata(&site, "d/file", "file-permissions").as_deref(), Some("0102755"));
    assert_eq!(metadata(&site, "d/file", "file-mtime").as_deref(), Some("1595002920123456789ns"));
    assert_eq!(metadata(&site, "d/ms", "file-mtime").as_deref(), Some("1595002920123000000ns"));
    assert_eq!(
        (metadata(&site, "d/ms", "file-owner"), metadata(&site, "d/ms", "file-group")),
        (Some("7".into()), Some("600".into()))
    );
    assert_eq!(metadata(&site, "d/link", "user-agent").as_deref(), Some("aws-fsx-lustre"), "others are as they were");
    let fresh = site.place().elsewhere();
    let fresh = fresh.place.mount(&eager());
    assert_eq!(names(&fresh, "d"), ["file", "link", "ms", "odd"]);
    eventually("they are the same there", || {
        ["d/file", "d/ms", "d/link"].into_iter().all(|name| stat(&fresh, name) == stat(&mount, name))
    });
    assert_eq!(fresh.read("d/link").expect("reads through it"), b"content");
}

#[test]
fn what_is_missing_or_makes_no_sense_is_as_if_nobody_had_said_it() {
    let site = Site::new();
    let odd: [(&str, Meta<'_>); 8] = [
        ("nothing", &[]),
        ("words", &[("file-permissions", "rw-r--r--"), ("file-owner", "alice"), ("file-mtime", "yesterday")]),
        ("signs", &[("file-permissions", "-0100644"), ("file-owner", "-1"), ("file-group", "+"), ("file-mtime", "ns")]),
        ("huge", &[("file-permissions", "7777777"), ("file-owner", "4294967296"), ("file-mtime", "99999999999999999999ns")]),
        ("empty", &[("file-permissions", ""), ("file-owner", ""), ("file-group", ""), ("file-mtime", "")]),
        ("half", &[("file-permissions", "0100640"), ("file-owner", "12x")]),
        ("no type", &[("file-permissions", "0640"), ("file-group", "33")]),
        ("a device", &[("file-permissions", "0060644")]),
    ];
    for (key, metadata) in odd {
        put(&site, key, key, metadata);
    }
    // A link without a target, and one whose target is no name.
    put(&site, "to nothing", "", &[("file-permissions", "0120777")]);
    put(&site, "to zeros", "a\0b", &[("file-permissions", "0120777")]);
    let mount = site.mount(&eager());
    let (mode, default) = (|name| stat(&mount, name).0 & 0o7777, 0o755);
    for (key, _) in odd {
        let (kind, uid) = (stat(&mount, key).0 & 0o170_000, stat(&mount, key).1);
        assert_eq!((kind, uid), (0o100_000, 0), "{key}");
        assert_eq!(mount.read(key).expect("reads"), key.as_bytes(), "{key}");
    }
    for name in ["nothing", "words", "signs", "huge", "empty"] {
        assert_eq!(mode(name), default, "{name}");
    }
    assert_eq!((mode("half"), mode("no type"), stat(&mount, "no type").2), (0o640, 0o640, 33));
    // Whatever they are, they can be listed, looked at and exported around.
    let all = names(&mount, "");
    assert!(all.contains(&"to nothing".to_owned()) && all.contains(&"to zeros".to_owned()), "{all:?}");
    assert!(mount.path("to nothing").symlink_metadata().is_ok() && mount.path("to zeros").symlink_metadata().is_ok());
    assert_eq!(export(&mount), Vec::<PathBuf>::new());
    std::fs::write(mount.path("words"), "rewritten").expect("writes");
    assert_eq!(export(&mount), [Path::new("words")]);
    assert_eq!(body(&site, "words").as_deref(), Some(&b"rewritten"[..]));
    assert_eq!(metadata(&site, "words", "file-permissions").as_deref(), Some("0100755"));
    assert_eq!(metadata(&site, "words", "file-owner").as_deref(), Some("0"));
}
