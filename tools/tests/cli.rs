//! The binary as a person runs it: exit codes, one-line errors, and nothing left behind. What needs a bucket is in the
//! workspace's `tests` package.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Output};

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn forebay(args: &[&str]) -> Run {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_forebay")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = forebay_fuse::mountinfo::read().unwrap();
    forebay_fuse::mountinfo::at(&mounts, &path.canonicalize().unwrap_or_else(|_| path.to_path_buf())).is_some()
}

#[test]
fn version_and_help_succeed() {
    let version = forebay(&["--version"]);
    assert_eq!((version.code, version.stdout.as_str()), (Some(0), concat!("forebay ", env!("CARGO_PKG_VERSION"), "\n")));
    let help = forebay(&["mount", "--help"]);
    assert_eq!(help.code, Some(0));
    assert!(!help.stdout.contains("ready-on-stdout"), "what is not for people is not shown");
}

#[test]
fn wrong_usage_is_2_with_one_line_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for (args, part) in [
        (vec!["mount", "s3://b", dir, "--memory-target", "1M"], "--memory-target '1M'"),
        (vec!["mount", "bucket", dir], "repository 'bucket'"),
        (vec!["mount", "s3://b", dir, "--auto-import", "newest"], "--auto-import: 'newest' is no event"),
        (vec!["mount", "s3://b", dir, "-o", "ro,memory_target=lots"], "--memory-target 'lots'"),
        (vec!["stripe", "set", dir], "nothing to set"),
    ] {
        let run = forebay(&args);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("forebay: ") && run.stderr.contains(part), "{args:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {}", run.stderr);
    }
    let unknown = forebay(&["mount", "s3://b", dir, "-o", "chache=/x"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("mount option 'chache' is not known"), "{}", unknown.stderr);
}

#[test]
fn a_mount_point_that_cannot_be_is_1_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let missing = dir.path().join("missing");
    let run = forebay(&["mount", "s3://b", missing.to_str().unwrap(), "--cache", cache.to_str().unwrap()]);
    assert_eq!(run.code, Some(1));
    assert_eq!(
        run.stderr,
        format!("forebay: mount point '{p}' does not exist; create it with 'mkdir -p {p}'\n", p = missing.display())
    );
    assert!(!cache.exists());
}

#[test]
fn a_repository_that_cannot_be_is_1_and_mounts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, mountpoint) = (dir.path().join("cache"), dir.path().join("mnt"));
    std::fs::create_dir(&mountpoint).unwrap();
    let nowhere = format!("file://{}/nowhere", dir.path().display());
    for foreground in [&[][..], &["-f"]] {
        let args = ["mount", &nowhere, mountpoint.to_str().unwrap(), "--read-only", "--cache", cache.to_str().unwrap()];
        let run = forebay(&[&args[..], foreground].concat());
        assert!(run.code != Some(0), "{}", run.stderr);
        assert!(!run.stderr.is_empty() && run.stdout.is_empty());
        assert!(!is_mounted(&mountpoint));
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let run = forebay(&["mount", "s3://b", dir.path().to_str().unwrap(), "--cache", file.to_str().unwrap()]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let outside = tempfile::tempdir().unwrap();
    let run = forebay(&["mount", "s3://b", outside.path().to_str().unwrap(), "--cache", file.to_str().unwrap()]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.starts_with(&format!("forebay: cache directory '{}' cannot be written: ", file.display())));
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), b"not a directory");
}

#[test]
fn what_is_not_mounted_cannot_be_unmounted_or_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let shown = path.to_str().unwrap();
    for args in [&["umount", shown][..], &["umount", "--discard", shown], &["status", shown], &["stripe", "get", shown]] {
        let run = forebay(args);
        assert_eq!(run.code, Some(1), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(shown) && run.stderr.lines().count() == 1, "{args:?}: {}", run.stderr);
    }
}

#[test]
fn the_state_of_all_mounts_is_json_when_asked() {
    let run = forebay(&["status", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(value.is_array());
}

#[test]
fn a_dead_mount_is_named_by_mount_and_detached_by_umount() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    // What a killed daemon leaves behind: a mount whose /dev/fuse is closed.
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,subtype=forebay", device.as_raw_fd());
    let data = std::ffi::CString::new(data).unwrap();
    rustix::mount::mount("s3://dead", &path, "fuse", rustix::mount::MountFlags::NODEV, Some(data.as_c_str())).unwrap();
    drop(device);

    let shown = path.to_str().unwrap();
    let mount = forebay(&["mount", "s3://b", shown, "--cache", "/nonexistent/cache"]);
    let umount = forebay(&["umount", shown]);
    let still_there = is_mounted(&path);
    if still_there {
        let _ = forebay_fuse::Unmounter::new(&path).detach();
    }
    assert_eq!(mount.code, Some(1));
    assert_eq!(mount.stderr, format!("forebay: '{shown}' is a dead mount; run 'forebay umount {shown}' first\n"));
    assert_eq!(umount.code, Some(0), "{}", umount.stderr);
    assert!(!still_there);
}
