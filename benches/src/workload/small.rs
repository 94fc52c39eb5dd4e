//! Many small files with several readers: cold or cached, in directory order or shuffled, near or through latency.

use super::{Start, Workload, reading};
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::process;
use crate::harness::store::Profile;
use crate::peer::{Kind, Mounted, Reach};
use crate::target::{Rule, Target};

/// The order in which the readers take the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the keys are sorted.
    Directory,
    /// The same random order every time.
    Shuffled,
}

/// Small files.
#[derive(Debug)]
pub struct Small {
    /// The files.
    pub set: Dataset,
    /// How far away the store is.
    pub profile: Profile,
    /// The order.
    pub order: Order,
    /// Readers at once.
    pub readers: usize,
    /// From the peer's cache on disk, or from the store.
    pub cached: bool,
}

impl Workload for Small {
    fn name(&self) -> String {
        let order = if self.order == Order::Directory { "directory" } else { "shuffled" };
        if self.cached { format!("small-cached/{order}") } else { format!("small-cold/{order}/{}", self.profile.name()) }
    }

    fn settings(&self) -> String {
        let order = if self.order == Order::Directory { "in directory order" } else { "in shuffled order" };
        format!("{} readers, tree walked first, then each file opened, read and closed, {order}", self.readers)
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn start(&self) -> Start {
        if self.cached { Start::Filled } else { Start::Fresh }
    }

    fn unit(&self) -> Unit {
        Unit::FilesPerSecond
    }

    fn baseline(&self) -> &'static str {
        if self.cached { "plain" } else { "plain-client" }
    }

    fn takes(&self, kind: Kind) -> bool {
        kind == Kind::Mount || kind == if self.cached { Kind::Disk } else { Kind::Client }
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let (set, readers, order, deadline) = (self.set.clone(), self.readers, self.order, meter.deadline());
        if let Reach::Tree(root) = peer.reach.clone() {
            // As a job does that lists its samples before it reads them; what is measured is reading, not looking up names.
            process::with_deadline("walk", deadline, move || reading::walk(&root))?;
        }
        match peer.reach.clone() {
            Reach::Client(client) => meter.measure("read", move || client.read_whole(&set, readers, deadline).map(Work::Figure)),
            Reach::Tree(root) => meter.measure("read", move || {
                match order {
                    Order::Directory => reading::read_in_order(&root, &set, readers)?,
                    Order::Shuffled => reading::read_shuffled(&root, &set, readers)?,
                }
                Ok(Work::Amount(set.objects.len() as f64))
            }),
        }
    }

    fn targets(&self) -> Vec<Target> {
        let rule = match (self.cached, self.order) {
            (true, _) => Rule::Baseline(0.8),
            // Latency-bound without reading ahead across files, which directory order makes possible.
            (false, Order::Directory) if self.profile != Profile::LOOPBACK => Rule::BestPeer(5.0),
            // Through latency, eight readers of a random order are bound by it on every file system.
            (false, Order::Shuffled) if self.profile != Profile::LOOPBACK => Rule::BestPeer(1.0),
            (false, _) => Rule::BestPeer(2.0),
        };
        vec![Target::new("read", rule)]
    }
}
