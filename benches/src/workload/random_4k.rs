//! 4 KiB random reads past the page cache (`direct=1`) of a cached file, by fio.

use super::{Start, Workload};
use crate::harness::data::Dataset;
use crate::harness::error::{Error, Result};
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::process;
use crate::harness::system;
use crate::peer::{Kind, Mounted, Reach};
use crate::target::{Rule, Target};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Random reads.
#[derive(Debug)]
pub struct Random4k {
    /// One large object.
    pub set: Dataset,
    /// Requests in flight for each job.
    pub depth: u32,
    /// Processes.
    pub jobs: u32,
    /// Seconds of each round.
    pub seconds: u32,
}

impl Random4k {
    fn command(&self, file: &Path) -> Command {
        let engine = if self.depth == 1 { "psync" } else { "libaio" };
        let mut command = Command::new("fio");
        command.args(["--name=random-4k", "--rw=randread", "--bs=4k", "--direct=1", "--readonly", "--norandommap"]);
        command.args(["--randrepeat=0", "--time_based", "--group_reporting", "--output-format=json"]);
        command.arg(format!("--ioengine={engine}")).arg(format!("--iodepth={}", self.depth));
        command.arg(format!("--numjobs={}", self.jobs)).arg(format!("--runtime={}", self.seconds));
        command.arg(format!("--size={}", self.set.bytes())).arg(format!("--filename={}", file.display()));
        command
    }
}

impl Workload for Random4k {
    fn name(&self) -> String {
        let jobs = if self.jobs == 1 { String::new() } else { format!("/{}-jobs", self.jobs) };
        format!("random-4k/qd{}{jobs}", self.depth)
    }

    fn settings(&self) -> String {
        let engine = if self.depth == 1 { "psync" } else { "libaio" };
        format!("fio, direct=1, {engine}, depth {}, {} jobs, {} s", self.depth, self.jobs, self.seconds)
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn start(&self) -> Start {
        Start::Filled
    }

    fn unit(&self) -> Unit {
        Unit::Iops
    }

    fn baseline(&self) -> &'static str {
        "plain"
    }

    fn takes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Disk | Kind::Mount)
    }

    fn possible(&self) -> Result<()> {
        let found = system::find_program(Path::new("fio"));
        found.map(drop).ok_or_else(|| Error::program("fio", "not found; install the Debian package fio"))
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let Reach::Tree(root) = &peer.reach else { return Ok(()) };
        let Some(object) = self.set.objects.first() else { return Ok(()) };
        let command = self.command(&root.join(&object.key));
        let deadline = Duration::from_secs(u64::from(self.seconds)) + meter.deadline() / 2;
        meter.measure("read", move || iops(&process::run(command, deadline)?).map(Work::Figure))
    }

    fn targets(&self) -> Vec<Target> {
        // The packed form's targets; the flat form is to reach 0.9 at every depth.
        let of_plain = if self.depth >= 32 { 0.7 } else { 0.4 };
        vec![Target::new("read", Rule::Baseline(of_plain))]
    }
}

/// The read IOPS of fio's JSON. fio may print notes before it.
fn iops(printed: &str) -> Result<f64> {
    let json = printed.find('{').map_or("", |at| &printed[at..]);
    let wrong = || Error::program("fio", format!("unexpected output: {}", printed.chars().take(200).collect::<String>()));
    let value: serde_json::Value = serde_json::from_str(json).map_err(|_| wrong())?;
    value["jobs"][0]["read"]["iops"].as_f64().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iops_are_read_past_notes() {
        assert_eq!(iops("note: x\n{\"jobs\":[{\"read\":{\"iops\":12.5}}]}").expect("valid"), 12.5);
        assert!(iops("fio: failed").is_err());
    }
}
