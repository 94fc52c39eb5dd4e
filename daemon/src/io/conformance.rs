//! What every device does alike: one suite, passed by the ring, the memory device and a faulty device without faults.

use super::*;
use crate::units::SECTOR;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

pub(super) const LEN: u64 = 4 << 20;

/// Runs the whole suite, each part on a fresh device of [`LEN`] bytes.
pub(super) fn run(make: impl Fn() -> (Arc<dyn Device>, BufferPool)) {
    let suite: [fn(Arc<dyn Device>, BufferPool); 11] = [
        reads_give_what_was_written,
        memory_in_several_places_is_written_as_one,
        memory_that_is_not_whole_sectors_is_refused,
        fresh_devices_read_as_zeros,
        ranges_are_checked,
        batches_complete_each_request_once,
        threads_submit_at_once,
        buffers_come_back_whole,
        dropping_waits_for_what_is_under_way,
        the_last_reference_may_go_in_a_completion,
        space_is_reserved_discarded_and_counted,
    ];
    for part in suite {
        let (device, pool) = make();
        assert_eq!(device.len(), LEN);
        part(device, pool);
    }
}

fn marked(pool: &BufferPool, len: usize, mark: u8) -> IoBuf {
    let mut buf = pool.alloc(len);
    buf.fill(mark);
    buf
}

fn request(op: IoOp, offset: u64, buf: IoBuf) -> (IoRequest, Receiver<IoOutcome>) {
    let (tx, rx) = channel();
    let done: Completion = Box::new(move |outcome| {
        let _ = tx.send(outcome);
    });
    (IoRequest::new(op, offset, buf, done), rx)
}

fn outcome_of(device: &dyn Device, op: IoOp, offset: u64, buf: IoBuf) -> IoOutcome {
    let (request, answer) = request(op, offset, buf);
    device.submit(vec![request]);
    answer.recv().expect("a completion runs")
}

fn pieces(pool: &BufferPool) -> Vec<Bytes> {
    let two = Bytes::from_owner(marked(pool, 3 * SECTOR, 2));
    vec![two.slice(..SECTOR), Bytes::from_owner(marked(pool, SECTOR, 3)), two.slice(SECTOR..2 * SECTOR), two.slice(2 * SECTOR..)]
}

fn memory_in_several_places_is_written_as_one(device: Arc<dyn Device>, pool: BufferPool) {
    for (op, offset) in [(IoOp::Write, 8192), (IoOp::WriteThrough, 1 << 20)] {
        let (mut request, answer) = request(op, offset, marked(&pool, 2 * SECTOR, 1));
        request.behind = pieces(&pool);
        assert_eq!(request.bytes(), 6 * SECTOR);
        device.submit(vec![request]);
        let outcome = answer.recv().expect("a completion runs");
        outcome.result.unwrap();
        assert_eq!(outcome.buf.map(|buf| buf.len()), Some(2 * SECTOR), "the buffer comes back as it was");
        let read = read_blocking(&*device, &pool, offset, 7 * SECTOR).unwrap();
        let marks: Vec<u8> = read.chunks(SECTOR).map(|sector| sector[SECTOR - 1]).collect();
        assert_eq!(marks, [1, 1, 2, 3, 2, 2, 0], "{op:?}");
    }
    assert_eq!(device.counters().written_bytes, 12 * SECTOR as u64);
    assert_eq!(pool.stats().arena_in_use_bytes, 0, "nothing is held any more");
}

fn memory_that_is_not_whole_sectors_is_refused(device: Arc<dyn Device>, pool: BufferPool) {
    let whole = Bytes::from_owner(marked(&pool, 2 * SECTOR, 2));
    for piece in [whole.slice(..100), whole.slice(1..SECTOR + 1)] {
        let (mut request, answer) = request(IoOp::Write, 0, marked(&pool, SECTOR, 1));
        request.behind = vec![piece];
        device.submit(vec![request]);
        let error = answer.recv().expect("a completion runs").result.unwrap_err();
        assert!(matches!(error, IoError::Os { errno: libc::EINVAL, .. }), "{error}");
    }
    let (mut request, answer) = request(IoOp::Read, 0, pool.alloc(SECTOR));
    request.behind = vec![whole];
    device.submit(vec![request]);
    assert!(answer.recv().expect("a completion runs").result.is_err(), "a read has nowhere else to go");
    assert!(read_blocking(&*device, &pool, 0, SECTOR).unwrap().iter().all(|byte| *byte == 0), "nothing was written");
}

fn reads_give_what_was_written(device: Arc<dyn Device>, pool: BufferPool) {
    for (offset, len, mark) in [(0, SECTOR, 1), (8192, 128 << 10, 2), (1 << 20, 1 << 20, 3), (LEN - 4096, SECTOR, 4)] {
        write_blocking(&*device, offset, marked(&pool, len, mark)).unwrap();
        let read = read_blocking(&*device, &pool, offset, len).unwrap();
        assert!(read.len() == len && read.iter().all(|byte| *byte == mark), "{len} bytes at {offset}");
        outcome_of(&*device, IoOp::WriteThrough, offset, marked(&pool, len, mark + 100)).result.unwrap();
        let read = read_blocking(&*device, &pool, offset, len).unwrap();
        assert!(read.iter().all(|byte| *byte == mark + 100), "{len} bytes at {offset}, written through");
    }
}

fn fresh_devices_read_as_zeros(device: Arc<dyn Device>, pool: BufferPool) {
    let outcome = outcome_of(&*device, IoOp::Read, LEN / 2, marked(&pool, 64 << 10, 0xff));
    outcome.result.unwrap();
    assert!(outcome.buf.unwrap().iter().all(|byte| *byte == 0));
}

fn ranges_are_checked(device: Arc<dyn Device>, pool: BufferPool) {
    let ask = |op, offset, len| {
        let outcome = outcome_of(&*device, op, offset, pool.alloc(len));
        assert_eq!(outcome.buf.expect("a refused buffer comes back").len(), len);
        outcome.result.unwrap_err()
    };
    assert!(matches!(ask(IoOp::Read, 512, SECTOR), IoError::Os { errno: libc::EINVAL, .. }));
    assert!(matches!(ask(IoOp::Write, 1, SECTOR), IoError::Os { errno: libc::EINVAL, .. }));
    assert!(matches!(ask(IoOp::Read, LEN - 4096, 2 * SECTOR), IoError::UnexpectedEnd { .. }));
    assert!(matches!(ask(IoOp::Read, LEN, SECTOR), IoError::UnexpectedEnd { .. }));
    assert!(matches!(ask(IoOp::Read, u64::MAX - 4095, 2 * SECTOR), IoError::UnexpectedEnd { .. }));
    assert!(matches!(ask(IoOp::Write, LEN, SECTOR), IoError::Os { errno: libc::ENOSPC, .. }));
}

fn batches_complete_each_request_once(device: Arc<dyn Device>, pool: BufferPool) {
    let sectors = 200u64;
    // A stride that is prime to the number of sectors visits each of them once, out of order.
    let shuffled = |i: u64| (i * 77) % sectors;
    let (writes, answers): (Vec<_>, Vec<_>) =
        (0..sectors).map(|i| request(IoOp::Write, shuffled(i) * 4096, marked(&pool, SECTOR, shuffled(i) as u8))).unzip();
    device.submit(writes);
    answers.iter().for_each(|answer| answer.recv().unwrap().result.unwrap());
    let (mixed, answers): (Vec<_>, Vec<_>) = (0..sectors)
        .map(|i| match i % 3 {
            0 => request(IoOp::Write, (sectors + i) * 4096, marked(&pool, 2 * SECTOR, 9)),
            _ => request(IoOp::Read, i * 4096, pool.alloc(SECTOR)),
        })
        .unzip();
    device.submit(mixed);
    for (i, answer) in (0..sectors).zip(answers) {
        let outcome = answer.recv().unwrap();
        outcome.result.unwrap();
        assert!(i % 3 == 0 || outcome.buf.unwrap().iter().all(|byte| *byte == i as u8), "sector {i}");
        assert!(answer.recv().is_err(), "a completion runs once");
    }
}

fn threads_submit_at_once(device: Arc<dyn Device>, pool: BufferPool) {
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (device, pool) = (&device, &pool);
            scope.spawn(move || {
                for round in 0..50u64 {
                    let offset = (thread * 64 + round) * 4096;
                    let mark = (thread * 50 + round) as u8;
                    write_blocking(&**device, offset, marked(pool, SECTOR, mark)).unwrap();
                    let read = read_blocking(&**device, pool, offset, SECTOR).unwrap();
                    assert!(read.iter().all(|byte| *byte == mark));
                }
            });
        }
    });
}

fn buffers_come_back_whole(device: Arc<dyn Device>, pool: BufferPool) {
    let mut front = pool.alloc(64 << 10);
    let back = front.split_off(16 << 10);
    let (front, front_answer) = request(IoOp::Read, 0, front);
    let (back, back_answer) = request(IoOp::Read, 1 << 20, back);
    device.submit(vec![front, back]);
    let mut front = front_answer.recv().unwrap().buf.unwrap();
    front.unsplit(back_answer.recv().unwrap().buf.unwrap());
    assert_eq!(front.len(), 64 << 10);
    drop(front);
    assert_eq!(pool.stats().arena_in_use_bytes, 0);
}

fn dropping_waits_for_what_is_under_way(device: Arc<dyn Device>, pool: BufferPool) {
    let (requests, answers): (Vec<_>, Vec<_>) = (0..64).map(|i| request(IoOp::Read, i * 4096, pool.alloc(32 << 10))).unzip();
    device.submit(requests);
    drop(device);
    for answer in answers {
        drop(answer.recv().expect("a completion runs before the device is gone"));
    }
    assert_eq!(pool.stats().arena_in_use_bytes + pool.stats().heap_in_use_bytes, 0);
}

fn the_last_reference_may_go_in_a_completion(device: Arc<dyn Device>, pool: BufferPool) {
    let (tx, rx) = channel();
    let (kept, hold) = (device.clone(), channel::<()>());
    let done: Completion = Box::new(move |outcome| {
        let _ = hold.1.recv();
        drop(kept);
        tx.send(outcome.result.is_ok()).unwrap();
    });
    device.submit(vec![IoRequest::new(IoOp::Read, 0, pool.alloc(SECTOR), done)]);
    drop(device);
    drop(hold.0);
    assert_eq!(rx.recv(), Ok(true));
}

fn space_is_reserved_discarded_and_counted(device: Arc<dyn Device>, pool: BufferPool) {
    device.allocate(0, 1 << 20).unwrap();
    write_blocking(&*device, 0, marked(&pool, 64 << 10, 1)).unwrap();
    device.flush().unwrap();
    device.discard(4096, 32 << 10).unwrap();
    let read = read_blocking(&*device, &pool, 0, 64 << 10).unwrap();
    assert_eq!((read[0], read[4096], read[36863], read[36864]), (1, 0, 0, 1));
    let expected = DeviceCounters { reads: 1, writes: 1, read_bytes: 64 << 10, written_bytes: 64 << 10, in_flight: 0 };
    assert_eq!(device.counters(), expected);
}

#[test]
fn the_memory_device_conforms() {
    run(|| (Arc::new(MemoryDevice::new(LEN)), BufferPool::new(8 << 20)));
}

#[test]
fn a_faulty_device_without_faults_conforms() {
    run(|| (Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(LEN)))), BufferPool::new(8 << 20)));
}

#[test]
fn a_throttled_device_conforms() {
    run(|| (Arc::new(ThrottledDevice::new(Arc::new(MemoryDevice::new(LEN)), 1 << 40)), BufferPool::new(8 << 20)));
}

#[test]
fn the_ring_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let made = std::cell::Cell::new(0);
    run(|| {
        let pool = BufferPool::new(8 << 20);
        let path = dir.path().join(made.replace(made.get() + 1).to_string());
        (Arc::new(UringDevice::open(&path, LEN, &pool, UringOptions::default()).unwrap()), pool)
    });
}

#[test]
fn the_ring_conforms_with_few_slots_and_no_registered_memory() {
    let dir = tempfile::tempdir().unwrap();
    let made = std::cell::Cell::new(0);
    run(|| {
        let path = dir.path().join(made.replace(made.get() + 1).to_string());
        let options = UringOptions { queue_depth: 2, ..UringOptions::default() };
        (Arc::new(UringDevice::open(&path, LEN, &BufferPool::new(0), options).unwrap()), BufferPool::new(8 << 20))
    });
}
