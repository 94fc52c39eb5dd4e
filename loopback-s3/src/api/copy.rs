//! CopyObject and UploadPartCopy. Bytes are shared, not copied.

use super::convert::{etag, shown_version_of, timestamp, user_metadata, write_condition};
use super::error::{invalid_range, precondition_failed};
use super::receive::crc32c;
use super::{Backend, Reply, reply};
use crate::store::{Bucket, Object, ObjectHeaders, Part, Revision, UnixMs};
use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};
use std::sync::Arc;

/// The object to copy from.
struct Source {
    bucket: Arc<Bucket>,
    revision: Arc<Revision>,
}

impl Source {
    fn find(backend: &Backend, source: &CopySource) -> S3Result<Source> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "Access points are not implemented"));
        };
        let bucket = backend.store.bucket(bucket)?;
        let revision = bucket.find(key, version_id.as_deref())?;
        Ok(Source { bucket, revision })
    }

    fn object(&self) -> &Object {
        self.revision.object.as_ref().expect("Bucket::find yields no delete markers")
    }

    fn version(&self) -> Option<String> {
        shown_version_of(&self.bucket, &self.revision)
    }

    fn check(&self, conditions: &SourceConditions<'_>) -> S3Result<()> {
        let tag = self.object().etag.to_string();
        let is = |condition: &ETagCondition| condition.as_etag().is_none_or(|etag| etag.value() == tag);
        let modified = timestamp(self.revision.modified.whole_seconds());
        let failed = match conditions {
            SourceConditions { if_match: Some(wanted), .. } if !is(wanted) => "x-amz-copy-source-if-match",
            SourceConditions { if_none_match: Some(unwanted), .. } if is(unwanted) => "x-amz-copy-source-if-none-match",
            SourceConditions { if_match: None, unmodified_since: Some(since), .. } if modified > **since => {
                "x-amz-copy-source-if-unmodified-since"
            }
            SourceConditions { if_none_match: None, modified_since: Some(since), .. } if modified <= **since => {
                "x-amz-copy-source-if-modified-since"
            }
            _ => return Ok(()),
        };
        Err(precondition_failed(failed))
    }
}

struct SourceConditions<'a> {
    if_match: Option<&'a ETagCondition>,
    if_none_match: Option<&'a ETagCondition>,
    modified_since: Option<&'a Timestamp>,
    unmodified_since: Option<&'a Timestamp>,
}

pub(super) async fn copy(backend: &Backend, request: S3Request<CopyObjectInput>) -> Reply<CopyObjectOutput> {
    // `s3s` knows these two headers for PutObject only.
    let header = |name: &str| {
        let value = request.headers.get(name)?;
        ETagCondition::parse_http_header(value.as_bytes()).ok()
    };
    let condition = write_condition(header("if-match"), header("if-none-match"))?;
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let source = Source::find(backend, &input.copy_source)?;
    source.check(&SourceConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        modified_since: input.copy_source_if_modified_since.as_ref(),
        unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    })?;
    let replace = input.metadata_directive.as_ref().is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
    if !replace && is_same(&input) {
        let message = "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata.";
        return Err(s3_error!(InvalidRequest, "{message}"));
    }
    let from = source.object();
    let headers = match replace {
        true => headers_of(&input).boxed(),
        false => from.headers.clone(),
    };
    let object = Object { body: from.body.clone(), etag: from.etag, headers };
    let revision = bucket.write(&input.key, object, UnixMs::now(), &condition)?;
    let result = CopyObjectResult {
        e_tag: Some(etag(&from.etag)),
        last_modified: Some(timestamp(revision.modified)),
        ..Default::default()
    };
    reply(CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: source.version(),
        version_id: shown_version_of(&bucket, &revision),
        ..Default::default()
    })
}

fn is_same(input: &CopyObjectInput) -> bool {
    match &input.copy_source {
        CopySource::Bucket { bucket, key, version_id } => {
            **bucket == *input.bucket && **key == *input.key && version_id.is_none()
        }
        _ => false,
    }
}

fn headers_of(input: &CopyObjectInput) -> ObjectHeaders {
    ObjectHeaders {
        user: user_metadata(input.metadata.clone()),
        content_type: input.content_type.clone(),
        cache_control: input.cache_control.clone(),
        content_disposition: input.content_disposition.clone(),
        content_encoding: input.content_encoding.clone(),
        content_language: input.content_language.clone(),
    }
}

pub(super) async fn copy_part(backend: &Backend, request: S3Request<UploadPartCopyInput>) -> Reply<UploadPartCopyOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let source = Source::find(backend, &input.copy_source)?;
    source.check(&SourceConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        modified_since: input.copy_source_if_modified_since.as_ref(),
        unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    })?;
    let body = &source.object().body;
    let range = part_range(input.copy_source_range.as_deref(), body.len())?;
    let body = body.slice(range);
    let has_crc32c = bucket.uploads.lock().get(&input.key, &input.upload_id)?.has_crc32c;
    let crc32c = has_crc32c.then(|| crc32c(&body));
    let part = Part { body, etag: crate::store::Etag::opaque(), modified: UnixMs::now(), crc32c: crc32c.clone() };
    let result = CopyPartResult {
        e_tag: Some(etag(&part.etag)),
        last_modified: Some(timestamp(part.modified)),
        checksum_crc32c: crc32c,
        ..Default::default()
    };
    bucket.uploads.lock().get(&input.key, &input.upload_id)?.parts.insert(input.part_number, part);
    reply(UploadPartCopyOutput { copy_part_result: Some(result), copy_source_version_id: source.version(), ..Default::default() })
}

/// Unlike a GET's, this range must lie within the object.
fn part_range(header: Option<&str>, size: u64) -> S3Result<std::ops::Range<u64>> {
    let Some(header) = header else { return Ok(0..size) };
    match Range::parse(header) {
        Ok(Range::Int { first, last: Some(last) }) if last < size => Ok(first..last + 1),
        Ok(_) => Err(invalid_range(size)),
        Err(_) => Err(s3_error!(InvalidArgument, "The x-amz-copy-source-range value must be of the form bytes=first-last")),
    }
}
