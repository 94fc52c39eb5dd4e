//! The ring: entries go in on the caller's thread, completions come out on the reaper's.
//!
//! Invariants:
//! 1. Entries are pushed under the lock; `io_uring_enter` runs outside of it, so that a slow submission holds nobody up.
//! 2. Only the reaper reads the completion queue.
//! 3. A buffer is in the table from before its entry is pushed until after its completion is read.
//! 4. An entry that the kernel would not take (`EAGAIN`, `EBUSY`) stays in the submission queue; `stalled` makes the reaper
//!    offer it again.

use super::fixed::FixedMemory;
use super::flight::{Flight, Verdict, Work};
use super::table::Table;
use super::{UringError, UringOptions};
use crate::io::counters::LiveCounters;
use crate::io::{BufferPool, Completion, IoError, IoOp, IoOutcome};
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use parking_lot::Mutex;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// `user_data` of entries that only wake the reaper.
const WAKE: u64 = u64::MAX;
/// Entries beside the requests' own: a wake-up and a cancellation.
const SPARE_ENTRIES: u32 = 8;
/// `IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG`.
const WAIT_FLAGS: u32 = 1 | 8;

/// A completion and what to tell it.
pub(super) type Finished = (Completion, IoOutcome);

/// What the reaper has to do when nothing is ready.
pub(super) enum Rest {
    /// Wait for the kernel, at most this long.
    Wait(Duration),
    /// Nothing is under way: sleep until somebody submits.
    Park,
    /// Closed, and all is over.
    Exit,
}

pub(super) struct Ring {
    uring: IoUring,
    file: File,
    /// `(fd, flags)` of entries: the registered file's index, or the descriptor.
    target: (Fd, squeue::Flags),
    fixed: FixedMemory,
    state: Mutex<State>,
    stalled: AtomicBool,
    /// How many calls of `io_uring_enter` a test wants refused.
    #[cfg(test)]
    pub(super) refusals: std::sync::atomic::AtomicU32,
    pub(super) deadline: Duration,
    pub(super) counters: LiveCounters,
    /// The registered arena must stay mapped as long as the ring.
    _pool: BufferPool,
}

struct State {
    table: Table,
    /// Slots to give to the kernel again after a moment.
    later: Vec<u32>,
    /// Answers that need no kernel, for the reaper to deliver.
    early: Vec<Finished>,
    parked: bool,
    /// A wake-up entry is on its way; one is enough, and more could fill the submission queue.
    waking: bool,
    closing: bool,
}

impl Ring {
    pub(super) fn new(file: File, pool: &BufferPool, options: &UringOptions) -> Result<Self, UringError> {
        let slots = options.queue_depth.clamp(1, 4096);
        let uring = IoUring::builder()
            .setup_submit_all()
            .build(slots + SPARE_ENTRIES)
            .map_err(|source| UringError::Unavailable { source })?;
        if !uring.params().is_feature_ext_arg() {
            return Err(UringError::OldKernel);
        }
        let registered = uring.submitter().register_files(&[file.as_raw_fd()]).is_ok();
        let target = match registered {
            true => (Fd(0), squeue::Flags::FIXED_FILE),
            false => (Fd(file.as_raw_fd()), squeue::Flags::empty()),
        };
        Ok(Ring {
            target,
            fixed: FixedMemory::register(&uring, pool),
            uring,
            file,
            state: Mutex::new(State {
                table: Table::new(slots),
                later: Vec::new(),
                early: Vec::new(),
                parked: false,
                waking: false,
                closing: false,
            }),
            stalled: AtomicBool::new(false),
            #[cfg(test)]
            refusals: Default::default(),
            deadline: options.deadline,
            counters: LiveCounters::default(),
            _pool: pool.clone(),
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Takes requests in and gives the kernel as many as have a slot. True if the reaper sleeps and must be unparked.
    pub(super) fn submit(&self, flights: impl ExactSizeIterator<Item = Flight>) -> bool {
        self.counters.submitted(flights.len());
        let mut state = self.state.lock();
        flights.for_each(|flight| state.table.queue(flight));
        let entries = self.start_waiting(&mut state);
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        self.enter(entries);
        parked
    }

    /// Has the reaper answer a request that the kernel need not see. True if it must be unparked.
    pub(super) fn answer(&self, done: Completion, outcome: IoOutcome) -> bool {
        self.counters.submitted(1);
        self.state.lock().early.push((done, outcome));
        self.wake()
    }

    /// Stops taking in requests: the reaper ends when all is over. True if it must be unparked.
    pub(super) fn close(&self) -> bool {
        self.state.lock().closing = true;
        self.wake()
    }

    fn wake(&self) -> bool {
        let mut state = self.state.lock();
        let parked = std::mem::take(&mut state.parked);
        let pushed = !parked && !state.waking && self.push(&opcode::Nop::new().build().user_data(WAKE));
        state.waking |= pushed;
        drop(state);
        if pushed {
            self.enter(1);
        }
        parked
    }

    /// Moves waiting requests to slots and pushes their entries; returns how many.
    fn start_waiting(&self, state: &mut State) -> usize {
        let mut entries = 0;
        while let Some(slot) = state.table.start_next() {
            self.push_slot(state, slot);
            entries += 1;
        }
        entries
    }

    fn push_slot(&self, state: &mut State, slot: u32) {
        let flight = state.table.get_mut(slot).expect("the slot was just filled or kept");
        let entry = self.entry(flight).flags(self.target.1).user_data(u64::from(slot));
        assert!(self.push(&entry), "the submission queue has room for every slot");
    }

    fn entry(&self, flight: &mut Flight) -> squeue::Entry {
        let fd = self.target.0;
        let op = match flight.work {
            Work::Sync => return opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
            Work::Fallocate(mode) => return opcode::Fallocate::new(fd, flight.len).offset(flight.offset).mode(mode).build(),
            Work::Transfer(op) => op,
        };
        let piece = flight.piece();
        match (op, self.fixed.index_of(piece.address)) {
            (IoOp::Read, Some(index)) => opcode::ReadFixed::new(fd, piece.address, piece.len, index).offset(piece.offset).build(),
            (IoOp::Read, None) => opcode::Read::new(fd, piece.address, piece.len).offset(piece.offset).build(),
            (IoOp::Write, Some(index)) => {
                opcode::WriteFixed::new(fd, piece.address, piece.len, index).offset(piece.offset).build()
            }
            (IoOp::Write, None) => opcode::Write::new(fd, piece.address, piece.len).offset(piece.offset).build(),
        }
    }

    /// Pushes an entry. The caller holds the state's lock, which guards the submission queue.
    fn push(&self, entry: &squeue::Entry) -> bool {
        // SAFETY: the lock makes this the only submission queue in use; the entry's memory is in the table, or it has none.
        unsafe { self.uring.submission_shared().push(entry) }.is_ok()
    }

    /// Entries pushed that the kernel has not taken.
    fn unsubmitted(&self) -> usize {
        let _state = self.state.lock();
        // SAFETY: the lock makes this the only submission queue in use.
        unsafe { self.uring.submission_shared() }.len()
    }

    /// Gives the kernel `entries` entries; what it will not take now is left to the reaper.
    fn enter(&self, mut entries: usize) {
        while entries > 0 {
            match self.enter_once(entries) {
                Ok(taken) if taken >= entries => return,
                // Fewer: another thread's call took some of ours, or the kernel stopped at a bad entry.
                Ok(_) => entries = self.unsubmitted(),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => {
                    if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) {
                        tracing::error!(%error, "io_uring_enter failed");
                    }
                    self.stalled.store(true, Ordering::Release);
                    return;
                }
            }
        }
    }

    fn enter_once(&self, entries: usize) -> std::io::Result<usize> {
        #[cfg(test)]
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(std::io::Error::from_raw_os_error(libc::EAGAIN));
        }
        // SAFETY: no argument is passed; the entries' memory is in the table.
        unsafe { self.uring.submitter().enter::<libc::sigset_t>(entries as u32, 0, 0, None) }
    }

    /// Reads all completions that are ready, and gives the kernel what waited for them. The reaper only.
    pub(super) fn reap(&self, finished: &mut Vec<Finished>) {
        let mut state = self.state.lock();
        finished.append(&mut state.early);
        let mut again = 0;
        // SAFETY: only the reaper's thread calls this, so it is the only completion queue in use.
        for answer in unsafe { self.uring.completion_shared() } {
            match answer.user_data() {
                WAKE => state.waking = false,
                slot => again += self.settle(&mut state, slot as u32, answer.result(), finished),
            }
        }
        let entries = again + self.start_waiting(&mut state);
        drop(state);
        self.enter(entries);
        if self.stalled.swap(false, Ordering::AcqRel) {
            self.enter(self.unsubmitted());
        }
    }

    /// Takes in the kernel's answer for a slot; returns the number of entries pushed for what is left.
    fn settle(&self, state: &mut State, slot: u32, answer: i32, finished: &mut Vec<Finished>) -> usize {
        let flight = state.table.get_mut(slot).expect("the kernel answers for a slot in use");
        let mut verdict = flight.judge(answer);
        if flight.done.is_none() {
            // The caller has had its timeout: only the buffer was still out.
            verdict = Verdict::Finished(Err(IoError::Offline));
        }
        match verdict {
            Verdict::Again => {
                self.push_slot(state, slot);
                1
            }
            Verdict::Later => {
                state.later.push(slot);
                0
            }
            Verdict::Finished(result) => {
                let flight = state.table.retire(slot).expect("checked above");
                if let (Work::Transfer(op), Ok(())) = (flight.work, &result) {
                    self.counters.transferred(op, flight.len as usize);
                }
                finished.extend(flight.finish(result));
                0
            }
        }
    }

    /// Offers the kernel again what it refused a moment ago.
    pub(super) fn retry(&self) {
        let mut state = self.state.lock();
        if state.later.is_empty() {
            return;
        }
        let later = std::mem::take(&mut state.later);
        later.iter().for_each(|slot| self.push_slot(&mut state, *slot));
        drop(state);
        self.enter(later.len());
    }

    /// Collects the completions of requests past their deadline. Their buffers stay in the table if the kernel has them.
    pub(super) fn expire(&self, now: Instant, finished: &mut Vec<Finished>) {
        let mut state = self.state.lock();
        for flight in state.table.overdue(now, self.deadline) {
            let outcome = IoOutcome { buf: None, result: Err(flight.timeout(self.deadline)) };
            finished.extend(flight.done.take().map(|done| (done, outcome)));
        }
        while let Some(flight) = state.table.pop_overdue(now, self.deadline) {
            let error = flight.timeout(self.deadline);
            finished.extend(flight.finish(Err(error)));
        }
    }

    /// What to do when nothing is ready; `tick` is the longest wait while something is under way, `lull` says that a whole
    /// tick passed without an event.
    pub(super) fn rest(&self, tick: Duration, lull: bool) -> Rest {
        const MOMENT: Duration = Duration::from_millis(1);
        let mut state = self.state.lock();
        let idle = state.table.is_idle() && state.early.is_empty();
        if state.closing {
            let over = state.early.is_empty() && !state.table.is_awaited();
            return if over { Rest::Exit } else { Rest::Wait(tick.min(MOMENT * 50)) };
        }
        if idle && lull {
            state.parked = true;
            return Rest::Park;
        }
        let hurry = !state.later.is_empty() || self.stalled.load(Ordering::Acquire);
        Rest::Wait(if hurry { MOMENT } else { tick })
    }

    /// The reaper is awake, by whatever.
    pub(super) fn unparked(&self) {
        self.state.lock().parked = false;
    }

    /// Waits for a completion; false if none came within `limit`.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let limit = Timespec::from(limit);
        let args = SubmitArgs::new().timespec(&limit);
        // SAFETY: nothing is submitted; `args` and the time it points to outlive the call.
        match unsafe { self.uring.submitter().enter(0, 1, WAIT_FLAGS, Some(&args)) } {
            Ok(_) => true,
            Err(error) => !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EAGAIN | libc::EBUSY)),
        }
    }

    /// Asks the kernel to drop everything it still has; returns how much that is.
    pub(super) fn cancel_all(&self) -> usize {
        let state = self.state.lock();
        let stuck = state.table.with_kernel();
        let pushed = stuck > 0 && self.push(&opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(WAKE));
        drop(state);
        if pushed {
            self.enter(1);
        }
        stuck
    }

    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.state.lock().parked
    }

    /// Requests the kernel has.
    pub(super) fn with_kernel(&self) -> usize {
        self.state.lock().table.with_kernel()
    }
}

impl Drop for Ring {
    /// Gives up the buffers of requests that nothing ended: the kernel may yet write to them.
    fn drop(&mut self) {
        let leaked = self.state.get_mut().table.leak();
        if leaked > 0 {
            tracing::error!(leaked, "closed a device with requests the kernel never answered: their buffers are given up");
        }
    }
}
