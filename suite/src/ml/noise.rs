//! Bytes that nobody can compress or store once.

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// Bytes that are made at a time.
pub(super) const PIECE: usize = 1 << 20;

/// An endless stream of them; two of different seeds have nothing in common.
#[derive(Debug)]
pub(super) struct Noise {
    random: SmallRng,
    piece: Vec<u8>,
}

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Noise { random: SmallRng::seed_from_u64(seed), piece: vec![0; PIECE] }
    }

    /// The next bytes, at most [`PIECE`] of them.
    pub(super) fn next(&mut self, wanted: u64) -> &[u8] {
        let len = usize::try_from(wanted).unwrap_or(PIECE).min(PIECE);
        self.random.fill_bytes(&mut self.piece[..len]);
        &self.piece[..len]
    }
}

/// Bytes of which each block carries a number of its own: no file system finds one twice, and making them costs one store for each block.
#[derive(Debug)]
pub(super) struct Stamped {
    noise: Vec<u8>,
    seed: u64,
    given: u64,
}

impl Stamped {
    /// The smallest block by which file systems compare content.
    const BLOCK: usize = 4096;

    /// For pieces of at most `len` bytes.
    pub(super) fn new(seed: u64, len: usize) -> Self {
        let mut noise = vec![0; len];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut noise);
        Stamped { noise, seed, given: 0 }
    }

    /// The next bytes, at most as many as a piece has.
    pub(super) fn next(&mut self, wanted: u64) -> &[u8] {
        let len = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.noise.len());
        for block in self.noise[..len].chunks_exact_mut(Self::BLOCK) {
            self.given += 1;
            block[..8].copy_from_slice(&self.given.to_le_bytes());
            block[8..16].copy_from_slice(&self.seed.to_le_bytes());
        }
        &self.noise[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_block_comes_twice() {
        let mut seen = HashSet::new();
        for seed in [1, 2] {
            let mut noise = Noise::new(seed);
            assert!((0..4).all(|_| noise.next(64 << 10).chunks(512).all(|block| seen.insert(block.to_vec()))));
        }
    }

    #[test]
    fn no_stamped_block_comes_twice() {
        let mut seen = HashSet::new();
        for seed in [1, 2] {
            let mut noise = Stamped::new(seed, 64 << 10);
            assert!((0..4).all(|_| noise.next(u64::MAX).chunks(4096).all(|block| seen.insert(block.to_vec()))));
        }
    }

    #[test]
    fn a_piece_is_never_longer_than_wanted() {
        let mut noise = Noise::new(0);
        assert_eq!([noise.next(0).len(), noise.next(7).len(), noise.next(u64::MAX).len()], [0, 7, PIECE]);
    }
}
