//! Refusals of the store as S3's error codes.

use crate::store::{Refusal, VersionId};
use http::{HeaderMap, HeaderValue};
use s3s::{S3Error, S3ErrorCode, s3_error};

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> S3Error {
        match refusal {
            Refusal::NoSuchBucket => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
            Refusal::BucketExists => s3_error!(BucketAlreadyOwnedByYou, "You already own this bucket"),
            Refusal::BucketNotEmpty => s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"),
            Refusal::NoSuchKey { marker } => with_marker(s3_error!(NoSuchKey, "The specified key does not exist."), marker),
            Refusal::NoSuchVersion => s3_error!(NoSuchVersion, "The specified version does not exist."),
            Refusal::IsDeleteMarker { version } => with_marker(
                s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource."),
                Some(version),
            ),
            Refusal::PreconditionFailed { condition } => precondition_failed(condition),
            Refusal::NoSuchUpload => s3_error!(NoSuchUpload, "The specified upload does not exist."),
            Refusal::InvalidPart { number } => s3_error!(InvalidPart, "Part {number} was not uploaded, or with another ETag."),
            Refusal::ChecksumMissing { number } => s3_error!(
                InvalidRequest,
                "The upload was created using a crc32c checksum. The complete request must include the checksum for each part. It was \
                 missing for part {number} in the request."
            ),
            Refusal::InvalidPartOrder => s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."),
            Refusal::PartTooSmall { number } => {
                s3_error!(EntityTooSmall, "Part {number} is smaller than the minimum allowed size")
            }
        }
    }
}

pub(crate) fn precondition_failed(condition: &'static str) -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold: {condition}")
}

/// 416, with the size that the range should have fitted in.
pub(crate) fn invalid_range(size: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange, "The requested range is not satisfiable");
    set(&mut error, "content-range", &format!("bytes */{size}"));
    error
}

/// 304, with the ETag that matched.
pub(crate) fn not_modified(etag: &str) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    set(&mut error, "etag", etag);
    error
}

fn with_marker(mut error: S3Error, marker: Option<VersionId>) -> S3Error {
    if let Some(version) = marker {
        set(&mut error, "x-amz-delete-marker", "true");
        set(&mut error, "x-amz-version-id", &version.to_string());
    }
    error
}

/// Adds a header; `s3s` takes the error's headers instead of its own, so the content type comes with them.
fn set(error: &mut S3Error, name: &'static str, value: &str) {
    let mut headers = error
        .headers()
        .cloned()
        .unwrap_or_else(|| HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"))]));
    headers.insert(name, HeaderValue::from_str(value).expect("ETags, sizes and version ids are ASCII"));
    error.set_headers(headers);
}
