//! The writes of a [`Bucket`]: retries and pacing as for reads, preconditions, and what became of a write whose reply was lost.
//!
//! 1. A precondition is the store's to decide where it can ([`super::ObjectStore::decides`]). Where it cannot, a HEAD right before each try
//!    looks; somebody who writes between the two is then overwritten. The window is one round trip.
//! 2. A conditional write may have happened although its reply never came; tried again, it meets its own success as 412 (or 404). So
//!    whenever a write is told that the key is not as it should be, a HEAD looks for its [`WriteToken`]: found, it was ours, and done.
//! 3. A write that ends in [`StoreError::Deadline`] may have happened or not: [`Bucket::was_written`] tells later.
//! 4. A multipart upload whose begin was answered too late is nobody's: [`Bucket::list_multipart`] shows it, and [`Begun`] says that there may be one.

use super::client::{Attempts, Bucket, Op};
use super::limits;
use super::posix::AGENT;
use super::write::{
    BeginRequest, Begun, CompleteRequest, CopyPartRequest, CopyRequest, DeleteRequest, Part, PartRequest, PutRequest, Upload,
    UploadsPage, UploadsRequest, WriteKind, same_etag,
};
use super::{ObjectHead, ObjectHeaders, Pin, Precondition, StoreError, Urgency, WriteToken};
use std::future::Future;
use std::time::Duration;

/// What the store itself may take to copy or to join parts, on top of the deadline: 5 GiB take S3 more than a minute.
const SERVER_SIDE: Duration = Duration::from_secs(180);
/// No uplink is slower than this for one body, in bytes per second; a body that stops altogether is noticed much earlier.
const SLOWEST: u64 = 256 << 10;

/// A write that can be conditional, as far as its tries need to know it.
struct Conditional<'a> {
    op: Op,
    kind: WriteKind,
    key: &'a str,
    precondition: &'a Precondition,
    urgency: Urgency,
    allowance: Duration,
}

/// By what a write knows its own work again.
enum Mark<'a> {
    /// Its token is in the metadata.
    Token(WriteToken),
    /// A copy that keeps the metadata carries its source's token: what tells is the content, by its ETag.
    Content(&'a str),
}

impl Mark<'_> {
    fn is_on(&self, head: &ObjectHead) -> bool {
        match self {
            Mark::Token(token) => token.wrote(&head.user_metadata),
            Mark::Content(etag) => same_etag(etag, &head.pin.etag),
        }
    }
}

fn signed(mut headers: ObjectHeaders, token: WriteToken) -> Result<ObjectHeaders, StoreError> {
    headers.user_metadata.insert(AGENT.to_owned(), token.agent());
    limits::check_headers(&headers)?;
    Ok(headers)
}

fn transfer_time(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST)
}

impl Bucket {
    /// Writes a whole object of at most 5 GiB. `token` goes into its metadata as `user-agent`.
    pub async fn put(&self, request: PutRequest, token: WriteToken, urgency: Urgency) -> Result<Pin, StoreError> {
        limits::check_key(&request.key)?;
        limits::check_single(request.body.len())?;
        let request = PutRequest { headers: signed(request.headers, token)?, ..request };
        let write = Conditional {
            op: Op::Put,
            kind: WriteKind::Put,
            key: &request.key,
            precondition: &request.precondition,
            urgency,
            allowance: transfer_time(request.body.len()),
        };
        let pin = self.conditional(&write, &Mark::Token(token), || self.core.store.put(request.clone())).await?;
        self.core.counters.add_sent(request.body.len());
        Ok(pin)
    }

    /// Deletes a key, pinned to a version or not. That there is none (any more) is fine. In a bucket with versions a delete marker is added.
    pub async fn delete(&self, request: DeleteRequest, urgency: Urgency) -> Result<(), StoreError> {
        limits::check_key(&request.key)?;
        let precondition = request.pin.clone().map_or(Precondition::Any, Precondition::Is);
        let key = request.key.as_str();
        let write = Conditional {
            op: Op::Delete,
            kind: WriteKind::Delete,
            key,
            precondition: &precondition,
            urgency,
            allowance: Duration::ZERO,
        };
        let mut attempts = self.core.begin_with(write.allowance);
        loop {
            match self.one_try(&write, &mut attempts, || self.core.store.delete(request.clone())).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => return Ok(()),
                // A store that calls an absent key changed: is it gone, by our own first try perhaps?
                Err(error @ StoreError::Changed { .. }) => {
                    return match self.head(key, urgency).await {
                        Err(StoreError::NotFound { .. }) => Ok(()),
                        _ => Err(error),
                    };
                }
                Err(error) => self.core.wait_to_retry(error, key, &mut attempts).await?,
            }
        }
    }

    /// Copies at the server, at most 5 GiB. With headers of its own the copy gets the token; without, it keeps the source's.
    pub async fn copy(&self, request: CopyRequest, token: WriteToken, urgency: Urgency) -> Result<Pin, StoreError> {
        limits::check_key(&request.key)?;
        let headers = request.headers.map(|headers| signed(headers, token)).transpose()?;
        let request = CopyRequest { headers, ..request };
        let write = Conditional {
            op: Op::Copy,
            kind: WriteKind::Copy,
            key: &request.key,
            precondition: &request.precondition,
            urgency,
            allowance: SERVER_SIDE,
        };
        let mark = match &request.headers {
            Some(_) => Mark::Token(token),
            None => Mark::Content(&request.source.pin.etag),
        };
        self.conditional(&write, &mark, || self.core.store.copy(request.clone())).await
    }

    /// Begins a multipart upload. `token` goes into the object's metadata; its completion needs the same one.
    pub async fn begin_multipart(&self, request: BeginRequest, token: WriteToken, urgency: Urgency) -> Result<Begun, StoreError> {
        limits::check_key(&request.key)?;
        let request = BeginRequest { headers: signed(request.headers, token)?, ..request };
        let mut attempts = self.core.begin_with(Duration::ZERO);
        let send = || self.core.store.begin_multipart(request.clone());
        let (upload, _) = self.core.retried(Op::Multipart, &request.key, urgency, &mut attempts, send).await?;
        Ok(Begun { upload, may_be_one_of_several: attempts.tries() > 1 })
    }

    /// Sends a part. Sent again, it replaces the one before.
    pub async fn put_part(&self, request: PartRequest, urgency: Urgency) -> Result<Part, StoreError> {
        limits::check_part(request.number)?;
        limits::check_single(request.body.len())?;
        let allowance = transfer_time(request.body.len());
        let part = self.plain(&request.upload.key, urgency, allowance, || self.core.store.put_part(request.clone())).await?;
        self.core.counters.add_sent(request.body.len());
        Ok(part)
    }

    /// Copies a range at the server as a part; [`StoreError::Changed`] if the source is another version by now.
    pub async fn copy_part(&self, request: CopyPartRequest, urgency: Urgency) -> Result<Part, StoreError> {
        limits::check_part(request.number)?;
        limits::check_single(request.range.end.saturating_sub(request.range.start))?;
        self.plain(&request.upload.key, urgency, SERVER_SIDE, || self.core.store.copy_part(request.clone())).await
    }

    /// Makes the object of its parts. `token` is that of [`Bucket::begin_multipart`]. [`StoreError::NoSuchUpload`] if the upload is gone
    /// and the key's object is not of this token.
    pub async fn complete_multipart(
        &self,
        request: CompleteRequest,
        token: WriteToken,
        urgency: Urgency,
    ) -> Result<Pin, StoreError> {
        limits::check_parts(request.parts.iter().map(|part| part.number))?;
        let write = Conditional {
            op: Op::Multipart,
            kind: WriteKind::Complete,
            key: &request.upload.key,
            precondition: &request.precondition,
            urgency,
            allowance: SERVER_SIDE,
        };
        self.conditional(&write, &Mark::Token(token), || self.core.store.complete_multipart(request.clone())).await
    }

    /// Drops an upload and its parts. That there is none (any more) is fine.
    pub async fn abort_multipart(&self, upload: &Upload, urgency: Urgency) -> Result<(), StoreError> {
        match self.plain(&upload.key, urgency, Duration::ZERO, || self.core.store.abort_multipart(upload)).await {
            Err(StoreError::NoSuchUpload { .. }) => Ok(()),
            other => other,
        }
    }

    /// One page of the uploads under way below a prefix.
    pub async fn list_multipart(&self, request: UploadsRequest, urgency: Urgency) -> Result<UploadsPage, StoreError> {
        self.plain(&request.prefix, urgency, Duration::ZERO, || self.core.store.list_multipart(request.clone())).await
    }

    /// Whether the key's object is the work of this token, and then its version. For whoever does not know whether its write happened.
    pub async fn was_written(&self, key: &str, token: WriteToken, urgency: Urgency) -> Result<Option<Pin>, StoreError> {
        self.find(key, &Mark::Token(token), urgency).await
    }

    async fn find(&self, key: &str, mark: &Mark<'_>, urgency: Urgency) -> Result<Option<Pin>, StoreError> {
        match self.head(key, urgency).await {
            Ok(head) => Ok(mark.is_on(&head).then_some(head.pin)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A request without a precondition, with retries.
    async fn plain<T, F>(
        &self,
        what: &str,
        urgency: Urgency,
        allowance: Duration,
        send: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut attempts = self.core.begin_with(allowance);
        self.core.retried(Op::Multipart, what, urgency, &mut attempts, send).await.map(|(answer, _)| answer)
    }

    async fn conditional<F>(
        &self,
        write: &Conditional<'_>,
        mark: &Mark<'_>,
        mut send: impl FnMut() -> F,
    ) -> Result<Pin, StoreError>
    where
        F: Future<Output = Result<Pin, StoreError>>,
    {
        let mut attempts = self.core.begin_with(write.allowance);
        loop {
            let was_sent = attempts.tries() > 0;
            let error = match self.one_try(write, &mut attempts, &mut send).await {
                Ok(pin) => return Ok(pin),
                Err(error) => error,
            };
            let is_amiss =
                matches!(error, StoreError::Changed { .. } | StoreError::NotFound { .. } | StoreError::NoSuchUpload { .. });
            // A token proves it even on a first try (the caller's second, after a crash); the same content only where we may have put it there.
            if is_amiss && (matches!(mark, Mark::Token(_)) || was_sent) {
                return self.find(write.key, mark, write.urgency).await?.ok_or(error);
            }
            self.core.wait_to_retry(error, write.key, &mut attempts).await?;
        }
    }

    /// Looks first where the store does not; then sends.
    async fn one_try<T, F>(
        &self,
        write: &Conditional<'_>,
        attempts: &mut Attempts,
        mut send: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        if *write.precondition != Precondition::Any && !self.core.store.decides(write.kind, write.precondition) {
            let there = match self.head(write.key, write.urgency).await {
                Ok(head) => Some(head.pin.etag),
                Err(StoreError::NotFound { .. }) => None,
                Err(error) => return Err(error),
            };
            write.precondition.check(write.key, there.as_deref())?;
        }
        self.core.attempt(write.op, write.key, write.urgency, attempts, send()).await.map(|(answer, _)| answer)
    }
}
