//! The same large objects again, from the peer's cache on disk.

use super::{Start, Workload, reading};
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit, Work};
use crate::peer::{Kind, Mounted, Reach};
use crate::target::{Rule, Target};

/// Cached sequential reads.
#[derive(Debug)]
pub struct CachedSeq {
    /// At least as many objects as streams.
    pub set: Dataset,
    /// Readers, each of one object at a time.
    pub streams: usize,
}

impl Workload for CachedSeq {
    fn name(&self) -> String {
        format!("cached-seq/{}", self.streams)
    }

    fn settings(&self) -> String {
        format!("{} streams, reads of {} MiB", self.streams, reading::BUFFER >> 20)
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn start(&self) -> Start {
        Start::Filled
    }

    fn unit(&self) -> Unit {
        Unit::MibPerSecond
    }

    fn baseline(&self) -> &'static str {
        "plain"
    }

    fn takes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Disk | Kind::Mount)
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let Reach::Tree(root) = peer.reach.clone() else { return Ok(()) };
        let (set, streams) = (self.set.clone(), self.streams);
        meter.measure("read", move || {
            reading::read_in_order(&root, &set, streams)?;
            Ok(Work::Amount(set.bytes() as f64 / (1 << 20) as f64))
        })
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::new("read", Rule::Baseline(0.9)), Target::new("read", Rule::BestPeer(1.0))]
    }
}
