//! A thread that handles messages in order: what the test devices run their completions on.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// A thread and its queue. Dropping it handles what is queued, then ends the thread.
pub(super) struct Worker<T> {
    queue: Option<Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread that calls `handle` for every message.
    pub(super) fn start(name: &str, mut handle: impl FnMut(T) + Send + 'static) -> Self {
        let (queue, messages): (_, Receiver<T>) = channel();
        let work = move || messages.into_iter().for_each(&mut handle);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work).expect("the system gives a thread");
        Worker { queue: Some(queue), thread: Some(thread) }
    }
}

impl<T> Worker<T> {
    /// Queues a message.
    pub(super) fn send(&self, message: T) {
        let queue = self.queue.as_ref().expect("only dropping takes the queue");
        assert!(queue.send(message).is_ok(), "the worker runs as long as its handle");
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.queue = None;
        // A message may hold the worker's last reference; a thread cannot wait for itself.
        if let Some(thread) = self.thread.take_if(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}
