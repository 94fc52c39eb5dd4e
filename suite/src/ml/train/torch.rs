//! PyTorch's `DataLoader` with workers: each makes whole batches by itself, some ahead, and batches are taken from them in turn.
//!
//! A worker begins a batch only when it has a ticket. It has `ahead` of them (`prefetch_factor`), and gets one back for each batch that is
//! taken, so that no more than that many are being made or wait.

use super::batches::{Batch, Read};
use crate::ml::error::MlError;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

/// Where a worker's batches come from; it reads them when asked.
pub(super) trait Source: Send {
    /// Reads the next of this worker's batches; none when there are no more.
    fn next(&mut self) -> Result<Option<Batch>, MlError>;
}

/// The workers of one accelerator.
#[derive(Debug)]
pub(super) struct Workers {
    workers: Vec<Worker>,
    turn: usize,
}

#[derive(Debug)]
struct Worker {
    tickets: Sender<()>,
    batches: Receiver<Read>,
}

/// Starts a worker for each source.
pub(super) fn start<'scope, S: Source + 'scope>(scope: &'scope Scope<'scope, '_>, sources: Vec<S>, ahead: usize) -> Workers {
    let workers = sources.into_iter().map(|source| start_one(scope, source, ahead)).collect();
    Workers { workers, turn: 0 }
}

fn start_one<'scope, S: Source + 'scope>(scope: &'scope Scope<'scope, '_>, mut source: S, ahead: usize) -> Worker {
    let (tickets, tickets_end) = channel();
    let (batches_end, batches) = channel();
    for _ in 0..ahead {
        // Its other end is in the next statement.
        let _ = tickets.send(());
    }
    scope.spawn(move || {
        while tickets_end.recv().is_ok() {
            let Some(read) = source.next().transpose() else { return };
            if batches_end.send(read).is_err() {
                return;
            }
        }
    });
    Worker { tickets, batches }
}

impl Workers {
    /// The next batch, of the worker whose turn it is. Who has no more is not asked again.
    pub(super) fn next(&mut self) -> Result<Option<Batch>, MlError> {
        while !self.workers.is_empty() {
            self.turn %= self.workers.len();
            let worker = &self.workers[self.turn];
            match worker.batches.recv() {
                Err(_) => drop(self.workers.remove(self.turn)),
                Ok(read) => {
                    // A worker that has ended in the meantime needs none.
                    let _ = worker.tickets.send(());
                    self.turn += 1;
                    return read.map(Some);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    /// Gives the numbers it has, as sizes.
    struct Numbers<'a> {
        left: Vec<u64>,
        begun: &'a AtomicU64,
    }

    impl Source for Numbers<'_> {
        fn next(&mut self) -> Result<Option<Batch>, MlError> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            Ok(self.left.pop().map(|bytes| Batch { samples: 1, bytes }))
        }
    }

    #[test]
    fn batches_come_from_workers_in_turn_until_all_have_ended() {
        let begun = AtomicU64::new(0);
        let sources = Vec::from([vec![6, 3, 0], vec![1], vec![7, 5, 2]].map(|left| Numbers { left, begun: &begun }));
        let taken: Vec<u64> = thread::scope(|scope| {
            let mut workers = start(scope, sources, 1);
            std::iter::from_fn(|| workers.next().expect("no failure")).map(|batch| batch.bytes).collect()
        });
        assert_eq!(taken, [0, 1, 2, 3, 5, 6, 7]);
    }

    #[test]
    fn no_more_is_read_ahead_than_there_are_tickets() {
        let begun = AtomicU64::new(0);
        let sources: Vec<_> = (0..2).map(|_| Numbers { left: vec![0; 100], begun: &begun }).collect();
        thread::scope(|scope| {
            let mut workers = start(scope, sources, 3);
            for taken in 1..=10 {
                workers.next().expect("no failure").expect("a batch");
                assert!(begun.load(Ordering::SeqCst) <= 2 * 3 + taken);
            }
        });
    }

    #[test]
    fn a_failure_is_handed_on() {
        struct Fails;
        impl Source for Fails {
            fn next(&mut self) -> Result<Option<Batch>, MlError> {
                Err(MlError::Cancelled)
            }
        }
        assert!(matches!(thread::scope(|scope| start(scope, vec![Fails], 1).next()), Err(MlError::Cancelled)));
    }
}
