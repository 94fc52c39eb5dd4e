//! Why the store refuses.

use super::object::VersionId;

/// A refusal, one for each error code of S3 that the store can give by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such bucket.
    #[error("the bucket does not exist")]
    NoSuchBucket,
    /// The bucket is there already.
    #[error("the bucket exists already")]
    BucketExists,
    /// A bucket with objects or versions in it cannot be deleted.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// No such key, or its latest version is a delete marker.
    #[error("the key does not exist")]
    NoSuchKey {
        /// The delete marker that hides the key.
        marker: Option<VersionId>,
    },
    /// No such version of the key.
    #[error("the version does not exist")]
    NoSuchVersion,
    /// The version asked for is a delete marker.
    #[error("the version is a delete marker")]
    IsDeleteMarker {
        /// The marker.
        version: VersionId,
    },
    /// A condition of the request does not hold.
    #[error("the condition '{condition}' does not hold")]
    PreconditionFailed {
        /// The header that says it.
        condition: &'static str,
    },
    /// No such multipart upload.
    #[error("the upload does not exist")]
    NoSuchUpload,
    /// A part is missing or has another ETag.
    #[error("part {number} is missing or has another ETag")]
    InvalidPart {
        /// Its number.
        number: i32,
    },
    /// The upload was begun with checksums, and completion does not name that of a part.
    #[error("the checksum of part {number} is missing")]
    ChecksumMissing {
        /// Its number.
        number: i32,
    },
    /// Parts are not in ascending order.
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// A part other than the last is below 5 MiB.
    #[error("part {number} is too small")]
    PartTooSmall {
        /// Its number.
        number: i32,
    },
}
