//! Reading the tree as it was: by an epoch, or by inode numbers that carry one.

use crate::format::rows::{InodeRow, Link};
use crate::ids::{Epoch, Ino};
use crate::meta::inode::read_inode;
use crate::meta::rows::Reading;
use crate::meta::{Dirent, Inode, MetaError, MetaStore, Refusal};

/// A consistent, unchanging view of the tree at one epoch.
pub struct TreeView<'a> {
    reading: Reading<'a>,
}

impl MetaStore {
    /// The tree as it was when an epoch ended (or as it is now, for the current one). Later changes do not show.
    pub fn at_epoch(&self, epoch: Epoch) -> TreeView<'_> {
        TreeView { reading: Reading { view: self.engine().view(), epoch } }
    }

    /// Whatever an inode's number says to read, and its number there.
    ///
    /// # Errors
    /// `NotFound` if its snapshot was deleted.
    pub(in crate::meta) fn reading_of(&self, ino: Ino) -> Result<(Reading<'_>, Ino), MetaError> {
        let Some((epoch, own)) = ino.in_snapshot() else { return Ok((self.reading(), ino)) };
        let view = self.engine().view();
        // After the view: what is deleted from here on is still in it.
        if !self.is_kept(epoch) {
            return Err(Refusal::NotFound.into());
        }
        Ok((Reading { view, epoch }, own))
    }
}

/// The number under which an inode is shown beside another.
pub(in crate::meta) fn beside(shown: Ino, own: Ino) -> Ino {
    shown.in_snapshot().map_or(own, |(epoch, _)| own.at(epoch))
}

/// A row as it is shown under an inode's number: its directory's number is of the same snapshot.
pub(in crate::meta) fn shown(ino: Ino, row: InodeRow) -> InodeRow {
    let link = row.link.map(|link| Link { parent: beside(ino, link.parent), ..link });
    InodeRow { link, ..row }
}

impl TreeView<'_> {
    /// An inode's row.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>, MetaError> {
        read_inode(&self.reading, ino)
    }

    /// Resolves a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Dirent>, MetaError> {
        crate::meta::dir::lookup(&self.reading, parent, name)
    }

    /// Entries after a name (from the start for `None`), in byte order of names, with their inodes, at most `limit`.
    pub fn read_dir(&self, parent: Ino, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Ino, Inode)>, MetaError> {
        crate::meta::dir::read_dir(&self.reading, parent, after, limit)
    }
}
