//! A response's body, held to its announced length: short, long, broken and silent bodies end in an error.

use super::direct::DirectBody;
use crate::repository::{ReadBody, StoreError};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

/// The largest piece that is made where no memory is given, in bytes.
const PIECE: usize = 256 << 10;

/// A body of exactly `remaining` bytes more, or an error.
pub struct ExactBody {
    body: DirectBody,
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
    pub fn new(body: DirectBody, length: u64, silence: Duration, key: &str) -> Self {
        let alarm = Box::pin(tokio::time::sleep(silence));
        ExactBody { body, remaining: length, silence, alarm, armed: false, over: false, key: key.to_owned() }
    }

    fn fail<T>(&mut self, message: String) -> Poll<Result<T, StoreError>> {
        self.over = true;
        Poll::Ready(Err(StoreError::Transient { what: self.key.clone(), message }))
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.armed {
            let deadline = Instant::now() + self.silence;
            self.alarm.as_mut().reset(deadline);
            self.armed = true;
        }
        self.alarm.as_mut().poll(cx)
    }

    /// Has the body append to `into`; how many bytes it did.
    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<u64, StoreError>> {
        let before = into.filled().len();
        let Poll::Ready(polled) = self.body.poll_into(cx, into) else {
            ready!(self.poll_alarm(cx));
            return self.fail(format!("no data for {:?}, {} bytes short", self.silence, self.remaining));
        };
        self.armed = false;
        let got = (into.filled().len() - before) as u64;
        match polled {
            Ok(()) => Poll::Ready(Ok(got)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.fail(format!("body ended {} bytes short", self.remaining))
            }
            Err(error) => self.fail(format!("body broken, {} bytes short: {error}", self.remaining)),
        }
    }

    /// Behind the last byte there must be no other.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        let mut one = [0];
        if ready!(self.poll_body(cx, &mut ReadBuf::new(&mut one)))? > 0 {
            return self.fail("the store sent more bytes than it announced".to_owned());
        }
        self.over = true;
        Poll::Ready(Ok(()))
    }
}

impl ReadBody for ExactBody {
    fn poll_into(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<(), StoreError>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(Ok(()));
        }
        if this.remaining == 0 {
            return this.poll_end(cx);
        }
        let limit = usize::try_from(this.remaining).unwrap_or(usize::MAX);
        let got = ready!(crate::repository::body::fill_part(into, limit, |part| this.poll_body(cx, part).map_ok(drop)))?;
        if got == 0 {
            return this.fail(format!("body ended {} bytes short", this.remaining));
        }
        this.remaining -= got as u64;
        Poll::Ready(Ok(()))
    }
}

impl Stream for ExactBody {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let len = self.remaining.min(PIECE as u64) as usize;
        let mut piece = BytesMut::with_capacity(len.max(1));
        let mut into = ReadBuf::uninit(piece.spare_capacity_mut());
        let result = ready!(self.poll_into(cx, &mut into));
        let got = into.filled().len();
        if let Err(error) = result {
            return Poll::Ready(Some(Err(error)));
        }
        // SAFETY: the front of the spare memory, so many bytes of it, was filled.
        unsafe { piece.set_len(got) };
        Poll::Ready((got > 0).then(|| Ok(piece.freeze())))
    }
}
