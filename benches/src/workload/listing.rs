//! `ls -lR`: every directory read and every entry's attributes asked for, on a new mount and then again.

use super::{Workload, reading};
use crate::harness::data::Dataset;
use crate::harness::error::{Error, Result};
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::store::Profile;
use crate::peer::{Kind, Mounted, Reach};
use crate::target::{Rule, Target};

/// Keys in one page of a listing.
const PAGE: usize = 1000;

/// Listing a tree.
#[derive(Debug)]
pub struct Listing {
    /// The files.
    pub set: Dataset,
    /// How far away the store is.
    pub profile: Profile,
}

impl Workload for Listing {
    fn name(&self) -> String {
        format!("listing/{}", self.profile.name())
    }

    fn settings(&self) -> String {
        "walk the tree and stat every entry; `fresh` on a new mount, `again` right after it".to_owned()
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn unit(&self) -> Unit {
        Unit::Seconds
    }

    fn baseline(&self) -> &'static str {
        "plain"
    }

    fn takes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Disk | Kind::Mount)
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let Reach::Tree(root) = &peer.reach else { return Ok(()) };
        for series in ["fresh", "again"] {
            let (root, expected) = (root.clone(), self.set.objects.len());
            meter.measure(series, move || match reading::walk(&root)? {
                found if found == expected => Ok(Work::Time),
                found => Err(Error::program("walk", format!("{found} files instead of {expected}"))),
            })?;
        }
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        // A page for every thousand keys, at least one per directory and its end, and the root.
        let pages = self.set.objects.len().div_ceil(PAGE) + self.set.directories() + 1;
        vec![
            Target::new("fresh", Rule::BestPeer(2.0)),
            Target::new("fresh", Rule::AtMostRequests("HEAD", 0)),
            Target::new("fresh", Rule::AtMostRequests("LIST", pages as u64)),
            Target::new("again", Rule::Baseline(0.8)),
            Target::new("again", Rule::AtMostRequests("LIST", 0)),
        ]
    }
}
