//! Many small files made, looked at, renamed and removed, by one thread.

use super::{Workload, writing};
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::system;
use crate::peer::{Mounted, Reach};
use crate::target::{Rule, Target};
use std::fs;
use std::path::Path;

/// Bytes of each file.
const BYTES: usize = 4096;

/// Small files.
#[derive(Debug)]
pub struct WriteSmall {
    /// What is in the bucket meanwhile.
    pub set: Dataset,
    /// How many files.
    pub files: usize,
}

impl Workload for WriteSmall {
    fn name(&self) -> String {
        "write-small".to_owned()
    }

    fn settings(&self) -> String {
        format!(
            "{} files of 4 KiB in one directory: created, written and closed; after dropping the caches stat; rename; unlink",
            self.files
        )
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn unit(&self) -> Unit {
        Unit::FilesPerSecond
    }

    fn baseline(&self) -> &'static str {
        "bindfs"
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let Reach::Tree(root) = peer.reach.clone() else { return Ok(()) };
        let dir = writing::directory(&root)?;
        let files = self.files;
        let mut step = |series, each: fn(&Path) -> std::io::Result<()>| {
            let dir = dir.clone();
            meter.measure(series, move || {
                writing::for_each(&dir, files, each)?;
                Ok(Work::Amount(files as f64))
            })
        };
        step("create", |path| fs::write(path, [7; BYTES]))?;
        system::drop_caches()?;
        step("stat", |path| fs::metadata(path).map(drop))?;
        step("rename", |path| fs::rename(path, path.with_extension("new")))?;
        step("unlink", |path| fs::remove_file(path.with_extension("new")))
    }

    fn targets(&self) -> Vec<Target> {
        let target = |(series, times)| Target::new(series, Rule::Baseline(times));
        [("create", 0.5), ("stat", 0.7), ("rename", 0.7), ("unlink", 0.7)].map(target).to_vec()
    }
}
