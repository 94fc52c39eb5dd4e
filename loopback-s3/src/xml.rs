//! Control characters in the XML that `s3s` writes.
//!
//! `s3s` writes keys with their control characters as they are. A parser reads a bare carriage return as a line feed, so such a
//! key would come back changed; S3 writes references (`&#xD;`), and so do we.

use bytes::Bytes;
use http::Response;
use s3s::Body;

/// Replaces control characters other than tab and line feed by references. Bodies that are streamed pass as they are.
pub(crate) fn escape_controls(reply: Response<Body>) -> Response<Body> {
    let Some(xml) = reply.body().bytes().filter(|xml| xml.iter().any(is_control)) else { return reply };
    reply.map(|_| Body::from(escape(&xml)))
}

fn is_control(byte: &u8) -> bool {
    *byte < b' ' && *byte != b'\t' && *byte != b'\n'
}

fn escape(xml: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(xml.len() + 64);
    for byte in xml {
        match is_control(byte) {
            true => out.extend_from_slice(format!("&#x{byte:X};").as_bytes()),
            false => out.push(*byte),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_characters_change() {
        assert_eq!(escape("<K>a\rb\u{1}\t\né</K>".as_bytes()), "<K>a&#xD;b&#x1;\t\né</K>");
    }
}
