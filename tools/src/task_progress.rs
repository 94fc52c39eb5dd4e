//! Waiting for a task: a bar on a terminal, a line now and then elsewhere. Ctrl-C leaves the task alone, and says how to go on.

use crate::cmd;
use crate::error::CliError;
use forebay_daemon::control::Client;
use forebay_daemon::control::task::TaskInfo;
use forebay_daemon::units::ByteCount;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between looks at the task, on a terminal.
const LOOK: Duration = Duration::from_millis(200);
/// Between lines, elsewhere.
const LINE: Duration = Duration::from_secs(5);

/// Waits until a task has ended; an error unless it succeeded.
pub(crate) fn wait(client: &Client, id: u64, json: bool) -> Result<(), CliError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(CliError::failed)?;
    }
    let mut shown = if json { Shown::Nothing } else { Shown::start() };
    loop {
        let task = client.task(id, LOOK).map_err(CliError::failed)?;
        if task.has_ended {
            shown.end();
            return told(&task, json);
        }
        if interrupted.load(Ordering::Relaxed) {
            shown.end();
            return Err(CliError::words(format!(
                "task {id} goes on; 'forebay task wait {id}' waits for it, 'forebay task cancel {id}' ends it"
            )));
        }
        shown.update(&task);
    }
}

/// Says how a task ended.
fn told(task: &TaskInfo, json: bool) -> Result<(), CliError> {
    let outcome = if task.state == "SUCCEEDED" { Ok(()) } else { Err(CliError::Told) };
    if json {
        cmd::print_json(task)?;
        return outcome;
    }
    let seconds = task.ended.zip(task.started).map_or(0.0, |(ended, started)| ended - started);
    let line = format!("task {} {}: {} in {}", task.id, task.state, amounts(task), duration(seconds));
    match (outcome, &task.last_error) {
        (Ok(()), _) => {
            cmd::print(&line);
            Ok(())
        }
        (Err(_), Some(error)) => Err(CliError::words(format!("{line}; last error: {error}{}", report_hint(task)))),
        (Err(_), None) => Err(CliError::words(line)),
    }
}

fn report_hint(task: &TaskInfo) -> String {
    task.report.as_ref().map_or(String::new(), |report| format!("; all failures: {report}"))
}

/// Files and bytes of a task so far.
fn amounts(task: &TaskInfo) -> String {
    let failed = if task.failed == 0 { String::new() } else { format!(", {} failed", task.failed) };
    format!("{} files ({}){failed}", task.succeeded, ByteCount(task.bytes))
}

fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else {
        humantime::format_duration(Duration::from_secs(seconds as u64)).to_string()
    }
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Shown {
    fn start() -> Self {
        if !std::io::stderr().is_terminal() {
            return Shown::Lines { next: Instant::now() + LINE };
        }
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(LOOK);
        Shown::Bar(bar)
    }

    fn update(&mut self, task: &TaskInfo) {
        match self {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                if task.total_is_final && bar.length() != Some(task.total) {
                    let template = "{bar:30} {pos}/{len} files, {per_sec}, {msg}, {eta} left";
                    bar.set_length(task.total);
                    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
                } else if !task.total_is_final {
                    let template = "{spinner} {pos} files, {per_sec}, {msg}, {elapsed}";
                    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
                }
                bar.set_position(task.succeeded + task.failed);
                bar.set_message(format!("{}, {} failed", ByteCount(task.bytes), task.failed));
            }
            Shown::Lines { next } => {
                if Instant::now() >= *next {
                    *next = Instant::now() + LINE;
                    let of = if task.total_is_final { format!(" of {}", task.total) } else { String::new() };
                    eprintln!("task {} {}: {}{of}", task.id, task.state, amounts(task));
                }
            }
        }
    }

    fn end(&mut self) {
        if let Shown::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
