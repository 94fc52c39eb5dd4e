//! The scheduler with made-up jobs: order, fairness, cancel, shutdown, resuming, what is kept.

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::config::RepositorySettings;
use crate::meta::engine::Engine;
use crate::meta::engine::memory::MemoryEngine;
use crate::meta::{DefaultAttrs, MetaStore};
use crate::repository::faulty::{Fault, FaultyStore, Op};
use crate::repository::memory::MemoryStore;
use crate::repository::retry::RetryConfig;
use crate::repository::{GetRequest, ObjectStore, Repository, RepositoryConfig};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A job of so many units (option `units`), each of which waits for leave if the gate is shut. Its cursor is the number of units done.
struct Units {
    kind: TaskKind,
    gate: Option<Arc<Semaphore>>,
    log: Arc<Mutex<Vec<(u64, u64)>>>,
}

#[async_trait]
impl Job for Units {
    fn kind(&self) -> TaskKind {
        self.kind
    }

    fn check(&self, request: &TaskRequest) -> Result<(), TaskError> {
        if request.paths.is_empty() { Err(TaskError::Invalid("no path".into())) } else { Ok(()) }
    }

    async fn run(&self, context: &Context) -> Result<(), TaskError> {
        let units: u64 = context.option("units").unwrap_or_default().parse().unwrap();
        let fails: u64 = context.option("fails").unwrap_or_default().parse().unwrap_or(u64::MAX);
        assert!(context.option("panics").is_none(), "as asked");
        let done = context.cursor().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        for unit in done..units {
            let _turn = context.turn().await?;
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            self.log.lock().push((context.id(), unit));
            let failures = (unit == fails).then(|| Failure { path: b"a,b".to_vec(), code: ErrorCode::S3Error, why: "no".into() });
            let succeeded = u64::from(failures.is_none());
            let cursor = Some((unit + 1).to_be_bytes().to_vec());
            context.record(Step { found: 1, succeeded, bytes: 10, failures: failures.into_iter().collect(), cursor });
        }
        Ok(())
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    engine: Arc<dyn Engine>,
    gate: Option<Arc<Semaphore>>,
    log: Arc<Mutex<Vec<(u64, u64)>>>,
    home: tempfile::TempDir,
    bucket: Arc<MemoryStore>,
    /// The same, on a bad day.
    store: Arc<FaultyStore>,
}

impl World {
    fn new(gate: Option<usize>) -> Self {
        let bucket = Arc::new(MemoryStore::new());
        World {
            store: Arc::new(FaultyStore::new(bucket.clone())),
            bucket,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
            engine: Arc::new(MemoryEngine::default()),
            gate: gate.map(|open| Arc::new(Semaphore::new(open))),
            log: Arc::default(),
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn start(&self, config: TaskConfig) -> Tasks {
        let defaults = DefaultAttrs { uid: 0, gid: 0, file_perm: 0o644, dir_perm: 0o755 };
        let parts = TaskParts {
            meta: Arc::new(MetaStore::with_engine(Box::new(Arc::clone(&self.engine)), defaults, 0).unwrap()),
            clock: Arc::new(ManualClock::default()),
            runtime: self.runtime.handle().clone(),
            spools: self.home.path().join("tasks"),
            reports: self.reports(),
            jobs: vec![
                Arc::new(Units { kind: TaskKind::Import, gate: self.gate.clone(), log: Arc::clone(&self.log) }),
                Arc::new(Units { kind: TaskKind::Preload, gate: None, log: Arc::clone(&self.log) }),
            ],
        };
        Tasks::start(parts, config).unwrap()
    }

    fn reports(&self) -> ReportStores {
        let clock: crate::clock::SharedClock = Arc::new(ManualClock::default());
        let retry = RetryConfig { deadline: Duration::from_millis(200), ..RetryConfig::default() };
        let config = RepositoryConfig { retry, ..RepositoryConfig::default() };
        let repository = Repository::new(self.store.clone(), config, SystemClock::shared());
        // Other buckets are where nobody serves.
        let endpoint_url = Some("http://127.0.0.1:9".to_owned());
        let plain = RepositorySettings::plain("s3://bucket/data", Duration::from_millis(200));
        let settings = RepositorySettings { endpoint_url, no_sign_request: true, ..plain };
        ReportStores {
            repository: Arc::new(repository),
            settings,
            identity: 7 << 96,
            clock,
            runtime: self.runtime.handle().clone(),
        }
    }

    /// What is in the bucket under a key.
    fn delivered(&self, key: &str) -> Vec<u8> {
        use futures::TryStreamExt;
        let request = GetRequest { key: key.to_owned(), range: None, pin: None };
        let read = async {
            let response = self.bucket.get(request).await.unwrap();
            response.body.map_ok(|piece| piece.to_vec()).try_concat().await.unwrap()
        };
        self.runtime.block_on(read)
    }

    fn ended(&self, tasks: &Tasks, id: u64) -> TaskRow {
        let shown = self.runtime.block_on(tasks.wait(id, Duration::from_secs(20))).unwrap();
        assert!(shown.row.state.is_final(), "{shown:?}");
        shown.row
    }

    fn open(&self, units: usize) {
        self.gate.as_ref().unwrap().add_permits(units);
    }

    fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..2000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never: {what}");
    }
}

fn request(kind: TaskKind, options: &[(&str, &str)]) -> TaskRequest {
    let options: BTreeMap<_, _> = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    TaskRequest { kind, paths: vec![b"d".to_vec()], options, report: None }
}

const ONE_TURN: TaskConfig = TaskConfig { executing: 4, turns: 1 };

#[test]
fn a_task_is_done_and_counted() {
    let world = World::new(None);
    let tasks = world.start(TaskConfig::default());
    let made = tasks.create(request(TaskKind::Import, &[("units", "3")])).unwrap();
    assert_eq!((made.id, made.row.state), (1, TaskState::Pending));
    let row = world.ended(&tasks, 1);
    let counters = TaskCounters { total: 3, total_is_final: true, succeeded: 3, failed: 0, bytes: 30 };
    assert_eq!((row.state, row.counters), (TaskState::Succeeded, counters));
    assert!(row.started_ns.is_some() && row.ended_ns.is_some());
    tasks.close();
    let again = world.start(TaskConfig::default());
    assert_eq!(again.show(1).unwrap().row, row, "kept");
    assert_eq!(again.create(request(TaskKind::Import, &[("units", "0")])).unwrap().id, 2, "numbers grow");
}

#[test]
fn what_failed_is_reported_and_fails_the_task() {
    let world = World::new(None);
    let tasks = world.start(TaskConfig::default());
    let reports = world.home.path().join("reports");
    let asked = TaskRequest {
        report: Some(reports.display().to_string()),
        ..request(TaskKind::Preload, &[("units", "3"), ("fails", "1")])
    };
    let id = tasks.create(asked).unwrap().id;
    let row = world.ended(&tasks, id);
    assert_eq!((row.state, row.counters.succeeded, row.counters.failed), (TaskState::Failed, 2, 1));
    assert_eq!(row.last_error, "a,b: S3Error: no");
    assert_eq!(std::fs::read_to_string(reports.join("task-1/failures.csv")).unwrap(), "\"a,b\",failed,S3Error\n");
}

/// A task with one failed file whose report goes to the mounted bucket.
fn reported(world: &World) -> TaskRow {
    let tasks = world.start(TaskConfig::default());
    let report = Some("s3://bucket/reports/".to_owned());
    let asked = TaskRequest { report, ..request(TaskKind::Preload, &[("units", "3"), ("fails", "1")]) };
    let id = tasks.create(asked).unwrap().id;
    world.ended(&tasks, id)
}

const REPORT: &str = "reports/task-1/failures.csv";
const ONE_FAILED: &[u8] = b"\"a,b\",failed,S3Error\n";

#[test]
fn a_report_goes_to_the_bucket_also_where_the_reply_is_lost() {
    for fault in [None, Some(Fault::ReplyLost), Some(Fault::Unavailable), Some(Fault::SlowDown(None))] {
        let world = World::new(None);
        if let Some(fault) = fault {
            world.store.next_of(Op::Put, fault, 1);
        }
        let row = reported(&world);
        assert_eq!((row.state, row.last_error.as_str()), (TaskState::Failed, "a,b: S3Error: no"));
        assert_eq!(world.delivered(REPORT), ONE_FAILED);
        assert_eq!(std::fs::read_dir(world.home.path().join("tasks")).unwrap().count(), 0, "the spool is gone");
    }
}

#[test]
fn a_report_that_cannot_be_delivered_is_told_and_kept() {
    let world = World::new(None);
    world.store.next_of(Op::Put, Fault::Unavailable, 100);
    let row = reported(&world);
    let spool = world.home.path().join("tasks/task-1.csv");
    let told = format!("it is kept in '{}'", spool.display());
    assert!(row.state == TaskState::Failed && row.last_error.contains(&told), "{}", row.last_error);
    assert!(row.last_error.starts_with("report 's3://bucket/reports/task-1/failures.csv': "), "{}", row.last_error);
    assert_eq!(std::fs::read(spool).unwrap(), ONE_FAILED);
}

#[test]
fn what_others_reported_there_is_not_replaced() {
    let world = World::new(None);
    world.bucket.put(REPORT, "theirs");
    let row = reported(&world);
    assert!(row.last_error.contains("another file system's task"), "{}", row.last_error);
    assert_eq!(world.delivered(REPORT), b"theirs");
}

#[test]
fn a_long_report_goes_out_in_parts() {
    let world = World::new(None);
    let line = b"some/path,failed,S3Error\n";
    let long = line.repeat((20 << 20) / line.len());
    let mut spool = report::Spool::open(&world.home.path().join("tasks"), 1, 0).unwrap();
    spool.append(&long).unwrap();
    world.reports().publish(spool, "s3://bucket", 1, TaskKind::Import).unwrap();
    assert!(world.delivered("task-1/report.csv") == long);
}

#[test]
fn a_job_that_panics_fails_and_others_go_on() {
    let world = World::new(None);
    let tasks = world.start(TaskConfig::default());
    let bad = tasks.create(request(TaskKind::Import, &[("units", "1"), ("panics", "")])).unwrap().id;
    assert_eq!(world.ended(&tasks, bad).state, TaskState::Failed);
    let good = tasks.create(request(TaskKind::Import, &[("units", "1")])).unwrap().id;
    assert_eq!(world.ended(&tasks, good).state, TaskState::Succeeded);
}

#[test]
fn requests_that_make_no_sense_become_no_task() {
    let world = World::new(None);
    let tasks = world.start(TaskConfig::default());
    let refused = |request| tasks.create(request).map(|made| made.id).unwrap_err().to_string();
    assert!(refused(request(TaskKind::Export, &[])).contains("'export' tasks are not built yet"));
    assert!(refused(TaskRequest { paths: Vec::new(), ..request(TaskKind::Import, &[]) }).contains("no path"));
    for (report, words) in [
        ("s3://other/r", "cannot reach"),
        ("s4://bucket/r", "scheme 's4' is not known"),
        ("s3://", "names no bucket"),
        ("file://r", "must name an absolute path"),
        (&format!("s3://bucket/{}", "r".repeat(1000)), "more than 1024 bytes"),
    ] {
        let why = refused(TaskRequest { report: Some(report.into()), ..request(TaskKind::Import, &[("units", "1")]) });
        assert!(why.contains("--report s") || why.contains("--report f"), "{why}");
        assert!(why.contains(words), "{why}");
    }
    assert!(tasks.list().is_empty());
    assert!(tasks.list().is_empty());
    assert!(tasks.show(1).unwrap_err().to_string().contains("no task 1"));
}

#[test]
fn so_many_execute_and_the_rest_wait_in_order() {
    let world = World::new(Some(0));
    let tasks = world.start(TaskConfig { executing: 2, turns: 8 });
    for _ in 0..4 {
        tasks.create(request(TaskKind::Import, &[("units", "1")])).unwrap();
    }
    let states = || tasks.list().iter().map(|task| task.row.state).collect::<Vec<_>>();
    use TaskState::{Executing, Pending};
    assert_eq!(states(), [Executing, Executing, Pending, Pending]);
    world.open(1);
    world.eventually("the third begins", || states()[2] == Executing);
    assert_eq!(states()[3], Pending);
    world.open(3);
    (1..=4).for_each(|id| assert_eq!(world.ended(&tasks, id).state, TaskState::Succeeded));
}

#[test]
fn a_huge_task_does_not_starve_a_small_one() {
    let world = World::new(Some(0));
    let tasks = world.start(ONE_TURN);
    let huge = tasks.create(request(TaskKind::Import, &[("units", "100000")])).unwrap().id;
    world.open(50);
    world.eventually("the huge one is under way", || world.log.lock().len() == 50);
    let small = tasks.create(request(TaskKind::Preload, &[("units", "20")])).unwrap().id;
    // However late the small one comes to ask for its first turn: the huge one would go on for hours.
    world.eventually("the small one has ended", || {
        world.open(4);
        tasks.show(small).unwrap().row.state == TaskState::Succeeded
    });
    assert_eq!(tasks.show(huge).unwrap().row.state, TaskState::Executing);
    tasks.cancel(huge).unwrap();
    world.open(1);
    assert_eq!(world.ended(&tasks, huge).state, TaskState::Canceled);
}

#[test]
fn cancel_lets_the_unit_in_flight_finish() {
    let world = World::new(Some(2));
    let tasks = world.start(ONE_TURN);
    let id = tasks.create(request(TaskKind::Import, &[("units", "10")])).unwrap().id;
    world.eventually("two units", || world.log.lock().len() == 2);
    world.eventually("both counted", || tasks.show(id).unwrap().row.counters.succeeded == 2);
    // A third unit has its turn, or is about to; canceling does not take that back.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(tasks.cancel(id).unwrap().row.state, TaskState::Canceling);
    world.open(8);
    let row = world.ended(&tasks, id);
    assert_eq!((row.state, row.counters.succeeded), (TaskState::Canceled, 3));
    assert!(tasks.cancel(id).unwrap_err().to_string().contains("has ended: CANCELED"));
    let waiting = World::new(Some(0));
    let tasks = waiting.start(TaskConfig { executing: 0, turns: 1 });
    let id = tasks.create(request(TaskKind::Import, &[("units", "1")])).unwrap().id;
    assert_eq!(tasks.cancel(id).unwrap().row.state, TaskState::Canceled, "at once, if it has not begun");
}

#[test]
fn shutdown_stops_at_a_units_end_and_the_next_start_goes_on_from_there() {
    let world = World::new(Some(4));
    let tasks = world.start(ONE_TURN);
    let id = tasks.create(request(TaskKind::Import, &[("units", "10")])).unwrap().id;
    world.eventually("four units", || world.log.lock().len() == 4);
    std::thread::sleep(Duration::from_millis(50));
    // The fifth unit has its turn and waits; it ends after the stop was asked for.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            world.open(1);
        });
        tasks.close();
    });
    let done = world.log.lock().len() as u64;
    let row = tasks.show(id).unwrap().row;
    assert_eq!((row.state, row.counters.succeeded), (TaskState::Executing, done));
    assert!(tasks.create(request(TaskKind::Import, &[("units", "1")])).is_err());
    world.open(20);
    let again = world.start(ONE_TURN);
    let row = world.ended(&again, id);
    assert_eq!((row.state, row.counters.succeeded, row.counters.total), (TaskState::Succeeded, 10, 10));
    let units: Vec<u64> = world.log.lock().iter().map(|(_, unit)| *unit).collect();
    assert_eq!(units, (0..10).collect::<Vec<_>>(), "each once");
}

#[test]
fn what_a_killed_daemon_had_recorded_is_where_the_next_one_goes_on() {
    let world = World::new(Some(3));
    let tasks = world.start(ONE_TURN);
    let reports = world.home.path().join("reports");
    let asked = TaskRequest {
        report: Some(reports.display().to_string()),
        ..request(TaskKind::Import, &[("units", "6"), ("fails", "1")])
    };
    let id = tasks.create(asked).unwrap().id;
    world.eventually("three units", || world.log.lock().len() == 3);
    let saved = || {
        let defaults = DefaultAttrs { uid: 0, gid: 0, file_perm: 0o644, dir_perm: 0o755 };
        let meta = MetaStore::with_engine(Box::new(Arc::clone(&world.engine)), defaults, 0).unwrap();
        meta.tasks().unwrap().remove(0).unwrap().1
    };
    world.eventually("recorded within a second or two", || saved().counters.succeeded == 2);
    // The old scheduler is left hanging in its fourth unit, as a killed process would be.
    let other = World { gate: Some(Arc::new(Semaphore::new(100))), engine: Arc::clone(&world.engine), ..World::new(None) };
    std::fs::create_dir_all(other.home.path().join("tasks")).unwrap();
    std::fs::copy(world.home.path().join("tasks/task-1.csv"), other.home.path().join("tasks/task-1.csv")).unwrap();
    let again = other.start(ONE_TURN);
    let row = other.ended(&again, id);
    assert_eq!((row.state, row.counters.succeeded, row.counters.failed), (TaskState::Failed, 5, 1));
    assert_eq!(std::fs::read_to_string(reports.join("task-1/report.csv")).unwrap(), "\"a,b\",failed,S3Error\n", "once");
    assert_eq!(other.log.lock().iter().map(|(_, unit)| *unit).collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn the_oldest_of_those_that_ended_are_forgotten() {
    let world = World::new(None);
    let defaults = DefaultAttrs { uid: 0, gid: 0, file_perm: 0o644, dir_perm: 0o755 };
    let meta = MetaStore::with_engine(Box::new(Arc::clone(&world.engine)), defaults, 0).unwrap();
    for id in 1..=1005 {
        let row = TaskRow { state: TaskState::Succeeded, ..TaskRow::new(TaskKind::Import, Vec::new(), 0) };
        meta.save_task(id, &row).unwrap();
    }
    let tasks = world.start(TaskConfig::default());
    let id = tasks.create(request(TaskKind::Import, &[("units", "1")])).unwrap().id;
    world.ended(&tasks, id);
    world.eventually("a thousand are left", || tasks.list().len() == 1000);
    assert_eq!((id, tasks.list()[0].id, meta.tasks().unwrap().len()), (1006, 7, 1000));
}
