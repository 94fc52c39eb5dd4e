//! From settings to a store.

use super::ObjectStore;
use super::directory::DirectoryStore;
use super::environment::Environment;
use super::generic::{GenericStore, Vendor};
use super::keymap::mount_prefix;
use super::s3::profile::{Profile, ProfileError};
use super::s3::{Address, AddressError, Credentials, CustomerKey, Encryption, Limits, S3Config, S3Store};
use super::url::{RepositoryUrl, UrlError};
use crate::clock::SystemClock;
use crate::config::RepositorySettings;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ClientOptions, RetryConfig};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Settings that name no usable store: one line with the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The endpoint or region.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// `--sse`.
    #[error("--sse {0} is not known: use AES256, aws:kms, aws:kms:dsse or sse-c")]
    Sse(String),
    /// `--sse sse-c` without a key that is one.
    #[error("--sse sse-c needs the 256-bit key in base64 as --sse-kms-key-id")]
    CustomerKey,
    /// A key without an encryption that takes one.
    #[error("--sse-kms-key-id goes with --sse aws:kms, aws:kms:dsse or sse-c")]
    StrayKey,
    /// An S3 Express bucket.
    #[error("'{0}' is a directory bucket (S3 Express One Zone), which is not supported: use a general purpose bucket")]
    DirectoryBucket(String),
    /// A flag that means something for S3 only.
    #[error("{flag} goes with s3:// only, not with '{url}'")]
    S3Only {
        /// The flag.
        flag: &'static str,
        /// As given.
        url: String,
    },
    /// The directory of a `file://` URL.
    #[error("cannot open directory {path}: {source}: create it, or check the path and its permissions")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system's root certificates.
    #[error("cannot load the root certificates that https needs: {0}: install ca-certificates, or set SSL_CERT_FILE")]
    Certificates(io::Error),
    /// What a GCS or Azure client says.
    #[error("cannot set up '{url}': {source}")]
    Client {
        /// As given.
        url: String,
        /// Why.
        source: Box<object_store::Error>,
    },
}

/// A store, and the prefix of the keys that are mounted (empty, or ending in `/`).
pub type Opened = (Arc<dyn ObjectStore>, String);

/// Opens what settings name, with the process's environment. Asks nobody yet; see [`super::Repository::check_access`].
pub fn open(settings: &RepositorySettings) -> Result<Opened, OpenError> {
    open_with(settings, &Environment::of_process())
}

/// Opens what settings name, with an environment of one's own.
pub fn open_with(settings: &RepositorySettings, environment: &Environment) -> Result<Opened, OpenError> {
    // object_store's clients leave the choice of TLS provider to the process. That it was made already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url: RepositoryUrl = settings.url.parse()?;
    let prefix = mount_prefix(url.prefix());
    let store: Arc<dyn ObjectStore> = match &url {
        RepositoryUrl::S3 { bucket, .. } => Arc::new(open_s3(bucket, settings, environment)?),
        RepositoryUrl::Gcs { bucket, .. } => open_gcs(bucket, settings, environment)?,
        RepositoryUrl::Azure { container, .. } => open_azure(container, settings, environment)?,
        RepositoryUrl::Directory { path } => {
            only_s3(settings)?;
            let store = DirectoryStore::open(path).map_err(|source| OpenError::Directory { path: path.clone(), source })?;
            Arc::new(store)
        }
    };
    Ok((store, prefix))
}

/// What the AWS tools' files and variables say, whatever is asked of AWS.
pub(super) struct Surroundings {
    profile: Profile,
    /// The region.
    pub(super) region: String,
}

impl Surroundings {
    pub(super) fn of(settings: &RepositorySettings, environment: &Environment) -> Result<Self, OpenError> {
        let name = settings.profile.as_deref().or(environment.get("AWS_PROFILE"));
        let files = environment.profile_files();
        let profile = match name {
            // Credentials::resolve says what is wrong with a profile that somebody named.
            Some(name) => files.find(name)?,
            None => files.find("default").unwrap_or_default(),
        };
        let profile = profile.unwrap_or_default();
        let region = given(&settings.region, &["AWS_REGION", "AWS_DEFAULT_REGION"], "region", environment, &profile);
        Ok(Surroundings { profile, region: region.unwrap_or_else(|| "us-east-1".to_owned()) })
    }
}

fn given(
    flag: &Option<String>,
    variables: &[&str],
    setting: &str,
    environment: &Environment,
    profile: &Profile,
) -> Option<String> {
    let variable = || variables.iter().find_map(|name| environment.get(name));
    flag.as_deref().or_else(variable).or(profile.get(setting)).map(str::to_owned)
}

fn open_s3(bucket: &str, settings: &RepositorySettings, environment: &Environment) -> Result<S3Store, OpenError> {
    if bucket.ends_with("--x-s3") {
        return Err(OpenError::DirectoryBucket(bucket.to_owned()));
    }
    let encryption = encryption(settings)?;
    let Surroundings { profile, region } = Surroundings::of(settings, environment)?;
    let given = |flag: &Option<String>, variables: &[&str], setting: &str| given(flag, variables, setting, environment, &profile);
    let endpoint = given(&settings.endpoint_url, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], "endpoint_url");
    let address = Address::new(endpoint.as_deref(), &region, bucket, settings.force_path_style)?;
    let credentials = match settings.no_sign_request {
        true => Credentials::unsigned(),
        false => Credentials::resolve(environment, settings.profile.as_deref(), &region)?,
    };
    let config = S3Config {
        bucket: bucket.to_owned(),
        region,
        address,
        credentials,
        requester_pays: settings.requester_pays,
        encryption,
        limits: Limits::default(),
    };
    S3Store::new(config, SystemClock::shared()).map_err(OpenError::Certificates)
}

fn encryption(settings: &RepositorySettings) -> Result<Encryption, OpenError> {
    let key = settings.sse_kms_key_id.as_deref();
    let by_store = |algorithm| Ok(Encryption::Store { algorithm, key_id: key.map(str::to_owned) });
    match settings.sse.as_deref() {
        Some("sse-c") => key.and_then(CustomerKey::from_base64).map(Encryption::Customer).ok_or(OpenError::CustomerKey),
        Some("aws:kms") => by_store("aws:kms"),
        Some("aws:kms:dsse") => by_store("aws:kms:dsse"),
        None | Some("AES256") if key.is_some() => Err(OpenError::StrayKey),
        Some("AES256") => by_store("AES256"),
        None => Ok(Encryption::AsBucket),
        Some(other) => Err(OpenError::Sse(other.to_owned())),
    }
}

fn only_s3(settings: &RepositorySettings) -> Result<(), OpenError> {
    let stray = [
        (settings.region.is_some(), "--region"),
        (settings.profile.is_some(), "--profile"),
        (settings.force_path_style, "--force-path-style"),
        (settings.requester_pays, "--requester-pays"),
        (settings.sse.is_some() || settings.sse_kms_key_id.is_some(), "--sse"),
    ];
    match stray.into_iter().find(|(is_set, _)| *is_set) {
        Some((_, flag)) => Err(OpenError::S3Only { flag, url: settings.url.clone() }),
        None => Ok(()),
    }
}

/// Retries are [`super::Repository`]'s.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn client_options(settings: &RepositorySettings) -> ClientOptions {
    let plain = settings.endpoint_url.as_deref().is_some_and(|url| url.starts_with("http://"));
    let options = ClientOptions::new().with_allow_http(plain).with_http1_only().with_timeout_disabled();
    options.with_connect_timeout(Duration::from_secs(5)).with_read_timeout(Duration::from_secs(15))
}

fn open_gcs(bucket: &str, settings: &RepositorySettings, environment: &Environment) -> Result<Arc<dyn ObjectStore>, OpenError> {
    only_s3(settings)?;
    let mut builder = GoogleCloudStorageBuilder::new();
    for (name, value) in environment.starting_with("GOOGLE_") {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(url) = &settings.endpoint_url {
        builder = builder.with_base_url(url);
    }
    let builder = builder.with_bucket_name(bucket).with_skip_signature(settings.no_sign_request).with_retry(once());
    let built = builder.with_client_options(client_options(settings)).build();
    let store = built.map_err(|source| OpenError::Client { url: settings.url.clone(), source: Box::new(source) })?;
    Ok(Arc::new(GenericStore::new(format!("gs://{bucket}"), store, Vendor::Gcs)))
}

fn open_azure(
    container: &str,
    settings: &RepositorySettings,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    only_s3(settings)?;
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in environment.starting_with("AZURE_") {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(url) = &settings.endpoint_url {
        builder = builder.with_endpoint(url.clone());
    }
    let builder = builder.with_container_name(container).with_skip_signature(settings.no_sign_request).with_retry(once());
    let built = builder.with_client_options(client_options(settings)).build();
    let store = built.map_err(|source| OpenError::Client { url: settings.url.clone(), source: Box::new(source) })?;
    Ok(Arc::new(GenericStore::new(format!("az://{container}"), store, Vendor::Azure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> RepositorySettings {
        RepositorySettings {
            url: url.into(),
            endpoint_url: None,
            region: None,
            profile: None,
            force_path_style: false,
            no_sign_request: true,
            requester_pays: false,
            sse: None,
            sse_kms_key_id: None,
            deadline: Duration::from_secs(60),
        }
    }

    fn open_s3_like(change: impl FnOnce(&mut RepositorySettings)) -> Result<Opened, OpenError> {
        let mut settings = settings("s3://lake/raw");
        settings.endpoint_url = Some("http://127.0.0.1:9".into());
        change(&mut settings);
        open_with(&settings, &Environment::default())
    }

    #[test]
    fn every_scheme_opens() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = format!("file://{}", dir.path().display());
        for (url, name, prefix) in [
            ("s3://lake/raw", "s3://lake", "raw/"),
            ("gs://lake", "gs://lake", ""),
            ("az://box/a/", "az://box", "a/"),
            (file.as_str(), file.as_str(), ""),
        ] {
            let mut settings = settings(url);
            if !url.starts_with("file") {
                settings.endpoint_url = Some("http://127.0.0.1:9/account".into());
            }
            let azure = [("AZURE_STORAGE_ACCOUNT_NAME".to_owned(), "account".to_owned())];
            let (store, mounted) = open_with(&settings, &Environment::from_pairs(azure)).unwrap_or_else(|e| panic!("{url}: {e}"));
            assert_eq!((store.name(), mounted.as_str()), (name, prefix));
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_the_way_out() {
        let words = |result: Result<Opened, OpenError>| result.map(|_| ()).expect_err("refused").to_string();
        assert!(words(open_s3_like(|s| s.sse = Some("rot13".into()))).contains("--sse rot13 is not known"));
        assert!(words(open_s3_like(|s| s.sse = Some("sse-c".into()))).contains("needs the 256-bit key"));
        assert!(words(open_s3_like(|s| s.sse_kms_key_id = Some("k".into()))).contains("goes with --sse"));
        assert!(words(open_s3_like(|s| s.region = Some("a b".into()))).contains("is not a region"));
        assert!(words(open_s3_like(|s| s.endpoint_url = Some("nowhere".into()))).contains("is not a URL"));
        assert!(words(open_s3_like(|s| s.url = "s3://x--use1-az4--x-s3".into())).contains("directory bucket"));
        assert!(words(open_s3_like(|s| s.url = "file:///nonexistent".into())).contains("cannot open directory"));
        let profile = open_s3_like(|s| (s.no_sign_request, s.profile) = (false, Some("gone".into())));
        assert!(words(profile).contains("profile 'gone'"));
    }

    #[test]
    fn encryption_settings_for_writes_are_accepted() {
        for (sse, key) in [("AES256", None), ("aws:kms", None), ("aws:kms", Some("arn")), ("aws:kms:dsse", Some("arn"))] {
            assert!(open_s3_like(|s| (s.sse, s.sse_kms_key_id) = (Some(sse.into()), key.map(str::to_owned))).is_ok(), "{sse}");
        }
    }
}
