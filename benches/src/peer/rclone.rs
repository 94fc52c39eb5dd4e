//! rclone mount (Debian package `rclone`), with its full VFS cache.

use super::{Mounted, Peer, Place, version_of};
use crate::harness::error::Result;
use crate::harness::site::Site;
use std::path::Path;
use std::process::Command;

/// rclone.
#[derive(Debug)]
pub struct Rclone;

/// Without `--use-server-modtime` it asks a HEAD for every stat.
const ARGUMENTS: [&str; 6] = ["--vfs-cache-mode", "full", "--read-only", "--use-server-modtime", "--dir-cache-time", "1h"];

impl Peer for Rclone {
    fn name(&self) -> &'static str {
        "rclone"
    }

    fn version(&self) -> Result<String> {
        version_of(Path::new("rclone"), "--version")
    }

    fn settings(&self) -> String {
        ARGUMENTS.join(" ")
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        let mut command = Command::new("rclone");
        // Nothing of the person's own settings.
        command.env("RCLONE_CONFIG", "/dev/null");
        command.arg("mount").arg(format!(":s3:{}", place.bucket)).arg(&place.mountpoint);
        command.args(["--s3-provider", "Other", "--s3-force-path-style", "--s3-endpoint"]).arg(site.store.url());
        command.arg("--cache-dir").arg(&place.state).args(ARGUMENTS);
        Mounted::by_command(site, self.name(), place, command)
    }
}
