//! A reply's body as a bad network delivers it: paced, stalled, cut, reset, resized.

use crate::line::Line;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use s3s::{Body, StdError};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// Pieces of a paced body: small enough that the rate is even over a few milliseconds.
const PACED_PIECE_BYTES: usize = 64 << 10;
/// Before a connection ends mid-body hyper gets this long to write what it holds; otherwise even the head would be lost.
const FLUSH: Duration = Duration::from_millis(20);

/// What happens when so many bytes have been sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Nothing is sent for a while.
    Stall(Duration),
    /// The connection ends, by reset or in good order.
    End {
        /// By reset.
        reset: bool,
    },
}

/// How a body is changed on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// An event and after how many bytes it comes.
    pub(crate) event: Option<(u64, Event)>,
    /// Zeros added at the end, or bytes left out there.
    pub(crate) resize: i64,
    /// Bytes per second.
    pub(crate) bandwidth: Option<u64>,
}

/// A body, shaped.
pub(crate) struct ShapedBody {
    inner: Body,
    shape: Shape,
    line: Arc<Line>,
    sent: u64,
    /// The length to come to, where it is known.
    target: Option<u64>,
    held: Bytes,
    sleep: Option<Pin<Box<Sleep>>>,
    ending: bool,
}

impl ShapedBody {
    pub(crate) fn new(inner: Body, shape: Shape, line: Arc<Line>) -> ShapedBody {
        let target = HttpBody::size_hint(&inner).exact().map(|len| len.saturating_add_signed(shape.resize));
        ShapedBody { inner, shape, line, sent: 0, target, held: Bytes::new(), sleep: None, ending: false }
    }

    fn pause(&mut self, duration: Duration) {
        self.sleep = Some(Box::pin(tokio::time::sleep(duration)));
    }

    /// Carries out the event if its byte has come. An error ends the connection.
    fn meet_event(&mut self) -> Result<bool, StdError> {
        let Some((at, event)) = self.shape.event.filter(|(at, _)| *at <= self.sent) else { return Ok(false) };
        debug_assert_eq!(at, self.sent, "pieces end where an event is due");
        match event {
            Event::Stall(duration) => {
                self.shape.event = None;
                self.pause(duration);
            }
            Event::End { .. } if !self.ending => {
                self.ending = true;
                self.pause(FLUSH);
            }
            Event::End { reset } => {
                if reset {
                    self.line.mark_reset();
                }
                return Err("the connection ends here by request of a fault rule".into());
            }
        }
        Ok(true)
    }

    /// How much of `held` may go out now.
    fn allowance(&self) -> usize {
        let mut most = self.held.len() as u64;
        if self.shape.bandwidth.is_some() {
            most = most.min(PACED_PIECE_BYTES as u64);
        }
        if let Some((at, _)) = self.shape.event {
            most = most.min(at - self.sent);
        }
        if let Some(target) = self.target {
            most = most.min(target - self.sent);
        }
        most as usize
    }

    fn emit(&mut self) -> Bytes {
        let piece = self.held.split_to(self.allowance());
        self.sent += piece.len() as u64;
        if let Some(bandwidth) = self.shape.bandwidth {
            let wait = self.line.book(piece.len() as u64, bandwidth);
            if !wait.is_zero() {
                self.pause(wait);
            }
        }
        piece
    }

    /// The zeros that make a body longer than it is.
    fn padding(&self) -> Option<Bytes> {
        let missing = self.target?.checked_sub(self.sent).filter(|missing| *missing > 0)?;
        (self.shape.resize > 0).then(|| vec![0; missing as usize].into())
    }
}

impl HttpBody for ShapedBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            if self.meet_event()? {
                continue;
            }
            if self.target == Some(self.sent) {
                return Poll::Ready(None);
            }
            if !self.held.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(self.emit()))));
            }
            match ready!(Pin::new(&mut self.inner.frame()).poll(cx)) {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.held = data;
                    }
                }
                None => match self.padding() {
                    Some(zeros) => self.held = zeros,
                    None => return Poll::Ready(None),
                },
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.target {
            Some(target) => SizeHint::with_exact(target - self.sent),
            None => SizeHint::default(),
        }
    }
}
