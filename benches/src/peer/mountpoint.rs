//! Mountpoint for Amazon S3, by the command line of `mount-s3`: with its disk cache, and without (its fastest cold form).

use super::{Mounted, Peer, Place, version_of};
use crate::harness::error::Result;
use crate::harness::site::Site;
use std::path::PathBuf;
use std::process::Command;

/// Mountpoint.
#[derive(Debug)]
pub struct Mountpoint {
    /// The `mount-s3` program.
    pub program: PathBuf,
    /// Whether it gets a disk cache.
    pub cache: bool,
}

/// With a shorter TTL it asks a LIST and a HEAD again for each name that is looked up.
const ARGUMENTS: [&str; 7] =
    ["--force-path-style", "--no-sign-request", "--region", "us-east-1", "--metadata-ttl", "indefinite", "--foreground"];

impl Peer for Mountpoint {
    fn name(&self) -> &'static str {
        if self.cache { "mount-s3" } else { "mount-s3-nocache" }
    }

    fn caches(&self) -> bool {
        self.cache
    }

    fn version(&self) -> Result<String> {
        version_of(&self.program, "--version")
    }

    fn settings(&self) -> String {
        let cache = if self.cache { " --cache DIR" } else { "" };
        format!("{}{cache}", ARGUMENTS.join(" "))
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        let mut command = Command::new(&self.program);
        command.arg(&place.bucket).arg(&place.mountpoint).arg("--endpoint-url").arg(site.store.url());
        command.args(ARGUMENTS);
        if self.cache {
            command.arg("--cache").arg(&place.state);
        }
        Mounted::by_command(site, self.name(), place, command)
    }
}
