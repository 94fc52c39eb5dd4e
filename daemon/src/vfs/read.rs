//! `open`, `read`, `release`.

use super::frozen::must_be_now;
use super::handles::Handle;
use super::setattr::has_ids;
use super::types::{Answer, Entry, HandleId, OpenedFile, ReadReply};
use super::{Inner, Vfs};
use crate::cache::{CachedFile, FileSpec};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, allocated_bytes};
use crate::repository::Pin;
use crate::stripe::Layout;
use futures::FutureExt;
use std::sync::Arc;

impl Vfs {
    /// Opens a file with flags as `open` has them; the handle stays with the version it found. Whether the caller may write is the kernel's to check.
    ///
    /// # Errors
    /// `Stale` if the inode's object was replaced (look the name up again).
    pub fn open(&self, ino: Ino, flags: i32) -> Answer<OpenedFile> {
        if (may_write(flags) || flags & libc::O_TRUNC != 0)
            && let Err(error) = must_be_now(ino)
        {
            return Answer::Ready(Err(error));
        }
        match self.getattr(ino) {
            Answer::Ready(entry) => Answer::Ready(entry.and_then(|entry| self.0.open_known(&entry, flags))),
            Answer::Pending(entry) => {
                let inner = Arc::clone(&self.0);
                Answer::Pending(async move { inner.open_known(&entry.await?, flags) }.boxed())
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

/// Whether a file opened like this may be mapped for writing.
pub(super) fn may_map(flags: i32) -> bool {
    flags & libc::O_ACCMODE == libc::O_RDWR
}

/// Whether a file opened like this may be written to.
pub(super) fn may_write(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

impl Inner {
    pub(super) fn open_known(self: &Arc<Self>, entry: &Entry, flags: i32) -> Result<OpenedFile> {
        let ino = entry.attr.ino;
        match entry.attr.kind {
            FileKind::File => {}
            FileKind::Directory => return Err(Error::new(ErrorKind::IsDirectory, format!("{ino} is a directory"))),
            // The kernel opens special files by itself.
            _ => return Err(Error::new(ErrorKind::Invalid, format!("{ino} is no regular file"))),
        }
        let row = self.inode(ino)?;
        let file = self.file_of(ino, &row)?;
        if file.is_changed() {
            return Err(Error::new(ErrorKind::Stale, format!("object '{}' was replaced in the bucket", file.key())));
        }
        let seems_empty = row.size > 0 && allocated_bytes(&row) == 0;
        if let Some(link) = row.link.filter(|_| row.base.is_none() && !row.local && !ino.is_frozen()) {
            self.read_ahead_across_files(link.parent, &link.name, &file);
        }
        self.note_opened(ino);
        let reader = if may_write(flags) { self.cache.writer(file, may_map(flags)) } else { self.cache.reader(file, false) };
        let handle = self.handles.insert(Handle::File(Arc::new(reader)));
        if may_map(flags) && seems_empty {
            // What the kernel remembers says that nothing is in it, which a mapping may change unseen.
            self.invalidator.inode(ino);
        }
        // A replaced object is a new inode, so pages the kernel has of this one are always right.
        Ok(OpenedFile { handle, keep_cache: true })
    }

    /// The shared state of a file.
    pub(super) fn file_of(&self, ino: Ino, row: &Inode) -> Result<Arc<CachedFile>> {
        let layout = match &row.link {
            Some(link) => self.directory(link.parent)?.layout,
            None => self.config.layout,
        };
        self.cached_file(ino, layout)
    }

    pub(super) fn cached_file(&self, ino: Ino, inherited: Layout) -> Result<Arc<CachedFile>> {
        self.cache.file(ino, || {
            let row = self.row(ino)?;
            let name =
                || row.link.as_ref().map_or_else(|| ino.to_string(), |link| String::from_utf8_lossy(&link.name).into_owned());
            let (key, pin, base) = match &row.origin {
                Some(origin) => {
                    (origin.key.clone(), Pin { etag: origin.etag.clone(), version: origin.version.clone() }, row.base)
                }
                // Made here: there is nothing to fetch.
                None => (name(), Pin { etag: String::new(), version: None }, Some(0)),
            };
            Ok(FileSpec {
                ino,
                key,
                pin,
                size: row.size,
                base,
                allocated: allocated_bytes(&row),
                set_ids: has_ids(&row),
                norelease: row.norelease,
                layout: row.layout.unwrap_or(inherited),
            })
        })
    }
}
