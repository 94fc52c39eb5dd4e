//! TFRecord: a file of records, nothing before, between or after them. Little endian.
//!
//! ```text
//! 0        8       12            12 + len   16 + len
//! | len u64 | crc(len) | data ... | crc(data) |
//! ```
//! A checksum is CRC-32C, turned right by 15 bits, plus a constant.

use crate::ml::error::FormatFault;

/// Bytes before the data.
pub(in crate::ml) const HEAD: usize = 12;
/// Bytes behind the data.
pub(in crate::ml) const TAIL: usize = 4;
const MASK: u32 = 0xa282_ead8;

/// Bytes that a record takes.
pub(in crate::ml) fn framed(data: u64) -> u64 {
    HEAD as u64 + data + TAIL as u64
}

/// What stands before data of such a length.
pub(in crate::ml) fn head(len: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&head[..8]);
    head[8..].copy_from_slice(&mask(crc).to_le_bytes());
    head
}

/// What stands behind data with such a CRC-32C.
pub(in crate::ml) fn tail(crc: u32) -> [u8; TAIL] {
    mask(crc).to_le_bytes()
}

/// How long the data is.
pub(in crate::ml) fn data_len(found: &[u8; HEAD]) -> Result<u64, FormatFault> {
    let len = u64::from_le_bytes(found[..8].try_into().expect("eight bytes"));
    if *found == head(len) { Ok(len) } else { Err(FormatFault::Checksum("a record's length")) }
}

fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_one_that_is_damaged_is_not() {
        for len in [0, 1, 114_660, u64::MAX] {
            assert_eq!(data_len(&head(len)).expect("intact"), len);
        }
        let mut damaged = head(5);
        damaged[0] ^= 1;
        assert!(data_len(&damaged).is_err());
    }

    /// What `tf.io.TFRecordWriter` of TensorFlow 2.16 writes for the record `b"forebay"`.
    const FOREBAY: &[u8] = b"\x07\0\0\0\0\0\0\0\xbb\xd7\x9f\x11forebay\x70\x28\xb7\x84";

    #[test]
    fn bytes_are_those_that_tensorflow_writes() {
        let data = b"forebay";
        let record = [&head(7)[..], data, &tail(crc32c::crc32c(data))].concat();
        assert_eq!(record, FOREBAY);
        assert_eq!(record.len() as u64, framed(7));
    }
}
