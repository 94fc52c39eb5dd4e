//! Letting go of what is cached of files that the bucket has.

use super::Cache;
use super::file::CachedFile;
use super::read::metadata_error;
use crate::error::Result;
use crate::meta::{LetGo, MetaError};
use std::collections::HashSet;
use std::sync::{Arc, Weak};

/// What became of a file whose data was to be let go of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileRelease {
    /// None of it is here any more, as far as its map says; the blocks that it named.
    Blocks(Vec<u64>),
    /// The bucket does not have it as it is here.
    OnlyHere,
    /// It is to stay.
    Pinned,
    /// Somebody has it open for writing, or it is being exported.
    Busy,
    /// There is no such file.
    Gone,
}

impl Cache {
    /// Has a file's map name no blocks, if the bucket has all of the file. Who reads it at the same time fetches what is gone, of the same version. The blocks
    /// themselves stay until [`Cache::forget_blocks`].
    pub fn release_file(&self, file: &Arc<CachedFile>) -> Result<FileRelease> {
        if file.has_writers() || file.export().is_under_way() {
            return Ok(FileRelease::Busy);
        }
        // Nobody begins to change the file, and nothing is entered in its map.
        let _unclaimed = file.unclaimed();
        let _map = file.map_gate().write();
        // What was entered just now is on its way to the metadata, and is to be let go of as well.
        self.maps.commit_pending();
        let _maps = self.maps.without_pending(file.ino());
        if file.is_claimed_now() || !file.written().lock().is_settled() {
            return Ok(FileRelease::OnlyHere);
        }
        let mut blocks = Vec::new();
        let released = loop {
            match self.meta.let_go_of_cached(file.ino()).map_err(|error| metadata_error(file, &error))? {
                LetGo::More(more) => blocks.extend(more),
                LetGo::All(last) => {
                    blocks.extend(last);
                    break FileRelease::Blocks(blocks);
                }
                LetGo::OnlyHere => break FileRelease::OnlyHere,
                LetGo::Pinned => break FileRelease::Pinned,
                LetGo::Gone => break FileRelease::Gone,
            }
        };
        self.maps.drop_rows(file.ino(), 0..file.size().div_ceil(self.block_size() * crate::meta::BLOCKS_PER_CHUNK));
        Ok(released)
    }

    /// Drops blocks that released files named and no other file does, is held or pinned; the device bytes that gives back. Looks at all file maps once, so
    /// call it with many.
    pub fn forget_blocks(&self, blocks: &mut HashSet<u64>) -> std::result::Result<u64, MetaError> {
        // What others have just come to share.
        self.maps.commit_pending();
        self.meta.without_mapped(blocks)?;
        Ok(blocks.drain().map(|fingerprint| self.store.forget(fingerprint)).sum())
    }

    /// Whether any of a file's data is here.
    pub fn has_any(&self, file: &CachedFile) -> Result<bool> {
        if file.is_claimed_now() {
            return Ok(true);
        }
        self.maps.commit_pending();
        let (mut found, mut from) = (false, 0);
        while !found {
            let chunk = self.meta.next_chunk(file.ino(), from).map_err(|error| metadata_error(file, &error))?;
            let Some((number, chunk)) = chunk else { break };
            found = chunk.blocks.iter().flatten().any(|id| self.store.contains(id));
            from = number + 1;
        }
        Ok(found)
    }

    /// The state of a file, if somebody has it in use.
    pub fn file_in_use(&self, ino: crate::ids::Ino) -> Option<Arc<CachedFile>> {
        self.files.lock().get(&ino).and_then(Weak::upgrade)
    }
}
