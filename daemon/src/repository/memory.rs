//! A store in memory, with versions: for tests.

use super::range::clamp;
use super::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, CopySource, DeleteRequest, Part, PartRequest, PendingUpload,
    PutRequest, Upload, UploadsPage, UploadsRequest, UploadsToken, WriteKind, same_etag,
};
use super::{
    GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectHeaders, ObjectStore, ObjectSummary, Pin, Precondition,
    StoreError,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Keys a page holds at most, as in S3.
const PAGE: usize = 1000;
/// Bodies come in pieces of this many bytes, so that tests see more than one.
const PIECE: usize = 64 << 10;

#[derive(Clone)]
struct Stored {
    data: Bytes,
    head: ObjectHead,
}

#[derive(Default)]
struct Objects {
    /// All versions, oldest first.
    versions: BTreeMap<String, Vec<Stored>>,
    /// Keys that exist now, each with its newest version.
    current: BTreeMap<String, Stored>,
    /// By key and id.
    uploads: BTreeMap<(String, String), Parts>,
    changes: u64,
    /// Whether it keeps no versions.
    is_plain: bool,
}

struct Parts {
    headers: ObjectHeaders,
    begun_ns: i64,
    by_number: BTreeMap<u32, (String, Bytes)>,
}

/// A bucket in memory. Every change gets a fresh ETag, version id and time, in the order of the changes.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
}

impl MemoryStore {
    /// An empty bucket.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty bucket that keeps no versions, as most do.
    pub fn without_versions() -> Self {
        let objects = Objects { is_plain: true, ..Objects::default() };
        MemoryStore { objects: Mutex::new(objects) }
    }

    /// Stores an object and returns its version.
    pub fn put(&self, key: &str, data: impl Into<Bytes>) -> Pin {
        self.put_with(key, data, BTreeMap::new())
    }

    /// Stores an object with user metadata.
    pub fn put_with(&self, key: &str, data: impl Into<Bytes>, user_metadata: BTreeMap<String, String>) -> Pin {
        self.objects.lock().store(key, data.into(), ObjectHeaders { user_metadata, ..ObjectHeaders::default() })
    }

    /// Removes an object; its versions stay. `false` if there was none.
    pub fn delete(&self, key: &str) -> bool {
        self.objects.lock().current.remove(key).is_some()
    }

    /// The newest version of an object.
    pub fn pin(&self, key: &str) -> Option<Pin> {
        self.objects.lock().current.get(key).map(|stored| stored.head.pin.clone())
    }

    fn find(&self, key: &str, version: Option<&str>) -> Option<Stored> {
        self.objects.lock().find(key, version).cloned()
    }
}

impl Objects {
    fn store(&mut self, key: &str, data: Bytes, headers: ObjectHeaders) -> Pin {
        let (change, modified_ns) = self.next_change();
        let pin = Pin { etag: format!("\"{change:032x}\""), version: (!self.is_plain).then(|| format!("v{change}")) };
        let ObjectHeaders { system, user_metadata } = headers;
        let head = ObjectHead { size: data.len() as u64, pin: pin.clone(), modified_ns, user_metadata, system };
        let stored = Stored { data, head };
        if !self.is_plain {
            self.versions.entry(key.to_owned()).or_default().push(stored.clone());
        }
        self.current.insert(key.to_owned(), stored);
        pin
    }

    fn next_change(&mut self) -> (u64, i64) {
        self.changes += 1;
        (self.changes, 1_600_000_000_000_000_000 + self.changes as i64 * 1_000_000_000)
    }

    fn find(&self, key: &str, version: Option<&str>) -> Option<&Stored> {
        match version {
            None => self.current.get(key),
            Some(version) => self.versions.get(key)?.iter().find(|stored| stored.head.pin.version.as_deref() == Some(version)),
        }
    }

    fn check(&self, key: &str, precondition: &Precondition) -> Result<(), StoreError> {
        precondition.check(key, self.current.get(key).map(|stored| stored.head.pin.etag.as_str()))
    }

    fn source(&self, source: &CopySource) -> Result<&Stored, StoreError> {
        let CopySource { key, pin } = source;
        let stored = self.find(key, pin.version.as_deref()).ok_or_else(|| StoreError::NotFound { key: key.clone() })?;
        match same_etag(&pin.etag, &stored.head.pin.etag) {
            true => Ok(stored),
            false => Err(StoreError::Changed { key: key.clone() }),
        }
    }

    fn upload(&mut self, upload: &Upload) -> Result<&mut Parts, StoreError> {
        let place = (upload.key.clone(), upload.id.clone());
        self.uploads.get_mut(&place).ok_or_else(|| StoreError::NoSuchUpload { key: upload.key.clone() })
    }

    fn store_part(&mut self, upload: &Upload, number: u32, data: Bytes) -> Result<Part, StoreError> {
        let (change, _) = self.next_change();
        let etag = format!("\"{change:x}\"");
        self.upload(upload)?.by_number.insert(number, (etag.clone(), data));
        Ok(Part { number, etag, crc32c: None })
    }
}

fn joined(key: &str, parts: &Parts, wanted: &[Part]) -> Result<Bytes, StoreError> {
    let found = wanted.iter().map(|part| {
        let there = parts.by_number.get(&part.number).filter(|(etag, _)| *etag == part.etag);
        let message = format!("part {} was not uploaded, or with another ETag", part.number);
        there.map(|(_, data)| data.clone()).ok_or(StoreError::Permanent { what: key.to_owned(), message })
    });
    Ok(found.collect::<Result<Vec<_>, _>>()?.concat().into())
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn name(&self) -> &str {
        "memory"
    }

    async fn get(&self, request: GetRequest) -> Result<GetResponse, StoreError> {
        let GetRequest { key, range, pin } = request;
        let version = pin.as_ref().and_then(|pin| pin.version.as_deref());
        let stored = self.find(&key, version).ok_or_else(|| StoreError::NotFound { key: key.clone() })?;
        if pin.is_some_and(|pin| pin.etag.trim_matches('"') != stored.head.pin.etag.trim_matches('"')) {
            return Err(StoreError::Changed { key });
        }
        let range = clamp(&key, range, stored.head.size)?;
        let data = stored.data.slice(range.start as usize..range.end as usize);
        let pieces: Vec<_> = (0..data.len()).step_by(PIECE).map(|at| Ok(data.slice(at..data.len().min(at + PIECE)))).collect();
        Ok(GetResponse { head: stored.head, range, body: super::body::pieces(futures::stream::iter(pieces).boxed()) })
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, StoreError> {
        self.find(key, None).map(|stored| stored.head).ok_or_else(|| StoreError::NotFound { key: key.to_owned() })
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let objects = self.objects.lock();
        let most = request.max_keys.map_or(PAGE, |n| (n as usize).min(PAGE));
        let mut page = ListPage::default();
        // The token is the last key or prefix of the page before; of a prefix, everything below it is behind us.
        let mut after = request.token.clone().or(request.start_after.clone());
        let mut last = None;
        while let Some((key, stored)) = next_key(&objects.current, &request, after.as_deref()) {
            if page.objects.len() + page.prefixes.len() == most {
                page.next = last;
                break;
            }
            let rolled = request.delimited.then(|| key[request.prefix.len()..].find('/')).flatten();
            let entry = match rolled {
                Some(slash) => {
                    let prefix = key[..=request.prefix.len() + slash].to_owned();
                    page.prefixes.push(prefix.clone());
                    prefix
                }
                None => {
                    page.objects.push(summary(key, stored));
                    key.clone()
                }
            };
            after = Some(entry.clone());
            last = Some(entry);
        }
        Ok(page)
    }

    fn decides(&self, _: WriteKind, _: &Precondition) -> bool {
        true
    }

    async fn put(&self, request: PutRequest) -> Result<Pin, StoreError> {
        let mut objects = self.objects.lock();
        objects.check(&request.key, &request.precondition)?;
        Ok(objects.store(&request.key, request.body.joined(), request.headers))
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let mut objects = self.objects.lock();
        if let Some(pin) = request.pin.filter(|_| objects.current.contains_key(&request.key)) {
            objects.check(&request.key, &Precondition::Is(pin))?;
        }
        objects.current.remove(&request.key);
        Ok(())
    }

    async fn copy(&self, request: CopyRequest) -> Result<Pin, StoreError> {
        let mut objects = self.objects.lock();
        objects.check(&request.key, &request.precondition)?;
        let Stored { data, head } = objects.source(&request.source)?.clone();
        let kept = ObjectHeaders { system: head.system, user_metadata: head.user_metadata };
        Ok(objects.store(&request.key, data, request.headers.unwrap_or(kept)))
    }

    async fn begin_multipart(&self, request: BeginRequest) -> Result<Upload, StoreError> {
        let mut objects = self.objects.lock();
        let (change, begun_ns) = objects.next_change();
        let upload = Upload { key: request.key, id: format!("u{change}") };
        let parts = Parts { headers: request.headers, begun_ns, by_number: BTreeMap::new() };
        objects.uploads.insert((upload.key.clone(), upload.id.clone()), parts);
        Ok(upload)
    }

    async fn put_part(&self, request: PartRequest) -> Result<Part, StoreError> {
        self.objects.lock().store_part(&request.upload, request.number, request.body.joined())
    }

    async fn copy_part(&self, request: CopyPartRequest) -> Result<Part, StoreError> {
        let CopyPartRequest { upload, number, source, range } = request;
        let mut objects = self.objects.lock();
        let stored = objects.source(&source)?;
        if clamp(&source.key, Some(range.clone()), stored.head.size)? != range {
            return Err(StoreError::Permanent { what: source.key, message: "the range reaches beyond the end".to_owned() });
        }
        let data = stored.data.slice(range.start as usize..range.end as usize);
        objects.store_part(&upload, number, data)
    }

    async fn complete_multipart(&self, request: CompleteRequest) -> Result<Pin, StoreError> {
        let CompleteRequest { upload, parts: wanted, precondition } = request;
        let mut objects = self.objects.lock();
        let data = joined(&upload.key, objects.upload(&upload)?, &wanted)?;
        objects.check(&upload.key, &precondition)?;
        let headers = std::mem::take(&mut objects.upload(&upload)?.headers);
        let pin = objects.store(&upload.key, data, headers);
        objects.uploads.remove(&(upload.key, upload.id));
        Ok(pin)
    }

    async fn abort_multipart(&self, upload: &Upload) -> Result<(), StoreError> {
        let mut objects = self.objects.lock();
        objects.upload(upload)?;
        objects.uploads.remove(&(upload.key.clone(), upload.id.clone()));
        Ok(())
    }

    async fn list_multipart(&self, request: UploadsRequest) -> Result<UploadsPage, StoreError> {
        let objects = self.objects.lock();
        let most = request.max_uploads.map_or(PAGE, |n| (n as usize).min(PAGE));
        let from = match request.token {
            Some(UploadsToken { key, id }) => Bound::Excluded((key, id)),
            None => Bound::Unbounded,
        };
        let following = objects.uploads.range((from, Bound::Unbounded)).filter(|((key, _), _)| key.starts_with(&request.prefix));
        let mut uploads: Vec<_> = following.take(most + 1).map(|(place, parts)| pending(place, parts)).collect();
        let is_last = uploads.len() <= most;
        uploads.truncate(most);
        let last = uploads.last().filter(|_| !is_last);
        let next = last.map(|last| UploadsToken { key: last.upload.key.clone(), id: last.upload.id.clone() });
        Ok(UploadsPage { uploads, next })
    }
}

fn pending((key, id): &(String, String), parts: &Parts) -> PendingUpload {
    PendingUpload { upload: Upload { key: key.clone(), id: id.clone() }, begun_ns: parts.begun_ns }
}

fn next_key<'a>(
    objects: &'a BTreeMap<String, Stored>,
    request: &ListRequest,
    after: Option<&str>,
) -> Option<(&'a String, &'a Stored)> {
    let from = match after {
        Some(after) if after >= request.prefix.as_str() => Bound::Excluded(after),
        _ => Bound::Included(request.prefix.as_str()),
    };
    let mut keys = objects.range::<str, _>((from, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(&request.prefix));
    let behind = after.filter(|after| request.delimited && after.ends_with('/') && after.len() > request.prefix.len());
    keys.find(|(key, _)| behind.is_none_or(|behind| !key.starts_with(behind)))
}

fn summary(key: &str, stored: &Stored) -> ObjectSummary {
    let ObjectHead { size, pin, modified_ns, .. } = &stored.head;
    ObjectSummary { key: key.to_owned(), size: *size, etag: pin.etag.clone(), modified_ns: *modified_ns }
}
