//! Buckets.

use super::convert::timestamp;
use super::{Backend, Reply, reply};
use crate::store::Versioning;
use s3s::S3Request;
use s3s::dto::*;

pub(super) async fn create(backend: &Backend, request: S3Request<CreateBucketInput>) -> Reply<CreateBucketOutput> {
    backend.store.create_bucket(&request.input.bucket)?;
    reply(CreateBucketOutput { location: Some(format!("/{}", request.input.bucket)) })
}

pub(super) async fn head(backend: &Backend, request: S3Request<HeadBucketInput>) -> Reply<HeadBucketOutput> {
    backend.store.bucket(&request.input.bucket)?;
    reply(HeadBucketOutput { bucket_region: Some("us-east-1".to_owned()), ..Default::default() })
}

pub(super) async fn delete(backend: &Backend, request: S3Request<DeleteBucketInput>) -> Reply<DeleteBucketOutput> {
    backend.store.delete_bucket(&request.input.bucket)?;
    reply(DeleteBucketOutput::default())
}

pub(super) async fn list(backend: &Backend, _request: S3Request<ListBucketsInput>) -> Reply<ListBucketsOutput> {
    let buckets = backend.store.all_buckets();
    let described = buckets.iter().map(|bucket| s3s::dto::Bucket {
        name: Some(bucket.name().to_owned()),
        creation_date: Some(timestamp(bucket.created())),
        bucket_region: None,
    });
    reply(ListBucketsOutput { buckets: Some(described.collect()), ..Default::default() })
}

pub(super) async fn location(backend: &Backend, request: S3Request<GetBucketLocationInput>) -> Reply<GetBucketLocationOutput> {
    backend.store.bucket(&request.input.bucket)?;
    reply(GetBucketLocationOutput::default())
}

pub(super) async fn put_versioning(
    backend: &Backend,
    request: S3Request<PutBucketVersioningInput>,
) -> Reply<PutBucketVersioningOutput> {
    let bucket = backend.store.bucket(&request.input.bucket)?;
    match request.input.versioning_configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => bucket.set_versioning(Versioning::Enabled),
        Some(BucketVersioningStatus::SUSPENDED) => bucket.set_versioning(Versioning::Suspended),
        _ => return Err(s3s::s3_error!(MalformedXML, "The versioning status must be Enabled or Suspended")),
    }
    reply(PutBucketVersioningOutput::default())
}

pub(super) async fn get_versioning(
    backend: &Backend,
    request: S3Request<GetBucketVersioningInput>,
) -> Reply<GetBucketVersioningOutput> {
    let status = match backend.store.bucket(&request.input.bucket)?.versioning() {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
        Versioning::Suspended => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)),
    };
    reply(GetBucketVersioningOutput { status, ..Default::default() })
}
