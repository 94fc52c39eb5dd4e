//! One request to the bucket: formed, signed, sent, and sent once more where fresh credentials or another checksum will do.

use super::direct::Answer;
use super::refusal::{Refusal, Subject};
use super::send_body::SendBody;
use super::sign::{EMPTY_SHA256, ToSign, UNSIGNED, amz_date, sha256_hex};
use super::wire::{self, WireError};
use super::{S3Store, encode};
use crate::repository::write::WriteKind;
use crate::repository::{Payload, Pin, StoreError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use md5::{Digest, Md5};
use std::borrow::Cow;
use std::time::Duration;
use tokio::io::ReadBuf;

/// The most of an error document that is read, in bytes.
const MAX_ERROR: usize = 64 << 10;
/// Bodies of more bytes than this are hashed where nothing else waits.
const HASHED_ASIDE: u64 = 256 << 10;

/// Headers of a request, names in lower case.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(Cow<'static, str>, String)>);

impl Headers {
    /// Adds a header.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }
}

/// What a body is checked by when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// By nothing of ours.
    No,
    /// By CRC-32C, or MD5 for a store that takes no other.
    Body,
    /// There is none, but parts will come that are.
    PartsToCome,
}

/// A request.
pub struct Call<'a> {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: Headers,
    pub subject: Subject<'a>,
    pub body: Payload,
    pub checked: Checked,
    /// Which precondition its headers have, if any.
    pub condition: Option<WriteKind>,
    /// How long the answer's headers may take once the body has gone.
    pub patience: Duration,
}

/// A request that was refused, or that did not get so far.
pub enum Failure {
    Failed(StoreError),
    Refused(Refusal),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Failed(error)
    }
}

/// An ETag as conditions have it.
pub fn quoted(etag: &str) -> String {
    if etag.contains('"') { etag.to_owned() } else { format!("\"{etag}\"") }
}

impl S3Store {
    pub(super) fn call<'a>(&self, method: Method, path: String, subject: Subject<'a>) -> Call<'a> {
        Call {
            method,
            path,
            query: String::new(),
            headers: Headers::default(),
            subject,
            body: Payload::default(),
            checked: Checked::No,
            condition: None,
            patience: self.wire.limits().first_byte,
        }
    }

    /// A GET or HEAD of an object.
    pub(super) fn read_call<'a>(&self, method: Method, key: &'a str, pin: Option<&Pin>) -> Call<'a> {
        let mut call = self.call(method, self.config.address.object(key), Subject::Object { key });
        self.config.encryption.about(&mut call.headers);
        if let Some(pin) = pin {
            call.headers.set("if-match", quoted(&pin.etag));
        }
        if let Some(version) = pin.and_then(|pin| pin.version.as_deref()) {
            call.query = encode::query(&[("versionId", version)]);
        }
        call
    }

    pub(super) fn what(&self, subject: Subject<'_>) -> String {
        match subject {
            Subject::Object { key } => key.to_owned(),
            Subject::Bucket => self.name.clone(),
        }
    }

    /// Sends one request; once more on expired credentials that can be renewed, and on a checksum that the store does not know.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response<Incoming>, Failure> {
        let response = self.send_once(call).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let refusal = self.refusal(response, call).await?;
        let is_renewed = refusal.is_expired() && self.config.credentials.forget();
        let is_relearnt = call.checked != Checked::No && refusal.is_about_checksums() && self.habits.learn_md5();
        if !(is_renewed || is_relearnt) {
            return Err(self.refused(refusal, call));
        }
        let response = self.send_once(call).await?;
        match response.status().is_success() {
            true => Ok(response),
            false => {
                let refusal = self.refusal(response, call).await?;
                if is_renewed && refusal.is_expired() {
                    // Whoever renews them is late: they may be there for the next try.
                    let message = "the credentials have expired, and there are none fresher yet".to_owned();
                    return Err(StoreError::Transient { what: self.what(call.subject), message }.into());
                }
                Err(self.refused(refusal, call))
            }
        }
    }

    /// A store without preconditions for such a write is asked without them by the next try, which looks by itself.
    fn refused(&self, refusal: Refusal, call: &Call<'_>) -> Failure {
        match call.condition {
            Some(kind) if refusal.is_not_implemented() && self.habits.learn_no_preconditions(kind) => {
                let message = "the store takes no preconditions for this".to_owned();
                StoreError::Transient { what: self.what(call.subject), message }.into()
            }
            _ => Failure::Refused(refusal),
        }
    }

    /// The same for a GET of an object, whose body goes where it is wanted.
    pub(super) async fn send_direct(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let answer = self.ask_direct(call).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let refusal = self.refusal_of(answer).await;
        if !(refusal.is_expired() && self.config.credentials.forget()) {
            return Err(self.refused(refusal, call));
        }
        let answer = self.ask_direct(call).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(self.refused(self.refusal_of(answer).await, call)),
        }
    }

    async fn ask_direct(&self, call: &Call<'_>) -> Result<Answer, StoreError> {
        let request = self.signed(call).await?;
        self.wire.get(&request, call.patience).await.map_err(|error| self.unsent(error, call))
    }

    async fn refusal_of(&self, answer: Answer) -> Refusal {
        let Answer { status, headers, mut body } = answer;
        let silence = self.wire.limits().silence;
        let mut document = BytesMut::zeroed(MAX_ERROR);
        let mut into = ReadBuf::new(&mut document);
        // The status says enough if the document breaks off.
        while into.remaining() > 0 && body.read_some(&mut into, silence).await {}
        let len = into.filled().len();
        document.truncate(len);
        Refusal::new(status, &headers, &document)
    }

    fn unsent(&self, error: WireError, call: &Call<'_>) -> StoreError {
        match error {
            WireError::Unreachable { endpoint, cause } => StoreError::Unreachable { endpoint, message: cause },
            other => StoreError::Transient { what: self.what(call.subject), message: other.to_string() },
        }
    }

    pub(super) async fn send_once(&self, call: &Call<'_>) -> Result<Response<Incoming>, StoreError> {
        let request = self.signed(call).await?;
        self.wire.send(request, call.patience).await.map_err(|error| self.unsent(error, call))
    }

    /// The request as it goes out.
    pub(super) async fn signed(&self, call: &Call<'_>) -> Result<Request<SendBody>, StoreError> {
        let refuse = |message: &str| StoreError::Permanent { what: self.what(call.subject), message: message.to_owned() };
        let address = &self.config.address;
        let uri = address.uri(&call.path, &call.query).ok_or_else(|| refuse("key too long for a request"))?;
        let mut headers: Vec<(&str, &str)> = call.headers.0.iter().map(|(name, value)| (&**name, value.as_str())).collect();
        headers.push(("host", address.host()));
        if self.config.requester_pays {
            headers.push(("x-amz-request-payer", "requester"));
        }
        let length = call.body.len().to_string();
        if !matches!(call.method, Method::GET | Method::HEAD | Method::DELETE) {
            headers.push(("content-length", &length));
        }
        let checksum = match call.checked {
            Checked::Body => Some(self.checksum(&call.body)),
            Checked::PartsToCome if !self.habits.wants_md5() => Some(("x-amz-checksum-algorithm", "CRC32C".to_owned())),
            Checked::PartsToCome | Checked::No => None,
        };
        headers.extend(checksum.as_ref().map(|(name, value)| (*name, value.as_str())));
        let credential = self.config.credentials.get(&self.name).await?;
        let date = amz_date(self.clock.wall_ns());
        let payload = self.payload_hash(&call.body, credential.is_some()).await;
        let mut authorization = None;
        if let Some(credential) = &credential {
            headers.extend([("x-amz-content-sha256", &*payload), ("x-amz-date", &date)]);
            headers.extend(credential.token.as_deref().map(|token| ("x-amz-security-token", token)));
            let mut signed = headers.clone();
            signed.retain(|(name, _)| matches!(*name, "host" | "content-type" | "content-md5") || name.starts_with("x-amz-"));
            signed.sort_unstable();
            let (method, path, query) = (call.method.as_str(), &*call.path, &*call.query);
            let to_sign = ToSign { method, path, query, headers: &signed, payload: &payload, date: &date };
            authorization = Some(self.signer.authorization(credential, &to_sign));
        }
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let mut request = Request::new(SendBody::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        fill(request.headers_mut(), &headers).ok_or_else(|| refuse("a header's value cannot be sent"))?;
        Ok(request)
    }

    fn checksum(&self, body: &Payload) -> (&'static str, String) {
        if !self.habits.wants_md5() {
            return ("x-amz-checksum-crc32c", STANDARD.encode(body.crc32c().to_be_bytes()));
        }
        let mut digest = Md5::new();
        body.pieces().iter().for_each(|piece| digest.update(piece));
        ("content-md5", STANDARD.encode(digest.finalize()))
    }

    /// TLS vouches for a body on its way; without it the signature has to.
    async fn payload_hash(&self, body: &Payload, is_signed: bool) -> Cow<'static, str> {
        if body.is_empty() || !is_signed {
            return EMPTY_SHA256.into();
        }
        if self.config.address.is_https() {
            return UNSIGNED.into();
        }
        if body.len() <= HASHED_ASIDE {
            return sha256_hex(body.pieces()).into();
        }
        let aside = body.clone();
        let hashed = tokio::task::spawn_blocking(move || sha256_hex(aside.pieces())).await;
        // Fails only while the runtime shuts down, and then nobody waits for this.
        hashed.unwrap_or_else(|_| sha256_hex(body.pieces())).into()
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

    /// An answer's document.
    pub(super) async fn collect(&self, mut body: Incoming, limit: usize, subject: Subject<'_>) -> Result<Bytes, StoreError> {
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

    pub(super) fn told(&self, failure: Failure, subject: Subject<'_>) -> StoreError {
        match failure {
            Failure::Failed(error) => error,
            Failure::Refused(refusal) => refusal.into_error(subject, &self.name),
        }
    }
}

fn fill(headers: &mut HeaderMap, pairs: &[(&str, &str)]) -> Option<()> {
    for (name, value) in pairs {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    Some(())
}
