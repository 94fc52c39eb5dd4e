//! `forebay bench` as a person runs it: all rows have figures, nothing is left behind, also when it is interrupted; of directories, of a store, of a mount.

#[path = "support/place.rs"]
mod place;

use place::Place;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Little of everything, and no caches of the machine: others work on it.
const TINY: [&str; 13] = [
    "--size",
    "2M",
    "--files",
    "12",
    "--file-size",
    "9000",
    "--threads",
    "2",
    "--seconds",
    "0.01",
    "--drop-caches",
    "files",
    "--json",
];

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay")).arg("bench").args(args).output().expect("runs")
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn entries(path: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(path).expect("reads").map(|entry| entry.expect("reads").file_name().to_string_lossy().into_owned());
    names.collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Rows with a figure of every target, and rows with a reason of every target; none has neither.
fn measured_and_not(report: &Value) -> (usize, usize) {
    let rows = report["rows"].as_array().expect("rows");
    let has = |row: &Value, positive: bool| {
        row["results"].as_array().expect("results").iter().all(|figures| {
            let median = figures["per_second"]["median"].as_f64();
            if positive { median.is_some_and(|median| median > 0.0) } else { median.is_none() && figures["why"].is_string() }
        })
    };
    let counts = (rows.iter().filter(|row| has(row, true)).count(), rows.iter().filter(|row| has(row, false)).count());
    assert_eq!(counts.0 + counts.1, rows.len(), "{report:#}");
    counts
}

fn row<'a>(report: &'a Value, slug: &str) -> &'a Value {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["row"] == slug).unwrap_or_else(|| panic!("{slug}: {report:#}"))
}

#[test]
fn a_directory_is_measured_and_left_as_it_was() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().join("dir");
    std::fs::create_dir(&dir).expect("makes");
    std::fs::write(dir.join("mine"), vec![1; 300_000]).expect("writes");
    let page = home.path().join("page.html");
    let args = [text(&dir), "--rounds", "2", "--block", "64K,1M", "--read-from", "mine", "--html", text(&page)];
    let report = json(&bench(&[&args[..], &TINY].concat()));
    assert_eq!(entries(&dir), ["mine"]);
    // Names on the device take the machine's caches, which this test leaves alone.
    assert_eq!(measured_and_not(&report), (46, 3));
    let groups = ["existing", "sequential", "random", "small", "metadata", "mapped"];
    for group in groups {
        assert!(report["rows"].as_array().expect("rows").iter().any(|row| row["group"] == group), "{group}");
    }
    let read = row(&report, "random/random-read/4096/2/memory");
    assert_eq!(read["results"][0]["rounds"].as_array().map(Vec::len), Some(2));
    assert!(read["results"][0]["latency_us"]["p99"].as_f64() >= read["results"][0]["latency_us"]["p50"].as_f64());
    assert!(row(&report, "sequential/write/65536/1/made")["results"][0]["how"].as_str().is_some_and(|how| how.contains("fsync")));
    assert_eq!(row(&report, "existing/read/1048576/1/found")["results"][0]["bytes"], 300_000);
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("<svg") && page.contains("random read 4 KiB, 2 threads"));
}

#[test]
fn two_directories_alternate_and_have_ratios() {
    let (a, b) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let args = [text(a.path()), "--against", text(b.path()), "--rounds", "2", "--only", "sequential,metadata"];
    let report = json(&bench(&[&args[..], &TINY].concat()));
    assert_eq!((entries(a.path()).len(), entries(b.path()).len()), (0, 0));
    assert_eq!(report["targets"].as_array().map(Vec::len), Some(2));
    let (measured, _) = measured_and_not(&report);
    let with_ratio = report["rows"].as_array().expect("rows").iter().filter(|row| row["ratio"]["median"].as_f64() > Some(0.0));
    assert_eq!(with_ratio.count(), measured);
    let run = bench(&[&args[..], &TINY[..12]].concat());
    let table = String::from_utf8(run.stdout).expect("text");
    assert!(table.starts_with(&format!("A = {}", a.path().display())) && table.contains("A/B"), "{table}");
}

/// A bench that would go on for an hour.
fn endless(args: &[&str], setup: impl Fn(&mut Command)) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("bench").args(args).args(["--seconds", "3600", "--drop-caches", "files"]);
    setup(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn interrupted(child: Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("signals");
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(1), "forebay: interrupted; what the bench made is removed\n"));
    assert!(output.stdout.is_empty());
}

#[test]
fn an_interrupted_bench_leaves_nothing() {
    use rustix::process::Signal;
    for signal in [Signal::INT, Signal::TERM] {
        let home = tempfile::tempdir().expect("a directory");
        // Random writes go on until the time is up.
        let child = endless(&[text(home.path()), "--size", "8M", "--only", "random"], |_| ());
        let laid_out = |name: &String| home.path().join(name).join("random-write").exists();
        until("files are laid out", || entries(home.path()).iter().any(laid_out));
        interrupted(child, signal);
        assert!(entries(home.path()).is_empty(), "{signal:?}");
    }
}

#[test]
fn a_store_is_measured_and_left_as_it_was_also_when_interrupted() {
    let place = Place::new();
    let bucket = place.server.bucket("bucket");
    bucket.put("data/mine", vec![1; 10], []);
    let endpoint = place.server.endpoint_url();
    let at = ["s3://bucket/data", "--endpoint-url", &endpoint, "--region", "us-east-1"];
    let run = place.forebay(&[&["bench"], &at[..], &["--block", "64K,1M", "--rounds", "1"], &TINY].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(measured_and_not(&report), (14, 0));
    assert!(row(&report, "get/get/1048576/2/store")["results"][0]["first_byte_us"]["p50"].as_f64() > Some(0.0));
    assert_eq!(bucket.keys(), ["data/mine"]);

    let keys = place.server.credentials();
    let child =
        endless(&[&at[..], &["--only", "put", "--size", "64M", "--block", "4K", "--files", "1000000"]].concat(), |command| {
            command.env("AWS_ACCESS_KEY_ID", &keys.access_key).env("AWS_SECRET_ACCESS_KEY", &keys.secret_key);
        });
    until("objects are sent", || bucket.keys().len() > 10);
    interrupted(child, rustix::process::Signal::INT);
    assert_eq!(bucket.keys(), ["data/mine"]);

    let nowhere = place.forebay(&["bench", "s3://nowhere", "--endpoint-url", &endpoint, "--region", "us-east-1"]);
    assert_eq!((nowhere.code, nowhere.stderr.lines().count()), (Some(1), 1), "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("does not exist: check the name"), "{}", nowhere.stderr);
}

#[test]
fn a_directory_as_a_store_is_left_as_it_was() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("mine"), "x").expect("writes");
    let url = format!("file://{}", home.path().display());
    let report = json(&bench(&[&[url.as_str(), "--rounds", "1", "--block", "64K"], &TINY[..]].concat()));
    assert_eq!(measured_and_not(&report), (10, 0));
    assert_eq!(entries(home.path()), ["mine"]);
}

#[test]
fn a_mount_is_measured_with_a_cold_read_of_its_bucket() {
    let place = Place::mounted();
    // Before anybody looks into the root, so that its listing has it.
    place.server.bucket("bucket").put("data/x", vec![7; 1_500_000], []);
    let run = place
        .forebay(&[&["bench", &place.path(""), "--rounds", "1", "--block", "128K", "--read-from", "data"], &TINY[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    measured_and_not(&report);
    assert!(report["targets"][0]["file_system"].as_str().is_some_and(|kind| kind.starts_with("fuse.forebay")), "{report:#}");
    assert_eq!(row(&report, "existing/read/1048576/2/found")["results"][0]["bytes"], 1_500_000);
    assert_eq!(entries(&place.mnt()), ["data"]);
}

#[test]
fn what_cannot_be_measured_is_said_in_a_line() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = text(home.path());
    let file = home.path().join("file");
    std::fs::write(&file, "").expect("writes");
    let missing = home.path().join("missing");
    for (args, code, part) in [
        (vec![text(&missing)], 1, "missing' does not exist; name a directory"),
        (vec![text(&file)], 1, "file' is not a directory"),
        (vec![dir, "--size", "100T"], 1, " free, and the bench wants 330 TiB; make room"),
        (vec![dir, "--only", "existing", "--read-from", "nothing"], 1, "cannot look at"),
        (vec![dir, "--only", "speed"], 2, "--only 'speed': not a group of a directory"),
        (vec![dir, "--html", "/nonexistent/page.html"], 2, "there is no directory '/nonexistent'"),
        (vec![dir, "--html", dir], 2, "is a directory; name a file"),
        (vec![dir, "--against", "s3://bucket"], 2, "have no rows in common"),
        (vec![dir, "--size", "4K"], 2, "--size 4 KiB is less than a block for each thread"),
    ] {
        let output = bench(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.starts_with("forebay: ") && said.contains(part) && said.lines().count() == 1, "{args:?}: {said}");
    }
    assert_eq!(entries(home.path()), ["file"]);
}

/// Files small enough for a test, and enough for two steps of each accelerator.
const SMALL_WORKLOAD: [&str; 6] = ["--rounds", "1", "--drop-caches", "files", "--json", "--size"];

#[test]
fn ml_workloads_are_run_and_leave_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    for (workload, size) in [("safetensors", "8M"), ("checkpoint", "8M"), ("cosmoflow", "40M")] {
        let args = [&[text(dir.path()), "--workload", workload], &SMALL_WORKLOAD[..], &[size]].concat();
        let report = json(&bench(&args));
        assert_eq!(report["workload"], workload);
        assert!(report["dataset"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{report:#}");
        assert!(entries(dir.path()).is_empty(), "{workload}");
    }
}

#[test]
fn files_of_a_workload_that_are_kept_are_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = [&[text(dir.path()), "--workload", "cosmoflow"], &SMALL_WORKLOAD[..], &["40M"]].concat();
    let made = json(&bench(&[&base[..], &["--keep"]].concat()));
    let kept = entries(dir.path());
    assert_eq!(kept.len(), 1, "{kept:?}");
    let read = json(&bench(&[&base[..], &["--read-from", &kept[0]]].concat()));
    assert_eq!(read["dataset"]["files"], made["dataset"]["files"]);
    assert_eq!(read["dataset"]["bytes"], made["dataset"]["bytes"]);
    assert_eq!(entries(dir.path()), kept, "what was there stays");
}

#[test]
fn what_no_workload_can_follow_is_said_in_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = text(dir.path());
    for (args, part) in [
        (&[dir, "--workload", "gpt"][..], "--workload 'gpt': there is no such workload; use"),
        (&[dir, "--workload", "unet3d", "--html", "x"], "--html: is about the rows"),
        (&["s3://b", "--workload", "unet3d"], "'s3://b' is a store; mount it"),
        (&[dir, "--workload", "checkpoint", "--read-from", "x"], "a checkpoint is written, and needs none"),
        (&[dir, "--workload", "unet3d", "--size", "1K"], "--size"),
    ] {
        let output = bench(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(0), "{args:?}");
        assert!(said.lines().count() == 1 && (said.contains(part) || part == "--size"), "{args:?}: {said}");
    }
}
