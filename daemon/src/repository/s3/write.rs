//! The writes of an S3 bucket: one request each, its headers and what its answer means.
//!
//! A copy, a copied part and the end of a multipart upload may fail after "200 OK" was sent: their success is the document, not the status.

use super::call::{Call, Checked, Failure, quoted};
use super::refusal::{Refusal, Subject};
use super::result::{self, Outcome};
use super::{S3Store, encode, uploads};
use crate::repository::header_text;
use crate::repository::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, CopySource, DeleteRequest, Part, PartRequest, PutRequest,
    Upload, UploadsPage, UploadsRequest, WriteKind,
};
use crate::repository::{ObjectHeaders, Pin, Precondition, StoreError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::body::Incoming;
use std::time::Duration;

/// The most of an answer to a write that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// The most of a page of uploads that is read, in bytes.
const MAX_UPLOADS: usize = 16 << 20;
/// How long copies and the end of a multipart upload may take to answer at all. S3 sends the head early and blanks to keep the line open.
const SERVER_SIDE: Duration = Duration::from_secs(120);

impl S3Store {
    fn write_call<'a>(&self, method: Method, key: &'a str) -> Call<'a> {
        self.call(method, self.config.address.object(key), Subject::Object { key })
    }

    fn conditional<'a>(&self, mut call: Call<'a>, kind: WriteKind, precondition: &Precondition) -> Call<'a> {
        if *precondition == Precondition::Any || !self.habits.sends_preconditions(kind) {
            return call;
        }
        call.condition = Some(kind);
        match precondition {
            Precondition::Any => {}
            Precondition::Absent => call.headers.set("if-none-match", "*"),
            Precondition::Is(pin) => call.headers.set("if-match", quoted(&pin.etag)),
        }
        call
    }

    fn describe(call: &mut Call<'_>, headers: &ObjectHeaders) {
        for (name, value) in headers.system.pairs() {
            call.headers.set(name, value);
        }
        for (name, value) in &headers.user_metadata {
            call.headers.set(format!("x-amz-meta-{name}"), header_text::encode(value));
        }
    }

    fn copy_from(&self, call: &mut Call<'_>, source: &CopySource) {
        let version = source.pin.version.as_deref().map(|version| format!("?{}", encode::query(&[("versionId", version)])));
        let from = format!("{}/{}{}", self.config.bucket, encode::path(&source.key), version.unwrap_or_default());
        call.headers.set("x-amz-copy-source", from);
        call.headers.set("x-amz-copy-source-if-match", quoted(&source.pin.etag));
        self.config.encryption.source(&mut call.headers);
        call.patience = SERVER_SIDE;
    }

    async fn sent(&self, call: &Call<'_>) -> Result<Response<Incoming>, StoreError> {
        self.send(call).await.map_err(|failure| self.told(failure, call.subject))
    }

    /// Sends a request whose success is a document.
    async fn documented(&self, call: &Call<'_>) -> Result<(HeaderMap, Outcome), StoreError> {
        let (parts, body) = self.sent(call).await?.into_parts();
        let document = self.collect(body, MAX_ANSWER, call.subject).await?;
        let outcome = result::parse(&String::from_utf8_lossy(&document)).map_err(|error| StoreError::Transient {
            what: self.what(call.subject),
            message: format!("the answer to a write is {error}"),
        })?;
        if outcome.is_error {
            let refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &parts.headers, &document);
            return Err(self.told(Failure::Refused(refusal), call.subject));
        }
        Ok((parts.headers, outcome))
    }

    /// Reads a plain answer to its end, so that its connection can be used again.
    async fn headers_of(&self, response: Response<Incoming>, subject: Subject<'_>) -> HeaderMap {
        let (parts, body) = response.into_parts();
        // What was done is done, whatever becomes of the rest of the answer.
        let _ = self.collect(body, MAX_ANSWER, subject).await;
        parts.headers
    }

    fn no_etag(key: &str) -> StoreError {
        StoreError::Transient { what: key.to_owned(), message: "the answer to a write has no ETag".to_owned() }
    }

    pub(super) async fn put_object(&self, request: PutRequest) -> Result<Pin, StoreError> {
        let mut call = self.conditional(self.write_call(Method::PUT, &request.key), WriteKind::Put, &request.precondition);
        Self::describe(&mut call, &request.headers);
        self.config.encryption.making(&mut call.headers);
        (call.body, call.checked) = (request.body.clone(), Checked::Body);
        let response = self.sent(&call).await?;
        let headers = self.headers_of(response, call.subject).await;
        let etag = text(&headers, "etag").ok_or_else(|| Self::no_etag(&request.key))?;
        Ok(Pin { etag, version: text(&headers, "x-amz-version-id") })
    }

    pub(super) async fn delete_object(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let precondition = request.pin.clone().map_or(Precondition::Any, Precondition::Is);
        let call = self.conditional(self.write_call(Method::DELETE, &request.key), WriteKind::Delete, &precondition);
        match self.sent(&call).await {
            Ok(response) => {
                self.headers_of(response, call.subject).await;
                Ok(())
            }
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn copy_object(&self, request: CopyRequest) -> Result<Pin, StoreError> {
        let mut call = self.conditional(self.write_call(Method::PUT, &request.key), WriteKind::Copy, &request.precondition);
        self.copy_from(&mut call, &request.source);
        call.headers.set("x-amz-metadata-directive", if request.headers.is_some() { "REPLACE" } else { "COPY" });
        if let Some(headers) = &request.headers {
            Self::describe(&mut call, headers);
        }
        self.config.encryption.making(&mut call.headers);
        let (headers, outcome) = self.documented(&call).await?;
        let etag = outcome.etag.ok_or_else(|| Self::no_etag(&request.key))?;
        Ok(Pin { etag, version: text(&headers, "x-amz-version-id") })
    }

    pub(super) async fn begin_upload(&self, request: BeginRequest) -> Result<Upload, StoreError> {
        let mut call = self.write_call(Method::POST, &request.key);
        call.query = encode::query(&[("uploads", "")]);
        Self::describe(&mut call, &request.headers);
        self.config.encryption.making(&mut call.headers);
        call.checked = Checked::PartsToCome;
        let (_, outcome) = self.documented(&call).await?;
        let message = || "the answer to a begun upload has no UploadId".to_owned();
        let id = outcome.upload_id.ok_or_else(|| StoreError::Transient { what: request.key.clone(), message: message() })?;
        Ok(Upload { key: request.key, id })
    }

    fn part_call<'a>(&self, upload: &'a Upload, number: u32) -> Call<'a> {
        let mut call = self.write_call(Method::PUT, &upload.key);
        call.query = encode::query(&[("partNumber", &number.to_string()), ("uploadId", &upload.id)]);
        self.config.encryption.about(&mut call.headers);
        call
    }

    pub(super) async fn upload_part(&self, request: PartRequest) -> Result<Part, StoreError> {
        let PartRequest { upload, number, body } = request;
        let mut call = self.part_call(&upload, number);
        (call.body, call.checked) = (body, Checked::Body);
        let response = self.sent(&call).await?;
        let headers = self.headers_of(response, call.subject).await;
        let etag = text(&headers, "etag").ok_or_else(|| Self::no_etag(&upload.key))?;
        let crc32c = (!self.habits.wants_md5()).then(|| STANDARD.encode(call.body.crc32c().to_be_bytes()));
        Ok(Part { number, etag, crc32c })
    }

    pub(super) async fn upload_part_copy(&self, request: CopyPartRequest) -> Result<Part, StoreError> {
        let CopyPartRequest { upload, number, source, range } = request;
        if range.is_empty() {
            return Err(StoreError::Permanent { what: source.key, message: "an empty range cannot be copied".to_owned() });
        }
        let mut call = self.part_call(&upload, number);
        self.copy_from(&mut call, &source);
        call.headers.set("x-amz-copy-source-range", format!("bytes={}-{}", range.start, range.end - 1));
        let (_, outcome) = self.documented(&call).await?;
        let etag = outcome.etag.ok_or_else(|| Self::no_etag(&upload.key))?;
        Ok(Part { number, etag, crc32c: outcome.crc32c })
    }

    pub(super) async fn complete_upload(&self, request: CompleteRequest) -> Result<Pin, StoreError> {
        let CompleteRequest { upload, parts, precondition } = request;
        let mut call = self.conditional(self.write_call(Method::POST, &upload.key), WriteKind::Complete, &precondition);
        call.query = encode::query(&[("uploadId", &upload.id)]);
        self.config.encryption.about(&mut call.headers);
        call.headers.set("content-type", "application/xml");
        call.body = Bytes::from(result::part_list(&parts)).into();
        call.patience = SERVER_SIDE;
        let (headers, outcome) = self.documented(&call).await?;
        let etag = outcome.etag.ok_or_else(|| Self::no_etag(&upload.key))?;
        Ok(Pin { etag, version: text(&headers, "x-amz-version-id") })
    }

    pub(super) async fn abort_upload(&self, upload: &Upload) -> Result<(), StoreError> {
        let mut call = self.write_call(Method::DELETE, &upload.key);
        call.query = encode::query(&[("uploadId", &upload.id)]);
        let response = self.sent(&call).await?;
        self.headers_of(response, call.subject).await;
        Ok(())
    }

    pub(super) async fn list_uploads(&self, request: UploadsRequest) -> Result<UploadsPage, StoreError> {
        let mut call = self.call(Method::GET, self.config.address.bucket(), Subject::Bucket);
        call.query = uploads::query(&request);
        let response = self.sent(&call).await?;
        let document = self.collect(response.into_body(), MAX_UPLOADS, call.subject).await?;
        uploads::parse(&String::from_utf8_lossy(&document), &request.prefix)
            .map_err(|error| StoreError::Permanent { what: self.what(call.subject), message: error.to_string() })
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}
