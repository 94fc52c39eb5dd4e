//! User metadata as headers. S3 takes ASCII, and RFC 2047 encoded words for the rest: it decodes these before it stores them, and answers in
//! encoded words of its own. Other stores keep them as they are. Either way what is read back is what was written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// Bytes of text in one encoded word; RFC 2047 allows a word 75 characters in all.
const WORD: usize = 45;

/// A value as a header can carry it.
pub fn encode(value: &str) -> Cow<'_, str> {
    // Headers lose blanks at their ends, and signatures fold those in the middle.
    let is_plain = value.bytes().all(|c| (b' '..=b'~').contains(&c)) && value.trim() == value && !value.contains("  ");
    if is_plain && !value.contains("=?") {
        return value.into();
    }
    let mut words = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let mut end = rest.len().min(WORD);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, following) = rest.split_at(end);
        words.push(format!("=?UTF-8?B?{}?=", STANDARD.encode(word)));
        rest = following;
    }
    words.join(" ").into()
}

/// The value of a header; what is no encoded word stays as it is.
pub fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let (before, word) = rest.split_at(start);
        let Some((bytes, following)) = decode_word(word) else {
            decoded.push_str(&rest[..start + 2]);
            rest = &rest[start + 2..];
            after_word = false;
            continue;
        };
        // Blanks between two encoded words are not part of the text.
        if !(after_word && before.bytes().all(|c| c == b' ' || c == b'\t')) {
            decoded.push_str(before);
        }
        decoded.push_str(&bytes);
        rest = following;
        after_word = true;
    }
    decoded.push_str(rest);
    decoded
}

/// An encoded word at the start of the text, and what follows it.
fn decode_word(text: &str) -> Option<(String, &str)> {
    let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
    let (kind, rest) = rest.split_once('?')?;
    let (content, rest) = rest.split_once("?=")?;
    if !(charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")) {
        return None;
    }
    let bytes = match kind {
        "B" | "b" => STANDARD.decode(content).ok()?,
        "Q" | "q" => decode_quoted(content)?,
        _ => return None,
    };
    Some((String::from_utf8(bytes).ok()?, rest))
}

fn decode_quoted(content: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(content.len());
    let mut rest = content.as_bytes();
    while let Some((first, following)) = rest.split_first() {
        rest = following;
        bytes.push(match first {
            b'_' => b' ',
            b'=' => {
                let (digits, following) = following.split_at_checked(2)?;
                rest = following;
                let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|c| c.is_ascii_hexdigit()))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => *other,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_values_stay_readable() {
        for value in ["0100644", "forebay/1 0f", "a = b?", ""] {
            assert_eq!(encode(value), value);
        }
        assert_eq!(encode("grün"), "=?UTF-8?B?Z3LDvG4=?=");
    }

    #[test]
    fn what_s3_answers_is_read() {
        assert_eq!(decode("=?UTF-8?Q?gr=C3=BCn_und_blau?="), "grün und blau");
        assert_eq!(decode("=?UTF-8?B?Z3LDvG4=?= =?utf-8?b?IA==?=x"), "grün x");
        for text in ["=?", "=?UTF-8?B?!?=", "=?latin1?Q?a?=", "=?UTF-8?Q?=C?=", "=?UTF-8?Q?=+1?=", "=?UTF-8?Q?=FF?=", "a =? b"] {
            assert_eq!(decode(text), text);
        }
    }

    proptest! {
        #[test]
        fn every_value_survives(value in any::<String>()) {
            let encoded = encode(&value);
            prop_assert!(encoded.bytes().all(|c| (b' '..=b'~').contains(&c)) && encoded.trim() == encoded);
            prop_assert!(encoded == value.as_str() || encoded.split(' ').all(|word| word.len() <= 75));
            prop_assert_eq!(decode(&encoded), value);
        }

        #[test]
        fn any_header_is_some_value(text in "[=?UTFutf8BbQq_ -]{0,40}") {
            let _ = decode(&text);
        }
    }
}
