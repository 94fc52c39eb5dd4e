//! The repository's URL: `s3://bucket[/prefix]`, `gs://bucket[/prefix]`, `az://container[/prefix]`, `file:///dir`.
//!
//! Parsing is literal: nothing is percent-decoded or normalised, since object keys may hold any character. A prefix is
//! kept as given here; [`super::keymap::mount_prefix`] adds its closing slash.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// An S3 bucket, or one of an S3-compatible store.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix as given, without the slash before it.
        prefix: String,
    },
    /// A Google Cloud Storage bucket.
    Gcs {
        /// The bucket.
        bucket: String,
        /// The prefix as given.
        prefix: String,
    },
    /// An Azure Blob Storage container.
    Azure {
        /// The container.
        container: String,
        /// The prefix as given.
        prefix: String,
    },
    /// A directory.
    Directory {
        /// Its absolute path.
        path: PathBuf,
    },
}

/// A URL that names no repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No scheme at all.
    #[error(
        "'{0}' is not a repository: write s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX], az://CONTAINER[/PREFIX] or file:///DIR"
    )]
    NoScheme(String),
    /// A scheme we do not serve.
    #[error("'{url}': scheme '{scheme}' is not known: use s3, gs, az or file")]
    UnknownScheme {
        /// As given.
        url: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// Nothing where the bucket should be.
    #[error("'{0}' names no bucket: write s3://BUCKET[/PREFIX]")]
    NoBucket(String),
    /// A name that cannot be a bucket's.
    #[error("'{bucket}' in '{url}' cannot be a bucket's name: letters, digits, '.', '-' and '_', at most 255")]
    BadBucket {
        /// As given.
        url: String,
        /// The name.
        bucket: String,
    },
    /// An access point or object lambda ARN.
    #[error("'{0}' is an ARN: use the access point's alias (aws s3control get-access-point) in its place, as in s3://ALIAS")]
    Arn(String),
    /// A directory that is not absolute.
    #[error("'{0}' must name an absolute path: write file:///DIR")]
    RelativePath(String),
}

impl FromStr for RepositoryUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| UrlError::NoScheme(url.to_owned()))?;
        match scheme {
            "s3" | "s3a" => split_bucket(url, rest).map(|(bucket, prefix)| RepositoryUrl::S3 { bucket, prefix }),
            "gs" => split_bucket(url, rest).map(|(bucket, prefix)| RepositoryUrl::Gcs { bucket, prefix }),
            "az" => split_bucket(url, rest).map(|(container, prefix)| RepositoryUrl::Azure { container, prefix }),
            "file" if rest.starts_with('/') => Ok(RepositoryUrl::Directory { path: PathBuf::from(rest) }),
            "file" => Err(UrlError::RelativePath(url.to_owned())),
            _ => Err(UrlError::UnknownScheme { url: url.to_owned(), scheme: scheme.to_owned() }),
        }
    }
}

fn split_bucket(url: &str, rest: &str) -> Result<(String, String), UrlError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(UrlError::NoBucket(url.to_owned()));
    }
    if bucket.starts_with("arn:") {
        return Err(UrlError::Arn(url.to_owned()));
    }
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if bucket.len() > 255 || !bucket.bytes().all(good) || bucket.bytes().all(|c| c == b'.') {
        return Err(UrlError::BadBucket { url: url.to_owned(), bucket: bucket.to_owned() });
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

impl RepositoryUrl {
    /// The prefix as given; empty for a directory.
    pub fn prefix(&self) -> &str {
        match self {
            RepositoryUrl::S3 { prefix, .. } | RepositoryUrl::Gcs { prefix, .. } | RepositoryUrl::Azure { prefix, .. } => prefix,
            RepositoryUrl::Directory { .. } => "",
        }
    }

    /// Whether both are of one bucket, or of one directory.
    pub fn is_same_store(&self, other: &RepositoryUrl) -> bool {
        match (self, other) {
            (RepositoryUrl::S3 { bucket: a, .. }, RepositoryUrl::S3 { bucket: b, .. })
            | (RepositoryUrl::Gcs { bucket: a, .. }, RepositoryUrl::Gcs { bucket: b, .. })
            | (RepositoryUrl::Azure { container: a, .. }, RepositoryUrl::Azure { container: b, .. }) => a == b,
            (RepositoryUrl::Directory { path: a }, RepositoryUrl::Directory { path: b }) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix) = match self {
            RepositoryUrl::S3 { bucket, prefix } => ("s3", bucket, prefix),
            RepositoryUrl::Gcs { bucket, prefix } => ("gs", bucket, prefix),
            RepositoryUrl::Azure { container, prefix } => ("az", container, prefix),
            RepositoryUrl::Directory { path } => return write!(f, "file://{}", path.display()),
        };
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "{scheme}://{bucket}{slash}{prefix}")
    }
}

/// Whether buckets of an endpoint with this host can only be named in the path: an address, or localhost, has no
/// subdomains.
pub fn host_needs_path_style(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<RepositoryUrl, UrlError> {
        url.parse()
    }

    #[test]
    fn buckets_and_prefixes_are_taken_literally() {
        let s3 = |bucket: &str, prefix: &str| RepositoryUrl::S3 { bucket: bucket.into(), prefix: prefix.into() };
        for (url, want) in [
            ("s3://lake", s3("lake", "")),
            ("s3://lake/", s3("lake", "")),
            ("s3://lake/raw/2024", s3("lake", "raw/2024")),
            ("s3://lake/raw/", s3("lake", "raw/")),
            ("s3://lake//a%20b", s3("lake", "/a%20b")),
            ("gs://lake/x", RepositoryUrl::Gcs { bucket: "lake".into(), prefix: "x".into() }),
            ("az://box/x", RepositoryUrl::Azure { container: "box".into(), prefix: "x".into() }),
            ("file:///srv/data", RepositoryUrl::Directory { path: "/srv/data".into() }),
        ] {
            assert_eq!(parse(url), Ok(want), "{url}");
        }
    }

    #[test]
    fn what_is_no_repository_is_named_with_the_way_out() {
        for (url, want) in [
            ("lake", UrlError::NoScheme("lake".into())),
            ("s3:///x", UrlError::NoBucket("s3:///x".into())),
            ("s3://a b", UrlError::BadBucket { url: "s3://a b".into(), bucket: "a b".into() }),
            ("s3://..", UrlError::BadBucket { url: "s3://..".into(), bucket: "..".into() }),
            ("s3://arn:aws:s3:x:1:accesspoint/y", UrlError::Arn("s3://arn:aws:s3:x:1:accesspoint/y".into())),
            ("ftp://x", UrlError::UnknownScheme { url: "ftp://x".into(), scheme: "ftp".into() }),
            ("file://x/y", UrlError::RelativePath("file://x/y".into())),
        ] {
            assert_eq!(parse(url), Err(want), "{url}");
        }
    }

    #[test]
    fn addresses_and_localhost_need_the_bucket_in_the_path() {
        for host in ["127.0.0.1", "[::1]", "::1", "localhost", "10.0.0.7"] {
            assert!(host_needs_path_style(host), "{host}");
        }
        for host in ["s3.eu-west-1.amazonaws.com", "minio.local", "1.example"] {
            assert!(!host_needs_path_style(host), "{host}");
        }
    }

    #[test]
    fn a_url_prints_as_it_was_given() {
        for url in ["s3://lake", "s3://lake/a/b/", "gs://x/y", "az://x", "file:///srv"] {
            assert_eq!(parse(url).expect("a good URL").to_string(), url);
        }
    }
}
