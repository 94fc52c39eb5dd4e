//! `SEEK_DATA` and `SEEK_HOLE`, in whole blocks.

use crate::cache::Cache;
use crate::cache::file::CachedFile;
use crate::cache::local::LocalData;
use crate::cache::read::{Reader, metadata_error};
use crate::error::Error;
use crate::meta::BLOCKS_PER_CHUNK;

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Bytes.
    Data,
    /// A hole, or the end.
    Hole,
}

impl Cache {
    /// The first offset at or after `from` that is what is looked for. `None` beyond the end, or without any data behind.
    /// What others may have mapped for writing is data as a whole: pages that only the kernel has could be anywhere in it.
    pub fn seek(&self, reader: &Reader, from: u64, what: Seek) -> Result<Option<u64>, Error> {
        let file = reader.file();
        let size = file.size();
        if from >= size {
            return Ok(None);
        }
        if !file.is_written() || reader.others_may_map() {
            return Ok(Some(if what == Seek::Data { from } else { size }));
        }
        let LocalData::Packed(packed) = file.local();
        let mut index = from / packed.block_size;
        while index * packed.block_size < size {
            let is_data = self.is_data(file, index)?;
            if is_data == (what == Seek::Data) {
                return Ok(Some((index * packed.block_size).max(from)));
            }
            index = if is_data { index + 1 } else { self.skip_hole(file, index)? };
        }
        Ok((what == Seek::Hole).then_some(size))
    }

    fn is_data(&self, file: &CachedFile, index: u64) -> Result<bool, Error> {
        {
            let state = file.written().lock();
            if state.holds(index) {
                return Ok(state.has_data(index));
            }
        }
        self.has_content(file, index).map_err(|error| metadata_error(file, &error))
    }

    /// Behind a hole: over all that neither memory nor the map nor the origin has anything of.
    fn skip_hole(&self, file: &CachedFile, index: u64) -> Result<u64, Error> {
        let LocalData::Packed(packed) = file.local();
        let chunk = index / BLOCKS_PER_CHUNK;
        if !(index + 1).is_multiple_of(BLOCKS_PER_CHUNK) || (index + 1) * packed.block_size < packed.base() {
            return Ok(index + 1);
        }
        let next = self.meta.next_chunk(file.ino(), chunk + 1).map_err(|error| metadata_error(file, &error))?;
        let mapped = next.map_or(u64::MAX, |(number, _)| number * BLOCKS_PER_CHUNK);
        let dirty = file.written().lock().next_held(index + 1).unwrap_or(u64::MAX);
        Ok(mapped.min(dirty).min(file.size().div_ceil(packed.block_size)).max(index + 1))
    }
}
