//! Percent-encoding as SigV4 wants it: everything but `A-Z a-z 0-9 - . _ ~` is `%XX` in upper case; `/` stays in a path.
//!
//! Keys are encoded byte for byte and never normalised: `a//b`, `.` and `..` parts go out as they are.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const IN_PATH: &AsciiSet = &STRICT.remove(b'/');

/// A key as it stands in a request's path.
pub fn path(key: &str) -> Cow<'_, str> {
    utf8_percent_encode(key, IN_PATH).into()
}

/// Joins query parameters, which must come sorted by name, into a query string that is canonical already.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut joined = String::new();
    for (name, value) in pairs {
        if !joined.is_empty() {
            joined.push('&');
        }
        joined.extend(utf8_percent_encode(name, STRICT));
        joined.push('=');
        joined.extend(utf8_percent_encode(value, STRICT));
    }
    joined
}

/// Decodes a key of a listing made with `encoding-type=url`, where a blank may be `+` (Java's form encoding, as S3 does it).
/// `None` if the bytes are not UTF-8, which S3 keys always are.
pub fn decode_listed(text: &str) -> Option<String> {
    let blanks: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    percent_decode_str(&blanks).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_keep_slashes_and_dots_and_escape_the_rest() {
        assert_eq!(path("a//b/../c/./"), "a//b/../c/./");
        assert_eq!(path("ä b+c%\n"), "%C3%A4%20b%2Bc%25%0A");
        assert_eq!(path("A-z_0.9~"), "A-z_0.9~");
    }

    #[test]
    fn queries_escape_slashes_and_keep_empty_values() {
        assert_eq!(query(&[("delimiter", "/"), ("prefix", "")]), "delimiter=%2F&prefix=");
    }

    #[test]
    fn listed_blanks_come_in_both_forms() {
        assert_eq!(decode_listed("a+b%20c%2Bd"), Some("a b c+d".into()));
        assert_eq!(decode_listed("%ff"), None);
    }

    proptest! {
        #[test]
        fn every_key_survives_the_trip(key in ".*") {
            prop_assert_eq!(decode_listed(&path(&key)), Some(key.clone()));
            let query = query(&[("prefix", &key)]);
            prop_assert_eq!(decode_listed(&query["prefix=".len()..]), Some(key));
        }
    }
}
