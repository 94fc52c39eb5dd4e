//! A writer that is killed, or whose file system is, and a check of what is left.
//!
//! The writer runs in a process of its own ([`spawn`]) and notes every operation in a log outside of the file system under
//! test. Whoever kills it, or the daemon below it, then mounts again and calls [`check()`]. A directory holds one run; another
//! round takes a new directory.

mod check;
mod log;
mod writer;

use super::Failure;
pub use check::{Kept, Rules, Survived};
pub use log::Log;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
pub use writer::{Ended, Writer};

/// The test of this binary that is the writer's process; it is ignored unless asked for by this name.
const PROCESS: &str = "exercise::crash::tests::the_writer_process";
/// How that process is told what to do: directory, log, seed, operations and largest file, a line each.
const VARIABLE: &str = "FOREBAY_CRASH_WRITER";

/// What the writer does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The same seed, the same operations.
    pub seed: u64,
    /// How many; `u64::MAX` for a writer that only a kill ends.
    pub operations: u64,
    /// What a file may grow to.
    pub max_file_bytes: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { seed: 1, operations: u64::MAX, max_file_bytes: 256 * 1024 }
    }
}

/// Starts a writer in a process of its own, which is this test binary again. The directory is there and empty; the log is
/// not there.
pub fn spawn(dir: &Path, log: &Path, plan: &Plan) -> std::io::Result<Child> {
    let Plan { seed, operations, max_file_bytes } = plan;
    let told = format!("{}\n{}\n{seed}\n{operations}\n{max_file_bytes}", dir.display(), log.display());
    let mut command = Command::new(std::env::current_exe()?);
    command.args([PROCESS, "--exact", "--include-ignored", "--nocapture"]).env(VARIABLE, told);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()
}

/// Waits until so many operations are acknowledged in a log; how many are, when the time is over.
pub fn wait_for(log: &Path, operations: usize, patience: Duration) -> usize {
    let deadline = Instant::now() + patience;
    loop {
        // A log that is not there yet, or ends within a line, is looked at again.
        let acknowledged = Log::read(log).map_or(0, |log| log.acknowledged);
        if acknowledged >= operations || Instant::now() > deadline {
            return acknowledged;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Compares what is left in the directory with the writer's log.
pub fn check(dir: &Path, log: &Path, rules: &Rules) -> Result<Survived, Failure> {
    let failure =
        |seed, operations: usize, difference| Failure { exerciser: "crash", seed, operation: operations as u64, difference };
    let log = Log::read(log).map_err(|what| failure(0, 0, what))?;
    check::check(dir, &log, rules).map_err(|what| failure(log.seed, log.operations.len(), format!("{}: {what}", dir.display())))
}

#[cfg(test)]
mod tests;
