//! Filling a directory reply: batches from the file system until the kernel's buffer is full.

use crate::attr::{file_attr, file_type};
use crate::errno::report;
use crate::operations::Operations;
use forebay_daemon::error::Error;
use forebay_daemon::vfs::{Answer, DirBatch, DirEntry, HandleId};
use fuser::{Errno, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Entries asked for at a time. `getdents` buffers of 32 KiB hold about 190 entries with attributes or 680 without, so this
/// costs one to six calls a request and throws away half a batch on average.
const BATCH: usize = 128;

/// A directory reply under construction.
pub(crate) trait Sink: Send + 'static {
    /// Adds an entry; true if it no longer fits (and was not added).
    fn is_full_for(&mut self, entry: &DirEntry) -> bool;
    /// Sends what is there.
    fn send(self);
    /// Sends an errno instead.
    fn fail(self, errno: Errno);
}

impl Sink for ReplyDirectory {
    fn is_full_for(&mut self, entry: &DirEntry) -> bool {
        let attr = &entry.entry.attr;
        self.add(INodeNo(attr.ino.0), entry.next_offset, file_type(attr.kind), OsStr::from_bytes(&entry.name))
    }
    fn send(self) {
        self.ok();
    }
    fn fail(self, errno: Errno) {
        self.error(errno);
    }
}

impl Sink for ReplyDirectoryPlus {
    fn is_full_for(&mut self, entry: &DirEntry) -> bool {
        let attr = file_attr(&entry.entry.attr);
        let name = OsStr::from_bytes(&entry.name);
        self.add(attr.ino, entry.next_offset, name, &entry.entry.ttl, &attr, Generation(0))
    }
    fn send(self) {
        self.ok();
    }
    fn fail(self, errno: Errno) {
        self.error(errno);
    }
}

/// What to do after a batch.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The buffer is full, or the directory ended.
    Done,
    /// There is room: go on from this offset.
    More(u64),
}

fn take(batch: &DirBatch, sink: &mut impl Sink) -> Step {
    let mut step = Step::Done;
    for entry in batch {
        if sink.is_full_for(entry) {
            return Step::Done;
        }
        step = Step::More(entry.next_offset);
    }
    step
}

/// Answers a directory read. Only the first batch may wait for the object store: once there are entries to show, they go out
/// rather than wait for more.
pub(crate) fn fill<O: Operations, S: Sink>(
    ops: &Arc<O>,
    runtime: &tokio::runtime::Handle,
    handle: HandleId,
    offset: u64,
    sink: S,
) {
    match ops.readdir(handle, offset, BATCH) {
        Answer::Ready(first) => go_on(&**ops, handle, first, sink),
        Answer::Pending(future) => {
            let ops = Arc::clone(ops);
            runtime.spawn(async move {
                let first = future.await;
                go_on(&*ops, handle, first, sink);
            });
        }
    }
}

fn go_on<O: Operations, S: Sink>(ops: &O, handle: HandleId, first: Result<DirBatch, Error>, mut sink: S) {
    let mut batch = match first {
        Ok(batch) => batch,
        Err(error) => return sink.fail(report("readdir", &error)),
    };
    while let Step::More(offset) = take(&batch, &mut sink) {
        match ops.readdir(handle, offset, BATCH) {
            Answer::Ready(Ok(next)) => batch = next,
            // The kernel asks again from where this reply ends, and gets the error or the wait then.
            Answer::Ready(Err(_)) | Answer::Pending(_) => break,
        }
    }
    sink.send();
}
