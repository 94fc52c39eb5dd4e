//! Devices that leave and come back: as they were, with something else on them, or for the first time.

use super::*;
use crate::io::faulty::FaultyDevice;
use crate::io::{DeviceCounters, IoError, IoRequest};
use parking_lot::RwLock;

/// A slot that devices can be exchanged in.
struct Bay(RwLock<Arc<dyn Device>>);

impl Bay {
    fn with(device: Arc<dyn Device>) -> Arc<Self> {
        Arc::new(Bay(RwLock::new(device)))
    }

    fn exchange(&self, device: Arc<dyn Device>) {
        *self.0.write() = device;
    }

    fn now(&self) -> Arc<dyn Device> {
        self.0.read().clone()
    }
}

impl Device for Bay {
    fn name(&self) -> &str {
        "bay"
    }
    fn len(&self) -> u64 {
        self.now().len()
    }
    fn submit(&self, batch: Vec<IoRequest>) {
        self.now().submit(batch);
    }
    fn flush(&self) -> Result<(), IoError> {
        self.now().flush()
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.now().allocate(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.now().discard(offset, len)
    }
    fn counters(&self) -> DeviceCounters {
        self.now().counters()
    }
}

fn broken() -> Arc<FaultyDevice> {
    let device = Arc::new(FaultyDevice::new(memory(64)));
    device.set_offline(true);
    device
}

/// Reads of the block until the array takes the device out.
fn wear_out(array: &DeviceArray, store: &BlockStore, device: u8, plain: &[u8]) {
    for _ in 0..50 {
        let _ = fault(store, plain);
        if !array.in_service(DeviceId(device)) {
            return;
        }
    }
    panic!("the device was never taken out");
}

#[test]
fn blocks_of_a_device_out_of_service_are_missing_and_come_back_with_it() {
    let bad = Arc::new(FaultyDevice::new(memory(64)));
    let (array, store) = open_array(vec![memory(64), bad.clone()]);
    let blocks: Vec<Vec<u8>> = (0..6).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    bad.set_offline(true);
    wear_out(&array, &store, 1, &blocks[1]);
    assert!(!store.contains(&BlockId::of(&blocks[1])));
    assert!(matches!(fault(&store, &blocks[1]), Some(ReadFault::Missing(_))));
    assert_holds(&store, &[blocks[0].clone(), blocks[2].clone()]);
    // What is put meanwhile goes where it can, also what is known but out of reach.
    let again = start_put(&store, &blocks[1], 1).recv().expect("answered").expect("stored");
    assert_eq!((again, place_of(&store, &blocks[1]).0), (BlockId::of(&blocks[1]), DeviceId(0)));
    bad.set_offline(false);
    probe_until(&array, || store.contains(&BlockId::of(&blocks[3])));
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn a_device_replaced_by_a_blank_one_starts_empty() {
    let bay = Bay::with(memory(64));
    let devices: Vec<Arc<dyn Device>> = vec![memory(64), bay.clone()];
    let (array, store) = open_array(devices.clone());
    let blocks: Vec<Vec<u8>> = (0..6).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    bay.exchange(broken());
    wear_out(&array, &store, 1, &blocks[1]);
    let blank = memory(64);
    bay.exchange(blank.clone());
    probe_until(&array, || store.core().disks[1].is_attached());
    assert!(matches!(fault(&store, &blocks[1]), Some(ReadFault::Missing(_))));
    assert_eq!(store.stats().blocks, 3);
    let more: Vec<Vec<u8>> = (100..300).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &more);
    assert_holds(&store, &more);
    assert_eq!(store.stats().corrupt_blocks, 0);
    assert_sound(&store);
    assert!(blank.counters().writes > 0);
    kill(store);
    assert_holds(&open(devices), &more);
}

#[test]
fn a_flush_tells_of_what_went_with_an_exchanged_device() {
    let bay = Bay::with(memory(64));
    let (array, store) = open_array(vec![memory(64), bay.clone()]);
    let written = noise(1, BLOCK);
    let (answer, answered) = std::sync::mpsc::channel();
    store.put_local(Bytes::copy_from_slice(&written), DeviceId(1), Box::new(move |result| drop(answer.send(result))));
    store.drain().expect("the devices are good");
    answered.recv().expect("answered").expect("stored");
    bay.exchange(broken());
    wear_out(&array, &store, 1, &written);
    bay.exchange(memory(64));
    probe_until(&array, || store.core().disks[1].is_attached());
    assert!(matches!(store.flush(), Err(PutError::Io { device: DeviceId(1), .. })), "the block is gone");
    store.flush().expect("that was said");
}

#[test]
fn a_device_replaced_by_somebody_elses_is_left_alone() {
    let bay = Bay::with(memory(64));
    let (array, store) = open_array(vec![memory(64), bay.clone()]);
    let blocks: Vec<Vec<u8>> = (0..2).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    bay.exchange(broken());
    wear_out(&array, &store, 1, &blocks[1]);
    let foreign = memory(64);
    let other: Vec<Arc<dyn Device>> = vec![foreign.clone()];
    BlockStore::open(DeviceArray::new(other), BufferPool::new(0), FsId([9; 16]), small_config()).expect("a good device").close();
    let before = foreign.counters();
    bay.exchange(foreign.clone());
    probe_until(&array, || store.core().disks[1].is_refused());
    assert!(!store.contains(&BlockId::of(&blocks[1])));
    start_put(&store, &noise(7, BLOCK), 1).recv().expect("answered").expect("stored on the other device");
    assert_eq!(foreign.counters().writes, before.writes);
}

#[test]
fn a_device_that_fails_at_the_start_joins_later_with_its_blocks() {
    let (good, content) = (memory(64), memory(64));
    let blocks: Vec<Vec<u8>> = (0..6).map(|at| noise(at, BLOCK)).collect();
    let store = open(vec![good.clone(), content.clone()]);
    put_all(&store, &blocks);
    store.close();
    let late = Arc::new(FaultyDevice::new(content));
    late.set_offline(true);
    let (array, store) = open_array(vec![good, late.clone()]);
    assert!(store.contains(&BlockId::of(&blocks[0])) && !store.contains(&BlockId::of(&blocks[1])));
    late.set_offline(false);
    probe_until(&array, || store.contains(&BlockId::of(&blocks[1])));
    assert_holds(&store, &blocks);
    assert_sound(&store);
}
