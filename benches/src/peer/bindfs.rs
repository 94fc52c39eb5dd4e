//! bindfs (Debian package `bindfs`): a directory of the plain disk through FUSE, and nothing else. What FUSE itself costs.

use super::{Kind, Mounted, Peer, Place, version_of};
use crate::harness::error::Result;
use crate::harness::site::Site;
use std::path::Path;
use std::process::Command;

/// bindfs.
#[derive(Debug)]
pub struct Bindfs;

impl Peer for Bindfs {
    fn name(&self) -> &'static str {
        "bindfs"
    }

    fn kind(&self) -> Kind {
        Kind::Passthrough
    }

    fn version(&self) -> Result<String> {
        version_of(Path::new("bindfs"), "--version")
    }

    fn settings(&self) -> String {
        "--multithreaded DIR".to_owned()
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        let mut command = Command::new("bindfs");
        command.args(["-f", "--multithreaded"]).arg(&place.state).arg(&place.mountpoint);
        Mounted::by_command(site, self.name(), place, command)
    }
}
