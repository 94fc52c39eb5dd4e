//! Aligned I/O memory: one arena that rings register with the kernel, cut into size classes, with the heap behind it.

/// A pool of sector-aligned buffers.
#[derive(Clone)]
pub struct BufferPool;

impl BufferPool {
    /// A pool whose arena holds `arena_bytes`; what does not fit comes from the heap.
    pub fn new(_arena_bytes: usize) -> Self {
        todo!("helper A")
    }

    /// A buffer of at least `len` bytes, its length rounded up to whole sectors. Its contents are unspecified.
    pub fn alloc(&self, _len: usize) -> IoBuf {
        todo!("helper A")
    }
}

/// A sector-aligned range of pool memory with one owner.
pub struct IoBuf;

impl IoBuf {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        todo!("helper A")
    }
    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Cuts the buffer in two at `at` (a multiple of the sector size): `self` keeps the front, the back is returned.
    /// Both keep the allocation alive; it returns to the pool when the last part is dropped.
    pub fn split_off(&mut self, _at: usize) -> IoBuf {
        todo!("helper A")
    }
    /// Joins two parts that a `split_off` made neighbours.
    ///
    /// # Panics
    /// If `back` does not directly follow `self` in the same allocation.
    pub fn unsplit(&mut self, _back: IoBuf) {
        todo!("helper A")
    }
    /// Shortens to `len` bytes (whole sectors), keeping the allocation.
    pub fn truncate(&mut self, _len: usize) {
        todo!("helper A")
    }
}

impl std::ops::Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        todo!("helper A")
    }
}

impl std::ops::DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        todo!("helper A")
    }
}
