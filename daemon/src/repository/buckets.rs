//! [`Repository`]: the buckets of a file system behind one space of keys. A located key says which bucket is meant ([`crate::format::located`]); each has its
//! own retries, pacing and credentials, so that one that is down or slow holds up nobody else.

use super::access::AccessError;
use super::client::{Bucket, RepositoryConfig, RequestCounts};
use super::write::{
    BeginRequest, Begun, CompleteRequest, CopyPartRequest, CopyRequest, DeleteRequest, Part, PartRequest, PutRequest, Upload,
    UploadsPage, UploadsRequest,
};
use super::{GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectStore, Pin, StoreError, Urgency, WriteToken};
use crate::clock::SharedClock;
use crate::format::located::{association_of, bare, locate, split};
use crate::ids::AssociationId;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;

type Table = BTreeMap<AssociationId, Bucket>;

/// The only way the rest of Forebay reaches its buckets. Cheap to clone; clones share everything. Keys and prefixes are located ones, in requests and in answers.
#[derive(Clone)]
pub struct Repository {
    buckets: Arc<ArcSwap<Table>>,
    config: RepositoryConfig,
    clock: SharedClock,
}

impl Repository {
    /// Without any bucket.
    pub fn empty(config: RepositoryConfig, clock: SharedClock) -> Self {
        Repository { buckets: Arc::default(), config, clock }
    }

    /// With the root's bucket.
    pub fn new(store: Arc<dyn ObjectStore>, config: RepositoryConfig, clock: SharedClock) -> Self {
        let this = Self::empty(config, clock);
        this.link(AssociationId::ROOT, store);
        this
    }

    /// Makes a store an association's bucket, in the place of one that it had before.
    pub fn link(&self, association: AssociationId, store: Arc<dyn ObjectStore>) {
        // Not all at the same moment after all were turned away.
        let config = RepositoryConfig { seed: self.config.seed.wrapping_add(association.0.into()), ..self.config };
        let bucket = Bucket::new(store, config, Arc::clone(&self.clock));
        self.change(|table| drop(table.insert(association, bucket.clone())));
    }

    /// An association has no bucket any more. Requests under way end as they would.
    pub fn unlink(&self, association: AssociationId) {
        self.change(|table| drop(table.remove(&association)));
    }

    fn change(&self, change: impl Fn(&mut Table)) {
        self.buckets.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
    }

    /// Whether an association has a bucket.
    pub fn is_linked(&self, association: AssociationId) -> bool {
        self.buckets.load().contains_key(&association)
    }

    fn bucket(&self, located: &str) -> Result<Bucket, StoreError> {
        let (association, key) = split(located);
        let missing = || StoreError::Unsupported { what: key.to_owned(), message: "no bucket is linked here".to_owned() };
        self.buckets.load().get(&association).cloned().ok_or_else(missing)
    }

    /// Bytes of `range` of one version. Resumes after a broken body where it broke, pinned to the same version, so the
    /// stream yields exactly the range or ends with an error. The head comes from the first response. A range that
    /// reaches beyond the object's end stops there; `GetResponse::range` says where.
    pub async fn fetch(&self, mut request: GetRequest, urgency: Urgency) -> Result<GetResponse, StoreError> {
        let bucket = self.bucket(&request.key)?;
        shorten(&mut request.key);
        bucket.fetch(request, urgency).await
    }

    /// HEAD with retries.
    pub async fn head(&self, key: &str, urgency: Urgency) -> Result<ObjectHead, StoreError> {
        self.bucket(key)?.head(bare(key), urgency).await
    }

    /// One page of a listing, with retries.
    pub async fn list(&self, mut request: ListRequest, urgency: Urgency) -> Result<ListPage, StoreError> {
        let (bucket, association) = (self.bucket(&request.prefix)?, association_of(&request.prefix));
        shorten(&mut request.prefix);
        if let Some(start_after) = &mut request.start_after {
            shorten(start_after);
        }
        let mut page = bucket.list(request, urgency).await?;
        if association != AssociationId::ROOT {
            page.objects.iter_mut().for_each(|object| object.key = locate(association, &object.key));
            page.prefixes.iter_mut().for_each(|prefix| *prefix = locate(association, prefix));
        }
        Ok(page)
    }

    /// Whether the bucket below a prefix can be used: one small listing, answered or given up within ten seconds, past the queue.
    pub async fn check_access(&self, prefix: &str) -> Result<(), AccessError> {
        match self.bucket(prefix) {
            Ok(bucket) => bucket.check_access(bare(prefix)).await,
            Err(error) => Err(AccessError::Other { store: association_of(prefix).to_string(), message: error.to_string() }),
        }
    }

    /// Writes a whole object of at most 5 GiB. `token` goes into its metadata as `user-agent`.
    pub async fn put(&self, mut request: PutRequest, token: WriteToken, urgency: Urgency) -> Result<Pin, StoreError> {
        let bucket = self.bucket(&request.key)?;
        shorten(&mut request.key);
        bucket.put(request, token, urgency).await
    }

    /// Deletes a key, pinned to a version or not. That there is none (any more) is fine. In a bucket with versions a delete marker is added.
    pub async fn delete(&self, mut request: DeleteRequest, urgency: Urgency) -> Result<(), StoreError> {
        let bucket = self.bucket(&request.key)?;
        shorten(&mut request.key);
        bucket.delete(request, urgency).await
    }

    /// Copies at the server, at most 5 GiB. With headers of its own the copy gets the token; without, it keeps the source's. [`StoreError::Unsupported`] from one
    /// association to another.
    pub async fn copy(&self, mut request: CopyRequest, token: WriteToken, urgency: Urgency) -> Result<Pin, StoreError> {
        let bucket = self.common_bucket(&request.source.key, &request.key)?;
        shorten(&mut request.source.key);
        shorten(&mut request.key);
        bucket.copy(request, token, urgency).await
    }

    fn common_bucket(&self, from: &str, to: &str) -> Result<Bucket, StoreError> {
        if association_of(from) != association_of(to) {
            let message = "copies at the server are within one association".to_owned();
            return Err(StoreError::Unsupported { what: bare(to).to_owned(), message });
        }
        self.bucket(to)
    }

    /// Begins a multipart upload. `token` goes into the object's metadata; its completion needs the same one.
    pub async fn begin_multipart(
        &self,
        mut request: BeginRequest,
        token: WriteToken,
        urgency: Urgency,
    ) -> Result<Begun, StoreError> {
        let (bucket, key) = (self.bucket(&request.key)?, request.key.clone());
        shorten(&mut request.key);
        let begun = bucket.begin_multipart(request, token, urgency).await?;
        Ok(Begun { upload: Upload { key, ..begun.upload }, ..begun })
    }

    /// Sends a part. Sent again, it replaces the one before.
    pub async fn put_part(&self, mut request: PartRequest, urgency: Urgency) -> Result<Part, StoreError> {
        let bucket = self.bucket(&request.upload.key)?;
        shorten(&mut request.upload.key);
        bucket.put_part(request, urgency).await
    }

    /// Copies a range at the server as a part; [`StoreError::Changed`] if the source is another version by now, [`StoreError::Unsupported`] from one association to
    /// another.
    pub async fn copy_part(&self, mut request: CopyPartRequest, urgency: Urgency) -> Result<Part, StoreError> {
        let bucket = self.common_bucket(&request.source.key, &request.upload.key)?;
        shorten(&mut request.source.key);
        shorten(&mut request.upload.key);
        bucket.copy_part(request, urgency).await
    }

    /// Makes the object of its parts. `token` is that of [`Repository::begin_multipart`]. [`StoreError::NoSuchUpload`] if the upload is gone
    /// and the key's object is not of this token.
    pub async fn complete_multipart(
        &self,
        mut request: CompleteRequest,
        token: WriteToken,
        urgency: Urgency,
    ) -> Result<Pin, StoreError> {
        let bucket = self.bucket(&request.upload.key)?;
        shorten(&mut request.upload.key);
        bucket.complete_multipart(request, token, urgency).await
    }

    /// Drops an upload and its parts. That there is none (any more) is fine.
    pub async fn abort_multipart(&self, upload: &Upload, urgency: Urgency) -> Result<(), StoreError> {
        let bucket = self.bucket(&upload.key)?;
        let upload = Upload { key: bare(&upload.key).to_owned(), id: upload.id.clone() };
        bucket.abort_multipart(&upload, urgency).await
    }

    /// One page of the uploads under way below a prefix.
    pub async fn list_multipart(&self, mut request: UploadsRequest, urgency: Urgency) -> Result<UploadsPage, StoreError> {
        let (bucket, association) = (self.bucket(&request.prefix)?, association_of(&request.prefix));
        shorten(&mut request.prefix);
        let mut page = bucket.list_multipart(request, urgency).await?;
        page.uploads.iter_mut().for_each(|pending| pending.upload.key = locate(association, &pending.upload.key));
        Ok(page)
    }

    /// Whether the key's object is the work of this token, and then its version. For whoever does not know whether its write happened.
    pub async fn was_written(&self, key: &str, token: WriteToken, urgency: Urgency) -> Result<Option<Pin>, StoreError> {
        self.bucket(key)?.was_written(bare(key), token, urgency).await
    }

    /// A name for people of the bucket of an association, such as `s3://bucket`.
    pub fn name(&self, association: AssociationId) -> Option<String> {
        self.buckets.load().get(&association).map(|bucket| bucket.name().to_owned())
    }

    /// Requests and bytes so far, of all buckets that are linked now.
    pub fn counters(&self) -> RequestCounts {
        self.buckets.load().values().fold(RequestCounts::default(), |sum, bucket| sum + bucket.counters())
    }

    /// Requests allowed at once, as of now.
    pub fn concurrency(&self) -> u32 {
        self.buckets.load().values().map(Bucket::concurrency).sum()
    }

    /// Requests under way, bodies being received included.
    pub fn in_flight(&self) -> u32 {
        self.buckets.load().values().map(Bucket::in_flight).sum()
    }
}

/// Leaves the bucket's own key of a located one; nothing is copied where it is that already.
fn shorten(located: &mut String) {
    let tag = located.len() - bare(located).len();
    if tag > 0 {
        located.drain(..tag);
    }
}
