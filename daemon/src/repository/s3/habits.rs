//! What a store that speaks S3's protocol does not take: known beforehand, or learnt from its refusals.

use crate::repository::write::WriteKind;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What this store takes.
#[derive(Debug)]
pub struct Habits {
    /// Kinds of writes whose preconditions the store is known to look at, by [`bit`].
    trusted: u8,
    /// Kinds of writes whose preconditions it refused with 501.
    refused: AtomicU8,
    /// Whether it refused CRC-32C, so that bodies carry MD5 instead.
    wants_md5: AtomicBool,
}

fn bit(kind: WriteKind) -> u8 {
    match kind {
        WriteKind::Put => 1,
        WriteKind::Complete => 2,
        WriteKind::Copy => 4,
        WriteKind::Delete => 8,
    }
}

impl Habits {
    /// Amazon's S3 decides all preconditions. Others are known for those of PUTs; many take no notice of the rest, without a word.
    pub fn new(is_amazon: bool) -> Self {
        let trusted = if is_amazon { u8::MAX } else { bit(WriteKind::Put) };
        Habits { trusted, refused: AtomicU8::new(0), wants_md5: AtomicBool::new(false) }
    }

    /// Whether preconditions are sent; where they are not trusted, it does no harm.
    pub fn sends_preconditions(&self, kind: WriteKind) -> bool {
        self.refused.load(Ordering::Relaxed) & bit(kind) == 0
    }

    /// Whether the store makes sure of preconditions.
    pub fn decides(&self, kind: WriteKind) -> bool {
        self.trusted & bit(kind) != 0 && self.sends_preconditions(kind)
    }

    /// Learns that the store has no preconditions for this kind. `false` if that was known.
    pub fn learn_no_preconditions(&self, kind: WriteKind) -> bool {
        self.refused.fetch_or(bit(kind), Ordering::Relaxed) & bit(kind) == 0
    }

    /// Whether bodies carry MD5 instead of CRC-32C.
    pub fn wants_md5(&self) -> bool {
        self.wants_md5.load(Ordering::Relaxed)
    }

    /// Learns that the store has no CRC-32C. `false` if that was known.
    pub fn learn_md5(&self) -> bool {
        !self.wants_md5.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_not_sent_again() {
        let habits = Habits::new(false);
        assert!(habits.decides(WriteKind::Put) && !habits.decides(WriteKind::Complete));
        assert!(!habits.decides(WriteKind::Delete) && habits.sends_preconditions(WriteKind::Delete));
        assert!(habits.learn_no_preconditions(WriteKind::Put) && !habits.learn_no_preconditions(WriteKind::Put));
        assert!(!habits.decides(WriteKind::Put) && !habits.sends_preconditions(WriteKind::Put));
        assert!(habits.sends_preconditions(WriteKind::Complete));
        assert!(habits.learn_md5() && !habits.learn_md5() && habits.wants_md5());
        assert!(Habits::new(true).decides(WriteKind::Copy));
    }
}
