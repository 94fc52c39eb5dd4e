use super::*;
use crate::clock::{Clock, ManualClock};
use crate::io::faulty::{Fault, FaultOp, When};
use crate::io::{FaultyDevice, MemoryDevice, ThrottledDevice, read_blocking, write_blocking};
use crate::stripe::Prober;
use std::sync::mpsc::channel;

const ALL: Layout = Layout { stripe_count: 0, stripe_size: 64 << 10 };
const ONE: DeviceId = DeviceId(1);

/// Three devices of which the middle one can be made to fail.
fn array() -> (Arc<DeviceArray>, Arc<FaultyDevice>) {
    let memory = || Arc::new(MemoryDevice::new(1 << 20));
    let faulty = Arc::new(FaultyDevice::new(memory()));
    (DeviceArray::new(vec![memory(), faulty.clone(), memory()]), faulty)
}

/// What a user of the array does with a read.
fn read(array: &DeviceArray, id: DeviceId) -> bool {
    match read_blocking(&**array.device(id), &BufferPool::new(0), 0, SECTOR) {
        Ok(_) => array.record_ok(id),
        Err(ref error) => array.record_error(id, error),
    }
    array.in_service(id)
}

#[test]
fn a_failing_device_goes_out_alone_and_nothing_is_placed_on_it() {
    let (array, faulty) = array();
    faulty.set_offline(true);
    assert_eq!([read(&array, ONE), read(&array, ONE), read(&array, ONE)], [true, true, false]);
    let placed: Vec<DeviceId> = (0..300).map(|stripe| array.place(ALL, 7, stripe * ALL.stripe_size)).collect();
    assert!(!placed.contains(&ONE) && placed.contains(&DeviceId(0)) && placed.contains(&DeviceId(2)));
    assert!(array.in_service(DeviceId(0)) && array.in_service(DeviceId(2)));
}

#[test]
fn a_device_comes_back_when_a_probe_succeeds_and_watchers_are_told() {
    let (array, faulty) = array();
    let clock = ManualClock::default();
    let (tx, changes) = channel();
    array.watch(move |id, in_service| tx.send((id, in_service)).unwrap());
    faulty.set_offline(true);
    while read(&array, ONE) {}
    assert_eq!(changes.recv(), Ok((ONE, false)));
    faulty.set_offline(false);
    array.probe_tick(clock.monotonic());
    assert_eq!(faulty.counters().reads, 0, "the pause is not over");
    clock.advance(Duration::from_secs(1));
    array.probe_tick(clock.monotonic());
    assert_eq!(changes.recv(), Ok((ONE, true)));
    assert!(array.in_service(ONE));
    assert_eq!(array.generation(), 2);
}

#[test]
fn a_hung_probe_holds_nobody_up_and_is_not_repeated() {
    let (array, faulty) = array();
    array.record_error(ONE, &IoError::Timeout { op: "read", offset: 0, seconds: 10 });
    faulty.script(FaultOp::Read, 0..SECTOR as u64, When::Every, Fault::Hang);
    for seconds in 1..200 {
        array.probe_tick(Duration::from_secs(seconds));
    }
    assert_eq!(faulty.struck(), 1);
    let (tx, changes) = channel();
    array.watch(move |id, in_service| tx.send((id, in_service)).unwrap());
    faulty.heal();
    faulty.release();
    assert_eq!(changes.recv(), Ok((ONE, true)));
}

#[test]
fn a_failed_probe_is_followed_by_a_longer_pause() {
    let (array, faulty) = array();
    array.record_error(ONE, &IoError::Timeout { op: "read", offset: 0, seconds: 10 });
    faulty.set_offline(true);
    let mut probed_at = Vec::new();
    for seconds in 1..40 {
        let before = faulty.struck();
        array.probe_tick(Duration::from_secs(seconds));
        if faulty.struck() > before {
            probed_at.push(seconds);
            while array.health(ONE).probe_under_way() {
                std::thread::yield_now();
            }
        }
    }
    assert_eq!(probed_at, [1, 3, 7, 15, 31]);
    assert!(!array.in_service(ONE));
}

#[test]
fn with_no_device_in_service_there_is_still_a_place() {
    let (array, _) = array();
    for id in array.ids() {
        array.record_error(id, &IoError::Timeout { op: "read", offset: 0, seconds: 10 });
    }
    assert!(usize::from(array.place(ALL, 3, 0).0) < array.count());
}

#[test]
fn reports_name_each_device() {
    let (array, faulty) = array();
    faulty.script(FaultOp::Read, 0..u64::MAX, When::Next, Fault::Errno(libc::EIO));
    read(&array, ONE);
    read(&array, ONE);
    let report = array.report().swap_remove(1);
    assert_eq!((report.id, &*report.name, report.capacity_bytes), (ONE, "faulty memory", 1 << 20));
    assert_eq!((report.in_service, report.errors, report.counters.reads), (true, 1, 1));
}

#[test]
fn all_devices_of_a_striped_file_work_at_once() {
    let rate = 64 << 20;
    let slow = |_| -> Arc<dyn Device> { Arc::new(ThrottledDevice::new(Arc::new(MemoryDevice::new(8 << 20)), rate)) };
    let array = DeviceArray::new((0..4).map(slow).collect());
    let (tx, rx) = channel();
    let pool = BufferPool::new(0);
    for stripe in 0..16u64 {
        let (tx, id) = (tx.clone(), array.place(ALL, 11, stripe * ALL.stripe_size));
        let done = Box::new(move |outcome: crate::io::IoOutcome| tx.send(outcome.result.map(|()| id)).unwrap());
        let buf = pool.alloc(ALL.stripe_size as usize);
        array.device(id).submit(vec![IoRequest::new(IoOp::Write, stripe * ALL.stripe_size, buf, done)]);
    }
    drop(tx);
    let served: Vec<DeviceId> = rx.iter().map(|id| id.unwrap()).collect();
    assert_eq!(served.len(), 16);
    for report in array.report() {
        assert_eq!(report.counters.written_bytes, 4 * ALL.stripe_size, "{} has its quarter", report.id);
    }
    // Equal devices, loaded equally, answer in rounds: the first four answers are not all of one device.
    assert!(served[..8].iter().collect::<std::collections::BTreeSet<_>>().len() > 1);
}

#[test]
fn the_prober_brings_a_device_back_by_itself() {
    let (array, faulty) = array();
    let clock = Arc::new(ManualClock::default());
    let prober = Prober::start(array.clone(), clock.clone()).unwrap();
    faulty.set_offline(true);
    while read(&array, ONE) {}
    faulty.set_offline(false);
    clock.advance(Duration::from_secs(5));
    let (tx, changes) = channel();
    array.watch(move |id, in_service| tx.send((id, in_service)).unwrap());
    assert_eq!(changes.recv(), Ok((ONE, true)));
    drop(prober);
    write_blocking(&**array.device(ONE), 0, BufferPool::new(0).alloc(SECTOR)).unwrap();
}
