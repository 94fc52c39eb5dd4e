//! Stopping: by the caller's wish, or because one thread failed and the others are not to wait for it.

use super::error::MlError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long anybody waits before asking whether the run is to end.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Asked before every file and every step.
#[derive(Debug)]
pub(super) struct Halt<'a> {
    cancel: &'a AtomicBool,
    failed: AtomicBool,
}

impl<'a> Halt<'a> {
    pub(super) fn new(cancel: &'a AtomicBool) -> Self {
        Halt { cancel, failed: AtomicBool::new(false) }
    }

    /// An error if the run is to end.
    pub(super) fn check(&self) -> Result<(), MlError> {
        let is_over = self.cancel.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed);
        if is_over { Err(MlError::Cancelled) } else { Ok(()) }
    }

    /// What an accelerator does with a batch: nothing, for as long as a real one would take.
    pub(super) fn compute(&self, time: Duration) -> Result<(), MlError> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                // A step of MLPerf is slept in one go: waking up in between would lengthen it.
                left if left < 10 * ASK_EVERY => thread::sleep(left),
                _ => thread::sleep(ASK_EVERY),
            }
        }
    }

    /// Runs `work` for each number below `count` in a thread of its own. The first failure ends the others, and is what is returned.
    pub(super) fn in_parallel<T: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<T, MlError> + Sync,
    ) -> Result<Vec<T>, MlError> {
        let guarded = |number| work(number).inspect_err(|_| self.failed.store(true, Ordering::Relaxed));
        let ended: Vec<Result<T, MlError>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || guarded(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread of the run does not panic")).collect()
        });
        let (done, failed): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
        let cause = failed.into_iter().filter_map(Result::err).min_by_key(|error| matches!(error, MlError::Cancelled));
        cause.map_or_else(|| Ok(done.into_iter().filter_map(Result::ok).collect()), Err)
    }
}

/// Where accelerators wait for each other after each step, as they would to exchange gradients. One that has no more steps leaves.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<GateState>,
    moved: Condvar,
}

#[derive(Debug)]
struct GateState {
    members: usize,
    waiting: usize,
    generation: u64,
}

impl GateState {
    fn open_if_complete(&mut self) -> bool {
        let is_complete = self.waiting >= self.members;
        if is_complete {
            self.waiting = 0;
            self.generation += 1;
        }
        is_complete
    }
}

impl Gate {
    pub(super) fn new(members: usize) -> Self {
        Gate { state: Mutex::new(GateState { members, waiting: 0, generation: 0 }), moved: Condvar::new() }
    }

    /// A member's place; it leaves when this is dropped.
    pub(super) fn seat(&self) -> Seat<'_> {
        Seat(self)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to wait at a [`Gate`].
#[derive(Debug)]
pub(super) struct Seat<'a>(&'a Gate);

impl Seat<'_> {
    /// Returns when every member waits.
    pub(super) fn wait(&self, halt: &Halt<'_>) -> Result<(), MlError> {
        let mut state = self.0.lock();
        let mine = state.generation;
        state.waiting += 1;
        if state.open_if_complete() {
            self.0.moved.notify_all();
            return Ok(());
        }
        while state.generation == mine {
            halt.check()?;
            state = self.0.moved.wait_timeout(state, ASK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.members -= 1;
        if state.waiting > 0 && state.open_if_complete() {
            self.0.moved.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn the_failure_is_returned_and_not_that_others_were_stopped() {
        let cancel = AtomicBool::new(false);
        let halt = Halt::new(&cancel);
        let result = halt.in_parallel(3, |number| match number {
            1 => Err(MlError::Setting { name: "a", value: "b".into(), wanted: "c" }),
            _ => loop {
                halt.check()?;
                thread::yield_now();
            },
        });
        assert!(matches!(result, Err::<Vec<()>, _>(MlError::Setting { .. })));
    }

    #[test]
    fn members_of_a_gate_stay_in_step_and_one_that_leaves_holds_nobody_up() {
        let cancel = AtomicBool::new(false);
        let (halt, gate, steps) = (Halt::new(&cancel), Gate::new(3), AtomicUsize::new(0));
        let work = |number: usize| {
            let seat = gate.seat();
            for step in 0..=number * 5 {
                // Nobody is a step ahead of somebody who has yet to take this one.
                assert!(steps.load(Ordering::SeqCst) <= 3 * (step + 1));
                steps.fetch_add(1, Ordering::SeqCst);
                seat.wait(&halt)?;
            }
            Ok(())
        };
        halt.in_parallel(3, work).expect("all end");
        assert_eq!(steps.load(Ordering::SeqCst), 1 + 6 + 11);
    }

    #[test]
    fn somebody_who_waits_hears_of_the_end() {
        let cancel = AtomicBool::new(true);
        let (halt, gate) = (Halt::new(&cancel), Gate::new(2));
        assert!(matches!(gate.seat().wait(&halt), Err(MlError::Cancelled)));
        assert!(matches!(halt.compute(Duration::from_secs(3600)), Err(MlError::Cancelled)));
    }
}
