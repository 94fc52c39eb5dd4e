use super::*;
use crate::io::{BufferPool, IoOp, read_blocking, write_blocking};
use crate::units::SECTOR;
use std::io::Write;
use std::sync::mpsc::{Receiver, channel};

/// A FIFO as a device: reads of it complete when the test writes to it, and not before.
struct Pipe {
    device: UringDevice,
    end: File,
    pool: BufferPool,
    _dir: tempfile::TempDir,
}

fn pipe(deadline_ms: u64, queue_depth: u32) -> Pipe {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let end = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let read_end = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let pool = BufferPool::new(1 << 20);
    let options = UringOptions { queue_depth, deadline: Duration::from_millis(deadline_ms) };
    let device = UringDevice::over(read_end, "fifo".into(), 1 << 30, &pool, options).unwrap();
    Pipe { device, end, pool, _dir: dir }
}

impl Pipe {
    fn read(&self, len: usize) -> Receiver<IoOutcome> {
        let (tx, rx) = channel();
        let done: Completion = Box::new(move |outcome| {
            let _ = tx.send(outcome);
        });
        self.device.submit(vec![IoRequest::new(IoOp::Read, 0, self.pool.alloc(len), done)]);
        rx
    }
}

fn until_all_is_back(pool: &BufferPool) {
    while pool.stats().arena_in_use_bytes > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_hung_read_times_out_and_its_buffer_stays_with_the_kernel_until_it_answers() {
    let mut pipe = pipe(40, 8);
    let outcome = pipe.read(SECTOR).recv().unwrap();
    assert!(matches!(outcome.result, Err(IoError::Timeout { op: "read", .. })));
    assert!(outcome.buf.is_none());
    assert_eq!(pipe.pool.stats().arena_in_use_bytes, SECTOR as u64, "the kernel may yet write to it");
    pipe.end.write_all(&[1; SECTOR]).unwrap();
    until_all_is_back(&pipe.pool);
}

#[test]
fn requests_that_wait_behind_a_hung_one_time_out_with_their_buffers() {
    let pipe = pipe(40, 1);
    let first = pipe.read(SECTOR);
    let second = pipe.read(SECTOR);
    assert!(first.recv().unwrap().buf.is_none());
    let outcome = second.recv().unwrap();
    assert!(matches!(outcome.result, Err(IoError::Timeout { .. })));
    assert!(outcome.buf.is_some());
}

#[test]
fn a_short_transfer_is_continued() {
    let mut pipe = pipe(10_000, 8);
    let answer = pipe.read(3 * SECTOR);
    for mark in 1..=3 {
        pipe.end.write_all(&[mark; SECTOR]).unwrap();
        // The pipe must be drained before the next part, or the read would not be short.
        while mark < 3 && rustix::io::ioctl_fionread(&pipe.end).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
    let outcome = answer.recv().unwrap();
    outcome.result.unwrap();
    let marks: Vec<u8> = outcome.buf.unwrap().chunks(SECTOR).map(|sector| sector[SECTOR - 1]).collect();
    assert_eq!(marks, [1, 2, 3]);
}

#[test]
fn closing_with_a_hung_request_ends_and_frees_its_buffer() {
    let pipe = pipe(40, 8);
    let answer = pipe.read(SECTOR);
    let pool = pipe.pool.clone();
    drop(pipe);
    assert!(matches!(answer.recv().unwrap().result, Err(IoError::Timeout { .. })));
    assert_eq!(pool.stats().arena_in_use_bytes, 0, "the kernel could cancel it");
}

#[test]
fn a_caller_that_goes_away_changes_nothing() {
    let mut pipe = pipe(10_000, 8);
    drop(pipe.read(SECTOR));
    let second = pipe.read(SECTOR);
    pipe.end.write_all(&[5; 2 * SECTOR]).unwrap();
    assert!(second.recv().unwrap().result.is_ok());
    until_all_is_back(&pipe.pool);
}

#[test]
fn the_ring_sleeps_when_idle_and_wakes_for_the_next_request() {
    let mut pipe = pipe(20, 8);
    for mark in [1, 2] {
        pipe.end.write_all(&[mark; SECTOR]).unwrap();
        assert_eq!(pipe.read(SECTOR).recv().unwrap().buf.unwrap()[0], mark);
        while !pipe.device.ring.is_parked() {
            std::thread::yield_now();
        }
    }
}

fn open(dir: &tempfile::TempDir, len: u64, queue_depth: u32) -> (UringDevice, BufferPool) {
    let pool = BufferPool::new(4 << 20);
    let options = UringOptions { queue_depth, ..UringOptions::default() };
    (UringDevice::open(&dir.path().join("device"), len, &pool, options).unwrap(), pool)
}

#[test]
fn a_file_shorter_than_the_device_is_an_unexpected_end() {
    let dir = tempfile::tempdir().unwrap();
    let (device, pool) = open(&dir, 1 << 20, 8);
    device.file().set_len(10_000).unwrap();
    assert!(read_blocking(&device, &pool, 0, 2 * SECTOR).is_ok());
    for (offset, len) in [(8192, SECTOR), (0, 64 << 10), (512 << 10, SECTOR)] {
        let error = read_blocking(&device, &pool, offset, len).unwrap_err();
        assert!(matches!(error, IoError::UnexpectedEnd { .. }), "{len} at {offset}: {error}");
    }
}

#[test]
fn more_requests_than_slots_all_complete() {
    let dir = tempfile::tempdir().unwrap();
    let (device, pool) = open(&dir, 16 << 20, 4);
    write_blocking(&device, 0, pool.alloc(1 << 20)).unwrap();
    let (tx, rx) = channel();
    let batch = (0..2000u64).map(|i| {
        let tx = tx.clone();
        let done: Completion = Box::new(move |outcome| tx.send(outcome.result.is_ok()).unwrap());
        IoRequest::new(IoOp::Read, i * 4096, pool.alloc(SECTOR), done)
    });
    device.submit(batch.collect());
    drop(tx);
    assert_eq!(rx.iter().filter(|ok| *ok).count(), 2000);
    assert_eq!(device.counters().reads, 2000);
}

#[test]
fn entries_that_the_kernel_refuses_for_the_moment_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (device, pool) = open(&dir, 1 << 20, 8);
    for refusals in [1, 2, 5] {
        device.ring.refusals.store(refusals, Ordering::SeqCst);
        assert!(read_blocking(&device, &pool, 0, SECTOR).is_ok());
        assert_eq!(device.ring.refusals.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_request_may_be_larger_than_the_arena() {
    let dir = tempfile::tempdir().unwrap();
    let (device, pool) = open(&dir, 16 << 20, 8);
    let mut buf = pool.alloc(12 << 20);
    buf.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / SECTOR) as u8);
    write_blocking(&device, 4096, buf).unwrap();
    let read = read_blocking(&device, &pool, 4096, 12 << 20).unwrap();
    assert!(read.iter().enumerate().all(|(at, byte)| *byte == (at / SECTOR) as u8));
}

#[test]
fn requests_outlive_the_thread_that_made_them() {
    let dir = tempfile::tempdir().unwrap();
    let (device, pool) = open(&dir, 16 << 20, 8);
    let device = Arc::new(device);
    let (tx, rx) = channel();
    for i in 0..50u64 {
        let (tx, device, buf) = (tx.clone(), device.clone(), pool.alloc(64 << 10));
        // Writes that extend into holes are queued for a worker of the submitting thread, which is gone at once.
        let submit = move || {
            let done: Completion = Box::new(move |outcome| tx.send(outcome.result).unwrap());
            device.submit(vec![IoRequest::new(IoOp::Write, i * (64 << 10), buf, done)]);
        };
        std::thread::spawn(submit).join().unwrap();
    }
    drop(tx);
    assert_eq!(rx.iter().map(|result| result.unwrap()).count(), 50);
}

#[test]
fn a_completion_that_panics_does_not_stop_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let (device, pool) = open(&dir, 1 << 20, 8);
    let done: Completion = Box::new(|_| panic!("a test's panic"));
    device.submit(vec![IoRequest::new(IoOp::Read, 0, pool.alloc(SECTOR), done)]);
    assert!(read_blocking(&device, &pool, 0, SECTOR).is_ok());
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/device");
    let error = UringDevice::open(&path, 4096, &BufferPool::new(0), UringOptions::default()).err().expect("no such directory");
    assert!(error.to_string().contains("missing/device"), "{error}");
}

#[test]
fn an_existing_file_keeps_its_bytes_and_its_length() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("device"), vec![7; 16384]).unwrap();
    let (device, pool) = open(&dir, 8192, 8);
    assert_eq!(read_blocking(&device, &pool, 4096, SECTOR).unwrap()[0], 7);
    assert_eq!((device.len(), device.file().metadata().unwrap().len()), (8192, 16384));
}
