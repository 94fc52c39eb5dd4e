//! The ring: callers leave requests in its table, the reaper's thread gives them to the kernel and takes the answers.
//!
//! One thread that does both submits what gathered while it was busy in one call, and the kernel posts completions when
//! that thread asks for them, instead of interrupting whoever happened to submit.
//!
//! Invariants:
//! 1. Only the reaper touches the submission and the completion queue and calls `io_uring_enter`.
//! 2. A caller that finds the reaper waiting in the kernel rings the bell (an eventfd that the ring reads), once; a reaper that is
//!    awake looks at the table before it waits.
//! 3. A buffer is in the table from before its entry is pushed until after its completion is read.
//! 4. An entry that the kernel would not take (`EAGAIN`, `EBUSY`) stays in the submission queue, for the reaper's next turn.

use super::fixed::FixedMemory;
use super::flight::{Flight, Verdict, Work};
use super::table::Table;
use super::{UringError, UringOptions};
use crate::io::counters::LiveCounters;
use crate::io::{BufferPool, Completion, IoError, IoOp, IoOutcome};
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// `user_data` of the read of the bell.
const BELL: u64 = u64::MAX;
/// `user_data` of cancellations.
const CANCEL: u64 = u64::MAX - 1;
/// Entries beside the requests' own: the bell and a cancellation.
const SPARE_ENTRIES: u32 = 8;
/// Where the kernel puts the bell's count, which nobody reads. Static: a ring that goes away may leave a read behind.
static BELL_COUNT: AtomicU64 = AtomicU64::new(0);
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
    /// Until its owner comes.
    disabled: bool,
    file: File,
    /// `(fd, flags)` of entries: the registered file's index, or the descriptor.
    target: (Fd, squeue::Flags),
    fixed: FixedMemory,
    bell: OwnedFd,
    state: Mutex<State>,
    /// The kernel would not take an entry.
    stalled: AtomicBool,
    /// How many calls of `io_uring_enter` a test wants refused.
    #[cfg(test)]
    pub(super) refusals: std::sync::atomic::AtomicU32,
    pub(super) deadline: Duration,
    pub(super) counters: LiveCounters,
    /// The registered arena must stay mapped as long as the ring.
    _pool: BufferPool,
}

/// What the reaper is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaper {
    /// It will look at the table before it waits.
    Awake,
    /// In the kernel, until an answer or the bell.
    Waiting,
    /// Asleep, nothing is under way.
    Parked,
}

struct State {
    table: Table,
    /// Slots to give to the kernel again after a moment.
    later: Vec<u32>,
    /// Answers that need no kernel, for the reaper to deliver.
    early: Vec<Finished>,
    reaper: Reaper,
    /// The ring reads the bell.
    listening: bool,
    closing: bool,
}

/// A ring that one thread will own, where the kernel knows such (6.1); else one that it cannot tell from others.
/// The first must be enabled by its owner.
fn build(entries: u32) -> std::io::Result<(IoUring, bool)> {
    let mut owned = IoUring::builder();
    owned.setup_submit_all().setup_r_disabled().setup_single_issuer().setup_defer_taskrun();
    let owned = owned.build(entries).map(|uring| (uring, true));
    owned.or_else(|_| Ok((IoUring::builder().setup_submit_all().build(entries)?, false)))
}

impl Ring {
    pub(super) fn new(file: File, pool: &BufferPool, options: &UringOptions) -> Result<Self, UringError> {
        let slots = options.queue_depth.clamp(1, 4096);
        let (uring, disabled) = build(slots + SPARE_ENTRIES).map_err(|source| UringError::Unavailable { source })?;
        let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
            .map_err(|source| UringError::Unavailable { source: source.into() })?;
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
            disabled,
            file,
            bell,
            state: Mutex::new(State {
                table: Table::new(slots),
                later: Vec::new(),
                early: Vec::new(),
                reaper: Reaper::Awake,
                listening: false,
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

    /// To be called first on the reaper's thread, which becomes the only one that may enter the ring.
    pub(super) fn own(&self) {
        if self.disabled
            && let Err(error) = self.uring.submitter().register_enable_rings()
        {
            tracing::error!(%error, "io_uring could not be enabled");
        }
    }

    /// Takes requests in. True if the reaper sleeps and must be unparked.
    pub(super) fn submit(&self, flights: impl ExactSizeIterator<Item = Flight>) -> bool {
        self.counters.submitted(flights.len());
        self.change(|state| flights.for_each(|flight| state.table.queue(flight)))
    }

    /// Has the reaper answer a request that the kernel need not see. True if it must be unparked.
    pub(super) fn answer(&self, done: Completion, outcome: IoOutcome) -> bool {
        self.counters.submitted(1);
        self.change(|state| state.early.push((done, outcome)))
    }

    /// Stops taking in requests: the reaper ends when all is over. True if it must be unparked.
    pub(super) fn close(&self) -> bool {
        self.change(|state| state.closing = true)
    }

    /// Changes the state and sees to it that the reaper looks. True if it must be unparked.
    fn change(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.state.lock();
        change(&mut state);
        let was = std::mem::replace(&mut state.reaper, Reaper::Awake);
        drop(state);
        if was == Reaper::Waiting
            && let Err(error) = rustix::io::write(&self.bell, &1u64.to_ne_bytes())
        {
            tracing::error!(%error, "the completion thread could not be woken");
        }
        was == Reaper::Parked
    }

    /// Moves waiting requests to slots and pushes their entries.
    fn start_waiting(&self, state: &mut State) {
        while let Some(slot) = state.table.start_next() {
            self.push_slot(state, slot);
        }
    }

    /// Has the ring read the bell.
    fn listen(&self, state: &mut State) {
        if !state.listening {
            let entry = opcode::Read::new(Fd(self.bell.as_raw_fd()), BELL_COUNT.as_ptr().cast(), 8).build();
            state.listening = self.push(&entry.user_data(BELL));
        }
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
        let durability = if op == IoOp::WriteThrough { libc::RWF_DSYNC } else { 0 };
        if let Some(pieces) = flight.pieces() {
            return opcode::Writev::new(fd, pieces.list, pieces.count).offset(pieces.offset).rw_flags(durability).build();
        }
        let piece = flight.piece();
        match (op, self.fixed.index_of(piece.address)) {
            (IoOp::Read, Some(index)) => opcode::ReadFixed::new(fd, piece.address, piece.len, index).offset(piece.offset).build(),
            (IoOp::Read, None) => opcode::Read::new(fd, piece.address, piece.len).offset(piece.offset).build(),
            (_, Some(index)) => {
                let write = opcode::WriteFixed::new(fd, piece.address, piece.len, index);
                write.offset(piece.offset).rw_flags(durability).build()
            }
            (_, None) => opcode::Write::new(fd, piece.address, piece.len).offset(piece.offset).rw_flags(durability).build(),
        }
    }

    /// Pushes an entry. The reaper only.
    fn push(&self, entry: &squeue::Entry) -> bool {
        // SAFETY: only the reaper's thread calls this, so it is the only submission queue in use; the entry's memory is in the
        // table, or static, or it has none.
        unsafe { self.uring.submission_shared().push(entry) }.is_ok()
    }

    /// Gives the kernel every entry pushed so far, has it post what is complete, and with a limit waits that long for the first.
    fn enter(&self, limit: Option<Duration>) {
        // What the kernel refused a moment ago is offered after a wait: it would refuse it again, without waiting.
        let entries = match limit.is_some() && self.stalled.swap(false, Ordering::AcqRel) {
            true => 0,
            // SAFETY: only the reaper's thread calls this, so it is the only submission queue in use.
            false => unsafe { self.uring.submission_shared() }.len() as u32,
        };
        let least = u32::from(limit.is_some());
        let limit = Timespec::from(limit.unwrap_or_default());
        let args = SubmitArgs::new().timespec(&limit);
        match self.enter_once(entries, least, &args) {
            Ok(taken) => self.stalled.store(taken < entries as usize, Ordering::Release),
            Err(error) => match error.raw_os_error() {
                // ETIME is said only where nothing was to be submitted.
                Some(libc::ETIME | libc::EINTR) => {}
                Some(libc::EAGAIN | libc::EBUSY) => self.stalled.store(true, Ordering::Release),
                _ => {
                    tracing::error!(%error, "io_uring_enter failed");
                    self.stalled.store(true, Ordering::Release);
                }
            },
        }
    }

    fn enter_once(&self, entries: u32, least: u32, args: &SubmitArgs) -> std::io::Result<usize> {
        #[cfg(test)]
        if entries > 0 && self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(std::io::Error::from_raw_os_error(libc::EAGAIN));
        }
        // SAFETY: `args` and the time it points to outlive the call; the entries' memory is in the table or static.
        unsafe { self.uring.submitter().enter(entries, least, WAIT_FLAGS, Some(args)) }
    }

    /// Whether a request waits that the kernel could be given.
    pub(super) fn has_waiting(&self) -> bool {
        self.state.lock().table.can_start()
    }

    /// One turn of the reaper: gives the kernel what waits, waits for an answer if there is a limit and nothing to deliver
    /// yet, and takes all answers. False if there were none.
    pub(super) fn turn(&self, limit: Option<Duration>, finished: &mut VecDeque<Finished>) -> bool {
        let mut state = self.state.lock();
        self.start_waiting(&mut state);
        self.listen(&mut state);
        let limit = limit.filter(|_| state.early.is_empty() && finished.is_empty());
        state.reaper = if limit.is_some() { Reaper::Waiting } else { Reaper::Awake };
        drop(state);
        self.enter(limit);
        let mut state = self.state.lock();
        state.reaper = Reaper::Awake;
        let before = finished.len();
        finished.extend(state.early.drain(..));
        let mut rung = false;
        // SAFETY: only the reaper's thread calls this, so it is the only completion queue in use.
        for answer in unsafe { self.uring.completion_shared() } {
            match answer.user_data() {
                BELL => {
                    rung = true;
                    state.listening = false;
                }
                CANCEL => {}
                slot => self.settle(&mut state, slot as u32, answer.result(), finished),
            }
        }
        rung || finished.len() > before
    }

    /// Takes in the kernel's answer for a slot; what is left of a request is pushed again.
    fn settle(&self, state: &mut State, slot: u32, answer: i32, finished: &mut VecDeque<Finished>) {
        let flight = state.table.get_mut(slot).expect("the kernel answers for a slot in use");
        let mut verdict = flight.judge(answer);
        if flight.done.is_none() {
            // The caller has had its timeout: only the buffer was still out.
            verdict = Verdict::Finished(Err(IoError::Offline));
        }
        match verdict {
            Verdict::Again => self.push_slot(state, slot),
            Verdict::Later => state.later.push(slot),
            Verdict::Finished(result) => {
                let flight = state.table.retire(slot).expect("checked above");
                if let (Work::Transfer(op), Ok(())) = (flight.work, &result) {
                    self.counters.transferred(op, flight.len as usize);
                }
                finished.extend(flight.finish(result));
            }
        }
    }

    /// Slots that the kernel answered with "later".
    pub(super) fn refused(&self) -> usize {
        self.state.lock().later.len()
    }

    /// Offers the kernel again the first `count` of those, which have had their moment.
    pub(super) fn retry(&self, count: usize) {
        let mut state = self.state.lock();
        for slot in state.later.drain(..count).collect::<Vec<_>>() {
            self.push_slot(&mut state, slot);
        }
    }

    /// Collects the completions of requests past their deadline. Their buffers stay in the table if the kernel has them.
    pub(super) fn expire(&self, now: Instant, finished: &mut VecDeque<Finished>) {
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
            state.reaper = Reaper::Parked;
            return Rest::Park;
        }
        let hurry = !state.later.is_empty() || self.stalled.load(Ordering::Acquire);
        Rest::Wait(if hurry { MOMENT } else { tick })
    }

    /// The reaper is awake, by whatever.
    pub(super) fn unparked(&self) {
        self.state.lock().reaper = Reaper::Awake;
    }

    /// Asks the kernel, with the next turn, to drop everything it still has; returns how much that is.
    pub(super) fn cancel_all(&self) -> usize {
        let state = self.state.lock();
        let stuck = state.table.with_kernel();
        if stuck > 0 {
            let _ = self.push(&opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(CANCEL));
        }
        stuck
    }

    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.state.lock().reaper == Reaper::Parked
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
