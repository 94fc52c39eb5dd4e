//! Checking, scrubbing and collecting, and what the kernel has to hear of it.

use super::{Inner, Vfs, metadata_error};
use crate::cache::care::{FsckOptions, FsckReport, GcReport, ScrubReport, Watch};
use crate::error::Result;
use crate::ids::Ino;

impl Vfs {
    /// Checks the metadata and the blocks against each other; blocks.
    pub fn fsck(&self, options: &FsckOptions, watch: &Watch) -> Result<FsckReport> {
        let inner = &self.0;
        let mut told = |parent: Ino, name: &[u8]| inner.repaired_name(parent, name);
        inner.cache.fsck(options, inner.clock.wall_ns(), watch, &mut told).map_err(metadata_error)
    }

    /// Reads and checks everything that is stored, so many bytes a second; blocks.
    pub fn scrub(&self, heal: bool, rate: u64, watch: &Watch) -> Result<ScrubReport> {
        self.0.cache.scrub(heal, rate, watch).map_err(metadata_error)
    }

    /// Frees all that nothing refers to; blocks.
    pub fn collect(&self, watch: &Watch) -> Result<GcReport> {
        self.0.cache.collect(watch).map_err(metadata_error)
    }
}

impl Inner {
    /// A name appeared or went that nobody asked for.
    fn repaired_name(&self, parent: Ino, name: &[u8]) {
        self.names_changed(parent);
        self.invalidator.entry(parent, name);
        self.invalidator.inode(parent);
    }
}
