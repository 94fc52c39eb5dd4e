//! Aligned I/O memory: one arena that rings register with the kernel, cut into size classes, with the heap behind it.
//!
//! Invariants:
//! 1. Every byte of pool memory belongs to at most one [`IoBuf`]; `split_off` moves ownership of the back, never shares it.
//! 2. An allocation returns to its pool when the last of its parts is dropped.
//! 3. Addresses and lengths are whole sectors, so every buffer can be used for `O_DIRECT`.

use super::pool::{Block, REGION_BYTES, Shared};
use crate::units::{SECTOR, sector_up};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

pub use super::pool::PoolStats;

/// A pool of sector-aligned buffers. Clones share it.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

impl BufferPool {
    /// A pool whose arena holds `arena_bytes`; what does not fit comes from the heap. The arena takes memory as it is used,
    /// or all at once when a ring registers it.
    pub fn new(arena_bytes: usize) -> Self {
        BufferPool { shared: Arc::new(Shared::new(arena_bytes)) }
    }

    /// A buffer of at least `len` bytes, its length rounded up to whole sectors. Its contents are unspecified.
    ///
    /// # Panics
    /// If `len` is over 8 TiB.
    pub fn alloc(&self, len: usize) -> IoBuf {
        let len = sector_up(len);
        let units = u32::try_from((len / SECTOR).max(1)).expect("a buffer is below 2^31 sectors");
        let home = Arc::new(self.shared.take(units));
        IoBuf { start: home.start, len, home }
    }

    /// The pool's figures.
    pub fn stats(&self) -> PoolStats {
        self.shared.stats()
    }

    /// The arena in the pieces a ring registers as fixed buffers, in the order of [`IoBuf::registered_index`].
    pub fn regions(&self) -> Vec<Region> {
        let Some((start, len)) = self.shared.arena_range() else { return Vec::new() };
        let first = start.as_ptr() as usize;
        let pieces = (0..len).step_by(REGION_BYTES);
        pieces.map(|at| Region { address: first + at, len: REGION_BYTES.min(len - at) }).collect()
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BufferPool").field(&self.stats()).finish()
    }
}

/// A piece of a pool's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it starts.
    pub address: usize,
    /// Length in bytes.
    pub len: usize,
}

/// A sector-aligned range of pool memory with one owner.
pub struct IoBuf {
    start: NonNull<u8>,
    len: usize,
    home: Arc<Block>,
}

// SAFETY: an `IoBuf` owns its range alone (invariant 1), as a `Vec<u8>` does.
unsafe impl Send for IoBuf {}
// SAFETY: a shared `IoBuf` gives read access only.
unsafe impl Sync for IoBuf {}

impl IoBuf {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where its bytes are, for the kernel.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Which of the pool's regions it lies in; `None` if it came from the heap.
    pub fn registered_index(&self) -> Option<u16> {
        self.home.region()
    }

    /// Cuts the buffer in two at `at` (a multiple of the sector size): `self` keeps the front, the back is returned.
    /// Both keep the allocation alive; it returns to the pool when the last part is dropped.
    ///
    /// # Panics
    /// If `at` is not a multiple of the sector size or past the end.
    pub fn split_off(&mut self, at: usize) -> IoBuf {
        assert!(at.is_multiple_of(SECTOR) && at <= self.len, "cannot split {} bytes at {at}", self.len);
        // SAFETY: `at` is within the range, and so within the allocation or one past its end.
        let start = unsafe { self.start.add(at) };
        let back = IoBuf { start, len: self.len - at, home: self.home.clone() };
        self.len = at;
        back
    }

    /// Joins two parts that a `split_off` made neighbours.
    ///
    /// # Panics
    /// If `back` does not directly follow `self` in the same allocation.
    pub fn unsplit(&mut self, back: IoBuf) {
        assert!(Arc::ptr_eq(&self.home, &back.home), "the parts are of different allocations");
        assert_eq!(self.start.as_ptr() as usize + self.len, back.start.as_ptr() as usize, "the parts are not neighbours");
        self.len += back.len;
    }

    /// Shortens to `len` bytes (whole sectors), keeping the allocation.
    ///
    /// # Panics
    /// If `len` is not a multiple of the sector size or longer than the buffer.
    pub fn truncate(&mut self, len: usize) {
        assert!(len.is_multiple_of(SECTOR) && len <= self.len, "cannot shorten {} bytes to {len}", self.len);
        self.len = len;
    }
}

impl std::ops::Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the range is initialised, owned by this buffer alone, and lives as long as `home`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for IoBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for IoBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
