//! Turns a block's plain bytes into what a frame stores, and back: raw, or LZ4 where that saves at least one sector.
//!
//! A sample of the block is compressed first: data that does not shrink (random, compressed, model weights) is not worth the full
//! attempt. The price is that a block whose repetitions lie only between the samples is stored raw.

use crate::format::Encoding;
use crate::units::{SECTOR, sector_up};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

/// A sample has to shrink below this share (in 1/16) of its size for the whole block to be tried.
const WORTHWHILE_SIXTEENTHS: usize = 15;
const SAMPLE_BYTES: usize = 4096;

/// A compressor's reusable memory. One per thread.
pub struct Encoder {
    table: CompressTable,
    out: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder { table: CompressTable::large(), out: Vec::new() }
    }
}

/// Stored bytes do not decompress to the block they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the LZ4 data does not decompress to the block's length")]
pub struct DecodeError;

impl Encoder {
    /// What to store for a block: the plain bytes, or an LZ4 block that takes at least one sector less.
    pub fn encode<'a>(&'a mut self, plain: &'a [u8], compress: bool) -> (Encoding, &'a [u8]) {
        if !compress || plain.len() <= SECTOR || !self.looks_compressible(plain) {
            return (Encoding::Raw, plain);
        }
        match self.compress(plain) {
            Some(len) if sector_up(len) < sector_up(plain.len()) => (Encoding::Lz4, &self.out[..len]),
            _ => (Encoding::Raw, plain),
        }
    }

    fn looks_compressible(&mut self, plain: &[u8]) -> bool {
        if plain.len() <= 4 * SAMPLE_BYTES {
            return true;
        }
        [0, plain.len() / 2].into_iter().any(|at| {
            let shrunk = self.compress(&plain[at..at + SAMPLE_BYTES]);
            shrunk.is_some_and(|len| len * 16 < SAMPLE_BYTES * WORTHWHILE_SIXTEENTHS)
        })
    }

    fn compress(&mut self, plain: &[u8]) -> Option<usize> {
        let most = get_maximum_output_size(plain.len());
        if self.out.len() < most {
            self.out.resize(most, 0);
        }
        compress_into_with_table(plain, &mut self.out, &mut self.table).ok()
    }
}

/// Decompresses an LZ4 frame into exactly `plain`.
pub fn decompress(stored: &[u8], plain: &mut [u8]) -> Result<(), DecodeError> {
    match decompress_into(stored, plain) {
        Ok(len) if len == plain.len() => Ok(()),
        _ => Err(DecodeError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        StdRng::seed_from_u64(7).fill(&mut bytes[..]);
        bytes
    }

    #[test]
    fn text_is_compressed_and_comes_back() {
        let plain = b"the quick brown fox jumps over the lazy dog. ".repeat(2000);
        let mut encoder = Encoder::default();
        let (encoding, stored) = encoder.encode(&plain, true);
        assert_eq!(encoding, Encoding::Lz4);
        assert!(stored.len() < plain.len() / 4);
        let mut back = vec![0; plain.len()];
        assert_eq!(decompress(stored, &mut back), Ok(()));
        assert_eq!(back, plain);
    }

    #[test]
    fn noise_small_blocks_and_compression_off_stay_raw() {
        let mut encoder = Encoder::default();
        let noise = noise(131072);
        assert_eq!(encoder.encode(&noise, true), (Encoding::Raw, &noise[..]));
        assert_eq!(encoder.encode(&[0; SECTOR], true).0, Encoding::Raw);
        assert_eq!(encoder.encode(&[0; 131072], false).0, Encoding::Raw);
    }

    #[test]
    fn a_saving_of_less_than_a_sector_is_not_taken() {
        let mut plain = noise(4 * SECTOR);
        plain[..2000].fill(0);
        assert_eq!(Encoder::default().encode(&plain, true).0, Encoding::Raw);
    }

    #[test]
    fn a_compressible_second_half_is_noticed() {
        let mut plain = noise(131072);
        plain[65536..].fill(1);
        assert_eq!(Encoder::default().encode(&plain, true).0, Encoding::Lz4);
    }

    proptest! {
        #[test]
        fn damaged_lz4_never_panics(stored in proptest::collection::vec(any::<u8>(), 0..2000), len in 0usize..10_000) {
            let _ = decompress(&stored, &mut vec![0; len]);
        }
    }
}
