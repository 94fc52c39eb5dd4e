//! Checks of the headers of a success, before a byte of it is believed: the object's version, its size, and exactly the
//! range that was asked for.

use crate::repository::header_text;
use crate::repository::time::parse_http;
use crate::repository::write::{SystemHeaders, same_etag};
use crate::repository::{GetRequest, ObjectHead, Pin, StoreError};
use http::{HeaderMap, StatusCode, header};
use std::collections::BTreeMap;
use std::ops::Range;

/// What the headers of a good answer say.
#[derive(Debug, PartialEq, Eq)]
pub struct Announced {
    /// The object.
    pub head: ObjectHead,
    /// The part of it that follows.
    pub range: Range<u64>,
}

/// An answer that must not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// Another version than the pinned one.
    #[error("the answer has another ETag than the pinned one")]
    OtherVersion,
    /// A header is missing or does not parse.
    #[error("the answer has no valid {0} header")]
    BadHeader(&'static str),
    /// The whole object instead of the part asked for.
    #[error("the store ignores ranges")]
    RangeIgnored,
    /// Another part of the object than asked for.
    #[error("asked for bytes {asked}, the answer has {got}")]
    OtherRange {
        /// The request.
        asked: String,
        /// The answer.
        got: String,
    },
    /// Content-Length and Content-Range disagree.
    #[error("the answer's Content-Length is {length} for a range of {range} bytes")]
    OtherLength {
        /// Content-Length.
        length: u64,
        /// The range's length.
        range: u64,
    },
    /// A success that is none of those a GET may have.
    #[error("unexpected status {0}")]
    OddStatus(u16),
}

impl BadAnswer {
    /// As the store's error about a key. A mangled answer is worth another try: something between here and the store
    /// spoilt it.
    pub fn into_error(self, key: &str) -> StoreError {
        let what = key.to_owned();
        match self {
            BadAnswer::OtherVersion => StoreError::Changed { key: what },
            BadAnswer::OddStatus(_) | BadAnswer::RangeIgnored => StoreError::Permanent { what, message: self.to_string() },
            _ => StoreError::Transient { what, message: self.to_string() },
        }
    }
}

/// Checks the headers of a successful GET.
pub fn check_get(request: &GetRequest, status: StatusCode, headers: &HeaderMap) -> Result<Announced, BadAnswer> {
    let length = number(headers, header::CONTENT_LENGTH);
    let (range, size) = match status {
        StatusCode::PARTIAL_CONTENT => {
            let (range, size) = content_range(headers).ok_or(BadAnswer::BadHeader("Content-Range"))?;
            (range, size)
        }
        StatusCode::OK => {
            let length = length.ok_or(BadAnswer::BadHeader("Content-Length"))?;
            (0..length, length)
        }
        other => return Err(BadAnswer::OddStatus(other.as_u16())),
    };
    let asked = request.range.clone().unwrap_or(0..u64::MAX);
    // A range may reach beyond the end; the answer then stops at the end.
    if range != (asked.start..asked.end.min(size)) {
        if status == StatusCode::OK {
            return Err(BadAnswer::RangeIgnored);
        }
        let text = |r: &Range<u64>| format!("{}..{}", r.start, r.end);
        return Err(BadAnswer::OtherRange { asked: text(&asked), got: format!("{} of {size}", text(&range)) });
    }
    if let Some(length) = length.filter(|length| *length != range.end - range.start) {
        return Err(BadAnswer::OtherLength { length, range: range.end - range.start });
    }
    let head = head(headers, size)?;
    if let Some(pin) = &request.pin
        && !same_etag(&pin.etag, &head.pin.etag)
    {
        return Err(BadAnswer::OtherVersion);
    }
    Ok(Announced { head, range })
}

/// Checks the headers of a successful HEAD.
pub fn check_head(headers: &HeaderMap) -> Result<ObjectHead, BadAnswer> {
    let size = number(headers, header::CONTENT_LENGTH).ok_or(BadAnswer::BadHeader("Content-Length"))?;
    head(headers, size)
}

fn head(headers: &HeaderMap, size: u64) -> Result<ObjectHead, BadAnswer> {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let etag = text("etag").filter(|etag| !etag.is_empty()).ok_or(BadAnswer::BadHeader("ETag"))?;
    let modified_ns = text("last-modified").and_then(|t| parse_http(&t)).ok_or(BadAnswer::BadHeader("Last-Modified"))?;
    let pin = Pin { etag, version: text("x-amz-version-id").filter(|version| !version.is_empty()) };
    Ok(ObjectHead { size, pin, modified_ns, user_metadata: user_metadata(headers), system: SystemHeaders::pick(text) })
}

fn user_metadata(headers: &HeaderMap) -> BTreeMap<String, String> {
    let own = headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix("x-amz-meta-")?, value)));
    own.map(|(name, value)| (name.to_owned(), header_text::decode(&String::from_utf8_lossy(value.as_bytes())))).collect()
}

fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `bytes 0-9/100` as `(0..10, 100)`.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.trim();
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let fixed = [("etag", "\"e\""), ("last-modified", "Mon, 12 Oct 2009 17:50:30 GMT")];
        let all = fixed.iter().chain(pairs);
        all.map(|(n, v)| (http::HeaderName::from_static(n), v.parse().expect("a value"))).collect()
    }

    fn ask(range: Option<Range<u64>>, status: u16, pairs: &[(&'static str, &str)]) -> Result<Range<u64>, BadAnswer> {
        let request = GetRequest { key: "k".into(), range, pin: Some(Pin { etag: "\"e\"".into(), version: None }) };
        check_get(&request, StatusCode::from_u16(status).expect("a status"), &headers(pairs)).map(|announced| announced.range)
    }

    #[test]
    fn exactly_what_was_asked_is_accepted() {
        assert_eq!(ask(Some(10..20), 206, &[("content-range", "bytes 10-19/100"), ("content-length", "10")]), Ok(10..20));
        assert_eq!(ask(Some(90..120), 206, &[("content-range", "bytes 90-99/100")]), Ok(90..100));
        assert_eq!(ask(None, 200, &[("content-length", "7")]), Ok(0..7));
        assert_eq!(ask(Some(0..7), 200, &[("content-length", "7")]), Ok(0..7));
    }

    #[test]
    fn anything_else_is_refused() {
        let whole = [("content-length", "100")];
        assert_eq!(ask(Some(10..20), 200, &whole), Err(BadAnswer::RangeIgnored));
        for got in ["bytes 10-18/100", "bytes 11-20/100", "bytes 10-20/100", "bytes 0-9/100"] {
            assert!(matches!(ask(Some(10..20), 206, &[("content-range", got)]), Err(BadAnswer::OtherRange { .. })), "{got}");
        }
        for got in ["bytes 10-19/*", "bytes 19-10/100", "bytes 10-19/15", "10-19/100", "bytes x-19/100"] {
            assert_eq!(ask(Some(10..20), 206, &[("content-range", got)]), Err(BadAnswer::BadHeader("Content-Range")), "{got}");
        }
        let short = [("content-range", "bytes 10-19/100"), ("content-length", "9")];
        assert!(matches!(ask(Some(10..20), 206, &short), Err(BadAnswer::OtherLength { .. })));
        assert_eq!(ask(None, 200, &[]), Err(BadAnswer::BadHeader("Content-Length")));
        assert_eq!(ask(None, 204, &whole), Err(BadAnswer::OddStatus(204)));
    }

    #[test]
    fn another_version_is_never_content() {
        let request = GetRequest { key: "k".into(), range: None, pin: Some(Pin { etag: "old".into(), version: None }) };
        let got = check_get(&request, StatusCode::OK, &headers(&[("content-length", "7")]));
        assert_eq!(got, Err(BadAnswer::OtherVersion));
    }

    #[test]
    fn metadata_comes_without_its_prefix() {
        let head = check_head(&headers(&[("content-length", "1"), ("x-amz-meta-file-owner", "7"), ("x-amz-version-id", "v")]));
        let head = head.expect("good");
        assert_eq!(head.user_metadata.get("file-owner").map(String::as_str), Some("7"));
        assert_eq!(head.pin.version.as_deref(), Some("v"));
    }

    proptest! {
        #[test]
        fn any_content_range_is_read_or_refused(text in "[ -~]{0,40}") {
            let _ = ask(Some(0..10), 206, &[("content-range", &text)]);
        }
    }
}
