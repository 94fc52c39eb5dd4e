//! GetObject and HeadObject: which version, whether the conditions hold, which bytes.

use super::convert::{etag, metadata, shown_version_of, timestamp};
use super::error::{invalid_range, not_modified, precondition_failed};
use super::{Backend, Reply, reply};
use crate::store::{Body, Bucket, Etag, Object, ObjectHeaders, Revision};
use crate::stream::BodyStream;
use http::StatusCode;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use std::sync::Arc;

/// The conditions of a read.
struct Conditions<'a> {
    if_match: Option<&'a ETagCondition>,
    if_none_match: Option<&'a ETagCondition>,
    if_modified_since: Option<&'a Timestamp>,
    if_unmodified_since: Option<&'a Timestamp>,
}

impl Conditions<'_> {
    /// In the order of RFC 9110, 13.2.2: an ETag condition makes the date condition of its kind void.
    fn check(&self, revision: &Revision, etag: &Etag) -> S3Result<()> {
        let modified = timestamp(revision.modified.whole_seconds());
        match (self.if_match, self.if_unmodified_since) {
            (Some(wanted), _) if !matches(wanted, etag) => return Err(precondition_failed("If-Match")),
            (None, Some(since)) if modified > *since => return Err(precondition_failed("If-Unmodified-Since")),
            _ => {}
        }
        match (self.if_none_match, self.if_modified_since) {
            (Some(unwanted), _) if matches(unwanted, etag) => Err(not_modified(&format!("\"{etag}\""))),
            (None, Some(since)) if modified <= *since => Err(not_modified(&format!("\"{etag}\""))),
            _ => Ok(()),
        }
    }
}

/// `s3s` reads a list of ETags (`"a", "b"`) as one; its parts are compared here.
fn matches(condition: &ETagCondition, etag: &Etag) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => {
            let etag = etag.to_string();
            wanted.value().split(',').any(|one| one.trim().trim_start_matches("W/").trim_matches('"') == etag)
        }
    }
}

/// The bytes to send.
struct Span {
    range: std::ops::Range<u64>,
    /// Whether a part of the object was asked for (status 206).
    partial: bool,
}

fn span(object: &Object, range: Option<&Range>, part_number: Option<i32>) -> S3Result<Span> {
    let size = object.body.len();
    let whole = Span { range: 0..size, partial: false };
    match (range, part_number) {
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter")),
        (None, None) => Ok(whole),
        (Some(range), None) => {
            let range = resolve(range, size).ok_or_else(|| invalid_range(size))?;
            Ok(Span { range, partial: true })
        }
        (None, Some(number)) => {
            let range = part_range(object, number).ok_or_else(invalid_part_number)?;
            Ok(Span { range, partial: true })
        }
    }
}

/// The bytes that a range header names; `None` if none of them exist (also in an empty object).
fn resolve(range: &Range, size: u64) -> Option<std::ops::Range<u64>> {
    let (start, end) = match *range {
        Range::Int { first, last } => (first, last.map_or(size, |last| last.saturating_add(1).min(size))),
        Range::Suffix { length } => (size - length.min(size), size),
    };
    (start < end).then_some(start..end)
}

fn part_range(object: &Object, number: i32) -> Option<std::ops::Range<u64>> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    let Some(parts) = object.parts() else { return (index == 0).then_some(0..object.body.len()) };
    let start = parts.iter().take(index).map(Body::len).sum();
    parts.get(index).map(|part| start..start + part.len())
}

/// 416 as well, under a code that `s3s` does not list.
fn invalid_part_number() -> S3Error {
    let mut error =
        S3Error::with_message(S3ErrorCode::Custom("InvalidPartNumber".into()), "The requested partnumber is not satisfiable");
    error.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
    error
}

/// What GET and HEAD have in common.
struct Found {
    bucket: Arc<Bucket>,
    revision: Arc<Revision>,
}

impl Found {
    fn find(backend: &Backend, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Found> {
        let bucket = backend.store.bucket(bucket)?;
        let revision = bucket.find(key, version)?;
        Ok(Found { bucket, revision })
    }

    fn object(&self) -> &Object {
        self.revision.object.as_ref().expect("Bucket::find yields no delete markers")
    }

    fn content_range(&self, span: &Span) -> Option<String> {
        let size = self.object().body.len();
        // A part of an empty object has no first byte to name.
        let last = span.range.end.checked_sub(1)?;
        span.partial.then(|| format!("bytes {}-{last}/{size}", span.range.start))
    }
}

/// The fields that the inputs of GET and HEAD have in common, resolved to a version and a range of it.
macro_rules! resolve {
    ($backend:expr, $input:expr) => {{
        let found = Found::find($backend, &$input.bucket, &$input.key, $input.version_id.as_deref())?;
        let conditions = Conditions {
            if_match: $input.if_match.as_ref(),
            if_none_match: $input.if_none_match.as_ref(),
            if_modified_since: $input.if_modified_since.as_ref(),
            if_unmodified_since: $input.if_unmodified_since.as_ref(),
        };
        conditions.check(&found.revision, &found.object().etag)?;
        let span = span(found.object(), $input.range.as_ref(), $input.part_number)?;
        (found, span)
    }};
}

/// An output of GET or HEAD, less the body: `s3s` has a type for each, with the same fields.
macro_rules! describe {
    ($Output:ident, $input:expr, $found:expr, $span:expr) => {{
        let object = $found.object();
        let none = ObjectHeaders::default();
        let headers = object.headers.as_deref().unwrap_or(&none);
        $Output {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(($span.range.end - $span.range.start) as i64),
            content_range: $found.content_range(&$span),
            e_tag: Some(etag(&object.etag)),
            last_modified: Some(timestamp($found.revision.modified)),
            version_id: shown_version_of(&$found.bucket, &$found.revision),
            metadata: metadata(headers),
            content_type: Some(content_type(headers)),
            cache_control: headers.cache_control.clone(),
            content_disposition: headers.content_disposition.clone(),
            content_encoding: headers.content_encoding.clone(),
            content_language: headers.content_language.clone(),
            parts_count: $input.part_number.and_then(|_| object.parts()).map(|parts| parts.len() as i32),
            ..Default::default()
        }
    }};
}

pub(super) async fn get(backend: &Backend, request: S3Request<GetObjectInput>) -> Reply<GetObjectOutput> {
    let (found, span) = resolve!(backend, request.input);
    let mut output = describe!(GetObjectOutput, request.input, found, span);
    let stream = BodyStream::new(&found.object().body, span.range, &backend.buffers);
    output.body = Some(StreamingBlob::new(stream));
    reply(output)
}

pub(super) async fn head(backend: &Backend, request: S3Request<HeadObjectInput>) -> Reply<HeadObjectOutput> {
    let (found, span) = resolve!(backend, request.input);
    reply(describe!(HeadObjectOutput, request.input, found, span))
}

fn content_type(headers: &ObjectHeaders) -> String {
    headers.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned())
}
