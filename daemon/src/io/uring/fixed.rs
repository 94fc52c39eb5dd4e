//! The pool's arena as the kernel's fixed buffers: pinned and mapped once, instead of at every transfer.

use crate::io::BufferPool;
use io_uring::IoUring;

/// The part of memory a ring has registered; empty if the kernel would not.
pub(super) struct FixedMemory {
    start: usize,
    len: usize,
    region: usize,
}

impl FixedMemory {
    const NONE: FixedMemory = FixedMemory { start: 0, len: 0, region: 1 };

    /// Registers a pool's arena with a ring. The ring must keep the pool as long as it lives.
    pub(super) fn register(uring: &IoUring, pool: &BufferPool) -> Self {
        let regions = pool.regions();
        let (Some(first), Some(last)) = (regions.first(), regions.last()) else { return Self::NONE };
        let pieces: Vec<_> =
            regions.iter().map(|region| libc::iovec { iov_base: region.address as *mut _, iov_len: region.len }).collect();
        // SAFETY: the arena is one mapping that lives as long as the pool, which the ring keeps.
        match unsafe { uring.submitter().register_buffers(&pieces) } {
            Ok(()) => FixedMemory { start: first.address, len: last.address + last.len - first.address, region: first.len },
            Err(error) => {
                tracing::warn!(%error, "buffers could not be registered with io_uring (ulimit -l?): large reads cost more CPU");
                Self::NONE
            }
        }
    }

    /// The index to name an address by, which its buffer need not know: it may come from another pool.
    pub(super) fn index_of(&self, address: *mut u8) -> Option<u16> {
        let at = (address as usize).checked_sub(self.start)?;
        (at < self.len).then_some((at / self.region) as u16)
    }
}
