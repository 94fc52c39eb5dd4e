//! The binary against a real server: what a mount refuses, in one line and with nothing left behind, and what it leaves to
//! the next one when it is killed.

mod support;

use forebay_loopback_s3::{LoopbackConfig, LoopbackS3, Op, Server, Texture};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const BUCKET: &str = "bucket";
const FORMAT_VERSION_AT: usize = 8;

/// A server with a bucket of one object, a mount point, and room for caches. Whatever is mounted below is taken down.
struct Place {
    server: Server,
    home: tempfile::TempDir,
}

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let config = LoopbackConfig { buckets: vec![BUCKET.into()], ..LoopbackConfig::default() };
        let server = LoopbackS3::start_blocking(config, 1).unwrap();
        server.bucket(BUCKET).put("data", content(), BTreeMap::new());
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("mnt")).unwrap();
        Place { server, home }
    }

    fn mnt(&self) -> PathBuf {
        self.home.path().canonicalize().unwrap().join("mnt")
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// The command, with the server's credentials and none of the surroundings'.
    fn forebay(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let keys = self.server.credentials();
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var("PATH").unwrap_or_default());
        command.env("AWS_ACCESS_KEY_ID", &keys.access_key).env("AWS_SECRET_ACCESS_KEY", &keys.secret_key);
        command
    }

    fn mount_args(&self, repository: &str, cache: &Path) -> Vec<String> {
        let (mnt, cache) = (self.mnt().display().to_string(), cache.display().to_string());
        let endpoint = self.server.endpoint_url();
        let local = ["mount", repository, &mnt, "--cache", &cache, "--cache-size", "256M", "--read-only"];
        let remote = ["--region", "us-east-1", "--endpoint-url", &endpoint, "--force-path-style"];
        local.iter().chain(&remote).map(|arg| (*arg).to_owned()).collect()
    }

    fn mount(&self) -> Run {
        run(self.forebay().args(self.mount_args("s3://bucket", &self.cache())))
    }

    fn is_mounted(&self) -> bool {
        forebay_fuse::mountinfo::at(&forebay_fuse::mountinfo::read().unwrap(), &self.mnt()).is_some()
    }

    /// A mount that must be refused: exit 1, one line with all of `parts`, nothing mounted.
    fn refused(&self, command: &mut Command, parts: &[&str]) {
        let run = run(command);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        for part in parts {
            assert!(run.stderr.starts_with("forebay: ") && run.stderr.contains(part), "no '{part}' in: {}", run.stderr);
        }
        assert!(!self.is_mounted());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mounted() {
            let _ = forebay_fuse::Unmounter::new(self.mnt()).detach();
        }
    }
}

fn content() -> Vec<u8> {
    (0..3_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn run(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn status_of(place: &Place) -> serde_json::Value {
    support::status(place.forebay().args(["status", "--json"]).arg(place.mnt()))
}

#[test]
fn a_missing_bucket_wrong_keys_and_an_unreachable_server_leave_no_trace() {
    let place = Place::new();
    place.refused(place.forebay().args(place.mount_args("s3://nowhere", &place.cache())), &["s3://nowhere does not exist"]);
    let mut wrong = place.forebay();
    wrong.env("AWS_SECRET_ACCESS_KEY", "not-the-secret").args(place.mount_args("s3://bucket", &place.cache()));
    place.refused(&mut wrong, &["s3://bucket: access denied", "check the credentials"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut args = place.mount_args("s3://bucket", &place.cache());
    let at = args.iter().position(|arg| arg == "--endpoint-url").unwrap();
    args[at + 1] = format!("http://{free}");
    place.refused(place.forebay().args(args), &[&format!("cannot reach http://{free}"), "check --endpoint-url"]);
    let left: Vec<_> =
        std::fs::read_dir(place.cache()).map(|dir| dir.map(|entry| entry.unwrap().file_name()).collect()).unwrap_or_default();
    assert!(left.iter().all(|name| name == "forebay.log"), "a refused mount made {left:?}");
}

#[test]
fn two_copies_on_one_cache_directory_are_refused() {
    let place = Place::new();
    let mut args = place.mount_args("s3://bucket", &place.cache());
    args.extend(["--dirty-copies".to_owned(), "2".to_owned()]);
    place.refused(place.forebay().args(&args), &["--dirty-copies 2: there is one cache directory", "give --cache twice"]);
    args.extend(["--cache".to_owned(), place.home.path().join("other").display().to_string()]);
    args.extend(["--deployment".to_owned(), "scratch".to_owned()]);
    place.refused(place.forebay().args(&args), &["--dirty-copies 2: a scratch deployment", "leave one of the two out"]);
    assert!(!place.home.path().join("other").exists(), "nothing was made");
}

#[test]
fn a_full_and_a_read_only_cache_directory_are_named() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let disk = place.home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=80m")).unwrap();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let dir = disk.join("cache");
        place.refused(
            place.forebay().args(place.mount_args("s3://bucket", &dir)),
            &[dir.to_str().unwrap(), "free", "--cache-size"],
        );
        mount_remount(&disk, MountFlags::RDONLY, "").unwrap();
        let dir = disk.join("other");
        place.refused(
            place.forebay().args(place.mount_args("s3://bucket", &dir)),
            &[dir.to_str().unwrap(), "Read-only file system"],
        );
    }));
    unmount(&disk, UnmountFlags::DETACH).unwrap();
    result.unwrap();
}

#[test]
fn a_cache_in_use_of_another_bucket_or_of_a_newer_format_is_refused_and_kept() {
    let place = Place::new();
    place.server.create_bucket("other").unwrap();
    assert_eq!(place.mount().code, Some(0));
    let shown = place.cache().display().to_string();
    // In use.
    let second = tempfile::tempdir().unwrap();
    let mut args = place.mount_args("s3://bucket", &place.cache());
    args[2] = second.path().display().to_string();
    let refused = run(place.forebay().args(args));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains(&shown) && refused.stderr.contains("in use by another forebay"), "{}", refused.stderr);
    assert_eq!(std::fs::read(place.mnt().join("data")).unwrap(), content());
    assert_eq!(run(place.forebay().arg("umount").arg(place.mnt())).code, Some(0));
    // Another bucket's.
    place.refused(
        place.forebay().args(place.mount_args("s3://other", &place.cache())),
        &[&shown, "belongs to s3://bucket", "--cache"],
    );
    // Newer.
    let segments = place.cache().join("segments");
    let device = std::fs::File::options().read(true).write(true).open(&segments).unwrap();
    let now = forebay_daemon::format::superblock::COPY_OFFSETS.map(|offset| make_newer(&device, offset));
    place.refused(place.forebay().args(place.mount_args("s3://bucket", &place.cache())), &["newer", &shown]);
    for (offset, sector) in forebay_daemon::format::superblock::COPY_OFFSETS.into_iter().zip(now) {
        let mut found = vec![0; sector.len()];
        std::os::unix::fs::FileExt::read_exact_at(&device, &mut found, offset).unwrap();
        assert_eq!(found, sector, "left as it was");
    }
}

/// Raises the format version of a superblock and seals it again; returns the sector.
fn make_newer(device: &std::fs::File, offset: u64) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut sector = vec![0; 4096];
    device.read_exact_at(&mut sector, offset).unwrap();
    sector[FORMAT_VERSION_AT] += 1;
    let check = crc32c::crc32c(&sector[8..]).to_le_bytes();
    sector[4..8].copy_from_slice(&check);
    device.write_all_at(&sector, offset).unwrap();
    sector
}

#[test]
fn what_was_read_before_a_kill_is_read_from_the_cache_after_it() {
    let place = Place::new();
    assert_eq!(place.mount().code, Some(0));
    assert_eq!(std::fs::read(place.mnt().join("data")).unwrap(), content());
    // The store is told of blocks in the background; a kill sooner would cost a fetch, and nothing else.
    eventually("cached", || status_of(&place)["cache"]["plain_bytes"].as_u64().unwrap() >= content().len() as u64);
    std::thread::sleep(Duration::from_secs(1));
    let pid = rustix::process::Pid::from_raw(status_of(&place)["pid"].as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("dead", || std::fs::read_dir(place.mnt()).is_err());
    assert_eq!(run(place.forebay().arg("umount").arg(place.mnt())).code, Some(0));

    let gets = place.server.requests().count(Op::GetObject);
    assert_eq!(place.mount().code, Some(0));
    assert_eq!(std::fs::read(place.mnt().join("data")).unwrap(), content());
    assert_eq!(place.server.requests().count(Op::GetObject), gets, "all of it was in the cache");
    assert_eq!(run(place.forebay().arg("umount").arg(place.mnt())).code, Some(0));
    assert!(!place.is_mounted());
}

#[test]
fn a_foreground_mount_ends_cleanly_on_sigterm_and_sigint() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let place = Place::new();
        let mut command = place.forebay();
        command.args(place.mount_args("s3://bucket", &place.cache())).arg("-f");
        let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("mounted", || place.is_mounted());
        assert_eq!(std::fs::read(place.mnt().join("data")).unwrap().len(), content().len());
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(!place.is_mounted());
    }
}

#[test]
fn the_whole_process_stays_below_its_memory_target() {
    const BYTES: u64 = 64 << 20;
    const TARGET: u64 = 256 << 20;
    let place = Place::new();
    for name in ["a", "b", "c", "d"] {
        place.server.bucket(BUCKET).put_synthetic(name, 1, BYTES, Texture::Noise);
    }
    let mut args = place.mount_args("s3://bucket", &place.cache());
    args.extend(["--memory-target".to_owned(), "256M".to_owned()]);
    let mounted = run(place.forebay().args(args));
    assert_eq!(mounted.code, Some(0), "{}", mounted.stderr);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let path = place.mnt().join(name);
            scope.spawn(move || assert_eq!(std::fs::read(path).unwrap().len() as u64, BYTES));
        }
    });
    let peak = support::peak_resident(&status_of(&place));
    assert!(peak <= TARGET, "{} MiB", peak >> 20);
    assert_eq!(run(place.forebay().arg("umount").arg(place.mnt())).code, Some(0));
}
