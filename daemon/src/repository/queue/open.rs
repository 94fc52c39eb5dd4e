//! From a queue's URL to a queue.

use super::{EventQueue, SqsConfig, SqsQueue};
use crate::clock::SystemClock;
use crate::config::RepositorySettings;
use crate::repository::Environment;
use crate::repository::open::{OpenError, Surroundings};
use crate::repository::s3::{Address, Credentials};
use std::sync::Arc;

/// A queue URL that names none, or that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueUrlError {
    /// Not one.
    #[error(
        "--event-queue-url '{0}' is not the URL of a queue: write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, as the queue's details show it"
    )]
    NotAQueue(String),
    /// Profile, region, certificates.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Scheme and host of a queue's URL, if it is one: `scheme://host/account/name`.
pub fn queue_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let (host, path) = rest.split_once('/')?;
    let is_plain = !url.contains(|c: char| c.is_whitespace() || c == '?' || c == '#');
    let has_name = path.split('/').next_back().is_some_and(|name| !name.is_empty());
    (is_plain && has_name && !host.is_empty()).then(|| &url[..url.len() - path.len() - 1])
}

/// The region that a host of Amazon's names.
fn region_of(host: &str) -> Option<&str> {
    let host = host.split("://").nth(1)?.split(':').next()?;
    let inner = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    // An endpoint in one's own network is vpce-….sqs.REGION.vpce.amazonaws.com; the oldest form is REGION.queue.amazonaws.com.
    match inner.strip_suffix(".queue") {
        Some(region) => Some(region),
        None => inner.split('.').skip_while(|part| !part.starts_with("sqs")).nth(1),
    }
}

/// Opens a queue with the credentials of a repository, and the process's environment. Asks nobody yet.
pub fn open(url: &str, settings: &RepositorySettings) -> Result<Arc<dyn EventQueue>, QueueUrlError> {
    open_with(url, settings, &Environment::of_process())
}

/// The same with an environment of one's own.
pub fn open_with(
    url: &str,
    settings: &RepositorySettings,
    environment: &Environment,
) -> Result<Arc<dyn EventQueue>, QueueUrlError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let host = queue_host(url).ok_or_else(|| QueueUrlError::NotAQueue(url.to_owned()))?;
    let surroundings = Surroundings::of(settings, environment)?;
    let region = region_of(host).map_or(surroundings.region, str::to_owned);
    let address = Address::new(Some(host), &region, "", true).map_err(OpenError::from)?;
    let credentials = match settings.no_sign_request {
        true => Credentials::unsigned(),
        false => Credentials::resolve(environment, settings.profile.as_deref(), &region).map_err(OpenError::from)?,
    };
    let config = SqsConfig { url: url.to_owned(), region, address, credentials };
    let queue = SqsQueue::new(config, SystemClock::shared()).map_err(OpenError::Certificates)?;
    Ok(Arc::new(queue))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_a_host_and_a_name() {
        assert_eq!(
            queue_host("https://sqs.eu-west-1.amazonaws.com/123456789012/changes"),
            Some("https://sqs.eu-west-1.amazonaws.com")
        );
        assert_eq!(queue_host("http://127.0.0.1:5000/123456789012/q"), Some("http://127.0.0.1:5000"));
        for url in [
            "",
            "changes",
            "arn:aws:sqs:eu-west-1:1:q",
            "https://host",
            "https://host/",
            "https:///a/b",
            "http://h/a b",
            "http://h/q?x",
        ] {
            assert_eq!(queue_host(url), None, "{url}");
        }
    }

    #[test]
    fn amazons_hosts_name_their_region() {
        for (host, region) in [
            ("https://sqs.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("https://us-west-2.queue.amazonaws.com", Some("us-west-2")),
            ("https://vpce-0a.sqs.us-east-2.vpce.amazonaws.com", Some("us-east-2")),
            ("https://sqs-fips.us-east-1.amazonaws.com", Some("us-east-1")),
            ("http://127.0.0.1:5000", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
