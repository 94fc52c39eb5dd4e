//! What an answer that is not a success means: S3's status codes and error documents as [`StoreError`]s.

use super::xml::{self, Event};
use crate::repository::StoreError;
use crate::repository::limits::LimitError;
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    /// S3's error code; empty where there was no document (HEAD has none).
    code: String,
    message: String,
    region: Option<String>,
    retry_after: Option<Duration>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// An object.
    Object {
        /// Its key.
        key: &'a str,
    },
    /// A listing of the bucket.
    Bucket,
}

const THROTTLES: [&str; 8] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequests",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "KMS.ThrottlingException",
];

impl Refusal {
    /// Reads the status, the headers and the error document, which may be anything.
    pub fn new(status: StatusCode, headers: &HeaderMap, document: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut refusal = Refusal {
            status,
            code: String::new(),
            message: String::new(),
            region: header("x-amz-bucket-region"),
            retry_after: header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs),
        };
        let text = String::from_utf8_lossy(document);
        // Half a document still tells something, so an error in it only ends the reading.
        let _ = xml::walk(&text, |event| {
            if let Event::Leaf { path: ["Error", name], text } = event {
                match *name {
                    "Code" => refusal.code = text.to_owned(),
                    "Message" => refusal.message = text.to_owned(),
                    "Region" => refusal.region = Some(text.to_owned()),
                    _ => {}
                }
            }
        });
        refusal
    }

    /// Whether the credentials have run out, so that fresh ones may do.
    pub fn is_expired(&self) -> bool {
        matches!(self.code.as_str(), "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired")
    }

    /// Whether the range starts behind the end of the object.
    pub fn is_bad_range(&self) -> bool {
        self.status == StatusCode::RANGE_NOT_SATISFIABLE
    }

    /// Whether the store has no such request, or not with these headers.
    pub fn is_not_implemented(&self) -> bool {
        self.status == StatusCode::NOT_IMPLEMENTED || self.code == "NotImplemented"
    }

    /// Whether it may be the checksum that the store does not take.
    pub fn is_about_checksums(&self) -> bool {
        let names_it = self.message.to_ascii_lowercase().contains("checksum");
        self.is_not_implemented() || (matches!(self.code.as_str(), "InvalidRequest" | "InvalidArgument") && names_it)
    }

    fn words(&self) -> String {
        match (self.code.is_empty(), self.message.is_empty()) {
            (true, _) => format!("status {}", self.status.as_u16()),
            (false, true) => format!("{} (status {})", self.code, self.status.as_u16()),
            (false, false) => format!("{}: {} (status {})", self.code, self.message.trim_end_matches('.'), self.status.as_u16()),
        }
    }

    /// What it means for who asked. `name` is the store's, as in `s3://bucket`.
    pub fn into_error(self, subject: Subject<'_>, bucket: &str) -> StoreError {
        let what = match subject {
            Subject::Object { key } => key.to_owned(),
            Subject::Bucket => bucket.to_owned(),
        };
        if let Some(error) = self.by_code(subject, &what, bucket) {
            return error;
        }
        let message = self.words();
        match self.status.as_u16() {
            404 => match subject {
                Subject::Object { .. } => StoreError::NotFound { key: what },
                Subject::Bucket => StoreError::NoSuchBucket { bucket: bucket.to_owned() },
            },
            501 => StoreError::Unsupported { what, message },
            412 => StoreError::Changed { key: what },
            401 | 403 => StoreError::AccessDenied { what, message },
            301 | 302 | 307 | 308 => StoreError::Permanent { what, message: self.redirected() },
            429 => StoreError::SlowDown { retry_after: self.retry_after },
            503 if self.retry_after.is_some() => StoreError::SlowDown { retry_after: self.retry_after },
            408 | 425 | 500 | 502 | 503 | 504 | 509 => StoreError::Transient { what, message },
            _ => StoreError::Permanent { what, message },
        }
    }

    fn by_code(&self, subject: Subject<'_>, what: &str, bucket: &str) -> Option<StoreError> {
        let what = what.to_owned();
        Some(match (self.code.as_str(), subject) {
            (code, _) if THROTTLES.contains(&code) => StoreError::SlowDown { retry_after: self.retry_after },
            ("NoSuchBucket", _) => StoreError::NoSuchBucket { bucket: bucket.to_owned() },
            ("NoSuchKey" | "NoSuchVersion" | "MethodNotAllowed", Subject::Object { .. }) => StoreError::NotFound { key: what },
            ("NoSuchUpload", Subject::Object { .. }) => StoreError::NoSuchUpload { key: what },
            ("PreconditionFailed", Subject::Object { .. }) => StoreError::Changed { key: what },
            (
                // Two conditional writes at once, and bodies that were spoilt on their way.
                "RequestTimeout"
                | "InternalError"
                | "ServiceUnavailable"
                | "OperationAborted"
                | "ConditionalRequestConflict"
                | "BadDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "IncompleteBody",
                _,
            ) => StoreError::Transient { what, message: self.words() },
            ("KeyTooLongError", Subject::Object { .. }) => LimitError::Key { key: what }.into(),
            ("EntityTooLarge" | "MetadataTooLarge", _) => LimitError::Store { message: self.words() }.into(),
            ("NotImplemented", _) => StoreError::Unsupported { what, message: self.words() },
            ("InvalidObjectState", _) => {
                let message = "archived, and cannot be read until it is restored (aws s3api restore-object)".to_owned();
                StoreError::Permanent { what, message }
            }
            (
                "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
                _,
            ) if self.region.is_some() => StoreError::Permanent { what, message: self.redirected() },
            _ if self.is_expired() => StoreError::AccessDenied { what, message: self.words() },
            (
                "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "AuthorizationHeaderMalformed",
                _,
            ) => StoreError::AccessDenied { what, message: self.words() },
            _ => return None,
        })
    }

    fn redirected(&self) -> String {
        match &self.region {
            Some(region) => format!("the bucket is in region {region}: use --region {region}"),
            None => format!("the store sends requests elsewhere ({}): check --endpoint-url and --region", self.words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Subject<'static> = Subject::Object { key: "k" };

    fn refusal(status: u16, code: &str, headers: &[(&'static str, &'static str)]) -> Refusal {
        let document = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told &amp; so.</Message></Error>");
        let headers =
            headers.iter().map(|(n, v)| (http::HeaderName::from_static(n), http::HeaderValue::from_static(v))).collect();
        let document = if code.is_empty() { "" } else { &document };
        Refusal::new(StatusCode::from_u16(status).expect("a status"), &headers, document.as_bytes())
    }

    fn debug(status: u16, code: &str, subject: Subject<'_>) -> String {
        let error = refusal(status, code, &[]).into_error(subject, "lake");
        format!("{error:?}").split([' ', '{']).next().expect("a name").to_owned()
    }

    #[test]
    fn statuses_and_codes_have_their_meaning() {
        for (status, code, subject, want) in [
            (404, "NoSuchKey", KEY, "NotFound"),
            (404, "", KEY, "NotFound"),
            (404, "NoSuchBucket", KEY, "NoSuchBucket"),
            (404, "", Subject::Bucket, "NoSuchBucket"),
            (405, "MethodNotAllowed", KEY, "NotFound"),
            (403, "AccessDenied", KEY, "AccessDenied"),
            (403, "", KEY, "AccessDenied"),
            (401, "", KEY, "AccessDenied"),
            (400, "ExpiredToken", KEY, "AccessDenied"),
            (400, "InvalidToken", KEY, "AccessDenied"),
            (412, "PreconditionFailed", KEY, "Changed"),
            (416, "InvalidRange", KEY, "Permanent"),
            (503, "SlowDown", KEY, "SlowDown"),
            (429, "", KEY, "SlowDown"),
            (400, "ThrottlingException", KEY, "SlowDown"),
            (503, "ServiceUnavailable", KEY, "Transient"),
            (500, "InternalError", KEY, "Transient"),
            (400, "RequestTimeout", KEY, "Transient"),
            (502, "", KEY, "Transient"),
            (504, "", KEY, "Transient"),
            (501, "NotImplemented", KEY, "Unsupported"),
            (501, "", KEY, "Unsupported"),
            (404, "NoSuchUpload", KEY, "NoSuchUpload"),
            (409, "ConditionalRequestConflict", KEY, "Transient"),
            (409, "OperationAborted", KEY, "Transient"),
            (400, "BadDigest", KEY, "Transient"),
            (400, "EntityTooLarge", KEY, "Limit(Store"),
            (400, "KeyTooLongError", KEY, "Limit(Key"),
            (500, "AccessDenied", KEY, "AccessDenied"),
            (500, "PreconditionFailed", KEY, "Changed"),
            (403, "InvalidObjectState", KEY, "Permanent"),
            (301, "PermanentRedirect", KEY, "Permanent"),
        ] {
            assert_eq!(debug(status, code, subject), want, "{status} {code}");
        }
    }

    #[test]
    fn a_wrong_region_names_the_right_one() {
        for (status, code) in [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed"), (301, "")] {
            let error = refusal(status, code, &[("x-amz-bucket-region", "eu-west-1")]).into_error(Subject::Bucket, "lake");
            assert!(error.to_string().contains("--region eu-west-1"), "{error}");
        }
    }

    #[test]
    fn retry_after_is_kept() {
        let error = refusal(503, "SlowDown", &[("retry-after", "7")]).into_error(KEY, "lake");
        assert!(matches!(error, StoreError::SlowDown { retry_after: Some(d) } if d.as_secs() == 7), "{error:?}");
    }

    #[test]
    fn the_stores_words_are_kept() {
        let error = refusal(403, "AccessDenied", &[]).into_error(KEY, "lake");
        assert_eq!(error.to_string(), "access to 'k' was denied: AccessDenied: told & so (status 403)");
    }

    proptest! {
        #[test]
        fn any_document_is_some_error(document in proptest::collection::vec(any::<u8>(), 0..200), status in 300u16..600) {
            let status = StatusCode::from_u16(status).expect("in range");
            let _ = Refusal::new(status, &HeaderMap::new(), &document).into_error(KEY, "lake").to_string();
        }
    }
}
