//! Processes with an end: a daemon that is ended when its owner goes, a command that is killed at its deadline.

use super::cleanup::{self, Registered};
use super::error::{At, Error, Result};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(2);
/// How long a daemon may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// A process in a group of its own, writing to a log, ended on drop.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    _registered: Registered,
}

impl Daemon {
    /// Starts it.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let out = File::create(log).at(log.display())?;
        let err = out.try_clone().at(log.display())?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let (child, _registered) = cleanup::start(&mut command).at(command.get_program().display())?;
        Ok(Daemon { child, log: log.to_owned(), _registered })
    }

    /// The exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        last_lines(&fs::read_to_string(&self.log).unwrap_or_default())
    }

    /// Waits until it ends, up to a deadline.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            match self.ended() {
                Some(status) => return Some(status),
                None if Instant::now() >= end => return None,
                None => std::thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        cleanup::signal_group(self.child.id(), libc::SIGTERM);
        if self.wait(GRACE).is_none() {
            cleanup::signal_group(self.child.id(), libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end and returns what it printed; a failure carries its last lines.
pub fn run(mut command: Command, deadline: Duration) -> Result<String> {
    let program = command.get_program().display().to_string();
    let mut out = tempfile::tempfile().at("a temporary file")?;
    let mut err = tempfile::NamedTempFile::new().at("a temporary file")?;
    command.stdout(out.try_clone().at("a temporary file")?);
    let mut daemon = Daemon::spawn_with(command, &mut err)?;
    let status = daemon.wait(deadline).ok_or_else(|| Error::TimedOut { what: program.clone(), seconds: deadline.as_secs() })?;
    let mut printed = String::new();
    rewind(&mut out)?.read_to_string(&mut printed).at(&program)?;
    if status.success() {
        return Ok(printed);
    }
    let said = last_lines(&format!("{printed}\n{}", daemon.last_words()));
    Err(Error::program(program, format!("{status}: {said}")))
}

impl Daemon {
    /// Like [`Daemon::spawn`], with the command's own standard output and the errors to a file.
    fn spawn_with(mut command: Command, err: &mut tempfile::NamedTempFile) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        command.stdin(Stdio::null()).stderr(err.reopen().at("a temporary file")?).process_group(0);
        let (child, _registered) = cleanup::start(&mut command).at(command.get_program().display())?;
        Ok(Daemon { child, log: err.path().to_owned(), _registered })
    }
}

fn rewind(file: &mut File) -> Result<&mut File> {
    use std::io::Seek;
    file.rewind().at("a temporary file")?;
    Ok(file)
}

/// The last three non-empty lines, in one.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

/// Runs work on a thread of its own and gives up on it at a deadline. The thread then lives on until what it waits for
/// fails, which ending the mount sees to.
pub fn with_deadline<T: Send + 'static>(
    what: &str,
    deadline: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("measured".into())
        .spawn(move || {
            // The receiver is gone only after the deadline, when nobody wants the result.
            let _ = send.send(work());
        })
        .at("start a thread")?;
    receive.recv_timeout(deadline).unwrap_or_else(|_| Err(Error::TimedOut { what: what.to_owned(), seconds: deadline.as_secs() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failing_command_is_told_with_its_last_words() {
        assert_eq!(run(shell("echo fine"), GRACE).expect("it succeeds"), "fine\n");
        let error = run(shell("echo broken >&2; exit 3"), GRACE).expect_err("it fails").to_string();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_command_is_ended_at_its_deadline() {
        let error = run(shell("exec sleep 60"), Duration::from_millis(20)).expect_err("it cannot be done in time");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }

    #[test]
    fn work_that_hangs_is_given_up() {
        let (_keep, blocked) = std::sync::mpsc::channel::<()>();
        let result = with_deadline("it", Duration::from_millis(10), move || Ok(blocked.recv().is_ok()));
        assert!(matches!(result, Err(Error::TimedOut { .. })));
    }
}
