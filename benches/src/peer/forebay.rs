//! Forebay, by its command line.

use super::{Mounted, Peer, Place, version_of};
use crate::harness::error::{Error, Result};
use crate::harness::site::Site;
use crate::harness::system;
use std::path::PathBuf;
use std::process::Command;

/// The program under test.
#[derive(Debug)]
pub struct Forebay {
    /// The `forebay` program.
    pub program: PathBuf,
    /// Further arguments of `forebay mount`.
    pub arguments: Vec<String>,
}

impl Peer for Forebay {
    fn name(&self) -> &'static str {
        "forebay"
    }

    fn version(&self) -> Result<String> {
        version_of(&self.program, "--version")
    }

    fn settings(&self) -> String {
        format!("--cache DIR {}", self.arguments.join(" ")).trim_end().to_owned()
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        let program = system::find_program(&self.program).ok_or_else(|| Error::program(self.program.display(), "not found"))?;
        let mut command = Command::new(&program);
        command.arg("mount").arg(format!("s3://{}", place.bucket)).arg(&place.mountpoint);
        command.arg("--cache").arg(&place.state).arg("--endpoint-url").arg(site.store.url()).arg("--no-sign-request");
        command.args(place.forebay_arguments).args(&self.arguments);
        let mounted = Mounted::by_command(site, self.name(), place, command)?;
        Ok(Mounted { program: Some(program), ..mounted })
    }
}
