//! What files that are gone or were emptied still count for is freed within a second. Whoever meets a quota or a full cache before that need not wait: it is
//! freed at once, and they try again.

use super::DoneReply;
use super::flush::Job;
use super::write::Waiting;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Cache {
    /// Whether something that failed may succeed once files that are gone are freed, and those that were emptied recorded.
    pub fn may_make_room(&self, error: &Error) -> bool {
        match error.kind {
            ErrorKind::OverQuota => self.has_unlinked.load(Ordering::Acquire) || self.maps.has_emptied(),
            ErrorKind::NoSpace => self.maps.has_emptied(),
            _ => false,
        }
    }

    /// Frees files that are gone and that nobody has open, and what others had before they were emptied.
    pub fn make_room(&self, reply: DoneReply) {
        self.flusher.push(Job::MakeRoom(reply));
    }

    pub(super) fn write_after_making_room(self: &Arc<Self>, waiting: Waiting) {
        let cache = Arc::clone(self);
        self.make_room(Box::new(move |_| match cache.flusher.admit(&cache, waiting.data.len()) {
            Ok(()) => cache.go_on(waiting),
            Err(error) => (waiting.reply)(Err(error)),
        }));
    }

    /// On the flusher's thread, between two rounds.
    pub(super) fn make_room_now(self: &Arc<Self>) -> Result<(), Error> {
        let mut files = self.flusher.unreachable();
        files.extend(self.flusher.all_dirty().into_iter().filter(|file| self.maps.is_emptied(file.ino())));
        self.flush_files(&files);
        drop(files);
        self.free_orphans().map(drop).map_err(|error| Error::new(ErrorKind::Io, format!("metadata: {error}")))
    }
}
