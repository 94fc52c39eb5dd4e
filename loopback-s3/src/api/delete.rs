//! DeleteObject and DeleteObjects.

use super::convert::{shown_version, write_condition};
use super::{Backend, Reply, reply};
use crate::store::{Bucket, Deletion, WriteCondition};
use s3s::S3Request;
use s3s::dto::*;

pub(super) async fn one(backend: &Backend, request: S3Request<DeleteObjectInput>) -> Reply<DeleteObjectOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let condition = write_condition(input.if_match, None)?;
    let deletion = bucket.remove(&input.key, input.version_id.as_deref(), &condition)?;
    reply(DeleteObjectOutput {
        delete_marker: deletion.marker.then_some(true),
        version_id: deletion.version.and_then(|version| shown_version(&bucket, version)),
        ..Default::default()
    })
}

pub(super) async fn many(backend: &Backend, request: S3Request<DeleteObjectsInput>) -> Reply<DeleteObjectsOutput> {
    const MOST_KEYS: usize = 1000;
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    if input.delete.objects.len() > MOST_KEYS {
        return Err(s3s::s3_error!(MalformedXML, "At most 1000 keys can be deleted at once"));
    }
    let quiet = input.delete.quiet.unwrap_or(false);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for object in input.delete.objects {
        match remove(&bucket, &object) {
            Ok(_) if quiet => {}
            Ok(deletion) => deleted.push(describe(&bucket, object, deletion)),
            Err(error) => errors.push(s3s::dto::Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(object.key),
                message: error.message().map(str::to_owned),
                version_id: object.version_id,
            }),
        }
    }
    reply(DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..Default::default() })
}

fn remove(bucket: &Bucket, object: &ObjectIdentifier) -> s3s::S3Result<Deletion> {
    let condition = match &object.e_tag {
        Some(etag) => WriteCondition::Matches(etag.value().to_owned()),
        None => WriteCondition::None,
    };
    Ok(bucket.remove(&object.key, object.version_id.as_deref(), &condition)?)
}

fn describe(bucket: &Bucket, object: ObjectIdentifier, deletion: Deletion) -> DeletedObject {
    let marker = deletion.version.filter(|_| deletion.marker).and_then(|version| shown_version(bucket, version));
    DeletedObject {
        key: Some(object.key),
        version_id: object.version_id,
        delete_marker: deletion.marker.then_some(true),
        delete_marker_version_id: marker,
    }
}
