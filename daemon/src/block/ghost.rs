//! Which blocks were dropped lately: a block that is put again soon after it was dropped goes straight to the main class.
//!
//! A direct-mapped table of 32-bit tags: bounded, lock-free, and lossy. A new fingerprint overwrites whatever shared its slot,
//! so old ones fade at the rate new ones come; a wrong hit (1 in 2^32) only misplaces a block.

use std::sync::atomic::{AtomicU32, Ordering};

/// Slots at most, 4 bytes each.
const SLOTS_MAX: usize = 1 << 20;
const SLOTS_MIN: usize = 1 << 10;

/// The set of fingerprints dropped lately.
pub struct Ghosts {
    tags: Box<[AtomicU32]>,
}

impl Ghosts {
    /// A set for a cache of about this many blocks.
    pub fn for_blocks(blocks: u64) -> Self {
        let slots = usize::try_from(blocks).unwrap_or(SLOTS_MAX).clamp(SLOTS_MIN, SLOTS_MAX);
        Ghosts { tags: (0..slots).map(|_| AtomicU32::new(0)).collect() }
    }

    fn slot(&self, fingerprint: u64) -> (&AtomicU32, u32) {
        let at = ((u128::from(fingerprint) * self.tags.len() as u128) >> 64) as usize;
        // The slot comes from the high bits, the tag from the low ones; 0 means an empty slot.
        (&self.tags[at], (fingerprint as u32).max(1))
    }

    /// Remembers a dropped block.
    pub fn remember(&self, fingerprint: u64) {
        let (slot, tag) = self.slot(fingerprint);
        slot.store(tag, Ordering::Relaxed);
    }

    /// Whether a block was dropped lately; forgets it.
    pub fn recall(&self, fingerprint: u64) -> bool {
        let (slot, tag) = self.slot(fingerprint);
        slot.compare_exchange(tag, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.tags.len() * size_of::<AtomicU32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_block_is_recalled_once() {
        let ghosts = Ghosts::for_blocks(5000);
        ghosts.remember(0xdead_beef_0000_0007);
        assert!(!ghosts.recall(0xdead_beef_0000_0008));
        assert!(ghosts.recall(0xdead_beef_0000_0007));
        assert!(!ghosts.recall(0xdead_beef_0000_0007));
    }

    #[test]
    fn memory_is_bounded() {
        assert_eq!(Ghosts::for_blocks(u64::MAX).memory_bytes(), SLOTS_MAX * 4);
    }
}
