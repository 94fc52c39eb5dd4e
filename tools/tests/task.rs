//! `forebay import` and `forebay task` against a mount.

use forebay_loopback_s3::{LoopbackConfig, LoopbackS3, Op, Server};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A server, and a mount of its bucket, taken down at the end.
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
    fn mounted(objects: u64) -> Self {
        let config = LoopbackConfig { buckets: vec!["bucket".into()], ..LoopbackConfig::default() };
        let server = LoopbackS3::start_blocking(config, 1).unwrap();
        server.bucket("bucket").insert_synthetic(objects, |i| format!("d{}/{i:06}", i % 3), 10);
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("mnt")).unwrap();
        let place = Place { server, home };
        let (mnt, cache) = (place.path(""), place.home.path().join("cache").display().to_string());
        let endpoint = place.server.endpoint_url();
        let local = ["mount", "s3://bucket", &mnt, "--cache", &cache, "--cache-size", "256M", "--metadata-ttl", "indefinite"];
        let remote = ["--region", "us-east-1", "--endpoint-url", &endpoint, "--force-path-style"];
        let run = place.forebay(&[&local[..], &remote].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        place
    }

    fn mnt(&self) -> PathBuf {
        self.home.path().canonicalize().unwrap().join("mnt")
    }

    fn path(&self, name: &str) -> String {
        self.mnt().join(name).display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let keys = self.server.credentials();
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var("PATH").unwrap_or_default());
        // A directory of control sockets of its own, where the daemon does not run as root: what others have mounted is not this test's.
        command.env("AWS_ACCESS_KEY_ID", &keys.access_key).env("AWS_SECRET_ACCESS_KEY", &keys.secret_key);
        command.args(args);
        command
    }

    fn forebay(&self, args: &[&str]) -> Run {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// `forebay task VERB ARGS --mount MNT --json`, which must succeed.
    fn task(&self, verb: &str, args: &[&str]) -> Value {
        let mnt = self.path("");
        let run = self.forebay(&[&["task", verb, "--json", "--mount", &mnt], args].concat());
        assert_eq!(run.code, Some(0), "{verb} {args:?}: {}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = forebay_fuse::Unmounter::new(self.mnt()).detach();
    }
}

#[test]
fn an_import_waits_by_default_and_says_what_it_did() {
    let place = Place::mounted(3_000);
    let run = place.forebay(&["import", &place.path("")]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.starts_with("task 1 SUCCEEDED: 3000 files (") && run.stdout.lines().count() == 1, "{}", run.stdout);
    place.server.requests().reset();
    let listed: usize = (0..3).map(|i| std::fs::read_dir(place.mnt().join(format!("d{i}"))).unwrap().count()).sum();
    assert_eq!((listed, place.server.requests().count(Op::ListObjects)), (3_000, 0));
    let run = place.forebay(&["import", &place.path("d1"), "--detach", "--json"]);
    let made: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &made["id"], &made["paths"][0]), (Some(0), &2.into(), &"d1".into()));
    assert_eq!(place.task("wait", &["2"])["state"], "SUCCEEDED");
    let all = place.task("list", &[]);
    let states: Vec<_> = all.as_array().unwrap().iter().map(|task| task["succeeded"].as_u64().unwrap()).collect();
    assert_eq!(states, [3_000, 1_000]);
    let mnt = place.path("");
    let table = place.forebay(&["task", "list", "--mount", &mnt]).stdout;
    assert!(table.lines().nth(2).unwrap().contains("1000/1000") && table.contains("/d1"), "{table}");
    assert!(place.forebay(&["task", "show", "2", "--mount", &mnt]).stdout.starts_with("task 2  import  SUCCEEDED"));
}

#[test]
fn failures_are_exit_code_1_with_a_report() {
    let place = Place::mounted(5);
    for key in ["a//b", "x,y/../z"] {
        place.server.bucket("bucket").put(key, "x", []);
    }
    let reports = place.home.path().join("reports").display().to_string();
    let run = place.forebay(&["import", &place.path(""), "--report", &reports]);
    assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1), "{}", run.stderr);
    let parts = ["task 1 FAILED: 5 files (", "2 failed", "S3ObjectPathNotPosixCompliant", "all failures: "];
    assert!(parts.iter().all(|part| run.stderr.contains(part)), "{}", run.stderr);
    let report = std::fs::read_to_string(format!("{reports}/task-1/report.csv")).unwrap();
    let expected = "a//b,failed,S3ObjectPathNotPosixCompliant\n\"x,y/../z\",failed,S3ObjectPathNotPosixCompliant\n";
    assert_eq!(report, expected);
    let run = place.forebay(&["import", &place.path(""), "--report", "s3://bucket/of imports", "--json"]);
    let task: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, task["report"].as_str()), (Some(1), Some("s3://bucket/of imports/task-2/report.csv")));
    let delivered = place.server.bucket("bucket").bytes("of imports/task-2/report.csv").unwrap();
    assert_eq!(delivered, expected.as_bytes());
}

#[test]
fn an_interrupted_wait_leaves_the_task_alone_and_cancel_ends_it() {
    let place = Place::mounted(30_000);
    place.server.faults().set_latency(Duration::from_millis(100));
    let mut command = place.command(&["import", &place.path("")]);
    let waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let listed = || place.task("list", &[]);
    while listed().as_array().unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    rustix::process::kill_process(rustix::process::Pid::from_child(&waiting), rustix::process::Signal::INT).unwrap();
    let out = waiting.wait_with_output().unwrap();
    let words = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(1) && words.contains("'forebay task wait 1' waits for it"), "{words}");
    assert_eq!(place.task("show", &["1"])["state"], "EXECUTING");
    assert_eq!(place.task("cancel", &["1"])["state"], "CANCELING");
    place.server.faults().set_latency(Duration::ZERO);
    let mnt = place.path("");
    let run = place.forebay(&["task", "wait", "1", "--mount", &mnt]);
    assert!(run.code == Some(1) && run.stderr.contains("task 1 CANCELED"), "{}", run.stderr);
}

#[test]
fn what_cannot_be_is_one_line() {
    let place = Place::mounted(1);
    let (mnt, inside) = (place.path(""), place.path("reports"));
    let cases: [(&[&str], i32, &str); 9] = [
        (&["import"], 2, "PATHS"),
        (&["import", "/"], 1, "not in a forebay mount"),
        (&["import", &mnt, "/"], 1, "not in a forebay mount"),
        (&["import", &mnt, "--report", "s3://nobody-has-this/reports"], 1, "does not exist"),
        (&["import", &mnt, "--report", "file://reports"], 1, "must name an absolute path"),
        (&["import", &mnt, "--report", &inside], 2, "in the mount"),
        (&["import", "s3://nobody-mounted-this/x"], 1, "is not mounted"),
        (&["task", "show", "9", "--mount", &mnt], 1, "there is no task 9"),
        (&["task", "cancel", "9", "--mount", &mnt], 1, "there is no task 9"),
    ];
    for (args, code, words) in cases {
        let run = place.forebay(args);
        assert!(run.code == Some(code) && run.stderr.contains(words), "{args:?}: {:?} {}", run.code, run.stderr);
    }
    let missing = place.path("none");
    let run = place.forebay(&["import", &missing]);
    assert!(run.code == Some(1) && run.stderr.contains("'none' does not exist"), "{}", run.stderr);
}
