//! The bytes of a reply: a [`Body`] as the stream that hyper pulls.
//!
//! Memory is handed over without a copy. Files are read in pieces, at once where the page cache has them and on the runtime's
//! blocking threads where the disk must be waited for, so that a cold file does not stall other connections.

use crate::store::{Body, read_cached};
use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// Bytes per read of a file and per generated piece: large enough to make the call cheap, small enough for the L2 cache.
const PIECE_BYTES: usize = 256 << 10;
/// Buffers kept for reuse; more are made when more are in flight.
const SPARE_BUFFERS: usize = 32;

type Buffer = Box<[u8]>;

/// Buffers that pieces are read into, used again when the socket has taken them.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Mutex<Vec<Buffer>>,
}

impl Buffers {
    fn take(&self) -> Buffer {
        self.spare.lock().pop().unwrap_or_else(|| vec![0; PIECE_BYTES].into())
    }

    fn give_back(&self, buffer: Buffer) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}

/// A filled buffer on loan; goes back with the last `Bytes` that refers to it.
struct Loan {
    buffer: Buffer,
    len: usize,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

/// A range of a body, piece by piece.
pub(crate) struct BodyStream {
    leaves: VecDeque<Body>,
    left: u64,
    /// The file of the first leaf, once opened.
    open: Option<Arc<File>>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    buffers: Arc<Buffers>,
}

impl BodyStream {
    pub(crate) fn new(body: &Body, range: Range<u64>, buffers: &Arc<Buffers>) -> BodyStream {
        let left = range.end - range.start;
        BodyStream { leaves: body.leaves(range).into(), left, open: None, reading: None, buffers: buffers.clone() }
    }

    fn lend(&self, fill: impl FnOnce(&mut [u8]) -> bool, len: usize) -> Option<Bytes> {
        let mut buffer = self.buffers.take();
        let filled = fill(&mut buffer[..len]);
        let loan = Loan { buffer, len, home: self.buffers.clone() };
        filled.then(|| Bytes::from_owner(loan))
    }

    /// The next piece if it takes no waiting; otherwise starts the read that does.
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let Some(leaf) = self.leaves.front() else { return Ok(Some(Bytes::new())) };
        let len = leaf.len().min(PIECE_BYTES as u64) as usize;
        match leaf {
            Body::Stored(bytes) => Ok(Some(bytes.clone())),
            Body::Synthetic { seed, offset, texture, .. } => {
                let fill = |out: &mut [u8]| {
                    texture.fill(*seed, *offset, out);
                    true
                };
                Ok(self.lend(fill, len))
            }
            Body::File { file, offset, .. } => {
                let handle = match &self.open {
                    Some(handle) => handle.clone(),
                    None => Arc::new(file.open()?),
                };
                let offset = *offset;
                let piece = self.lend(|out| read_cached(&handle, out, offset), len);
                if piece.is_none() {
                    self.reading = Some(read_from_disk(handle.clone(), offset, len, self.buffers.clone()));
                }
                self.open = Some(handle);
                Ok(piece)
            }
            Body::Joined { .. } => unreachable!("a stream is made of leaves"),
        }
    }

    fn advance(&mut self, by: u64) {
        self.left -= by;
        let Some(leaf) = self.leaves.pop_front() else { return };
        if by < leaf.len() {
            self.leaves.push_front(leaf.slice(by..leaf.len()));
        } else {
            self.open = None;
        }
    }
}

fn read_from_disk(file: Arc<File>, offset: u64, len: usize, buffers: Arc<Buffers>) -> JoinHandle<io::Result<Bytes>> {
    tokio::task::spawn_blocking(move || {
        let mut buffer = buffers.take();
        let result = file.read_exact_at(&mut buffer[..len], offset);
        let loan = Loan { buffer, len, home: buffers };
        result.map(|()| Bytes::from_owner(loan))
    })
}

impl Stream for BodyStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.reading.is_none()
            && let Some(piece) = self.next_piece()?
        {
            self.advance(piece.len() as u64);
            return Poll::Ready(Some(Ok(piece)));
        }
        let Some(reading) = self.reading.as_mut() else { unreachable!("a piece that is not here is being read") };
        let piece = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let piece = piece??;
        self.advance(piece.len() as u64);
        Poll::Ready(Some(Ok(piece)))
    }
}

impl ByteStream for BodyStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.left as usize)
    }
}
