//! One task in memory.

use super::place::ReportStores;
use super::report::{self, Spool};
use super::{Step, TaskError, TaskState};
use crate::meta::{MetaStore, TaskRow};
use parking_lot::Mutex;
use std::path::Path;
use tokio::sync::watch;

/// Why a job is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is not.
    No,
    /// Somebody canceled it.
    Cancel,
    /// The daemon stops.
    Shutdown,
}

/// A task.
pub(super) struct Task {
    pub(super) id: u64,
    pub(super) progress: Mutex<Progress>,
    pub(super) stop: watch::Sender<Stop>,
    pub(super) state: watch::Sender<TaskState>,
    /// One at a time records the row, so that no older one comes last.
    saving: Mutex<()>,
}

/// What changes of it.
pub(super) struct Progress {
    pub(super) row: TaskRow,
    unsaved: bool,
    spool: Option<Spool>,
    /// A guess of how many files it will be about. Not recorded: whoever goes on guesses anew.
    pub(super) expected: Option<u64>,
}

impl Task {
    pub(super) fn new(id: u64, row: TaskRow) -> Self {
        let state = watch::Sender::new(row.state);
        let progress = Mutex::new(Progress { row, unsaved: false, spool: None, expected: None });
        Task { id, progress, stop: watch::Sender::new(Stop::No), state, saving: Mutex::default() }
    }

    pub(super) fn state(&self) -> TaskState {
        self.progress.lock().row.state
    }

    /// Changes the row; whoever waits for a state is told.
    pub(super) fn change(&self, change: impl FnOnce(&mut TaskRow)) {
        self.set(change);
        self.tell();
    }

    /// Changes the row.
    pub(super) fn set(&self, change: impl FnOnce(&mut TaskRow)) {
        let mut progress = self.progress.lock();
        change(&mut progress.row);
        progress.unsaved = true;
    }

    /// Tells whoever waits for a state.
    pub(super) fn tell(&self) {
        let state = self.state();
        self.state.send_if_modified(|known| std::mem::replace(known, state) != state);
    }

    /// Records the row, if it changed since.
    pub(super) fn save(&self, meta: &MetaStore) {
        let _alone = self.saving.lock();
        let row = {
            let mut progress = self.progress.lock();
            if !std::mem::take(&mut progress.unsaved) {
                return;
            }
            progress.row.clone()
        };
        if let Err(error) = meta.save_task(self.id, &row) {
            self.progress.lock().unsaved = true;
            tracing::error!(task = self.id, %error, "the state of a task could not be recorded; it is tried again");
        }
    }

    pub(super) fn open_report(&self, spools: &Path) -> Result<(), TaskError> {
        let mut progress = self.progress.lock();
        let Some(asked) = progress.row.report.clone() else { return Ok(()) };
        let spool = Spool::open(spools, self.id, asked.spooled_bytes);
        progress.spool = Some(spool.map_err(|source| TaskError::Report { path: spools.to_owned(), source })?);
        Ok(())
    }

    /// Puts the report where it was asked for.
    pub(super) fn publish_report(&self, stores: &ReportStores) -> Result<(), TaskError> {
        let (spool, place, kind) = {
            let mut progress = self.progress.lock();
            let (Some(spool), Some(report)) = (progress.spool.take(), progress.row.report.as_ref()) else { return Ok(()) };
            (spool, report.directory.clone(), progress.row.kind)
        };
        stores.publish(spool, &place, self.id, kind)
    }

    pub(super) fn record(&self, step: Step) {
        let mut progress = self.progress.lock();
        let Progress { row, unsaved, spool, .. } = &mut *progress;
        *unsaved = true;
        let failed = step.failures.len() as u64;
        row.counters.succeeded += step.succeeded;
        row.counters.failed += failed;
        row.counters.bytes += step.bytes;
        row.counters.total += step.found;
        if let Some(last) = step.failures.last() {
            row.last_error = format!("{}: {}: {}", String::from_utf8_lossy(&last.path), last.code.name(), last.why);
        }
        if let (Some(spool), Some(report)) = (spool.as_mut(), row.report.as_mut()) {
            let lines: Vec<u8> = step.failures.iter().flat_map(|failure| report::line(&failure.path, failure.code)).collect();
            if let Err(error) = spool.append(&lines) {
                tracing::error!(task = self.id, %error, "lines of a completion report are lost");
                row.last_error = format!("the completion report lacks lines: {error}");
            }
            report.spooled_bytes = spool.bytes();
        }
        if let Some(cursor) = step.cursor {
            row.cursor = cursor;
        }
    }

    pub(super) fn total_is_final(&self) {
        self.change(|row| row.counters.total_is_final = true);
    }
}
