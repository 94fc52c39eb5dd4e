//! How long an `fsync` takes.

use super::{Workload, writing};
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::stats::median;
use crate::peer::{Mounted, Reach};
use crate::target::{Rule, Target};

/// Bytes appended before each.
const BYTES: usize = 4096;

/// Syncing a file after each append.
#[derive(Debug)]
pub struct Fsync {
    /// What is in the bucket meanwhile.
    pub set: Dataset,
    /// How often.
    pub times: usize,
}

impl Workload for Fsync {
    fn name(&self) -> String {
        "fsync".to_owned()
    }

    fn settings(&self) -> String {
        format!("{} times 4 KiB appended to one file and synced; the middle one of the times the syncs took", self.times)
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn unit(&self) -> Unit {
        Unit::Milliseconds
    }

    fn baseline(&self) -> &'static str {
        "plain"
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let Reach::Tree(root) = peer.reach.clone() else { return Ok(()) };
        let (dir, times) = (writing::directory(&root)?, self.times);
        meter.measure("p50", move || {
            let took = writing::sync_times(&dir.join("log"), times, BYTES)?;
            Ok(Work::Figure(median(&took).unwrap_or_default() * 1e3))
        })?;
        writing::directory(&root).map(drop)
    }

    fn targets(&self) -> Vec<Target> {
        // At most twice as long.
        vec![Target::new("p50", Rule::Baseline(0.5))]
    }
}
