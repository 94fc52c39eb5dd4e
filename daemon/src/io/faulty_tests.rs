use super::*;
use crate::io::{BufferPool, MemoryDevice, read_blocking, write_blocking};
use crate::units::SECTOR;
use std::sync::mpsc::channel;

const ANYWHERE: Range<u64> = 0..u64::MAX;

fn device() -> (FaultyDevice, BufferPool) {
    (FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))), BufferPool::new(1 << 20))
}

fn write(device: &dyn Device, pool: &BufferPool, offset: u64, sectors: usize, mark: u8) -> Result<IoBuf, IoError> {
    let mut buf = pool.alloc(sectors * SECTOR);
    buf.fill(mark);
    write_blocking(device, offset, buf)
}

#[test]
fn only_the_nth_matching_request_fails() {
    let (device, pool) = device();
    device.script(FaultOp::Read, 4096..8192, When::Nth(2), Fault::Errno(libc::EIO));
    let read = |offset| read_blocking(&device, &pool, offset, SECTOR).is_ok();
    assert_eq!([read(0), read(4096), read(8192), read(4096), read(4096)], [true, true, true, false, true]);
    assert_eq!(device.struck(), 1);
}

#[test]
fn a_short_write_is_torn_and_says_so() {
    let (device, pool) = device();
    device.script(FaultOp::Write, ANYWHERE, When::Next, Fault::Short(SECTOR));
    let error = write(&device, &pool, 0, 2, 7).unwrap_err();
    assert!(matches!(error, IoError::Os { errno: libc::EIO, .. }), "{error}");
    let left = read_blocking(&device, &pool, 0, 2 * SECTOR).unwrap();
    assert_eq!((left[0], left[SECTOR]), (7, 0));
}

#[test]
fn memory_in_several_places_is_spoilt_as_if_it_were_in_one() {
    let (device, pool) = device();
    let write = |fault| {
        let marked = |mark| {
            let mut buf = pool.alloc(2 * SECTOR);
            buf.fill(mark);
            buf
        };
        let (tx, rx) = channel();
        let done: Completion = Box::new(move |outcome| tx.send(outcome).unwrap());
        let behind = vec![bytes::Bytes::from_owner(marked(4))];
        device.script(FaultOp::Write, ANYWHERE, When::Next, fault);
        device.submit(vec![IoRequest { behind, ..IoRequest::new(IoOp::Write, 0, marked(2), done) }]);
        let outcome = rx.recv().unwrap();
        assert_eq!(outcome.buf.map(|buf| buf.len()), Some(2 * SECTOR));
        outcome.result
    };
    assert!(write(Fault::Short(3 * SECTOR)).is_err());
    let read = |at: usize| read_blocking(&device, &pool, 0, 4 * SECTOR).unwrap()[at];
    assert_eq!((read(2 * SECTOR), read(3 * SECTOR)), (4, 0), "torn behind the first piece");
    write(Fault::FlipBit { byte: 3 * SECTOR + 5, bit: 0 }).unwrap();
    assert_eq!((read(3 * SECTOR + 4), read(3 * SECTOR + 5)), (4, 5));
}

#[test]
fn a_short_read_meets_the_end_and_gives_the_whole_buffer_back() {
    let (device, pool) = device();
    device.script(FaultOp::Read, ANYWHERE, When::Next, Fault::Short(SECTOR));
    let (tx, rx) = channel();
    let done: Completion = Box::new(move |outcome| tx.send(outcome).unwrap());
    device.submit(vec![IoRequest::new(IoOp::Read, 0, pool.alloc(2 * SECTOR), done)]);
    let outcome = rx.recv().unwrap();
    assert!(matches!(outcome.result, Err(IoError::UnexpectedEnd { offset: 0, len: 8192 })));
    assert_eq!(outcome.buf.map(|buf| buf.len()), Some(2 * SECTOR));
}

#[test]
fn a_flipped_bit_in_a_read_leaves_the_device_right() {
    let (device, pool) = device();
    write(&device, &pool, 0, 1, 0).unwrap();
    device.script(FaultOp::Read, ANYWHERE, When::Next, Fault::FlipBit { byte: 100, bit: 3 });
    assert_eq!(read_blocking(&device, &pool, 0, SECTOR).unwrap()[100], 8);
    assert_eq!(read_blocking(&device, &pool, 0, SECTOR).unwrap()[100], 0);
}

#[test]
fn a_flipped_bit_in_a_write_is_on_the_device_but_not_in_the_buffer() {
    let (device, pool) = device();
    device.script(FaultOp::Write, ANYWHERE, When::Next, Fault::FlipBit { byte: 5, bit: 0 });
    assert_eq!(write(&device, &pool, 0, 1, 2).unwrap()[5], 2);
    assert_eq!(read_blocking(&device, &pool, 0, SECTOR).unwrap()[5], 3);
}

#[test]
fn a_hung_request_is_carried_out_when_released() {
    let (device, pool) = device();
    device.script(FaultOp::Write, ANYWHERE, When::Next, Fault::Hang);
    let (tx, rx) = channel();
    let mut buf = pool.alloc(SECTOR);
    buf.fill(4);
    let done: Completion = Box::new(move |outcome| tx.send(outcome.result.is_ok()).unwrap());
    device.submit(vec![IoRequest::new(IoOp::Write, 0, buf, done)]);
    assert_eq!(read_blocking(&device, &pool, 0, SECTOR).unwrap()[0], 0);
    assert!(rx.try_recv().is_err());
    assert_eq!(device.release(), 1);
    assert_eq!(rx.recv(), Ok(true));
    assert_eq!(read_blocking(&device, &pool, 0, SECTOR).unwrap()[0], 4);
}

#[test]
fn a_timeout_keeps_the_buffer_until_released() {
    let (device, pool) = device();
    device.script(FaultOp::Read, ANYWHERE, When::Next, Fault::Timeout);
    assert!(matches!(read_blocking(&device, &pool, 0, SECTOR), Err(IoError::Timeout { .. })));
    assert_eq!(pool.stats().arena_in_use_bytes, SECTOR as u64);
    device.release();
    assert_eq!(pool.stats().arena_in_use_bytes, 0);
}

#[test]
fn an_unplugged_device_answers_nothing_until_it_is_back() {
    let (device, pool) = device();
    device.set_offline(true);
    assert!(matches!(read_blocking(&device, &pool, 0, SECTOR), Err(IoError::Os { errno: libc::ENODEV, .. })));
    assert!(device.flush().is_err());
    device.set_offline(false);
    assert!(read_blocking(&device, &pool, 0, SECTOR).is_ok());
    assert!(device.flush().is_ok());
}

#[test]
fn space_can_run_out_when_it_is_reserved() {
    let (device, _) = device();
    device.script(FaultOp::Allocate, 0..4096, When::Every, Fault::Errno(libc::ENOSPC));
    assert!(matches!(device.allocate(0, 8192), Err(IoError::Os { op: "allocate", errno: libc::ENOSPC, .. })));
    assert!(device.allocate(4096, 4096).is_ok());
}
