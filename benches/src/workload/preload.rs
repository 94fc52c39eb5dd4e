//! Large objects brought here before anybody reads them. Beside a plain client that saves the same objects on the plain disk.

use super::Workload;
use crate::harness::data::Dataset;
use crate::harness::error::{At, Result};
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::process;
use crate::harness::store::Profile;
use crate::peer::{Kind, Mounted, Reach};
use crate::target::{Rule, Target};
use std::process::Command;

/// A preload.
#[derive(Debug)]
pub struct Preload {
    /// What is brought.
    pub set: Dataset,
    /// How far away the store is.
    pub profile: Profile,
}

impl Workload for Preload {
    fn name(&self) -> String {
        format!("preload/{}", self.profile.name())
    }

    fn settings(&self) -> String {
        "one preload of all, from the command's start to its end; the client saves ranges of 8 MiB in files and syncs them"
            .to_owned()
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
        matches!(kind, Kind::Mount | Kind::Client)
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let amount = self.set.bytes() as f64 / f64::from(1 << 20);
        match (peer.reach.clone(), peer.program.clone()) {
            (Reach::Client(session), _) => {
                let dir = session.directory().join("saved");
                std::fs::create_dir_all(&dir).at(dir.display())?;
                let (set, to) = (self.set.clone(), dir.clone());
                meter.measure("bring", move || session.save_ranges(&set, &to).map(|()| Work::Amount(amount)))?;
                std::fs::remove_dir_all(&dir).at(dir.display())
            }
            (Reach::Tree(root), Some(program)) => {
                let deadline = meter.deadline();
                meter.measure("bring", move || {
                    let mut command = Command::new(&program);
                    command.arg("preload").arg(&root);
                    process::run(command, deadline)?;
                    Ok(Work::Amount(amount))
                })
            }
            // It brings what is read, and nothing before.
            (Reach::Tree(_), None) => Ok(()),
        }
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::new("bring", Rule::Baseline(0.85))]
    }
}
