//! Large objects from the store, read once from start to end.

use super::{Workload, reading};
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::store::Profile;
use crate::peer::{Kind, Mounted, Reach};
use crate::target::{Rule, Target};

/// Cold sequential reads.
#[derive(Debug)]
pub struct ColdSeq {
    /// At least as many objects as streams.
    pub set: Dataset,
    /// Readers, each of one object at a time.
    pub streams: usize,
    /// How far away the store is.
    pub profile: Profile,
}

impl Workload for ColdSeq {
    fn name(&self) -> String {
        format!("cold-seq/{}/{}", self.streams, self.profile.name())
    }

    fn settings(&self) -> String {
        format!("{} streams, reads of {} MiB", self.streams, reading::BUFFER >> 20)
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn unit(&self) -> Unit {
        Unit::MibPerSecond
    }

    fn baseline(&self) -> &'static str {
        "plain-client"
    }

    fn takes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Client | Kind::Mount)
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let (set, streams, deadline) = (self.set.clone(), self.streams, meter.deadline());
        match peer.reach.clone() {
            Reach::Client(client) => meter.measure("read", move || client.read_ranges(&set, deadline).map(Work::Figure)),
            Reach::Tree(root) => meter.measure("read", move || {
                reading::read_in_order(&root, &set, streams)?;
                Ok(Work::Amount(set.bytes() as f64 / (1 << 20) as f64))
            }),
        }
    }

    fn targets(&self) -> Vec<Target> {
        // With latency the store is the limit, not the CPU that the plain client shares.
        let of_client = if self.profile == Profile::LOOPBACK { 0.7 } else { 0.9 };
        vec![Target::new("read", Rule::BestPeer(2.0)), Target::new("read", Rule::Baseline(of_client))]
    }
}
