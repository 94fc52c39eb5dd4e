//! Bytes to write: incompressible and never twice the same, or compressible; made so cheaply that making them is not what is measured.
//!
//! Each source has a piece of noise of its own, and every sector of what it gives carries a number that was never given before: no
//! file system finds a block a second time, at whatever size it looks. A write costs one store for each 512 bytes.

use crate::order::splitmix;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde::Serialize;
use std::ops::{Deref, DerefMut, Range};

/// Alignment of memory and offsets that every O_DIRECT takes.
pub(crate) const ALIGN: usize = 4096;
/// What carries a number of its own.
const SECTOR: usize = 512;
/// The noise beyond the largest write. More than the window of any compressor that works on blocks of files.
const NOISE: usize = 1 << 20;
/// Of a compressible sector, what is noise: LZ4 makes about a third of it.
const DENSE: usize = SECTOR / 4;

/// What the bytes are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Texture {
    /// Noise: neither compression nor deduplication helps.
    Random,
    /// A quarter noise, so that compression helps; deduplication does not.
    Compressible,
}

impl Texture {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Texture::Random => "random",
            Texture::Compressible => "compressible",
        }
    }
}

/// Memory at an address that O_DIRECT takes.
#[derive(Debug)]
pub(crate) struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(len: usize) -> Self {
        let memory = vec![0; len + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN);
        Aligned { memory, start, len }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// An endless source of bytes for one thread.
#[derive(Debug)]
pub(crate) struct Source {
    noise: Aligned,
    /// Where the piece is that was made last.
    piece: Range<usize>,
    seed: u64,
    given: u64,
}

impl Source {
    /// A source for writes of at most `largest` bytes. Two of different seeds have nothing in common.
    pub(crate) fn new(texture: Texture, seed: u64, largest: usize) -> Self {
        let mut noise = Aligned::new(NOISE + largest.next_multiple_of(ALIGN));
        fill(&mut noise, texture, seed);
        Source { noise, piece: 0..0, seed, given: 0 }
    }

    /// Makes the next piece, at an aligned address.
    pub(crate) fn advance(&mut self, len: usize) {
        let after = self.piece.end.next_multiple_of(ALIGN);
        let start = if after + len > self.noise.len() { 0 } else { after };
        self.piece = start..start + len;
        for sector in self.noise[self.piece.clone()].chunks_mut(SECTOR) {
            self.given += 1;
            let number = splitmix(self.seed ^ self.given.rotate_left(24)).to_le_bytes();
            let stamped = sector.len().min(number.len());
            sector[..stamped].copy_from_slice(&number[..stamped]);
        }
    }

    /// The piece that was made last.
    pub(crate) fn piece(&self) -> &[u8] {
        &self.noise[self.piece.clone()]
    }
}

fn fill(memory: &mut [u8], texture: Texture, seed: u64) {
    SmallRng::seed_from_u64(seed).fill_bytes(memory);
    if texture == Texture::Compressible {
        memory.chunks_mut(SECTOR).for_each(|sector| {
            let dense = DENSE.min(sector.len());
            sector[dense..].fill(b'.');
        });
    }
}

/// Objects that share one piece of memory: each begins at another byte of it, so that no two are the same.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    noise: Bytes,
    largest: usize,
}

impl Objects {
    /// For objects of at most `largest` bytes.
    pub(crate) fn new(texture: Texture, seed: u64, largest: usize) -> Self {
        let mut noise = vec![0; NOISE + largest];
        fill(&mut noise, texture, seed);
        Objects { noise: noise.into(), largest }
    }

    /// The bytes of the n-th object.
    pub(crate) fn object(&self, number: u64, len: usize) -> Bytes {
        assert!(len <= self.largest, "an object that the noise was made for");
        // An odd step comes to every byte of a power of two before it comes to one twice.
        let start = (number.wrapping_mul(0x1_2345) as usize) % NOISE;
        self.noise.slice(start..start + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn written(texture: Texture, seed: u64, writes: usize, len: usize) -> Vec<u8> {
        let mut source = Source::new(texture, seed, len);
        let mut next = |_| {
            source.advance(len);
            source.piece().to_vec()
        };
        (0..writes).flat_map(&mut next).collect()
    }

    #[test]
    fn no_sector_comes_twice_from_any_source() {
        let mut seen = HashSet::new();
        for seed in [1, 2] {
            let bytes = written(Texture::Random, seed, 80, 64 << 10);
            assert!(bytes.chunks(SECTOR).all(|sector| seen.insert(sector.to_vec())));
        }
    }

    #[test]
    fn compressible_data_compresses_and_random_data_does_not() {
        let ratio = |texture| {
            let bytes = written(texture, 7, 32, 128 << 10);
            lz4_flex::compress(&bytes).len() as f64 / bytes.len() as f64
        };
        assert!(ratio(Texture::Random) > 0.99, "{}", ratio(Texture::Random));
        assert!((0.2..0.4).contains(&ratio(Texture::Compressible)), "{}", ratio(Texture::Compressible));
    }

    #[test]
    fn every_piece_begins_where_direct_io_takes_it() {
        let mut source = Source::new(Texture::Random, 3, 5000);
        for _ in 0..1000 {
            source.advance(5000);
            assert_eq!((source.piece().as_ptr().align_offset(ALIGN), source.piece().len()), (0, 5000));
        }
    }

    #[test]
    fn objects_differ_and_have_their_length() {
        let objects = Objects::new(Texture::Random, 5, 10_000);
        let all: HashSet<Bytes> = (0..1000).map(|number| objects.object(number, 10_000)).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|object| object.len() == 10_000));
    }
}
