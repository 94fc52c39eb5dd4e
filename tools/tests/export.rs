//! `forebay export`, `--auto-export` and what `forebay umount` says of what is not in the bucket.

use forebay_loopback_s3::{Credentials, LoopbackConfig, LoopbackS3, Op, Server};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A server, and a place for mounts of its bucket, which are taken down at the end.
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
        let config = LoopbackConfig { buckets: vec!["bucket".into()], ..LoopbackConfig::default() };
        let server = LoopbackS3::start_blocking(config, 1).expect("a server");
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join("mnt")).expect("a mount point");
        Place { server, home }
    }

    fn mount(&self, more: &[&str]) {
        let keys = self.server.credentials();
        self.mount_in(&[("AWS_ACCESS_KEY_ID", &keys.access_key), ("AWS_SECRET_ACCESS_KEY", &keys.secret_key)], more);
    }

    /// Writes the profile that the keys come from where the environment has none.
    fn write_profile(&self, keys: &Credentials) {
        let dir = self.home.path().join(".aws");
        std::fs::create_dir_all(&dir).expect("makes a directory");
        let text = format!("[default]\naws_access_key_id={}\naws_secret_access_key={}\n", keys.access_key, keys.secret_key);
        std::fs::write(dir.join("new"), text).expect("writes");
        std::fs::rename(dir.join("new"), dir.join("credentials")).expect("renames");
    }

    fn mount_in(&self, environment: &[(&str, &str)], more: &[&str]) {
        let (mnt, cache) = (self.path(""), self.home.path().join("cache").display().to_string());
        let endpoint = self.server.endpoint_url();
        let local = ["mount", "s3://bucket", &mnt, "--cache", &cache, "--cache-size", "256M"];
        let remote = ["--region", "us-east-1", "--endpoint-url", &endpoint, "--force-path-style"];
        let run = self.forebay_in(environment, &[&local[..], &remote, more].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
    }

    fn mnt(&self) -> PathBuf {
        self.home.path().canonicalize().expect("a directory").join("mnt")
    }

    fn path(&self, name: &str) -> String {
        self.mnt().join(name).display().to_string()
    }

    fn forebay(&self, args: &[&str]) -> Run {
        let keys = self.server.credentials();
        self.forebay_in(&[("AWS_ACCESS_KEY_ID", &keys.access_key), ("AWS_SECRET_ACCESS_KEY", &keys.secret_key)], args)
    }

    fn forebay_in(&self, environment: &[(&str, &str)], args: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var("PATH").unwrap_or_default());
        command.envs(environment.iter().copied());
        let Output { status, stdout, stderr } = command.args(args).output().expect("runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.server.bucket("bucket").bytes(key).map(|bytes| bytes.to_vec())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = forebay_fuse::Unmounter::new(self.mnt()).detach();
    }
}

#[test]
fn an_export_says_what_it_sent_and_reports_what_it_could_not() {
    let place = Place::new();
    place.server.bucket("bucket").put("theirs", "before", []);
    place.mount(&[]);
    std::fs::create_dir(place.mnt().join("d")).expect("makes a directory");
    for at in 0..20 {
        std::fs::write(place.mnt().join(format!("d/{at}")), format!("content {at}")).expect("writes");
    }
    let status = place.forebay(&["status", &place.path("")]);
    assert!(status.stdout.contains("unexported") && status.stdout.contains("21 changes"), "{}", status.stdout);
    let run = place.forebay(&["export", &place.path("d")]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("SUCCEEDED: 21 files"), "{}", run.stdout);
    assert_eq!(place.bytes("d/7"), Some(b"content 7".to_vec()));
    assert!(!place.forebay(&["status", &place.path("")]).stdout.contains("unexported"));

    std::fs::write(place.mnt().join("theirs"), "ours").expect("writes");
    place.server.bucket("bucket").put("theirs", "after", []);
    let reports = place.home.path().join("reports");
    let run = place.forebay(&["export", &place.path(""), "--report", &reports.display().to_string()]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(run.stderr.contains("FAILED"), "{}", run.stderr);
    let report = std::fs::read_dir(&reports).expect("a directory").next().expect("the task's").expect("an entry").path();
    let csv = std::fs::read_dir(report).expect("a directory").next().expect("a report").expect("an entry").path();
    let csv = std::fs::read_to_string(csv).expect("reads");
    assert!(csv.contains("theirs") && csv.contains("S3Conflict"), "{csv}");
    let run = place.forebay(&["export", &place.path(""), "--on-conflict", "overwrite"]);
    assert_eq!((run.code, place.bytes("theirs")), (Some(0), Some(b"ours".to_vec())), "{}", run.stderr);
}

#[test]
fn umount_says_what_is_only_here_and_exports_it_if_asked() {
    let place = Place::new();
    place.mount(&[]);
    std::fs::write(place.mnt().join("f"), "kept").expect("writes");
    let run = place.forebay(&["umount", &place.path("")]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("1 change is not in the bucket yet"), "{}", run.stderr);
    place.mount(&[]);
    assert_eq!(std::fs::read(place.mnt().join("f")).expect("reads"), b"kept");
    let run = place.forebay(&["umount", "--export", &place.path("")]);
    assert_eq!((run.code, place.bytes("f")), (Some(0), Some(b"kept".to_vec())), "{}", run.stderr);
    place.mount(&[]);
    let run = place.forebay(&["umount", &place.path("")]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "nothing to say");
}

#[test]
fn a_scratch_mount_with_work_that_is_only_here_is_not_unmounted_unless_told() {
    let place = Place::new();
    place.mount(&["--deployment", "scratch"]);
    std::fs::write(place.mnt().join("f"), "only here").expect("writes");
    let run = place.forebay(&["umount", &place.path("")]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("1 change is only here") && run.stderr.contains("--discard"), "{}", run.stderr);
    assert_eq!(std::fs::read(place.mnt().join("f")).expect("it is still mounted"), b"only here");
    let run = place.forebay(&["umount", "--discard", &place.path("")]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn auto_export_sends_what_is_written_and_status_says_so() {
    let place = Place::new();
    place.mount(&["--auto-export", "new,changed,deleted"]);
    std::fs::write(place.mnt().join("f"), "soon").expect("writes");
    let began = Instant::now();
    while place.bytes("f").is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", place.forebay(&["status", &place.path("")]).stdout);
        std::thread::sleep(Duration::from_millis(50));
    }
    let run = place.forebay(&["umount", &place.path("")]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn credentials_that_are_renewed_in_the_midst_of_a_task_cost_nothing() {
    let place = Place::new();
    place.write_profile(&place.server.credentials());
    place.mount_in(&[], &[]);
    for at in 0..300 {
        std::fs::write(place.mnt().join(format!("f{at}")), format!("content {at}")).expect("writes");
    }
    std::fs::write(place.mnt().join("large"), vec![7; 40 << 20]).expect("writes");
    place.server.faults().set_latency(Duration::from_millis(40));
    let run = place.forebay(&["export", &place.path(""), "--detach"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let key = |name: &str| Credentials { access_key: name.to_owned(), secret_key: format!("secret of {name}") };
    let under_way = |puts: u64| {
        let began = Instant::now();
        while place.server.requests().count(Op::PutObject) < puts {
            assert!(began.elapsed() < Duration::from_secs(30), "the task does not get on");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    under_way(30);
    // Renewed in time, and too late.
    place.write_profile(&key("second"));
    place.server.replace_credentials(key("second"));
    under_way(140);
    place.server.replace_credentials(key("third"));
    std::thread::sleep(Duration::from_millis(700));
    place.write_profile(&key("third"));
    let mnt = place.path("");
    let run = place.forebay(&["task", "wait", "1", "--mount", &mnt]);
    assert!(run.code == Some(0) && run.stdout.contains("SUCCEEDED: 301 files"), "{} {}", run.stdout, run.stderr);
    assert!(place.server.expired_requests() > 10, "{} requests met the end of a key", place.server.expired_requests());
    for at in 0..300 {
        assert_eq!(place.bytes(&format!("f{at}")), Some(format!("content {at}").into_bytes()), "{at}");
    }
    assert!(place.bytes("large") == Some(vec![7; 40 << 20]));
}

#[test]
fn keep_both_is_asked_for_on_the_command_line() {
    let place = Place::new();
    place.server.bucket("bucket").put("f.csv", "before", []);
    place.mount(&[]);
    assert_eq!(std::fs::read(place.mnt().join("f.csv")).expect("reads"), b"before");
    std::fs::write(place.mnt().join("f.csv"), "ours").expect("writes");
    place.server.bucket("bucket").put("f.csv", "theirs", []);
    let run = place.forebay(&["export", &place.path(""), "--report", "s3://bucket/reports"]);
    assert!(run.code == Some(1) && run.stderr.contains("S3Conflict"), "{}", run.stderr);
    assert_eq!(place.bytes("reports/task-1/failures.csv"), Some(b"f.csv,failed,S3Conflict\n".to_vec()));
    let run = place.forebay(&["export", &place.path(""), "--on-conflict", "keep-both"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(place.bytes("f.csv"), Some(b"theirs".to_vec()));
    let names: Vec<_> =
        std::fs::read_dir(place.mnt()).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
    let other = names.iter().filter_map(|name| name.to_str()).find(|name| name.starts_with("f.conflict-")).expect("ours");
    assert_eq!(place.bytes(other), Some(b"ours".to_vec()));
    assert_eq!(std::fs::read(place.mnt().join("f.csv")).expect("reads"), b"theirs");
    // The report is an object like any other, and none of the mount's conflicts.
    let run = place.forebay(&["export", &place.path(""), "--on-conflict", "fail", "--prune"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}
