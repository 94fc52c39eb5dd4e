//! The composition root: settings in, a running file system out.

use crate::config::Settings;
use crate::control::types::Status;
use crate::vfs::Vfs;

/// A running file system, not yet mounted anywhere.
pub struct FileSystem;

/// Why a file system could not start: one line that names the thing, the cause and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

#[allow(unused_variables, reason = "signatures agreed before the bodies")]
impl FileSystem {
    /// Checks the bucket, opens or formats the cache, and starts everything. Blocks; starts its own tokio runtime.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        todo!()
    }
    /// The operations.
    pub fn vfs(&self) -> &Vfs {
        todo!()
    }
    /// Where futures of [`crate::vfs::Answer::Pending`] run.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        todo!()
    }
    /// What `forebay status` shows of this file system; the mount point is filled in by the caller.
    pub fn status(&self) -> Status {
        todo!()
    }
    /// Keys of the bucket that no POSIX tree can hold, with their reasons, at most `limit`, and how many there are in all.
    pub fn hidden_keys(&self, limit: usize) -> crate::error::Result<(Vec<(String, String)>, u64)> {
        todo!()
    }
    /// Flushes and stops. Idempotent.
    pub fn shutdown(&self) {
        todo!()
    }
}
