//! Counting how often each of many blocks occurs, in bounded memory and exactly: in passes, each over a range of fingerprints.
//!
//! Fingerprints are hashes, so a range holds a part of them that is as large as the range. A pass begins with all that is left and halves its range whenever it
//! meets more blocks than memory is for; what it counted is exact for the range that it ends with, and the next pass begins behind that.

use std::collections::HashMap;

/// Blocks counted in one pass at most: 35 MiB.
pub(super) const AT_ONCE: usize = 1 << 20;

/// One pass.
pub(super) struct Pass {
    first: u64,
    last: u64,
    most: usize,
    found: HashMap<u64, u64>,
}

impl Pass {
    /// A pass from one fingerprint on, that counts so many at most.
    pub(super) fn new(first: u64, most: usize) -> Self {
        Pass { first, last: u64::MAX, most, found: HashMap::new() }
    }

    /// Counts a block, if it is in the range.
    pub(super) fn add(&mut self, fingerprint: u64) {
        if !(self.first..=self.last).contains(&fingerprint) {
            return;
        }
        *self.found.entry(fingerprint).or_default() += 1;
        // A range of one fingerprint holds one.
        while self.found.len() > self.most.max(1) {
            self.last = self.first + (self.last - self.first) / 2;
            self.found.retain(|fingerprint, _| *fingerprint <= self.last);
        }
    }

    /// The blocks of the range, each with how often it came; and where the next pass begins, if there is more.
    pub(super) fn end(self) -> (HashMap<u64, u64>, Option<u64>) {
        (self.found, self.last.checked_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_block_is_counted_once_however_little_fits_into_a_pass(
            blocks in prop::collection::vec(prop_oneof![any::<u64>(), 0..4_u64, (u64::MAX - 3)..=u64::MAX], 0..200),
            most in 1..20_usize,
        ) {
            let mut expected: HashMap<u64, u64> = HashMap::new();
            blocks.iter().for_each(|block| *expected.entry(*block).or_default() += 1);
            let (mut counted, mut next) = (HashMap::new(), Some(0));
            while let Some(first) = next {
                let mut pass = Pass::new(first, most);
                blocks.iter().for_each(|block| pass.add(*block));
                let (found, then) = pass.end();
                prop_assert!(found.len() <= most);
                for (block, count) in found {
                    prop_assert_eq!(counted.insert(block, count), None);
                }
                next = then;
            }
            prop_assert_eq!(counted, expected);
        }
    }
}
