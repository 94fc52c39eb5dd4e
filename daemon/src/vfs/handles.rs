//! Open files and directories, by the number the kernel knows them by.

use super::readdir::DirStream;
use super::types::HandleId;
use crate::cache::Reader;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::RwLock;
use std::sync::Arc;

/// An open file or directory.
#[derive(Clone)]
pub(super) enum Handle {
    File(Arc<Reader>),
    Directory(Arc<DirStream>),
}

/// A table of handles; numbers are reused after release.
#[derive(Default)]
pub(super) struct Handles {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    slots: Vec<Option<Handle>>,
    free: Vec<usize>,
}

impl Handles {
    pub(super) fn insert(&self, handle: Handle) -> HandleId {
        let mut table = self.table.write();
        let slot = match table.free.pop() {
            Some(slot) => slot,
            None => {
                table.slots.push(None);
                table.slots.len() - 1
            }
        };
        table.slots[slot] = Some(handle);
        HandleId(slot as u64)
    }

    pub(super) fn file(&self, id: HandleId) -> Result<Arc<Reader>> {
        match self.table.read().slots.get(id.0 as usize) {
            Some(Some(Handle::File(reader))) => Ok(Arc::clone(reader)),
            _ => Err(bad_handle(id)),
        }
    }

    pub(super) fn directory(&self, id: HandleId) -> Result<Arc<DirStream>> {
        match self.table.read().slots.get(id.0 as usize) {
            Some(Some(Handle::Directory(stream))) => Ok(Arc::clone(stream)),
            _ => Err(bad_handle(id)),
        }
    }

    /// Forgets a handle; the handle itself is dropped outside the table's lock.
    pub(super) fn remove(&self, id: HandleId) -> Option<Handle> {
        let mut table = self.table.write();
        let handle = table.slots.get_mut(id.0 as usize)?.take()?;
        table.free.push(id.0 as usize);
        Some(handle)
    }
}

fn bad_handle(id: HandleId) -> Error {
    Error::new(ErrorKind::BadHandle, format!("handle {} is not open", id.0))
}
