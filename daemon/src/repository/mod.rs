//! The object store behind Forebay: S3, GCS, Azure or a directory; ranged GETs, listings, conditional writes, retries, pacing, key mapping.
//!
//! | module | owns |
//! | --- | --- |
//! | `url`, `environment`, `open` | from settings to a store |
//! | `s3`, `generic`, `directory` | the stores: one request per call, every answer checked |
//! | `memory`, `faulty` | stores for tests |
//! | `write`, `limits`, `token` | the vocabulary of writes, what no store can hold, who wrote what |
//! | `buckets` | [`Repository`]: what the rest of Forebay uses: the buckets of all associations behind one space of keys |
//! | `client`, `writer` | one bucket, with retries and pacing: its reads and its writes |
//! | `retry`, `pacing`, `resume`, `body` | when to try again, how many at once, how a broken body goes on, where its bytes go |
//! | `access` | the question asked before a mount |
//! | `keymap`, `posix` | keys as names, user metadata as attributes |
//! | `queue` | queues in which the store tells of changes |

mod access;
mod body;
mod buckets;
mod client;
#[cfg(test)]
mod conformance;
pub mod directory;
mod environment;
pub mod faulty;
pub mod generic;
mod header_text;
pub mod keymap;
pub mod limits;
pub mod memory;
mod open;
pub mod pacing;
pub mod posix;
pub mod queue;
mod range;
mod resume;
pub mod retry;
pub mod s3;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod time;
mod token;
pub mod url;
pub mod write;
mod writer;
#[cfg(test)]
mod writer_tests;

pub use access::AccessError;
pub use body::{Body, ReadBody, read_into};
pub use buckets::Repository;
pub use client::{RepositoryConfig, RequestCounts};
pub use environment::Environment;
pub use open::{OpenError, Opened, open, open_with};
pub use token::WriteToken;
pub use write::{ObjectHeaders, Payload, Precondition};

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, DeleteRequest, Part, PartRequest, PutRequest, SystemHeaders,
    Upload, UploadsPage, UploadsRequest, WriteKind,
};

/// Which version of an object is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The ETag as the store gave it, quotes included where it had them.
    pub etag: String,
    /// The version id, where the bucket has versions and we know it.
    pub version: Option<String>,
}

/// A ranged GET.
#[derive(Clone, Debug)]
pub struct GetRequest {
    /// The full object key, byte for byte as the store lists it.
    pub key: String,
    /// Bytes wanted, not empty; `None` asks for the whole object. May reach beyond the end: the answer then stops there.
    /// One that begins at or behind the end is an error, save `0..n` of an empty object.
    pub range: Option<Range<u64>>,
    /// The version to insist on (`If-Match`, `versionId`).
    pub pin: Option<Pin>,
}

/// What a HEAD, or the headers of a GET, say about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Size of the whole object in bytes.
    pub size: u64,
    /// Its version.
    pub pin: Pin,
    /// Last-Modified, nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// User metadata, names in lower case without the `x-amz-meta-` prefix.
    pub user_metadata: BTreeMap<String, String>,
    /// What HTTP says about its content.
    pub system: SystemHeaders,
}

/// The answer to a GET: headers, the range that follows, and exactly that many bytes or an error.
pub struct GetResponse {
    /// The object's headers.
    pub head: ObjectHead,
    /// The range of `body`.
    pub range: Range<u64>,
    /// The bytes. Ends with an error if the connection gave fewer (or more) bytes than `range`.
    pub body: Body,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Keys starting with this, byte for byte.
    pub prefix: String,
    /// Whether keys are rolled up at the next `/` after the prefix.
    pub delimited: bool,
    /// Where the page before this one ended.
    pub token: Option<String>,
    /// Keys strictly after this one (S3 `start-after`); used to resume after a restart, when tokens may have expired.
    pub start_after: Option<String>,
    /// At most this many entries; `None` takes the store's page size (S3: 1,000).
    pub max_keys: Option<u32>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSummary {
    /// The full key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// The ETag as listed.
    pub etag: String,
    /// Last-Modified, nanoseconds since the Unix epoch.
    pub modified_ns: i64,
}

/// One page of a listing, objects and prefixes each in key order.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Objects directly at this level.
    pub objects: Vec<ObjectSummary>,
    /// Common prefixes, each ending in `/`.
    pub prefixes: Vec<String>,
    /// How to ask for the next page; `None` on the last.
    pub next: Option<String>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// 404: no such key.
    #[error("object '{key}' does not exist")]
    NotFound {
        /// The key.
        key: String,
    },
    /// 412: the object is no longer the pinned version, or one is there where none should be.
    #[error("object '{key}' was replaced in the bucket")]
    Changed {
        /// The key.
        key: String,
    },
    /// 404 NoSuchBucket (or its like).
    #[error("bucket '{bucket}' does not exist")]
    NoSuchBucket {
        /// The bucket.
        bucket: String,
    },
    /// 401, 403: the credentials do not allow it, or there are none.
    #[error("access to '{what}' was denied: {message}")]
    AccessDenied {
        /// The key or bucket.
        what: String,
        /// The store's words.
        message: String,
    },
    /// No connection to the store: refused, no such host, no route, a certificate that does not hold. Worth another try
    /// later, but not while mounting.
    #[error("cannot reach {endpoint}: {message}")]
    Unreachable {
        /// Scheme and host.
        endpoint: String,
        /// The innermost cause.
        message: String,
    },
    /// 503 SlowDown, 429: asked to slow down.
    #[error("the store asks to slow down")]
    SlowDown {
        /// Retry-After, where the store said.
        retry_after: Option<Duration>,
    },
    /// 500, 503, time-outs, resets, short bodies, answers with the wrong length or range: worth another try.
    #[error("{what}: {message}")]
    Transient {
        /// The key or bucket.
        what: String,
        /// What happened.
        message: String,
    },
    /// 404 NoSuchUpload: completed, aborted, or never begun.
    #[error("the upload of '{key}' does not exist (any more)")]
    NoSuchUpload {
        /// The key.
        key: String,
    },
    /// More than any store of this kind can hold.
    #[error(transparent)]
    Limit(#[from] limits::LimitError),
    /// The store, or our client for it, has no such request: it must be done in another way.
    #[error("{what}: {message}")]
    Unsupported {
        /// The key or bucket.
        what: String,
        /// What is missing.
        message: String,
    },
    /// 416, listings that make no sense, anything else that another try will not mend.
    #[error("{what}: {message}")]
    Permanent {
        /// The key or bucket.
        what: String,
        /// What happened.
        message: String,
    },
    /// The deadline passed while retrying.
    #[error("gave up on '{what}' after {after:?}: {last}")]
    Deadline {
        /// The key or bucket.
        what: String,
        /// How long it was tried.
        after: Duration,
        /// The last failure.
        last: Box<StoreError>,
    },
}

/// An object store, each call one request: no retries, no pacing (see [`Repository`], which adds them).
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// A name for people, such as `s3://bucket`.
    fn name(&self) -> &str;
    /// A ranged GET.
    async fn get(&self, request: GetRequest) -> Result<GetResponse, StoreError>;
    /// The headers of an object.
    async fn head(&self, key: &str) -> Result<ObjectHead, StoreError>;
    /// One page of a listing.
    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError>;

    /// Whether the store itself makes sure of a precondition, atomically with a write of this kind. Where it does not, whoever writes must
    /// look by HEAD right before, and lives with the window between ([`Repository`] does).
    fn decides(&self, kind: WriteKind, precondition: &Precondition) -> bool;
    /// Writes a whole object.
    async fn put(&self, request: PutRequest) -> Result<Pin, StoreError>;
    /// Deletes a key. That there is none is fine, with a pin too.
    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError>;
    /// Copies at the server.
    async fn copy(&self, request: CopyRequest) -> Result<Pin, StoreError>;
    /// Begins a multipart upload.
    async fn begin_multipart(&self, request: BeginRequest) -> Result<Upload, StoreError>;
    /// Sends a part; one of the same number is replaced.
    async fn put_part(&self, request: PartRequest) -> Result<Part, StoreError>;
    /// Copies a range at the server as a part.
    async fn copy_part(&self, request: CopyPartRequest) -> Result<Part, StoreError>;
    /// Makes the object of its parts.
    async fn complete_multipart(&self, request: CompleteRequest) -> Result<Pin, StoreError>;
    /// Drops an upload and its parts. [`StoreError::NoSuchUpload`] if there is none.
    async fn abort_multipart(&self, upload: &Upload) -> Result<(), StoreError>;
    /// One page of the uploads under way.
    async fn list_multipart(&self, request: UploadsRequest) -> Result<UploadsPage, StoreError>;
}

/// Who is waiting for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Somebody's read or lookup.
    Demand,
    /// Read-ahead and other guesses, exports in the background; yields to demand.
    Ahead,
}
