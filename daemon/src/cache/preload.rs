//! Bringing data before anybody asks for it, for keeps: what is preloaded is in the block store when the caller is told so, and pinned there until the
//! caller has done all it wants to, so that the end of a preload does not push out its beginning.

use super::Cache;
use super::fetch::Fetch;
use super::file::CachedFile;
use super::filemap::Mapped;
use super::local::LocalData;
use super::read::{metadata_error, runs};
use crate::block::{PinSet, PutError};
use crate::error::Error;
use crate::repository::{StoreError, Urgency};
use crate::units::MIB;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// The most that one call of [`Cache::preload`] should ask for: a part of one GET.
pub const PRELOAD_PART: u64 = super::pipe::PART;
/// How often what others bring, and memory that others have, is looked after.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How often a part is asked for whose blocks went again, or were brought by somebody who gave up.
pub(super) const TRIES: usize = 4;
/// Bytes under way as long as no GET has told how much is of use.
const FIRST_WINDOW: u64 = 64 * MIB;
/// One part in this many of the cache is left to everything else.
pub(super) const LEFT_TO_OTHERS: u64 = 20;
/// One part in this many is added to plain bytes for what frames need beside them.
const HEADERS: u64 = 16;

/// What a preload has loaded, pinned as long as this lives.
pub struct Preload {
    pins: Arc<PinSet>,
}

/// Why something was not preloaded.
#[derive(Debug)]
pub enum PreloadError {
    /// The store does not give it.
    Store(StoreError),
    /// There is no more room in the cache, unless what was preloaded before goes.
    Full,
    /// The cache could not take it.
    Device(PutError),
    /// The metadata failed.
    Metadata(Error),
    /// It went from the cache as fast as it came, or became another version.
    Unstable,
}

/// Told what became of the blocks of a fetch in the block store.
pub(super) struct Stored {
    pins: Arc<PinSet>,
    pending: AtomicUsize,
    failure: Mutex<Option<PutError>>,
    all: Notify,
}

impl Stored {
    fn new(pins: &Arc<PinSet>) -> Arc<Self> {
        Arc::new(Stored { pins: Arc::clone(pins), pending: AtomicUsize::new(0), failure: Mutex::default(), all: Notify::new() })
    }

    /// A block is being handed to the block store.
    pub(super) fn expect_one(&self) {
        self.pending.fetch_add(1, Ordering::AcqRel);
    }

    /// The block store has answered, and what follows from it is done.
    pub(super) fn arrived(&self, outcome: Result<u64, PutError>) {
        match outcome {
            Ok(fingerprint) => self.pins.add(fingerprint),
            Err(error) => drop(self.failure.lock().get_or_insert(error)),
        }
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all.notify_waiters();
        }
    }

    async fn wait(&self) -> Option<PutError> {
        loop {
            let all = self.all.notified();
            if self.pending.load(Ordering::Acquire) == 0 {
                return self.failure.lock().take();
            }
            all.await;
        }
    }
}

/// What of a part is in the block store.
enum Found {
    /// All that its origin has: so many bytes of it were there before.
    All,
    /// Not these blocks, which are marked in flight by now.
    Absent(Vec<u64>),
    /// Somebody else brings what is missing.
    Coming,
}

impl Cache {
    /// Begins to preload.
    pub fn begin_preload(&self) -> Preload {
        Preload { pins: Arc::new(self.store.pin_set()) }
    }

    /// Bytes that preloads should have under way together.
    pub fn preload_window(&self) -> u64 {
        let useful = self.pipe.bytes().unwrap_or(FIRST_WINDOW).max(4 * PRELOAD_PART);
        useful.min(self.budget.limit() as u64 / 4 * 3).max(self.config.block_size.into())
    }

    /// Pins what a file has in the cache, so that what is preloaded next does not push it out.
    pub fn pin_preloaded(&self, preload: &Preload, file: &CachedFile) -> Result<(), Error> {
        self.meta
            .mapped_blocks(file.ino(), &mut |fingerprint| preload.pins.add(fingerprint))
            .map_err(|error| metadata_error(file, &error))
    }

    /// Has what the origin has of a byte range (of [`PRELOAD_PART`] bytes at most) in the block store, where a later read finds it, also after the daemon was
    /// killed once [`Cache::preloaded_is_recorded`] has returned.
    pub async fn preload(
        self: &Arc<Self>,
        preload: &Preload,
        file: &Arc<CachedFile>,
        bytes: Range<u64>,
    ) -> Result<(), PreloadError> {
        let failed = |error| PreloadError::Metadata(error);
        for _ in 0..TRIES {
            match self.find(preload, file, &bytes).map_err(failed)? {
                Found::All => return Ok(()),
                Found::Absent(absent) => {
                    for run in runs(&absent) {
                        // What is not asked for after a failure must not stay marked.
                        let owed = Unasked { cache: self, file, blocks: run.clone() };
                        self.bring(preload, file, run, owed).await?;
                    }
                }
                Found::Coming => {
                    let LocalData::Packed(packed) = file.local();
                    while file.is_on_its_way(packed.blocks(&bytes)) {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                }
            }
        }
        Err(PreloadError::Unstable)
    }

    /// Fetches a run of blocks and waits until they are stored.
    async fn bring(
        self: &Arc<Self>,
        preload: &Preload,
        file: &Arc<CachedFile>,
        run: Range<u64>,
        owed: Unasked<'_>,
    ) -> Result<(), PreloadError> {
        let len = (run.end - run.start) as usize * self.config.block_size as usize;
        let room = Room::take(self, len as u64).ok_or(PreloadError::Full)?;
        let memory = loop {
            self.retained.make_room(&self.budget, len);
            if let Some(memory) = self.budget.try_take(len) {
                break memory;
            }
            // A range that the whole budget is too small for gets its memory all the same, when it is alone.
            if self.budget.used() == 0 {
                break self.budget.take(len);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let stored = Stored::new(&preload.pins);
        let fetch = Fetch {
            file: Arc::clone(file),
            blocks: run,
            urgency: Urgency::Ahead,
            memory,
            while_open: false,
            stored: Some(Arc::clone(&stored)),
        };
        owed.asked();
        // A task of its own: who stops waiting does not stop it halfway.
        let cache = Arc::clone(self);
        let fetched = self.runtime.spawn(async move { cache.run_fetch(fetch).await }).await;
        let failure = stored.wait().await;
        // What came is counted as pinned by now.
        drop(room);
        match (fetched, failure) {
            (Ok(Some(error)), _) => Err(PreloadError::Store(error)),
            (_, Some(PutError::NoSpace)) => Err(PreloadError::Full),
            (_, Some(error)) => Err(PreloadError::Device(error)),
            (Ok(None) | Err(_), None) => Ok(()),
        }
    }

    /// Pins what is there of a part, and marks in flight what is nowhere.
    fn find(&self, preload: &Preload, file: &CachedFile, bytes: &Range<u64>) -> Result<Found, Error> {
        let LocalData::Packed(packed) = file.local();
        let bytes = bytes.start..bytes.end.min(packed.base());
        if bytes.is_empty() {
            return Ok(Found::All);
        }
        let absent = self.locate_absent(file, &bytes).map_err(|error| metadata_error(file, &error))?;
        let rows = self.maps.rows(file.ino(), &packed.blocks(&bytes)).map_err(|error| metadata_error(file, &error))?;
        for index in packed.blocks(&bytes) {
            if let Mapped::Origin(Some(id)) = rows.mapped(index)
                && self.store.contains(&id)
            {
                preload.pins.add(id.fingerprint());
                self.store.touch(id.fingerprint());
            }
        }
        Ok(match absent.is_empty() {
            false => Found::Absent(absent),
            true if file.is_on_its_way(packed.blocks(&bytes)) => Found::Coming,
            true => Found::All,
        })
    }

    /// Records in the metadata what was stored so far.
    pub async fn preloaded_is_recorded(self: &Arc<Self>) {
        let maps = Arc::clone(&self.maps);
        let _ = self.runtime.spawn_blocking(move || maps.commit_pending()).await;
    }
}

/// Room in the cache for what is on its way there.
struct Room<'a> {
    cache: &'a Cache,
    bytes: u64,
}

impl<'a> Room<'a> {
    /// Room for so many plain bytes beside everything that is held, pinned, or on its way to be; `None` if there is none.
    fn take(cache: &'a Cache, plain: u64) -> Option<Self> {
        let bytes = plain + plain / HEADERS;
        let under_way = cache.preloading.fetch_add(bytes, Ordering::AcqRel);
        // Given back if it does not fit.
        let room = Room { cache, bytes };
        let reserve = cache.store.capacity() / LEFT_TO_OTHERS;
        (cache.store.room_for_pins() >= under_way + bytes + reserve).then_some(room)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.cache.preloading.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Blocks marked in flight that nobody has asked for yet.
struct Unasked<'a> {
    cache: &'a Arc<Cache>,
    file: &'a Arc<CachedFile>,
    blocks: Range<u64>,
}

impl Unasked<'_> {
    fn asked(mut self) {
        self.blocks = 0..0;
    }
}

impl Drop for Unasked<'_> {
    fn drop(&mut self) {
        if !self.blocks.is_empty() {
            let failed = self.file.fail(self.blocks.clone());
            self.cache.fetch_for_waiters(self.file, failed);
        }
    }
}
