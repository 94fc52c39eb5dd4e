//! Who may: one pair of credentials, which may be replaced by another, and unsigned requests if the settings allow them.

use crate::config::Credentials;
use parking_lot::Mutex;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The credentials that are good now, and those that were.
#[derive(Debug)]
pub(crate) struct Keys {
    now: Mutex<Credentials>,
    expired: Mutex<Vec<String>>,
    /// Requests refused because their key was good once.
    refused: AtomicU64,
}

impl Keys {
    pub(crate) fn new(now: Credentials) -> Self {
        Keys { now: Mutex::new(now), expired: Mutex::default(), refused: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Credentials {
        self.now.lock().clone()
    }

    pub(crate) fn replace(&self, credentials: Credentials) {
        // In this order: at no moment is a key neither good nor expired.
        let before = self.now().access_key;
        self.expired.lock().push(before);
        *self.now.lock() = credentials;
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Knows the secret of the access key.
pub(crate) struct OneKey(pub(crate) Arc<Keys>);

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let now = self.0.now();
        if access_key == now.access_key {
            return Ok(SecretKey::from(now.secret_key));
        }
        if self.0.expired.lock().iter().any(|expired| expired == access_key) {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return Err(s3_error!(ExpiredToken, "The provided token has expired."));
        }
        Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records."))
    }
}

/// Lets unsigned requests in, or not.
pub(crate) struct Gate {
    pub(crate) allow_anonymous: bool,
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        match self.allow_anonymous || context.credentials().is_some() {
            true => Ok(()),
            false => Err(s3_error!(AccessDenied, "Access Denied")),
        }
    }
}
