//! Forebay against itself: what a feature costs. A variant takes part only when it is named, and is no competitor.

use super::forebay::Forebay;
use super::{Mounted, Peer, Place, Reach};
use crate::harness::error::{At, Result};
use crate::harness::process;
use crate::harness::site::Site;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// How long one snapshot may take: a hang, not a figure.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(60);
/// Files whose attributes change between two snapshots, so that the snapshots differ in rows that a reader passes.
const TOUCHED: usize = 100;

/// What is done to a fresh mount before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// So many snapshots, with changes between them.
    Snapshots(usize),
}

/// Forebay with something on, or off.
#[derive(Debug)]
pub struct Variant {
    /// Its name; starts with the subject's.
    pub name: &'static str,
    /// The mount, with the arguments that make the difference.
    pub mount: Forebay,
    /// What happens before.
    pub before: Before,
}

impl Peer for Variant {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> Result<String> {
        self.mount.version()
    }

    fn settings(&self) -> String {
        match self.before {
            Before::Nothing => self.mount.settings(),
            Before::Snapshots(count) => {
                format!("{}; {count} snapshots, {TOUCHED} files touched between each two", self.mount.settings())
            }
        }
    }

    fn only_if_named(&self) -> bool {
        true
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        let mounted = self.mount.mount(site, place)?;
        if let (Before::Snapshots(count), Some(program), Reach::Tree(root)) = (self.before, &mounted.program, &mounted.reach) {
            take_snapshots(program, root, count)?;
        }
        Ok(mounted)
    }
}

/// Snapshots of the whole mount; those that an earlier mount of the same cache took count.
fn take_snapshots(program: &Path, root: &Path, count: usize) -> Result<()> {
    let files = some_files(root)?;
    for number in 0..count {
        if root.join(".snapshots").join(format!("s{number}")).exists() {
            continue;
        }
        for file in &files {
            let times = fs::FileTimes::new().set_modified(SystemTime::now());
            fs::File::open(file).and_then(|open| open.set_times(times)).at(file.display())?;
        }
        let mut command = Command::new(program);
        command.args(["snapshot", "create"]).arg(format!("s{number}")).arg("--mount").arg(root);
        process::run(command, SNAPSHOT_DEADLINE)?;
    }
    Ok(())
}

/// The first files found below a directory, at most [`TOUCHED`].
fn some_files(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).at(dir.display())? {
            let entry = entry.at(dir.display())?;
            let kind = entry.file_type().at(dir.display())?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
            if found.len() >= TOUCHED {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
