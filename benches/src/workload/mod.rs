//! What is measured: one file per workload. A workload says which data it wants, in which state of the caches it starts,
//! what it counts, and which targets it is held to; `run` brings the peers into that state.

use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit};
use crate::harness::store::Profile;
use crate::peer::{Kind, Mounted};
use crate::target::Target;

pub mod cached_seq;
pub mod cold_seq;
pub mod export;
pub mod fsync;
pub mod import;
pub mod listing;
pub mod mount_time;
pub mod preload;
pub mod random_4k;
pub mod reading;
pub mod small;
pub mod snapshots;
pub mod write_seq;
pub mod write_small;
pub mod writing;

/// The state of the caches in which every round of a workload starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A new mount with an empty cache.
    Fresh,
    /// A new mount with the cache that an earlier mount filled.
    Restarted,
    /// One mount for all rounds, its cache filled before the first and the machine's page cache dropped before each.
    Filled,
}

impl Start {
    /// For the configuration of a figure.
    pub fn describe(self) -> &'static str {
        match self {
            Start::Fresh => "new mount and empty cache each round",
            Start::Restarted => "new mount each round, cache kept from a mount that read everything",
            Start::Filled => "cache filled, page cache dropped before each round",
        }
    }
}

/// Something to measure.
pub trait Workload {
    /// `family/variant/…`; the command line chooses by prefix.
    fn name(&self) -> String;
    /// Its own parameters, in words.
    fn settings(&self) -> String;
    /// The data it reads.
    fn dataset(&self) -> &Dataset;
    /// How far away the store is.
    fn profile(&self) -> Profile {
        Profile::LOOPBACK
    }
    /// Further arguments of `forebay mount`, where every round starts with a new mount.
    fn forebay_arguments(&self) -> &'static [&'static str] {
        &[]
    }
    /// How every round starts.
    fn start(&self) -> Start {
        Start::Fresh
    }
    /// What it counts.
    fn unit(&self) -> Unit;
    /// The peer that ratios are taken to.
    fn baseline(&self) -> &'static str;
    /// Whether it can be run on a kind of peer: on whatever is a file system.
    fn takes(&self, kind: Kind) -> bool {
        kind != Kind::Client
    }
    /// Whether the machine has what it needs.
    fn possible(&self) -> Result<()> {
        Ok(())
    }
    /// Runs one round.
    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()>;
    /// What Forebay has to reach.
    fn targets(&self) -> Vec<Target>;
}
