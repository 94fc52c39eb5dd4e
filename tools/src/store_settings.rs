//! The arguments that say how a bucket is reached, to checked [`RepositorySettings`].

use crate::cli::StoreArgs;
use crate::settings::{Checked, bad};
use forebay_daemon::config::RepositorySettings;
use std::net::IpAddr;
use std::time::Duration;

/// How long a request is retried before the operation that needs it fails: longer than a fail-over or a burst of throttling,
/// shorter than a person's patience with a hanging `ls`.
pub(crate) const STORE_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of an SSE-C key.
const CUSTOMER_KEY_BYTES: usize = 32;

/// Checks a repository and how it is to be reached.
pub(crate) fn repository(url: &str, args: &StoreArgs) -> Checked<RepositorySettings> {
    let scheme = check_url(url)?;
    let endpoint_url = args.endpoint_url.as_deref().map(|url| check_endpoint(url, scheme)).transpose()?;
    check_signing(args)?;
    check_encryption(args, scheme)?;
    for (name, value) in [("--region", &args.region), ("--profile", &args.profile)] {
        if value.as_deref().is_some_and(|value| value.trim().is_empty()) {
            return bad(name, "empty", "give it a value or leave it out");
        }
    }
    Ok(RepositorySettings {
        url: url.to_owned(),
        force_path_style: args.force_path_style || endpoint_url.as_deref().is_some_and(is_address_or_localhost),
        endpoint_url,
        region: args.region.clone(),
        profile: args.profile.clone(),
        no_sign_request: args.no_sign_request,
        requester_pays: args.requester_pays,
        sse: args.sse.clone(),
        sse_kms_key_id: args.sse_kms_key_id.clone(),
        deadline: STORE_DEADLINE,
    })
}

/// The kinds of repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    S3,
    Gcs,
    Azure,
    File,
}

/// The scheme of a repository that can be one.
pub(crate) fn check_url(url: &str) -> Checked<Scheme> {
    let thing = || format!("repository '{url}'");
    let forms = "write s3://bucket[/prefix], gs://…, az://… or file:///dir";
    let Some((scheme, rest)) = url.split_once("://") else {
        return bad(thing(), "has no scheme", forms);
    };
    let scheme = match scheme {
        "s3" => Scheme::S3,
        "gs" => Scheme::Gcs,
        "az" => Scheme::Azure,
        "file" if rest.starts_with('/') => return Ok(Scheme::File),
        "file" => return bad(thing(), "names no absolute directory", "write file:///dir, with three slashes"),
        other => return bad(thing(), format!("'{other}' is not a scheme of ours"), forms),
    };
    let bucket = rest.split('/').next().unwrap_or_default();
    if bucket.is_empty() {
        return bad(thing(), "names no bucket", forms);
    }
    if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return bad(thing(), format!("'{bucket}' cannot be a bucket's name"), "use letters, digits, '-', '.' and '_'");
    }
    Ok(scheme)
}

fn check_endpoint(url: &str, scheme: Scheme) -> Checked<String> {
    let thing = || format!("--endpoint-url '{url}'");
    if scheme == Scheme::File {
        return bad(thing(), "a file:// repository has no endpoint", "leave it out");
    }
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match host.map(|rest| rest.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(url.trim_end_matches('/').to_owned()),
        _ => bad(thing(), "not an http:// or https:// URL", "write it as in http://127.0.0.1:9000"),
    }
}

/// Whether virtual-host style cannot work, because `bucket.<host>` would not resolve.
fn is_address_or_localhost(endpoint: &str) -> bool {
    let authority = endpoint.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

fn check_signing(args: &StoreArgs) -> Checked<()> {
    match &args.profile {
        Some(profile) if args.no_sign_request => {
            bad(format!("--profile '{profile}'"), "unsigned requests use no credentials", "drop it or --no-sign-request")
        }
        _ => Ok(()),
    }
}

fn check_encryption(args: &StoreArgs, scheme: Scheme) -> Checked<()> {
    let key = args.sse_kms_key_id.as_deref();
    let Some(sse) = args.sse.as_deref() else {
        return match key {
            Some(_) => bad("--sse-kms-key-id", "means nothing without --sse", "add --sse aws:kms or --sse sse-c"),
            None => Ok(()),
        };
    };
    let thing = || format!("--sse '{sse}'");
    if scheme != Scheme::S3 {
        return bad(thing(), "only s3:// repositories have it", "leave it out");
    }
    match (sse, key) {
        ("AES256", None) | ("aws:kms" | "aws:kms:dsse", _) => Ok(()),
        ("AES256", Some(_)) => bad("--sse-kms-key-id", "AES256 takes no key", "drop it or use --sse aws:kms"),
        ("sse-c", Some(key)) if is_customer_key(key) => Ok(()),
        // The key itself is not repeated: it is a secret, and errors end up in logs.
        ("sse-c", Some(_)) => bad("--sse-kms-key-id", "not 32 bytes in base64", "make one with 'openssl rand -base64 32'"),
        ("sse-c", None) => bad(thing(), "needs a key", "add --sse-kms-key-id with 32 bytes in base64"),
        _ => bad(thing(), "not known", "use AES256, aws:kms, aws:kms:dsse or sse-c"),
    }
}

/// Whether this is [`CUSTOMER_KEY_BYTES`] in padded base64: 43 digits and one `=`.
fn is_customer_key(key: &str) -> bool {
    let digits = (CUSTOMER_KEY_BYTES * 4).div_ceil(3);
    let body = key.strip_suffix('=').unwrap_or_default();
    body.len() == digits && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}
