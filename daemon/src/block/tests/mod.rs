//! Tests of the store as a whole, on devices in memory, failing devices, and a real one.

mod compact;
mod devices;
mod faults;
mod health;
mod local;
mod now;
mod overtaken;
mod pins;
mod reclaim;
mod restart;
mod roundtrip;
mod scrub;
mod stress;

use super::*;
use crate::io::{Device, MemoryDevice};
use crate::stripe::DeviceArray;
use crate::units::MIB;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::mpsc;

const FS: FsId = FsId([0xf5; 16]);
const BLOCK: usize = 128 << 10;

fn small_config() -> BlockStoreConfig {
    BlockStoreConfig { header_cache_bytes: 1 << 20, encoder_threads: 2, put_bytes: 8 << 20, ..BlockStoreConfig::default() }
}

fn memory(mib: u64) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new(mib * MIB))
}

fn try_open(devices: Vec<Arc<dyn Device>>, config: BlockStoreConfig) -> Result<BlockStore, OpenError> {
    BlockStore::open(DeviceArray::new(devices), BufferPool::new(8 << 20), FS, config)
}

/// A store and its array, for tests of the array's health.
fn open_array(devices: Vec<Arc<dyn Device>>) -> (Arc<DeviceArray>, BlockStore) {
    let array = DeviceArray::new(devices);
    let store = BlockStore::open(array.clone(), BufferPool::new(8 << 20), FS, small_config()).expect("the devices are good");
    (array, store)
}

/// Moves the array's time on, probe by probe, until something is so.
fn probe_until(array: &DeviceArray, so: impl Fn() -> bool) {
    for seconds in 1..2000 {
        array.probe_tick(std::time::Duration::from_secs(seconds * 100));
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it never came to be");
}

fn open(devices: Vec<Arc<dyn Device>>) -> BlockStore {
    try_open(devices, small_config()).expect("the devices are good")
}

/// Kills a store: nothing more is written, and its threads are gone when this returns.
fn kill(store: BlockStore) {
    let running = &store.running;
    running.core.closing.store(true, Ordering::Release);
    running.core.abandoned.store(true, Ordering::Release);
    running.stop();
    running.join();
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// Bytes that LZ4 shrinks to about a third, different for each seed.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let words: Vec<String> = (0..50).map(|_| format!("{:08x} ", random.random::<u32>())).collect();
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        bytes.extend_from_slice(words[random.random_range(0..words.len())].as_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A block in memory that a device can take as it lies, if its length allows.
fn at_rest(plain: &[u8]) -> Bytes {
    let mut memory = BufferPool::new(0).alloc(plain.len());
    memory[..plain.len()].copy_from_slice(plain);
    Bytes::from_owner(memory).slice(..plain.len())
}

/// A block in memory that no device can take as it lies.
fn askew(plain: &[u8]) -> Bytes {
    at_rest(&[&[0], plain].concat()).slice(1..)
}

/// Starts a put; the receiver has its answer. The blocks of a test lie in either way, by their first byte.
fn start_put(store: &BlockStore, plain: &[u8], device: u8) -> mpsc::Receiver<Result<BlockId, PutError>> {
    let (answer, receiver) = mpsc::channel();
    let done = Box::new(move |result| drop(answer.send(result)));
    let lies = if plain.first().is_some_and(|byte| byte % 2 == 0) { at_rest(plain) } else { askew(plain) };
    store.put(lies, DeviceId(device), done);
    receiver
}

fn try_put(store: &BlockStore, plain: &[u8]) -> Result<BlockId, PutError> {
    let answer = start_put(store, plain, 0);
    // Not waiting for company makes tests that put one block after the other bearable.
    let _ = store.flush();
    answer.recv().expect("every put is answered")
}

fn put(store: &BlockStore, plain: &[u8]) -> BlockId {
    try_put(store, plain).expect("the block is stored")
}

fn put_all(store: &BlockStore, blocks: &[Vec<u8>]) -> Vec<BlockId> {
    let answers: Vec<_> = blocks.iter().enumerate().map(|(at, plain)| start_put(store, plain, at as u8 % 2)).collect();
    answers.into_iter().map(|answer| answer.recv().expect("answered").expect("stored")).collect()
}

fn want(plain: &[u8], start: usize, len: usize) -> BlockWant {
    BlockWant { id: BlockId::of(plain), plain_len: plain.len() as u32, start: start as u32, len: len as u32 }
}

fn whole(plain: &[u8]) -> BlockWant {
    want(plain, 0, plain.len())
}

fn read(store: &BlockStore, wants: Vec<BlockWant>) -> Result<Bytes, Vec<(usize, ReadFault)>> {
    start_read(store, wants).recv().expect("every read is answered")
}

#[allow(clippy::type_complexity, reason = "the seam's own result type")]
fn start_read(store: &BlockStore, wants: Vec<BlockWant>) -> mpsc::Receiver<Result<Bytes, Vec<(usize, ReadFault)>>> {
    let (answer, receiver) = mpsc::channel();
    store.read(wants, Box::new(move |result| drop(answer.send(result))));
    receiver
}

/// The fault of a read of one block, if it has one. Panics on wrong bytes.
fn fault(store: &BlockStore, plain: &[u8]) -> Option<ReadFault> {
    match read(store, vec![whole(plain)]) {
        Ok(bytes) => {
            assert!(bytes == plain, "a read gave wrong bytes");
            None
        }
        Err(mut faults) => Some(faults.remove(0).1),
    }
}

fn assert_holds(store: &BlockStore, blocks: &[Vec<u8>]) {
    for (at, plain) in blocks.iter().enumerate() {
        assert!(store.contains(&BlockId::of(plain)), "block {at} is not there");
        let fault = fault(store, plain);
        assert!(fault.is_none(), "block {at} of {} bytes: {fault:?}", plain.len());
    }
}

fn assert_sound(store: &BlockStore) {
    store.flush().expect("the devices are good");
    let report = store.check();
    assert_eq!(report.violations, []);
    assert!(report.entries > 0, "there was nothing to check");
}

/// Where a block is: device, and byte offset there.
fn place_of(store: &BlockStore, plain: &[u8]) -> (DeviceId, u64) {
    let core = store.core();
    let entry = core.index.get(BlockId::of(plain).fingerprint()).expect("the block is stored");
    let (disk, segment) = core.locate(entry.segment).expect("on some device");
    (disk.id, disk.offset(segment, 0) + u64::from(entry.frame.grain) * crate::format::GRAIN as u64)
}

/// Waits for something that threads of the store bring about.
fn eventually(so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it never came to be");
}
