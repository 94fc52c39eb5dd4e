//! The plain disk: the same files in a directory, read without anything between. The measure for cached reads.

use super::{Kind, Mounted, Peer, Place, Reach};
use crate::harness::data::Dataset;
use crate::harness::error::Result;
use crate::harness::site::Site;

/// The disk itself.
#[derive(Debug)]
pub struct Plain;

impl Peer for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn kind(&self) -> Kind {
        Kind::Disk
    }

    fn version(&self) -> Result<String> {
        Ok("the file system of the work directory".to_owned())
    }

    fn settings(&self) -> String {
        "files in a directory".to_owned()
    }

    fn prepare(&self, site: &Site, set: &Dataset) -> Result<()> {
        set.write_below(&site.directory(&format!("plain/{}", set.bucket))?)
    }

    fn mount(&self, site: &Site, place: &Place) -> Result<Mounted> {
        Ok(Mounted::without_mount(Reach::Tree(site.directory(&format!("plain/{}", place.bucket))?)))
    }
}
