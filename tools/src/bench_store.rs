//! The daemon's client of a store as a bench sees it: one request per call, made by the thread that calls. What a mount would do besides (pacing, read-ahead,
//! pieces of large objects at the same time) is left out: the bench asks what the store gives.

use crate::error::CliError;
use forebay_daemon::clock::SystemClock;
use forebay_daemon::config::RepositorySettings;
use forebay_daemon::repository::write::{DeleteRequest, PutRequest};
use forebay_daemon::repository::{self, Body, GetRequest, ListRequest, ObjectStore, Repository, RepositoryConfig, StoreError};
use forebay_suite::plan::Plan;
use forebay_suite::store::{self, Bytes, Fetched, KeyPage, StoreFault};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::ReadBuf;
use tokio::runtime::Runtime;

/// What a body is read into, piece by piece.
const PIECE: usize = 256 << 10;
/// How often a request is repeated that failed for the moment, and after which pause first; it doubles.
const REPEATS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// Opens a store, and asks whether it is there.
pub(crate) fn open(settings: &RepositorySettings, own: &str, plan: &Plan) -> Result<store::Store, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("bench-net").build();
    let runtime = runtime.map_err(CliError::failed)?;
    let (store, prefix) = repository::open(settings).map_err(CliError::failed)?;
    let asked = Repository::new(Arc::clone(&store), RepositoryConfig::default(), SystemClock::shared());
    runtime.block_on(asked.check_access(&prefix)).map_err(CliError::failed)?;
    let raw = RawStore { store, runtime, repeated: AtomicU64::new(0) };
    Ok(store::Store::open(&settings.url, Arc::new(raw), &prefix, own, plan))
}

struct RawStore {
    store: Arc<dyn ObjectStore>,
    runtime: Runtime,
    /// Requests that were made again.
    repeated: AtomicU64,
}

impl RawStore {
    /// Makes a request, again if it failed for the moment only: the pauses are part of its latency.
    fn ask<T>(&self, request: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, StoreFault> {
        self.runtime.block_on(async {
            let mut pause = PAUSE;
            for _ in 0..REPEATS {
                match request().await {
                    Err(StoreError::Transient { .. } | StoreError::SlowDown { .. }) => {
                        self.repeated.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    answer => return answer.map_err(fault),
                }
            }
            request().await.map_err(fault)
        })
    }
}

fn fault(error: StoreError) -> StoreFault {
    let is_lasting =
        matches!(error, StoreError::NoSuchBucket { .. } | StoreError::AccessDenied { .. } | StoreError::Unreachable { .. });
    StoreFault { source: Box::new(error), is_lasting }
}

/// Reads a body to its end; how many bytes it had, and when the first were there.
async fn drain(mut body: Body, began: Instant) -> Result<Fetched, StoreError> {
    let mut memory = vec![0; PIECE];
    let (mut bytes, mut first_byte) = (0, None);
    loop {
        let mut into = ReadBuf::new(&mut memory);
        repository::read_into(&mut body, &mut into).await?;
        if into.filled().is_empty() {
            return Ok(Fetched { bytes, first_byte: first_byte.unwrap_or_else(|| began.elapsed()) });
        }
        first_byte.get_or_insert_with(|| began.elapsed());
        bytes += into.filled().len() as u64;
    }
}

impl store::ObjectStore for RawStore {
    fn put(&self, key: &str, body: Bytes) -> Result<(), StoreFault> {
        let request = || PutRequest { key: key.to_owned(), body: body.clone().into(), ..PutRequest::default() };
        self.ask(async || self.store.put(request()).await.map(drop))
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Fetched, StoreFault> {
        let request = || GetRequest { key: key.to_owned(), range: Some(range.clone()), pin: None };
        self.ask(async || {
            let began = Instant::now();
            drain(self.store.get(request()).await?.body, began).await
        })
    }

    fn list(&self, prefix: &str, token: Option<String>) -> Result<KeyPage, StoreFault> {
        let request = || ListRequest { prefix: prefix.to_owned(), token: token.clone(), ..ListRequest::default() };
        let page = self.ask(async || self.store.list(request()).await)?;
        Ok(KeyPage { keys: page.objects.into_iter().map(|object| object.key).collect(), next: page.next })
    }

    fn delete(&self, key: &str) -> Result<(), StoreFault> {
        let request = || DeleteRequest { key: key.to_owned(), pin: None };
        self.ask(async || self.store.delete(request()).await)
    }

    fn notes(&self) -> Vec<String> {
        let repeated = self.repeated.load(Ordering::Relaxed);
        let note = format!("{repeated} requests failed for the moment and were made again: their pauses are in the latencies");
        (repeated > 0).then_some(note).into_iter().collect()
    }
}
