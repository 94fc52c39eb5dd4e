//! A queue in memory, for tests: messages come in the order they were sent, and again when their visibility timeout is over.

use super::{Backlog, EventQueue, MOST_AT_ONCE, Message, QueueError};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::Instant;

struct Held {
    id: u64,
    body: String,
    sent_ns: i64,
    received: u32,
    /// Nobody gets it before.
    hidden_until: Option<Instant>,
}

#[derive(Default)]
struct State {
    messages: Vec<Held>,
    next_id: u64,
    deleted: u64,
}

/// A queue in memory.
pub struct MemoryQueue {
    url: String,
    state: Mutex<State>,
    came: Notify,
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new(url: &str) -> Self {
        MemoryQueue { url: url.to_owned(), state: Mutex::default(), came: Notify::new() }
    }

    /// Sends a message.
    pub fn send(&self, body: impl Into<String>) {
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        state.messages.push(Held { id, body: body.into(), sent_ns, received: 0, hidden_until: None });
        drop(state);
        self.came.notify_waiters();
    }

    /// Messages that are there, those received and not deleted included.
    pub fn len(&self) -> usize {
        self.state.lock().messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages deleted so far.
    pub fn deleted(&self) -> u64 {
        self.state.lock().deleted
    }

    /// Has all that was received and not deleted come again at once, as if its time were over.
    pub fn reveal(&self) {
        for held in &mut self.state.lock().messages {
            held.hidden_until = None;
        }
        self.came.notify_waiters();
    }

    /// Turns the order of messages around.
    pub fn reverse(&self) {
        self.state.lock().messages.reverse();
    }

    fn take(&self, visibility: Duration) -> Vec<Message> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let visible = state.messages.iter_mut().filter(|held| held.hidden_until.is_none_or(|until| until <= now));
        let take = |held: &mut Held| {
            held.received += 1;
            held.hidden_until = Some(now + visibility);
            let receipt = format!("{}-{}", held.id, held.received);
            Message { receipt, body: held.body.clone(), sent_ns: Some(held.sent_ns), received: held.received }
        };
        visible.take(MOST_AT_ONCE).map(take).collect()
    }
}

#[async_trait]
impl EventQueue for MemoryQueue {
    fn url(&self) -> &str {
        &self.url
    }

    async fn receive(&self, wait: Duration, visibility: Duration) -> Result<Vec<Message>, QueueError> {
        let until = Instant::now() + wait;
        loop {
            let came = self.came.notified();
            let taken = self.take(visibility);
            if !taken.is_empty() || Instant::now() >= until {
                return Ok(taken);
            }
            // Messages that become visible again tell nobody.
            let look_again = until.min(Instant::now() + Duration::from_millis(50));
            let _ = tokio::time::timeout_at(look_again, came).await;
        }
    }

    async fn delete(&self, receipts: &[String]) -> Result<(), QueueError> {
        let mut state = self.state.lock();
        for receipt in receipts {
            let id = receipt.split('-').next().and_then(|id| id.parse::<u64>().ok());
            let before = state.messages.len();
            state.messages.retain(|held| Some(held.id) != id);
            state.deleted += (before - state.messages.len()) as u64;
        }
        Ok(())
    }

    async fn backlog(&self) -> Result<Backlog, QueueError> {
        let now = Instant::now();
        let state = self.state.lock();
        let in_flight = state.messages.iter().filter(|held| held.hidden_until.is_some_and(|until| until > now)).count() as u64;
        Ok(Backlog { waiting: state.messages.len() as u64 - in_flight, in_flight })
    }
}
