//! How fast a task goes, and how long it will take: from what it did in the last seconds, so that a restart, a slow start or a storm says nothing about
//! the rest for long.

use forebay_daemon::control::task::TaskInfo;
use forebay_daemon::units::ByteCount;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the pace is taken from.
const WINDOW: Duration = Duration::from_secs(10);
/// Too short to say anything.
const LEAST: Duration = Duration::from_millis(900);

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    files: u64,
    bytes: u64,
}

/// What a task did of late.
#[derive(Default)]
pub(crate) struct Pace {
    samples: VecDeque<Sample>,
}

/// A task under way with its pace, for machines.
#[derive(Serialize)]
pub(crate) struct Progress<'a> {
    #[serde(flatten)]
    task: &'a TaskInfo,
    files_per_second: Option<f64>,
    bytes_per_second: Option<f64>,
    seconds_left: Option<f64>,
}

/// How many files a task is about: known, or guessed.
pub(crate) fn total(task: &TaskInfo) -> Option<u64> {
    if task.total_is_final { Some(task.total) } else { task.expected }
}

/// Files and bytes of a task so far.
pub(crate) fn amounts(task: &TaskInfo) -> String {
    let failed = if task.failed == 0 { String::new() } else { format!(", {} failed", task.failed) };
    format!("{} files ({}){failed}", task.succeeded, ByteCount(task.bytes))
}

/// A time for people.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else {
        humantime::format_duration(Duration::from_secs(seconds as u64)).to_string()
    }
}

impl Pace {
    /// Notes how far a task is.
    pub(crate) fn note(&mut self, at: Instant, task: &TaskInfo) {
        self.samples.push_back(Sample { at, files: task.succeeded + task.failed, bytes: task.bytes });
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|second| at.duration_since(second.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Files and bytes a second.
    fn per_second(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let time = last.at.duration_since(first.at);
        let per = |from: u64, to: u64| to.saturating_sub(from) as f64 / time.as_secs_f64();
        (time >= LEAST).then(|| (per(first.files, last.files), per(first.bytes, last.bytes)))
    }

    /// Seconds until all files are done that are known of, or guessed.
    fn seconds_left(&self, task: &TaskInfo) -> Option<f64> {
        let (rate, _) = self.per_second().filter(|(rate, _)| *rate > 0.0)?;
        let left = total(task).unwrap_or(task.total).checked_sub(task.succeeded + task.failed)?;
        (left > 0).then(|| left as f64 / rate)
    }

    /// A task under way, in a line.
    pub(crate) fn line(&self, task: &TaskInfo) -> String {
        let done = task.succeeded + task.failed;
        let of = match total(task).filter(|total| *total >= done) {
            Some(total) if task.total_is_final => format!("{done} of {total} files"),
            Some(total) => format!("{done} of about {total} files"),
            None if task.total > done => format!("{done} of {} files so far", task.total),
            None => format!("{done} files"),
        };
        let failed = if task.failed == 0 { String::new() } else { format!(", {} failed", task.failed) };
        let mut line = format!("{of}{failed}, {}", ByteCount(task.bytes));
        if let Some((files, bytes)) = self.per_second() {
            line += &format!(", {files:.0} files/s, {}/s", ByteCount(bytes as u64));
        }
        if let Some(seconds) = self.seconds_left(task) {
            let is_least = total(task).is_none();
            line += &format!(", {}{} left", if is_least { "at least " } else { "" }, duration(seconds.ceil()));
        }
        line
    }

    /// The same for machines.
    pub(crate) fn progress<'a>(&self, task: &'a TaskInfo) -> Progress<'a> {
        let rates = self.per_second();
        Progress {
            task,
            files_per_second: rates.map(|(files, _)| files),
            bytes_per_second: rates.map(|(_, bytes)| bytes),
            seconds_left: self.seconds_left(task),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(done: u64, total: u64, is_final: bool, expected: Option<u64>) -> TaskInfo {
        let json = serde_json::json!({
            "id": 3, "kind": "export", "state": "EXECUTING", "has_ended": false, "paths": [], "options": {}, "created": 1.0,
            "started": 1.0, "ended": null, "total": total, "total_is_final": is_final, "expected": expected,
            "succeeded": done, "failed": 0, "bytes": done * 1024, "last_error": null, "report": null,
        });
        serde_json::from_value(json).unwrap()
    }

    fn paced(from: u64, to: u64, seconds: u64) -> Pace {
        let (mut pace, began) = (Pace::default(), Instant::now());
        pace.note(began, &task(from, 0, false, None));
        pace.note(began + Duration::from_secs(seconds), &task(to, 0, false, None));
        pace
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let pace = paced(0, 400, 4);
        let line = |total, is_final, expected| pace.line(&task(400, total, is_final, expected));
        assert_eq!(line(1000, true, None), "400 of 1000 files, 400 KiB, 100 files/s, 100 KiB/s, 6.0 s left");
        assert_eq!(line(500, false, Some(2400)), "400 of about 2400 files, 400 KiB, 100 files/s, 100 KiB/s, 20s left");
        assert_eq!(line(500, false, None), "400 of 500 files so far, 400 KiB, 100 files/s, 100 KiB/s, at least 1.0 s left");
        assert_eq!(line(400, false, Some(100)), "400 files, 400 KiB, 100 files/s, 100 KiB/s", "a guess that was wrong");
        assert_eq!(Pace::default().line(&task(0, 0, false, None)), "0 files, 0 B");
    }

    #[test]
    fn only_the_last_seconds_count() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        // Done before somebody looked, then a storm, then 10 a second.
        for (second, done) in (0..60).map(|second| (second, 5000 + if second < 30 { 0 } else { (second - 30) * 10 })) {
            pace.note(began + Duration::from_secs(second), &task(done, 10_000, true, None));
        }
        let (files, _) = pace.per_second().unwrap();
        assert!((files - 10.0).abs() < 0.1, "{files}");
        let stalled = paced(700, 700, 5);
        let progress = serde_json::to_value(stalled.progress(&task(700, 1000, true, None))).unwrap();
        assert_eq!((&progress["files_per_second"], &progress["seconds_left"]), (&0.0.into(), &serde_json::Value::Null));
        assert_eq!(progress["succeeded"], 700);
    }
}
