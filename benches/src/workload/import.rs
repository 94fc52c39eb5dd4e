//! The names of a bucket brought into the metadata of a file system. Beside a plain client that only lists them.

use super::Workload;
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::process;
use crate::peer::{Kind, Mounted, Reach};
use crate::target::{Rule, Target};
use std::process::Command;

/// An import of names, without the attributes that only a request for each object brings.
#[derive(Debug)]
pub struct Import {
    /// The objects.
    pub set: Dataset,
}

impl Workload for Import {
    fn name(&self) -> String {
        "import".to_owned()
    }

    fn settings(&self) -> String {
        "one import of all, from the command's start to its end, on a mount with --posix-metadata off; the client asks for all pages, one after the other"
            .to_owned()
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn unit(&self) -> Unit {
        Unit::FilesPerSecond
    }

    fn baseline(&self) -> &'static str {
        "plain-client"
    }

    fn takes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Mount | Kind::Client)
    }

    fn forebay_arguments(&self) -> &'static [&'static str] {
        &["--posix-metadata", "off"]
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let count = self.set.objects.len() as f64;
        match (peer.reach.clone(), peer.program.clone()) {
            (Reach::Client(session), _) => {
                meter.measure("names", move || session.list_all().map(|found| Work::Amount(found as f64)))
            }
            (Reach::Tree(root), Some(program)) => {
                let deadline = meter.deadline();
                meter.measure("names", move || {
                    let mut command = Command::new(&program);
                    command.arg("import").arg(&root);
                    process::run(command, deadline)?;
                    Ok(Work::Amount(count))
                })
            }
            (Reach::Tree(_), None) => Ok(()),
        }
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::new("names", Rule::AtLeast(50_000.0))]
    }
}
