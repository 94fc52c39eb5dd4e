//! What S3 can hold at all: sizes, counts and lengths, checked before a byte is sent. GCS and Azure allow no less, save where said.

use super::write::ObjectHeaders;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes of the largest object.
pub const MOST_OBJECT: u64 = 5 << 40;
/// Bytes of the largest object that one PUT, one copy or one part makes.
pub const MOST_SINGLE: u64 = 5 * GIB;
/// Bytes of the smallest part that is not the last.
pub const LEAST_PART: u64 = 5 * MIB;
/// Parts of an object.
pub const MOST_PARTS: u32 = 10_000;
/// Bytes of the longest key, in UTF-8.
pub const MOST_KEY: usize = 1024;
/// Bytes of all user metadata of an object, names and values.
pub const MOST_METADATA: usize = 2 * KIB as usize;
/// Bytes of a part where the object's size does not ask for more: large enough that a request's cost does not show, small enough that a
/// gigabyte keeps a hundred requests busy.
pub const USUAL_PART: u64 = 8 * MIB;

/// Something that no store of this kind can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A key is too long, or empty.
    #[error("a key has 1 to {MOST_KEY} bytes in UTF-8, '{key}' has {}", key.len())]
    Key {
        /// The key.
        key: String,
    },
    /// An object is too large.
    #[error("an object has at most 5 TiB, this would have {size} bytes")]
    Object {
        /// In bytes.
        size: u64,
    },
    /// Too much for one request.
    #[error("one request writes at most 5 GiB, this would be {size} bytes: write it in parts")]
    Single {
        /// In bytes.
        size: u64,
    },
    /// A part's number, or how many there are.
    #[error("an object has 1 to {MOST_PARTS} parts, numbered from 1 in ascending order")]
    Parts,
    /// Too much user metadata.
    #[error("user metadata has at most {MOST_METADATA} bytes, this has {size}")]
    Metadata {
        /// Names and values, in bytes.
        size: usize,
    },
    /// A name of user metadata that no header can have.
    #[error("'{name}' cannot name user metadata: use lower-case ASCII letters, digits and -_.")]
    MetadataName {
        /// The name.
        name: String,
    },
    /// A value of user metadata that would not come back as it was: S3 decodes what looks like an encoded word, and answers in headers.
    #[error("user metadata '{name}' cannot be '{value}': no blanks at its ends, no control characters, no '=?' in plain ASCII")]
    MetadataValue {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// The store says so, by a limit of its own.
    #[error("too large for the store: {message}")]
    Store {
        /// Its words.
        message: String,
    },
}

/// Bytes of each part (but the last) that an object of `size` bytes should be written in: [`USUAL_PART`] where 10,000 of those
/// suffice, doubled as often as it takes otherwise.
pub fn part_size_for(size: u64) -> Result<u64, LimitError> {
    if size > MOST_OBJECT {
        return Err(LimitError::Object { size });
    }
    let mut part = USUAL_PART;
    while part * u64::from(MOST_PARTS) < size {
        part *= 2;
    }
    Ok(part)
}

/// A key that can be written.
pub fn check_key(key: &str) -> Result<(), LimitError> {
    match key.len() {
        1..=MOST_KEY => Ok(()),
        _ => Err(LimitError::Key { key: key.to_owned() }),
    }
}

/// A body that one request can carry.
pub fn check_single(size: u64) -> Result<(), LimitError> {
    if size > MOST_SINGLE { Err(LimitError::Single { size }) } else { Ok(()) }
}

/// A part's number.
pub fn check_part(number: u32) -> Result<(), LimitError> {
    if (1..=MOST_PARTS).contains(&number) { Ok(()) } else { Err(LimitError::Parts) }
}

/// The parts of an object.
pub fn check_parts(mut numbers: impl Iterator<Item = u32>) -> Result<(), LimitError> {
    let mut last = 0;
    let is_good = numbers.all(|number| number > std::mem::replace(&mut last, number) && number <= MOST_PARTS);
    if is_good && last > 0 { Ok(()) } else { Err(LimitError::Parts) }
}

/// User metadata that every store can keep.
pub fn check_headers(headers: &ObjectHeaders) -> Result<(), LimitError> {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if let Some(name) = headers.user_metadata.keys().find(|name| !is_name(name)) {
        return Err(LimitError::MetadataName { name: name.clone() });
    }
    let is_value =
        |value: &str| !value.contains(char::is_control) && value.trim() == value && !(value.is_ascii() && value.contains("=?"));
    if let Some((name, value)) = headers.user_metadata.iter().find(|(_, value)| !is_value(value)) {
        return Err(LimitError::MetadataValue { name: name.clone(), value: value.clone() });
    }
    let size = headers.user_metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MOST_METADATA { Err(LimitError::Metadata { size }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_grow_with_the_object() {
        for (size, part) in
            [(0, 8 * MIB), (80_000 * MIB, 8 * MIB), (80_000 * MIB + 1, 16 * MIB), (1 << 40, 128 * MIB), (MOST_OBJECT, 1024 * MIB)]
        {
            assert_eq!(part_size_for(size), Ok(part), "{size}");
        }
        assert_eq!(part_size_for(MOST_OBJECT + 1), Err(LimitError::Object { size: MOST_OBJECT + 1 }));
    }

    #[test]
    fn lengths_and_numbers_are_held_to() {
        assert!(check_key(&"k".repeat(1024)).is_ok() && check_key("").is_err());
        assert!(check_key(&"ä".repeat(513)).is_err(), "bytes count, not letters");
        assert!(check_single(MOST_SINGLE).is_ok() && check_single(MOST_SINGLE + 1).is_err());
        assert!(check_part(0).is_err() && check_part(10_001).is_err() && check_part(10_000).is_ok());
        assert!(check_parts([1, 2, 7].into_iter()).is_ok());
        for bad in [&[][..], &[0, 1], &[2, 1], &[1, 1], &[1, 10_001]] {
            assert_eq!(check_parts(bad.iter().copied()), Err(LimitError::Parts), "{bad:?}");
        }
    }

    #[test]
    fn metadata_is_held_to_what_headers_carry() {
        let headers = |name: &str, length: usize| ObjectHeaders {
            user_metadata: [(name.to_owned(), "x".repeat(length))].into(),
            ..ObjectHeaders::default()
        };
        assert!(check_headers(&headers("file-owner", 2038)).is_ok());
        assert!(matches!(check_headers(&headers("file-owner", 2039)), Err(LimitError::Metadata { size: 2049 })));
        for value in [" x", "x ", "a\nb", "\u{1}", "=?UTF-8?Q?x?="] {
            let headers =
                ObjectHeaders { user_metadata: [("x".to_owned(), value.to_owned())].into(), ..ObjectHeaders::default() };
            assert!(matches!(check_headers(&headers), Err(LimitError::MetadataValue { .. })), "{value:?}");
        }
        for name in ["", "A", "a b", "a:", "ä", "a\n"] {
            assert!(matches!(check_headers(&headers(name, 1)), Err(LimitError::MetadataName { .. })), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn every_object_fits_into_its_parts(size in 0..=MOST_OBJECT) {
            let part = part_size_for(size).expect("not too large");
            prop_assert!((LEAST_PART..=MOST_SINGLE).contains(&part) && size.div_ceil(part) <= u64::from(MOST_PARTS));
        }
    }
}
