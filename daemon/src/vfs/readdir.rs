//! `opendir`, `readdir`, `releasedir`.

use super::frozen::{SNAPSHOTS_NAME, never_listed};
use super::handles::Handle;
use super::listing::Goal;
use super::lookup::attr_of;
use super::types::{Answer, DirBatch, DirEntry, Entry, HandleId, OpenedDir};
use super::{Inner, Vfs, metadata_error, with_unflushed};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode};
use futures::FutureExt;
use parking_lot::Mutex;
use std::sync::Arc;

/// Rows read at a time. The kernel takes a few dozen entries per request; the rest waits in the handle.
const READ_ROWS: usize = 1024;
/// Offsets of the first real entry: `.` and `..` come before it.
const FIRST_ROW: u64 = 2;

/// An open directory: where in the sequence of names each offset is.
///
/// Offsets count entries of this handle's own sequence, so they stay valid for `seekdir` as long as the handle lives.
pub(super) struct DirStream {
    ino: Ino,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    /// Offset of the first of `entries`.
    start: u64,
    entries: Vec<DirEntry>,
    /// How many changes of names there had been when they were read.
    changes: u64,
    /// The names before which windows started, by offset; the way back for `seekdir` and `rewinddir`.
    marks: Vec<(u64, Vec<u8>)>,
}

impl Vfs {
    /// Opens a directory; lists it first if it was never listed to its end, or too long ago.
    pub fn opendir(&self, ino: Ino) -> Answer<OpenedDir> {
        match self.0.directory_ready(ino) {
            Ok(true) => Answer::Ready(Ok(self.0.open_stream(ino))),
            Ok(false) if ino.is_frozen() => Answer::Ready(Err(never_listed(ino))),
            Ok(false) => {
                let inner = Arc::clone(&self.0);
                let listed = async move {
                    let directory = inner.directory(ino)?;
                    inner.list(&directory, Goal::Everything).await?;
                    Ok(inner.open_stream(ino))
                };
                Answer::Pending(listed.boxed())
            }
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    /// Entries from an offset on (0 = start, else a `next_offset`), at most `limit`. An empty batch is the end.
    pub fn readdir(&self, handle: HandleId, offset: u64, limit: usize) -> Answer<DirBatch> {
        let read = || {
            let stream = self.0.handles.directory(handle)?;
            self.0.entries(&stream, offset, limit)
        };
        Answer::Ready(read())
    }

    /// Closes a directory handle.
    pub fn releasedir(&self, handle: HandleId) {
        drop(self.0.handles.remove(handle));
    }
}

impl Inner {
    pub(super) fn directory_ready(&self, ino: Ino) -> Result<bool> {
        if self.inode(ino)?.kind != FileKind::Directory {
            return Err(Error::new(ErrorKind::NotDirectory, format!("{ino} is not a directory")));
        }
        let directory = self.directory(ino)?;
        let complete = !directory.in_store || directory.state().is_some_and(|state| state.complete);
        // Any name does: the freshness of a complete listing is the same for all.
        Ok(complete && self.freshness(&directory, b"").is_some())
    }

    fn open_stream(&self, ino: Ino) -> OpenedDir {
        let stream = Arc::new(DirStream { ino, window: Mutex::default() });
        // Changes found by a later listing are told to the kernel, so what it has cached of a fresh listing is right.
        OpenedDir { handle: self.handles.insert(Handle::Directory(stream)), keep_cache: ino != Ino::SNAPSHOTS }
    }

    fn entries(&self, stream: &DirStream, offset: u64, limit: usize) -> Result<DirBatch> {
        let mut window = stream.window.lock();
        // The kernel takes what it is told here for the truth about a name: nothing that was read before the last change.
        let changes = self.changes_of(stream.ino);
        if !window.covers(offset) || window.changes != changes {
            window.changes = changes;
            self.load_window(stream.ino, &mut window, offset)?;
        }
        let skip = (offset - window.start) as usize;
        Ok(window.entries.iter().skip(skip).take(limit).cloned().collect())
    }

    fn load_window(&self, ino: Ino, window: &mut Window, offset: u64) -> Result<()> {
        let ttl = self.freshness(&*self.directory(ino)?, b"").unwrap_or_default();
        let (mut at, mut after) = window.mark_before(offset);
        loop {
            let rows = self.rows_after(ino, after.as_deref())?;
            let mut entries = if at == 0 { self.dots(ino, ttl)? } else { Vec::new() };
            let first_row = if at == 0 { FIRST_ROW } else { at };
            for (i, (name, ino, row)) in rows.into_iter().enumerate() {
                let row = self.with_mapped(ino, with_unflushed(self.counted(ino, row)?, self.cache.unflushed(ino)));
                let entry = Entry { attr: attr_of(ino, &row), ttl };
                entries.push(DirEntry { name, next_offset: first_row + i as u64 + 1, entry });
            }
            let end = at + entries.len() as u64;
            if offset < end || entries.is_empty() {
                // At the end of the directory the window is empty and starts where the reader asked.
                window.start = if entries.is_empty() { offset } else { at };
                window.entries = entries;
                return Ok(());
            }
            after = entries.last().map(|entry| entry.name.clone()).filter(|_| end > FIRST_ROW);
            at = end;
            if let Some(name) = &after {
                window.marks.push((at, name.clone()));
            } else {
                // A directory with nothing but `.` and `..`.
                window.start = offset;
                window.entries = Vec::new();
                return Ok(());
            }
        }
    }

    fn rows_after(&self, ino: Ino, after: Option<&[u8]>) -> Result<Vec<(Vec<u8>, Ino, Inode)>> {
        if ino == Ino::SNAPSHOTS {
            return self.snapshots_after(after, READ_ROWS);
        }
        let mut rows = self.meta.read_dir(ino, after, READ_ROWS).map_err(metadata_error)?;
        if ino == Ino::ROOT {
            // What the bucket has under that name cannot be reached here.
            rows.retain(|(name, ..)| name != SNAPSHOTS_NAME);
        }
        Ok(rows)
    }

    fn dots(&self, ino: Ino, ttl: std::time::Duration) -> Result<Vec<DirEntry>> {
        let parent = self.meta.parent_of(ino).map_err(metadata_error)?.map_or(Ino::ROOT, |(parent, _)| parent);
        let parent = if ino.in_snapshot().is_some_and(|(_, own)| own == Ino::ROOT) { Ino::SNAPSHOTS } else { parent };
        let entry = |ino| Ok::<_, Error>(Entry { attr: attr_of(ino, &self.inode(ino)?), ttl });
        Ok(vec![
            DirEntry { name: b".".to_vec(), next_offset: 1, entry: entry(ino)? },
            DirEntry { name: b"..".to_vec(), next_offset: FIRST_ROW, entry: entry(parent)? },
        ])
    }
}

impl Window {
    fn covers(&self, offset: u64) -> bool {
        (self.start..self.start + self.entries.len() as u64).contains(&offset)
    }

    /// The last mark at or before an offset: the offset there, and the name after which rows go on.
    fn mark_before(&mut self, offset: u64) -> (u64, Option<Vec<u8>>) {
        let before = offset.checked_sub(self.start + 1).and_then(|at| self.entries.get(at as usize));
        if let Some(before) = before.filter(|_| offset > FIRST_ROW) {
            let mark = (offset, before.name.clone());
            if self.marks.last().is_none_or(|(at, _)| *at < offset) {
                self.marks.push(mark.clone());
            }
            return (mark.0, Some(mark.1));
        }
        let known = self.marks.iter().rev().find(|(at, _)| *at <= offset);
        known.map_or((0, None), |(at, name)| (*at, Some(name.clone())))
    }
}
