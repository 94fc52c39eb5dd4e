//! What was written goes to the store: many small files, a few large ones. Beside a plain client that sends the same files from the plain disk.

use super::{Workload, writing};
use crate::harness::data::Dataset;
use crate::harness::error::{At, Error, Result};
use crate::harness::meter::{Meter, Unit, Work};
use crate::harness::{process, system};
use crate::peer::{Kind, Mounted, Reach};
use crate::target::{Rule, Target};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a small file.
const SMALL: usize = 4096;
/// Rounds so far: each has keys of its own, since what is there would be a conflict.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// So many of 4 KiB.
    Small(usize),
    /// So many of so many bytes.
    Large(usize, u64),
}

/// An export.
#[derive(Debug)]
pub struct Export {
    /// What is in the bucket meanwhile.
    pub set: Dataset,
    /// What is sent.
    pub files: Files,
}

impl Export {
    fn count(&self) -> usize {
        match self.files {
            Files::Small(count) | Files::Large(count, _) => count,
        }
    }

    fn amount(&self) -> f64 {
        match self.files {
            Files::Small(count) => count as f64,
            Files::Large(count, bytes) => count as f64 * bytes as f64 / f64::from(1 << 20),
        }
    }

    /// Writes what is to be sent, durably.
    fn plant(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(dir).at(dir.display())?;
        let paths: Vec<PathBuf> = (0..self.count()).map(|number| dir.join(format!("f{number:06}"))).collect();
        for (number, path) in paths.iter().enumerate() {
            match self.files {
                // Each another one: equal blocks would be stored, and read, once.
                Files::Small(_) => std::fs::write(path, number.to_le_bytes().repeat(SMALL / 8)).at(path.display())?,
                Files::Large(_, bytes) => writing::stream(path, bytes)?,
            }
        }
        rustix::fs::sync();
        system::drop_caches()?;
        Ok(paths)
    }
}

impl Workload for Export {
    fn name(&self) -> String {
        match self.files {
            Files::Small(_) => "export-small".to_owned(),
            Files::Large(..) => "export-large".to_owned(),
        }
    }

    fn settings(&self) -> String {
        let what = match self.files {
            Files::Small(count) => format!("{count} files of 4 KiB in one directory"),
            Files::Large(count, bytes) => format!("{count} files of {} MiB", bytes >> 20),
        };
        format!("{what}, written and synced, caches dropped; then one export of all, from the command's start to its end")
    }

    fn dataset(&self) -> &Dataset {
        &self.set
    }

    fn unit(&self) -> Unit {
        match self.files {
            Files::Small(_) => Unit::FilesPerSecond,
            Files::Large(..) => Unit::MibPerSecond,
        }
    }

    fn baseline(&self) -> &'static str {
        "plain-client"
    }

    fn takes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Mount | Kind::Client)
    }

    fn run(&self, peer: &Mounted, meter: &mut Meter<'_>) -> Result<()> {
        let prefix = format!("bench-export-{}", ROUNDS.fetch_add(1, Ordering::Relaxed));
        let amount = self.amount();
        match (&peer.reach, &peer.program) {
            (Reach::Client(session), _) => {
                let dir = session.directory().join(&prefix);
                let files = self.plant(&dir)?;
                let (session, whole, to) = (session.clone(), matches!(self.files, Files::Small(_)), prefix.clone());
                meter.measure("send", move || {
                    if whole {
                        session.send_whole(&files, &to)?
                    } else {
                        session.send_in_parts(&files, &to)?
                    }
                    Ok(Work::Amount(amount))
                })?;
                std::fs::remove_dir_all(&dir).at(dir.display())?;
            }
            (Reach::Tree(root), Some(program)) => {
                let dir = root.join(&prefix);
                self.plant(&dir)?;
                let (deadline, program) = (meter.deadline(), program.clone());
                meter.measure("send", move || {
                    let mut command = Command::new(&program);
                    command.arg("export").arg(&dir);
                    process::run(command, deadline)?;
                    Ok(Work::Amount(amount))
                })?;
            }
            // It sends what is written by itself, at a time of its own.
            (Reach::Tree(_), None) => return Ok(()),
        }
        let sent = meter.site().store.delete_below(&self.set.bucket, &format!("{prefix}/"))?;
        // Forebay writes the directory's marker, too.
        if sent != self.count() && sent != self.count() + 1 {
            return Err(Error::program("export", format!("{sent} objects in the store and not {}", self.count())));
        }
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        match self.files {
            Files::Small(_) => vec![Target::new("send", Rule::AtLeast(2000.0))],
            Files::Large(..) => vec![Target::new("send", Rule::Baseline(0.85))],
        }
    }
}
