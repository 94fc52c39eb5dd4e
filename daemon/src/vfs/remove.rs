//! `unlink`, `rmdir`, `rename`: names taken away and moved.

use super::frozen::may_change_name;
use super::listing::Goal;
use super::lookup::check_name;
use super::types::Answer;
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, MetaError, MetaStore, RenameMode};
use futures::FutureExt;
use std::sync::Arc;

/// What is to hold for a name to be moved.
type Holds<'a> = &'a dyn Fn(&MetaStore) -> std::result::Result<bool, MetaError>;

/// Comes when a file's content is stored.
type Stored = futures::channel::oneshot::Receiver<Result<()>>;

impl Vfs {
    /// Removes a name of anything but a directory. What has it open keeps it.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        let unlink = || {
            check_name(name)?;
            may_change_name(parent, name)?;
            let removed = self.0.meta.unlink(parent, name, self.0.clock.wall_ns()).map_err(metadata_error)?;
            self.0.names_changed(parent);
            if removed.orphaned {
                self.0.cache.unlinked(removed.ino);
            }
            Ok(())
        };
        Answer::Ready(unlink())
    }

    /// Removes an empty directory. One that the store has is listed first: it may have entries that nobody looked at.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        let (inner, name) = (Arc::clone(&self.0), name.to_vec());
        match self.0.has_unlisted(parent, &name) {
            Ok(None) => Answer::Ready(inner.rmdir(parent, &name)),
            Ok(Some(dir)) => Answer::Pending(
                async move {
                    inner.list_whole(dir).await?;
                    inner.rmdir(parent, &name)
                }
                .boxed(),
            ),
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    /// Moves a name, over another one if the mode allows it.
    pub fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Answer<()> {
        let (name, new_name) = (name.to_vec(), new_name.to_vec());
        if let Some(stored) = self.0.content_to_store(mode, (parent, &name), (new_parent, &new_name)) {
            let vfs = self.clone();
            return Answer::Pending(
                async move {
                    let lost = || Error::new(ErrorKind::ShuttingDown, "the file system is shutting down");
                    stored.await.map_err(|_| lost()).flatten()?;
                    match vfs.rename_stored(parent, &name, new_parent, &new_name, mode) {
                        Answer::Ready(result) => result,
                        Answer::Pending(future) => future.await,
                    }
                }
                .boxed(),
            );
        }
        self.rename_stored(parent, &name, new_parent, &new_name, mode)
    }

    fn rename_stored(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Answer<()> {
        let (inner, name, new_name) = (Arc::clone(&self.0), name.to_vec(), new_name.to_vec());
        let unlisted = match mode {
            RenameMode::Replace => self.0.has_unlisted(new_parent, &new_name),
            _ => Ok(None),
        };
        match unlisted {
            Ok(None) => Answer::Ready(inner.rename((parent, &name), (new_parent, &new_name), mode)),
            Ok(Some(dir)) => Answer::Pending(
                async move {
                    inner.list_whole(dir).await?;
                    inner.rename((parent, &name), (new_parent, &new_name), mode)
                }
                .boxed(),
            ),
            Err(error) => Answer::Ready(Err(error)),
        }
    }
}

impl Inner {
    /// Where a file takes the place of another, what was written to it has to be stored first: a crash in between would leave neither content. `None` if
    /// there is nothing to wait for.
    fn content_to_store(&self, mode: RenameMode, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Option<Stored> {
        if mode != RenameMode::Replace {
            return None;
        }
        let ino_of = |(parent, name)| self.meta.lookup(parent, name).ok().flatten().map(|dirent| dirent.ino);
        let moved = ino_of(from)?;
        ino_of(to).filter(|replaced| *replaced != moved)?;
        self.cache.sync_dirty(moved)
    }

    /// The directory under a name, if it has to be listed before it can be called empty.
    fn has_unlisted(&self, parent: Ino, name: &[u8]) -> Result<Option<Ino>> {
        check_name(name)?;
        may_change_name(parent, name)?;
        let found = self.meta.lookup(parent, name).map_err(metadata_error)?;
        let Some(dirent) = found.filter(|dirent| dirent.kind == FileKind::Directory) else { return Ok(None) };
        Ok((!self.directory_ready(dirent.ino)?).then_some(dirent.ino))
    }

    async fn list_whole(self: &Arc<Self>, dir: Ino) -> Result<()> {
        let directory = self.directory(dir)?;
        self.list(&directory, Goal::Everything).await
    }

    pub(super) fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.must_stay(parent, name).map_err(metadata_error)?;
        let prefix_of = |ino| self.directory(ino).ok().map(|directory| directory.prefix.clone());
        let removed = self.meta.rmdir(parent, name, &prefix_of, self.clock.wall_ns()).map_err(metadata_error)?;
        self.names_changed(parent);
        self.directories.forget(removed.ino);
        Ok(())
    }

    fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        check_name(from.1)?;
        check_name(to.1)?;
        may_change_name(from.0, from.1)?;
        may_change_name(to.0, to.1)?;
        self.rename_if(from, to, mode, &|_| Ok(true)).map(drop).map_err(metadata_error)
    }

    /// Moves a name if something holds of it while nothing else is moved; whether it did.
    pub(super) fn rename_if(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        mode: RenameMode,
        holds: Holds<'_>,
    ) -> std::result::Result<bool, MetaError> {
        // One at a time: two moves that are each fine could together make a directory its own ancestor.
        let _alone = self.renames.lock();
        self.must_stay(from.0, from.1)?;
        self.must_stay(to.0, to.1)?;
        if !holds(&self.meta)? {
            return Ok(false);
        }
        let prefix_of = |ino| self.directory(ino).ok().map(|directory| directory.prefix.clone());
        self.exports.note_move();
        let renamed = self.meta.rename(from, to, mode, &prefix_of, self.clock.wall_ns());
        // What was remembered of directories' prefixes may have been read before the commit.
        self.exports.note_move();
        let renamed = renamed?;
        self.names_changed(from.0);
        self.names_changed(to.0);
        if let Some(replaced) = renamed.replaced.filter(|_| renamed.orphaned) {
            self.directories.forget(replaced);
            self.cache.unlinked(replaced);
        }
        let is_directory = self.meta.inode(renamed.ino)?.is_none_or(|row| row.kind == FileKind::Directory);
        if is_directory || mode == RenameMode::Exchange {
            // What lies below is remembered with the prefix and the layout it had.
            self.directories.forget_all();
        }
        Ok(true)
    }
}
