//! Queues in which the store tells of changes: messages are received, and deleted once what they say is done.
//!
//! | module | owns |
//! | --- | --- |
//! | `event` | what a message says: which keys |
//! | `sqs`, `open` | Amazon SQS and what speaks its protocol; from settings to a queue |
//! | `memory`, `faulty` | queues for tests |
//!
//! A queue promises little, and nothing here relies on more: a message comes at least once if at all, in any order, and again when it was not
//! deleted within its visibility timeout.

#[cfg(test)]
mod conformance;
pub mod event;
pub mod faulty;
pub mod memory;
mod open;
mod sqs;
#[cfg(test)]
mod sqs_tests;

pub use event::{NamedObject, Unreadable, read};
pub use open::{QueueUrlError, open, open_with, queue_host};
pub use sqs::{SqsConfig, SqsQueue};

use async_trait::async_trait;
use std::time::Duration;

/// Messages that one request receives or deletes at most.
pub const MOST_AT_ONCE: usize = 10;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By which it is deleted. Another one each time it is received.
    pub receipt: String,
    /// What it says.
    pub body: String,
    /// When it was sent, ns since the Unix epoch, where the queue says so.
    pub sent_ns: Option<i64>,
    /// How often it was received, this time included; 1 where the queue does not say.
    pub received: u32,
}

/// How full a queue is, roughly: that is all a queue knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that wait.
    pub waiting: u64,
    /// Messages received and not deleted yet.
    pub in_flight: u64,
}

/// Why a queue did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// There is no such queue.
    #[error("queue '{queue}' does not exist: check --event-queue-url")]
    NoSuchQueue {
        /// Its URL.
        queue: String,
    },
    /// The credentials do not allow it.
    #[error(
        "access to queue '{queue}' was denied: {message}; it takes sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes"
    )]
    AccessDenied {
        /// Its URL.
        queue: String,
        /// The queue's words.
        message: String,
    },
    /// No connection, no answer, an answer that makes no sense, a queue that fails or asks to slow down: worth another try later.
    #[error("queue '{queue}': {message}")]
    Failed {
        /// Its URL.
        queue: String,
        /// What happened.
        message: String,
    },
}

/// A queue, each call one request: no retries.
#[async_trait]
pub trait EventQueue: Send + Sync + 'static {
    /// Its URL, which names it.
    fn url(&self) -> &str;
    /// Messages, at most [`MOST_AT_ONCE`]; none if none came within `wait`. For `visibility` nobody else gets them.
    async fn receive(&self, wait: Duration, visibility: Duration) -> Result<Vec<Message>, QueueError>;
    /// Deletes messages, at most [`MOST_AT_ONCE`]. Those that the queue could not delete come again; deleting one twice is fine.
    async fn delete(&self, receipts: &[String]) -> Result<(), QueueError>;
    /// How full it is.
    async fn backlog(&self) -> Result<Backlog, QueueError>;
}
