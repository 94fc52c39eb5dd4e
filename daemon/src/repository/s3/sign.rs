//! AWS Signature Version 4.
//!
//! Our own, since `object_store`'s signer passes every URL through a parser that folds `.` and `..` parts, so that such keys
//! get a signature for another path. The signing key is kept for the day, which saves four HMACs per request.

use super::encode;
use bytes::Bytes;
use object_store::aws::AwsCredential;
use parking_lot::Mutex;
use ring::{digest, hmac};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SHA-256 of nothing, which every GET and HEAD sends as its body's hash.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Stands for the hash of a body that TLS vouches for.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The SHA-256 of a body, in hexadecimal.
pub fn sha256_hex(pieces: &[Bytes]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    pieces.iter().for_each(|piece| context.update(piece));
    hex(context.finish().as_ref())
}

/// What of a request is signed.
pub struct ToSign<'a> {
    /// `GET`, `PUT` and so on.
    pub method: &'a str,
    /// The encoded path.
    pub path: &'a str,
    /// The canonical query string.
    pub query: &'a str,
    /// The headers to sign, names in lower case, sorted; `host` and every `x-amz-*` must be among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body's hash, as in `x-amz-content-sha256`.
    pub payload: &'a str,
    /// `x-amz-date`, from [`amz_date`].
    pub date: &'a str,
}

/// The value of `x-amz-date`: `20130524T000000Z`.
pub fn amz_date(wall_ns: i64) -> String {
    let at: SystemTime = UNIX_EPOCH + Duration::from_nanos(u64::try_from(wall_ns).unwrap_or(0));
    let mut text = humantime::format_rfc3339_seconds(at).to_string();
    text.retain(|c| c != '-' && c != ':');
    text
}

struct DayKey {
    day: String,
    secret: String,
    key: hmac::Key,
}

/// Signs requests to one service in one region.
pub struct Signer {
    region: String,
    service: &'static str,
    cached: Mutex<Option<DayKey>>,
}

impl Signer {
    /// A signer of S3 requests for a region.
    pub fn new(region: &str) -> Self {
        Self::of_service(region, "s3")
    }

    /// A signer of requests to another service.
    pub fn of_service(region: &str, service: &'static str) -> Self {
        Signer { region: region.to_owned(), service, cached: Mutex::new(None) }
    }

    /// The value of the `Authorization` header.
    pub fn authorization(&self, credential: &AwsCredential, request: &ToSign<'_>) -> String {
        let day = request.date.get(..8).expect("amz_date gives at least eight digits");
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let names: Vec<&str> = request.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let canonical = canonical_request(request, &names);
        let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hashed}", request.date);
        let signature = hex(hmac::sign(&self.day_key(&credential.secret_key, day), to_sign.as_bytes()).as_ref());
        format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", credential.key_id)
    }

    fn day_key(&self, secret: &str, day: &str) -> hmac::Key {
        let mut cached = self.cached.lock();
        if let Some(held) = cached.as_ref().filter(|held| held.day == day && held.secret == secret) {
            return held.key.clone();
        }
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
        for part in [day, &self.region, self.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        *cached = Some(DayKey { day: day.to_owned(), secret: secret.to_owned(), key: key.clone() });
        key
    }
}

fn canonical_request(request: &ToSign<'_>, names: &str) -> String {
    let mut text = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
    for (name, value) in request.headers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}:{}", value.trim());
    }
    let _ = write!(text, "\n{names}\n{}", request.payload);
    text
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The encoded path of a key below a base path such as `/bucket` (which is encoded already).
pub fn object_path(base: &str, key: &str) -> String {
    format!("{base}/{}", encode::path(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The credentials and requests of the examples in Amazon's "Authenticating Requests" documentation.
    fn example() -> AwsCredential {
        AwsCredential {
            key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        }
    }

    fn signature(path: &str, query: &str, range: Option<&str>) -> String {
        let mut headers = vec![("host", "examplebucket.s3.amazonaws.com")];
        headers.extend(range.map(|range| ("range", range)));
        headers.extend([("x-amz-content-sha256", EMPTY_SHA256), ("x-amz-date", "20130524T000000Z")]);
        let request = ToSign { method: "GET", path, query, headers: &headers, payload: EMPTY_SHA256, date: "20130524T000000Z" };
        let value = Signer::new("us-east-1").authorization(&example(), &request);
        value.rsplit_once('=').expect("a signature").1.to_owned()
    }

    #[test]
    fn a_ranged_get_is_signed_as_amazon_documents_it() {
        assert_eq!(
            signature("/test.txt", "", Some("bytes=0-9")),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn a_put_is_signed_as_amazon_documents_it() {
        let payload = sha256_hex(&[Bytes::from_static(b"Welcome to Amazon "), Bytes::from_static(b"S3.")]);
        let headers = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("host", "examplebucket.s3.amazonaws.com"),
            ("x-amz-content-sha256", &payload),
            ("x-amz-date", "20130524T000000Z"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        let request = ToSign {
            method: "PUT",
            path: &encode::path("/test$file.text"),
            query: "",
            headers: &headers,
            payload: &payload,
            date: "20130524T000000Z",
        };
        let value = Signer::new("us-east-1").authorization(&example(), &request);
        let signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
        assert!(value.ends_with(signature), "{value}");
    }

    #[test]
    fn a_listing_is_signed_as_amazon_documents_it() {
        assert_eq!(
            signature("/", &encode::query(&[("max-keys", "2"), ("prefix", "J")]), None),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn a_new_day_gets_a_new_key() {
        let signer = Signer::new("us-east-1");
        let first = hmac::sign(&signer.day_key("s", "20130524"), b"x");
        let second = hmac::sign(&signer.day_key("s", "20130525"), b"x");
        assert_ne!(first.as_ref(), second.as_ref());
        assert_eq!(first.as_ref(), hmac::sign(&signer.day_key("s", "20130524"), b"x").as_ref());
    }

    #[test]
    fn dates_are_compact() {
        assert_eq!(amz_date(1_369_353_600_000_000_000), "20130524T000000Z");
    }
}
