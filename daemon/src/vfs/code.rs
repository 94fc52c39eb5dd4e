//! Why a file failed, in the words of completion reports.

use crate::error::ErrorKind;
use crate::repository::StoreError;

/// The error codes of FSx for Lustre's completion reports, and some of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum ErrorCode {
    /// The key would be over 1,024 bytes.
    PathSizeTooLong,
    /// Over what the store takes as one object.
    FileSizeTooLarge,
    /// The credentials do not allow it.
    S3AccessDenied,
    /// The store failed, after all tries.
    S3Error,
    /// No POSIX tree can hold the key.
    S3ObjectPathNotPosixCompliant,
    /// The file was deleted in the bucket.
    S3FileDeleted,
    /// There is no such object.
    S3ObjectNotFound,
    /// The object is archived.
    S3ObjectInUnsupportedTier,
    /// A file where a directory is, or the other way round.
    S3ObjectTypeMismatch,
    /// Somebody else is changing it all the time.
    ResourceBusy,
    /// Forebay failed.
    InternalError,
    /// Changed here and in the bucket. Ours.
    S3Conflict,
    /// The bucket does not have the file as it is here. Ours.
    NotExported,
    /// There is no room in the cache, unless something else that is to stay goes. Ours.
    CacheFull,
}

impl ErrorCode {
    /// As the report has it.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::PathSizeTooLong => "PathSizeTooLong",
            ErrorCode::FileSizeTooLarge => "FileSizeTooLarge",
            ErrorCode::S3AccessDenied => "S3AccessDenied",
            ErrorCode::S3Error => "S3Error",
            ErrorCode::S3ObjectPathNotPosixCompliant => "S3ObjectPathNotPosixCompliant",
            ErrorCode::S3FileDeleted => "S3FileDeleted",
            ErrorCode::S3ObjectNotFound => "S3ObjectNotFound",
            ErrorCode::S3ObjectInUnsupportedTier => "S3ObjectInUnsupportedTier",
            ErrorCode::S3ObjectTypeMismatch => "S3ObjectTypeMismatch",
            ErrorCode::ResourceBusy => "ResourceBusy",
            ErrorCode::InternalError => "InternalError",
            ErrorCode::S3Conflict => "S3Conflict",
            ErrorCode::NotExported => "NotExported",
            ErrorCode::CacheFull => "CacheFull",
        }
    }
}

impl From<&StoreError> for ErrorCode {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => ErrorCode::S3ObjectNotFound,
            StoreError::Changed { .. } => ErrorCode::S3Conflict,
            StoreError::AccessDenied { .. } => ErrorCode::S3AccessDenied,
            StoreError::Deadline { last, .. } => ErrorCode::from(&**last),
            StoreError::Limit(_) => ErrorCode::FileSizeTooLarge,
            StoreError::NoSuchBucket { .. }
            | StoreError::NoSuchUpload { .. }
            | StoreError::Unsupported { .. }
            | StoreError::Unreachable { .. }
            | StoreError::SlowDown { .. }
            | StoreError::Transient { .. }
            | StoreError::Permanent { .. } => ErrorCode::S3Error,
        }
    }
}

impl From<ErrorKind> for ErrorCode {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::AccessDenied => ErrorCode::S3AccessDenied,
            ErrorKind::NotFound | ErrorKind::Stale => ErrorCode::S3ObjectNotFound,
            ErrorKind::NotDirectory | ErrorKind::IsDirectory => ErrorCode::S3ObjectTypeMismatch,
            ErrorKind::NameTooLong => ErrorCode::PathSizeTooLong,
            ErrorKind::TooLarge => ErrorCode::FileSizeTooLarge,
            _ => ErrorCode::InternalError,
        }
    }
}
