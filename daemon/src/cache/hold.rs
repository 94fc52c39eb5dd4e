//! Holding what the bucket has of files in a snapshot, so that it stays whatever becomes of their objects.
//!
//! Invariants:
//! 1. What is held was fetched in the version that the snapshot has, or was cached of it, and was read back from its device.
//! 2. A block is claimed in the block store before its reference is in the metadata, and kept after: in between nothing drops it. A crash in between leaves a
//!    cached block.
//! 3. Data before metadata: what is claimed is durable before a reference to it is committed.

use super::Cache;
use super::file::CachedFile;
use super::filemap::Mapped;
use super::local::LocalData;
use super::preload::{LEFT_TO_OTHERS, PreloadError, TRIES};
use super::read::metadata_error;
use crate::block::BlockWant;
use crate::error::{Error, ErrorKind};
use crate::ids::{BlockId, BlockIndex, Ino};
use crate::meta::{BLOCKS_PER_CHUNK, MetaError, Refusal};
use futures::channel::oneshot;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// Blocks entered in one transaction.
const TOGETHER: usize = 4096;

/// A block of a file.
type Place = (Ino, BlockIndex, BlockId);

/// What is claimed for snapshots and not in the metadata yet. When this goes, what is left is let go of.
pub struct Holding {
    cache: Arc<Cache>,
    claimed: Mutex<Vec<Place>>,
}

impl Cache {
    /// Begins to hold what files in snapshots have.
    pub fn begin_holding(self: &Arc<Self>) -> Holding {
        Holding { cache: Arc::clone(self), claimed: Mutex::default() }
    }
}

impl Holding {
    /// Has a part (of [`super::PRELOAD_PART`] bytes at most) of a file in a snapshot in the block store, and claims it; what is held already is passed over.
    pub async fn claim(&self, file: &Arc<CachedFile>, bytes: Range<u64>) -> Result<(), PreloadError> {
        for _ in 0..TRIES {
            if self.lacking(file, &bytes).map_err(PreloadError::Metadata)?.is_empty() {
                return Ok(());
            }
            // What is fetched is pinned until it is claimed.
            let preload = self.cache.begin_preload();
            self.cache.preload(&preload, file, bytes.clone()).await?;
            if self.claim_stored(file, &bytes).await? {
                return Ok(());
            }
        }
        Err(PreloadError::Unstable)
    }

    /// The blocks of a part that come from the object and are not held for the snapshot, each with the copy of it that is cached.
    fn lacking(&self, file: &CachedFile, bytes: &Range<u64>) -> Result<Vec<(u64, Option<BlockId>)>, Error> {
        let LocalData::Packed(packed) = file.local();
        let blocks = packed.blocks(&(bytes.start..bytes.end.min(packed.base())));
        if bytes.start >= packed.base() {
            return Ok(Vec::new());
        }
        let failed = |error: MetaError| metadata_error(file, &error);
        let rows = self.cache.maps.rows(file.ino(), &blocks).map_err(failed)?;
        let (mut lacking, mut held) = (Vec::new(), None);
        for index in blocks {
            let chunk = index / BLOCKS_PER_CHUNK;
            if held.is_none_or(|(of, _)| of != chunk) {
                held = Some((chunk, self.cache.meta.held_slots(file.ino(), chunk).map_err(failed)?));
            }
            let is_held = held.is_some_and(|(_, slots)| slots >> (index % BLOCKS_PER_CHUNK) & 1 == 1);
            if let Mapped::Origin(id) = rows.mapped(index)
                && !is_held
            {
                lacking.push((index, id));
            }
        }
        Ok(lacking)
    }

    /// Claims what is cached of a part; `false` if some of it is gone again, and nothing is claimed.
    async fn claim_stored(&self, file: &Arc<CachedFile>, bytes: &Range<u64>) -> Result<bool, PreloadError> {
        let lacking = self.lacking(file, bytes).map_err(PreloadError::Metadata)?;
        let Some(blocks) = lacking.into_iter().map(|(index, id)| Some((index, id?))).collect::<Option<Vec<_>>>() else {
            return Ok(false);
        };
        if blocks.is_empty() {
            return Ok(true);
        }
        let LocalData::Packed(packed) = file.local();
        let want = |(index, id): &(u64, BlockId)| {
            let len = packed.block_len(*index);
            BlockWant { id: *id, plain_len: len, start: 0, len }
        };
        let wants: Vec<BlockWant> = blocks.iter().map(want).collect();
        self.is_room_for(&wants)?;
        let ino = file.ino();
        let places: Vec<Place> = blocks.into_iter().map(|(index, id)| (ino, BlockIndex(index), id)).collect();
        if !self.are_good(&places, wants).await {
            return Ok(false);
        }
        let claimed = places.iter().take_while(|(.., id)| self.cache.store.claim(id)).count();
        if claimed < places.len() {
            self.let_go(&places[..claimed]);
            return Ok(false);
        }
        self.claimed.lock().extend(places);
        Ok(true)
    }

    /// What is held takes its room from everything else; a part of it is left to that.
    fn is_room_for(&self, wants: &[BlockWant]) -> Result<(), PreloadError> {
        let store = &self.cache.store;
        let more = wants.iter().filter(|want| !store.is_held(want.id.fingerprint())).map(|want| u64::from(want.len)).sum::<u64>();
        let is_room = more == 0 || store.room_for_local() >= more + store.capacity() / LEFT_TO_OTHERS;
        if is_room { Ok(()) } else { Err(PreloadError::Full) }
    }

    /// Whether blocks can be read back, all of them; those that cannot are fetched anew by whoever asks next.
    async fn are_good(&self, places: &[Place], wants: Vec<BlockWant>) -> bool {
        let (read, outcome) = oneshot::channel();
        self.cache.store.read(wants, Box::new(move |outcome| drop(read.send(outcome.map(drop)))));
        match outcome.await {
            Ok(Ok(())) => true,
            Ok(Err(faults)) => {
                for (ino, index, id) in faults.iter().filter_map(|(position, _)| places.get(*position)) {
                    self.cache.maps.forget(*ino, *index, *id);
                }
                false
            }
            Err(_) => false,
        }
    }

    /// Has what was claimed so far found held by whatever comes after. Blocks.
    ///
    /// # Errors
    /// `NotFound` if a snapshot is gone. What could not be recorded is let go of.
    pub fn record(&self) -> Result<(), Error> {
        let places = std::mem::take(&mut *self.claimed.lock());
        if places.is_empty() {
            return Ok(());
        }
        let cache = &self.cache;
        let stored = if cache.config.durable { cache.store.flush() } else { cache.store.drain() };
        if let Err(error) = stored {
            self.let_go(&places);
            return Err(Error::new(ErrorKind::Io, error.to_string()));
        }
        let mut left = &places[..];
        while !left.is_empty() {
            let (some, rest) = left.split_at(left.len().min(TOGETHER));
            if let Err(error) = self.enter(some) {
                self.let_go(left);
                return Err(match error {
                    MetaError::Refused(Refusal::NotFound) => Error::new(ErrorKind::NotFound, "the snapshot was deleted"),
                    error => Error::new(ErrorKind::Io, format!("metadata: {error}")),
                });
            }
            left = rest;
        }
        Ok(())
    }

    fn enter(&self, places: &[Place]) -> Result<(), MetaError> {
        let _references = self.cache.references.lock();
        let released = self.cache.meta.hold_blocks(places)?;
        places.iter().for_each(|(.., id)| self.cache.store.keep(id));
        self.cache.release(&released);
        Ok(())
    }

    fn let_go(&self, places: &[Place]) {
        let _references = self.cache.references.lock();
        for (.., id) in places {
            self.cache.store.discard(id, self.cache.may_be_referenced(id.fingerprint()));
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let places = std::mem::take(self.claimed.get_mut());
        if !places.is_empty() {
            self.let_go(&places);
        }
    }
}
