//! What was asked of the server: counters by operation and a log of requests.
//!
//! A request counts when its head has arrived, whatever becomes of it (faults included).

use http::{Method, Request, header};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use std::collections::{BTreeMap, VecDeque};

/// An operation of S3, as far as a server must tell them apart from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Op {
    GetObject,
    HeadObject,
    PutObject,
    CopyObject,
    DeleteObject,
    DeleteObjects,
    ListObjects,
    ListObjectVersions,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    ListParts,
    ListUploads,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    ListBuckets,
    Other,
}

impl Op {
    /// Whether the operation changes something in the store.
    pub fn writes(self) -> bool {
        use Op::*;
        matches!(
            self,
            PutObject | CopyObject | DeleteObject | DeleteObjects | CreateUpload | UploadPart | CompleteUpload | AbortUpload
        )
    }
}

/// A request, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// What it asks for.
    pub op: Op,
    /// The bucket; empty if it names none.
    pub bucket: String,
    /// The key; of a listing, its prefix.
    pub key: String,
    /// The `Range` header.
    pub range: Option<String>,
}

impl RequestRecord {
    /// Reads the head of a request. Total: what is not understood is [`Op::Other`].
    pub(crate) fn of<B>(request: &Request<B>) -> RequestRecord {
        let path = request.uri().path();
        let (bucket, key) = split_path(path);
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let op = classify(request, bucket, key, &query);
        let key = match op {
            Op::ListObjects | Op::ListObjectVersions | Op::ListUploads => query.value("prefix").unwrap_or_default(),
            _ => decode(key),
        };
        let range = request.headers().get(header::RANGE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        RequestRecord { op, bucket: decode(bucket), key, range }
    }
}

fn split_path(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').unwrap_or((path, ""))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Query<'a> {
        Query(query)
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn has(&self, name: &str) -> bool {
        self.pairs().any(|(found, _)| found == name)
    }

    fn value(&self, name: &str) -> Option<String> {
        self.pairs().find(|(found, _)| *found == name).map(|(_, value)| decode(&value.replace('+', " ")))
    }
}

fn classify<B>(request: &Request<B>, bucket: &str, key: &str, query: &Query<'_>) -> Op {
    let method = request.method();
    if bucket.is_empty() {
        return if method == Method::GET { Op::ListBuckets } else { Op::Other };
    }
    if key.is_empty() { classify_bucket(method, query) } else { classify_object(request, method, query) }
}

fn classify_bucket(method: &Method, query: &Query<'_>) -> Op {
    match *method {
        Method::GET if query.has("versions") => Op::ListObjectVersions,
        Method::GET if query.has("uploads") => Op::ListUploads,
        Method::GET if query.has("versioning") || query.has("location") => Op::Other,
        Method::GET => Op::ListObjects,
        Method::POST if query.has("delete") => Op::DeleteObjects,
        Method::PUT if query.has("versioning") => Op::Other,
        Method::PUT => Op::CreateBucket,
        Method::HEAD => Op::HeadBucket,
        Method::DELETE => Op::DeleteBucket,
        _ => Op::Other,
    }
}

fn classify_object<B>(request: &Request<B>, method: &Method, query: &Query<'_>) -> Op {
    let in_upload = query.has("uploadId");
    match *method {
        Method::GET if in_upload => Op::ListParts,
        Method::GET => Op::GetObject,
        Method::HEAD => Op::HeadObject,
        Method::PUT if in_upload => Op::UploadPart,
        Method::PUT if request.headers().contains_key("x-amz-copy-source") => Op::CopyObject,
        Method::PUT => Op::PutObject,
        Method::POST if in_upload => Op::CompleteUpload,
        Method::POST if query.has("uploads") => Op::CreateUpload,
        Method::DELETE if in_upload => Op::AbortUpload,
        Method::DELETE => Op::DeleteObject,
        _ => Op::Other,
    }
}

/// The requests since the start or the last [`Observer::reset`].
#[derive(Debug)]
pub struct Observer {
    seen: Mutex<Seen>,
    log_len: usize,
}

#[derive(Debug, Default)]
struct Seen {
    counts: BTreeMap<Op, u64>,
    log: VecDeque<RequestRecord>,
}

impl Observer {
    pub(crate) fn new(log_len: usize) -> Observer {
        Observer { seen: Mutex::default(), log_len }
    }

    pub(crate) fn record(&self, record: RequestRecord) {
        let mut seen = self.seen.lock();
        *seen.counts.entry(record.op).or_default() += 1;
        if self.log_len == 0 {
            return;
        }
        if seen.log.len() == self.log_len {
            seen.log.pop_front();
        }
        seen.log.push_back(record);
    }

    /// How many requests asked for `op`.
    pub fn count(&self, op: Op) -> u64 {
        self.seen.lock().counts.get(&op).copied().unwrap_or(0)
    }

    /// All requests by operation; operations nobody asked for are missing.
    pub fn counts(&self) -> BTreeMap<Op, u64> {
        self.seen.lock().counts.clone()
    }

    /// The log, oldest first.
    pub fn log(&self) -> Vec<RequestRecord> {
        self.seen.lock().log.iter().cloned().collect()
    }

    /// The GETs of one key, oldest first.
    pub fn gets_of(&self, key: &str) -> Vec<RequestRecord> {
        let seen = self.seen.lock();
        seen.log.iter().filter(|record| record.op == Op::GetObject && record.key == key).cloned().collect()
    }

    /// Forgets everything.
    pub fn reset(&self) {
        *self.seen.lock() = Seen::default();
    }
}
