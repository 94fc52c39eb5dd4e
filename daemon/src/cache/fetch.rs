//! Bringing blocks from the object store: one task per ranged GET.

use super::Cache;
use super::budget::Reservation;
use super::file::{BlockWaiter, CachedFile, Source};
use super::local::LocalData;
use super::preload::Stored;
use super::region::{REGION, RegionWriter};
use crate::error::{Error, ErrorKind};
use crate::repository::{GetRequest, ObjectHead, StoreError, Urgency};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Blocks already marked in flight, to be brought by one GET.
pub(super) struct Fetch {
    pub(super) file: Arc<CachedFile>,
    /// Block indexes.
    pub(super) blocks: Range<u64>,
    pub(super) urgency: Urgency,
    pub(super) memory: Reservation,
    /// A guess that is dropped when the file is closed (read-ahead within a file, not across files).
    pub(super) while_open: bool,
    /// Whom to tell what the block store says: of a preload.
    pub(super) stored: Option<Arc<Stored>>,
}

impl Cache {
    /// Starts a fetch.
    pub(super) fn spawn_fetch(self: &Arc<Self>, fetch: Fetch) {
        let cache = Arc::clone(self);
        self.runtime.spawn(async move { drop(cache.run_fetch(fetch).await) });
    }

    /// Does it; why the store did not give it, if it did not.
    pub(super) async fn run_fetch(self: Arc<Self>, mut fetch: Fetch) -> Option<StoreError> {
        // Whatever way this task ends, blocks it still owes are taken out of flight.
        let mut owed =
            Owed { cache: Arc::clone(&self), file: Arc::clone(&fetch.file), blocks: fetch.blocks.clone(), asked: None };
        match self.stream_blocks(&mut fetch, &mut owed).await {
            Ok(()) => debug_assert!(owed.blocks.is_empty(), "a complete stream publishes every block"),
            Err(Stop::Unwanted) => {}
            Err(Stop::Failed(error)) if is_other_version(&error) && self.has_moved(&fetch.file, owed.asked.as_ref()).await => {
                // What is owed is asked for again where the file is now.
            }
            Err(Stop::Failed(error)) => {
                let rest = std::mem::replace(&mut owed.blocks, 0..0);
                self.fetch_failed(&fetch, rest, &error);
                return Some(error);
            }
        }
        None
    }

    async fn stream_blocks(self: &Arc<Self>, fetch: &mut Fetch, owed: &mut Owed) -> Result<(), Stop> {
        let file = Arc::clone(&fetch.file);
        let LocalData::Packed(packed) = file.local();
        let start = fetch.blocks.start * packed.block_size;
        let end = (fetch.blocks.end * packed.block_size).min(packed.base());
        if end <= start {
            return Err(Stop::Failed(short_body(&file.key())));
        }
        // Before the source: what is asked for there is then of that export, or of a later one.
        let exports = file.export().count();
        let source = file.source();
        owed.asked = Some(source.clone());
        let request = GetRequest { key: source.key.to_string(), range: Some(start..end), pin: Some(source.pin) };
        let started = Instant::now();
        let mut response = self.repository.fetch(request, fetch.urgency).await?;
        let waited = started.elapsed();
        self.note_head(&file, &response.head);
        let mut region = self.next_region(fetch, start..end);
        while !owed.blocks.is_empty() {
            let index = owed.blocks.start;
            if region.is_done() {
                region = self.next_region(fetch, index * packed.block_size..end);
            }
            // As it was when the fetch began: a file may be cut meanwhile.
            let wanted = ((index + 1) * packed.block_size).min(end).saturating_sub(index * packed.block_size) as usize;
            let block = loop {
                if let Some(block) = region.next(wanted) {
                    break block;
                }
                if !region.read_from(&mut response.body).await? {
                    return Err(Stop::Failed(short_body(&file.key())));
                }
            };
            self.counters.fetched_bytes.fetch_add(wanted as u64, Ordering::Relaxed);
            if !self.publish_and_fill(&file, index, block, exports, fetch.stored.as_ref()).await {
                // What is owed is asked for again.
                return Err(Stop::Unwanted);
            }
            owed.blocks.start += 1;
            if fetch.while_open && !file.has_handles() && !file.has_waiters(owed.blocks.clone()) {
                return Err(Stop::Unwanted);
            }
        }
        let now = Instant::now();
        self.pipe.note(end - start, waited, now.duration_since(started), now);
        Ok(())
    }

    /// Memory for the bytes of a file from the front of `bytes` to the end of a region.
    fn next_region(&self, fetch: &mut Fetch, bytes: Range<u64>) -> RegionWriter {
        let end = ((bytes.start / REGION + 1) * REGION).min(bytes.end);
        let len = (end - bytes.start) as usize;
        let memory = fetch.memory.split(len.next_multiple_of(self.config.block_size as usize));
        self.regions.region(len, memory)
    }

    fn note_head(&self, file: &Arc<CachedFile>, head: &ObjectHead) {
        if let Some(version) = &head.pin.version {
            file.learn_version(&head.pin.etag, version);
        }
        if file.first_head()
            && let Some(events) = self.events.get()
        {
            events.object_head(file.ino(), head);
        }
    }

    /// Whether a file's bytes come from elsewhere by now than they were asked from, because it was exported.
    async fn has_moved(&self, file: &CachedFile, asked: Option<&Source>) -> bool {
        file.export().ended().await;
        let now = file.source();
        asked.is_some_and(|asked| asked.key != now.key || asked.pin.etag != now.pin.etag)
    }

    fn fetch_failed(self: &Arc<Self>, fetch: &Fetch, blocks: Range<u64>, error: &StoreError) {
        let file = &fetch.file;
        let failed = file.fail(blocks);
        if is_other_version(error)
            && file.note_changed()
            && let Some(events) = self.events.get()
        {
            events.object_changed(file.ino());
        }
        // A guess may fail for reasons a demand would outlast (it is the first to be turned away under load): whoever
        // came to wait for it gets a fetch of their own.
        if fetch.urgency == Urgency::Ahead && !file.is_changed() {
            return self.fetch_for_waiters(file, failed);
        }
        let error = as_read_error(&file.key(), error);
        if failed.iter().any(|(_, waiters)| !waiters.is_empty()) {
            tracing::warn!(key = &*file.key(), %error, "read failed");
        }
        answer_all(failed, &error);
    }

    /// Takes blocks out of flight; what somebody waits for is fetched on demand.
    pub(super) fn fetch_for_waiters(self: &Arc<Self>, file: &Arc<CachedFile>, blocks: Vec<(u64, Vec<BlockWaiter>)>) {
        for (index, waiters) in blocks.into_iter().filter(|(_, waiters)| !waiters.is_empty()) {
            for waiter in waiters {
                self.wait_for_block(file, index, waiter);
            }
        }
    }
}

fn answer_all(failed: Vec<(u64, Vec<BlockWaiter>)>, error: &Error) {
    for waiter in failed.into_iter().flat_map(|(_, waiters)| waiters) {
        waiter(Err(error.clone()));
    }
}

fn is_other_version(error: &StoreError) -> bool {
    matches!(error, StoreError::Changed { .. } | StoreError::NotFound { .. })
}

fn short_body(key: &str) -> StoreError {
    StoreError::Permanent { what: key.to_owned(), message: "the body ended early".into() }
}

fn as_read_error(key: &str, error: &StoreError) -> Error {
    match error {
        StoreError::Changed { .. } | StoreError::NotFound { .. } => {
            Error::new(ErrorKind::Stale, format!("object '{key}' was replaced or deleted in the bucket while it was open"))
        }
        StoreError::AccessDenied { .. } => Error::new(ErrorKind::AccessDenied, error.to_string()),
        _ => Error::new(ErrorKind::Io, format!("object '{key}' could not be fetched: {error}")),
    }
}

/// Why a stream of blocks ended early.
enum Stop {
    /// Nobody wants the rest.
    Unwanted,
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Failed(error)
    }
}

/// Blocks a fetch has promised. Dropped with some left (cancelled, unwanted, runtime shut down), it takes them out of
/// flight and starts a demand fetch for those that somebody waits for.
struct Owed {
    cache: Arc<Cache>,
    file: Arc<CachedFile>,
    blocks: Range<u64>,
    /// Where the bytes were asked from.
    asked: Option<Source>,
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.blocks.is_empty() {
            let failed = self.file.fail(self.blocks.clone());
            self.cache.fetch_for_waiters(&self.file, failed);
        }
    }
}
