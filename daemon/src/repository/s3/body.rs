//! A response's body, held to its announced length: short, long, broken and silent bodies end in an error.

use super::wire::innermost;
use crate::repository::StoreError;
use bytes::Bytes;
use futures::Stream;
use hyper::body::{Body, Incoming};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A body of exactly `remaining` bytes more, or an error.
pub struct ExactBody {
    body: Incoming,
    remaining: u64,
    silence: Duration,
    alarm: Pin<Box<Sleep>>,
    /// Whether `alarm` counts from the last piece. Set when a poll finds nothing, so that pieces which are there already
    /// cost no timer.
    armed: bool,
    over: bool,
    key: String,
}

impl ExactBody {
    /// Takes over a body that should have `length` bytes.
    pub fn new(body: Incoming, length: u64, silence: Duration, key: &str) -> Self {
        let alarm = Box::pin(tokio::time::sleep(silence));
        ExactBody { body, remaining: length, silence, alarm, armed: false, over: false, key: key.to_owned() }
    }

    fn fail(&mut self, message: String) -> Poll<Option<Result<Bytes, StoreError>>> {
        self.over = true;
        Poll::Ready(Some(Err(StoreError::Transient { what: self.key.clone(), message })))
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.armed {
            let deadline = Instant::now() + self.silence;
            self.alarm.as_mut().reset(deadline);
            self.armed = true;
        }
        self.alarm.as_mut().poll(cx)
    }
}

impl Stream for ExactBody {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.over {
                return Poll::Ready(None);
            }
            let Poll::Ready(polled) = Pin::new(&mut this.body).poll_frame(cx) else {
                ready!(this.poll_alarm(cx));
                return this.fail(format!("no data for {:?}, {} bytes short", this.silence, this.remaining));
            };
            this.armed = false;
            match polled {
                Some(Ok(frame)) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    let Some(left) = this.remaining.checked_sub(piece.len() as u64) else {
                        return this.fail("the store sent more bytes than it announced".to_owned());
                    };
                    this.remaining = left;
                    if !piece.is_empty() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Some(Err(error)) => {
                    return this.fail(format!("body broken, {} bytes short: {}", this.remaining, innermost(&error)));
                }
                None if this.remaining > 0 => return this.fail(format!("body ended {} bytes short", this.remaining)),
                None => this.over = true,
            }
        }
    }
}
