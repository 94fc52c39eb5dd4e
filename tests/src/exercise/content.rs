//! Bytes that tell where they come from: every byte follows from a tag and from where it lies, so that bytes of another
//! write, of another place or of nobody at all show up as a difference.

/// Fills `buffer` with the bytes that `tag` has from `offset` on.
pub fn fill(tag: u64, offset: u64, buffer: &mut [u8]) {
    let mut word = offset / 8;
    let skipped = (offset % 8) as usize;
    let (head, rest) = buffer.split_at_mut(((8 - skipped) % 8).min(buffer.len()));
    if !head.is_empty() {
        head.copy_from_slice(&word_of(tag, word)[skipped..skipped + head.len()]);
        word += 1;
    }
    let mut chunks = rest.chunks_exact_mut(8);
    for chunk in &mut chunks {
        chunk.copy_from_slice(&word_of(tag, word));
        word += 1;
    }
    let tail = chunks.into_remainder();
    let length = tail.len();
    tail.copy_from_slice(&word_of(tag, word)[..length]);
}

/// `length` bytes of `tag` from `offset` on.
pub fn bytes(tag: u64, offset: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    fill(tag, offset, &mut buffer);
    buffer
}

/// SplitMix64's output function over the tag and the word's number.
fn word_of(tag: u64, word: u64) -> [u8; 8] {
    let mut z = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(word.wrapping_mul(0xd1b5_4a32_d192_ed03)) ^ 0x5bf0_3635;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// Where two byte strings differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The first byte that differs (or that one of them lacks).
    pub first: usize,
    /// The last byte that differs.
    pub last: usize,
    /// How many differ.
    pub count: usize,
}

/// The difference between what was expected and what was found, if there is one.
pub fn difference(expected: &[u8], found: &[u8]) -> Option<Difference> {
    if expected == found {
        return None;
    }
    let longest = expected.len().max(found.len());
    let differs = |at: &usize| expected.get(*at) != found.get(*at);
    let first = (0..longest).find(differs)?;
    let last = (0..longest).rev().find(differs)?;
    Some(Difference { first, last, count: (first..=last).filter(differs).count() })
}

/// The difference in words, with `base` added to the offsets.
pub fn describe(difference: Difference, base: u64, expected: &[u8], found: &[u8]) -> String {
    let sample = |bytes: &[u8]| {
        let end = bytes.len().min(difference.first + 16);
        let some = bytes.get(difference.first..end).unwrap_or_default();
        if some.is_empty() { "nothing".to_owned() } else { format!("{some:02x?}") }
    };
    format!(
        "{} of {} bytes differ, from {:#x} to {:#x}: expected {} ({} bytes), found {} ({} bytes)",
        difference.count,
        expected.len().max(found.len()),
        base + difference.first as u64,
        base + difference.last as u64,
        sample(expected),
        expected.len(),
        sample(found),
        found.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_part_of_the_whole() {
        let whole = bytes(7, 0, 200);
        for (from, length) in [(0, 0), (0, 200), (1, 3), (3, 5), (7, 1), (7, 20), (8, 8), (9, 64), (63, 137)] {
            assert_eq!(bytes(7, from as u64, length), whole[from..from + length], "{length} bytes from {from}");
        }
        assert_ne!(bytes(8, 0, 200), whole);
        assert_ne!(bytes(7, 8, 192), whole[..192]);
    }

    #[test]
    fn differences_are_located() {
        assert_eq!(difference(b"abcdef", b"abcdef"), None);
        assert_eq!(difference(b"abcdef", b"aXcdYf"), Some(Difference { first: 1, last: 4, count: 2 }));
        assert_eq!(difference(b"abc", b"abcde"), Some(Difference { first: 3, last: 4, count: 2 }));
        let found = difference(b"abc", b"a").expect("they differ");
        assert_eq!(
            describe(found, 0x100, b"abc", b"a"),
            "2 of 3 bytes differ, from 0x101 to 0x102: expected [62, 63] (3 bytes), found nothing (1 bytes)"
        );
    }
}
