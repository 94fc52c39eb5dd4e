//! GETs of objects over connections of our own: what a body brings goes from the socket to where the caller wants it, on the caller's task.
//! hyper, which sends everything else, reads into a buffer of its own on a task of its own (docs/decisions/0017-cold-reads-again.md).
//!
//! Invariants:
//! 1. One request is under way on a connection; it goes back to the pool only behind the last byte of its answer, and only if there was nothing more.
//! 2. A request is sent a second time only if the connection had served before and closed without a byte of an answer: the server had closed it
//!    while it idled. GETs change nothing, so that nothing is done twice.

use super::http1::{self, Chunks, Framing, Head, MAX_HEAD, Malformed};
use super::wire::{IDLE_CONNECTIONS, IDLE_TIME, WireError, innermost};
use bytes::{Buf, BytesMut};
use http::{HeaderMap, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower_service::Service;

type Stream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// What is asked for of a head at once, in bytes: what comes behind it is the body's beginning, and is copied once more.
const HEAD_READ: usize = 4 << 10;
/// What is asked for of a body of chunks at once, in bytes.
const CHUNKS_READ: usize = 64 << 10;

/// A connection between two requests, or in one.
struct Connection {
    stream: Stream,
    /// Received and not taken yet.
    received: BytesMut,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Connections that wait for their next request, the longest waiting in front.
#[derive(Default)]
struct Pool {
    idle: Mutex<Resting>,
}

#[derive(Default)]
struct Resting {
    connections: VecDeque<Idle>,
    /// A task closes what waits too long.
    swept: bool,
}

/// Why a connection gave no answer.
enum Unanswered {
    /// It closed before a byte of one.
    Closed(io::Error),
    Failed(String),
}

/// Connections to one endpoint.
pub struct Direct {
    connector: HttpsConnector<HttpConnector>,
    endpoint: String,
    pool: Arc<Pool>,
}

/// An answer's head, and the body behind it.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: DirectBody,
}

impl Direct {
    /// No connections yet.
    pub fn new(connector: HttpsConnector<HttpConnector>, endpoint: String) -> Self {
        Direct { connector, endpoint, pool: Arc::default() }
    }

    /// Sends a request without a body; returns once the answer's head is there, which may take `patience`.
    pub async fn get<B>(&self, request: &Request<B>, patience: Duration) -> Result<Answer, WireError> {
        let (words, uri) = (http1::encode(request), request.uri().clone());
        let answered = tokio::time::timeout(patience, self.ask(&words, uri)).await;
        answered.unwrap_or(Err(WireError::Silent(patience)))
    }

    async fn ask(&self, words: &[u8], uri: Uri) -> Result<Answer, WireError> {
        if let Some(connection) = self.pool.take() {
            match self.exchange(connection, words).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Closed(_)) => {}
                Err(Unanswered::Failed(cause)) => return Err(WireError::Broken(cause)),
            }
        }
        let connection = self.connect(uri).await?;
        self.exchange(connection, words).await.map_err(|error| match error {
            Unanswered::Closed(error) => WireError::Broken(error.to_string()),
            Unanswered::Failed(cause) => WireError::Broken(cause),
        })
    }

    async fn connect(&self, uri: Uri) -> Result<Connection, WireError> {
        let mut connector = self.connector.clone();
        let unreachable = |cause| WireError::Unreachable { endpoint: self.endpoint.clone(), cause };
        std::future::poll_fn(|cx| connector.poll_ready(cx)).await.map_err(|error| unreachable(innermost(&*error)))?;
        let stream = connector.call(uri).await.map_err(|error| unreachable(innermost(&*error)))?;
        Ok(Connection { stream: TokioIo::new(stream), received: BytesMut::new() })
    }

    async fn exchange(&self, mut connection: Connection, words: &[u8]) -> Result<Answer, Unanswered> {
        let Head { status, headers, framing, keeps_alive } = connection.exchange(words).await?;
        let pool = keeps_alive.then(|| Arc::downgrade(&self.pool));
        let body = DirectBody { connection: Some(connection), end: End::of(framing), pool };
        Ok(Answer { status, headers, body: body.begun() })
    }
}

impl Connection {
    async fn exchange(&mut self, words: &[u8]) -> Result<Head, Unanswered> {
        let sent = async {
            self.stream.write_all(words).await?;
            self.stream.flush().await
        };
        sent.await.map_err(Unanswered::Closed)?;
        loop {
            self.received.reserve(HEAD_READ);
            let mut part = (&mut self.stream).take(HEAD_READ as u64);
            match part.read_buf(&mut self.received).await {
                Ok(0) if self.received.is_empty() => return Err(Unanswered::Closed(io::ErrorKind::UnexpectedEof.into())),
                Ok(0) => return Err(Unanswered::Failed("the answer's head breaks off".to_owned())),
                Ok(_) => {}
                Err(error) if self.received.is_empty() => return Err(Unanswered::Closed(error)),
                Err(error) => return Err(Unanswered::Failed(error.to_string())),
            }
            let head = http1::take_head(&mut self.received).map_err(|error| Unanswered::Failed(error.to_string()))?;
            if let Some(head) = head {
                return Ok(head);
            }
            debug_assert!(self.received.len() <= MAX_HEAD, "a head that is too long is refused");
        }
    }

    /// Whether it is open and silent, as it should be between two requests.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.received.is_empty() && Pin::new(&mut self.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }
}

impl Pool {
    /// A connection that may be used once more: the one that waited least.
    fn take(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut resting = self.idle.lock();
        while let Some(mut idle) = resting.connections.pop_back() {
            if now.duration_since(idle.since) < IDLE_TIME && idle.connection.is_quiet() {
                return Some(idle.connection);
            }
        }
        None
    }

    fn give(self: &Arc<Self>, connection: Connection) {
        let mut resting = self.idle.lock();
        if resting.connections.len() < IDLE_CONNECTIONS {
            resting.connections.push_back(Idle { connection, since: Instant::now() });
            if !std::mem::replace(&mut resting.swept, true) {
                tokio::spawn(sweep(Arc::downgrade(self)));
            }
        }
    }

    /// Closes what has waited too long; `false` if nothing is left.
    fn close_old(&self) -> bool {
        let mut resting = self.idle.lock();
        let now = Instant::now();
        while resting.connections.front().is_some_and(|idle| now.duration_since(idle.since) >= IDLE_TIME) {
            resting.connections.pop_front();
        }
        resting.swept = !resting.connections.is_empty();
        resting.swept
    }
}

/// Closes connections that nobody comes for, until none is left.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE_TIME / 2).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_old()) {
            return;
        }
    }
}

/// Where a body ends.
enum End {
    After(u64),
    Chunked(Chunks),
    WithConnection,
}

impl End {
    fn of(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => End::After(length),
            Framing::Chunked => End::Chunked(Chunks::default()),
            Framing::Connection => End::WithConnection,
        }
    }
}

/// A body on its way. Dropped before its end, it takes its connection along.
pub struct DirectBody {
    /// Until the end.
    connection: Option<Connection>,
    end: End,
    /// Where the connection goes at the end, if it may be used again.
    pool: Option<Weak<Pool>>,
}

impl DirectBody {
    /// An empty body is over at once.
    fn begun(mut self) -> Self {
        if matches!(self.end, End::After(0)) {
            self.finish();
        }
        self
    }

    /// Appends what is there to `into`, which has room. That nothing was appended says that the body has ended.
    pub fn poll_into(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
        let got = match &mut self.end {
            End::After(left) => {
                let limit = usize::try_from(*left).unwrap_or(usize::MAX);
                let got = ready!(connection.poll_into(cx, into, limit))?;
                *left -= got as u64;
                if got == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                // The end is known without looking for it.
                if *left == 0 {
                    self.finish();
                }
                return Poll::Ready(Ok(()));
            }
            End::WithConnection => ready!(connection.poll_into(cx, into, usize::MAX))?,
            End::Chunked(chunks) => ready!(connection.poll_chunks(cx, chunks, into))?,
        };
        if got == 0 {
            self.finish();
        }
        Poll::Ready(Ok(()))
    }

    /// Appends what comes to `into` within `silence`; `false` if nothing did.
    pub async fn read_some(&mut self, into: &mut ReadBuf<'_>, silence: Duration) -> bool {
        let before = into.filled().len();
        let read = std::future::poll_fn(|cx| self.poll_into(cx, into));
        matches!(tokio::time::timeout(silence, read).await, Ok(Ok(()))) && into.filled().len() > before
    }

    fn finish(&mut self) {
        let pool = self.pool.take().and_then(|pool| pool.upgrade());
        if let (Some(pool), Some(mut connection)) = (pool, self.connection.take())
            && connection.received.is_empty()
        {
            // What it was allocated for is over; the next head needs little.
            connection.received = BytesMut::new();
            pool.give(connection);
        }
    }
}

impl Connection {
    /// Appends at most `limit` bytes to `into`; how many.
    fn poll_into(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>, limit: usize) -> Poll<io::Result<usize>> {
        if !self.received.is_empty() {
            let len = self.received.len().min(into.remaining()).min(limit);
            into.put_slice(&self.received[..len]);
            self.received.advance(len);
            return Poll::Ready(Ok(len));
        }
        crate::repository::body::fill_part(into, limit, |part| Pin::new(&mut self.stream).poll_read(cx, part))
    }

    /// Appends content of chunks; how many bytes. None are at the end.
    fn poll_chunks(&mut self, cx: &mut Context<'_>, chunks: &mut Chunks, into: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let bad = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
        while !chunks.skip(&mut self.received).map_err(bad)? {
            self.received.reserve(CHUNKS_READ);
            let read = std::pin::pin!(self.stream.read_buf(&mut self.received)).poll(cx);
            if ready!(read)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let Chunks::Data(left) = chunks else { return Poll::Ready(Ok(0)) };
        let len = self.received.len().min(into.remaining()).min(usize::try_from(*left).unwrap_or(usize::MAX));
        into.put_slice(&self.received[..len]);
        self.received.advance(len);
        *left -= len as u64;
        Poll::Ready(Ok(len))
    }
}
