//! Multipart uploads.

use super::convert::{etag, shown_version_of, timestamp, user_metadata, write_condition};
use super::list::Names;
use super::receive::{claim, receive};
use super::{Backend, Reply, reply};
use crate::store::{Object, ObjectHeaders, Part, UnixMs, WantedPart};
use s3s::dto::*;
use s3s::{S3Request, s3_error};

const MOST_PARTS: i32 = 10_000;
const MOST_LISTED: i32 = 1_000;

pub(super) async fn create(
    backend: &Backend,
    request: S3Request<CreateMultipartUploadInput>,
) -> Reply<CreateMultipartUploadOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let headers = ObjectHeaders {
        user: user_metadata(input.metadata),
        content_type: input.content_type,
        cache_control: input.cache_control,
        content_disposition: input.content_disposition,
        content_encoding: input.content_encoding,
        content_language: input.content_language,
    };
    let has_crc32c = input.checksum_algorithm.as_ref().is_some_and(|algorithm| algorithm.as_str() == ChecksumAlgorithm::CRC32C);
    let id = bucket.uploads.lock().create(&input.key, headers, has_crc32c);
    reply(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        checksum_algorithm: input.checksum_algorithm,
        ..Default::default()
    })
}

pub(super) async fn upload(backend: &Backend, request: S3Request<UploadPartInput>) -> Reply<UploadPartOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    if !(1..=MOST_PARTS).contains(&input.part_number) {
        return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
    }
    let has_crc32c = bucket.uploads.lock().get(&input.key, &input.upload_id)?.has_crc32c;
    if input.checksum_crc32c.is_some() && !has_crc32c {
        let message = "Checksum Type mismatch occurred, expected checksum Type: null, actual checksum Type: crc32c";
        return Err(s3_error!(InvalidRequest, "{message}"));
    }
    let claim = claim!(input);
    let received = receive(backend, input.body, claim).await?;
    let crc32c = received.checksums.checksum_crc32c.clone();
    let part = Part { body: received.body, etag: received.etag, modified: UnixMs::now(), crc32c: crc32c.clone() };
    bucket.uploads.lock().get(&input.key, &input.upload_id)?.parts.insert(input.part_number, part);
    reply(UploadPartOutput { e_tag: Some(etag(&received.etag)), checksum_crc32c: crc32c, ..Default::default() })
}

pub(super) async fn complete(
    backend: &Backend,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Reply<CompleteMultipartUploadOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let condition = write_condition(input.if_match, input.if_none_match)?;
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let wanted = |part: CompletedPart| WantedPart {
        number: part.part_number.unwrap_or(0),
        etag: part.e_tag.map(ETag::into_value),
        crc32c: part.checksum_crc32c,
    };
    let wanted: Vec<_> = parts.into_iter().map(wanted).collect();
    // Held to the end: of two completions at once, the second must not find the upload.
    let mut uploads = bucket.uploads.lock();
    let upload = uploads.get(&input.key, &input.upload_id)?;
    let (body, tag) = upload.assemble(&wanted)?;
    let object = Object { body, etag: tag, headers: upload.headers.clone().boxed() };
    let revision = bucket.write(&input.key, object, UnixMs::now(), &condition)?;
    uploads.remove(&input.key, &input.upload_id)?;
    drop(uploads);
    reply(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(&tag)),
        version_id: shown_version_of(&bucket, &revision),
        ..Default::default()
    })
}

pub(super) async fn abort(backend: &Backend, request: S3Request<AbortMultipartUploadInput>) -> Reply<AbortMultipartUploadOutput> {
    let input = request.input;
    backend.store.bucket(&input.bucket)?.uploads.lock().remove(&input.key, &input.upload_id)?;
    reply(AbortMultipartUploadOutput::default())
}

pub(super) async fn parts(backend: &Backend, request: S3Request<ListPartsInput>) -> Reply<ListPartsOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let mut uploads = bucket.uploads.lock();
    let upload = uploads.get(&input.key, &input.upload_id)?;
    let limit = input.max_parts.unwrap_or(MOST_LISTED).clamp(0, MOST_LISTED);
    let after = input.part_number_marker.unwrap_or(0);
    let mut following = upload.parts.range(after.saturating_add(1)..);
    let page: Vec<_> = following.by_ref().take(limit as usize).map(|(number, part)| describe(*number, part)).collect();
    let truncated = following.next().is_some();
    reply(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: Some(limit),
        part_number_marker: Some(after),
        next_part_number_marker: page.last().filter(|_| truncated).and_then(|part| part.part_number),
        is_truncated: Some(truncated),
        parts: Some(page),
        ..Default::default()
    })
}

fn describe(number: i32, part: &Part) -> s3s::dto::Part {
    s3s::dto::Part {
        part_number: Some(number),
        e_tag: Some(etag(&part.etag)),
        size: Some(part.body.len() as i64),
        last_modified: Some(timestamp(part.modified)),
        ..Default::default()
    }
}

pub(super) async fn uploads(
    backend: &Backend,
    request: S3Request<ListMultipartUploadsInput>,
) -> Reply<ListMultipartUploadsOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let uploads = bucket.uploads.lock();
    let names = Names::new(input.encoding_type.as_ref())?;
    let limit = input.max_uploads.unwrap_or(MOST_LISTED).clamp(0, MOST_LISTED) as usize;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
    let follows = |key: &str, id: &str| match &after {
        (marker, None) => key > marker.as_str(),
        (marker, Some(upload)) => (key, id) > (marker.as_str(), upload.as_str()),
    };
    let all = uploads.sorted();
    let mut following = all.iter().filter(|(id, u)| u.key.starts_with(&prefix) && follows(&u.key, id));
    let page: Vec<_> = following.by_ref().take(limit).collect();
    let truncated = following.next().is_some();
    let last = page.last().filter(|_| truncated);
    reply(ListMultipartUploadsOutput {
        next_key_marker: last.map(|(_, upload)| names.show(&upload.key)),
        next_upload_id_marker: last.map(|(id, _)| id.to_string()),
        bucket: Some(input.bucket),
        prefix: input.prefix.map(|prefix| names.show(&prefix)),
        key_marker: input.key_marker.map(|marker| names.show(&marker)),
        encoding_type: input.encoding_type,
        upload_id_marker: input.upload_id_marker,
        max_uploads: Some(limit as i32),
        is_truncated: Some(truncated),
        uploads: Some(
            page.iter()
                .map(|(id, upload)| MultipartUpload {
                    key: Some(names.show(&upload.key)),
                    upload_id: Some(id.to_string()),
                    initiated: Some(timestamp(upload.initiated)),
                    ..Default::default()
                })
                .collect(),
        ),
        ..Default::default()
    })
}
