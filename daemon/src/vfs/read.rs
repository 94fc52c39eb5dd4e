//! `open`, `read`, `release`.

use super::handles::Handle;
use super::types::{Answer, Entry, HandleId, OpenedFile, ReadReply};
use super::{Inner, Vfs, metadata_error};
use crate::cache::{CachedFile, FileSpec};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode};
use crate::repository::Pin;
use crate::stripe::Layout;
use futures::FutureExt;
use std::sync::Arc;

impl Vfs {
    /// Opens a file for reading; the handle stays with the version it found.
    ///
    /// # Errors
    /// `ReadOnly` for any flag that writes; `Stale` if the inode's object was replaced (look the name up again).
    pub fn open(&self, ino: Ino, flags: i32) -> Answer<OpenedFile> {
        if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0 {
            return Answer::Ready(Err(Error::new(ErrorKind::ReadOnly, "the file system is mounted read-only")));
        }
        match self.getattr(ino) {
            Answer::Ready(entry) => Answer::Ready(entry.and_then(|entry| self.0.open_known(&entry))),
            Answer::Pending(entry) => {
                let inner = Arc::clone(&self.0);
                Answer::Pending(async move { inner.open_known(&entry.await?) }.boxed())
            }
        }
    }

    /// Reads through a handle.
    pub fn read(&self, handle: HandleId, offset: u64, len: u32, reply: ReadReply) {
        match self.0.handles.file(handle) {
            Ok(reader) => self.0.cache.read(&reader, offset, len, reply),
            Err(error) => reply(Err(error)),
        }
    }

    /// Closes a file handle.
    pub fn release(&self, handle: HandleId) {
        drop(self.0.handles.remove(handle));
    }
}

impl Inner {
    fn open_known(self: &Arc<Self>, entry: &Entry) -> Result<OpenedFile> {
        let ino = entry.attr.ino;
        match entry.attr.kind {
            FileKind::File => {}
            FileKind::Directory => return Err(Error::new(ErrorKind::IsDirectory, format!("{ino} is a directory"))),
            FileKind::Symlink => return Err(Error::new(ErrorKind::Invalid, format!("{ino} is a symbolic link"))),
        }
        let row = self.inode(ino)?;
        let place = self.meta.parent_of(ino).map_err(metadata_error)?;
        let layout = match &place {
            Some((parent, _)) => self.directory(*parent)?.layout,
            None => self.config.layout,
        };
        let file = self.cached_file(ino, &row, layout)?;
        if file.is_changed() {
            return Err(Error::new(ErrorKind::Stale, format!("object '{}' was replaced in the bucket", file.key())));
        }
        if let Some((parent, name)) = place {
            self.read_ahead_across_files(parent, &name, &file);
        }
        let handle = self.handles.insert(Handle::File(Arc::new(self.cache.reader(file))));
        // A replaced object is a new inode, so pages the kernel has of this one are always right.
        Ok(OpenedFile { handle, keep_cache: true })
    }

    pub(super) fn cached_file(&self, ino: Ino, row: &Inode, inherited: Layout) -> Result<Arc<CachedFile>> {
        let origin = row.origin.as_ref().ok_or_else(|| Error::new(ErrorKind::Io, format!("{ino} has no object behind it")))?;
        Ok(self.cache.file(FileSpec {
            ino,
            key: origin.key.clone(),
            pin: Pin { etag: origin.etag.clone(), version: origin.version.clone() },
            size: row.size,
            layout: row.layout.unwrap_or(inherited),
        }))
    }
}
