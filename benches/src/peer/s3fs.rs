//! s3fs (Debian package `s3fs`), with its disk cache.

use super::{Mounted, Peer, Place, version_of};
use crate::harness::error::Result;
use crate::harness::site::Site;
use std::path::Path;
use std::process::Command;

/// s3fs.
#[derive(Debug)]
pub struct S3fs;

impl Peer for S3fs {
    fn name(&self) -> &'static str {
        "s3fs"
    }

    fn version(&self) -> Result<String> {
        version_of(Path::new("s3fs"), "--version")
    }

    fn settings(&self) -> String {
        "-o use_cache=DIR,public_bucket=1,use_path_request_style".to_owned()
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        let mut command = Command::new("s3fs");
        command.arg(&place.bucket).arg(&place.mountpoint).arg("-f").arg("-o");
        let (url, cache) = (site.store.url(), place.state.display());
        command.arg(format!("url={url},use_cache={cache},public_bucket=1,use_path_request_style"));
        Mounted::by_command(site, self.name(), place, command)
    }
}
