//! S3 and what speaks its protocol. Requests are formed here, so that every key the store can hold can be named; keys and
//! their rotation come from `object_store`, HTTP from hyper, save for GETs of objects, whose bytes have to go where they belong at once (`direct`).
//!
//! Guarantees of every answer handed on:
//! 1. a GET's body is exactly the announced range of exactly the pinned version, or ends with an error;
//! 2. an error document is never content;
//! 3. a listing's page lies under its prefix, in key order;
//! 4. a body sent is checked by the store (CRC-32C, or MD5), and a write that is told done was done: "200 OK" before an error is an error.

mod address;
mod answer;
mod body;
mod call;
mod credentials;
mod direct;
pub(super) mod encode;
mod encryption;
mod habits;
mod http1;
mod list;

pub mod profile;
mod refusal;
mod result;
pub(super) mod send_body;
pub(super) mod sign;
mod uploads;
pub(super) mod wire;
mod write;
mod xml;

#[cfg(test)]
mod canned_tests;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod write_tests;

pub use address::{Address, AddressError};
pub use credentials::Credentials;
pub use encryption::{CustomerKey, Encryption};
pub use wire::Limits;

use self::body::ExactBody;
use self::call::Failure;
use self::direct::Answer;
use self::habits::Habits;
use self::refusal::Subject;
use self::sign::Signer;
use self::wire::Wire;
use super::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, DeleteRequest, Part, PartRequest, PutRequest, Upload,
    UploadsPage, UploadsRequest, WriteKind,
};
use super::{GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectStore, Pin, Precondition, StoreError};
use crate::clock::SharedClock;
use async_trait::async_trait;
use http::{Method, StatusCode};
use std::io;

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
    /// Who encrypts objects.
    pub encryption: Encryption,
    /// Time limits.
    pub limits: Limits,
}

/// A bucket.
pub struct S3Store {
    name: String,
    config: S3Config,
    signer: Signer,
    wire: Wire,
    habits: Habits,
    clock: SharedClock,
}

/// The most of a listing that is read, in bytes: 1,000 keys of 1,024 bytes, each of them `%XX`, with room.
const MAX_LISTING: usize = 32 << 20;

impl S3Store {
    /// A store; reads the system's root certificates if the endpoint is `https`.
    pub fn new(config: S3Config, clock: SharedClock) -> io::Result<Self> {
        let wire = Wire::new(&config.address, config.limits)?;
        let signer = Signer::new(&config.region);
        let habits = Habits::new(config.address.is_amazon());
        Ok(S3Store { name: format!("s3://{}", config.bucket), config, signer, wire, habits, clock })
    }

    async fn get_as_asked(&self, request: &GetRequest) -> Result<GetResponse, Failure> {
        let mut call = self.read_call(Method::GET, &request.key, request.pin.as_ref());
        if let Some(range) = &request.range {
            if range.start >= range.end {
                let message = format!("an empty range, {}..{}, cannot be asked for", range.start, range.end);
                return Err(StoreError::Permanent { what: request.key.clone(), message }.into());
            }
            call.headers.set("range", format!("bytes={}-{}", range.start, range.end - 1));
        }
        let Answer { status, headers, body } = self.send_direct(&call).await?;
        let announced = answer::check_get(request, status, &headers).map_err(|bad| bad.into_error(&request.key))?;
        let length = announced.range.end - announced.range.start;
        let body = ExactBody::new(body, length, self.wire.limits().silence, &request.key);
        Ok(GetResponse { head: announced.head, range: announced.range, body: Box::pin(body) })
    }
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
        let response = self.send(&self.read_call(Method::HEAD, key, None)).await.map_err(|f| self.told(f, subject))?;
        if response.status() != StatusCode::OK {
            return Err(answer::BadAnswer::OddStatus(response.status().as_u16()).into_error(key));
        }
        answer::check_head(response.headers()).map_err(|bad| bad.into_error(key))
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let subject = Subject::Bucket;
        let mut call = self.call(Method::GET, self.config.address.bucket(), subject);
        call.query = list::query(&request);
        let response = self.send(&call).await.map_err(|failure| self.told(failure, subject))?;
        let document = self.collect(response.into_body(), MAX_LISTING, subject).await?;
        let bad = |message: String| StoreError::Permanent { what: self.name.clone(), message };
        let text = std::str::from_utf8(&document).map_err(|error| bad(error.to_string()))?;
        list::parse(text, &request.prefix).map_err(|error| bad(error.to_string()))
    }

    fn decides(&self, kind: WriteKind, _: &Precondition) -> bool {
        self.habits.decides(kind)
    }

    async fn put(&self, request: PutRequest) -> Result<Pin, StoreError> {
        self.put_object(request).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        self.delete_object(request).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Pin, StoreError> {
        self.copy_object(request).await
    }

    async fn begin_multipart(&self, request: BeginRequest) -> Result<Upload, StoreError> {
        self.begin_upload(request).await
    }

    async fn put_part(&self, request: PartRequest) -> Result<Part, StoreError> {
        self.upload_part(request).await
    }

    async fn copy_part(&self, request: CopyPartRequest) -> Result<Part, StoreError> {
        self.upload_part_copy(request).await
    }

    async fn complete_multipart(&self, request: CompleteRequest) -> Result<Pin, StoreError> {
        self.complete_upload(request).await
    }

    async fn abort_multipart(&self, upload: &Upload) -> Result<(), StoreError> {
        self.abort_upload(upload).await
    }

    async fn list_multipart(&self, request: UploadsRequest) -> Result<UploadsPage, StoreError> {
        self.list_uploads(request).await
    }
}
