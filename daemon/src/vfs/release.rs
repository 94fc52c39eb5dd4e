//! Letting go of the data of files that the bucket has, for a task.

use super::{Vfs, metadata_error};
use crate::cache::FileRelease;
use crate::config::Settings;
use crate::error::Result;
use crate::ids::Ino;
use crate::meta::FileKind;
use std::collections::HashSet;

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleasedFile {
    /// Its data is gone from here: so many bytes of it that were here.
    Released(u64),
    /// Nothing of it was here.
    WasReleased,
    /// The bucket does not have it as it is here.
    OnlyHere,
    /// It is to stay.
    Pinned,
    /// It was used after the time that was given.
    TooRecent,
    /// It is open for writing, or being exported.
    Busy,
    /// It is gone, or no file.
    Nothing,
}

/// Blocks of files that were released, to be dropped together.
#[derive(Debug, Default)]
pub struct ReleasedBlocks(HashSet<u64>);

impl ReleasedBlocks {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Vfs {
    /// Lets go of what is here of a file, if the bucket has the file and (where a time is given: wall, ns) nobody used it since. Its blocks are for
    /// [`Vfs::drop_released`] to drop.
    pub fn release_data(&self, ino: Ino, unused_since_ns: Option<i64>, blocks: &mut ReleasedBlocks) -> Result<ReleasedFile> {
        let inner = &self.0;
        let Some(row) = inner.meta.inode(ino).map_err(metadata_error)?.filter(|row| row.kind == FileKind::File) else {
            return Ok(ReleasedFile::Nothing);
        };
        if row.own_origin().is_none() || row.base.is_some() {
            return Ok(ReleasedFile::OnlyHere);
        }
        if row.norelease {
            return Ok(ReleasedFile::Pinned);
        }
        let used_ns = row.atime_ns.max(row.mtime_ns).max(row.ctime_ns).max(inner.opened_at(ino).unwrap_or(i64::MIN));
        if unused_since_ns.is_some_and(|since| used_ns >= since) {
            return Ok(ReleasedFile::TooRecent);
        }
        let file = inner.file_of(ino, &row)?;
        Ok(match inner.cache.release_file(&file)? {
            FileRelease::Blocks(none) if none.is_empty() => ReleasedFile::WasReleased,
            FileRelease::Blocks(found) => {
                let bytes = row.size.min(found.len() as u64 * u64::from(Settings::BLOCK_SIZE));
                blocks.0.extend(found);
                ReleasedFile::Released(bytes)
            }
            FileRelease::OnlyHere => ReleasedFile::OnlyHere,
            FileRelease::Pinned => ReleasedFile::Pinned,
            FileRelease::Busy => ReleasedFile::Busy,
            FileRelease::Gone => ReleasedFile::Nothing,
        })
    }

    /// Drops what released files had and no other file has; the device bytes that gives back.
    pub fn drop_released(&self, blocks: &mut ReleasedBlocks) -> Result<u64> {
        if blocks.is_empty() {
            return Ok(0);
        }
        self.0.cache.forget_blocks(&mut blocks.0).map_err(metadata_error)
    }
}
