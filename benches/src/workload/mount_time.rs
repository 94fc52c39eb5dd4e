//! How long a mount takes until its root answers: with an empty cache, and again with a full one.

use super::{Start, Workload};
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit};
use crate::peer::{Kind, Mounted};
use crate::target::{Rule, Target};

/// Mounting.
#[derive(Debug)]
pub struct MountTime {
    /// What the bucket holds.
    pub set: Dataset,
    /// With the cache of an earlier mount.
    pub restarted: bool,
}

impl Workload for MountTime {
    fn name(&self) -> String {
        format!("mount-time/{}", if self.restarted { "restart" } else { "fresh" })
    }

    fn settings(&self) -> String {
        "from the start of the mount command until the root answers a stat".to_owned()
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn start(&self) -> Start {
        if self.restarted { Start::Restarted } else { Start::Fresh }
    }

    fn unit(&self) -> Unit {
        Unit::Seconds
    }

    fn baseline(&self) -> &'static str {
        "mount-s3"
    }

    fn takes(&self, kind: Kind) -> bool {
        kind == Kind::Mount
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        meter.note("mount", peer.mount_seconds);
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::new("mount", Rule::AtMostSeconds(1.0))]
    }
}
