//! `copy_file_range`: from file to file without the data leaving the daemon, and where blocks can be shared without its moving at all.

use super::Vfs;
use super::types::{Answer, Caller, HandleId};
use crate::cache::By;
use crate::meta::Enforce;
use futures::FutureExt;
use std::sync::Arc;

impl Vfs {
    /// Copies bytes between open files, or within one; returns how many. Fewer than asked for is no error: the caller asks again.
    ///
    /// # Errors
    /// `Invalid` if both are one file and the ranges overlap.
    pub fn copy_range(&self, from: (HandleId, u64), to: (HandleId, u64), len: u64, caller: Caller) -> Answer<u64> {
        let inner = Arc::clone(&self.0);
        let copy = async move {
            let (source, dest) = (inner.handles.file(from.0)?, inner.handles.file(to.0)?);
            let now_ns = inner.clock.wall_ns();
            inner
                .cache
                .copy((&source, from.1), (dest.file(), to.1), len, By { enforce: Enforce::of_user(caller.uid), now_ns })
                .await
        };
        Answer::Pending(copy.boxed())
    }
}
