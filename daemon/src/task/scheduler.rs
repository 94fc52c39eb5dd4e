//! Which tasks run: so many at once, the others in the order they were asked for.
//!
//! Rows are recorded about once a second and with every change of state. What was executing when the daemon ended goes on at the next
//! start; what was to be canceled is canceled then.

use super::job::{Context, Job};
use super::place::ReportStores;
use super::progress::{Stop, Task};
use super::report;
use super::turns::Turns;
use super::{TaskError, TaskKind, TaskRow, TaskState};
use crate::clock::SharedClock;
use crate::meta::{MetaStore, TaskReport};
use futures::FutureExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often the rows of running tasks are recorded.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Ended tasks that are kept.
const KEPT: usize = 1_000;
/// How long units in flight may take when the daemon stops; what is not done by then is done again at the next start.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// Settings of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct TaskConfig {
    /// Tasks that execute at once.
    pub executing: usize,
    /// Units of work that are under way at once, of all tasks.
    pub turns: usize,
}

impl Default for TaskConfig {
    fn default() -> Self {
        // A unit is a request or two: as many as HEADs of an import at once, and some for tasks beside it.
        TaskConfig { executing: 4, turns: 160 }
    }
}

/// What the scheduler works with.
pub struct TaskParts {
    /// Rows.
    pub meta: Arc<MetaStore>,
    /// Time.
    pub clock: SharedClock,
    /// Where jobs run.
    pub runtime: tokio::runtime::Handle,
    /// Where reports grow.
    pub spools: PathBuf,
    /// Where they go.
    pub reports: ReportStores,
    /// The kinds there are.
    pub jobs: Vec<Arc<dyn Job>>,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRequest {
    /// What to do.
    pub kind: TaskKind,
    /// With what: paths below the root, without a slash in front.
    pub paths: Vec<Vec<u8>>,
    /// How.
    pub options: BTreeMap<String, String>,
    /// Where a report of what failed is to go: an absolute directory, or a place in a bucket by its URL.
    pub report: Option<String>,
}

/// A task as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its number.
    pub id: u64,
    /// A guess of how many files it will be about, where there is one.
    pub expected: Option<u64>,
    /// The rest.
    pub row: TaskRow,
}

/// The tasks of a file system. Clones share them.
#[derive(Clone)]
pub struct Tasks(Arc<Shared>);

struct Shared {
    meta: Arc<MetaStore>,
    clock: SharedClock,
    runtime: tokio::runtime::Handle,
    spools: PathBuf,
    reports: ReportStores,
    jobs: HashMap<TaskKind, Arc<dyn Job>>,
    turns: Turns,
    executing: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    tasks: BTreeMap<u64, Arc<Task>>,
    running: BTreeMap<u64, tokio::task::JoinHandle<()>>,
    last_id: u64,
    is_closed: bool,
}

impl Tasks {
    /// Takes up the tasks there are, and goes on with those that had begun.
    pub fn start(parts: TaskParts, config: TaskConfig) -> Result<Self, TaskError> {
        let TaskParts { meta, clock, runtime, spools, reports, jobs } = parts;
        let mut table = Table::default();
        for task in meta.tasks()? {
            match task {
                Ok((id, row)) => {
                    table.last_id = id;
                    table.tasks.insert(id, Arc::new(Task::new(id, row)));
                }
                Err(error) => tracing::error!(%error, "a task is lost"),
            }
        }
        let jobs = jobs.into_iter().map(|job| (job.kind(), job)).collect();
        let turns = Turns::new(config.turns);
        let (executing, table) = (config.executing, Mutex::new(table));
        let shared = Shared { meta, clock, runtime, spools, reports, jobs, turns, executing, table };
        let tasks = Tasks(Arc::new(shared));
        // With reports to be delivered, which may take long: nobody is kept waiting for that.
        let canceling = tasks.clone();
        tasks.0.runtime.spawn_blocking(move || canceling.end_canceled());
        tasks.start_what_may();
        tasks.keep_saving();
        Ok(tasks)
    }

    /// Makes a task of a request; it begins when its turn comes.
    pub fn create(&self, request: TaskRequest) -> Result<Shown, TaskError> {
        let job = self.0.jobs.get(&request.kind).ok_or(TaskError::NotBuilt(request.kind))?;
        job.check(&request)?;
        if let Some(place) = &request.report {
            self.0.reports.check(place)?;
        }
        let TaskRequest { kind, paths, options, report } = request;
        let report = report.map(|directory| TaskReport { directory, spooled_bytes: 0 });
        let row = TaskRow { options, report, ..TaskRow::new(kind, paths, self.0.clock.wall_ns()) };
        let mut table = self.0.table.lock();
        if table.is_closed {
            return Err(TaskError::Stopped);
        }
        let id = table.last_id + 1;
        self.0.meta.save_task(id, &row)?;
        table.last_id = id;
        table.tasks.insert(id, Arc::new(Task::new(id, row.clone())));
        drop(table);
        self.start_what_may();
        Ok(Shown { id, expected: None, row })
    }

    /// Every task, oldest first.
    pub fn list(&self) -> Vec<Shown> {
        let tasks: Vec<_> = self.0.table.lock().tasks.values().cloned().collect();
        tasks.iter().map(|task| shown(task)).collect()
    }

    /// A task as it is now.
    pub fn show(&self, id: u64) -> Result<Shown, TaskError> {
        Ok(shown(&*self.find(id)?))
    }

    /// Waits until a task ends, or for so long; then as [`Tasks::show`].
    pub async fn wait(&self, id: u64, at_most: Duration) -> Result<Shown, TaskError> {
        let task = self.find(id)?;
        let mut state = task.state.subscribe();
        let _ = tokio::time::timeout(at_most, state.wait_for(|state| state.is_final())).await;
        Ok(shown(&task))
    }

    /// Ends a task as soon as what it has in flight is done.
    pub fn cancel(&self, id: u64) -> Result<Shown, TaskError> {
        let task = self.find(id)?;
        let table = self.0.table.lock();
        match task.state() {
            state if state.is_final() => return Err(TaskError::Ended { id, state: state.name() }),
            TaskState::Pending => self.end(&task, TaskState::Canceled),
            _ => {
                task.change(|row| {
                    // It may have ended meanwhile.
                    if !row.state.is_final() {
                        row.state = TaskState::Canceling;
                    }
                });
                task.stop.send_replace(Stop::Cancel);
            }
        }
        drop(table);
        task.save(&self.0.meta);
        Ok(shown(&task))
    }

    /// Stops what runs at the next unit's boundary, and records how far it came. Not from within the runtime.
    pub fn close(&self) {
        let (tasks, running) = {
            let mut table = self.0.table.lock();
            table.is_closed = true;
            (table.tasks.values().cloned().collect::<Vec<_>>(), std::mem::take(&mut table.running))
        };
        for task in &tasks {
            task.stop.send_if_modified(|stop| *stop == Stop::No && std::mem::replace(stop, Stop::Shutdown) == Stop::No);
        }
        self.0.runtime.block_on(async {
            let all = futures::future::join_all(running.into_values());
            let _ = tokio::time::timeout(CLOSE_GRACE, all).await;
        });
        self.save();
    }

    /// Records what changed.
    fn save(&self) {
        let tasks: Vec<_> = self.0.table.lock().tasks.values().cloned().collect();
        tasks.iter().for_each(|task| task.save(&self.0.meta));
    }

    fn keep_saving(&self) {
        let shared = Arc::downgrade(&self.0);
        self.0.runtime.spawn(async move {
            loop {
                tokio::time::sleep(SAVE_EVERY).await;
                let Some(shared) = shared.upgrade() else { return };
                let _ = tokio::task::spawn_blocking(move || Tasks(shared).save()).await;
            }
        });
    }

    fn find(&self, id: u64) -> Result<Arc<Task>, TaskError> {
        self.0.table.lock().tasks.get(&id).cloned().ok_or(TaskError::NoSuchTask(id))
    }

    /// What was to be canceled when the daemon ended has nothing in flight any more.
    fn end_canceled(&self) {
        let canceling: Vec<_> =
            self.0.table.lock().tasks.values().filter(|task| task.state() == TaskState::Canceling).cloned().collect();
        for task in canceling {
            let published = task.open_report(&self.0.spools).and_then(|()| task.publish_report(&self.0.reports));
            if let Err(error) = published {
                tracing::error!(task = task.id, %error, "a completion report could not be written");
                task.change(|row| row.last_error = error.to_string());
            }
            self.end(&task, TaskState::Canceled);
        }
        self.save();
    }

    /// Starts tasks while there is room: what had begun before, then the oldest.
    fn start_what_may(&self) {
        let mut table = self.0.table.lock();
        while !table.is_closed && table.running.len() < self.0.executing {
            let in_state = |wanted: TaskState| {
                let mut tasks = table.tasks.values();
                tasks.find(|task| !table.running.contains_key(&task.id) && task.state() == wanted).cloned()
            };
            let Some(task) = in_state(TaskState::Executing).or_else(|| in_state(TaskState::Pending)) else { return };
            task.change(|row| {
                row.state = TaskState::Executing;
                row.started_ns = row.started_ns.or(Some(self.0.clock.wall_ns()));
            });
            let (tasks, running) = (self.clone(), Arc::clone(&task));
            let handle = self.0.runtime.spawn(async move { tasks.execute(running).await });
            table.running.insert(task.id, handle);
        }
    }

    async fn execute(self, task: Arc<Task>) {
        task.save(&self.0.meta);
        let kind = task.progress.lock().row.kind;
        let outcome = match (task.open_report(&self.0.spools), self.0.jobs.get(&kind)) {
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(TaskError::NotBuilt(kind)),
            (Ok(()), Some(job)) => {
                let context = Context::new(Arc::clone(&task), self.0.turns.clone());
                let run = AssertUnwindSafe(job.run(&context)).catch_unwind().await;
                run.unwrap_or(Err(TaskError::Panicked))
            }
        };
        let (tasks, ended) = (self.clone(), Arc::clone(&task));
        let _ = tokio::task::spawn_blocking(move || tasks.settle(&ended, outcome)).await;
        self.0.table.lock().running.remove(&task.id);
        self.start_what_may();
    }

    /// What becomes of a task whose job returned.
    fn settle(&self, task: &Task, outcome: Result<(), TaskError>) {
        let stop = *task.stop.borrow();
        if matches!(outcome, Err(TaskError::Stopped)) && stop == Stop::Shutdown {
            return task.save(&self.0.meta);
        }
        let state = match &outcome {
            Ok(()) if task.progress.lock().row.counters.failed == 0 => TaskState::Succeeded,
            Err(TaskError::Stopped) if stop == Stop::Cancel => TaskState::Canceled,
            _ => TaskState::Failed,
        };
        if outcome.is_ok() {
            task.total_is_final();
        }
        let published = task.publish_report(&self.0.reports);
        let failure = outcome.err().filter(|_| state == TaskState::Failed).or(published.err());
        if let Some(error) = failure {
            tracing::warn!(task = task.id, %error, "a task failed");
            task.change(|row| row.last_error = error.to_string());
            self.end(task, if state == TaskState::Canceled { state } else { TaskState::Failed });
        } else {
            self.end(task, state);
        }
        self.forget_old();
    }

    fn end(&self, task: &Task, state: TaskState) {
        let now = self.0.clock.wall_ns();
        task.set(|row| (row.state, row.ended_ns, row.cursor) = (state, Some(now), Vec::new()));
        // Recorded before anybody is told: what was said to have ended does not run again.
        task.save(&self.0.meta);
        task.tell();
    }

    /// Forgets the oldest of the tasks that ended, beyond those that are kept.
    fn forget_old(&self) {
        let mut table = self.0.table.lock();
        let ended: Vec<u64> = table.tasks.values().filter(|task| task.state().is_final()).map(|task| task.id).collect();
        let old = &ended[..ended.len().saturating_sub(KEPT)];
        if old.is_empty() {
            return;
        }
        match self.0.meta.remove_tasks(old) {
            Ok(()) => old.iter().for_each(|id| {
                drop(table.tasks.remove(id));
                // There is one only where a report could not be delivered.
                let _ = std::fs::remove_file(report::spool_of(&self.0.spools, *id));
            }),
            Err(error) => tracing::error!(%error, "old tasks could not be forgotten"),
        }
    }
}

fn shown(task: &Task) -> Shown {
    let progress = task.progress.lock();
    Shown { id: task.id, expected: progress.expected, row: progress.row.clone() }
}
