//! A GET's body that survives broken connections: it goes on where it broke, pinned to the version it began with.
//!
//! Invariants:
//! 1. `range` is what is still owed; pieces are handed on in order and never beyond it;
//! 2. every response a body is taken from has the head's ETag and size;
//! 3. a permit is held exactly while a response is open.

use super::client::{Attempts, Core};
use super::pacing::Permit;
use super::{GetRequest, GetResponse, ObjectHead, StoreError, Urgency};
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

type Body = BoxStream<'static, Result<Bytes, StoreError>>;
type Reopened = Result<(GetResponse, Permit, Attempts), StoreError>;

enum State {
    Streaming { body: Body, _permit: Permit },
    Reopening(BoxFuture<'static, Reopened>),
    Over,
}

/// The bytes of one range of one version, however many connections it takes.
pub struct ResumingBody {
    core: Arc<Core>,
    key: String,
    head: ObjectHead,
    range: Range<u64>,
    urgency: Urgency,
    /// The tries since a byte last arrived.
    attempts: Option<Attempts>,
    state: State,
}

impl ResumingBody {
    /// Takes over the body of a first response.
    pub(super) fn new(
        core: Arc<Core>,
        key: String,
        head: ObjectHead,
        range: Range<u64>,
        urgency: Urgency,
        body: Body,
        permit: Permit,
    ) -> Self {
        let state = if range.is_empty() { State::Over } else { State::Streaming { body, _permit: permit } };
        ResumingBody { core, key, head, range, urgency, attempts: None, state }
    }

    fn take(&mut self, piece: Bytes) -> Result<Bytes, StoreError> {
        let length = piece.len() as u64;
        if length > self.range.end - self.range.start {
            let message = "the store sent more bytes than asked for".to_owned();
            return Err(StoreError::Transient { what: self.key.clone(), message });
        }
        self.range.start += length;
        self.core.counters.add_bytes(length);
        self.attempts = None;
        Ok(piece)
    }

    fn reopen(&mut self, error: StoreError) -> State {
        let core = self.core.clone();
        let pin = Some(self.head.pin.clone());
        let request = GetRequest { key: self.key.clone(), range: Some(self.range.clone()), pin };
        let mut attempts = self.attempts.take().unwrap_or_else(|| Attempts::after_broken_body(&core));
        let (urgency, size) = (self.urgency, self.head.size);
        State::Reopening(Box::pin(async move {
            core.wait_to_retry(error, &request.key, &mut attempts).await?;
            let (response, permit) = core.get(&request, urgency, &mut attempts).await?;
            let asked = request.range.as_ref().is_some_and(|range| *range == response.range);
            if !asked || response.head.size != size {
                return Err(StoreError::Changed { key: request.key });
            }
            Ok((response, permit, attempts))
        }))
    }
}

impl Stream for ResumingBody {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Over => return Poll::Ready(None),
                State::Streaming { body, .. } => match ready!(body.as_mut().poll_next(cx)) {
                    Some(Ok(piece)) if piece.is_empty() => {}
                    Some(Ok(piece)) => match this.take(piece) {
                        Ok(piece) => {
                            if this.range.is_empty() {
                                this.state = State::Over;
                            }
                            return Poll::Ready(Some(Ok(piece)));
                        }
                        Err(error) => this.state = this.reopen(error),
                    },
                    Some(Err(error)) => this.state = this.reopen(error),
                    None => {
                        let message = format!("body ended {} bytes short", this.range.end - this.range.start);
                        let error = StoreError::Transient { what: this.key.clone(), message };
                        this.state = this.reopen(error);
                    }
                },
                State::Reopening(reopening) => match ready!(reopening.as_mut().poll(cx)) {
                    Ok((response, permit, attempts)) => {
                        this.attempts = Some(attempts);
                        this.state = State::Streaming { body: response.body, _permit: permit };
                    }
                    Err(error) => {
                        this.state = State::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
            }
        }
    }
}
