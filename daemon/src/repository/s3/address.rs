//! Where a bucket's requests go: scheme, host and base path, path-style or virtual-hosted.

use super::sign::object_path;
use crate::repository::url::host_needs_path_style;
use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// An endpoint that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not parse as a URL of a host.
    #[error("endpoint '{0}' is not a URL: write http://HOST[:PORT] or https://HOST[:PORT]")]
    NotAUrl(String),
    /// A region that would not make a host name.
    #[error("'{0}' is not a region: write one such as us-east-1")]
    BadRegion(String),
}

/// Where a bucket's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    authority: Authority,
    /// Stands before `/key`; empty, or the endpoint's own path and the bucket, encoded.
    base: String,
}

impl Address {
    /// Resolves an endpoint (Amazon's own for `None`), a bucket and a style.
    pub fn new(endpoint: Option<&str>, region: &str, bucket: &str, path_style: bool) -> Result<Self, AddressError> {
        let amazons = amazon_endpoint(region)?;
        let endpoint = endpoint.unwrap_or(&amazons);
        let bad = || AddressError::NotAUrl(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_| bad())?;
        let scheme = uri.scheme().filter(|s| [Scheme::HTTP, Scheme::HTTPS].contains(s)).ok_or_else(bad)?.clone();
        let authority = uri.authority().filter(|a| !a.host().is_empty() && !a.as_str().contains('@')).ok_or_else(bad)?;
        if uri.query().is_some() {
            return Err(bad());
        }
        let base = uri.path().trim_end_matches('/').to_owned();
        // A certificate for *.s3.amazonaws.com does not cover a bucket with a dot in its name.
        let dotted = scheme == Scheme::HTTPS && bucket.contains('.');
        if path_style || dotted || host_needs_path_style(authority.host()) {
            return Ok(Address { scheme, authority: authority.clone(), base: object_path(&base, bucket) });
        }
        let authority = format!("{bucket}.{authority}").parse().map_err(|_| bad())?;
        Ok(Address { scheme, authority, base })
    }

    /// The `Host` header: the port only where it is not the scheme's own.
    pub fn host(&self) -> &str {
        let whole = self.authority.as_str();
        let implied = if self.scheme == Scheme::HTTPS { ":443" } else { ":80" };
        whole.strip_suffix(implied).unwrap_or(whole)
    }

    /// The encoded path of a key.
    pub fn object(&self, key: &str) -> String {
        object_path(&self.base, key)
    }

    /// The encoded path of the bucket itself.
    pub fn bucket(&self) -> String {
        if self.base.is_empty() { "/".to_owned() } else { self.base.clone() }
    }

    /// A request's URI from its encoded path and query; `None` if it is too long for one (64 KiB).
    pub fn uri(&self, path: &str, query: &str) -> Option<Uri> {
        let joined = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let path_and_query = PathAndQuery::try_from(joined).ok()?;
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        uri.path_and_query(path_and_query).build().ok()
    }

    /// Whether it is Amazon's own S3, whose ways are known.
    pub fn is_amazon(&self) -> bool {
        let host = self.authority.host();
        host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
    }

    /// Whether connections need TLS.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// For messages: scheme and host.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.host())
    }
}

fn amazon_endpoint(region: &str) -> Result<String, AddressError> {
    if region.is_empty() || !region.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Err(AddressError::BadRegion(region.to_owned()));
    }
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    Ok(format!("https://s3.{region}.{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(endpoint: Option<&str>, bucket: &str, path_style: bool, key: &str) -> String {
        let address = Address::new(endpoint, "eu-west-1", bucket, path_style).expect("a good endpoint");
        address.uri(&address.object(key), "").expect("a short key").to_string()
    }

    #[test]
    fn the_bucket_stands_in_the_host_where_it_can() {
        assert_eq!(uri(None, "lake", false, "a"), "https://lake.s3.eu-west-1.amazonaws.com/a");
        assert_eq!(uri(None, "lake", true, "a"), "https://s3.eu-west-1.amazonaws.com/lake/a");
        assert_eq!(uri(None, "la.ke", false, "a"), "https://s3.eu-west-1.amazonaws.com/la.ke/a");
        assert_eq!(uri(Some("http://127.0.0.1:9000/"), "lake", false, "a"), "http://127.0.0.1:9000/lake/a");
        assert_eq!(uri(Some("http://[::1]:9000"), "lake", false, "a"), "http://[::1]:9000/lake/a");
        assert_eq!(uri(Some("https://gate.example/s3"), "lake", true, "a"), "https://gate.example/s3/lake/a");
    }

    #[test]
    fn odd_keys_reach_the_wire_as_they_are() {
        for (key, want) in [("/x", "//x"), ("a//b", "/a//b"), ("../x", "/../x"), ("a/./b/", "/a/./b/"), ("a?b#c", "/a%3Fb%23c")] {
            assert_eq!(uri(None, "lake", false, key), format!("https://lake.s3.eu-west-1.amazonaws.com{want}"), "{key}");
        }
    }

    #[test]
    fn the_host_header_has_no_implied_port() {
        let host = |endpoint| Address::new(Some(endpoint), "x", "b", true).expect("good").host().to_owned();
        assert_eq!(host("https://s.example:443"), "s.example");
        assert_eq!(host("http://s.example:80"), "s.example");
        assert_eq!(host("http://s.example:443"), "s.example:443");
    }

    #[test]
    fn amazons_own_is_told_from_the_rest() {
        let is_amazon = |endpoint| Address::new(endpoint, "eu-west-1", "lake", false).expect("good").is_amazon();
        assert!(is_amazon(None) && is_amazon(Some("https://s3.dualstack.eu-west-1.amazonaws.com")));
        assert!(!is_amazon(Some("http://127.0.0.1:9000")) && !is_amazon(Some("https://amazonaws.com.example")));
    }

    #[test]
    fn bad_endpoints_and_regions_are_refused() {
        for endpoint in ["", "s3.example", "ftp://x", "http://", "http://u@x", "http://x?y"] {
            assert!(Address::new(Some(endpoint), "x", "b", true).is_err(), "{endpoint}");
        }
        assert_eq!(Address::new(None, "eu west", "b", true), Err(AddressError::BadRegion("eu west".into())));
    }
}
