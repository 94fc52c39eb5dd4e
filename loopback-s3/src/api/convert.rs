//! Between the store's types and those of `s3s`.

use crate::store::{Bucket, Etag, ObjectHeaders, Revision, UnixMs, VersionId, WriteCondition};
use s3s::dto::{ETag, ETagCondition, Metadata, Timestamp};
use s3s::{S3Result, s3_error};

pub(super) fn etag(etag: &Etag) -> ETag {
    ETag::Strong(etag.to_string())
}

pub(super) fn timestamp(time: UnixMs) -> Timestamp {
    Timestamp::from(time.system_time())
}

/// The version id for replies: not shown by a bucket that has never had versions.
pub(super) fn shown_version(bucket: &Bucket, version: VersionId) -> Option<String> {
    bucket.shows_versions().then(|| version.to_string())
}

pub(super) fn shown_version_of(bucket: &Bucket, revision: &Revision) -> Option<String> {
    shown_version(bucket, revision.version)
}

pub(super) fn metadata(headers: &ObjectHeaders) -> Option<Metadata> {
    (!headers.user.is_empty()).then(|| headers.user.clone().into_iter().collect())
}

pub(super) fn user_metadata(metadata: Option<Metadata>) -> std::collections::BTreeMap<String, String> {
    metadata.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

pub(super) fn write_condition(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> S3Result<WriteCondition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(WriteCondition::None),
        (None, Some(ETagCondition::Any)) => Ok(WriteCondition::Absent),
        (Some(ETagCondition::Any), None) => Ok(WriteCondition::Matches("*".to_owned())),
        (Some(ETagCondition::ETag(etag)), None) => Ok(WriteCondition::Matches(etag.into_value())),
        _ => Err(s3_error!(NotImplemented, "A header you provided implies functionality that is not implemented")),
    }
}
