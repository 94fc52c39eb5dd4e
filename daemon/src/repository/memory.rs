//! A store in memory, with versions: for tests.

use super::range::clamp;
use super::{GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectStore, ObjectSummary, Pin, StoreError};
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
    changes: u64,
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

    /// Stores an object and returns its version.
    pub fn put(&self, key: &str, data: impl Into<Bytes>) -> Pin {
        self.put_with(key, data, BTreeMap::new())
    }

    /// Stores an object with user metadata.
    pub fn put_with(&self, key: &str, data: impl Into<Bytes>, user_metadata: BTreeMap<String, String>) -> Pin {
        let mut objects = self.objects.lock();
        objects.changes += 1;
        let change = objects.changes;
        let pin = Pin { etag: format!("\"{change:032x}\""), version: Some(format!("v{change}")) };
        let data = data.into();
        let modified_ns = 1_600_000_000_000_000_000 + change as i64 * 1_000_000_000;
        let head = ObjectHead { size: data.len() as u64, pin: pin.clone(), modified_ns, user_metadata };
        let stored = Stored { data, head };
        objects.versions.entry(key.to_owned()).or_default().push(stored.clone());
        objects.current.insert(key.to_owned(), stored);
        pin
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
        let objects = self.objects.lock();
        match version {
            None => objects.current.get(key).cloned(),
            Some(version) => {
                let all = objects.versions.get(key)?;
                all.iter().find(|stored| stored.head.pin.version.as_deref() == Some(version)).cloned()
            }
        }
    }
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
        Ok(GetResponse { head: stored.head, range, body: futures::stream::iter(pieces).boxed() })
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
