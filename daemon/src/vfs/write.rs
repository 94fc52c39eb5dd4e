//! `create`, `write`, `fsync`, `fallocate`, `lseek`, and changes of size.

use super::handles::Handle;
use super::lookup::attr_of;
use super::quota::enforce;
use super::read::may_map;
use super::types::{Answer, Caller, DoneReply, Entry, HandleId, Lookup, OpenedFile, Seek, WriteReply};
use super::{Inner, Vfs};
use crate::cache::CachedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{Enforce, FileKind};
use futures::FutureExt;
use std::sync::Arc;

impl Vfs {
    /// Makes a file and opens it; without `O_EXCL` one that is there by now is opened (and cut, with `O_TRUNC`).
    pub fn create(&self, parent: Ino, name: &[u8], perm: u16, flags: i32, caller: Caller) -> Answer<(Entry, OpenedFile)> {
        let node = caller.node(FileKind::File, perm, 0, b"");
        match self.0.make(parent, name, node) {
            Err(error) if error.kind == ErrorKind::Exists && flags & libc::O_EXCL == 0 => {
                let (inner, name) = (Arc::clone(&self.0), name.to_vec());
                Answer::Pending(async move { inner.open_existing(parent, &name, flags, caller).await }.boxed())
            }
            Err(error) if self.0.cache.may_make_room(&error) => {
                let (inner, made) = (Arc::clone(&self.0), self.0.make_after_making_room(parent, name, node));
                Answer::Pending(
                    async move {
                        let entry = made.await?;
                        Ok((entry, inner.open_new(&entry, flags)?))
                    }
                    .boxed(),
                )
            }
            made => Answer::Ready(made.and_then(|entry| Ok((entry, self.0.open_new(&entry, flags)?)))),
        }
    }

    /// Writes through a handle. Without a caller it is the kernel that writes pages of a mapping back: quotas count it and cannot refuse it.
    /// `drops_ids`: who writes may not keep the file's set-ID bits; they are gone before the write can be seen.
    pub fn write(&self, handle: HandleId, offset: u64, data: &[u8], caller: Option<Caller>, drops_ids: bool, reply: WriteReply) {
        let reader = self
            .0
            .handles
            .file(handle)
            .and_then(|reader| if drops_ids { self.0.drop_ids(reader.file()).map(|()| reader) } else { Ok(reader) });
        match reader {
            Ok(reader) => self.0.cache.write(reader.file(), offset, data, enforce(caller), self.0.clock.wall_ns(), reply),
            Err(error) => reply(Err(error)),
        }
    }

    /// Makes what was written to a file durable, and the names that lead to it.
    pub fn fsync(&self, handle: HandleId, reply: DoneReply) {
        match self.0.handles.file(handle) {
            Ok(reader) => {
                let file = Arc::clone(reader.file());
                let done = move |synced: Result<()>| reply(synced.and_then(|()| reader.write_error().map_or(Ok(()), Err)));
                self.0.cache.sync(Some(&file), Box::new(done));
            }
            Err(error) => reply(Err(error)),
        }
    }

    /// Makes all changes of names durable.
    pub fn fsyncdir(&self, reply: DoneReply) {
        self.0.cache.sync(None, reply);
    }

    /// A descriptor is closed: tells of writes that failed since somebody asked.
    pub fn flush(&self, handle: HandleId) -> Result<()> {
        self.0.handles.file(handle)?.write_error().map_or(Ok(()), Err)
    }

    /// Allocates, punches holes, and writes zeros. Space is not set aside: blocks are stored where they are written.
    /// Quotas refuse at once what they could not hold.
    pub fn fallocate(&self, handle: HandleId, offset: u64, len: u64, mode: i32, caller: Caller, reply: DoneReply) {
        let reader = match self.0.handles.file(handle) {
            Ok(reader) => reader,
            Err(error) => return reply(Err(error)),
        };
        let (cache, file, now_ns) = (&self.0.cache, reader.file(), self.0.clock.wall_ns());
        let end = offset.saturating_add(len);
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let enforce = Enforce::of_user(caller.uid);
        if mode & !libc::FALLOC_FL_KEEP_SIZE == 0
            && let Err(error) = cache.could_grow(file, &(offset..end), enforce, now_ns)
        {
            return reply(Err(error));
        }
        cache.wait_to_move();
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 if keep_size || end <= file.size() => reply(Ok(())),
            0 => cache.resize(file, end, enforce, now_ns, reply),
            libc::FALLOC_FL_PUNCH_HOLE => cache.zero(file, offset..end, false, enforce, now_ns, reply),
            libc::FALLOC_FL_ZERO_RANGE => cache.zero(file, offset..end, !keep_size, enforce, now_ns, reply),
            _ => reply(Err(Error::new(ErrorKind::Unsupported, format!("fallocate mode {mode:#x}")))),
        }
    }

    /// Looks for data or a hole.
    ///
    /// # Errors
    /// `NoSuchData` beyond the end, and for data where only holes follow.
    pub fn lseek(&self, handle: HandleId, offset: u64, what: Seek) -> Answer<u64> {
        let seek = || {
            let reader = self.0.handles.file(handle)?;
            let found = self.0.cache.seek(&reader, offset, what)?;
            found.ok_or_else(|| Error::new(ErrorKind::NoSuchData, format!("nothing at or after {offset}")))
        };
        Answer::Ready(seek())
    }
}

impl Inner {
    fn open_new(&self, entry: &Entry, flags: i32) -> Result<OpenedFile> {
        let file = self.file_of(entry.attr.ino, &self.inode(entry.attr.ino)?)?;
        let handle = self.handles.insert(Handle::File(Arc::new(self.cache.writer(file, may_map(flags)))));
        Ok(OpenedFile { handle, keep_cache: true })
    }

    /// Opens a file that the kernel did not know of when it asked for it to be made.
    async fn open_existing(
        self: &Arc<Self>,
        parent: Ino,
        name: &[u8],
        flags: i32,
        caller: Caller,
    ) -> Result<(Entry, OpenedFile)> {
        let Lookup::Found(entry) = self.resolve(parent, name).await? else {
            return Err(Error::new(ErrorKind::NotFound, "the file was there and is gone"));
        };
        let opened = self.open_known(&entry, flags)?;
        if flags & libc::O_TRUNC != 0 {
            let file = self.file_of(entry.attr.ino, &self.inode(entry.attr.ino)?)?;
            if caller.uid != 0 {
                self.drop_ids(&file)?;
            }
            self.resize(&file, 0, Enforce::of_user(caller.uid)).await?;
        }
        let attr = attr_of(entry.attr.ino, &self.inode(entry.attr.ino)?);
        Ok((Entry { attr, ..entry }, opened))
    }

    /// Changes a file's size; the answer comes when that is done.
    pub(super) async fn resize(&self, file: &Arc<CachedFile>, size: u64, enforce: Enforce) -> Result<()> {
        let (done, outcome) = futures::channel::oneshot::channel();
        let reply = Box::new(move |result| drop(done.send(result)));
        self.cache.resize(file, size, enforce, self.clock.wall_ns(), reply);
        outcome.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")))
    }
}
