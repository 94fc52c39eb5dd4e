//! Automatic import: changes of the bucket come in by themselves, by listing it now and then, and by a queue of its events where there is one.
//!
//! | module | owns |
//! | --- | --- |
//! | `interval` | when a bucket is listed again: pure |
//! | `pass` | one walk over what is watched |
//! | `watcher` | the passes of one directory, one after the other |
//! | `pump` | one queue: messages settled and deleted |
//! | `status` | how far behind all of it is |
//!
//! Invariants:
//! 1. What a pass or an event says is never believed against what the store says when it is asked: a pass is one listing, an event one question.
//!    So lost, repeated, late and reordered events cost time only, and a pass that was cut short costs nothing.
//! 2. What was made or changed here is not touched: where the bucket changed it too, both stay, and that is told.
//! 3. A message is deleted after what it led to is durable.
//! 4. Requests yield to demand ([`crate::repository::Urgency::Ahead`]), and a pass takes at most a small share of the time.

mod interval;
mod pass;
mod pump;
mod status;
mod watcher;

pub use status::{AutoImportStatus, PassStatus, QueueStatus};

use crate::config::{AutoImport, Polling};
use crate::ids::Ino;
use crate::meta::Accept;
use crate::repository::queue::EventQueue;
use crate::vfs::Vfs;
use parking_lot::Mutex;
use pump::Pump;
use std::collections::BTreeMap;
use std::sync::Arc;
use watcher::Watcher;

/// A directory whose objects are watched.
#[derive(Clone)]
pub struct Watched {
    /// The directory.
    pub root: Ino,
    /// What stands before the bucket's own keys in keys here; empty for the bucket that the mount is of.
    pub tag: String,
    /// The bucket as its events name it; empty where they need not say.
    pub bucket: String,
    /// What the keys of its objects start with, the tag included.
    pub prefix: String,
    /// Which changes come in.
    pub policy: AutoImport,
    /// Where the store tells of them.
    pub queue: Option<Arc<dyn EventQueue>>,
}

impl Watched {
    fn accept(&self) -> Accept {
        let AutoImport { new, changed, deleted } = self.policy;
        Accept { new, changed, deleted }
    }

    /// Whether another entry asks for the same.
    fn is_same(&self, other: &Watched) -> bool {
        let queue = |watched: &Watched| watched.queue.as_ref().map(|queue| queue.url().to_owned());
        let named = |watched: &Watched| (watched.root, watched.tag.clone(), watched.bucket.clone(), watched.prefix.clone());
        named(self) == named(other) && self.policy == other.policy && queue(self) == queue(other)
    }
}

#[derive(Default)]
struct Running {
    watchers: BTreeMap<Ino, Arc<Watcher>>,
    /// By URL: directories may share one.
    pumps: BTreeMap<String, Arc<Pump>>,
}

/// Everything that is watched. Clones share it.
#[derive(Clone)]
pub struct Watch {
    vfs: Vfs,
    runtime: tokio::runtime::Handle,
    polling: Polling,
    running: Arc<Mutex<Running>>,
}

impl Watch {
    /// Nothing yet.
    pub fn new(vfs: Vfs, runtime: tokio::runtime::Handle, polling: Polling) -> Self {
        Watch { vfs, runtime, polling, running: Arc::default() }
    }

    /// Sets what is watched from now on: what is new starts, what is no longer there ends, what is as it was goes on.
    pub fn set(&self, entries: Vec<Watched>) {
        let mut running = self.running.lock();
        let entries: Vec<Watched> = entries.into_iter().filter(|entry| entry.policy.is_on()).collect();
        let Running { watchers, pumps } = &mut *running;
        watchers.retain(|root, watcher| {
            let stays = entries.iter().any(|entry| entry.root == *root && entry.is_same(watcher.watched()));
            if !stays {
                watcher.stop();
            }
            stays
        });
        for entry in entries {
            let root = entry.root;
            watchers.entry(root).or_insert_with(|| Watcher::start(self.vfs.clone(), entry, self.polling, &self.runtime));
        }
        let mut of_queue: BTreeMap<String, Vec<Arc<Watcher>>> = BTreeMap::new();
        for watcher in watchers.values() {
            if let Some(queue) = &watcher.watched().queue {
                of_queue.entry(queue.url().to_owned()).or_default().push(Arc::clone(watcher));
            }
        }
        pumps.retain(|url, pump| {
            let stays = of_queue.contains_key(url);
            if !stays {
                pump.stop();
            }
            stays
        });
        for (url, listeners) in of_queue {
            match pumps.get(&url) {
                Some(pump) => pump.set_listeners(listeners),
                None => {
                    if let Some(pump) = Pump::start(self.vfs.clone(), listeners, &self.runtime) {
                        pumps.insert(url, pump);
                    }
                }
            }
        }
    }

    /// How each watched directory is doing, by inode.
    pub fn status(&self) -> Vec<AutoImportStatus> {
        let running = self.running.lock();
        let status = |watcher: &Arc<Watcher>| {
            let url = watcher.watched().queue.as_ref().map(|queue| queue.url().to_owned());
            let queue = url.and_then(|url| running.pumps.get(&url)).map(|pump| pump.status());
            AutoImportStatus { queue, ..watcher.status() }
        };
        running.watchers.values().map(status).collect()
    }

    /// Has every directory listed now instead of later.
    pub fn list_now(&self) {
        self.running.lock().watchers.values().for_each(|watcher| watcher.list_soon());
    }

    /// Ends all of it.
    pub fn stop(&self) {
        self.set(Vec::new());
    }
}
