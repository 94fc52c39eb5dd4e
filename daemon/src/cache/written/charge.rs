//! What changes of a file cost its owner's quotas: reserved before memory takes them, given back when a round has recorded what they came to.

use super::state::{State, pieces};
use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::cache::filemap::Mapped;
use crate::error::{Error, ErrorKind};
use crate::meta::{Enforce, MetaError, block_bytes};
use std::ops::Range;

impl State {
    /// By how many bytes a file's blocks will count for more after a write. `is_local` says whether one was recorded that was written here.
    pub fn growth(&self, range: Range<u64>, block_size: u64, is_local: &dyn Fn(u64) -> bool) -> u64 {
        let (old_size, new_size) = (self.size, self.size.max(range.end));
        let last = old_size / block_size;
        let mut grown = 0;
        for (index, ..) in pieces(range.clone(), block_size) {
            let before = if self.has_bytes(index) || is_local(index) { block_bytes(index, old_size) } else { 0 };
            grown += block_bytes(index, new_size) - before;
        }
        if last < range.start / block_size {
            grown += self.growth_of_end(new_size, block_size, is_local);
        }
        grown
    }

    /// By how much the block at the end of a file counts for more once the file is longer: its rest is zeros that are stored.
    pub fn growth_of_end(&self, size: u64, block_size: u64, is_local: &dyn Fn(u64) -> bool) -> u64 {
        let last = self.size / block_size;
        let more = block_bytes(last, size.max(self.size)) - block_bytes(last, self.size);
        if more > 0 && (self.has_bytes(last) || is_local(last)) { more } else { 0 }
    }

    /// Gives back what was reserved if nothing is dirty any more that it could be for.
    pub fn settle_if_empty(&mut self) {
        if self.next_held(0).is_none() {
            self.reservation.take().give_back();
        }
    }
}

impl Cache {
    /// Reserves what a change costs; under the file's lock, before it is made.
    pub(super) fn reserve(
        &self,
        file: &CachedFile,
        state: &mut State,
        enforce: Enforce,
        now_ns: i64,
        growth: impl FnOnce(&State, &dyn Fn(u64) -> bool) -> u64,
    ) -> Result<(), Error> {
        if !self.meta.has_quotas() {
            return Ok(());
        }
        // A row that cannot be read counts as nothing: reading the block itself says why.
        let is_local = |index| matches!(self.maps.mapped(file.ino(), index), Ok(Mapped::Local(_)));
        let bytes = growth(state, &is_local);
        self.meta.reserve(file.ino(), &mut state.reservation, bytes, enforce, now_ns).map_err(|error| over_quota(file, &error))
    }

    /// Whether blocks that something else writes would be within quotas.
    pub(super) fn could_write(&self, file: &CachedFile, range: &Range<u64>, enforce: Enforce, now_ns: i64) -> Result<(), Error> {
        if !self.meta.has_quotas() {
            return Ok(());
        }
        let is_local = |index| matches!(self.maps.mapped(file.ino(), index), Ok(Mapped::Local(_)));
        let bytes = file.written().lock().growth(range.clone(), self.config.block_size.into(), &is_local);
        self.meta.could_reserve(file.ino(), bytes, enforce, now_ns).map_err(|error| over_quota(file, &error))
    }

    /// Whether space that `fallocate` asks for beyond the end would be within quotas. It is not set aside.
    pub fn could_grow(&self, file: &CachedFile, range: &Range<u64>, enforce: Enforce, now_ns: i64) -> Result<(), Error> {
        let bytes = range.end.saturating_sub(range.start.max(file.size()));
        self.meta.could_reserve(file.ino(), bytes, enforce, now_ns).map_err(|error| over_quota(file, &error))
    }
}

fn over_quota(file: &CachedFile, error: &MetaError) -> Error {
    let kind = if matches!(error, MetaError::Refused(_)) { ErrorKind::OverQuota } else { ErrorKind::Io };
    Error::new(kind, format!("'{}': {error}", file.key()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 128 << 10;

    fn nothing(_: u64) -> bool {
        false
    }

    #[test]
    fn a_write_costs_the_sectors_that_its_blocks_take() {
        let mut state = State::clean(0, 0);
        assert_eq!(state.growth(0..1, BLOCK, &nothing), 4096);
        state.write(0, b"x", BLOCK, 1);
        assert_eq!((state.growth(1..2, BLOCK, &nothing), state.growth(0..4097, BLOCK, &nothing)), (0, 4096));
        assert_eq!(
            state.growth(BLOCK..BLOCK + 5000, BLOCK, &nothing),
            BLOCK - 4096 + 8192,
            "the first block is filled with zeros"
        );
        assert_eq!(State::clean(BLOCK, 0).growth(0..10, BLOCK, &|_| true), 0, "it is here already");
        assert_eq!(State::clean(BLOCK, 0).growth(0..10, BLOCK, &nothing), BLOCK, "it was the bucket's");
    }

    #[test]
    fn a_hole_costs_nothing_until_it_is_written() {
        let mut state = State::clean(4 * BLOCK, 0);
        assert_eq!(state.growth_of_end(9 * BLOCK, BLOCK, &nothing), 0);
        state.clear(1..3, 1);
        assert_eq!(state.growth(BLOCK..BLOCK + 1, BLOCK, &nothing), BLOCK);
    }
}
