//! What files that are gone still count for is freed within a second. Whoever meets a quota before that need not wait: it is freed at once, and they
//! try again.

use super::DoneReply;
use super::flush::Job;
use super::write::Waiting;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Cache {
    /// Whether something that failed may succeed once files that are gone are freed.
    pub fn may_make_room(&self, error: &Error) -> bool {
        error.kind == ErrorKind::OverQuota && self.has_unlinked.load(Ordering::Acquire)
    }

    /// Frees files that are gone and that nobody has open.
    pub fn make_room(&self, reply: DoneReply) {
        self.flusher.push(Job::MakeRoom(reply));
    }

    pub(super) fn write_after_making_room(self: &Arc<Self>, waiting: Waiting) {
        let cache = Arc::clone(self);
        self.make_room(Box::new(move |_| cache.go_on(waiting)));
    }

    /// On the flusher's thread, between two rounds.
    pub(super) fn make_room_now(self: &Arc<Self>) -> Result<(), Error> {
        let gone = self.flusher.unreachable();
        self.flush_files(&gone);
        drop(gone);
        self.free_orphans().map(drop).map_err(|error| Error::new(ErrorKind::Io, format!("metadata: {error}")))
    }
}
