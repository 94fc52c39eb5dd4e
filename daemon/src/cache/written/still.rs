//! A moment at which all that was written is in the metadata, while writers are running.
//!
//! What was written before is recorded first, with writers going on; then those that come wait (parked, as where memory is full), the little that
//! came meanwhile is recorded, and something is done before they go on. Nobody who waits was answered, so that nothing answered is missing,
//! and nothing that followed an answer is in.

use super::flush::Job;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind};
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::Arc;

/// What is done while nobody writes; gets the error that stands in the way, if one does.
pub type AtStandstill = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Rounds of a standstill before it is given up.
const ROUNDS: usize = 8;

/// Held for reading by whoever writes.
#[derive(Default)]
pub(super) struct Still(RwLock<()>);

impl Still {
    /// `None` while everything stands still. Never waits: who asks may be the thread that everybody else waits for.
    pub(super) fn moving(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.0.try_read()
    }
}

impl Cache {
    /// Does something at a moment at which all that was written is recorded. `at` must be short: writers wait.
    pub fn at_standstill(&self, at: AtStandstill) {
        self.flusher.push(Job::StandStill(at));
    }

    /// Waits for the end of a standstill, if there is one: for changes of a file's size and holes, which are not parked. Not for threads that
    /// complete reads: the standstill may wait for those.
    pub fn wait_to_move(&self) {
        drop(self.flusher.still.0.read());
    }

    pub(super) fn stand_still(self: &Arc<Self>, at: AtStandstill) {
        self.flush_files(&self.flusher.all_dirty());
        let _still = self.flusher.still.0.write();
        let mut left = None;
        for _ in 0..ROUNDS {
            self.flush_files(&self.flusher.all_dirty());
            // Also what writers had asked for before they had to wait: the present content of blocks that they write a part of.
            left = self.flusher.all_dirty().into_iter().find(|file| file.written().lock().is_dirty());
            if left.is_none() {
                break;
            }
        }
        // What was fetched until now is known to a snapshot that is taken now.
        self.maps.commit_pending();
        at(match left {
            None => Ok(()),
            Some(file) => Err(Error::new(ErrorKind::Io, format!("what was written to '{}' could not be stored", file.key()))),
        });
    }
}
