//! One queue: messages received, the names they are about settled with the store, and deleted once that is durable.
//!
//! The queue is the backlog's place: at most [`BATCH`] messages are here at a time.

use super::status::QueueStatus;
use super::watcher::{Watcher, until_stopped};
use crate::repository::queue::{EventQueue, MOST_AT_ONCE, Message, NamedObject, QueueError, read};
use crate::vfs::{NamedPlace, Vfs};
use futures::StreamExt;
use parking_lot::Mutex;
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Messages worked on at a time.
const BATCH: usize = 500;
/// Requests for more messages at once, while they come in full tens.
const RECEIVES: usize = 8;
/// How long the queue is asked to wait for messages: the longest that SQS allows, which costs least.
const WAIT: Duration = Duration::from_secs(20);
/// For so long nobody else gets a message: more than a batch takes while the store fails and is tried again.
const VISIBILITY: Duration = Duration::from_secs(300);
/// Names asked for at once.
const SETTLES: usize = 16;
/// A message that failed so often is given up, and the bucket listed instead.
const TRIES: u32 = 5;
/// The first wait after a failure of the queue, doubled each time up to the last.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// How often the backlog is asked for.
const ASK_BACKLOG: Duration = Duration::from_secs(60);

#[derive(Default)]
struct State {
    status: QueueStatus,
    last_message_ns: Option<i64>,
    oldest_in_hand_ns: Option<i64>,
    asked_backlog: Option<Instant>,
}

/// A queue's pump.
pub(super) struct Pump {
    vfs: Vfs,
    queue: Arc<dyn EventQueue>,
    listeners: Mutex<Vec<Arc<Watcher>>>,
    state: Mutex<State>,
    stopped: watch::Sender<bool>,
}

/// A name that messages are about.
struct Named {
    watcher: Arc<Watcher>,
    place: NamedPlace,
    /// Which messages of the batch.
    messages: BTreeSet<usize>,
}

impl Pump {
    /// Starts a pump for the queue that all of these directories name; `None` if they name none.
    pub(super) fn start(vfs: Vfs, listeners: Vec<Arc<Watcher>>, runtime: &tokio::runtime::Handle) -> Option<Arc<Self>> {
        let queue = Arc::clone(listeners.first()?.watched().queue.as_ref()?);
        let status = QueueStatus { url: queue.url().to_owned(), ..QueueStatus::default() };
        let pump = Arc::new(Pump {
            vfs,
            queue,
            listeners: Mutex::new(listeners),
            state: Mutex::new(State { status, ..State::default() }),
            stopped: watch::Sender::new(false),
        });
        let this = Arc::clone(&pump);
        runtime.spawn(async move { this.run().await });
        Some(pump)
    }

    /// Sets whom messages are for.
    pub(super) fn set_listeners(&self, listeners: Vec<Arc<Watcher>>) {
        *self.listeners.lock() = listeners;
    }

    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub(super) fn status(&self) -> QueueStatus {
        let state = self.state.lock();
        let now_ns = self.vfs.now_ns();
        let age = |at: Option<i64>| at.map(|at| u64::try_from((now_ns - at) / 1_000_000_000).unwrap_or(0));
        QueueStatus {
            last_message_seconds: age(state.last_message_ns),
            oldest_message_seconds: age(state.oldest_in_hand_ns),
            ..state.status.clone()
        }
    }

    async fn run(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            biased;
            () = until_stopped(&mut stopped) => {}
            () = self.pump() => {}
        }
        // Whoever listens to it has nobody to tell them any more.
        self.listeners.lock().iter().for_each(|watcher| watcher.is_told(false));
    }

    async fn pump(self: &Arc<Self>) {
        let mut failures = 0;
        loop {
            match self.turn().await {
                Ok(()) => {
                    failures = 0;
                    self.works();
                }
                Err(error) => {
                    self.fails(&error);
                    let wait = (RETRY[0] * 2_u32.saturating_pow(failures)).min(RETRY[1]);
                    failures = (failures + 1).min(10);
                    let wait = wait.mul_f64(0.5 + 0.5 * rand::rng().random::<f64>());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Waits for messages, and works on those that come.
    async fn turn(self: &Arc<Self>) -> Result<(), QueueError> {
        self.ask_backlog().await?;
        let messages = self.receive().await?;
        if messages.is_empty() {
            return Ok(());
        }
        self.note(&messages);
        let done = self.work_on(&messages).await;
        let outcome = self.delete(&messages, &done).await;
        self.state.lock().oldest_in_hand_ns = None;
        outcome
    }

    /// How full the queue is; the first question to it, so that one that is not there is told at once.
    async fn ask_backlog(&self) -> Result<(), QueueError> {
        if self.state.lock().asked_backlog.is_some_and(|at| at.elapsed() < ASK_BACKLOG) {
            return Ok(());
        }
        let backlog = match self.queue.backlog().await {
            Ok(backlog) => Some(backlog),
            // Messages can be received without leave to ask how many there are.
            Err(QueueError::AccessDenied { .. }) => None,
            Err(error) => return Err(error),
        };
        let mut state = self.state.lock();
        state.status.backlog = backlog.map(|backlog| backlog.waiting);
        state.status.in_flight = backlog.map(|backlog| backlog.in_flight);
        state.asked_backlog = Some(Instant::now());
        drop(state);
        if backlog.is_some() {
            self.works();
        }
        Ok(())
    }

    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        let mut messages = self.queue.receive(WAIT, VISIBILITY).await?;
        let mut is_more = messages.len() >= MOST_AT_ONCE;
        while is_more && messages.len() + RECEIVES * MOST_AT_ONCE <= BATCH {
            let more = (0..RECEIVES).map(|_| self.queue.receive(Duration::ZERO, VISIBILITY));
            let more = futures::future::join_all(more).await;
            // A failure now is no reason to leave what has come lying.
            is_more = more.iter().all(|more| more.as_ref().is_ok_and(|more| more.len() >= MOST_AT_ONCE));
            messages.extend(more.into_iter().flatten().flatten());
        }
        Ok(messages)
    }

    fn note(&self, messages: &[Message]) {
        let mut state = self.state.lock();
        state.status.messages += messages.len() as u64;
        state.last_message_ns = Some(self.vfs.now_ns());
        state.oldest_in_hand_ns = messages.iter().filter_map(|message| message.sent_ns).min();
        // What is known of it is old by now.
        state.asked_backlog = None;
    }

    /// Does what messages say; returns which of them are done.
    async fn work_on(self: &Arc<Self>, messages: &[Message]) -> Vec<bool> {
        let mut done = vec![true; messages.len()];
        let named = self.named(messages, &mut done);
        let this = Arc::clone(self);
        let settle = move |named: Named| Arc::clone(&this).settle(named);
        let mut outcomes = futures::stream::iter(named).map(settle).buffer_unordered(SETTLES);
        while let Some(outcome) = outcomes.next().await {
            for (index, watcher) in outcome.iter().flat_map(|failed| failed.messages.iter().map(|at| (*at, &failed.watcher))) {
                done[index] = messages[index].received >= TRIES;
                if done[index] {
                    self.give_up(watcher, &messages[index]);
                }
            }
        }
        done
    }

    /// Settles a name; returns it if that failed.
    async fn settle(self: Arc<Self>, named: Named) -> Option<Named> {
        let key = named.place.key();
        match self.vfs.settle(&named.place, named.watcher.watched().accept()).await {
            Ok(taken) => {
                named.watcher.settled(&key, &taken);
                None
            }
            Err(error) => {
                tracing::debug!(key, %error, "automatic import: a name could not be settled; its event comes again");
                Some(named)
            }
        }
    }

    /// The names that messages are about, each once.
    fn named(&self, messages: &[Message], done: &mut [bool]) -> Vec<Named> {
        let listeners = self.listeners.lock().clone();
        let mut named: BTreeMap<_, Named> = BTreeMap::new();
        for (index, message) in messages.iter().enumerate() {
            let objects = read(&message.body).unwrap_or_else(|error| {
                self.unreadable(&error);
                listeners.iter().for_each(|watcher| watcher.list_soon());
                Vec::new()
            });
            for (object, watcher) in objects.iter().flat_map(|object| listeners.iter().map(move |watcher| (object, watcher))) {
                match self.place_of(watcher, object) {
                    Ok(None) => {}
                    Ok(Some(place)) => {
                        let (dir, name) = place.identity();
                        let at = (watcher.watched().root, dir, name.to_owned());
                        let new = || Named { watcher: Arc::clone(watcher), place, messages: BTreeSet::new() };
                        named.entry(at).or_insert_with(new).messages.insert(index);
                    }
                    Err(error) => {
                        tracing::debug!(key = object.key, %error, "automatic import: a name could not be looked up; its event comes again");
                        done[index] = false;
                    }
                }
            }
        }
        named.into_values().collect()
    }

    fn place_of(&self, watcher: &Watcher, object: &NamedObject) -> crate::error::Result<Option<NamedPlace>> {
        let watched = watcher.watched();
        let is_its_bucket = watched.bucket.is_empty() || object.bucket.is_empty() || watched.bucket == object.bucket;
        let key = format!("{}{}", watched.tag, object.key);
        if !is_its_bucket || !key.starts_with(&watched.prefix) {
            return Ok(None);
        }
        match self.vfs.watched_dir(watched.root)? {
            Some(root) => self.vfs.place_of_key(&root, &key),
            None => Ok(None),
        }
    }

    /// Deletes the messages that are done, once what they led to is durable.
    async fn delete(&self, messages: &[Message], done: &[bool]) -> Result<(), QueueError> {
        let receipts: Vec<String> =
            messages.iter().zip(done).filter(|(_, done)| **done).map(|(message, _)| message.receipt.clone()).collect();
        if receipts.is_empty() {
            return Ok(());
        }
        // Always: what a message is about may have come in by another way a moment ago.
        if let Err(error) = self.vfs.make_taken_over_durable().await {
            tracing::warn!(%error, "automatic import: what events led to is not durable yet; they come again");
            return Ok(());
        }
        let outcomes = futures::future::join_all(receipts.chunks(MOST_AT_ONCE).map(|batch| self.queue.delete(batch))).await;
        // What was not deleted comes again, and leads to nothing.
        outcomes.into_iter().collect()
    }

    fn unreadable(&self, error: &crate::repository::queue::Unreadable) {
        let mut state = self.state.lock();
        state.status.unreadable += 1;
        // One that comes in thousands says the same a thousand times.
        if state.status.unreadable.is_power_of_two() {
            tracing::warn!(queue = state.status.url, count = state.status.unreadable, %error, "automatic import: a message is deleted unread, and the bucket listed instead");
        }
    }

    fn give_up(&self, watcher: &Watcher, message: &Message) {
        watcher.list_soon();
        let mut state = self.state.lock();
        state.status.given_up += 1;
        tracing::warn!(
            queue = state.status.url,
            tries = message.received,
            "automatic import: a message is given up, and the bucket listed instead"
        );
    }

    fn works(&self) {
        let mut state = self.state.lock();
        if state.status.last_error.take().is_some() {
            tracing::info!(queue = state.status.url, "automatic import: the queue answers again");
        }
        state.status.connected = true;
        drop(state);
        self.listeners.lock().iter().for_each(|watcher| watcher.is_told(true));
    }

    fn fails(&self, error: &QueueError) {
        let mut state = self.state.lock();
        state.status.connected = false;
        // Once for as long as it lasts.
        if state.status.last_error.replace(error.to_string()).is_none() {
            tracing::warn!(%error, "automatic import: events do not come; the bucket is listed more often instead");
        }
        drop(state);
        self.listeners.lock().iter().for_each(|watcher| watcher.is_told(false));
    }
}
