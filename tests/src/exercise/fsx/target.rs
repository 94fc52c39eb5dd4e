//! The file under test: what each operation is in system calls.

use super::operation::{Allocation, Span};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PAGE: u64 = 4096;

/// An open file, with one handle to read and write and one to append.
pub struct Target {
    path: PathBuf,
    file: File,
    append: File,
}

impl Target {
    /// Opens a file, which is created if it is not there.
    pub fn open(path: &Path) -> std::io::Result<Target> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let append = OpenOptions::new().append(true).open(path)?;
        Ok(Target { path: path.to_path_buf(), file, append })
    }

    /// Closes and opens again, so that nothing survives in a handle.
    pub fn reopen(self) -> std::io::Result<Target> {
        let path = self.path.clone();
        drop(self);
        Target::open(&path)
    }

    /// The size by `fstat`, and the size by name.
    pub fn sizes(&self) -> std::io::Result<(u64, u64)> {
        Ok((self.file.metadata()?.len(), std::fs::metadata(&self.path)?.len()))
    }

    /// Reads until the span or the file ends.
    pub fn read(&self, span: Span) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0; span.length as usize];
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], span.offset + done as u64)? {
                0 => break,
                some => done += some,
            }
        }
        buffer.truncate(done);
        Ok(buffer)
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// One `write`: appending in pieces would be another operation.
    pub fn append(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append.write(bytes)
    }

    pub fn truncate(&self, size: u64) -> std::io::Result<()> {
        self.file.set_len(size)
    }

    pub fn sync(&self) -> std::io::Result<()> {
        self.file.sync_all()
    }

    /// What a mapping shows of a span, and behind it what it shows of the rest of the last page.
    pub fn map_read(&self, span: Span, size: u64) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
        let mapping = Mapping::of(&self.file, span, ProtFlags::READ)?;
        let shown = mapping.bytes(span.offset, span.end());
        let tail = if span.end() == size { mapping.bytes(size, size.next_multiple_of(PAGE)) } else { Vec::new() };
        Ok((shown, tail))
    }

    pub fn map_write(&self, offset: u64, bytes: &[u8], synced: bool) -> std::io::Result<()> {
        let span = Span { offset, length: bytes.len() as u64 };
        let mut mapping = Mapping::of(&self.file, span, ProtFlags::READ | ProtFlags::WRITE)?;
        mapping.store(offset, bytes);
        mapping.sync(if synced { MsyncFlags::SYNC } else { MsyncFlags::ASYNC })
    }

    /// False where the file system does not offer it.
    pub fn allocate(&self, allocation: Allocation, span: Span) -> std::io::Result<bool> {
        let flags = match allocation {
            Allocation::Extend => FallocateFlags::empty(),
            Allocation::KeepSize => FallocateFlags::KEEP_SIZE,
            Allocation::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Allocation::Zero => FallocateFlags::ZERO_RANGE,
            Allocation::ZeroKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        };
        offered(rustix::fs::fallocate(&self.file, flags, span.offset, span.length)).map(|done| done.is_some())
    }

    /// Copies a span that ends within the file; how much was copied, none where the file system does not offer it.
    pub fn copy(&self, from: Span, to: u64) -> std::io::Result<Option<u64>> {
        let mut done = 0;
        while done < from.length {
            let (mut source, mut target) = (from.offset + done, to + done);
            let left = (from.length - done) as usize;
            let copied = rustix::fs::copy_file_range(&self.file, Some(&mut source), &self.file, Some(&mut target), left);
            match offered(copied)? {
                None => return Ok(None),
                Some(0) => break,
                Some(some) => done += some as u64,
            }
        }
        Ok(Some(done))
    }

    /// Where the next data and the next hole begin; none where there is none.
    pub fn seek(&self, from: u64) -> std::io::Result<(Option<u64>, Option<u64>)> {
        let seek = |to| match rustix::fs::seek(&self.file, to) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(std::io::Error::from(error)),
        };
        Ok((seek(SeekFrom::Data(from))?, seek(SeekFrom::Hole(from))?))
    }
}

/// None for an errno that says "not here".
fn offered<T>(result: rustix::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A shared mapping of whole pages.
struct Mapping {
    address: *mut std::ffi::c_void,
    length: usize,
    /// The file offset of its first byte.
    offset: u64,
}

impl Mapping {
    /// Maps the pages that a span within the file touches.
    fn of(file: &File, span: Span, protection: ProtFlags) -> std::io::Result<Mapping> {
        let offset = span.offset / PAGE * PAGE;
        let length = (span.end().next_multiple_of(PAGE) - offset) as usize;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file, offset) }?;
        Ok(Mapping { address, length, offset })
    }

    fn at(&self, from: u64, length: usize) -> *mut u8 {
        let start = (from - self.offset) as usize;
        assert!(start + length <= self.length, "within the mapping");
        // SAFETY: the offset lies within the mapping, as just asserted.
        unsafe { self.address.cast::<u8>().add(start) }
    }

    fn bytes(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; (to - from) as usize];
        let source = self.at(from, bytes.len());
        // SAFETY: `at` checked the bounds; nobody truncates the file while it is mapped, and nobody else writes to it.
        unsafe { std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }

    fn store(&mut self, from: u64, bytes: &[u8]) {
        let target = self.at(from, bytes.len());
        // SAFETY: `at` checked the bounds, and the mapping was asked to be writable.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    fn sync(&self, flags: MsyncFlags) -> std::io::Result<()> {
        // SAFETY: exactly the pages of this mapping.
        unsafe { rustix::mm::msync(self.address, self.length, flags) }.map_err(Into::into)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the pages of this mapping, and no pointer into them is left.
        let unmapped = unsafe { rustix::mm::munmap(self.address, self.length) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
