//! Tar in the form of POSIX (ustar), as far as shards of samples need it: files with short names.
//!
//! ```text
//! member:  | header, 512 bytes | content | zeroes to the next 512 |
//! header:  0 name 100 mode 108 uid 116 gid 124 size 136 mtime 148 checksum 156 type 157 link 257 "ustar\0" "00" 265 user 297 group ... 512
//! shard:   | member ... | 1,024 zeroes | zeroes to the next 10,240 |
//! ```
//! Numbers are octal text. The checksum is the sum of the header's bytes, its own counted as spaces. A sample is a run of members whose names are
//! the same up to the first dot of the last part: here an image and its label.

use crate::ml::error::FormatFault;

/// What everything is a multiple of.
pub(in crate::ml) const BLOCK: usize = 512;
/// What a shard is a multiple of, and what Python's `tarfile` reads at a time.
pub(in crate::ml) const RECORD: usize = 20 * BLOCK;
/// Bytes of a label: the number of a class.
pub(in crate::ml) const LABEL: u64 = 3;

const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// A plain file.
const PLAIN: u8 = b'0';

/// A member, as its header tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ml) struct Member {
    /// Its name.
    pub(in crate::ml) name: String,
    /// Bytes of content.
    pub(in crate::ml) bytes: u64,
}

impl Member {
    /// What members of one sample have in common.
    pub(in crate::ml) fn key(&self) -> &str {
        let part = self.name.rfind('/').map_or(0, |slash| slash + 1);
        let dot = self.name[part..].find('.').map_or(self.name.len(), |dot| part + dot);
        &self.name[..dot]
    }
}

/// Content and the zeroes behind it.
pub(in crate::ml) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64)
}

/// The size of a shard of so many samples.
pub(in crate::ml) fn shard_bytes(samples: u64, image_bytes: u64) -> u64 {
    (samples * sample_bytes(image_bytes) + 2 * BLOCK as u64).next_multiple_of(RECORD as u64)
}

/// What a sample takes in a shard: an image, a label, and their headers.
pub(in crate::ml) fn sample_bytes(image_bytes: u64) -> u64 {
    2 * BLOCK as u64 + padded(image_bytes) + padded(LABEL)
}

/// The header of a plain file.
///
/// # Panics
/// If the name is longer than 100 bytes or the size has more than 11 octal digits: only this module's callers name members, and never so.
pub(in crate::ml) fn header(member: &Member) -> [u8; BLOCK] {
    assert!(member.name.len() <= 100 && member.bytes < 1 << 33, "a member that a ustar header can say");
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, member.name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(SIZE.start, format!("{:011o}\0", member.bytes).as_bytes());
    put(136, b"00000000000\0");
    put(156, &[PLAIN]);
    put(257, b"ustar\x0000");
    let sum = checksum(&header);
    header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// What a header says; none for the zeroes at the end of a shard.
pub(in crate::ml) fn member(header: &[u8; BLOCK]) -> Result<Option<Member>, FormatFault> {
    if header.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    if octal("a checksum", &header[CHECKSUM])? != u64::from(checksum(header)) {
        return Err(FormatFault::Checksum("a header"));
    }
    let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some(Member { name: String::from_utf8_lossy(name).into_owned(), bytes: octal("a size", &header[SIZE])? }))
}

fn checksum(header: &[u8; BLOCK]) -> u32 {
    let counted = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { u32::from(b' ') } else { u32::from(*byte) };
    header.iter().enumerate().map(counted).sum()
}

fn octal(field: &'static str, bytes: &[u8]) -> Result<u64, FormatFault> {
    let text = String::from_utf8_lossy(bytes);
    let digits = text.trim_matches(|c| c == '\0' || c == ' ');
    u64::from_str_radix(digits, 8).map_err(|_| FormatFault::field(field, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Member {
        Member { name: "train/000012.seg.png".into(), bytes: 114_660 }
    }

    #[test]
    fn a_header_is_read_back_and_one_that_is_damaged_is_not() {
        let header = header(&example());
        assert_eq!(member(&header).expect("intact"), Some(example()));
        assert_eq!(member(&[0; BLOCK]).expect("the end"), None);
        for at in [0, 126, 150, 300] {
            let mut damaged = header;
            damaged[at] ^= 0x41;
            assert!(member(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_sample_ends_where_the_name_before_the_first_dot_changes() {
        let key = |name: &str| Member { name: name.into(), bytes: 0 }.key().to_owned();
        assert_eq!([key("a/b.c/0001.seg.png"), key("0001.cls"), key("a/none")], ["a/b.c/0001", "0001", "a/none"]);
    }

    #[test]
    fn a_shard_is_a_multiple_of_a_record() {
        // Two samples of 1,000 bytes: (512 + 1,024 + 512 + 512) each, and the end: 6,144.
        assert_eq!(shard_bytes(2, 1000), 10_240);
        assert_eq!(shard_bytes(4, 1000), 20_480);
        assert_eq!(shard_bytes(2048, 114_660), 238_028_800);
    }
}
