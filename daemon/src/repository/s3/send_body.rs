//! A request's body: pieces handed to the connection without a copy, in slices small enough to see that they move.

use crate::repository::Payload;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Bytes handed on at once.
const SLICE: usize = 256 << 10;

/// How many bytes of a body the connection has taken.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A payload on its way.
pub struct SendBody {
    payload: Payload,
    /// The piece whose turn it is, and how much of it has gone.
    at: (usize, usize),
    left: u64,
    progress: Progress,
}

impl SendBody {
    /// A body of these bytes.
    pub fn new(payload: Payload) -> Self {
        SendBody { left: payload.len(), payload, at: (0, 0), progress: Progress::default() }
    }

    /// How far it is; stays valid when the body is gone.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (index, start) = self.at;
        let Some(piece) = self.payload.pieces().get(index) else { return Poll::Ready(None) };
        let end = piece.len().min(start + SLICE);
        let slice = piece.slice(start..end);
        self.at = if end == piece.len() { (index + 1, 0) } else { (index, end) };
        self.left -= slice.len() as u64;
        self.progress.0.fetch_add(slice.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn all_pieces_come_in_order() {
        let large: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
        let payload = Payload::from(vec![Bytes::from_static(b"head"), large.clone().into()]);
        let body = SendBody::new(payload);
        let progress = body.progress();
        assert_eq!(body.size_hint().exact(), Some(600_004));
        let collected = body.collect().await.expect("infallible").to_bytes();
        assert_eq!((&collected[..4], &collected[4..], progress.bytes()), (b"head".as_slice(), large.as_slice(), 600_004));
        assert!(SendBody::new(Payload::default()).is_end_stream());
    }
}
