//! A GET's bytes as they come: piece by piece, or straight to where the caller wants them.

use super::StoreError;
use bytes::{Buf, Bytes};
use futures::Stream;
use futures::stream::BoxStream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// Bytes that can be asked for as pieces (it is a [`Stream`]) and into memory, by turns. Either way they come in order, each once.
pub trait ReadBody: Stream<Item = Result<Bytes, StoreError>> + Send {
    /// Appends what is there to `into`, which has room. That nothing was appended says that the body has ended.
    fn poll_into(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<(), StoreError>>;
}

/// Any body.
pub type Body = Pin<Box<dyn ReadBody>>;

/// Appends to `into` what is there of a body, and waits for it. That nothing was appended says that the body has ended.
pub async fn read_into(body: &mut Body, into: &mut ReadBuf<'_>) -> Result<(), StoreError> {
    poll_fn(|cx| body.as_mut().poll_into(cx, into)).await
}

/// Has at most `limit` bytes appended to `into`; how many were.
pub(super) fn fill_part<E>(
    into: &mut ReadBuf<'_>,
    limit: usize,
    fill: impl FnOnce(&mut ReadBuf<'_>) -> Poll<Result<(), E>>,
) -> Poll<Result<usize, E>> {
    let mut part = into.take(limit);
    let start = part.initialized().as_ptr();
    let polled = fill(&mut part);
    let got = part.filled().len();
    assert!(std::ptr::eq(start, part.initialized().as_ptr()), "the memory given is the memory filled");
    // SAFETY: `part` is the front of what `into` has room for, and so much of it was filled.
    unsafe { into.assume_init(got) };
    into.advance(got);
    polled.map_ok(|()| got)
}

/// A body of pieces that are in memory of their own: they are copied where memory is given.
pub fn pieces(stream: BoxStream<'static, Result<Bytes, StoreError>>) -> Body {
    Box::pin(Pieces { stream, rest: Bytes::new() })
}

struct Pieces {
    stream: BoxStream<'static, Result<Bytes, StoreError>>,
    /// What did not fit of the last piece.
    rest: Bytes,
}

impl Stream for Pieces {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.rest))));
        }
        self.stream.as_mut().poll_next(cx)
    }
}

impl ReadBody for Pieces {
    fn poll_into(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<(), StoreError>> {
        while self.rest.is_empty() {
            match ready!(self.stream.as_mut().poll_next(cx)) {
                Some(piece) => self.rest = piece?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest[..len]);
        self.rest.advance(len);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn pieces_fill_memory_in_order_and_the_rest_comes_as_pieces() {
        let parts = ["", "abc", "", "defgh", "ij"].map(|part| Ok(Bytes::from_static(part.as_bytes())));
        let mut body = pieces(futures::stream::iter(parts).boxed());
        let mut memory = [0; 5];
        let mut into = ReadBuf::new(&mut memory);
        while into.remaining() > 0 {
            read_into(&mut body, &mut into).await.expect("no error in it");
        }
        assert_eq!(into.filled(), b"abcde");
        let rest: Vec<_> = body.by_ref().take(2).map(|piece| piece.expect("no error in it")).collect().await;
        assert_eq!(rest, ["fgh", "ij"]);
        into.clear();
        read_into(&mut body, &mut into).await.expect("no error in it");
        assert_eq!(into.filled(), b"", "the end");
    }

    #[tokio::test]
    async fn an_error_ends_it_behind_what_came_before() {
        let broken = StoreError::Transient { what: "k".into(), message: "reset".into() };
        let mut body = pieces(futures::stream::iter([Ok(Bytes::from_static(b"ab")), Err(broken)]).boxed());
        let mut memory = [0; 4];
        let mut into = ReadBuf::new(&mut memory);
        read_into(&mut body, &mut into).await.expect("a piece");
        assert!(read_into(&mut body, &mut into).await.is_err());
        assert_eq!(into.filled(), b"ab");
    }
}
