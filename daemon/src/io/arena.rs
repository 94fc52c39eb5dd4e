//! One anonymous mapping, aligned for huge pages, that lives as long as its pool.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

/// The size of a huge page; the arena starts at a multiple of it.
const HUGE: usize = 2 << 20;

/// Zeroed memory from the kernel, never moved, unmapped on drop.
pub(super) struct Arena {
    mapping: *mut c_void,
    mapped: usize,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the arena is only an address range; who may touch which part of it is settled by the pool.
unsafe impl Send for Arena {}
// SAFETY: as above; no method gives access to the memory.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `len` bytes (more than none).
    pub(super) fn map(len: usize) -> std::io::Result<Self> {
        let mapped = len + HUGE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let mapping = unsafe { mmap_anonymous(null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
        let skip = mapping.cast::<u8>().align_offset(HUGE);
        let start = NonNull::new(mapping.cast::<u8>().wrapping_add(skip)).expect("mmap never returns null");
        // Only advice: fewer TLB misses and fewer segments per transfer where huge pages are to be had.
        // SAFETY: the range lies within the mapping made above.
        let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxHugepage) };
        Ok(Arena { mapping, mapped, start, len })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: made by `map`, unmapped once; every buffer in it keeps the pool, and so the arena, alive.
        if let Err(error) = unsafe { munmap(self.mapping, self.mapped) } {
            tracing::error!(%error, "could not unmap the buffer arena");
        }
    }
}
