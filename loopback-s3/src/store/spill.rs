//! Large bodies in files, so that they do not sit in memory.
//!
//! 1. A file lives exactly as long as its [`SpillFile`]; the directory goes with the store.
//!
//! Files are opened per read, not kept open: a store of a hundred thousand large objects must not run out of descriptors.

use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A temporary directory for bodies of at least `threshold` bytes.
#[derive(Debug)]
pub(crate) struct SpillDir {
    directory: tempfile::TempDir,
    next: AtomicU64,
}

impl SpillDir {
    pub(crate) fn create(parent: Option<&std::path::Path>) -> io::Result<Arc<SpillDir>> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("forebay-loopback-s3-");
        let directory = match parent {
            Some(parent) => builder.tempdir_in(parent)?,
            None => builder.tempdir()?,
        };
        Ok(Arc::new(SpillDir { directory, next: AtomicU64::new(0) }))
    }

    pub(crate) fn writer(self: &Arc<Self>) -> io::Result<SpillWriter> {
        let path = self.directory.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::create_new(&path)?;
        Ok(SpillWriter { file, spill: SpillFile { path, _directory: self.clone() }, len: 0 })
    }
}

/// A file that is being written; removed if dropped before `finish`.
pub(crate) struct SpillWriter {
    file: File,
    spill: SpillFile,
    len: u64,
}

impl SpillWriter {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn finish(self) -> super::body::Body {
        super::body::Body::File { file: Arc::new(self.spill), offset: 0, len: self.len }
    }
}

/// A body on disk.
#[derive(Debug)]
pub struct SpillFile {
    path: PathBuf,
    _directory: Arc<SpillDir>,
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        // The directory is removed with the store anyway; a file left until then harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl SpillFile {
    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    pub(crate) fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.open()?.read_exact_at(out, offset)
    }
}

/// Fills `out` if the page cache holds all of it; `false` if a disk would have to be waited for.
pub(crate) fn read_cached(file: &File, out: &mut [u8], offset: u64) -> bool {
    matches!(preadv2(file, &mut [IoSliceMut::new(out)], offset, ReadWriteFlags::NOWAIT), Ok(n) if n == out.len())
}
