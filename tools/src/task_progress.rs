//! Waiting for a task: a bar on a terminal, a line now and then elsewhere, or a line of JSON. Ctrl-C leaves the task alone, and says how to go on.

use crate::cmd;
use crate::error::CliError;
use crate::pace::{self, Pace, amounts, duration};
use forebay_daemon::control::Client;
use forebay_daemon::control::task::TaskInfo;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between looks at the task, on a terminal.
const LOOK: Duration = Duration::from_millis(200);
/// Between lines, elsewhere.
const LINE: Duration = Duration::from_secs(5);

/// Waits until a task has ended, and says how; an error unless it succeeded.
pub(crate) fn wait(client: &Client, id: u64, json: bool) -> Result<(), CliError> {
    told(&ended(client, id, json)?, json)
}

/// Waits until a task has ended.
pub(crate) fn ended(client: &Client, id: u64, json: bool) -> Result<TaskInfo, CliError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(CliError::failed)?;
    }
    let (mut shown, mut pace) = (Shown::start(json), Pace::default());
    loop {
        let task = client.task(id, LOOK).map_err(CliError::failed)?;
        if task.has_ended {
            shown.end();
            return Ok(task);
        }
        if interrupted.load(Ordering::Relaxed) {
            shown.end();
            return Err(CliError::words(format!(
                "task {id} goes on; 'forebay task wait {id}' waits for it, 'forebay task cancel {id}' ends it"
            )));
        }
        pace.note(Instant::now(), &task);
        shown.update(&task, &pace);
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

enum Shown {
    Bar(ProgressBar),
    Lines { next: Instant },
    Json { next: Instant },
}

impl Shown {
    fn start(json: bool) -> Self {
        let next = Instant::now() + LINE;
        if json {
            return Shown::Json { next };
        }
        if !std::io::stderr().is_terminal() {
            return Shown::Lines { next };
        }
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(LOOK);
        Shown::Bar(bar)
    }

    fn update(&mut self, task: &TaskInfo, pace: &Pace) {
        match self {
            Shown::Bar(bar) => {
                let done = task.succeeded + task.failed;
                let template = match pace::total(task).filter(|total| *total >= done && *total > 0) {
                    Some(total) => {
                        bar.set_length(total);
                        bar.set_position(done);
                        "{bar:24} {percent:>3} %  {msg}"
                    }
                    None => "{spinner} {msg}",
                };
                bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_message(pace.line(task));
            }
            Shown::Lines { next } if Instant::now() >= *next => {
                *next = Instant::now() + LINE;
                eprintln!("task {} {}: {}", task.id, task.state, pace.line(task));
            }
            Shown::Json { next } if Instant::now() >= *next => {
                *next = Instant::now() + LINE;
                // Not to standard output, where one document comes at the end.
                if let Ok(line) = serde_json::to_string(&pace.progress(task)) {
                    eprintln!("{line}");
                }
            }
            Shown::Lines { .. } | Shown::Json { .. } => {}
        }
    }

    fn end(&mut self) {
        if let Shown::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
