//! Bringing the data of files before anybody asks for it, for a task.

use super::{Inner, Vfs, metadata_error};
use crate::cache::{CachedFile, PRELOAD_PART, Preload, PreloadError};
use crate::error::Result;
use crate::ids::Ino;
use crate::meta::{FileKind, Inode};
use crate::repository::StoreError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Files whose data is being brought here because somebody asked for it, with the bytes that have come.
#[derive(Default)]
pub(super) struct Restoring(Mutex<HashMap<Ino, Arc<AtomicU64>>>);

impl Restoring {
    pub(super) fn bytes(&self, ino: Ino) -> Option<u64> {
        self.0.lock().get(&ino).map(|bytes| bytes.load(Ordering::Relaxed))
    }
}

/// A file on its way here.
pub struct PreloadFile {
    inner: Arc<Inner>,
    file: Arc<CachedFile>,
    bytes: Arc<AtomicU64>,
    /// The object was replaced, and the new one brought instead, all of it.
    was_replaced: AtomicBool,
}

impl Drop for PreloadFile {
    fn drop(&mut self) {
        let mut table = self.inner.restoring.0.lock();
        if table.get(&self.file.ino()).is_some_and(|bytes| Arc::ptr_eq(bytes, &self.bytes)) {
            table.remove(&self.file.ino());
        }
    }
}

impl Vfs {
    /// Begins to preload; what is preloaded is not pushed out as long as the result lives.
    pub fn begin_preload(&self) -> Preload {
        self.0.cache.begin_preload()
    }

    /// Bytes that a preload should have under way.
    pub fn preload_window(&self) -> u64 {
        self.0.cache.preload_window()
    }

    /// Has what was preloaded so far found after the daemon is killed.
    pub async fn preloaded_is_recorded(&self) {
        self.0.cache.preloaded_is_recorded().await;
    }

    /// Begins to preload a file.
    pub fn preload_file(&self, ino: Ino, row: &Inode) -> Result<PreloadFile> {
        let file = self.0.file_of(ino, row)?;
        let bytes = Arc::new(AtomicU64::new(0));
        self.0.restoring.0.lock().insert(ino, Arc::clone(&bytes));
        Ok(PreloadFile { inner: Arc::clone(&self.0), file, bytes, was_replaced: AtomicBool::new(false) })
    }

    /// Pins what a file has here that was preloaded before the task was interrupted.
    pub fn keep_preloaded(&self, preload: &Preload, ino: Ino, row: &Inode) -> Result<()> {
        self.0.cache.pin_preloaded(preload, &*self.0.file_of(ino, row)?)
    }
}

/// The parts that a file of so many bytes is preloaded in, from one on; one that is empty for an empty file.
pub fn preload_parts(from: u64, size: u64) -> impl Iterator<Item = Range<u64>> {
    let first = from - from % PRELOAD_PART;
    let empty = (size == 0).then_some(0..0);
    let starts = (first..size).step_by(PRELOAD_PART as usize);
    starts.map(move |start| start..(start + PRELOAD_PART).min(size)).chain(empty)
}

impl PreloadFile {
    /// Brings a part of the file, one of [`preload_parts`]; bytes of it that are here now. Where the object was replaced since it was listed, the first to notice brings the new
    /// one, all of it.
    pub async fn part(&self, preload: &Preload, part: Range<u64>) -> std::result::Result<u64, PreloadError> {
        if self.was_replaced.load(Ordering::Acquire) {
            return Ok(0);
        }
        let len = part.end - part.start;
        let loaded = match self.inner.cache.preload(preload, &self.file, part).await {
            Ok(()) => len,
            Err(PreloadError::Store(error @ (StoreError::Changed { .. } | StoreError::NotFound { .. }))) => {
                self.replacement(preload, error).await?
            }
            Err(error) => return Err(error),
        };
        self.bytes.fetch_add(loaded, Ordering::Relaxed);
        Ok(loaded)
    }

    /// The object is not the version that it was: brings what has its name now.
    async fn replacement(&self, preload: &Preload, error: StoreError) -> std::result::Result<u64, PreloadError> {
        let (inner, ino) = (&self.inner, self.file.ino());
        let failed = PreloadError::Metadata;
        let Some((parent, name)) = inner.meta.parent_of(ino).map_err(|error| failed(metadata_error(error)))? else {
            return Err(PreloadError::Store(error));
        };
        inner.recheck_now(ino).await.map_err(failed)?;
        let now = inner.meta.lookup(parent, &name).map_err(|error| failed(metadata_error(error)))?;
        let Some(now) = now.filter(|now| now.ino != ino && now.kind == FileKind::File) else {
            return Err(PreloadError::Store(StoreError::NotFound { key: self.file.key().to_string() }));
        };
        if self.was_replaced.swap(true, Ordering::AcqRel) {
            return Ok(0);
        }
        let row = inner.row(now.ino).map_err(failed)?;
        let file = inner.file_of(now.ino, &row).map_err(failed)?;
        for part in preload_parts(0, row.size) {
            inner.cache.preload(preload, &file, part).await?;
        }
        Ok(row.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(range: Range<u64>) -> Vec<Range<u64>> {
        vec![range; 1]
    }

    #[test]
    fn parts_cover_a_file_from_the_part_that_an_offset_is_in() {
        let parts = |from, size| preload_parts(from, size).collect::<Vec<_>>();
        assert_eq!(parts(0, 0), one(0..0));
        assert_eq!(parts(0, 5), one(0..5));
        assert_eq!(parts(0, PRELOAD_PART + 1), [0..PRELOAD_PART, PRELOAD_PART..PRELOAD_PART + 1]);
        assert_eq!(parts(PRELOAD_PART + 7, PRELOAD_PART + 9), one(PRELOAD_PART..PRELOAD_PART + 9));
        assert_eq!(parts(5, 5), one(0..5));
        assert!(parts(PRELOAD_PART, PRELOAD_PART).is_empty());
    }
}
