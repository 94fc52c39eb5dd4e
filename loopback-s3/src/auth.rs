//! Who may: one pair of credentials, and unsigned requests if the settings allow them.

use crate::config::LoopbackConfig;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

/// Knows the secret of the one access key.
pub(crate) struct OneKey {
    access_key: String,
    secret: SecretKey,
}

impl OneKey {
    pub(crate) fn new(config: &LoopbackConfig) -> OneKey {
        let credentials = &config.credentials;
        OneKey { access_key: credentials.access_key.clone(), secret: SecretKey::from(credentials.secret_key.clone()) }
    }
}

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match access_key == self.access_key {
            true => Ok(self.secret.clone()),
            false => Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")),
        }
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
