//! PutObject.

use super::convert::{etag, shown_version_of, user_metadata, write_condition};
use super::receive::{claim, receive};
use super::{Backend, Reply, reply};
use crate::store::{Object, ObjectHeaders, UnixMs};
use s3s::S3Request;
use s3s::dto::*;

pub(super) async fn put(backend: &Backend, request: S3Request<PutObjectInput>) -> Reply<PutObjectOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let condition = write_condition(input.if_match, input.if_none_match)?;
    let claim = claim!(input);
    let received = receive(backend, input.body, claim).await?;
    let headers = ObjectHeaders {
        user: user_metadata(input.metadata),
        content_type: input.content_type,
        cache_control: input.cache_control,
        content_disposition: input.content_disposition,
        content_encoding: input.content_encoding,
        content_language: input.content_language,
    };
    let object = Object { body: received.body, etag: received.etag, headers: headers.boxed() };
    let revision = bucket.write(&input.key, object, UnixMs::now(), &condition)?;
    reply(PutObjectOutput {
        e_tag: Some(etag(&received.etag)),
        checksum_crc32c: received.checksums.checksum_crc32c,
        version_id: shown_version_of(&bucket, &revision),
        ..Default::default()
    })
}
