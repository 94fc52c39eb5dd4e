//! Threads against the clock. Each thread has one operation under way at a time, so the number of threads is the depth of the queue.

use crate::error::Result;
use crate::stats::Latencies;
use crate::stop::Stop;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What one operation did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Act {
    /// How many of what the row counts.
    pub(crate) count: u64,
    /// Bytes that were moved.
    pub(crate) bytes: u64,
    /// After how long the first byte came, where somebody asks.
    pub(crate) first: Option<Duration>,
}

impl Act {
    /// One operation that moved bytes.
    pub(crate) fn moved(bytes: usize) -> Self {
        Act { count: 1, bytes: bytes as u64, first: None }
    }

    /// One operation without bytes.
    pub(crate) fn done() -> Self {
        Act { count: 1, ..Act::default() }
    }
}

/// What a thread does again and again.
pub(crate) trait Worker: Send {
    /// Gets the next operation ready: no part of its latency, but of the whole time. `false` when there is none.
    fn ready(&mut self) -> Result<bool>;
    /// The operation.
    fn act(&mut self) -> Result<Act>;
    /// What has to be done at the end, such as fsync: part of the whole time.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What all threads of a row did in a round.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Of what the row counts.
    pub count: u64,
    /// Bytes that were moved.
    pub bytes: u64,
    /// From the first operation's begin to the last thread's end.
    pub elapsed: Duration,
    /// How long each operation took.
    pub latencies: Latencies,
    /// After how long each one's first byte came.
    pub first_bytes: Latencies,
}

impl Sample {
    /// How much of something that was counted came in a second.
    pub fn per_second(&self, amount: u64) -> f64 {
        amount as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

struct Part {
    sample: Sample,
    began: Instant,
    ended: Instant,
}

/// Lets every worker work until it has nothing more to do, or until the time is up: each does at least one operation.
pub(crate) fn measure<W: Worker>(workers: Vec<W>, limit: Duration, stop: &Stop) -> Result<Sample> {
    let gate = Barrier::new(workers.len());
    let parts: Vec<Result<Part>> = std::thread::scope(|scope| {
        let drive = |worker| scope.spawn(|| drive(worker, limit, stop, &gate));
        let threads: Vec<_> = workers.into_iter().map(drive).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker panics on nothing but a bug")).collect()
    });
    Ok(together(parts.into_iter().collect::<Result<Vec<Part>>>()?))
}

fn drive(mut worker: impl Worker, limit: Duration, stop: &Stop, gate: &Barrier) -> Result<Part> {
    let mut sample = Sample::default();
    gate.wait();
    let began = Instant::now();
    while worker.ready()? {
        stop.check()?;
        let at = Instant::now();
        let act = worker.act()?;
        let now = Instant::now();
        sample.latencies.record(now - at);
        if let Some(first) = act.first {
            sample.first_bytes.record(first);
        }
        sample.count += act.count;
        sample.bytes += act.bytes;
        if now - began >= limit {
            break;
        }
    }
    worker.finish()?;
    Ok(Part { sample, began, ended: Instant::now() })
}

fn together(parts: Vec<Part>) -> Sample {
    let began = parts.iter().map(|part| part.began).min();
    let ended = parts.iter().map(|part| part.ended).max();
    let elapsed = began.zip(ended).map_or(Duration::ZERO, |(began, ended)| ended - began);
    parts.into_iter().fold(Sample { elapsed, ..Sample::default() }, |mut all, Part { sample, .. }| {
        all.count += sample.count;
        all.bytes += sample.bytes;
        all.latencies.merge(&sample.latencies);
        all.first_bytes.merge(&sample.first_bytes);
        all
    })
}

/// Does something for each of many, on several threads and off any clock; the first failure is returned.
pub(crate) fn for_each<T: Sync>(items: &[T], threads: usize, stop: &Stop, work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let share = items.len().div_ceil(threads.max(1)).max(1);
    let all = |items: &[T]| items.iter().try_for_each(|item| stop.check().and_then(|()| work(item)));
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.chunks(share).map(|items| scope.spawn(|| all(items))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a worker panics on nothing but a bug"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Counting<'a> {
        left: u64,
        finished: &'a AtomicU64,
    }

    impl Worker for Counting<'_> {
        fn ready(&mut self) -> Result<bool> {
            Ok(self.left > 0)
        }

        fn act(&mut self) -> Result<Act> {
            self.left -= 1;
            Ok(Act { count: 2, bytes: 10, first: Some(Duration::from_micros(1)) })
        }

        fn finish(&mut self) -> Result<()> {
            self.finished.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    fn run(left: u64, limit: Duration, stop: &Stop) -> (Result<Sample>, u64) {
        let finished = AtomicU64::new(0);
        let workers = (0..3).map(|_| Counting { left, finished: &finished }).collect();
        (measure(workers, limit, stop), finished.into_inner())
    }

    #[test]
    fn what_all_threads_did_is_added_up() {
        let (sample, finished) = run(5, Duration::from_secs(3600), &Stop::default());
        let sample = sample.expect("measured");
        assert_eq!((sample.count, sample.bytes, finished), (30, 150, 3));
        assert_eq!(sample.latencies.percentiles().map(|p| p.count), Some(15));
        assert_eq!(sample.first_bytes.percentiles().map(|p| p.count), Some(15));
        assert!(sample.per_second(sample.count) > 0.0);
    }

    #[test]
    fn at_least_one_operation_is_done_however_short_the_time() {
        let (sample, _) = run(u64::MAX, Duration::ZERO, &Stop::default());
        assert_eq!(sample.expect("measured").count, 6);
    }

    #[test]
    fn the_wish_to_stop_ends_it() {
        let stop = Stop::default();
        stop.ask();
        assert!(matches!(run(u64::MAX, Duration::from_secs(3600), &stop).0, Err(Error::Interrupted)));
        assert!(matches!(for_each(&[1], 1, &stop, |_| Ok(())), Err(Error::Interrupted)));
    }

    #[test]
    fn each_of_many_is_done_once() {
        let sum = AtomicU64::new(0);
        let items: Vec<u64> = (1..=100).collect();
        for_each(&items, 3, &Stop::default(), |n| {
            sum.fetch_add(*n, Ordering::Relaxed);
            Ok(())
        })
        .expect("nothing fails");
        assert_eq!(sum.into_inner(), 5050);
    }
}
