//! Files on their way to the bucket.

use super::Cache;
use super::file::CachedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{Inode, MetaError, MetaStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Rounds that an export waits for, for nothing of the file to be dirty.
const TRIES: usize = 3;

/// Whether a file is being exported, and how often it was.
#[derive(Debug, Default)]
pub(super) struct Export {
    under_way: AtomicBool,
    /// The object may be another by now.
    is_seen: AtomicBool,
    count: AtomicU64,
    ended: Notify,
}

impl Export {
    /// How often the file became its object. Blocks that were only here may be gone from here since.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether it is being exported.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire)
    }

    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until no export is under way that may have replaced the object. One that is still reading the file does not count: it would wait for itself.
    pub(super) async fn ended(&self) {
        loop {
            let ended = self.ended.notified();
            if !(self.under_way.load(Ordering::Acquire) && self.is_seen.load(Ordering::Acquire)) {
                return;
            }
            ended.await;
        }
    }
}

/// A file that is being exported, as it was at one moment. Whoever meets the object's new version before that is recorded waits for the end of this.
pub struct Sending {
    under_way: UnderWay,
    /// Its row at that moment.
    pub row: Inode,
    /// What the change log said of it.
    pub generation: u64,
}

impl Cache {
    /// Begins to export a file: nothing of it is dirty then. `Ok(None)` if somebody else does, or the file is gone.
    ///
    /// # Errors
    /// `Busy` if somebody writes to it all the time, or it cannot be stored.
    pub async fn begin_sending(self: &Arc<Self>, file: Arc<CachedFile>) -> Result<Option<Sending>> {
        let Some(mut under_way) = UnderWay::begin(file, &self.meta) else { return Ok(None) };
        let ino = under_way.0.ino();
        for _ in 0..TRIES {
            if under_way.0.written().lock().is_settled() {
                let generation = self.generation_of(ino)?;
                let Some(row) = self.meta.inode(ino).map_err(metadata)? else { return Ok(None) };
                let sending = Sending { under_way, row, generation };
                // Changed meanwhile, its row may be newer than the generation.
                if self.is_as_it_was(&sending)? {
                    return Ok(Some(sending));
                }
                under_way = sending.under_way;
            }
            self.settle(&under_way.0).await?;
        }
        Err(Error::new(ErrorKind::Busy, format!("'{}' is being written to", under_way.0.key())))
    }

    fn generation_of(&self, ino: Ino) -> Result<u64> {
        Ok(self.meta.change_of(ino).map_err(metadata)?.map_or(0, |change| change.generation))
    }

    /// Whether a file is what it was when its export began: whatever was read of it meanwhile is of that one version.
    pub fn is_as_it_was(&self, sending: &Sending) -> Result<bool> {
        Ok(sending.file().written().lock().is_settled() && self.generation_of(sending.file().ino())? == sending.generation)
    }
}

impl Sending {
    /// The file.
    pub fn file(&self) -> &Arc<CachedFile> {
        &self.under_way.0
    }

    /// The request that replaces the object is about to be sent, or is known to have done nothing.
    pub fn may_be_seen(&self, may: bool) {
        self.file().export().is_seen.store(may, Ordering::Release);
        if !may {
            self.file().export().ended.notify_waiters();
        }
    }
}

fn metadata(error: MetaError) -> Error {
    Error::new(ErrorKind::Io, error.to_string())
}

/// Whoever waits for the end of an export is told of it, however it ends.
struct UnderWay(Arc<CachedFile>, Arc<MetaStore>);

impl UnderWay {
    fn begin(file: Arc<CachedFile>, meta: &Arc<MetaStore>) -> Option<Self> {
        let taken = file.export().under_way.swap(true, Ordering::AcqRel);
        if taken {
            return None;
        }
        meta.begin_export(file.ino());
        Some(UnderWay(file, Arc::clone(meta)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.1.end_export(self.0.ino());
        self.0.export().is_seen.store(false, Ordering::Release);
        self.0.export().under_way.store(false, Ordering::Release);
        self.0.export().ended.notify_waiters();
    }
}
