//! One walk over what is watched: the import's walk, with what is taken over said by a policy.

use super::watcher::Watcher;
use crate::meta::Accept;
use crate::task::import::{Below, Pace, Spans};
use crate::task::{Step, TaskError};
use crate::vfs::{Disagreement, ImportDir, ImportPart, NamedPlace, TakenOver, Unread};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Spans listed at once: nobody waits for a pass.
const LISTINGS: usize = 4;
/// A span is cut once it proved longer than so many pages: a cut costs about as many small requests.
const PAGES_BEFORE_CUT: u64 = 32;
/// Conflicts remembered, and prefixes looked below for more.
pub(super) const CONFLICTS_MAX: usize = 10_000;

/// What a pass came to.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) objects: u64,
    pub(super) new: u64,
    pub(super) changed: u64,
    pub(super) deleted: u64,
    pub(super) conflicts: Vec<Disagreement>,
}

struct Passing {
    watcher: Arc<Watcher>,
    accept: Accept,
    started_ns: i64,
    objects: AtomicU64,
    taken: Mutex<TakenOver>,
}

/// The walk's driver.
#[derive(Clone)]
struct Polled(Arc<Passing>);

impl Passing {
    fn take(&self, taken: TakenOver) {
        let mut all = self.taken.lock();
        all.new += taken.new;
        all.changed += taken.changed;
        all.deleted += taken.deleted;
        let room = CONFLICTS_MAX.saturating_sub(all.conflicts.len());
        all.conflicts.extend(taken.conflicts.into_iter().take(room));
        let room = CONFLICTS_MAX.saturating_sub(all.bereft.len());
        all.bereft.extend(taken.bereft.into_iter().take(room));
    }
}

#[async_trait]
impl Pace for Polled {
    type Turn = ();

    fn listings(&self) -> usize {
        LISTINGS
    }

    async fn turn(&self) -> Result<(), TaskError> {
        if self.is_stopped() { Err(TaskError::Stopped) } else { Ok(()) }
    }

    fn is_stopped(&self) -> bool {
        self.0.watcher.is_stopped()
    }

    fn started_ns(&self) -> i64 {
        self.0.started_ns
    }

    fn record(&self, step: Step) {
        self.0.objects.fetch_add(step.found, Ordering::Relaxed);
    }

    async fn merge(&self, parts: Vec<ImportPart>) -> Result<Vec<Unread>, TaskError> {
        let taken = self.0.watcher.vfs().watch_merge(parts, self.0.accept).await?;
        self.0.take(taken);
        Ok(Vec::new())
    }

    async fn settle(&self, dir: &ImportDir, name: &str) -> Result<Vec<Unread>, TaskError> {
        let vfs = self.0.watcher.vfs();
        if !vfs.is_unseen(dir)? {
            let taken = vfs.settle(&NamedPlace::in_dir(dir, name), self.0.accept).await?;
            self.0.take(taken);
        }
        Ok(Vec::new())
    }

    fn passes_over(&self) -> bool {
        true
    }

    fn completes(&self, dir: &ImportDir) -> bool {
        self.0.accept.is_all() && self.0.watcher.vfs().was_looked_into(dir)
    }
}

/// Walks over everything that is watched and that somebody has looked at.
pub(super) async fn run(watcher: &Arc<Watcher>) -> Result<Found, TaskError> {
    let vfs = watcher.vfs();
    let Some(root) = vfs.watched_dir(watcher.watched().root)? else { return Ok(Found::default()) };
    if vfs.is_unseen(&root)? {
        return Ok(Found::default());
    }
    let passing = Arc::new(Passing {
        watcher: Arc::clone(watcher),
        accept: watcher.watched().accept(),
        started_ns: vfs.now_ns(),
        objects: AtomicU64::new(0),
        taken: Mutex::default(),
    });
    let walk = Below::new(vfs.clone(), Polled(Arc::clone(&passing)), root, Spans::cut_after(PAGES_BEFORE_CUT));
    let outcome = Arc::new(walk).run().await;
    let taken = std::mem::take(&mut *passing.taken.lock());
    // Also of a pass that failed: what it brought is here.
    watcher.count(&taken);
    outcome?;
    let TakenOver { new, changed, deleted, mut conflicts, bereft } = taken;
    conflicts.extend(vfs.changed_below(&bereft, CONFLICTS_MAX)?);
    Ok(Found { objects: passing.objects.load(Ordering::Relaxed), new, changed, deleted, conflicts })
}
