//! Files whose data is to stay here (`norelease`): what is cached of them is pinned in the block store.
//!
//! The files are in the metadata, so a restart finds them before anything is dropped. Blocks are added as they come; what is pinned for no reason any more (a file that was
//! let go of, removed, or written to) is found by making the set anew, now and then.

use super::Cache;
use super::file::CachedFile;
use crate::block::{BlockStore, PinSet};
use crate::ids::Ino;
use crate::meta::{MetaError, MetaStore};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Making the set anew takes at most one part in this many of the time.
const SELDOM: u32 = 20;
/// How long the last set is kept at least.
const LEAST: Duration = Duration::from_secs(1);

/// The blocks of pinned files.
pub(super) struct PinnedFiles {
    set: Mutex<Arc<PinSet>>,
    /// There may be blocks in it that need not be.
    is_stale: AtomicBool,
    /// One at a time makes it anew; not before this moment.
    next: Mutex<Instant>,
}

impl PinnedFiles {
    pub(super) fn new(store: &BlockStore) -> Self {
        PinnedFiles {
            set: Mutex::new(Arc::new(store.pin_set())),
            is_stale: AtomicBool::new(false),
            next: Mutex::new(Instant::now()),
        }
    }

    fn current(&self) -> Arc<PinSet> {
        Arc::clone(&self.set.lock())
    }

    /// Pins a block of a pinned file.
    pub(super) fn add(&self, fingerprint: u64) {
        self.current().add(fingerprint);
    }

    /// Something of what is pinned may be pinned for no reason.
    pub(super) fn note_stale(&self) {
        if !self.current().is_empty() {
            self.is_stale.store(true, Ordering::Release);
        }
    }

    fn load(&self, meta: &MetaStore) -> Result<(), MetaError> {
        let set = self.current();
        for ino in meta.pins()? {
            meta.mapped_blocks(ino, &mut |fingerprint| set.add(fingerprint))?;
        }
        Ok(())
    }
}

impl Cache {
    /// Pins what is cached of pinned files; before anything is dropped.
    pub(super) fn load_pins(&self) -> Result<(), MetaError> {
        self.pinned.load(&self.meta)
    }

    /// A file's row says by now that its data is to stay here, or that it need not.
    pub fn pin_file(&self, ino: Ino, pinned: bool) -> Result<(), MetaError> {
        if let Some(file) = self.files.lock().get(&ino).and_then(Weak::upgrade) {
            file.set_pinned(pinned);
        }
        if !pinned {
            self.pinned.note_stale();
            return Ok(());
        }
        // What came before the file was marked may be on its way to the metadata.
        self.maps.commit_pending();
        let set = self.pinned.current();
        self.meta.mapped_blocks(ino, &mut |fingerprint| set.add(fingerprint))
    }

    /// What was written to a pinned file is about to be let go of, because the bucket has it: it stays all the same.
    pub(super) fn pin_written(&self, file: &CachedFile) -> Result<(), MetaError> {
        if !file.is_pinned() {
            return Ok(());
        }
        let set = self.pinned.current();
        self.meta.mapped_blocks(file.ino(), &mut |fingerprint| set.add(fingerprint))?;
        self.pinned.note_stale();
        Ok(())
    }

    /// Lets go of what is pinned for no reason any more, if it is time to; a background task calls it.
    pub fn tend_pins(&self) -> Result<(), MetaError> {
        let Some(mut next) = self.pinned.next.try_lock().filter(|next| Instant::now() >= **next) else { return Ok(()) };
        if !self.pinned.is_stale.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let began = Instant::now();
        // What comes meanwhile goes into the new set; the old one keeps what is not in the new one yet.
        let before = std::mem::replace(&mut *self.pinned.set.lock(), Arc::new(self.store.pin_set()));
        let loaded = self.pinned.load(&self.meta);
        if loaded.is_err() {
            self.pinned.is_stale.store(true, Ordering::Release);
            *self.pinned.set.lock() = before;
        }
        *next = Instant::now() + (began.elapsed() * SELDOM).max(LEAST);
        loaded
    }
}
