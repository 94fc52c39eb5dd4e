//! [`Bucket`]: an object store with retries, pacing and bounded, adaptive concurrency.

use super::access::{self, AccessError};
use super::pacing::{Limiter, PacingConfig, Permit};
use super::resume::ResumingBody;
use super::retry::{RetryConfig, Verdict};
use super::{GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectStore, StoreError, Urgency};
use crate::clock::SharedClock;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Settings of a [`Bucket`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RepositoryConfig {
    /// When a failed request is tried again.
    pub retry: RetryConfig,
    /// How many requests are under way at once.
    pub pacing: PacingConfig,
    /// Seeds the jitter. Clients that share a store should differ in it.
    pub seed: u64,
}

/// Requests sent and bytes received since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// GETs, tries repeated included.
    pub get: u64,
    /// HEADs, tries repeated included.
    pub head: u64,
    /// LISTs, tries repeated included.
    pub list: u64,
    /// PUTs of whole objects, tries repeated included.
    pub put: u64,
    /// DELETEs, tries repeated included.
    pub delete: u64,
    /// Copies at the server, tries repeated included.
    pub copy: u64,
    /// Requests of multipart uploads (begin, parts, end, abort, list), tries repeated included.
    pub multipart: u64,
    /// Tries that were repeated.
    pub retries: u64,
    /// Bytes of bodies handed on.
    pub bytes: u64,
    /// Bytes of bodies that the store acknowledged.
    pub sent_bytes: u64,
}

impl std::ops::Add for RequestCounts {
    type Output = RequestCounts;

    fn add(self, other: RequestCounts) -> RequestCounts {
        RequestCounts {
            get: self.get + other.get,
            head: self.head + other.head,
            list: self.list + other.list,
            put: self.put + other.put,
            delete: self.delete + other.delete,
            copy: self.copy + other.copy,
            multipart: self.multipart + other.multipart,
            retries: self.retries + other.retries,
            bytes: self.bytes + other.bytes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
        }
    }
}

#[derive(Default)]
pub(super) struct Counters {
    get: AtomicU64,
    head: AtomicU64,
    list: AtomicU64,
    put: AtomicU64,
    delete: AtomicU64,
    copy: AtomicU64,
    multipart: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Which of the counters a request belongs to.
#[derive(Clone, Copy)]
pub(super) enum Op {
    Get,
    Head,
    List,
    Put,
    Delete,
    Copy,
    Multipart,
}

impl Op {
    /// Whether the time to an answer tells how busy the store is. That of a write tells how long its body was, and how the store writes.
    fn tells_latency(self) -> bool {
        matches!(self, Op::Get | Op::Head | Op::List)
    }
}

/// An object store with retries, pacing and bounded, adaptive concurrency. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Bucket {
    pub(super) core: Arc<Core>,
}

pub(super) struct Core {
    pub(super) store: Arc<dyn ObjectStore>,
    retry: RetryConfig,
    limiter: Limiter,
    clock: SharedClock,
    jitter: Mutex<StdRng>,
    pub(super) counters: Counters,
}

/// The tries of one operation so far.
pub(super) struct Attempts {
    tries: u32,
    began: Duration,
    /// What it may take longer than the deadline, since much is to be sent or done.
    allowance: Duration,
}

impl Bucket {
    /// Puts retries and pacing before a store.
    pub fn new(store: Arc<dyn ObjectStore>, config: RepositoryConfig, clock: SharedClock) -> Self {
        let limiter = Limiter::new(config.pacing, clock.clone());
        let jitter = Mutex::new(StdRng::seed_from_u64(config.seed));
        Bucket { core: Arc::new(Core { store, retry: config.retry, limiter, clock, jitter, counters: Counters::default() }) }
    }

    /// A name for people, such as `s3://bucket`.
    pub fn name(&self) -> &str {
        self.core.store.name()
    }

    /// Bytes of `range` of one version. Resumes after a broken body where it broke, pinned to the same version, so the
    /// stream yields exactly the range or ends with an error. The head comes from the first response. A range that
    /// reaches beyond the object's end stops there; `GetResponse::range` says where.
    pub async fn fetch(&self, request: GetRequest, urgency: Urgency) -> Result<GetResponse, StoreError> {
        let mut attempts = self.core.begin();
        let (response, permit) = self.core.get(&request, urgency, &mut attempts).await?;
        let GetResponse { head, range, body } = response;
        let body = ResumingBody::new(self.core.clone(), request.key, head.clone(), range.clone(), urgency, body, permit);
        Ok(GetResponse { head, range, body: Box::pin(body) })
    }

    /// HEAD with retries.
    pub async fn head(&self, key: &str, urgency: Urgency) -> Result<ObjectHead, StoreError> {
        let core = &self.core;
        let mut attempts = core.begin();
        core.retried(Op::Head, key, urgency, &mut attempts, || core.store.head(key)).await.map(|(head, _)| head)
    }

    /// One page of a listing, with retries.
    pub async fn list(&self, request: ListRequest, urgency: Urgency) -> Result<ListPage, StoreError> {
        let core = &self.core;
        let mut attempts = core.begin();
        let send = || core.store.list(request.clone());
        core.retried(Op::List, &request.prefix, urgency, &mut attempts, send).await.map(|(page, _)| page)
    }

    /// Whether the bucket can be mounted: one small listing, answered or given up within ten seconds, past the queue.
    pub async fn check_access(&self, prefix: &str) -> Result<(), AccessError> {
        self.core.counters.list.fetch_add(1, Ordering::Relaxed);
        access::check(self.core.store.as_ref(), prefix).await
    }

    /// Requests and bytes so far.
    pub fn counters(&self) -> RequestCounts {
        let counters = &self.core.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            get: read(&counters.get),
            head: read(&counters.head),
            list: read(&counters.list),
            put: read(&counters.put),
            delete: read(&counters.delete),
            copy: read(&counters.copy),
            multipart: read(&counters.multipart),
            retries: read(&counters.retries),
            bytes: read(&counters.bytes),
            sent_bytes: read(&counters.sent_bytes),
        }
    }

    /// Requests allowed at once, as of now.
    pub fn concurrency(&self) -> u32 {
        self.core.limiter.limit()
    }

    /// Requests under way, bodies being received included.
    pub fn in_flight(&self) -> u32 {
        self.core.limiter.in_use()
    }
}

impl Core {
    pub(super) fn begin(&self) -> Attempts {
        self.begin_with(Duration::ZERO)
    }

    pub(super) fn begin_with(&self, allowance: Duration) -> Attempts {
        Attempts { tries: 0, began: self.clock.monotonic(), allowance }
    }

    /// A GET until its headers are there, or it failed for good. The permit covers the body.
    pub(super) async fn get(
        &self,
        request: &GetRequest,
        urgency: Urgency,
        attempts: &mut Attempts,
    ) -> Result<(GetResponse, Permit), StoreError> {
        self.retried(Op::Get, &request.key, urgency, attempts, || self.store.get(request.clone())).await
    }

    pub(super) async fn retried<T, F>(
        &self,
        op: Op,
        what: &str,
        urgency: Urgency,
        attempts: &mut Attempts,
        mut send: impl FnMut() -> F,
    ) -> Result<(T, Permit), StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            let error = match self.attempt(op, what, urgency, attempts, send()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            self.wait_to_retry(error, what, attempts).await?;
        }
    }

    pub(super) async fn attempt<T>(
        &self,
        op: Op,
        what: &str,
        urgency: Urgency,
        attempts: &mut Attempts,
        send: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<(T, Permit), StoreError> {
        let permit = self.limiter.acquire(urgency).await;
        if attempts.tries == 0 {
            // Waiting in the queue at first is not the store's fault, and does not count towards the deadline.
            attempts.began = self.clock.monotonic();
        }
        attempts.tries += 1;
        self.counters.count(op, attempts.tries);
        let sent = self.clock.monotonic();
        let left = (attempts.began + self.retry.deadline + attempts.allowance).saturating_sub(sent);
        let late = || StoreError::Transient { what: what.to_owned(), message: "no answer before the deadline".to_owned() };
        let result = tokio::time::timeout(left, send).await.unwrap_or_else(|_| Err(late()));
        match result {
            Ok(value) => {
                self.limiter.answered(op.tells_latency().then(|| self.clock.monotonic().saturating_sub(sent)));
                Ok((value, permit))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits as the policy says, or returns the failure that ends the operation.
    pub(super) async fn wait_to_retry(&self, error: StoreError, what: &str, attempts: &mut Attempts) -> Result<(), StoreError> {
        if let StoreError::SlowDown { retry_after } = &error {
            self.limiter.slow_down(*retry_after);
        }
        let elapsed = self.clock.monotonic().saturating_sub(attempts.began);
        let random = self.jitter.lock().random::<f64>();
        let counted = elapsed.saturating_sub(attempts.allowance);
        match self.retry.judge(&error, attempts.tries, counted, random) {
            Verdict::Final => Err(error),
            Verdict::TooLate => Err(StoreError::Deadline { what: what.to_owned(), after: elapsed, last: Box::new(error) }),
            Verdict::After(wait) => {
                tracing::debug!(what, %error, tries = attempts.tries, ?wait, "a request to the store failed and is tried again");
                tokio::time::sleep(wait).await;
                Ok(())
            }
        }
    }
}

impl Counters {
    fn count(&self, op: Op, tries: u32) {
        let counter = match op {
            Op::Get => &self.get,
            Op::Head => &self.head,
            Op::List => &self.list,
            Op::Put => &self.put,
            Op::Delete => &self.delete,
            Op::Copy => &self.copy,
            Op::Multipart => &self.multipart,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if tries > 1 {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Attempts {
    /// A body broke after it made progress, or not: its request counts as the first try of what follows.
    pub(super) fn after_broken_body(core: &Core) -> Self {
        Attempts { tries: 1, ..core.begin() }
    }

    /// Requests sent so far.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }
}
