//! A queue that fails as told, before another one: for tests of everything that must survive a bad queue.

use super::{Backlog, EventQueue, Message, QueueError};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Messages received.
    Receive,
    /// Messages deleted.
    Delete,
    /// The backlog asked for.
    Backlog,
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing was done.
    Failed,
    /// The queue did it, and the answer got lost: messages received so come again later.
    ReplyLost,
    /// 403.
    Denied,
    /// Every message comes twice in one answer.
    Twice,
}

#[derive(Default)]
struct Script {
    queued: VecDeque<(Op, Fault)>,
    always: Option<Fault>,
    asked: [u64; 3],
}

/// A queue that fails as told. Faults are used up in order, one per request they apply to.
pub struct FaultyQueue {
    inner: Arc<dyn EventQueue>,
    script: Mutex<Script>,
}

impl FaultyQueue {
    /// Before a queue; without faults so far.
    pub fn new(inner: Arc<dyn EventQueue>) -> Self {
        FaultyQueue { inner, script: Mutex::default() }
    }

    /// The next requests of one kind fail like this, `times` of them.
    pub fn next_of(&self, op: Op, fault: Fault, times: usize) {
        self.script.lock().queued.extend(std::iter::repeat_n((op, fault), times));
    }

    /// Every request fails like this while nothing else is queued; `None` ends it.
    pub fn always(&self, fault: Option<Fault>) {
        self.script.lock().always = fault;
    }

    /// Requests of a kind so far.
    pub fn asked(&self, op: Op) -> u64 {
        self.script.lock().asked[op as usize]
    }

    fn draw(&self, op: Op) -> Option<Fault> {
        let mut script = self.script.lock();
        script.asked[op as usize] += 1;
        let place = script.queued.iter().position(|(of, _)| *of == op);
        place.and_then(|at| script.queued.remove(at)).map(|(_, fault)| fault).or(script.always)
    }

    async fn faulty<T>(
        &self,
        op: Op,
        work: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<(T, Option<Fault>), QueueError> {
        let fault = self.draw(op);
        let queue = || self.inner.url().to_owned();
        match fault {
            Some(Fault::Failed) => return Err(QueueError::Failed { queue: queue(), message: "status 503".into() }),
            Some(Fault::Denied) => return Err(QueueError::AccessDenied { queue: queue(), message: "status 403".into() }),
            _ => {}
        }
        let done = work.await?;
        match fault {
            Some(Fault::ReplyLost) => Err(QueueError::Failed { queue: queue(), message: "reply lost".into() }),
            _ => Ok((done, fault)),
        }
    }
}

#[async_trait]
impl EventQueue for FaultyQueue {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn receive(&self, wait: Duration, visibility: Duration) -> Result<Vec<Message>, QueueError> {
        let (messages, fault) = self.faulty(Op::Receive, self.inner.receive(wait, visibility)).await?;
        let times = if fault == Some(Fault::Twice) { 2 } else { 1 };
        Ok(messages.into_iter().flat_map(|message| std::iter::repeat_n(message, times)).collect())
    }

    async fn delete(&self, receipts: &[String]) -> Result<(), QueueError> {
        self.faulty(Op::Delete, self.inner.delete(receipts)).await.map(|(done, _)| done)
    }

    async fn backlog(&self) -> Result<Backlog, QueueError> {
        self.faulty(Op::Backlog, self.inner.backlog()).await.map(|(backlog, _)| backlog)
    }
}
