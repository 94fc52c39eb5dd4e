//! Starting the daemon: this binary once more, in a session of its own, and the word it gives when it serves.
//!
//! Invariants:
//! 1. The parent returns success only after the daemon said `ready`, which it says when the mount serves.
//! 2. A daemon whose word nobody hears (its parent was interrupted) unmounts and ends: [`Ready::tell`] fails, and its caller
//!    gives up. So an interrupted `forebay mount` leaves nothing behind.
//! 3. Standard output carries the word and nothing else; standard error is the log.

use crate::error::CliError;
use crate::logging;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The word for "the mount serves".
const READY: &str = "ready";
/// What an error's line starts with.
const ERROR: &str = "error ";
/// Lines of the log that are shown when a daemon died without a word.
const LINES_SHOWN: usize = 5;

/// Starts the daemon with the arguments of this command line and waits for its word.
/// `log_file` is the log at `log`, open for appending.
pub(crate) fn launch(args: &[OsString], log: &Path, log_file: File) -> Result<u32, CliError> {
    // Not the path this program was started by: it may have been replaced or moved since.
    let mut command = Command::new("/proc/self/exe");
    let verb = args.iter().position(|arg| arg == "mount").map_or(0, |place| place + 1);
    command.args(&args[..verb]).args(["--foreground", "--ready-on-stdout"]).args(&args[verb..]);
    std::os::unix::process::CommandExt::arg0(&mut command, "forebay");
    launch_command(command, log, log_file)
}

fn launch_command(mut command: Command, log: &Path, log_file: File) -> Result<u32, CliError> {
    let log_from = logging::len(log);
    let (word, child) =
        spawn(&mut command, log_file).map_err(|error| CliError::words(format!("the daemon could not be started: {error}")))?;
    hear(word, child, log, log_from)
}

fn spawn(command: &mut Command, log: File) -> std::io::Result<(PipeReader, Child)> {
    let (reader, writer) = std::io::pipe()?;
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(log).spawn()?;
    // The command holds the parent's copy of the write end: without it the pipe ends when the daemon does.
    command.stdout(Stdio::null());
    Ok((reader, child))
}

fn hear(word: PipeReader, mut child: Child, log: &Path, log_from: u64) -> Result<u32, CliError> {
    let mut line = String::new();
    // A word is one short line; what is cut off or unreadable counts as none.
    let _ = BufReader::new(word.take(64 << 10)).read_line(&mut line);
    match line.trim_end() {
        READY => Ok(child.id()),
        line if line.starts_with(ERROR) => {
            let _ = child.wait();
            Err(CliError::words(&line[ERROR.len()..]))
        }
        _ => Err(died(child.wait().ok(), log, log_from)),
    }
}

fn died(status: Option<ExitStatus>, log: &Path, log_from: u64) -> CliError {
    let how = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
    let mut message = format!("the daemon ended before the mount was ready ({how}); its log is '{}'", log.display());
    for line in logging::last_lines(log, log_from, LINES_SHOWN) {
        message.push_str("\n  ");
        message.push_str(&line);
    }
    CliError::words(message)
}

/// The daemon's end: to whom it says that it serves, or why it does not.
pub(crate) enum Ready {
    /// The command that waits at the other end of standard output.
    Parent,
    /// Nobody: the daemon was started in the foreground.
    Nobody,
}

impl Ready {
    /// Prepares the process: in the background it leaves the terminal's session.
    pub(crate) fn begin(ready_on_stdout: bool) -> Self {
        if !ready_on_stdout {
            return Ready::Nobody;
        }
        // Fails only for a group leader, which a spawned child is not; then it merely stays in its parent's session.
        let _ = rustix::process::setsid();
        // `/proc/self/exe` would otherwise show as "exe".
        let _ = rustix::thread::set_name(c"forebay");
        Ready::Parent
    }

    /// Says that the mount serves. Fails if nobody heard.
    pub(crate) fn tell(self) -> std::io::Result<()> {
        match self {
            Ready::Parent => say(READY),
            Ready::Nobody => Ok(()),
        }
    }

    /// Says why there is no mount; gives the error back where nobody was told.
    pub(crate) fn fail(self, error: CliError) -> Result<(), CliError> {
        match self {
            Ready::Parent => {
                tracing::error!("{error}");
                let _ = say(&format!("{ERROR}{}", error.to_string().replace('\n', " ")));
                Ok(())
            }
            Ready::Nobody => Err(error),
        }
    }
}

/// Says the word and lets go of the pipe, so that whoever reads it to its end does not wait for the daemon's.
fn say(word: &str) -> std::io::Result<()> {
    let said = writeln!(std::io::stdout(), "{word}").and_then(|()| std::io::stdout().flush());
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the daemon.
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn launched(script: &str) -> (Result<u32, CliError>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        (launch_command(shell(script), &log, logging::open(&log).unwrap()), dir)
    }

    #[test]
    fn a_ready_daemon_is_left_running() {
        let (result, _dir) = launched("echo ready; exec sleep 60");
        let pid = rustix::process::Pid::from_raw(result.unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }

    #[test]
    fn the_daemons_error_is_the_commands() {
        let (result, _dir) = launched("echo noise >&2; echo 'error bucket x does not exist'; exit 1");
        assert_eq!(result.unwrap_err().to_string(), "bucket x does not exist");
    }

    #[test]
    fn a_daemon_that_dies_silently_has_its_log_shown() {
        let (result, _dir) = launched("echo about to fail >&2; kill -ABRT $$");
        let message = result.unwrap_err().to_string();
        assert!(message.contains("ended before the mount was ready (signal: 6"), "{message}");
        assert!(message.ends_with("\n  about to fail"), "{message}");
    }
}
