//! One large file written and synced.

use super::{Workload, writing};
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit, Work};
use crate::peer::{Mounted, Reach};
use crate::target::{Rule, Target};

/// Sequential writing.
#[derive(Debug)]
pub struct WriteSeq {
    /// What is in the bucket meanwhile.
    pub set: Dataset,
    /// Bytes to write.
    pub bytes: u64,
}

impl Workload for WriteSeq {
    fn name(&self) -> String {
        "write-seq".to_owned()
    }

    fn settings(&self) -> String {
        format!("{} MiB of noise in writes of {} MiB, then fsync", self.bytes >> 20, writing::BUFFER >> 20)
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn unit(&self) -> Unit {
        Unit::MibPerSecond
    }

    fn baseline(&self) -> &'static str {
        "plain"
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let Reach::Tree(root) = peer.reach.clone() else { return Ok(()) };
        let (dir, bytes) = (writing::directory(&root)?, self.bytes);
        meter.measure("write", move || {
            writing::stream(&dir.join("stream"), bytes)?;
            Ok(Work::Amount(bytes as f64 / (1 << 20) as f64))
        })?;
        writing::directory(&root).map(drop)
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::new("write", Rule::Baseline(0.8))]
    }
}
