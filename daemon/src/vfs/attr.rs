//! `getattr`, `readlink`, `statfs`.

use super::lookup::{attr_of, is_ours};
use super::types::{Answer, Entry, FsStats, Lookup};
use super::{Inner, Vfs, metadata_error};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;

/// Inodes that `statfs` claims to be free: names come from the bucket, there is no table that could fill up.
const FREE_INODES: u64 = 1 << 32;

impl Vfs {
    /// Attributes of an inode.
    pub fn getattr(&self, ino: Ino) -> Answer<Entry> {
        match self.0.known_attr(ino).transpose() {
            Some(answer) => Answer::Ready(answer),
            None => {
                let inner = Arc::clone(&self.0);
                Answer::Pending(async move { inner.current_attr(ino).await }.boxed())
            }
        }
    }

    /// A symlink's target.
    pub fn readlink(&self, ino: Ino) -> Answer<Vec<u8>> {
        let target = self.0.meta.symlink_target(ino).map_err(metadata_error);
        Answer::Ready(
            target.and_then(|target| target.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{ino} is no symlink")))),
        )
    }

    /// Space and inodes, as seen from an inode: in a project with a limit of bytes that is all there is.
    pub fn statfs(&self, ino: Ino) -> FsStats {
        let stats = self.0.store.stats();
        let block_size = Settings::BLOCK_SIZE;
        // What can be written, each copy of it counted.
        let copies = u64::from(self.0.store.local_copies());
        let free = stats.capacity_bytes.saturating_sub(stats.stored_bytes);
        let (mut space, mut free) = (stats.capacity_bytes / copies, free / copies);
        if let Some((limit, left)) = self.0.project_space(ino) {
            (space, free) = (space.min(limit), free.min(left));
        }
        let block = u64::from(block_size);
        FsStats { block_size, blocks: space / block, blocks_free: free / block, files: FREE_INODES }
    }
}

impl Inner {
    fn known_attr(&self, ino: Ino) -> Result<Option<Entry>> {
        let row = self.inode(ino)?;
        let attr = attr_of(ino, &row);
        if ino == Ino::ROOT || is_ours(&row) {
            return Ok(Some(Entry { attr, ttl: self.ttl() }));
        }
        let Some(link) = &row.link else { return Ok(Some(Entry { attr, ttl: Duration::ZERO })) };
        let directory = self.directory(link.parent)?;
        Ok(self.freshness(&directory, &link.name).map(|ttl| Entry { attr, ttl }))
    }

    /// Attributes after making sure that the inode's name still refers to it.
    async fn current_attr(self: &Arc<Self>, ino: Ino) -> Result<Entry> {
        if let Some((parent, name)) = self.meta.parent_of(ino).map_err(metadata_error)?
            && let Lookup::Found(entry) = self.resolve(parent, &name).await?
            && entry.attr.ino == ino
        {
            return Ok(entry);
        }
        // Replaced or deleted: whoever has it open still sees the version they opened; others look the name up again.
        let row = self.inode(ino)?;
        if self.is_in_use(ino) {
            return Ok(Entry { attr: attr_of(ino, &row), ttl: Duration::ZERO });
        }
        Err(Error::new(ErrorKind::Stale, format!("{ino} was replaced or deleted in the bucket")))
    }
}
