//! Two copies of what is held, on two devices: what one device loses, does not give or does not take.

use super::*;
use crate::io::{DeviceCounters, IoError, IoRequest};
use std::time::Instant;

const EVERYWHERE: std::ops::Range<u64> = 0..u64::MAX;

fn twice() -> BlockStoreConfig {
    BlockStoreConfig { copies: 2, ..small_config() }
}

fn twice_following() -> BlockStoreConfig {
    BlockStoreConfig { copies: 2, ..following() }
}

fn open_twice(devices: Vec<Arc<dyn Device>>) -> BlockStore {
    try_open(devices, twice()).expect("the devices are good")
}

fn open_twice_array(devices: Vec<Arc<dyn Device>>) -> (Arc<DeviceArray>, BlockStore) {
    let array = DeviceArray::new(devices);
    let store = BlockStore::open(array.clone(), BufferPool::new(8 << 20), FS, twice()).expect("the devices are good");
    (array, store)
}

fn faulty(mib: u64) -> Arc<FaultyDevice> {
    Arc::new(FaultyDevice::new(memory(mib)))
}

fn some_blocks(count: u64) -> Vec<Vec<u8>> {
    let block = |at: u64| match at % 4 {
        0 => text(at, BLOCK),
        1 => noise(at, 1 + at as usize * 97 % 9000),
        _ => noise(at, BLOCK),
    };
    (0..count).map(block).collect()
}

/// Where the copies of a block are: device and byte offset, the first copy first.
fn places(store: &BlockStore, plain: &[u8]) -> Vec<(DeviceId, u64)> {
    let core = store.core();
    let place = |entry: super::super::super::index::Entry| {
        let (disk, segment) = core.locate(entry.segment).expect("on some device");
        (disk.id, disk.offset(segment, 0) + u64::from(entry.frame.grain) * crate::format::GRAIN as u64)
    };
    core.copies(BlockId::of(plain).fingerprint()).map(place).collect()
}

fn assert_twice(store: &BlockStore, blocks: &[Vec<u8>]) {
    assert_eq!(store.lacking_copies(), 0);
    for plain in blocks {
        let devices: Vec<DeviceId> = places(store, plain).into_iter().map(|(device, _)| device).collect();
        assert!(devices.len() == 2 && devices[0] != devices[1], "{devices:?}");
    }
}

/// Takes a device out of service by reading from it.
fn take_out(array: &DeviceArray, store: &BlockStore, device: &FaultyDevice, id: u8) {
    device.set_offline(true);
    let core = store.core();
    for _ in 0..10 {
        let read = crate::io::read_blocking(&**core.array.device(DeviceId(id)), &core.pool, 0, 4096);
        core.record(&core.disks[usize::from(id)], &read.map(drop));
    }
    assert!(!array.in_service(DeviceId(id)));
}

fn put_back(array: &DeviceArray, store: &BlockStore, device: &FaultyDevice, id: u8) {
    device.set_offline(false);
    probe_until(array, || store.core().serves(&store.core().disks[usize::from(id)]));
}

#[test]
fn a_held_block_is_on_two_devices_and_a_cached_one_on_one() {
    let store = open_twice(vec![memory(64), memory(64), memory(64)]);
    let (held, cached) = (some_blocks(20), noise(99, BLOCK));
    keep_all(&store, &held);
    put(&store, &cached);
    assert_twice(&store, &held);
    assert_eq!(places(&store, &cached).len(), 1);
    assert_eq!(store.stats().blocks, 41);
    assert_holds(&store, &held);
    assert_sound(&store);
}

#[test]
fn a_put_is_answered_when_both_copies_are_there() {
    for slow in 0..2 {
        let devices = [faulty(64), faulty(64)];
        let store = open_twice(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
        devices[slow].script(FaultOp::Write, EVERYWHERE, When::Next, Fault::Hang);
        let plain = noise(1, BLOCK);
        let answer = start_put_local(&store, &plain, 0);
        assert!(answer.recv_timeout(Duration::from_millis(300)).is_err(), "one copy is still on its way");
        devices[slow].release();
        store.keep(&answer.recv().expect("answered").expect("stored"));
        assert_twice(&store, &[plain]);
        assert_sound(&store);
    }
}

#[test]
fn a_device_that_does_not_take_its_copy_costs_no_write_and_gets_it_later() {
    for bad in 0..2u8 {
        let devices = [faulty(64), faulty(64)];
        let (array, store) = open_twice_array(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
        devices[usize::from(bad)].script(FaultOp::Write, EVERYWHERE, When::Every, Fault::Errno(libc::EIO));
        let blocks = some_blocks(12);
        keep_all(&store, &blocks);
        assert_eq!(store.lacking_copies(), 12);
        assert_holds(&store, &blocks);
        devices[usize::from(bad)].heal();
        put_back(&array, &store, &devices[usize::from(bad)], bad);
        eventually(|| store.lacking_copies() == 0);
        assert_twice(&store, &blocks);
        assert_holds(&store, &blocks);
        assert_sound(&store);
    }
}

#[test]
fn one_failed_write_of_a_copy_is_tried_again() {
    for bad in 0..2 {
        let devices = [faulty(64), faulty(64)];
        let store = open_twice(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
        devices[bad].script(FaultOp::Write, EVERYWHERE, When::Next, Fault::Errno(libc::EIO));
        let plain = noise(1, BLOCK);
        keep(&store, &plain);
        assert_eq!(devices[bad].struck(), 1);
        assert_twice(&store, &[plain]);
        assert_sound(&store);
    }
}

#[test]
fn a_third_device_takes_the_place_of_one_that_fails() {
    let devices = [memory(64) as Arc<dyn Device>, faulty(64), memory(64)];
    let bad = faulty(64);
    bad.script(FaultOp::Write, EVERYWHERE, When::Every, Fault::Errno(libc::EIO));
    let store = open_twice(vec![devices[0].clone(), bad, devices[2].clone()]);
    let blocks = some_blocks(12);
    keep_all(&store, &blocks);
    assert_twice(&store, &blocks);
    assert!(blocks.iter().all(|plain| places(&store, plain).iter().all(|(device, _)| *device != DeviceId(1))));
    assert_sound(&store);
}

#[test]
fn a_write_that_no_device_takes_is_told() {
    let devices = [faulty(64), faulty(64)];
    let store = open_twice(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
    devices.iter().for_each(|device| device.script(FaultOp::Write, EVERYWHERE, When::Every, Fault::Errno(libc::EIO)));
    assert!(matches!(try_put_local(&store, &noise(1, BLOCK)), Err(PutError::Io { .. })));
    assert_eq!(store.stats().held_bytes, 0);
}

#[test]
fn with_one_device_in_service_writes_go_on_and_the_other_gets_its_copies_when_it_is_back() {
    let devices = [faulty(64), faulty(64)];
    let (array, store) = open_twice_array(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
    let before = some_blocks(8);
    keep_all(&store, &before);
    take_out(&array, &store, &devices[0], 0);
    assert_eq!(store.lacking_copies(), 8, "their other copies are out of reach");
    let during: Vec<Vec<u8>> = (100..108).map(|at| noise(at, BLOCK)).collect();
    keep_all(&store, &during);
    store.flush().expect("one device is good");
    assert_eq!(store.lacking_copies(), 16);
    assert_holds(&store, &before);
    assert_holds(&store, &during);
    put_back(&array, &store, &devices[0], 0);
    eventually(|| store.lacking_copies() == 0);
    take_out(&array, &store, &devices[1], 1);
    assert_holds(&store, &before);
    assert_holds(&store, &during);
    put_back(&array, &store, &devices[1], 1);
    assert_sound(&store);
}

#[test]
fn what_is_put_again_is_on_both_devices_when_that_is_answered() {
    let devices = [faulty(64), faulty(64)];
    let (array, store) = open_twice_array(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
    let plain = noise(1, BLOCK);
    take_out(&array, &store, &devices[1], 1);
    keep(&store, &plain);
    // The mender hangs with what it was about to copy.
    devices[0].script(FaultOp::Read, EVERYWHERE, When::Next, Fault::Hang);
    put_back(&array, &store, &devices[1], 1);
    eventually(|| devices[0].struck() == 1);
    assert_eq!(store.lacking_copies(), 1);
    keep(&store, &plain);
    assert_twice(&store, &[plain]);
    devices[0].release();
    assert_sound(&store);
}

#[test]
fn reads_go_to_the_other_copy_when_a_device_fails() {
    for bad in 0..2 {
        let devices = [faulty(64), faulty(64)];
        let store = open_twice(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
        let blocks = some_blocks(20);
        keep_all(&store, &blocks);
        devices[bad].set_offline(true);
        let all = read(&store, blocks.iter().map(|plain| whole(plain)).collect()).expect("the other device has all");
        assert!(all == blocks.concat());
        assert_holds(&store, &blocks);
    }
}

#[test]
fn a_time_out_is_covered_by_the_other_copy() {
    let devices = [faulty(64), faulty(64)];
    let store = open_twice(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
    let blocks = some_blocks(8);
    keep_all(&store, &blocks);
    devices[0].script(FaultOp::Read, EVERYWHERE, When::Every, Fault::Timeout);
    let all = read(&store, blocks.iter().map(|plain| whole(plain)).collect()).expect("the other device has all");
    assert!(all == blocks.concat());
    devices[0].heal();
    devices[0].release();
}

#[test]
fn a_corrupt_copy_is_read_from_the_other_and_made_again() {
    let devices = [memory(64), memory(64)];
    let store = open_twice(vec![devices[0].clone(), devices[1].clone()]);
    let blocks = some_blocks(8);
    keep_all(&store, &blocks);
    for round in 0..3 {
        for plain in &blocks {
            let (device, at) = places(&store, plain)[0];
            devices[usize::from(device.0)].corrupt(at + plain.len().min(900) as u64 / 3, |byte| *byte ^= 4);
        }
        assert_holds(&store, &blocks);
        eventually(|| store.lacking_copies() == 0);
        assert_twice(&store, &blocks);
        let stats = store.stats();
        assert_eq!((stats.corrupt_blocks, stats.lost_local_blocks), (8 * (round + 1), 0));
        assert_sound(&store);
    }
}

#[test]
fn an_unreadable_place_is_read_from_the_other_and_made_again() {
    let devices = [faulty(64), faulty(64)];
    let store = open_twice(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    let (device, at) = places(&store, &plain)[0];
    devices[usize::from(device.0)].script(FaultOp::Read, at..at + 1, When::Every, Fault::Errno(libc::EIO));
    assert_holds(&store, std::slice::from_ref(&plain));
    eventually(|| store.lacking_copies() == 0);
    assert!(places(&store, &plain).iter().all(|place| *place != (device, at)), "it is somewhere else now");
    assert_sound(&store);
}

#[test]
fn both_copies_corrupt_are_a_counted_loss() {
    let devices = [memory(64), memory(64)];
    let store = open_twice(vec![devices[0].clone(), devices[1].clone()]);
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    for (device, at) in places(&store, &plain) {
        devices[usize::from(device.0)].corrupt(at + 500, |byte| *byte ^= 4);
    }
    assert!(fault(&store, &plain).is_some());
    eventually(|| store.stats().lost_local_blocks == 1);
    // As soon as somebody brings it back it is held.
    put(&store, &plain);
    assert!(is_held(&store, &plain));
    eventually(|| store.lacking_copies() == 0);
    assert_sound(&store);
}

#[test]
fn a_start_with_one_device_missing_blank_or_late_finds_everything() {
    for lost in 0..2 {
        let mut devices: Vec<Arc<dyn Device>> = vec![memory(64), memory(64)];
        let blocks = some_blocks(60);
        let store = try_open(devices.clone(), twice_following()).expect("good devices");
        store.holds_known();
        keep_all(&store, &blocks);
        store.flush().expect("good devices");
        kill(store);
        let hold_all = |store: &BlockStore| {
            assert!(blocks.iter().all(|plain| store.hold(BlockId::of(plain).fingerprint())), "some are missing");
            store.holds_known();
        };

        // Missing, and there again later.
        let late = Arc::new(FaultyDevice::new(devices[lost].clone()));
        late.set_offline(true);
        let mut with_late = devices.clone();
        with_late[lost] = late.clone();
        let array = DeviceArray::new(with_late);
        let store = BlockStore::open(array.clone(), BufferPool::new(8 << 20), FS, twice_following()).expect("one is good");
        hold_all(&store);
        assert_holds(&store, &blocks);
        assert_eq!(store.lacking_copies(), 60);
        late.set_offline(false);
        probe_until(&array, || store.lacking_copies() == 0);
        assert_twice(&store, &blocks);
        assert_sound(&store);
        store.close();

        // Blank.
        devices[lost] = memory(64);
        let store = try_open(devices.clone(), twice_following()).expect("good devices");
        hold_all(&store);
        assert_holds(&store, &blocks);
        eventually(|| store.lacking_copies() == 0);
        assert_twice(&store, &blocks);
        assert_sound(&store);
        store.flush().expect("good devices");
        kill(store);

        // The other one is lost after that.
        devices[1 - lost] = memory(64);
        let store = try_open(devices.clone(), twice_following()).expect("good devices");
        hold_all(&store);
        assert_holds(&store, &blocks);
        eventually(|| store.lacking_copies() == 0);
        assert_sound(&store);
    }
}

#[test]
fn roles_survive_a_restart() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(64), memory(64)];
    let blocks = some_blocks(40);
    for kill_it in [true, false] {
        let store = try_open(devices.clone(), twice_following()).expect("good devices");
        for plain in &blocks {
            store.hold(BlockId::of(plain).fingerprint());
        }
        store.holds_known();
        keep_all(&store, &blocks);
        let before: Vec<_> = blocks.iter().map(|plain| places(&store, plain)).collect();
        if kill_it {
            kill(store)
        } else {
            store.close()
        }
        let store = try_open(devices.clone(), twice_following()).expect("good devices");
        assert!(before == blocks.iter().map(|plain| places(&store, plain)).collect::<Vec<_>>());
        store.close();
    }
}

#[test]
fn reclaim_keeps_both_copies_on_their_devices() {
    let store = open_twice(vec![memory(24), memory(24)]);
    let blocks = some_blocks(48);
    for (at, plain) in blocks.iter().enumerate() {
        // Among others, so that their segments are worth emptying.
        put_all(&store, &[noise(3000 + 2 * at as u64, BLOCK), noise(3001 + 2 * at as u64, BLOCK)]);
        keep(&store, plain);
    }
    let before: Vec<_> = blocks.iter().map(|plain| places(&store, plain)).collect();
    (10..14).for_each(|round| press_hard(&store, round));
    let moved = blocks.iter().zip(&before).filter(|(plain, before)| places(&store, plain) != **before).count();
    assert!(moved > 0, "nothing was moved");
    assert_twice(&store, &blocks);
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn the_last_release_lets_both_copies_go() {
    let store = open_twice(vec![memory(24), memory(24)]);
    let blocks = some_blocks(30);
    keep_all(&store, &blocks);
    let held = store.stats().held_bytes;
    blocks.iter().for_each(|plain| store.release(BlockId::of(plain).fingerprint()));
    let stats = store.stats();
    assert!(held > 0 && stats.held_bytes == 0);
    assert_eq!((stats.blocks, store.lacking_copies()), (30, 0), "a cached block has one copy");
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn from_one_copy_to_two_and_back() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(64), memory(64)];
    let (early, late) = (some_blocks(40), (200..220).map(|at| noise(at, BLOCK)).collect::<Vec<_>>());
    let known = |store: &BlockStore, blocks: &[Vec<u8>]| {
        assert!(blocks.iter().all(|plain| store.hold(BlockId::of(plain).fingerprint())));
        store.holds_known();
    };
    let store = open_following(devices.clone());
    store.holds_known();
    keep_all(&store, &early);
    store.close();

    let store = try_open(devices.clone(), twice_following()).expect("good devices");
    known(&store, &early);
    keep_all(&store, &late);
    eventually(|| store.lacking_copies() == 0);
    assert_twice(&store, &early);
    assert_twice(&store, &late);
    assert_sound(&store);
    store.close();

    let store = open_following(devices);
    known(&store, &early);
    known(&store, &late);
    assert_eq!((store.stats().blocks, store.lacking_copies()), (60, 0), "one copy of each counts");
    (0..3).for_each(|round| press_hard(&store, round));
    assert_holds(&store, &early);
    assert_holds(&store, &late);
    assert_sound(&store);
}

/// Puts held blocks until there is no space.
fn fill_up(store: &BlockStore) -> Vec<Vec<u8>> {
    let mut stored = Vec::new();
    for at in 0.. {
        let plain = noise(500_000 + at, BLOCK);
        match try_put_local(store, &plain) {
            Ok(id) => store.keep(&id),
            Err(error) => {
                assert!(matches!(error, PutError::NoSpace), "{error:?}");
                return stored;
            }
        }
        stored.push(plain);
    }
    unreachable!("a device has an end")
}

#[test]
fn room_and_space_count_both_copies() {
    for (mib, least) in [(vec![16, 16], 60), (vec![16, 48], 60), (vec![16, 16, 16], 90), (vec![12, 16, 24], 90)] {
        let once = try_open(mib.iter().map(|mib| memory(*mib) as Arc<dyn Device>).collect(), small_config()).expect("good");
        let store = open_twice(mib.iter().map(|mib| memory(*mib) as Arc<dyn Device>).collect());
        assert!(store.room_for_local() <= once.room_for_local() / 2);
        let promised = store.room_for_local() as usize / (BLOCK + BLOCK / 8);
        let started = Instant::now();
        let held = fill_up(&store);
        assert!(started.elapsed() < Duration::from_secs(60));
        assert!(held.len() >= promised && held.len() >= least, "{mib:?}: {} blocks, {promised} promised", held.len());
        assert_twice(&store, &held);
        assert_holds(&store, &held);
        let footprint: u64 = held.iter().map(|plain| plain.len() as u64).sum();
        assert_eq!(store.stats().held_bytes, 2 * footprint);
        assert_sound(&store);
        held.iter().for_each(|plain| store.release(BlockId::of(plain).fingerprint()));
        assert_eq!(store.stats().held_bytes, 0, "what was refused is not held");
        press(&store, 1);
        assert_sound(&store);
    }
}

/// A device whose flushes fail when told to.
struct Flushing(Arc<crate::io::MemoryDevice>, std::sync::atomic::AtomicBool);

impl Device for Flushing {
    fn name(&self) -> &str {
        "flushing"
    }
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn submit(&self, batch: Vec<IoRequest>) {
        self.0.submit(batch);
    }
    fn flush(&self) -> Result<(), IoError> {
        if self.1.load(Ordering::Relaxed) {
            Err(IoError::Os { op: "flush", offset: 0, len: 0, errno: libc::EIO })
        } else {
            self.0.flush()
        }
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.0.allocate(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.0.discard(offset, len)
    }
    fn counters(&self) -> DeviceCounters {
        self.0.counters()
    }
}

#[test]
fn a_flush_that_fails_on_one_device_is_told_only_where_no_other_copy_is_durable() {
    for copies in 1..=2 {
        let bad = Arc::new(Flushing(memory(64), false.into()));
        let store = try_open(vec![memory(64), bad.clone()], BlockStoreConfig { copies, ..small_config() }).expect("good devices");
        // Several extents: the last one alone might be written through.
        let answers: Vec<_> = some_blocks(60).iter().map(|plain| start_put_local(&store, plain, 1)).collect();
        answers.into_iter().for_each(|answer| store.keep(&answer.recv().expect("answered").expect("stored")));
        bad.1.store(true, Ordering::Relaxed);
        assert_eq!(store.flush().is_ok(), copies == 2);
    }
}

#[test]
fn what_was_flushed_survives_a_power_cut_and_the_loss_of_either_device() {
    let devices = [memory(16), memory(16)];
    let store = try_open(vec![devices[0].clone(), devices[1].clone()], twice_following()).expect("good devices");
    store.holds_known();
    let held = some_blocks(16);
    keep_all(&store, &held);
    store.flush().expect("good devices");
    let mut images = Vec::new();
    for round in 0..60u64 {
        put_all(&store, &[noise(1000 + round * 4, BLOCK), noise(1001 + round * 4, BLOCK), noise(1002 + round * 4, BLOCK)]);
        let cut = |device: &MemoryDevice| Arc::new(device.power_cut(round)) as Arc<dyn Device>;
        let mut image = vec![cut(&devices[0]), cut(&devices[1])];
        image[round as usize % 2] = memory(16);
        images.push(image);
    }
    kill(store);
    for (at, image) in images.into_iter().enumerate() {
        let store = try_open(image, twice_following()).expect("good devices");
        assert!(held.iter().all(|plain| store.hold(BlockId::of(plain).fingerprint())), "image {at} does not have all");
        store.holds_known();
        assert_holds(&store, &held);
        assert_sound(&store);
        kill(store);
    }
}

#[test]
fn threads_that_write_and_release_the_same_blocks_leave_two_copies_of_what_is_held() {
    let store = open_twice(vec![memory(24), memory(24)]);
    let block = |at: u64| if at.is_multiple_of(3) { noise(at, 3000) } else { noise(at, BLOCK) };
    let held: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let thread = |thread: u64| {
            let store = &store;
            move || {
                let mut random = StdRng::seed_from_u64(thread);
                let mut held = std::collections::BTreeSet::new();
                for _ in 0..150 {
                    let own = random.random_range(0..10) * 4 + thread;
                    let any = random.random_range(0..300);
                    match random.random_range(0..4) {
                        0 => drop(start_put(store, &block(any), 0).recv().expect("answered").expect("stored")),
                        1 if held.remove(&own) => store.release(BlockId::of(&block(own)).fingerprint()),
                        _ => {
                            let id =
                                start_put_local(store, &block(own), own as u8 % 2).recv().expect("answered").expect("stored");
                            store.keep(&id);
                            held.insert(own);
                        }
                    }
                }
                held.into_iter().map(block).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(thread(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_twice(&store, &held);
    assert_holds(&store, &held);
    assert_sound(&store);
}
