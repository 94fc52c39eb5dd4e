//! Tasks as text for people.

use forebay_daemon::control::task::TaskInfo;
use forebay_daemon::units::ByteCount;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Width of the names in the left column of one task.
const NAME_WIDTH: usize = 12;

fn time(seconds: f64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0))).to_string()
}

/// All tasks, a line each.
pub(crate) fn tasks(tasks: &[TaskInfo]) -> String {
    if tasks.is_empty() {
        return "no tasks".into();
    }
    let mut out = format!("{:>6}  {:<8} {:<10} {:>12} {:>8} {:>10}  PATHS\n", "ID", "KIND", "STATE", "FILES", "FAILED", "BYTES");
    for task in tasks {
        let bytes = ByteCount(task.bytes).to_string();
        let (paths, files) = (shown_paths(task), files(task));
        writeln!(out, "{:>6}  {:<8} {:<10} {files:>12} {:>8} {bytes:>10}  {paths}", task.id, task.kind, task.state, task.failed)
            .expect("writing to a string");
    }
    out
}

/// One task.
pub(crate) fn task(task: &TaskInfo) -> String {
    let mut out = format!("task {}  {}  {}\n", task.id, task.kind, task.state);
    let mut line = |name: &str, value: &str| {
        writeln!(out, "  {name:<NAME_WIDTH$}{value}").expect("writing to a string");
    };
    line("paths", &shown_paths(task));
    for (name, value) in &task.options {
        line("option", &format!("{name}={value}"));
    }
    line("created", &time(task.created));
    task.started.iter().for_each(|at| line("started", &time(*at)));
    task.ended.iter().for_each(|at| line("ended", &time(*at)));
    line("files", &format!("{}, {} failed", files(task), task.failed));
    line("bytes", &ByteCount(task.bytes).to_string());
    task.report.iter().for_each(|report| line("report", report));
    task.last_error.iter().for_each(|error| line("last error", error));
    out
}

fn files(task: &TaskInfo) -> String {
    if task.total_is_final { format!("{}/{}", task.succeeded, task.total) } else { task.succeeded.to_string() }
}

fn shown_paths(task: &TaskInfo) -> String {
    task.paths.iter().map(|path| format!("/{path}")).collect::<Vec<_>>().join(" ")
}
