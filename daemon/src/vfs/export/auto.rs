//! Exporting changes by themselves: the change log, a little after each change.
//!
//! The queue in memory is a guess of what the log says, bounded; when it was too small the log is read again. So nothing here has to survive
//! a crash.

use super::{ExportEvents, ExportFailure, ExportResult, ExportTree, Exported, Inner, RemovalOutcome};
use crate::config::AutoExport;
use crate::ids::Ino;
use crate::meta::{Doomed, FileKind};
use crate::repository::Urgency;
use crate::vfs::{Vfs, metadata_error};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A change waits so long for more of the same file: ten writes, one upload.
const SETTLE: Duration = Duration::from_millis(500);
/// A directory waits longer: what is made in it changes it.
const SETTLE_DIRECTORY: Duration = Duration::from_millis(1500);
/// A file that is open for writing waits to be closed, but no longer than this: a log that is never closed goes out as it stands, now and then.
const OPEN_FOR: Duration = Duration::from_secs(60);
/// How often deletions are looked for where nothing changes.
const IDLE: Duration = Duration::from_secs(5);
/// The first wait after a failure, doubled each time up to the last.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Changes kept in memory.
const QUEUE: usize = 100_000;
/// Exports under way at once.
const AT_ONCE: usize = 64;
/// Rows of the log read at a time.
const PAGE: usize = 1000;

/// How automatic export is doing.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct AutoExportStatus {
    /// Changes that wait for their turn, as far as is known.
    pub waiting: u64,
    /// Changes that failed and are tried again later.
    pub failing: u64,
    /// Why the last of them failed.
    pub last_failure: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    due: Instant,
    failures: u32,
    /// When the first of its changes came.
    since: Instant,
}

#[derive(Default)]
struct Queue {
    waiting: HashMap<Ino, Waiting>,
    /// The same by time.
    by_due: BTreeSet<(Instant, Ino)>,
    /// Being exported right now.
    under_way: HashSet<Ino>,
    /// Changed again meanwhile.
    again: HashSet<Ino>,
    /// More changed than fits.
    is_incomplete: bool,
    /// How far the log was read.
    read_to: Option<Ino>,
    failing: HashMap<Ino, String>,
}

/// What went wrong in a tree.
#[derive(Default)]
struct Seen {
    failure: Mutex<Option<ExportFailure>>,
}

#[async_trait]
impl ExportEvents for Seen {
    type Turn = ();

    async fn turn(&self) -> Option<()> {
        Some(())
    }

    fn ended(&self, _: &Path, result: &ExportResult) {
        if let Err(failure) = result {
            self.failure.lock().get_or_insert(failure.clone());
        }
    }

    fn is_canceled(&self) -> bool {
        false
    }
}

/// The automatic export of a file system.
#[derive(Default)]
pub(in crate::vfs) struct Auto {
    /// Whether anything is to be exported at all.
    is_on: AtomicBool,
    queue: Mutex<Queue>,
    wake: Notify,
    closing: AtomicBool,
}

impl Queue {
    /// Has an inode wait; one that waits already only if it is to wait `anew`.
    fn wait(&mut self, ino: Ino, waiting: Waiting, anew: bool) {
        if let Some(before) = self.waiting.get(&ino).copied() {
            if !anew {
                return;
            }
            self.by_due.remove(&(before.due, ino));
        }
        self.by_due.insert((waiting.due, ino));
        self.waiting.insert(ino, waiting);
    }
}

impl Auto {
    /// What is exported by itself has changed: the log is read from its start.
    pub(in crate::vfs) fn read_again(&self) {
        let mut queue = self.queue.lock();
        (queue.is_incomplete, queue.read_to) = (true, None);
        drop(queue);
        self.wake.notify_one();
    }

    /// Inodes changed. Called after each commit: short.
    pub(in crate::vfs) fn note(&self, changed: &[Ino]) {
        if !self.is_on.load(Ordering::Acquire) {
            return;
        }
        let mut queue = self.queue.lock();
        let due = Instant::now() + SETTLE;
        for ino in changed {
            if queue.under_way.contains(ino) {
                queue.again.insert(*ino);
            } else if queue.waiting.len() < QUEUE || queue.waiting.contains_key(ino) {
                // The first of many changes says when: a file that never rests is exported all the same.
                let failures = queue.waiting.get(ino).map_or(0, |waiting| waiting.failures);
                if failures == 0 {
                    queue.wait(*ino, Waiting { due, failures, since: due }, false);
                }
            } else {
                queue.is_incomplete = true;
            }
        }
        drop(queue);
        self.wake.notify_one();
    }

    fn status(&self) -> AutoExportStatus {
        let queue = self.queue.lock();
        AutoExportStatus {
            waiting: (queue.waiting.len() + queue.under_way.len()) as u64,
            failing: queue.failing.len() as u64,
            last_failure: queue.failing.values().next().cloned(),
        }
    }

    /// What is due, at most so many; and when to look again. What `is_open` for writing waits for its end, within bounds.
    fn take_due(&self, limit: usize, is_open: &dyn Fn(Ino) -> bool) -> (Vec<(Ino, u32)>, Duration) {
        let mut queue = self.queue.lock();
        let now = Instant::now();
        let mut due = Vec::new();
        while due.len() < limit && queue.by_due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, ino)) = queue.by_due.pop_first() else { break };
            let waiting = queue.waiting.remove(&ino);
            if let Some(waiting) =
                waiting.filter(|waiting| now.saturating_duration_since(waiting.since) < OPEN_FOR && is_open(ino))
            {
                queue.wait(ino, Waiting { due: now + SETTLE, ..waiting }, true);
                continue;
            }
            let failures = waiting.map_or(0, |waiting| waiting.failures);
            queue.under_way.insert(ino);
            due.push((ino, failures));
        }
        let next = queue.by_due.first().map_or(IDLE, |(due, _)| due.saturating_duration_since(now));
        (due, next.min(IDLE))
    }

    fn ended(&self, ino: Ino, failures: u32, outcome: &Result<Exported, ExportFailure>, is_directory: bool) {
        let mut queue = self.queue.lock();
        queue.under_way.remove(&ino);
        let again = queue.again.remove(&ino);
        let wait = match outcome {
            Ok(_) => {
                queue.failing.remove(&ino);
                again.then_some((SETTLE, 0))
            }
            Err(failure) => {
                queue.failing.insert(ino, failure.to_string());
                let wait = (RETRY[0] * 2_u32.saturating_pow(failures.min(10))).min(RETRY[1]);
                Some((if failure.may_pass { wait } else { RETRY[1] }, failures + 1))
            }
        };
        if let Some((wait, failures)) = wait {
            let wait = if is_directory { wait.max(SETTLE_DIRECTORY) } else { wait };
            let now = Instant::now();
            queue.wait(ino, Waiting { due: now + wait, failures, since: now }, true);
        }
    }
}

impl Vfs {
    /// Starts automatic export.
    pub fn start_auto_export(&self) {
        self.0.auto.read_again();
        let inner = Arc::clone(&self.0);
        self.0.runtime.spawn(async move { inner.auto_export().await });
        let inner = Arc::clone(&self.0);
        self.0.runtime.spawn(async move { inner.auto_remove().await });
    }

    /// How automatic export is doing.
    pub fn auto_export_status(&self) -> AutoExportStatus {
        self.0.auto.status()
    }

    /// Ends automatic export; exports under way end, too.
    pub fn stop_auto_export(&self) {
        self.0.auto.closing.store(true, Ordering::Release);
        self.0.auto.wake.notify_one();
    }
}

impl Inner {
    async fn auto_export(self: Arc<Self>) {
        let mut under_way = FuturesUnordered::new();
        while !self.auto.closing.load(Ordering::Acquire) {
            // First this, then the log: what comes between the two is noted.
            let is_on = self.associations.exports_anything();
            self.auto.is_on.store(is_on, Ordering::Release);
            if let Err(error) = if is_on { self.fill_queue() } else { Ok(()) } {
                tracing::error!(%error, "the change log could not be read");
            }
            let (due, next) = self.auto.take_due(AT_ONCE - under_way.len(), &|ino| self.cache.has_writers(ino));
            for (ino, failures) in due {
                under_way.push(self.auto_export_one(ino, failures));
            }
            tokio::select! {
                _ = under_way.next(), if !under_way.is_empty() => {}
                () = self.auto.wake.notified() => {
                    // Others may follow at once.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                () = tokio::time::sleep(next.max(Duration::from_millis(5))) => {}
            }
        }
    }

    /// Reads the log where the queue does not have all of it.
    fn fill_queue(&self) -> crate::error::Result<()> {
        {
            let mut queue = self.auto.queue.lock();
            if !queue.is_incomplete || queue.waiting.len() > QUEUE / 2 {
                return Ok(());
            }
            queue.is_incomplete = false;
        }
        let mut after = self.auto.queue.lock().read_to.take();
        let began_within = after.is_some();
        loop {
            let page = self.meta.changes(after, PAGE).map_err(metadata_error)?;
            let Some((last, _)) = page.last() else {
                // What came before where this began is next.
                self.auto.queue.lock().is_incomplete |= began_within;
                return Ok(());
            };
            after = Some(*last);
            self.auto.note(&page.iter().map(|(ino, _)| *ino).collect::<Vec<_>>());
            let mut queue = self.auto.queue.lock();
            if queue.is_incomplete {
                queue.read_to = after;
                return Ok(());
            }
        }
    }

    async fn auto_export_one(self: &Arc<Self>, ino: Ino, failures: u32) {
        let row = self.meta.inode(ino).ok().flatten();
        let is_directory = row.as_ref().is_some_and(|row| row.kind == FileKind::Directory);
        let is_new = row.as_ref().is_some_and(|row| row.own_origin().is_none() && row.local);
        let parent = row.as_ref().and_then(|row| row.link.as_ref()).and_then(|link| self.directory(link.parent).ok());
        let how = parent.map(|parent| self.auto_export_to(&parent.target)).unwrap_or_default();
        if !(if is_new { how.new } else { how.changed }) {
            return self.auto.ended(ino, failures, &Ok(Exported::Skipped), false);
        }
        let outcome = match is_directory {
            true => self.auto_export_directory(ino, how).await,
            false => self.export(ino, how.on_conflict, Urgency::Ahead).await,
        };
        if let Err(failure) = &outcome
            && !failure.may_pass
        {
            tracing::warn!(%ino, %failure, "a change was not exported");
        }
        self.auto.ended(ino, failures, &outcome, is_directory);
    }

    /// A directory that was moved is a tree to be moved; any other is its marker.
    async fn auto_export_directory(self: &Arc<Self>, ino: Ino, how: AutoExport) -> ExportResult {
        let directory = self.directory(ino)?;
        if !directory.in_store || directory.prefix == directory.target {
            return self.export(ino, how.on_conflict, Urgency::Ahead).await;
        }
        let seen = Seen::default();
        let how = ExportTree { root: ino, on_conflict: how.on_conflict, prune: how.deleted };
        Vfs(Arc::clone(self)).export_tree(how, PathBuf::new(), &seen).await?;
        seen.failure.into_inner().map_or(Ok(Exported::Sent(0)), Err)
    }

    /// Deletes what lost its name, in passes of its own; ever less often while the store refuses.
    async fn auto_remove(self: Arc<Self>) {
        let mut pause = SETTLE;
        while !self.auto.closing.load(Ordering::Acquire) {
            let failures = self.auto_removals().await;
            pause = if failures == 0 { SETTLE } else { (pause * 2).min(RETRY[1]) };
            tokio::time::sleep(pause).await;
        }
    }

    /// One pass; how many failed.
    async fn auto_removals(self: &Arc<Self>) -> usize {
        if !self.associations.exports_anything() {
            return 0;
        }
        self.settle_strays().await;
        let failures = AtomicUsize::new(0);
        let mut after = None::<String>;
        loop {
            let page = match self.meta.doomed(after.as_deref(), PAGE) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the log of deletions could not be read");
                    return 1;
                }
            };
            let Some(last) = page.last() else { return failures.into_inner() };
            after = Some(last.key.clone());
            let failures = &failures;
            let remove = |doomed: Doomed| async move {
                let how = self.auto_export_to(&doomed.key);
                if !how.deleted {
                    return;
                }
                match self.remove_object(&doomed, how.on_conflict, Urgency::Ahead).await {
                    Ok(RemovalOutcome::Removed | RemovalOutcome::Kept | RemovalOutcome::Later) => {}
                    Err(failure) => {
                        failures.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(key = doomed.key, %failure, "a deletion was not exported");
                    }
                }
            };
            futures::stream::iter(page).for_each_concurrent(AT_ONCE, remove).await;
            if self.auto.closing.load(Ordering::Acquire) {
                return 0;
            }
        }
    }
}
