//! Buckets from inside the process: what tests and fixtures use, with no HTTP between.

use super::body::Body;
use super::bucket::{Bucket, Deletion, Versioning, WriteCondition};
use super::error::Refusal;
use super::list::{PageRequest, Start};
use super::object::{Etag, Object, ObjectHeaders, Revision, UnixMs};
use super::synthetic::{Texture, mix};
use crate::config::EtagKind;
use bytes::Bytes;
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A bucket of a running server.
#[derive(Clone, Debug)]
pub struct BucketHandle {
    bucket: Arc<Bucket>,
    etags: EtagKind,
}

impl BucketHandle {
    pub(crate) fn new(bucket: Arc<Bucket>, etags: EtagKind) -> BucketHandle {
        BucketHandle { bucket, etags }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.bucket.name()
    }

    /// Puts an object with user metadata; the ETag comes back in the revision.
    pub fn put<'a>(
        &self,
        key: &str,
        bytes: impl Into<Bytes>,
        metadata: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Arc<Revision> {
        let user: BTreeMap<_, _> = metadata.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let bytes = bytes.into();
        let etag = match self.etags {
            EtagKind::Md5 => Etag::whole(Md5::digest(&bytes).into()),
            EtagKind::Opaque => Etag::opaque(),
        };
        let headers = ObjectHeaders { user, ..ObjectHeaders::default() };
        self.put_object(key, Object { body: Body::Stored(bytes), etag, headers: headers.boxed() }, UnixMs::now())
    }

    /// Puts an object of generated content, which costs no memory. Its ETag follows from seed, length and texture.
    pub fn put_synthetic(&self, key: &str, seed: u64, len: u64, texture: Texture) -> Arc<Revision> {
        self.put_synthetic_with(key, seed, len, texture, ObjectHeaders::default(), UnixMs::now())
    }

    /// [`BucketHandle::put_synthetic`] with headers and a time of one's own.
    pub fn put_synthetic_with(
        &self,
        key: &str,
        seed: u64,
        len: u64,
        texture: Texture,
        headers: ObjectHeaders,
        modified: UnixMs,
    ) -> Arc<Revision> {
        let body = Body::Synthetic { seed, offset: 0, len, texture };
        self.put_object(
            key,
            Object { body, etag: Etag::seeded(seed ^ mix(len ^ mix(texture as u64))), headers: headers.boxed() },
            modified,
        )
    }

    /// Puts an object as it stands, written at `modified`.
    pub fn put_object(&self, key: &str, object: Object, modified: UnixMs) -> Arc<Revision> {
        self.bucket.write(key, object, modified, &WriteCondition::None).expect("an unconditional write is never refused")
    }

    /// Puts `count` objects of `len` bytes of noise under the names that `name` gives their numbers.
    pub fn insert_synthetic(&self, count: u64, name: impl Fn(u64) -> String, len: u64) {
        for number in 0..count {
            self.put_synthetic(&name(number), number, len, Texture::Noise);
        }
    }

    /// Deletes a key (in a bucket with versions: adds a delete marker).
    pub fn delete(&self, key: &str) -> Deletion {
        self.bucket.remove(key, None, &WriteCondition::None).expect("an unconditional delete is never refused")
    }

    /// The latest version of a key.
    pub fn get(&self, key: &str) -> Result<Arc<Revision>, Refusal> {
        self.bucket.find(key, None)
    }

    /// The content of the latest version of a key. Panics if a spill file cannot be read.
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        let revision = self.get(key).ok()?;
        let object = revision.object.as_ref()?;
        Some(object.body.to_bytes().expect("spill files stay readable while the server runs"))
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        let request = PageRequest { limit: usize::MAX, start: Start::First, ..PageRequest::default() };
        self.bucket.page(&request).keys.into_iter().map(|listed| listed.key).collect()
    }

    /// Whether it keeps versions.
    pub fn versioning(&self) -> Versioning {
        self.bucket.versioning()
    }

    /// Starts or suspends keeping versions.
    pub fn set_versioning(&self, versioning: Versioning) {
        self.bucket.set_versioning(versioning);
    }

    /// Multipart uploads that were neither completed nor aborted, as (key, upload id).
    pub fn uploads(&self) -> Vec<(String, String)> {
        self.bucket.uploads.lock().sorted().into_iter().map(|(id, upload)| (upload.key.clone(), id.to_owned())).collect()
    }
}
