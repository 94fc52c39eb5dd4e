//! A store that fails as told, before another one: for tests of everything that must survive a bad store.

use super::body::pieces;
use super::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, DeleteRequest, Part, PartRequest, PutRequest, Upload,
    UploadsPage, UploadsRequest, WriteKind,
};
use super::{GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectStore, Pin, Precondition, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A GET.
    Get,
    /// A HEAD.
    Head,
    /// A LIST.
    List,
    /// A PUT of a whole object.
    Put,
    /// A DELETE.
    Delete,
    /// A copy at the server.
    Copy,
    /// The begin of a multipart upload.
    Begin,
    /// A part, sent or copied.
    Part,
    /// The end of a multipart upload.
    Complete,
    /// An upload dropped.
    Abort,
    /// A page of uploads.
    Uploads,
}

/// What goes wrong with one request. Those of bodies apply to GETs, and let other requests pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 without a word.
    Unavailable,
    /// 503 SlowDown.
    SlowDown(Option<Duration>),
    /// 403.
    Denied,
    /// No connection.
    Unreachable,
    /// No answer for this long, then a time-out. Not applied.
    Timeout(Duration),
    /// The store did it, and the answer got lost.
    ReplyLost,
    /// The answer comes after this long.
    Slow(Duration),
    /// The body breaks with an error after so many bytes.
    Reset {
        /// Bytes handed on before.
        after: u64,
    },
    /// The body ends without an error after so many bytes.
    Truncated {
        /// Bytes handed on before.
        after: u64,
    },
    /// The body has more bytes than announced.
    Overlong,
    /// The body stops for this long after so many bytes, then breaks.
    Stall {
        /// Bytes handed on before.
        after: u64,
        /// How long.
        for_time: Duration,
    },
}

/// Requests that reached the faulty store, and those that went on to the one behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// GETs asked for.
    pub get: u64,
    /// HEADs asked for.
    pub head: u64,
    /// LISTs asked for.
    pub list: u64,
    /// Writes of all kinds asked for.
    pub write: u64,
    /// Faults that were injected.
    pub faults: u64,
}

#[derive(Default)]
struct Script {
    queued: VecDeque<(Option<Op>, Fault)>,
    always: Option<Fault>,
    counts: FaultCounts,
    ignores_preconditions: bool,
    gets: Vec<GetRequest>,
}

/// A store that fails as told. Faults are used up in order, one per request they apply to.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    script: Mutex<Script>,
}

impl FaultyStore {
    /// Before a store; without faults so far.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        FaultyStore { inner, script: Mutex::new(Script::default()) }
    }

    /// The next request fails like this, whatever it is.
    pub fn next(&self, fault: Fault) {
        self.script.lock().queued.push_back((None, fault));
    }

    /// The next requests of one kind fail like this, `times` of them.
    pub fn next_of(&self, op: Op, fault: Fault, times: usize) {
        let mut script = self.script.lock();
        script.queued.extend(std::iter::repeat_n((Some(op), fault), times));
    }

    /// Every request fails like this while nothing else is queued; `None` ends it.
    pub fn always(&self, fault: Option<Fault>) {
        self.script.lock().always = fault;
    }

    /// From now on the store takes no notice of preconditions, and says so.
    pub fn ignore_preconditions(&self) {
        self.script.lock().ignores_preconditions = true;
    }

    fn heeded(&self, precondition: Precondition) -> Precondition {
        if self.script.lock().ignores_preconditions { Precondition::Any } else { precondition }
    }

    /// Requests and faults so far.
    pub fn counts(&self) -> FaultCounts {
        self.script.lock().counts
    }

    /// The GETs so far, in order.
    pub fn gets(&self) -> Vec<GetRequest> {
        self.script.lock().gets.clone()
    }

    fn draw(&self, op: Op) -> Option<Fault> {
        let mut script = self.script.lock();
        match op {
            Op::Get => script.counts.get += 1,
            Op::Head => script.counts.head += 1,
            Op::List => script.counts.list += 1,
            _ => script.counts.write += 1,
        }
        let place = script.queued.iter().position(|(of, _)| of.is_none_or(|of| of == op));
        let fault = place.and_then(|at| script.queued.remove(at)).map(|(_, fault)| fault).or_else(|| script.always.clone());
        script.counts.faults += u64::from(fault.is_some());
        fault
    }
}

/// Faults that come instead of an answer; those of bodies pass.
async fn instead(fault: Option<&Fault>, what: &str) -> Result<(), StoreError> {
    let transient = |message: &str| StoreError::Transient { what: what.to_owned(), message: message.to_owned() };
    match fault {
        Some(Fault::Unavailable) => Err(transient("status 503")),
        Some(Fault::SlowDown(retry_after)) => Err(StoreError::SlowDown { retry_after: *retry_after }),
        Some(Fault::Denied) => Err(StoreError::AccessDenied { what: what.to_owned(), message: "status 403".to_owned() }),
        Some(Fault::Unreachable) => {
            Err(StoreError::Unreachable { endpoint: "http://faulty".to_owned(), message: "connection refused".to_owned() })
        }
        Some(Fault::Timeout(time)) => {
            tokio::time::sleep(*time).await;
            Err(transient("no answer"))
        }
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(*time).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn lost(fault: Option<&Fault>, what: &str) -> Result<(), StoreError> {
    match fault {
        Some(Fault::ReplyLost) => Err(StoreError::Transient { what: what.to_owned(), message: "reply lost".to_owned() }),
        _ => Ok(()),
    }
}

impl FaultyStore {
    /// A request without a body to spoil.
    async fn faulty<T>(&self, op: Op, what: &str, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let fault = self.draw(op);
        instead(fault.as_ref(), what).await?;
        let done = work.await?;
        lost(fault.as_ref(), what)?;
        Ok(done)
    }
}

type Body = BoxStream<'static, Result<Bytes, StoreError>>;

/// At most `bytes` of a body.
fn first_bytes(body: Body, bytes: u64) -> Body {
    let cut = body.scan(bytes, |left, piece| {
        let cut = piece.map(|piece| {
            let kept = piece.slice(..piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
            *left -= kept.len() as u64;
            kept
        });
        std::future::ready(if matches!(&cut, Ok(kept) if kept.is_empty()) { None } else { Some(cut) })
    });
    cut.boxed()
}

/// A body of `length` bytes whose last piece is longer than it should be.
fn lengthen(body: Body, length: u64) -> Body {
    let longer = body.scan(0, move |seen, piece| {
        let piece = piece.map(|piece| {
            *seen += piece.len() as u64;
            if *seen < length { piece } else { Bytes::from([&piece, b"<Error>too much</Error>".as_slice()].concat()) }
        });
        std::future::ready(Some(piece))
    });
    longer.boxed()
}

fn spoil(body: Body, fault: Option<Fault>, key: String, length: u64) -> Body {
    let broken = |message: &str| Err(StoreError::Transient { what: key.clone(), message: message.to_owned() });
    match fault {
        Some(Fault::Reset { after }) => {
            let reset = broken("connection reset");
            first_bytes(body, after).chain(futures::stream::iter([reset])).boxed()
        }
        Some(Fault::Truncated { after }) => first_bytes(body, after),
        Some(Fault::Overlong) => lengthen(body, length),
        Some(Fault::Stall { after, for_time }) => {
            let stalled = broken("no data");
            let stall = futures::stream::once(async move {
                tokio::time::sleep(for_time).await;
                stalled
            });
            first_bytes(body, after).chain(stall).boxed()
        }
        _ => body,
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get(&self, request: GetRequest) -> Result<GetResponse, StoreError> {
        let fault = self.draw(Op::Get);
        self.script.lock().gets.push(request.clone());
        let key = request.key.clone();
        instead(fault.as_ref(), &key).await?;
        let response = self.inner.get(request).await?;
        lost(fault.as_ref(), &key)?;
        let length = response.range.end - response.range.start;
        let body = match fault {
            Some(_) => pieces(spoil(response.body.boxed(), fault, key, length)),
            None => response.body,
        };
        Ok(GetResponse { body, ..response })
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, StoreError> {
        self.faulty(Op::Head, key, self.inner.head(key)).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let prefix = request.prefix.clone();
        self.faulty(Op::List, &prefix, self.inner.list(request)).await
    }

    fn decides(&self, kind: WriteKind, precondition: &Precondition) -> bool {
        !self.script.lock().ignores_preconditions && self.inner.decides(kind, precondition)
    }

    async fn put(&self, request: PutRequest) -> Result<Pin, StoreError> {
        let key = request.key.clone();
        let request = PutRequest { precondition: self.heeded(request.precondition), ..request };
        self.faulty(Op::Put, &key, self.inner.put(request)).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let key = request.key.clone();
        let pin = request.pin.filter(|_| !self.script.lock().ignores_preconditions);
        self.faulty(Op::Delete, &key, self.inner.delete(DeleteRequest { pin, ..request })).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Pin, StoreError> {
        let key = request.key.clone();
        let request = CopyRequest { precondition: self.heeded(request.precondition), ..request };
        self.faulty(Op::Copy, &key, self.inner.copy(request)).await
    }

    async fn begin_multipart(&self, request: BeginRequest) -> Result<Upload, StoreError> {
        let key = request.key.clone();
        self.faulty(Op::Begin, &key, self.inner.begin_multipart(request)).await
    }

    async fn put_part(&self, request: PartRequest) -> Result<Part, StoreError> {
        let key = request.upload.key.clone();
        self.faulty(Op::Part, &key, self.inner.put_part(request)).await
    }

    async fn copy_part(&self, request: CopyPartRequest) -> Result<Part, StoreError> {
        let key = request.upload.key.clone();
        self.faulty(Op::Part, &key, self.inner.copy_part(request)).await
    }

    async fn complete_multipart(&self, request: CompleteRequest) -> Result<Pin, StoreError> {
        let key = request.upload.key.clone();
        let request = CompleteRequest { precondition: self.heeded(request.precondition), ..request };
        self.faulty(Op::Complete, &key, self.inner.complete_multipart(request)).await
    }

    async fn abort_multipart(&self, upload: &Upload) -> Result<(), StoreError> {
        self.faulty(Op::Abort, &upload.key, self.inner.abort_multipart(upload)).await
    }

    async fn list_multipart(&self, request: UploadsRequest) -> Result<UploadsPage, StoreError> {
        let prefix = request.prefix.clone();
        self.faulty(Op::Uploads, &prefix, self.inner.list_multipart(request)).await
    }
}
