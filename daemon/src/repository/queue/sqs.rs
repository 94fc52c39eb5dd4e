//! Amazon SQS by its JSON protocol: three requests, signed as those to S3 are, over the same HTTP client.

use super::{Backlog, EventQueue, MOST_AT_ONCE, Message, QueueError};
use crate::clock::SharedClock;
use crate::repository::s3::send_body::SendBody;
use crate::repository::s3::sign::{Signer, ToSign, amz_date, sha256_hex};
use crate::repository::s3::wire::{self, Wire};
use crate::repository::s3::{Address, Credentials, Limits};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// The most of an answer that is read, in bytes: ten messages of 256 KiB, escaped.
const MAX_ANSWER: usize = 16 << 20;
/// The longest that the queue itself waits for messages.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const JSON: &str = "application/x-amz-json-1.0";

/// What makes up a queue.
pub struct SqsConfig {
    /// Its URL.
    pub url: String,
    /// The region requests are signed for.
    pub region: String,
    /// Where requests go: the URL's host.
    pub address: Address,
    /// Who signs them.
    pub credentials: Credentials,
}

/// A queue.
pub struct SqsQueue {
    config: SqsConfig,
    signer: Signer,
    wire: Wire,
    clock: SharedClock,
}

/// An answer that is not a success.
struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Receive<'a> {
    queue_url: &'a str,
    max_number_of_messages: usize,
    wait_time_seconds: u64,
    visibility_timeout: u64,
    // By the older of its two names, which every server knows.
    attribute_names: [&'static str; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteBatch<'a> {
    queue_url: &'a str,
    entries: Vec<DeleteEntry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteEntry<'a> {
    id: String,
    receipt_handle: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes<'a> {
    queue_url: &'a str,
    attribute_names: [&'static str; 2],
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Received {
    messages: Option<Vec<ReceivedMessage>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReceivedMessage {
    receipt_handle: String,
    body: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeletedBatch {
    failed: Vec<DeleteFailure>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeleteFailure {
    code: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct GotAttributes {
    attributes: BTreeMap<String, String>,
}

impl SqsQueue {
    /// A queue; reads the system's root certificates if its URL is `https`.
    pub fn new(config: SqsConfig, clock: SharedClock) -> io::Result<Self> {
        let wire = Wire::new(&config.address, Limits::default())?;
        let signer = Signer::of_service(&config.region, "sqs");
        Ok(SqsQueue { config, signer, wire, clock })
    }

    fn failed(&self, message: impl Into<String>) -> QueueError {
        QueueError::Failed { queue: self.config.url.clone(), message: message.into() }
    }

    /// One request; once more on expired credentials that can be renewed.
    async fn call<A: for<'de> Deserialize<'de>>(
        &self,
        action: &str,
        request: &impl Serialize,
        patience: Duration,
    ) -> Result<A, QueueError> {
        let body = Bytes::from(serde_json::to_vec(request).map_err(|error| self.failed(error.to_string()))?);
        let mut answer = self.send(action, body.clone(), patience).await?;
        if let Err(refusal) = &answer
            && refusal.code.contains("ExpiredToken")
            && self.config.credentials.forget()
        {
            answer = self.send(action, body, patience).await?;
        }
        let document = answer.map_err(|refusal| self.told(refusal))?;
        // Some servers answer to what has no result with nothing.
        let document = if document.is_empty() { Bytes::from_static(b"{}") } else { document };
        serde_json::from_slice(&document).map_err(|error| self.failed(format!("{action}: the answer makes no sense: {error}")))
    }

    async fn send(&self, action: &str, body: Bytes, patience: Duration) -> Result<Result<Bytes, Refusal>, QueueError> {
        let request = self.signed(action, body).await?;
        let answer = self.wire.send(request, patience).await.map_err(|error| self.failed(error.to_string()))?;
        let (parts, body) = answer.into_parts();
        let document = self.collect(body).await?;
        if parts.status.is_success() {
            return Ok(Ok(document));
        }
        let header = parts.headers.get("x-amzn-query-error").and_then(|value| value.to_str().ok());
        Ok(Err(Refusal::new(parts.status, header, &document)))
    }

    async fn signed(&self, action: &str, body: Bytes) -> Result<Request<SendBody>, QueueError> {
        let target = format!("AmazonSQS.{action}");
        let date = amz_date(self.clock.wall_ns());
        let denied = |message: String| QueueError::AccessDenied { queue: self.config.url.clone(), message };
        let credential = self.config.credentials.get(&self.config.url).await.map_err(|error| denied(error.to_string()))?;
        // In the order in which they are signed.
        let mut headers = vec![("content-type", JSON), ("host", self.config.address.host()), ("x-amz-date", &date)];
        let token = credential.as_ref().and_then(|credential| credential.token.as_deref());
        headers.extend(token.map(|token| ("x-amz-security-token", token)));
        headers.push(("x-amz-target", &target));
        let mut authorization = None;
        if let Some(credential) = &credential {
            let payload = sha256_hex(std::slice::from_ref(&body));
            let to_sign = ToSign { method: "POST", path: "/", query: "", headers: &headers, payload: &payload, date: &date };
            authorization = Some(self.signer.authorization(credential, &to_sign));
        }
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let bad = |_| self.failed("a header's value cannot be sent");
        let mut request = Request::new(SendBody::new(body.clone().into()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.config.address.uri("/", "").ok_or_else(|| self.failed("its URL cannot be asked"))?;
        request.headers_mut().insert("content-length", HeaderValue::from(body.len()));
        for (name, value) in headers {
            request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(bad)?);
        }
        Ok(request)
    }

    async fn collect(&self, mut body: Incoming) -> Result<Bytes, QueueError> {
        let mut collected = BytesMut::new();
        let silence = self.wire.limits().silence;
        loop {
            let frame = tokio::time::timeout(silence, body.frame()).await;
            match frame.map_err(|_| self.failed(format!("no data for {silence:?}")))? {
                None => return Ok(collected.freeze()),
                Some(Err(error)) => return Err(self.failed(format!("answer broken: {}", wire::innermost(&error)))),
                Some(Ok(frame)) => collected.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
            if collected.len() > MAX_ANSWER {
                return Err(self.failed(format!("answer longer than {MAX_ANSWER} bytes")));
            }
        }
    }

    fn told(&self, refusal: Refusal) -> QueueError {
        let queue = self.config.url.clone();
        let is = |name: &str| refusal.code.contains(name);
        let message = match refusal.message.is_empty() {
            true => format!("{} (status {})", refusal.code, refusal.status.as_u16()),
            false => format!("{}: {} (status {})", refusal.code, refusal.message, refusal.status.as_u16()),
        };
        if is("QueueDoesNotExist") || is("NonExistentQueue") {
            return QueueError::NoSuchQueue { queue };
        }
        let is_denied = ["AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClient", "ExpiredToken"];
        if matches!(refusal.status.as_u16(), 401 | 403) || is_denied.into_iter().any(is) {
            return QueueError::AccessDenied { queue, message };
        }
        QueueError::Failed { queue, message }
    }
}

impl Refusal {
    /// `header` is `x-amzn-query-error`: the code as the older protocol has it, and who is to blame.
    fn new(status: StatusCode, header: Option<&str>, document: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Document {
            #[serde(rename = "__type")]
            code: String,
            #[serde(alias = "Message")]
            message: String,
        }
        let told: Document = serde_json::from_slice(document).unwrap_or_default();
        let code =
            if told.code.is_empty() { header.and_then(|text| text.split(';').next()).unwrap_or_default() } else { &told.code };
        Refusal { status, code: code.rsplit('#').next().unwrap_or_default().to_owned(), message: told.message }
    }
}

#[async_trait]
impl EventQueue for SqsQueue {
    fn url(&self) -> &str {
        &self.config.url
    }

    async fn receive(&self, wait: Duration, visibility: Duration) -> Result<Vec<Message>, QueueError> {
        let wait = wait.min(LONGEST_WAIT);
        let request = Receive {
            queue_url: &self.config.url,
            max_number_of_messages: MOST_AT_ONCE,
            wait_time_seconds: wait.as_secs(),
            visibility_timeout: visibility.as_secs(),
            attribute_names: ["SentTimestamp", "ApproximateReceiveCount"],
        };
        let received: Received = self.call("ReceiveMessage", &request, wait + self.wire.limits().first_byte).await?;
        let message = |message: ReceivedMessage| {
            let number = |name: &str| message.attributes.get(name).and_then(|text| text.parse::<i64>().ok());
            Message {
                sent_ns: number("SentTimestamp").map(|ms| ms.saturating_mul(1_000_000)),
                received: number("ApproximateReceiveCount").and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
                receipt: message.receipt_handle,
                body: message.body,
            }
        };
        Ok(received.messages.unwrap_or_default().into_iter().map(message).collect())
    }

    async fn delete(&self, receipts: &[String]) -> Result<(), QueueError> {
        let entry = |(id, receipt_handle)| DeleteEntry { id: format!("{id}"), receipt_handle };
        let entries = (0..).zip(receipts.iter().map(String::as_str)).map(entry).collect();
        let request = DeleteBatch { queue_url: &self.config.url, entries };
        let deleted: DeletedBatch = self.call("DeleteMessageBatch", &request, self.wire.limits().first_byte).await?;
        match deleted.failed.first() {
            Some(failure) => Err(self.failed(format!("{} messages were not deleted: {}", deleted.failed.len(), failure.code))),
            None => Ok(()),
        }
    }

    async fn backlog(&self) -> Result<Backlog, QueueError> {
        const NAMES: [&str; 2] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let request = Attributes { queue_url: &self.config.url, attribute_names: NAMES };
        let got: GotAttributes = self.call("GetQueueAttributes", &request, self.wire.limits().first_byte).await?;
        let count = |name: &str| {
            let text = got.attributes.get(name).ok_or_else(|| self.failed(format!("it does not say {name}")))?;
            text.parse::<u64>().map_err(|_| self.failed(format!("{name} is no number")))
        };
        Ok(Backlog { waiting: count(NAMES[0])?, in_flight: count(NAMES[1])? })
    }
}
