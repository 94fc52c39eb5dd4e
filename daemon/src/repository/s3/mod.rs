//! S3 and what speaks its protocol. Requests are formed here, so that every key the store can hold can be named; keys and
//! their rotation come from `object_store`, HTTP from hyper.
//!
//! Guarantees of every answer handed on:
//! 1. a GET's body is exactly the announced range of exactly the pinned version, or ends with an error;
//! 2. an error document is never content;
//! 3. a listing's page lies under its prefix, in key order.

mod address;
mod answer;
mod body;
mod credentials;
mod encode;
mod list;
pub mod profile;
mod refusal;
mod sign;
mod wire;
mod xml;

#[cfg(test)]
mod canned_tests;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError};
pub(super) use answer::same_etag;
pub use credentials::Credentials;
pub use wire::Limits;

use self::body::ExactBody;
use self::refusal::{Refusal, Subject};
use self::sign::{EMPTY_SHA256, Signer, ToSign, amz_date};
use self::wire::{Wire, WireError};
use super::{GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectStore, Pin, StoreError};
use crate::clock::SharedClock;
use async_trait::async_trait;
use base64::Engine;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use md5::{Digest, Md5};
use std::io;

/// A customer's encryption key (SSE-C), as sent with every GET and HEAD.
#[derive(Clone)]
pub struct CustomerKey {
    key: String,
    md5: String,
}

impl CustomerKey {
    /// From the base64 form of a 256-bit key; `None` if it is none.
    pub fn from_base64(text: &str) -> Option<Self> {
        let engine = base64::engine::general_purpose::STANDARD;
        let key = engine.decode(text.trim()).ok().filter(|key| key.len() == 32)?;
        Some(CustomerKey { key: engine.encode(&key), md5: engine.encode(Md5::digest(&key)) })
    }
}

/// What makes up an S3 store.
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The region requests are signed for.
    pub region: String,
    /// Where requests go.
    pub address: Address,
    /// Who signs them.
    pub credentials: Credentials,
    /// Whether the requester pays.
    pub requester_pays: bool,
    /// The key objects are encrypted with.
    pub customer_key: Option<CustomerKey>,
    /// Time limits.
    pub limits: Limits,
}

/// A bucket.
pub struct S3Store {
    name: String,
    config: S3Config,
    signer: Signer,
    wire: Wire,
    clock: SharedClock,
}

/// The most of an error document that is read, in bytes.
const MAX_ERROR: usize = 64 << 10;
/// The most of a listing that is read, in bytes: 1,000 keys of 1,024 bytes, each of them `%XX`, with room.
const MAX_LISTING: usize = 32 << 20;

type Headers = Vec<(&'static str, String)>;

struct Call<'a> {
    method: Method,
    path: String,
    query: String,
    headers: Headers,
    subject: Subject<'a>,
}

impl S3Store {
    /// A store; reads the system's root certificates if the endpoint is `https`.
    pub fn new(config: S3Config, clock: SharedClock) -> io::Result<Self> {
        let wire = Wire::new(&config.address, config.limits)?;
        let signer = Signer::new(&config.region);
        Ok(S3Store { name: format!("s3://{}", config.bucket), config, signer, wire, clock })
    }

    fn object_call<'a>(&self, method: Method, key: &'a str, pin: Option<&Pin>) -> Call<'a> {
        let mut headers = Headers::new();
        if let Some(customer) = &self.config.customer_key {
            headers.push(("x-amz-server-side-encryption-customer-algorithm", "AES256".to_owned()));
            headers.push(("x-amz-server-side-encryption-customer-key", customer.key.clone()));
            headers.push(("x-amz-server-side-encryption-customer-key-md5", customer.md5.clone()));
        }
        if let Some(pin) = pin {
            let quoted = if pin.etag.contains('"') { pin.etag.clone() } else { format!("\"{}\"", pin.etag) };
            headers.push(("if-match", quoted));
        }
        let version = pin.and_then(|pin| pin.version.as_deref());
        let query = version.map(|version| encode::query(&[("versionId", version)])).unwrap_or_default();
        Call { method, path: self.config.address.object(key), query, headers, subject: Subject::Object { key } }
    }

    fn what(&self, subject: Subject<'_>) -> String {
        match subject {
            Subject::Object { key } => key.to_owned(),
            Subject::Bucket => self.name.clone(),
        }
    }

    /// Sends one request; on expired credentials that can be renewed, once more.
    async fn send(&self, call: Call<'_>) -> Result<Response<Incoming>, Failure> {
        let response = self.send_once(&call).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let refusal = self.refusal(response, &call).await?;
        if !(refusal.is_expired() && self.config.credentials.forget()) {
            return Err(Failure::Refused(refusal));
        }
        let response = self.send_once(&call).await?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(Failure::Refused(self.refusal(response, &call).await?)),
        }
    }

    async fn send_once(&self, call: &Call<'_>) -> Result<Response<Incoming>, StoreError> {
        let request = self.signed(call).await?;
        self.wire.send(request).await.map_err(|error| match error {
            WireError::Unreachable { endpoint, cause } => StoreError::Unreachable { endpoint, message: cause },
            other => StoreError::Transient { what: self.what(call.subject), message: other.to_string() },
        })
    }

    async fn signed(&self, call: &Call<'_>) -> Result<Request<Empty<Bytes>>, StoreError> {
        let refuse = |message: &str| StoreError::Permanent { what: self.what(call.subject), message: message.to_owned() };
        let address = &self.config.address;
        let uri = address.uri(&call.path, &call.query).ok_or_else(|| refuse("key too long for a request"))?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        let mut headers: Vec<(&str, &str)> = call.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("host", address.host()));
        if self.config.requester_pays {
            headers.push(("x-amz-request-payer", "requester"));
        }
        let credential = self.config.credentials.get(&self.name).await?;
        let date = amz_date(self.clock.wall_ns());
        let mut authorization = None;
        if let Some(credential) = &credential {
            headers.extend([("x-amz-content-sha256", EMPTY_SHA256), ("x-amz-date", &date)]);
            headers.extend(credential.token.as_deref().map(|token| ("x-amz-security-token", token)));
            let mut signed = headers.clone();
            signed.retain(|(name, _)| *name == "host" || name.starts_with("x-amz-"));
            signed.sort_unstable();
            let to_sign =
                ToSign { method: call.method.as_str(), path: &call.path, query: &call.query, headers: &signed, date: &date };
            authorization = Some(self.signer.authorization(credential, &to_sign));
        }
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        fill(request.headers_mut(), &headers).ok_or_else(|| refuse("a header's value cannot be sent"))?;
        Ok(request)
    }

    async fn refusal(&self, response: Response<Incoming>, call: &Call<'_>) -> Result<Refusal, StoreError> {
        let (parts, body) = response.into_parts();
        let document = match call.method {
            Method::HEAD => Bytes::new(),
            // The status says enough if the document breaks off.
            _ => self.collect(body, MAX_ERROR, call.subject).await.unwrap_or_default(),
        };
        Ok(Refusal::new(parts.status, &parts.headers, &document))
    }

    async fn collect(&self, mut body: Incoming, limit: usize, subject: Subject<'_>) -> Result<Bytes, StoreError> {
        let transient = |message: String| StoreError::Transient { what: self.what(subject), message };
        let mut collected = BytesMut::new();
        loop {
            let silence = self.wire.limits().silence;
            let frame =
                tokio::time::timeout(silence, body.frame()).await.map_err(|_| transient(format!("no data for {silence:?}")))?;
            match frame {
                None => return Ok(collected.freeze()),
                Some(Err(error)) => return Err(transient(format!("answer broken: {}", wire::innermost(&error)))),
                Some(Ok(frame)) => collected.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
            if collected.len() > limit {
                return Err(transient(format!("answer longer than {limit} bytes")));
            }
        }
    }

    async fn get_as_asked(&self, request: &GetRequest) -> Result<GetResponse, Failure> {
        let mut call = self.object_call(Method::GET, &request.key, request.pin.as_ref());
        if let Some(range) = &request.range {
            if range.start >= range.end {
                let message = format!("an empty range, {}..{}, cannot be asked for", range.start, range.end);
                return Err(StoreError::Permanent { what: request.key.clone(), message }.into());
            }
            call.headers.push(("range", format!("bytes={}-{}", range.start, range.end - 1)));
        }
        let (parts, body) = self.send(call).await?.into_parts();
        let announced = answer::check_get(request, parts.status, &parts.headers).map_err(|bad| bad.into_error(&request.key))?;
        let length = announced.range.end - announced.range.start;
        let body = ExactBody::new(body, length, self.wire.limits().silence, &request.key).boxed();
        Ok(GetResponse { head: announced.head, range: announced.range, body })
    }

    fn told(&self, failure: Failure, subject: Subject<'_>) -> StoreError {
        match failure {
            Failure::Failed(error) => error,
            Failure::Refused(refusal) => refusal.into_error(subject, &self.name),
        }
    }
}

/// A request that was refused, or that did not get so far.
enum Failure {
    Failed(StoreError),
    Refused(Refusal),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Failed(error)
    }
}

fn fill(headers: &mut HeaderMap, pairs: &[(&str, &str)]) -> Option<()> {
    for (name, value) in pairs {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    Some(())
}

#[async_trait]
impl ObjectStore for S3Store {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, request: GetRequest) -> Result<GetResponse, StoreError> {
        let subject = Subject::Object { key: &request.key };
        let failure = match self.get_as_asked(&request).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        // No range of an empty object can be satisfied, and a 416 does not say which version it is about.
        let from_start = request.range.as_ref().is_some_and(|range| range.start == 0);
        if from_start && matches!(&failure, Failure::Refused(refusal) if refusal.is_bad_range()) {
            let whole = GetRequest { range: None, ..request.clone() };
            let response = self.get_as_asked(&whole).await.map_err(|failure| self.told(failure, subject))?;
            if response.head.size > 0 {
                return Err(StoreError::Transient { what: request.key, message: "replaced while it was asked for".into() });
            }
            return Ok(response);
        }
        Err(self.told(failure, subject))
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, StoreError> {
        let subject = Subject::Object { key };
        let response = self.send(self.object_call(Method::HEAD, key, None)).await.map_err(|f| self.told(f, subject))?;
        if response.status() != StatusCode::OK {
            return Err(answer::BadAnswer::OddStatus(response.status().as_u16()).into_error(key));
        }
        answer::check_head(response.headers()).map_err(|bad| bad.into_error(key))
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let (path, query, subject) = (self.config.address.bucket(), list::query(&request), Subject::Bucket);
        let call = Call { method: Method::GET, path, query, headers: Headers::new(), subject };
        let response = self.send(call).await.map_err(|failure| self.told(failure, subject))?;
        let document = self.collect(response.into_body(), MAX_LISTING, subject).await?;
        let bad = |message: String| StoreError::Permanent { what: self.name.clone(), message };
        let text = std::str::from_utf8(&document).map_err(|error| bad(error.to_string()))?;
        list::parse(text, &request.prefix).map_err(|error| bad(error.to_string()))
    }
}
