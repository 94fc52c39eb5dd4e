//! The little of HTTP/1.1 that GETs need: a request without a body as bytes, an answer's head, and where its body ends.
//!
//! Reading is total: what is no answer is an error, and never content.

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};

/// The longest head of an answer, in bytes. S3's have some hundred bytes, and user metadata of 2 KiB.
pub const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;
/// The longest line in front of a chunk, or behind the last one, in bytes.
const MAX_LINE: usize = 8 << 10;

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No HTTP.
    #[error("not an HTTP answer: {0}")]
    Head(String),
    /// Too much of it.
    #[error("the head of the answer is longer than {MAX_HEAD} bytes")]
    LongHead,
    /// Two lengths that differ, or one that is no number.
    #[error("the answer's length is not to be made out")]
    Length,
    /// What stands in front of a chunk is no size, or something else than a line's end behind it.
    #[error("the answer's chunks are not to be made out")]
    Chunk,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// As its chunks say.
    Chunked,
    /// With the connection.
    Connection,
}

/// An answer's head.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether another request may follow on the connection.
    pub keeps_alive: bool,
}

/// A request without a body, as it is sent.
pub fn encode<B>(request: &Request<B>) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut out = Vec::with_capacity(1024);
    out.extend([request.method().as_str(), " ", path, " HTTP/1.1\r\n"].map(str::as_bytes).concat());
    for (name, value) in request.headers() {
        out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    out.extend(b"\r\n");
    out
}

/// Takes an answer's head off the front of what was received; `None`: there is more to come of it. Interim answers (100 to 199) are passed over.
pub fn take_head(received: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    loop {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut lines);
        let len = match answer.parse(received) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if received.len() > MAX_HEAD => return Err(Malformed::LongHead),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(Malformed::Head(error.to_string())),
        };
        let head = head(&answer)?;
        received.advance(len);
        if !head.status.is_informational() {
            return Ok(Some(head));
        }
    }
}

fn head(answer: &httparse::Response<'_, '_>) -> Result<Head, Malformed> {
    let bad = |what: &str| Malformed::Head(what.to_owned());
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| bad("no status"))?;
    let version = if answer.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut headers = HeaderMap::with_capacity(answer.headers.len());
    for line in answer.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| bad("a header's name"))?;
        headers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| bad("a header's value"))?);
    }
    let framing = framing(status, &headers)?;
    let says = |word: &str| has_word(&headers, header::CONNECTION, word);
    let open = if version == Version::HTTP_11 { !says("close") } else { says("keep-alive") };
    Ok(Head { status, headers, framing, keeps_alive: open && framing != Framing::Connection })
}

fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

fn framing(status: StatusCode, headers: &HeaderMap) -> Result<Framing, Malformed> {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || status.is_informational() {
        return Ok(Framing::Length(0));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // RFC 9112, 6.3: a length beside it does not count; of encodings we asked for none.
        let codings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
        let only = codings.len() == 1 && codings[0].as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        return if only { Ok(Framing::Chunked) } else { Err(Malformed::Length) };
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(Framing::Connection) };
    let digits = first.to_str().ok().map(str::trim).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse().ok()).ok_or(Malformed::Length)?;
    if lengths.any(|other| other != first) {
        return Err(Malformed::Length);
    }
    Ok(Framing::Length(length))
}

/// Where one is in a body of chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunks {
    /// In front of a chunk's size.
    #[default]
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// Behind a chunk, in front of its line's end.
    DataEnd,
    /// Behind the last chunk: trailers, and an empty line.
    Trailers,
    /// Behind all of it.
    Over,
}

impl Chunks {
    /// Takes off the front of what was received what is no content; `true` if what stands there now is content, or the body is over.
    pub fn skip(&mut self, received: &mut BytesMut) -> Result<bool, Malformed> {
        loop {
            *self = match *self {
                Chunks::Over => return Ok(true),
                Chunks::Data(0) => Chunks::DataEnd,
                Chunks::Data(_) => return Ok(!received.is_empty()),
                Chunks::Size => match take_line(received)? {
                    None => return Ok(false),
                    Some(line) => size(&line).map(|size| if size == 0 { Chunks::Trailers } else { Chunks::Data(size) })?,
                },
                Chunks::DataEnd => match take_line(received)? {
                    None => return Ok(false),
                    Some(line) if line.is_empty() => Chunks::Size,
                    Some(_) => return Err(Malformed::Chunk),
                },
                Chunks::Trailers => match take_line(received)? {
                    None => return Ok(false),
                    Some(line) if line.is_empty() => Chunks::Over,
                    Some(_) => Chunks::Trailers,
                },
            };
        }
    }
}

/// A line without its end.
fn take_line(received: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    let Some(at) = received.iter().position(|byte| *byte == b'\n') else {
        return if received.len() > MAX_LINE { Err(Malformed::Chunk) } else { Ok(None) };
    };
    let mut line = received.split_to(at + 1);
    if !line.ends_with(b"\r\n") {
        return Err(Malformed::Chunk);
    }
    line.truncate(at - 1);
    Ok(Some(line))
}

fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let text = std::str::from_utf8(digits).map_err(|_| Malformed::Chunk)?;
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Malformed::Chunk);
    }
    u64::from_str_radix(text, 16).map_err(|_| Malformed::Chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head_of(text: &str) -> Result<Option<Head>, Malformed> {
        take_head(&mut BytesMut::from(text))
    }

    fn framing_of(headers: &str) -> Result<(Framing, bool), Malformed> {
        let head = head_of(&format!("HTTP/1.1 206 Partial Content\r\n{headers}\r\n"))?.expect("a whole head");
        Ok((head.framing, head.keeps_alive))
    }

    #[test]
    fn a_request_is_written_as_it_is() {
        let request = Request::get("http://h/lake//a?versionId=v%201").header("host", "h").header("range", "bytes=0-3");
        let request = request.body(()).expect("a good request");
        assert_eq!(encode(&request), b"GET /lake//a?versionId=v%201 HTTP/1.1\r\nhost: h\r\nrange: bytes=0-3\r\n\r\n");
    }

    #[test]
    fn a_head_is_taken_once_it_is_whole_and_the_body_is_left() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 Partial\r\nETag: \"e\"\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..text.len() - 3 {
            assert!(head_of(&text[..end]).expect("nothing wrong yet").is_none(), "{end}");
        }
        let mut received = BytesMut::from(text);
        let head = take_head(&mut received).expect("good").expect("whole");
        assert_eq!((head.status.as_u16(), head.framing, head.keeps_alive), (206, Framing::Length(3), true));
        assert_eq!((&received[..], head.headers["etag"].as_bytes()), (b"abc".as_slice(), b"\"e\"".as_slice()));
    }

    #[test]
    fn where_a_body_ends_is_made_out_or_refused() {
        assert_eq!(framing_of("Content-Length: 7\r\nConnection: close\r\n"), Ok((Framing::Length(7), false)));
        assert_eq!(framing_of("Content-Length: 7\r\nContent-Length: 7\r\n"), Ok((Framing::Length(7), true)));
        assert_eq!(framing_of("Transfer-Encoding: Chunked\r\nContent-Length: 7\r\n"), Ok((Framing::Chunked, true)));
        assert_eq!(framing_of(""), Ok((Framing::Connection, false)));
        for wrong in
            ["Content-Length: 7\r\nContent-Length: 8\r\n", "Content-Length: +7\r\n", "Transfer-Encoding: gzip, chunked\r\n"]
        {
            assert_eq!(framing_of(wrong), Err(Malformed::Length), "{wrong}");
        }
        let old = head_of("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n").expect("good").expect("whole");
        assert!(!old.keeps_alive);
        assert_eq!(head_of("HTTP/1.1 204 None\r\n\r\n").expect("good").expect("whole").framing, Framing::Length(0));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(matches!(head_of("<Error>\r\n\r\n"), Err(Malformed::Head(_))));
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD));
        assert_eq!(head_of(&long).map(|_| ()), Err(Malformed::LongHead));
    }

    /// The content of chunks that arrive in pieces of `step` bytes, and whether they were over by then.
    fn content(text: &[u8], step: usize) -> Result<(Vec<u8>, bool), Malformed> {
        let (mut chunks, mut received, mut content) = (Chunks::default(), BytesMut::new(), Vec::new());
        for piece in text.chunks(step) {
            received.extend_from_slice(piece);
            while chunks.skip(&mut received)? && chunks != Chunks::Over {
                let Chunks::Data(left) = &mut chunks else { unreachable!("content follows") };
                let len = received.len().min(*left as usize);
                *left -= len as u64;
                content.extend_from_slice(&received.split_to(len));
            }
        }
        Ok((content, chunks == Chunks::Over))
    }

    #[test]
    fn chunks_come_together_however_they_are_cut() {
        let text = b"4;x=y\r\nabcd\r\nA \r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n";
        for step in 1..text.len() {
            assert_eq!(content(text, step), Ok((b"abcd0123456789".to_vec(), true)), "{step}");
            assert_eq!(content(&text[..text.len() - 2], step).map(|(_, over)| over), Ok(false), "the last line is missing");
        }
        for wrong in ["4\r\nabcde\r\n", "-4\r\nabcd", "\n", "fffffffffffffffff\r\n"] {
            assert_eq!(content(wrong.as_bytes(), 3), Err(Malformed::Chunk), "{wrong}");
        }
        assert_eq!(content(&[b'1'; MAX_LINE + 1], 100), Err(Malformed::Chunk), "a line without an end");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
            let _ = take_head(&mut BytesMut::from(&bytes[..]));
            let _ = content(&bytes, step);
        }
    }
}
