//! Telling the kernel what to forget.
//!
//! Invariants:
//! 1. A notification is sent from the thread of this module only. The kernel may wait, inside a notification, for a lock that a
//!    pending request holds; a handler that notified would wait for itself.
//! 2. What is queued is a set: a name or inode that changes a thousand times before the kernel is told is told once. So the
//!    queue is bounded by what exists, not by how often it changes.
//! 3. A call that returned is sent eventually, unless the mount ends first.

use forebay_daemon::ids::Ino;
use forebay_daemon::vfs::KernelCache;
use fuser::{INodeNo, Notifier};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where notifications go: the kernel, or a test's list.
trait Kernel: Send + 'static {
    fn forget_entry(&self, parent: Ino, name: &[u8]) -> std::io::Result<()>;
    fn forget_inode(&self, ino: Ino) -> std::io::Result<()>;
}

impl Kernel for Notifier {
    fn forget_entry(&self, parent: Ino, name: &[u8]) -> std::io::Result<()> {
        self.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
    }
    fn forget_inode(&self, ino: Ino) -> std::io::Result<()> {
        // Offset 0 and length 0: attributes and all pages.
        self.inval_inode(INodeNo(ino.0), 0, 0)
    }
}

#[derive(Default)]
struct Pending {
    entries: HashSet<(Ino, Vec<u8>)>,
    inodes: HashSet<Ino>,
    closed: bool,
    /// Notices that came, and how many of them the kernel was told.
    came: u64,
    told: u64,
}

#[derive(Default)]
struct Queue {
    pending: Mutex<Pending>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Sets of plain values are whole whatever happened to a thread that held them.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, add: impl FnOnce(&mut Pending)) {
        let mut pending = self.lock();
        add(&mut pending);
        pending.came += 1;
        self.changed.notify_all();
    }

    /// Everything queued; waits for something. `None` once closed.
    fn next(&self) -> Option<Pending> {
        let mut pending = self.lock();
        loop {
            if pending.closed {
                return None;
            }
            if !pending.entries.is_empty() || !pending.inodes.is_empty() {
                let Pending { closed, came, told, .. } = *pending;
                let rest = Pending { closed, came, told, ..Pending::default() };
                return Some(std::mem::replace(&mut *pending, rest));
            }
            pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn was_told(&self, came: u64) {
        self.lock().told = came;
        self.changed.notify_all();
    }

    fn settle(&self, at_most: Duration) {
        let pending = self.lock();
        let came = pending.came;
        let _ = self.changed.wait_timeout_while(pending, at_most, |pending| pending.told < came && !pending.closed);
    }
}

/// The kernel's caches of one mount.
pub struct Invalidator {
    queue: Arc<Queue>,
}

impl KernelCache for Invalidator {
    fn forget_entry(&self, parent: Ino, name: &[u8]) {
        self.queue.add(|pending| {
            pending.entries.insert((parent, name.to_vec()));
        });
    }

    fn forget_inode(&self, ino: Ino) {
        self.queue.add(|pending| {
            pending.inodes.insert(ino);
        });
    }

    fn settle(&self, at_most: Duration) {
        self.queue.settle(at_most);
    }
}

/// The notifying thread; dropping this ends it, with what is still queued (the mount is gone then).
pub(crate) struct NotifyThread {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for NotifyThread {
    fn drop(&mut self) {
        self.queue.add(|pending| pending.closed = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the thread that notifies.
pub(crate) fn start(notifier: Notifier) -> std::io::Result<(Arc<Invalidator>, NotifyThread)> {
    start_with(notifier)
}

fn start_with(kernel: impl Kernel) -> std::io::Result<(Arc<Invalidator>, NotifyThread)> {
    let queue = Arc::new(Queue::default());
    let thread = {
        let queue = Arc::clone(&queue);
        std::thread::Builder::new().name("forebay-notify".into()).spawn(move || run(&queue, &kernel))?
    };
    let invalidator = Arc::new(Invalidator { queue: Arc::clone(&queue) });
    Ok((invalidator, NotifyThread { queue, thread: Some(thread) }))
}

fn run(queue: &Queue, kernel: &impl Kernel) {
    while let Some(batch) = queue.next() {
        // Names first: a lookup that misses then finds the new inode, instead of the old one with fresh attributes.
        for (parent, name) in &batch.entries {
            log(kernel.forget_entry(*parent, name));
        }
        for ino in &batch.inodes {
            log(kernel.forget_inode(*ino));
        }
        queue.was_told(batch.came);
    }
}

fn log(result: std::io::Result<()>) {
    if let Err(error) = result {
        // The kernel knew nothing to forget (fuser passes over ENOENT), or the mount is going away.
        tracing::debug!("the kernel was not told to forget: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    #[derive(Debug, PartialEq, Eq)]
    enum Told {
        Entry(u64, Vec<u8>),
        Inode(u64),
    }

    /// Reports what it is told, and takes each notification only when the test lets it.
    struct SlowKernel {
        told: Sender<Told>,
        go: Mutex<Receiver<()>>,
    }

    impl SlowKernel {
        fn take(&self, told: Told) -> std::io::Result<()> {
            let _ = self.told.send(told);
            let _ = self.go.lock().unwrap().recv();
            Err(std::io::ErrorKind::Other.into())
        }
    }

    impl Kernel for SlowKernel {
        fn forget_entry(&self, parent: Ino, name: &[u8]) -> std::io::Result<()> {
            self.take(Told::Entry(parent.0, name.to_vec()))
        }
        fn forget_inode(&self, ino: Ino) -> std::io::Result<()> {
            self.take(Told::Inode(ino.0))
        }
    }

    #[test]
    fn repeated_changes_are_told_once_and_a_refusal_stops_nothing() {
        let (told_tx, told) = channel();
        let (go, go_rx) = channel();
        let (cache, thread) = start_with(SlowKernel { told: told_tx, go: Mutex::new(go_rx) }).unwrap();

        cache.forget_inode(Ino(1));
        assert_eq!(told.recv().unwrap(), Told::Inode(1));
        // The kernel is busy with the first: these pile up and coalesce.
        for _ in 0..1000 {
            cache.forget_inode(Ino(7));
            cache.forget_entry(Ino(1), b"name");
        }
        drop(go);
        assert_eq!(told.recv().unwrap(), Told::Entry(1, b"name".to_vec()));
        assert_eq!(told.recv().unwrap(), Told::Inode(7));
        drop(thread);
        assert!(told.recv().is_err(), "the thread ended with nothing else to tell");
    }
}
