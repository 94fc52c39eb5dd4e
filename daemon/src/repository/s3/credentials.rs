//! Where signing keys come from, in the order of the AWS tools: a named profile; the environment; the default profile's
//! files; then web identity, ECS, EKS and the instance's metadata, through `object_store`.

use super::profile::{ProfileError, ProfileFiles};
use crate::repository::StoreError;
use crate::repository::environment::Environment;
use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a metadata service is asked before the request that needs a key fails (and is itself retried).
const CHAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// A source of signing keys.
pub struct Credentials {
    source: Source,
}

enum Source {
    Unsigned,
    Fixed(Arc<AwsCredential>),
    Profile { files: ProfileFiles, name: String, held: Mutex<Option<Arc<AwsCredential>>> },
    Chain { builder: Box<AmazonS3Builder>, held: Mutex<Option<AwsCredentialProvider>>, worked: AtomicBool },
}

impl Credentials {
    /// No signatures at all.
    pub fn unsigned() -> Self {
        Credentials { source: Source::Unsigned }
    }

    /// One key for good.
    pub fn fixed(credential: AwsCredential) -> Self {
        Credentials { source: Source::Fixed(Arc::new(credential)) }
    }

    /// Chooses the source. `profile` is the one named by `--profile`, which beats the environment.
    pub fn resolve(environment: &Environment, profile: Option<&str>, region: &str) -> Result<Self, ProfileError> {
        let files = environment.profile_files();
        if let Some(name) = profile {
            let found = files.require(name)?;
            if let Some(credential) = found.credential(name)? {
                return Ok(Self::from_profile(files, name, credential));
            }
        }
        if let (Some(id), Some(secret)) = (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
            let token = environment.get("AWS_SESSION_TOKEN").map(str::to_owned);
            return Ok(Self::fixed(AwsCredential { key_id: id.to_owned(), secret_key: secret.to_owned(), token }));
        }
        let (name, found) = match environment.get("AWS_PROFILE") {
            Some(name) => (name, Some(files.require(name)?)),
            None => ("default", files.find("default")?),
        };
        if let Some(credential) = found.map(|found| found.credential(name)).transpose()?.flatten() {
            return Ok(Self::from_profile(files, name, credential));
        }
        Ok(Self::from_chain(environment, region))
    }

    fn from_profile(files: ProfileFiles, name: &str, credential: AwsCredential) -> Self {
        let held = Mutex::new(Some(Arc::new(credential)));
        Credentials { source: Source::Profile { files, name: name.to_owned(), held } }
    }

    fn from_chain(environment: &Environment, region: &str) -> Self {
        let mut builder = AmazonS3Builder::new().with_bucket_name("unused").with_region(region);
        for (name, value) in environment.starting_with("AWS_") {
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let retry = RetryConfig { max_retries: 2, retry_timeout: CHAIN_TIMEOUT, ..RetryConfig::default() };
        let builder = Box::new(builder.with_region(region).with_retry(retry));
        Credentials { source: Source::Chain { builder, held: Mutex::new(None), worked: AtomicBool::new(false) } }
    }

    /// The key to sign with now; `None` for unsigned requests.
    pub async fn get(&self, bucket: &str) -> Result<Option<Arc<AwsCredential>>, StoreError> {
        match &self.source {
            Source::Unsigned => Ok(None),
            Source::Fixed(credential) => Ok(Some(credential.clone())),
            Source::Profile { files, name, held } => {
                let mut held = held.lock();
                if held.is_none() {
                    *held = reread(files, name, bucket)?.map(Arc::new);
                }
                Ok(held.clone())
            }
            Source::Chain { builder, held, worked } => {
                let provider = chain_provider(builder, held, bucket)?;
                let got = tokio::time::timeout(CHAIN_TIMEOUT, provider.get_credential()).await;
                match got {
                    Ok(Ok(credential)) => {
                        worked.store(true, Ordering::Relaxed);
                        Ok(Some(credential))
                    }
                    Ok(Err(error)) => Err(chain_failure(bucket, worked, &error.to_string())),
                    Err(_) => Err(chain_failure(bucket, worked, "the metadata service does not answer")),
                }
            }
        }
    }

    /// Drops what is held, since the store calls it expired. `false` if there is nothing fresher to be had. Of many requests that are told so at once
    /// one drops it; all of them ask again.
    pub fn forget(&self) -> bool {
        match &self.source {
            Source::Unsigned | Source::Fixed(_) => false,
            Source::Profile { held, .. } => {
                held.lock().take();
                true
            }
            Source::Chain { held, .. } => {
                held.lock().take();
                true
            }
        }
    }
}

fn reread(files: &ProfileFiles, name: &str, bucket: &str) -> Result<Option<AwsCredential>, StoreError> {
    let denied = |error: ProfileError| StoreError::AccessDenied { what: bucket.to_owned(), message: error.to_string() };
    files.require(name).map_err(denied)?.credential(name).map_err(denied)
}

fn chain_provider(
    builder: &AmazonS3Builder,
    held: &Mutex<Option<AwsCredentialProvider>>,
    bucket: &str,
) -> Result<AwsCredentialProvider, StoreError> {
    let mut held = held.lock();
    if let Some(provider) = held.as_ref() {
        return Ok(provider.clone());
    }
    let built = builder.clone().build();
    let store = built.map_err(|error| StoreError::AccessDenied { what: bucket.to_owned(), message: error.to_string() })?;
    Ok(held.insert(store.credentials().clone()).clone())
}

/// Until a key was ever had, having none is the person's to mend; after that, a metadata service that fails is a fault
/// that passes.
fn chain_failure(bucket: &str, worked: &AtomicBool, cause: &str) -> StoreError {
    if worked.load(Ordering::Relaxed) {
        return StoreError::Transient { what: bucket.to_owned(), message: format!("no fresh credentials: {cause}") };
    }
    let message = "no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --profile, or --no-sign-request \
                   for a public bucket";
    tracing::debug!(cause, "the credential chain ended without a key");
    StoreError::AccessDenied { what: bucket.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> (tempfile::TempDir, Environment) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join(".aws")).expect("created");
        let file =
            "[default]\naws_access_key_id=D\naws_secret_access_key=s\n[other]\naws_access_key_id=O\naws_secret_access_key=s\n";
        std::fs::write(dir.path().join(".aws/credentials"), file).expect("written");
        let home = dir.path().to_str().expect("UTF-8").to_owned();
        let all = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).chain([("HOME".to_owned(), home)]);
        let environment = Environment::from_pairs(all);
        (dir, environment)
    }

    async fn key_id(pairs: &[(&str, &str)], profile: Option<&str>) -> String {
        let (_dir, environment) = environment(pairs);
        let credentials = Credentials::resolve(&environment, profile, "x").expect("resolves");
        credentials.get("b").await.expect("a key").expect("signed").key_id.clone()
    }

    #[tokio::test]
    async fn sources_come_in_the_order_of_the_aws_tools() {
        let keys = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_PROFILE", "other")];
        assert_eq!(key_id(&keys, Some("other")).await, "O");
        assert_eq!(key_id(&keys, None).await, "E");
        assert_eq!(key_id(&keys[2..], None).await, "O");
        assert_eq!(key_id(&[], None).await, "D");
    }

    #[tokio::test]
    async fn expired_keys_of_a_profile_are_read_again() {
        let (dir, environment) = environment(&[]);
        let credentials = Credentials::resolve(&environment, Some("other"), "x").expect("resolves");
        let fresh = "[other]\naws_access_key_id=NEW\naws_secret_access_key=s\n";
        std::fs::write(dir.path().join(".aws/credentials"), fresh).expect("written");
        assert!(credentials.forget() && credentials.forget(), "whoever comes second asks again, too");
        assert_eq!(credentials.get("b").await.expect("a key").expect("signed").key_id, "NEW");
    }

    #[test]
    fn a_fixed_key_has_nothing_fresher() {
        let key = AwsCredential { key_id: "a".into(), secret_key: "b".into(), token: None };
        assert!(!Credentials::fixed(key).forget());
    }

    #[test]
    fn a_named_profile_must_exist() {
        let (_dir, environment) = environment(&[]);
        assert!(Credentials::resolve(&environment, Some("gone"), "x").is_err());
    }
}
