//! The real device: one file or block special file, opened `O_DIRECT`, driven through an io_uring of its own.
//!
//! A reaper thread (`fby-ring-N`) gives the kernel what callers ask for and runs completions. It continues short transfers, retries
//! what the kernel refused for the moment, and answers requests past their deadline, whose buffers the ring keeps until the
//! kernel lets go of them. Flush, allocate and discard go through the ring as well, so that a hung disk cannot hang them.

mod fixed;
mod flight;
mod gather;
mod reaper;
mod ring;
mod table;
#[cfg(test)]
mod tests;

use crate::io::{BufferPool, Completion, Device, DeviceCounters, IoError, IoOutcome, IoRequest};
use flight::{Flight, Work};
use ring::Ring;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a device is driven.
#[derive(Clone, Debug)]
pub struct UringOptions {
    /// Requests with the kernel at once; more wait in the device.
    pub queue_depth: u32,
    /// How long a request may take.
    pub deadline: Duration,
}

impl Default for UringOptions {
    fn default() -> Self {
        UringOptions { queue_depth: 256, deadline: Duration::from_secs(10) }
    }
}

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// The file could not be opened, made or extended.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is there but holds fewer bytes than asked for, and cannot grow.
    #[error("{} has only {found} bytes, {wanted} are needed", path.display())]
    TooSmall {
        /// Which file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The size asked for.
        wanted: u64,
    },
    /// The kernel offers no io_uring.
    #[error(
        "io_uring is not available ({source}): a kernel of 5.11 or newer is needed, with kernel.io_uring_disabled=0 and no seccomp filter against it"
    )]
    Unavailable {
        /// The system's answer (`ENOSYS`, `EPERM`).
        source: std::io::Error,
    },
    /// io_uring is there, but lacks what is needed.
    #[error("the kernel's io_uring is too old: 5.11 or newer is needed")]
    OldKernel,
    /// No thread for completions.
    #[error("could not start the completion thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// A file or block special file behind an io_uring.
pub struct UringDevice {
    name: String,
    len: u64,
    ring: Arc<Ring>,
    reaper: Option<JoinHandle<()>>,
}

impl UringDevice {
    /// Opens `path`, making or extending a regular file to `len` bytes (sparse). Where the file system has no `O_DIRECT`, the
    /// page cache is used, with a warning. The pool's arena is registered with the kernel, which pins its memory.
    pub fn open(path: &Path, len: u64, pool: &BufferPool, options: UringOptions) -> Result<Self, UringError> {
        let fail = |source| UringError::File { path: path.to_owned(), source };
        let file = open_direct(path).map_err(fail)?;
        let kind = file.metadata().map_err(fail)?;
        let found = match kind.file_type().is_block_device() {
            true => std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0)).map_err(fail)?,
            false if kind.len() < len => file.set_len(len).map(|()| len).map_err(fail)?,
            false => kind.len(),
        };
        if found < len {
            return Err(UringError::TooSmall { path: path.to_owned(), found, wanted: len });
        }
        Self::over(file, path.display().to_string(), len, pool, options)
    }

    fn over(file: File, name: String, len: u64, pool: &BufferPool, options: UringOptions) -> Result<Self, UringError> {
        static RINGS: AtomicU32 = AtomicU32::new(0);
        let ring = Arc::new(Ring::new(file, pool, &options)?);
        let number = RINGS.fetch_add(1, Ordering::Relaxed);
        let reaped = ring.clone();
        let thread = std::thread::Builder::new().name(format!("fby-ring-{number}")).spawn(move || reaper::run(reaped));
        Ok(UringDevice { name, len, ring, reaper: Some(thread.map_err(UringError::Thread)?) })
    }

    /// The open file, for what no request covers (its size, its file system).
    pub fn file(&self) -> &File {
        self.ring.file()
    }

    fn unpark_if(&self, parked: bool) {
        if let (true, Some(reaper)) = (parked, &self.reaper) {
            reaper.thread().unpark();
        }
    }

    fn reject(&self, request: IoRequest, error: IoError) {
        let outcome = IoOutcome { buf: Some(request.buf), result: Err(error) };
        self.unpark_if(self.ring.answer(request.done, outcome));
    }

    /// Runs a request without data and waits for it.
    fn control(&self, work: Work, offset: u64, len: u64) -> Result<(), IoError> {
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        let done: Completion = Box::new(move |outcome| {
            let _ = tx.send(outcome.result);
        });
        self.unpark_if(self.ring.submit(std::iter::once(Flight::control(work, offset, len, done))));
        rx.recv().unwrap_or(Err(IoError::Offline))
    }
}

fn open_direct(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_DIRECT | libc::O_CLOEXEC);
    match options.open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::warn!(path = %path.display(), "the file system has no O_DIRECT: using the page cache");
            options.custom_flags(libc::O_CLOEXEC).open(path)
        }
        opened => opened,
    }
}

impl Device for UringDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn submit(&self, batch: Vec<IoRequest>) {
        let now = Instant::now();
        let mut flights = Vec::with_capacity(batch.len());
        for request in batch {
            match request.check(self.len) {
                Ok(()) => flights.push(Flight::transfer(request, now)),
                Err(error) => self.reject(request, error),
            }
        }
        self.unpark_if(self.ring.submit(flights.into_iter()));
    }

    fn flush(&self) -> Result<(), IoError> {
        self.control(Work::Sync, 0, 0)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.control(Work::Fallocate(0), offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.control(Work::Fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE), offset, len)
    }

    fn counters(&self) -> DeviceCounters {
        self.ring.counters.read()
    }
}

impl Drop for UringDevice {
    /// Waits for the completions of all requests, each of which comes within its deadline.
    fn drop(&mut self) {
        self.unpark_if(self.ring.close());
        let reaper = self.reaper.take().expect("dropped once");
        // A completion may hold the last reference: the reaper cannot wait for itself, and ends by itself.
        if reaper.thread().id() != std::thread::current().id() && reaper.join().is_err() {
            tracing::error!(device = self.name, "the completion thread panicked");
        }
    }
}
