//! What single blocks take, for figures. The index knows it: nothing is read from a device, and nothing counts as used.

use super::BlockStore;
use super::disk::footprint;

/// What a block is, and what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockSizes {
    /// Its plain bytes.
    pub plain_bytes: u64,
    /// Device bytes of it, padding included.
    pub stored_bytes: u64,
    /// Device bytes of its second copy, if it has one.
    pub copy_bytes: u64,
}

impl BlockStore {
    /// What a block takes; `None` if it is not here.
    pub fn sizes(&self, fingerprint: u64) -> Option<BlockSizes> {
        let mut copies = self.core().copies(fingerprint);
        let first = copies.next()?.frame;
        Some(BlockSizes {
            plain_bytes: first.plain_len.into(),
            stored_bytes: footprint(&first),
            copy_bytes: copies.map(|second| footprint(&second.frame)).sum(),
        })
    }
}
