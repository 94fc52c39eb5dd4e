//! A GET's body that survives broken connections: it goes on where it broke, pinned to the version it began with.
//!
//! Invariants:
//! 1. `range` is what is still owed; pieces are handed on in order and never beyond it;
//! 2. every response a body is taken from has the head's ETag and size;
//! 3. a permit is held exactly while a response is open.

use super::body::{Body, ReadBody, fill_part};
use super::client::{Attempts, Core};
use super::pacing::Permit;
use super::{GetRequest, GetResponse, ObjectHead, StoreError, Urgency};
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

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

    fn take(&mut self, length: u64) -> Result<(), StoreError> {
        if length > self.range.end - self.range.start {
            let message = "the store sent more bytes than asked for".to_owned();
            return Err(StoreError::Transient { what: self.key.clone(), message });
        }
        self.range.start += length;
        self.core.counters.add_bytes(length);
        self.attempts = None;
        Ok(())
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

    /// Asks the body for bytes, as often and on as many connections as it takes. `ask` says how many came, and in what; `None` at the end.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut ask: impl FnMut(&mut Body, &mut Context<'_>) -> Poll<Option<Result<(u64, T), StoreError>>>,
    ) -> Poll<Option<Result<T, StoreError>>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Streaming { body, .. } => match ready!(ask(body, cx)) {
                    Some(Ok((0, _))) => {}
                    Some(Ok((length, got))) => match self.take(length) {
                        Ok(()) => {
                            if self.range.is_empty() {
                                self.state = State::Over;
                            }
                            return Poll::Ready(Some(Ok(got)));
                        }
                        Err(error) => self.state = self.reopen(error),
                    },
                    Some(Err(error)) => self.state = self.reopen(error),
                    None => {
                        let message = format!("body ended {} bytes short", self.range.end - self.range.start);
                        let error = StoreError::Transient { what: self.key.clone(), message };
                        self.state = self.reopen(error);
                    }
                },
                State::Reopening(reopening) => match ready!(reopening.as_mut().poll(cx)) {
                    Ok((response, permit, attempts)) => {
                        self.attempts = Some(attempts);
                        self.state = State::Streaming { body: response.body, _permit: permit };
                    }
                    Err(error) => {
                        self.state = State::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
            }
        }
    }
}

impl Stream for ResumingBody {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx, |body, cx| {
            let piece = ready!(body.as_mut().poll_next(cx));
            Poll::Ready(piece.map(|piece| piece.map(|piece| (piece.len() as u64, piece))))
        })
    }
}

impl ReadBody for ResumingBody {
    fn poll_into(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<(), StoreError>> {
        let this = self.get_mut();
        let before = into.filled().len();
        // Beyond what is owed nothing is written, whatever a store sends.
        let owed = usize::try_from(this.range.end - this.range.start).unwrap_or(usize::MAX);
        let polled = this.poll(cx, |body, cx| {
            // What came with an error does not count: it is asked for again.
            into.set_filled(before);
            let result = ready!(fill_part(into, owed, |part| body.as_mut().poll_into(cx, part)));
            Poll::Ready(match result {
                Err(error) => Some(Err(error)),
                Ok(0) => None,
                Ok(got) => Some(Ok((got as u64, ()))),
            })
        });
        Poll::Ready(ready!(polled).transpose().map(|_| ()))
    }
}
