//! Letting go of blocks that nothing refers to any more.
//!
//! What let go of them is a metadata commit, and a power cut may undo the last ones: until they are durable the old blocks stay held,
//! or a file that was synced before would refer to blocks that are gone.

use crate::cache::Cache;
use crate::meta::MetaError;
use parking_lot::Mutex;

/// Fingerprints whose last reference went in commits that may not be durable yet, in the order of the commits.
#[derive(Default)]
pub(in crate::cache) struct Released {
    pending: Mutex<Vec<u64>>,
}

impl Cache {
    /// Notes blocks that a commit left without references. Called with the references locked.
    pub(in crate::cache) fn release(&self, fingerprints: &[u64]) {
        if self.config.durable {
            self.released.pending.lock().extend_from_slice(fingerprints);
        } else {
            fingerprints.iter().for_each(|fingerprint| self.let_go(*fingerprint));
        }
    }

    /// Blocks that nothing refers to as soon as the last commits are durable.
    pub(in crate::cache) fn on_their_way_out(&self) -> std::collections::HashSet<u64> {
        self.released.pending.lock().iter().copied().collect()
    }

    /// Whether a power cut could leave references to a block, now or by undoing commits.
    pub(in crate::cache) fn may_be_referenced(&self, fingerprint: u64) -> bool {
        self.meta.is_referenced(fingerprint).unwrap_or(true) || self.released.pending.lock().contains(&fingerprint)
    }

    /// Makes all commits so far durable and lets go of the blocks they left without references. In a scratch deployment there is
    /// nothing to do.
    pub fn make_durable(&self) -> Result<(), MetaError> {
        if !self.config.durable {
            return Ok(());
        }
        let known = self.released.pending.lock().len();
        self.meta.flush()?;
        if known == 0 {
            return Ok(());
        }
        let _references = self.references.lock();
        let known: Vec<u64> = {
            let mut pending = self.released.pending.lock();
            // Another caller may have taken some.
            let known = known.min(pending.len());
            pending.drain(..known).collect()
        };
        for fingerprint in known {
            // The same content may have been written again meanwhile.
            if !self.meta.is_referenced(fingerprint)? {
                self.let_go(fingerprint);
            }
        }
        Ok(())
    }

    fn let_go(&self, fingerprint: u64) {
        self.store.release(fingerprint);
        self.deleted.note(fingerprint);
    }
}
