//! The passes of one watched directory, one after the other, and what is known of it.

use super::Watched;
use super::interval::{self, Ended};
use super::pass::{self, CONFLICTS_MAX, Found};
use super::status::{AutoImportStatus, PassStatus};
use crate::config::Polling;
use crate::meta::ConflictKind;
use crate::task::TaskError;
use crate::vfs::{Disagreement, TakenOver, Vfs};
use parking_lot::Mutex;
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How long a pass that somebody asked for waits at most for others who ask.
const GATHER: Duration = Duration::from_secs(1);
/// Conflicts of one pass that are logged one by one.
const LOGGED: usize = 20;

#[derive(Default)]
struct State {
    last_pass: Option<PassStatus>,
    under_way: bool,
    passes: u64,
    failed_passes: u64,
    interval: Duration,
    new: u64,
    changed: u64,
    deleted: u64,
    /// By key.
    conflicts: BTreeMap<String, Disagreement>,
    last_error: Option<String>,
}

/// A watched directory.
pub(super) struct Watcher {
    vfs: Vfs,
    watched: Watched,
    polling: Polling,
    state: Mutex<State>,
    /// Whether a queue tells of changes now.
    is_told: AtomicBool,
    soon: Notify,
    stopped: watch::Sender<bool>,
}

impl Watcher {
    /// Starts watching.
    pub(super) fn start(vfs: Vfs, watched: Watched, polling: Polling, runtime: &tokio::runtime::Handle) -> Arc<Self> {
        let state = Mutex::new(State { interval: polling.shortest, ..State::default() });
        let watcher = Arc::new(Watcher {
            vfs,
            watched,
            polling,
            state,
            is_told: AtomicBool::new(false),
            soon: Notify::new(),
            stopped: watch::Sender::new(false),
        });
        let this = Arc::clone(&watcher);
        runtime.spawn(async move { this.run().await });
        watcher
    }

    pub(super) fn vfs(&self) -> &Vfs {
        &self.vfs
    }

    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Has the next pass come soon: something may have been missed.
    pub(super) fn list_soon(&self) {
        self.soon.notify_one();
    }

    /// A queue began to tell of changes, or failed to: then listing has to do.
    pub(super) fn is_told(&self, is_told: bool) {
        if self.is_told.swap(is_told, Ordering::AcqRel) != is_told {
            let shortest = self.polling.shortest;
            self.state.lock().interval = shortest;
            self.list_soon();
        }
    }

    async fn run(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        loop {
            tokio::select! {
                biased;
                () = until_stopped(&mut stopped) => return,
                () = self.one_pass() => {}
            }
            let wait = self.state.lock().interval;
            tokio::select! {
                biased;
                () = until_stopped(&mut stopped) => return,
                () = self.soon.notified() => {
                    // Several may ask at once, and one after the other: that makes one pass, not many.
                    tokio::time::sleep((self.polling.shortest.min(wait) / 10).min(GATHER)).await;
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn one_pass(self: &Arc<Self>) {
        let began = Instant::now();
        self.state.lock().under_way = true;
        let outcome = pass::run(self).await;
        let took = began.elapsed();
        let found = outcome.as_ref().ok().map(|found| found.new + found.changed + found.deleted > 0);
        let ended = Ended { took, found, is_told: self.is_told.load(Ordering::Acquire) };
        let random = rand::rng().random::<f64>();
        {
            let mut state = self.state.lock();
            state.under_way = false;
            state.interval = interval::next(&self.polling, state.interval.min(self.polling.longest), ended, random);
        }
        match outcome {
            Ok(found) => self.went_through(found, took),
            Err(TaskError::Stopped) => {}
            Err(error) => self.failed(&error),
        }
    }

    fn went_through(&self, found: Found, took: Duration) {
        let mut state = self.state.lock();
        if state.last_error.take().is_some() {
            tracing::info!(prefix = self.watched.prefix, "automatic import: the bucket is listed again");
        }
        state.passes += 1;
        state.last_pass = Some(PassStatus {
            ended: self.vfs.now_ns() / 1_000_000_000,
            ago_seconds: 0,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            objects: found.objects,
            new: found.new,
            changed: found.changed,
            deleted: found.deleted,
        });
        let before = std::mem::take(&mut state.conflicts);
        state.conflicts = found.conflicts.into_iter().map(|conflict| (conflict.key.clone(), conflict)).collect();
        let new: Vec<_> = state.conflicts.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(_, new)| new).collect();
        new.iter().take(LOGGED).for_each(|conflict| log(conflict));
        if new.len() > LOGGED {
            tracing::warn!("automatic import: {} more objects were changed in the bucket and here", new.len() - LOGGED);
        }
    }

    fn failed(&self, error: &TaskError) {
        let mut state = self.state.lock();
        state.failed_passes += 1;
        // Once for as long as it lasts.
        if state.last_error.replace(error.to_string()).is_none() {
            tracing::warn!(prefix = self.watched.prefix, %error, "automatic import: the bucket could not be listed; it is tried again");
        }
    }

    /// Counts what a pass or an event changed here.
    pub(super) fn count(&self, taken: &TakenOver) {
        let mut state = self.state.lock();
        state.new += taken.new;
        state.changed += taken.changed;
        state.deleted += taken.deleted;
    }

    /// What an event's name came to.
    pub(super) fn settled(&self, key: &str, taken: &TakenOver) {
        self.count(taken);
        // Below a directory that is gone from the bucket there may be several.
        let below = self.vfs.changed_below(&taken.bereft, CONFLICTS_MAX).unwrap_or_default();
        let mut state = self.state.lock();
        let before = state.conflicts.remove(key);
        for conflict in taken.conflicts.iter().chain(&below) {
            let is_known = before.as_ref() == Some(conflict);
            if state.conflicts.len() < CONFLICTS_MAX
                && state.conflicts.insert(conflict.key.clone(), conflict.clone()).is_none()
                && !is_known
            {
                log(conflict);
            }
        }
    }

    /// How it is doing; the queue is for others to say.
    pub(super) fn status(&self) -> AutoImportStatus {
        let state = self.state.lock();
        let now_s = self.vfs.now_ns() / 1_000_000_000;
        let policy = &self.watched.policy;
        let events = [(policy.new, "new"), (policy.changed, "changed"), (policy.deleted, "deleted")];
        // What was exported since, or removed, is none any more.
        let mut conflicts = state.conflicts.values().filter(|conflict| self.vfs.has_changes(conflict.ino)).peekable();
        AutoImportStatus {
            root: self.watched.root.0,
            prefix: self.watched.prefix.clone(),
            events: events.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| (*name).to_owned()).collect(),
            last_pass: state.last_pass.clone().map(|pass| {
                let ago_seconds = u64::try_from(now_s - pass.ended).unwrap_or(0);
                PassStatus { ago_seconds, ..pass }
            }),
            under_way: state.under_way,
            passes: state.passes,
            failed_passes: state.failed_passes,
            interval_ms: u64::try_from(state.interval.as_millis()).unwrap_or(u64::MAX),
            new: state.new,
            changed: state.changed,
            deleted: state.deleted,
            conflict: conflicts.peek().map(|conflict| conflict.key.clone()),
            conflicts: conflicts.count() as u64,
            last_error: state.last_error.clone(),
            queue: None,
        }
    }
}

/// Returns when this is to end.
pub(super) async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    // An error says that who could stop it is gone.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn log(conflict: &Disagreement) {
    let what = match conflict.kind {
        ConflictKind::Changed => "was changed",
        ConflictKind::Deleted => "was deleted",
    };
    tracing::warn!(
        key = conflict.key,
        "automatic import: the object {what} in the bucket and its file was changed here; both stay, and an export of the file fails with S3Conflict unless --on-conflict says otherwise"
    );
}
