//! Epochs: taking a snapshot increments the current one, and a view reads the tree as it was at the end of an earlier one.

use super::engine::{Batch, Durability, EngineError, Table};
use super::inode::read_inode;
use super::rows::{Reading, epoch_key, epoch_of};
use super::{Dirent, Inode, MetaError, MetaStore};
use crate::format::rows::encode_number;
use crate::ids::{Epoch, Ino};

impl MetaStore {
    /// Ends the current epoch durably: what is in the tree now stays readable at it, and changes from here on are written in
    /// the next. Returns the epoch that ended.
    pub fn advance_epoch(&self) -> Result<Epoch, MetaError> {
        loop {
            let current = epoch_of(&*self.engine().view())?.unwrap_or(Epoch::FIRST);
            let next = Epoch(current.0 + 1);
            let mut batch = Batch::default();
            batch.expect(Table::Settings, epoch_key(), Some(encode_number(current.0)));
            batch.put(Table::Settings, epoch_key(), encode_number(next.0));
            match self.engine().commit(batch, Durability::Durable) {
                Ok(()) => {
                    self.saw_epoch(next);
                    return Ok(current);
                }
                Err(EngineError::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// The tree as it was when an epoch ended (or as it is now, for the current one). Later changes do not show.
    pub fn at_epoch(&self, epoch: Epoch) -> TreeView<'_> {
        TreeView { reading: Reading { view: self.engine().view(), epoch } }
    }
}

/// A consistent, unchanging view of the tree at one epoch.
pub struct TreeView<'a> {
    reading: Reading<'a>,
}

impl TreeView<'_> {
    /// An inode's row.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>, MetaError> {
        read_inode(&self.reading, ino)
    }

    /// Resolves a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Dirent>, MetaError> {
        super::dir::lookup(&self.reading, parent, name)
    }

    /// Entries after a name (from the start for `None`), in byte order of names, with their inodes, at most `limit`.
    pub fn read_dir(&self, parent: Ino, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Ino, Inode)>, MetaError> {
        super::dir::read_dir(&self.reading, parent, after, limit)
    }
}
