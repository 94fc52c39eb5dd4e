//! Freeing what nothing refers to any more.
//!
//! Metadata of removed files and deleted snapshots is freed in the background in any case, and so is the space of blocks that existed only here. What stays behind are their blocks, as
//! cached ones that no file has. They are dropped here: a little later by themselves ([`Cache::forget_deleted`]), or at once ([`Cache::collect`]).
//!
//! Finding out that no file has a block takes a look at all file maps; so that is done for many at once, and takes at most a small part of the time.

use super::{GcReport, Watch};
use crate::block::BlockStore;
use crate::cache::Cache;
use crate::meta::MetaError;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Blocks looked for in one pass over the file maps.
const PER_PASS: usize = 1 << 20;
/// The background's passes take at most one part in this many of the time.
const SELDOM: u32 = 50;
/// And are at least so far apart.
const LEAST: Duration = Duration::from_secs(2);

/// Blocks that were let go of and may be nobody's.
pub(in crate::cache) struct Deleted {
    blocks: Mutex<HashSet<u64>>,
    next: Mutex<Instant>,
}

impl Deleted {
    pub(in crate::cache) fn new() -> Self {
        Deleted { blocks: Mutex::default(), next: Mutex::new(Instant::now()) }
    }

    /// Notes a block that was let go of. What is too much to remember is found by [`Cache::collect`], or goes when room is needed.
    pub(in crate::cache) fn note(&self, fingerprint: u64) {
        let mut blocks = self.blocks.lock();
        if blocks.len() < PER_PASS {
            blocks.insert(fingerprint);
        }
    }
}

impl Cache {
    /// Drops blocks of removed files that no other file has, if it is time to; a background task calls it.
    pub fn forget_deleted(&self) -> Result<(), MetaError> {
        let Some(mut next) = self.deleted.next.try_lock().filter(|next| Instant::now() >= **next) else { return Ok(()) };
        let mut blocks = std::mem::take(&mut *self.deleted.blocks.lock());
        if blocks.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let dropped = self.forget_blocks(&mut blocks);
        *next = Instant::now() + (began.elapsed() * SELDOM).max(LEAST);
        dropped.map(drop)
    }

    /// Does to its end what the background does a little at a time, and more: frees what removed files and deleted snapshots left, drops every cached block that no file has, and
    /// gives segments back of which little or nothing counts.
    pub fn collect(&self, watch: &Watch) -> Result<GcReport, MetaError> {
        // In this order: of a removed file, a deleted snapshot may have kept something.
        let mut report = GcReport { inodes: self.free_orphans()?, ..GcReport::default() };
        self.reclaim_snapshots(&|| !watch.is_wanted())?;
        self.make_durable()?;
        watch.expect(BlockStore::PARTS as u64);
        let mut idle = HashSet::new();
        for part in (0..BlockStore::PARTS).take_while(|_| watch.is_wanted()) {
            idle.extend(self.store.idle_in(part));
            if idle.len() >= PER_PASS || part + 1 == BlockStore::PARTS {
                report.dropped_bytes += self.forget_blocks(&mut idle)?;
            }
            watch.advance(1);
        }
        report.segments = self.store.give_back(&|| watch.is_wanted());
        report.is_whole = watch.is_wanted();
        Ok(report)
    }
}
