//! How many bytes of a file have something in them: what is recorded, and what memory makes of it.

use super::state::State;
use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::meta::block_bytes;

impl Cache {
    /// Bytes of a file that have something in them, dirty memory included: what the row will say when all of that is recorded. Under the file's
    /// lock. A row of the map that cannot be read counts as full.
    pub(in crate::cache) fn allocated(&self, file: &CachedFile, state: &State) -> u64 {
        let recorded = state.recorded;
        let was_data = |index| self.has_content(file, index).unwrap_or(true);
        let bytes = |is_data: bool, index, size| if is_data { block_bytes(index, size).cast_signed() } else { 0 };
        let change = |index| bytes(state.has_data(index), index, state.size) - bytes(was_data(index), index, recorded.size);
        let mut changed: i64 = state.all_held().map(change).sum();
        let end = recorded.size / self.block_size();
        if recorded.size != state.size && !state.holds(end) && was_data(end) {
            changed += bytes(true, end, state.size) - bytes(true, end, recorded.size);
        }
        recorded.allocated.saturating_add_signed(changed)
    }
}
