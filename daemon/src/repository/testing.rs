//! What the tests of this module share.

use super::write::PutRequest;
use super::{Body, GetRequest, ListRequest, ObjectStore, Precondition, StoreError};
use crate::clock::{Clock, SharedClock};
use futures::TryStreamExt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

struct TokioClock {
    started: Instant,
}

impl Clock for TokioClock {
    fn wall_ns(&self) -> i64 {
        1_700_000_000_000_000_000 + self.started.elapsed().as_nanos() as i64
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that goes with tokio's, which tests pause.
pub fn tokio_clock() -> SharedClock {
    Arc::new(TokioClock { started: Instant::now() })
}

/// A GET of a whole object, whatever its version.
pub fn get(key: &str) -> GetRequest {
    GetRequest { key: key.to_owned(), range: None, pin: None }
}

/// A GET of a part.
pub fn get_range(key: &str, range: Range<u64>) -> GetRequest {
    GetRequest { range: Some(range), ..get(key) }
}

/// A listing from its start.
pub fn list_request(prefix: &str, delimited: bool) -> ListRequest {
    ListRequest { prefix: prefix.to_owned(), delimited, token: None, start_after: None, max_keys: None }
}

/// All bytes of a body, or the error it ends with.
pub async fn collect(body: Body) -> Result<Vec<u8>, StoreError> {
    Ok(body.try_collect::<Vec<_>>().await?.concat())
}

/// Keys and prefixes of all pages.
pub async fn list_all(store: &dyn ObjectStore, mut request: ListRequest, max_keys: Option<u32>) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    request.max_keys = max_keys;
    loop {
        let page = store.list(request.clone()).await.expect("listed");
        let entries = page.objects.len() + page.prefixes.len();
        assert!(max_keys.is_none_or(|most| entries <= most as usize), "{entries} in a page of {max_keys:?}");
        objects.extend(page.objects.into_iter().map(|object| object.key));
        prefixes.extend(page.prefixes);
        match page.next {
            Some(token) => request.token = Some(token),
            None => return (objects, prefixes),
        }
    }
}

/// A PUT of a text without a word about it.
pub fn put_request(key: &str, text: &'static str, precondition: Precondition) -> PutRequest {
    PutRequest { key: key.to_owned(), body: text.into(), precondition, ..PutRequest::default() }
}
