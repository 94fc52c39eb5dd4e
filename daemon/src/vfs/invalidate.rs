//! Telling the kernel what to forget, from a thread of its own: a notification from inside a handler can deadlock on locks
//! that the kernel holds for the very request being handled.

use super::types::KernelCache;
use crate::ids::Ino;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// A kernel that does not answer is not waited for longer.
const SETTLE_FOR: Duration = Duration::from_secs(2);

enum Notice {
    Entry(Ino, Vec<u8>),
    Inode(Ino),
    Settle(Sender<()>),
    Stop,
}

/// The queue of notifications and its thread.
pub(super) struct Invalidator {
    queue: Sender<Notice>,
    kernel: Arc<OnceLock<Arc<dyn KernelCache>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Invalidator {
    pub(super) fn start() -> Self {
        let (queue, notices) = unbounded();
        let kernel = Arc::new(OnceLock::new());
        let shared = Arc::clone(&kernel);
        let worker = std::thread::Builder::new().name("fby-inval".into()).spawn(move || deliver(&notices, &shared));
        let worker = worker.expect("the process can start a thread while starting up");
        Invalidator { queue, kernel, worker: Mutex::new(Some(worker)) }
    }

    pub(super) fn set_kernel(&self, kernel: Arc<dyn KernelCache>) {
        let _ = self.kernel.set(kernel);
    }

    /// The kernel forgets a name, positive or negative.
    pub(super) fn entry(&self, parent: Ino, name: &[u8]) {
        self.send(Notice::Entry(parent, name.to_vec()));
    }

    /// The kernel forgets an inode's attributes and pages (of a directory: its cached entries).
    pub(super) fn inode(&self, ino: Ino) {
        self.send(Notice::Inode(ino));
    }

    /// Waits until the kernel has been told all of it, so that whoever looks from here on sees what is. Not for a thread that answers the kernel.
    pub(super) fn settle(&self) {
        let (told, all) = bounded(1);
        self.send(Notice::Settle(told));
        let _ = all.recv_timeout(SETTLE_FOR);
    }

    fn send(&self, notice: Notice) {
        // Before a kernel is attached nothing can be cached there.
        if self.kernel.get().is_some() {
            let _ = self.queue.send(notice);
        }
    }

    pub(super) fn close(&self) {
        let _ = self.queue.send(Notice::Stop);
        if let Some(worker) = self.worker.lock().take() {
            let _ = worker.join();
        }
    }
}

fn deliver(notices: &Receiver<Notice>, kernel: &OnceLock<Arc<dyn KernelCache>>) {
    for notice in notices {
        match (notice, kernel.get()) {
            // Also where nothing was ever mounted.
            (Notice::Stop, _) => return,
            (Notice::Entry(parent, name), Some(kernel)) => kernel.forget_entry(parent, &name),
            (Notice::Inode(ino), Some(kernel)) => kernel.forget_inode(ino),
            (Notice::Settle(told), kernel) => {
                kernel.into_iter().for_each(|kernel| kernel.settle(SETTLE_FOR));
                let _ = told.send(());
            }
            (Notice::Entry(..) | Notice::Inode(_), None) => {}
        }
    }
}
