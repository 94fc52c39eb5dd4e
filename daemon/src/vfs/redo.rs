//! After a start: what was synced by intents and not recorded before the last end is done over.

use super::{Vfs, metadata_error};
use crate::error::Result;
use crate::meta::IntentLog;

impl Vfs {
    /// Does over what intents say; before anything is served. A file for which that cannot be done (a block of it is on a device out of
    /// service) cannot be opened; its intents stay for the next start.
    ///
    /// # Errors
    /// Only where the metadata cannot be read.
    pub fn redo_intents(&self) -> Result<()> {
        let mut files = 0_usize;
        for log in self.0.meta.intents().map_err(metadata_error)? {
            let ino = log.ino;
            if let Err(error) = self.redo(&log) {
                tracing::error!(%ino, %error, "what was synced of a file could not be done over: it cannot be opened before a mount with all its devices");
                self.0.cache.refuse(ino);
            }
            files += 1;
        }
        if files > 0 {
            tracing::info!(files, "synced writes were done over");
        }
        Ok(())
    }

    fn redo(&self, log: &IntentLog) -> Result<()> {
        let Some(row) = self.0.meta.inode(log.ino).map_err(metadata_error)? else {
            return self.0.meta.forget_intents(log.ino, log.places.clone()).map_err(metadata_error);
        };
        let file = self.0.file_of(log.ino, &row)?;
        self.0.cache.redo(&file, log, self.0.clock.wall_ns())
    }
}
