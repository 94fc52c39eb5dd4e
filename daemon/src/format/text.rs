//! Names and paths as text: any bytes in, UTF-8 out, and back.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// Bytes as text: UTF-8 is itself, but that `%`, control characters and bytes that are none of it are percent-encoded.
pub fn encode(bytes: &[u8]) -> String {
    let escaped = |bytes: &[u8]| percent_encode(bytes, NON_ALPHANUMERIC).to_string();
    let piece = |chunk: std::str::Utf8Chunk<'_>| {
        let plain = |c: char| if c == '%' || c.is_control() { escaped(c.to_string().as_bytes()) } else { c.to_string() };
        chunk.valid().chars().map(plain).collect::<String>() + &escaped(chunk.invalid())
    };
    bytes.utf8_chunks().map(piece).collect()
}

/// The bytes that [`encode`] made a text of.
pub fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}
