//! The question asked before a mount: can the store be reached, is the bucket there, may we list it?

use super::{ListRequest, ObjectStore, StoreError};
use std::time::Duration;

/// What keeps a bucket from being mounted: one line with the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No such bucket.
    #[error("{0} does not exist: check the name, and --endpoint-url if the store is not Amazon's")]
    NoSuchBucket(String),
    /// The credentials will not do.
    #[error(
        "{store}: access denied ({message}): check the credentials (--profile, AWS_ACCESS_KEY_ID) and that they may list the bucket"
    )]
    Denied {
        /// The bucket.
        store: String,
        /// The store's words.
        message: String,
    },
    /// No connection.
    #[error("{store}: cannot reach {endpoint}: {message}: check --endpoint-url, --region and the network")]
    Unreachable {
        /// The bucket.
        store: String,
        /// Scheme and host.
        endpoint: String,
        /// The cause.
        message: String,
    },
    /// No answer, or none that helps, in time.
    #[error("{store}: no good answer within {within:?} ({message}): check --endpoint-url and the network, or try again later")]
    NoAnswer {
        /// The bucket.
        store: String,
        /// How long was waited.
        within: Duration,
        /// The last failure.
        message: String,
    },
    /// Anything else, such as a wrong region.
    #[error("{store}: {message}")]
    Other {
        /// The bucket.
        store: String,
        /// What the store says, with the way out where it has one.
        message: String,
    },
}

/// How long a mount may wait for a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);

/// Asks with one small listing. Only faults that pass by themselves are tried again, and only for a short while.
pub async fn check(store: &dyn ObjectStore, prefix: &str) -> Result<(), AccessError> {
    let mut last = "no answer".to_owned();
    let tries = async {
        loop {
            let max_keys = Some(1);
            let request = ListRequest { prefix: prefix.to_owned(), delimited: false, token: None, start_after: None, max_keys };
            match store.list(request).await {
                Ok(_) => return Ok(()),
                Err(error @ (StoreError::Transient { .. } | StoreError::SlowDown { .. })) => last = error.to_string(),
                Err(error) => return Err(explained(store.name(), error)),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let within = PATIENCE;
    let done = tokio::time::timeout(within, tries).await;
    done.unwrap_or_else(|_| Err(AccessError::NoAnswer { store: store.name().to_owned(), within, message: last }))
}

fn explained(store: &str, error: StoreError) -> AccessError {
    let store = store.to_owned();
    match error {
        StoreError::NoSuchBucket { .. } | StoreError::NotFound { .. } => AccessError::NoSuchBucket(store),
        StoreError::AccessDenied { message, .. } => AccessError::Denied { store, message },
        StoreError::Unreachable { endpoint, message } => AccessError::Unreachable { store, endpoint, message },
        StoreError::Permanent { message, .. } => AccessError::Other { store, message },
        other => AccessError::Other { store, message: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::faulty::{Fault, FaultyStore, Op};
    use crate::repository::memory::MemoryStore;
    use std::sync::Arc;
    use tokio::time::Instant;

    fn faulty() -> FaultyStore {
        FaultyStore::new(Arc::new(MemoryStore::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_bucket_is_fine() {
        assert_eq!(check(&faulty(), "p/").await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_store_is_asked_once() {
        let store = faulty();
        store.always(Some(Fault::Unreachable));
        assert!(matches!(check(&store, "").await, Err(AccessError::Unreachable { .. })));
        assert_eq!(store.counts().list, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_credentials_are_final() {
        let store = faulty();
        store.always(Some(Fault::Denied));
        assert!(matches!(check(&store, "").await, Err(AccessError::Denied { .. })));
        assert_eq!(store.counts().list, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_outage_is_waited_for() {
        let store = faulty();
        store.next_of(Op::List, Fault::Unavailable, 5);
        assert_eq!(check(&store, "").await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_is_given_ten_seconds() {
        let store = faulty();
        store.always(Some(Fault::Timeout(Duration::from_secs(60))));
        let began = Instant::now();
        assert!(matches!(check(&store, "").await, Err(AccessError::NoAnswer { .. })));
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
