//! Running a check, a scrub or a collection of a file system that is mounted: one at a time, on a thread of its own.

use super::FileSystem;
use crate::cache::care::{FsckOptions, GcReport, Watch};
use crate::control::care::{CareInfo, CareOrder, CareReport, PATIENCE};
use crate::error::{Error, ErrorKind};
use crate::vfs::Vfs;
use parking_lot::{Condvar, Mutex};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What was begun last.
#[derive(Default)]
pub(super) struct Care(Mutex<Last>);

#[derive(Default)]
struct Last {
    id: u64,
    run: Option<Arc<Run>>,
    thread: Option<JoinHandle<()>>,
    closed: bool,
}

struct Run {
    watch: Watch,
    outcome: Mutex<Option<Result<CareReport, Error>>>,
    ended: Condvar,
}

impl Run {
    fn has_ended(&self) -> bool {
        self.outcome.lock().is_some()
    }

    fn end(&self, outcome: Result<CareReport, Error>) {
        *self.outcome.lock() = Some(outcome);
        self.ended.notify_all();
    }
}

/// What the work is done with.
struct Work {
    vfs: Vfs,
    copies: u8,
    devices: Vec<PathBuf>,
}

impl Care {
    fn start(&self, order: CareOrder, work: Work) -> Result<CareInfo, Error> {
        let mut last = self.0.lock();
        if last.closed {
            return Err(Error::new(ErrorKind::ShuttingDown, "the file system is being unmounted"));
        }
        if last.run.as_ref().is_some_and(|run| !run.has_ended()) {
            return Err(Error::new(
                ErrorKind::Busy,
                "a check, a scrub or a collection of this mount is under way; wait for it to end",
            ));
        }
        let run = Arc::new(Run { watch: Watch::new(Some(PATIENCE)), outcome: Mutex::default(), ended: Condvar::new() });
        let shared = Arc::clone(&run);
        let thread = std::thread::Builder::new().name("fby-care".into()).spawn(move || {
            let outcome = work.run(order, &shared.watch);
            shared.end(outcome);
        });
        let thread = thread.map_err(|error| Error::new(ErrorKind::Io, format!("a thread could not be started: {error}")))?;
        last.id += 1;
        (last.run, last.thread) = (Some(run), Some(thread));
        Ok(CareInfo { id: last.id, done: 0, total: 0, report: None })
    }

    fn ask(&self, id: u64, wait: Duration) -> Result<CareInfo, Error> {
        let run = {
            let last = self.0.lock();
            last.run.clone().filter(|_| last.id == id)
        };
        let run = run.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no check, scrub or collection {id}")))?;
        run.watch.ask();
        let mut outcome = run.outcome.lock();
        if outcome.is_none() {
            run.ended.wait_for(&mut outcome, wait);
        }
        let (done, total) = run.watch.ask();
        let report = outcome.clone().transpose()?;
        Ok(CareInfo { id, done, total, report })
    }

    /// Ends what is under way, and lets nothing more begin.
    pub(super) fn close(&self) {
        let thread = {
            let mut last = self.0.lock();
            last.closed = true;
            if let Some(run) = &last.run {
                run.watch.stop();
            }
            last.thread.take()
        };
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Work {
    fn run(&self, order: CareOrder, watch: &Watch) -> Result<CareReport, Error> {
        match order {
            CareOrder::Fsck { repair, data_rate } => {
                let options = FsckOptions { repair, data: data_rate, is_mounted: true, copies: self.copies };
                self.vfs.fsck(&options, watch).map(CareReport::Fsck)
            }
            CareOrder::Scrub { rate } => self.vfs.scrub(true, rate, watch).map(CareReport::Scrub),
            CareOrder::Gc {} => {
                let before = self.allocated();
                let report = self.vfs.collect(watch)?;
                let given_back_bytes = before.saturating_sub(self.allocated());
                Ok(CareReport::Gc(GcReport { given_back_bytes, ..report }))
            }
        }
    }

    /// What the devices take of the file systems they are on.
    fn allocated(&self) -> u64 {
        self.devices.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.blocks() * 512).sum()
    }
}

impl FileSystem {
    /// Begins a check, a scrub or a collection.
    ///
    /// # Errors
    /// `Busy` while another is under way.
    pub fn start_care(&self, order: CareOrder) -> Result<CareInfo, Error> {
        let devices = self.dirs.iter().map(super::CacheDir::segments).collect();
        self.care.start(order, Work { vfs: self.vfs.clone(), copies: self.settings.dirty_copies, devices })
    }

    /// How far it is, once it has ended or after so long; blocks until then. One that nobody asks about ends.
    ///
    /// # Errors
    /// `NotFound` if it is not the last one; what it failed of, if it did.
    pub fn care(&self, id: u64, wait: Duration) -> Result<CareInfo, Error> {
        self.care.ask(id, wait)
    }
}
