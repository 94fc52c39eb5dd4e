//! Holding what was only cached: a block that came from an object, and is to outlive it, becomes one whose only copy may be here.
//!
//! It is claimed first, as if it had just been put (see [`super::held`]): from then on reclaim moves it instead of dropping it. That its bytes are good is for whoever
//! claims it to see before, by reading it.

use super::BlockStore;
use crate::ids::BlockId;

impl BlockStore {
    /// Claims a block that is here, like a local put of it that was answered: it is held, until [`BlockStore::keep`] or [`BlockStore::discard`]. `false` if it is
    /// not within reach. With two copies the second one follows in the background.
    pub fn claim(&self, id: &BlockId) -> bool {
        let core = self.core();
        let fingerprint = id.fingerprint();
        let mut claims = core.holds.lock(fingerprint);
        let Some(entry) = core.served_copy(fingerprint) else { return false };
        // Before the flag, so that nobody finds the block claimed and not flagged; reclaim may be just dropping it.
        if !core.index_flag(fingerprint, true) {
            return false;
        }
        claims.claim(fingerprint, 1);
        drop(claims);
        if let Some((disk, _)) = core.locate(entry.segment) {
            disk.owe_flush();
        }
        if core.wants_two() && core.holds.are_known() {
            core.mender.ring();
        }
        true
    }

    /// Whether a block is here and held.
    pub fn is_held(&self, fingerprint: u64) -> bool {
        self.core().copies(fingerprint).any(|entry| entry.frame.local_only)
    }
}
