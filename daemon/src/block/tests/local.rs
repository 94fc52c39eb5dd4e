//! Held blocks: never dropped, verified before they are referenced, counted exactly, and let go when nobody references them.

use super::*;
use crate::io::FaultyDevice;
use crate::io::faulty::{Fault, FaultOp, When};
use std::time::{Duration, Instant};

fn following() -> BlockStoreConfig {
    BlockStoreConfig { holds_follow: true, ..small_config() }
}

fn open_following(devices: Vec<Arc<dyn Device>>) -> BlockStore {
    try_open(devices, following()).expect("the devices are good")
}

fn start_put_local(store: &BlockStore, plain: &[u8], device: u8) -> mpsc::Receiver<Result<BlockId, PutError>> {
    let (answer, receiver) = mpsc::channel();
    let done = Box::new(move |result| drop(answer.send(result)));
    store.put_local(Bytes::copy_from_slice(plain), DeviceId(device), done);
    receiver
}

fn try_put_local(store: &BlockStore, plain: &[u8]) -> Result<BlockId, PutError> {
    let answer = start_put_local(store, plain, 0);
    let _ = store.flush();
    answer.recv().expect("every put is answered")
}

/// Puts a block and records the reference.
fn keep(store: &BlockStore, plain: &[u8]) -> BlockId {
    let id = try_put_local(store, plain).expect("the block is stored");
    store.keep(&id);
    id
}

fn keep_all(store: &BlockStore, blocks: &[Vec<u8>]) {
    let answers: Vec<_> = blocks.iter().enumerate().map(|(at, plain)| start_put_local(store, plain, at as u8 % 2)).collect();
    for answer in answers {
        store.keep(&answer.recv().expect("answered").expect("stored"));
    }
}

fn is_held(store: &BlockStore, plain: &[u8]) -> bool {
    store.core().index.get(BlockId::of(plain).fingerprint()).is_some_and(|entry| entry.frame.local_only)
}

/// Clean blocks, as many as would fill a small device several times over.
fn press(store: &BlockStore, seed: u64) {
    let blocks: Vec<Vec<u8>> = (0..400).map(|at| noise(1_000_000 + seed * 1000 + at, BLOCK)).collect();
    for part in blocks.chunks(25) {
        put_all(store, part);
    }
}

/// As [`press`], and every block is read, so that main segments come and go too.
fn press_hard(store: &BlockStore, seed: u64) {
    let blocks: Vec<Vec<u8>> = (0..400).map(|at| noise(2_000_000 + seed * 1000 + at, BLOCK)).collect();
    for part in blocks.chunks(25) {
        put_all(store, part);
        part.iter().for_each(|plain| drop(fault(store, plain)));
    }
}

/// Puts held blocks until there is no space; returns those that were stored, and how long the refusal took.
fn fill_up(store: &BlockStore, seed: u64) -> (Vec<Vec<u8>>, Duration) {
    let mut stored = Vec::new();
    for at in 0.. {
        let plain = noise(seed * 100_000 + at, BLOCK);
        let before = Instant::now();
        match try_put_local(store, &plain) {
            Ok(id) => store.keep(&id),
            Err(error) => {
                assert!(matches!(error, PutError::NoSpace), "{error:?}");
                return (stored, before.elapsed());
            }
        }
        stored.push(plain);
    }
    unreachable!("a device has an end")
}

#[test]
fn held_blocks_stay_while_clean_ones_come_and_go() {
    let store = open(vec![memory(16)]);
    let held: Vec<Vec<u8>> = (0..40).map(|at| if at % 4 == 0 { text(at, BLOCK) } else { noise(at, BLOCK) }).collect();
    for part in held.chunks(8) {
        keep_all(&store, part);
        press(&store, part[0][0].into());
    }
    assert!(store.stats().evicted_blocks > 1000);
    assert_holds(&store, &held);
    assert!(held.iter().all(|plain| is_held(&store, plain)));
    assert_sound(&store);
}

#[test]
fn small_held_blocks_stay_too() {
    let store = open(vec![memory(16)]);
    let held: Vec<Vec<u8>> = (0..600).map(|at| noise(at, 1 + (at as usize * 37) % 6000)).collect();
    for (round, part) in held.chunks(100).enumerate() {
        keep_all(&store, part);
        press(&store, round as u64);
    }
    assert_holds(&store, &held);
    assert_sound(&store);
}

#[test]
fn a_released_block_goes_like_any_other() {
    let store = open(vec![memory(16)]);
    let plain = noise(1, BLOCK);
    let id = keep(&store, &plain);
    press(&store, 1);
    assert_holds(&store, std::slice::from_ref(&plain));
    store.release(id.fingerprint());
    assert_eq!(store.stats().held_bytes, 0);
    assert!(store.contains(&id), "it is dropped when room is needed, not before");
    press_hard(&store, 2);
    press_hard(&store, 3);
    assert!(!store.contains(&id));
    assert_sound(&store);
}

#[test]
fn what_is_not_yet_kept_is_held_whatever_is_released() {
    let store = open(vec![memory(16)]);
    let plain = noise(1, BLOCK);
    let id = keep(&store, &plain);
    try_put_local(&store, &plain).expect("it is here already");
    store.release(id.fingerprint());
    assert!(is_held(&store, &plain));
    store.discard(&id, false);
    assert!(!is_held(&store, &plain));
    let id = try_put_local(&store, &plain).expect("stored anew");
    try_put_local(&store, &plain).expect("it is here already");
    store.discard(&id, false);
    assert!(is_held(&store, &plain), "one put of two is still to be recorded");
    store.discard(&id, true);
    assert!(is_held(&store, &plain), "something else references it");
    store.release(id.fingerprint());
    assert!(!is_held(&store, &plain));
    assert_sound(&store);
}

#[test]
fn a_held_copy_is_read_back_before_it_is_referenced() {
    for plain in [noise(1, BLOCK), text(1, BLOCK), noise(2, 900)] {
        let device = memory(64);
        let store = open(vec![device.clone()]);
        keep(&store, &plain);
        let first = place_of(&store, &plain);
        let before = device.counters();
        keep(&store, &plain);
        assert_eq!(place_of(&store, &plain), first);
        assert!(device.counters().read_bytes - before.read_bytes >= store.stats().stored_bytes);
        assert_eq!((store.stats().blocks, store.stats().dedup_bytes), (1, plain.len() as u64));
        device.corrupt(first.1 + 500, |byte| *byte ^= 4);
        keep(&store, &plain);
        assert_ne!(place_of(&store, &plain), first);
        assert!(is_held(&store, &plain));
        let stats = store.stats();
        assert_eq!((stats.blocks, stats.corrupt_blocks, stats.lost_local_blocks), (1, 1, 0));
        assert_holds(&store, &[plain]);
        assert_sound(&store);
    }
}

#[test]
fn a_damaged_header_on_the_device_is_noticed_though_memory_has_a_good_one() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    let first = place_of(&store, &plain);
    device.corrupt(first.1 - crate::units::SECTOR as u64 + 60, |byte| *byte ^= 4);
    keep(&store, &plain);
    assert_ne!(place_of(&store, &plain), first);
    assert_holds(&store, &[plain]);
}

#[test]
fn a_copy_that_is_only_cached_is_not_trusted() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    put(&store, &plain);
    let cached = place_of(&store, &plain);
    device.corrupt(cached.1 + 500, |byte| *byte ^= 4);
    keep(&store, &plain);
    assert_ne!(place_of(&store, &plain), cached);
    assert_holds(&store, &[plain]);
    assert_eq!((store.stats().blocks, store.stats().corrupt_blocks), (1, 0));
    assert_sound(&store);
}

#[test]
fn a_clean_put_of_a_held_block_leaves_it_held() {
    for dedup in [true, false] {
        let config = BlockStoreConfig { dedup, ..small_config() };
        let store = try_open(vec![memory(64)], config).expect("a good device");
        let plain = noise(1, BLOCK);
        keep(&store, &plain);
        let first = place_of(&store, &plain);
        put(&store, &plain);
        assert_eq!(place_of(&store, &plain), first);
        assert!(is_held(&store, &plain));
        assert_sound(&store);
    }
}

#[test]
fn another_block_with_the_same_fingerprint_is_refused_not_exchanged() {
    let store = open(vec![memory(64)]);
    let plain = noise(1, 5000);
    keep(&store, &plain);
    let mut other = BlockId::of(&plain);
    other.0[20] ^= 1;
    let existing = store.core().existing(&other, &noise(2, 5000));
    assert_eq!(existing, super::super::verify::Existing::Other(BlockId::of(&plain)));
    assert_holds(&store, &[plain]);
    assert_sound(&store);
}

#[test]
fn a_local_put_that_joins_a_clean_one_is_held() {
    let device = Arc::new(FaultyDevice::new(memory(64)));
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    device.script(FaultOp::Write, 0..u64::MAX, When::Next, Fault::Hang);
    let clean = start_put(&store, &plain, 0);
    while device.struck() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let local = start_put_local(&store, &plain, 0);
    while store.stats().dedup_bytes == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    device.release();
    let id = local.recv().expect("answered").expect("stored");
    clean.recv().expect("answered").expect("stored");
    assert!(is_held(&store, &plain));
    store.release(id.fingerprint());
    assert!(is_held(&store, &plain), "it is claimed");
    store.keep(&id);
    press(&store, 1);
    assert_holds(&store, &[plain]);
    assert_eq!(store.stats().held_bytes, BLOCK as u64);
    assert_sound(&store);
}

#[test]
fn clean_and_local_puts_at_once_end_held() {
    let store = open(vec![memory(64), memory(64)]);
    let blocks: Vec<Vec<u8>> = (0..60).map(|at| noise(at, 20_000)).collect();
    put_all(&store, &blocks[..20]);
    keep_all(&store, &blocks[20..40]);
    let mut answers = Vec::new();
    for plain in &blocks {
        answers.push(start_put(&store, plain, 0));
        answers.push(start_put_local(&store, plain, 1));
        answers.push(start_put(&store, plain, 1));
    }
    for answer in answers {
        answer.recv().expect("answered").expect("stored");
    }
    assert!(blocks.iter().all(|plain| is_held(&store, plain)));
    assert_sound(&store);
    blocks.iter().for_each(|plain| store.discard(&BlockId::of(plain), false));
    assert_eq!(store.stats().held_bytes, 0);
    assert_sound(&store);
}

#[test]
fn a_failed_write_of_a_held_block_goes_elsewhere_or_is_told() {
    let (bad, good) = (Arc::new(FaultyDevice::new(memory(64))), memory(64));
    let store = open(vec![bad.clone(), good]);
    bad.script(FaultOp::Write, 0..u64::MAX, When::Every, Fault::Errno(libc::EIO));
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    assert_eq!(place_of(&store, &plain).0, DeviceId(1));
    assert!(is_held(&store, &plain));
    let alone = Arc::new(FaultyDevice::new(memory(64)));
    let store = open(vec![alone.clone()]);
    alone.script(FaultOp::Write, 0..u64::MAX, When::Every, Fault::Errno(libc::EIO));
    assert!(matches!(try_put_local(&store, &plain), Err(PutError::Io { device: DeviceId(0), .. })));
    assert_eq!(store.stats().held_bytes, 0);
}

#[test]
fn a_corrupt_held_block_is_a_counted_loss_and_held_again_when_it_comes_back() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    device.corrupt(place_of(&store, &plain).1 + 500, |byte| *byte ^= 4);
    assert!(matches!(fault(&store, &plain), Some(ReadFault::Corrupt { .. })));
    let stats = store.stats();
    assert_eq!((stats.lost_local_blocks, stats.corrupt_blocks, stats.held_bytes), (1, 1, 0));
    put(&store, &plain);
    assert!(is_held(&store, &plain), "it is still referenced");
    assert_sound(&store);
}

#[test]
fn reclaim_works_around_a_damaged_held_block() {
    let device = memory(8);
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    let at = place_of(&store, &plain);
    device.corrupt(at.1 + 500, |byte| *byte ^= 4);
    press(&store, 1);
    press(&store, 2);
    assert_eq!(place_of(&store, &plain), at, "what is damaged is not moved");
    assert!(is_held(&store, &plain));
    assert_sound(&store);
}

#[test]
fn a_device_full_of_held_blocks_says_so_at_once_and_goes_on_after_releases() {
    let store = open(vec![memory(16)]);
    for round in 0..3 {
        let (held, took) = fill_up(&store, round);
        assert!(held.len() > 16 * 8 / 2, "only {} blocks fit", held.len());
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(matches!(try_put(&store, &noise(77_777, BLOCK)), Err(PutError::NoSpace)), "clean blocks find no space either");
        assert_eq!(store.room_for_local(), 0);
        // Reclaim has come to rest: nothing is moved about.
        let places: Vec<_> = held.iter().map(|plain| place_of(&store, plain)).collect();
        std::thread::sleep(Duration::from_millis(300));
        assert!(places == held.iter().map(|plain| place_of(&store, plain)).collect::<Vec<_>>());
        assert_holds(&store, &held);
        assert_sound(&store);
        held.iter().for_each(|plain| store.release(BlockId::of(plain).fingerprint()));
        assert_eq!(store.stats().held_bytes, 0);
    }
    press(&store, 1);
    assert_sound(&store);
}

#[test]
fn many_puts_into_a_full_store_are_refused_quickly() {
    let store = open(vec![memory(16), memory(16)]);
    fill_up(&store, 1);
    let before = Instant::now();
    let answers: Vec<_> = (0..200).map(|at| start_put_local(&store, &noise(at, BLOCK), 0)).collect();
    for answer in answers {
        assert!(matches!(answer.recv().expect("answered"), Err(PutError::NoSpace)));
    }
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
}

#[test]
fn scattered_releases_make_room() {
    let store = open(vec![memory(16)]);
    let (held, _) = fill_up(&store, 1);
    let (gone, stay): (Vec<_>, Vec<_>) = held.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    gone.iter().for_each(|(_, plain)| store.release(BlockId::of(plain).fingerprint()));
    let (more, _) = fill_up(&store, 2);
    assert!(more.len() * 2 > gone.len(), "{} blocks were released and {} fit", gone.len(), more.len());
    assert_holds(&store, &more);
    assert_holds(&store, &stay.into_iter().map(|(_, plain)| plain.clone()).collect::<Vec<_>>());
    assert_sound(&store);
}

#[test]
fn what_room_for_local_promises_is_kept() {
    for (mib, kind) in [(16, 0), (48, 1), (16, 2), (16, 3)] {
        let store = open(vec![memory(mib)]);
        press(&store, 1);
        let mut random = StdRng::seed_from_u64(mib + kind);
        let (mut kept, mut promised) = (Vec::new(), store.room_for_local());
        assert!(promised > mib * MIB / 3, "{promised} of {mib} MiB");
        for at in 0u64.. {
            let plain = match kind {
                0 => noise(at, BLOCK),
                1 => noise(at, random.random_range(1..=BLOCK)),
                2 => noise(at, random.random_range(1..9000)),
                _ => text(at, random.random_range(1..=BLOCK)),
            };
            // What a block may take with headers and gaps.
            if promised < (BLOCK + BLOCK / 8) as u64 {
                break;
            }
            keep(&store, &plain);
            promised = store.room_for_local();
            kept.push(plain);
        }
        assert_holds(&store, &kept);
        assert_sound(&store);
    }
}

#[test]
fn devices_out_of_service_leave_no_room() {
    let bad = Arc::new(FaultyDevice::new(memory(64)));
    let (array, store) = open_array(vec![memory(64), bad.clone()]);
    let both = store.room_for_local();
    let blocks: Vec<Vec<u8>> = (0..2).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    bad.set_offline(true);
    while array.in_service(DeviceId(1)) {
        let _ = fault(&store, &blocks[1]);
    }
    assert!(store.room_for_local() <= both / 2);
}

#[test]
fn a_start_that_follows_the_caller_drops_nothing_before_it_knows() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(16)];
    let (held, let_go) = (noise(1, BLOCK), noise(2, BLOCK));
    let cached = noise(3, BLOCK);
    let store = open_following(devices.clone());
    store.holds_known();
    keep(&store, &held);
    keep(&store, &let_go);
    put(&store, &cached);
    press(&store, 1);
    kill(store);

    let store = open_following(devices);
    assert_eq!(store.stats().held_bytes, 0, "flags of frames are not taken over");
    let before = store.stats();
    let refused = (0..200).any(|at| matches!(try_put(&store, &noise(5000 + at, BLOCK)), Err(PutError::NoSpace)));
    assert!(refused, "nothing may be freed yet");
    assert_eq!(store.stats().evicted_blocks, 0);
    assert!(store.stats().blocks >= before.blocks);
    assert!(store.hold(BlockId::of(&held).fingerprint()));
    assert!(!store.hold(BlockId::of(&noise(99, BLOCK)).fingerprint()));
    store.holds_known();
    for round in 2..4 {
        press_hard(&store, round);
    }
    assert!(store.contains(&BlockId::of(&held)) && is_held(&store, &held));
    assert!(!store.contains(&BlockId::of(&let_go)), "nobody held it");
    assert_holds(&store, &[held]);
    assert_sound(&store);
}

#[test]
fn a_start_that_trusts_the_devices_finds_what_was_held() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(16)];
    let plain = noise(1, BLOCK);
    let store = open(devices.clone());
    keep(&store, &plain);
    store.close();
    let store = open(devices);
    assert!(is_held(&store, &plain));
    press(&store, 1);
    assert_holds(&store, &[plain]);
    assert_sound(&store);
}

#[test]
fn a_cached_block_that_becomes_local_is_held_over_pressure_and_restarts() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(16)];
    let blocks: Vec<Vec<u8>> = (0..4).map(|at| noise(at, BLOCK)).collect();
    let store = open_following(devices.clone());
    store.holds_known();
    put_all(&store, &blocks);
    assert!(blocks[..2].iter().all(|plain| store.hold(BlockId::of(plain).fingerprint())));
    keep_all(&store, &blocks[2..]);
    for round in 0..4 {
        press(&store, round);
        assert_holds(&store, &blocks);
        assert_sound(&store);
    }
    store.close();
    for round in 4..8 {
        let store = open_following(devices.clone());
        assert!(blocks.iter().all(|plain| store.hold(BlockId::of(plain).fingerprint())));
        store.holds_known();
        press(&store, round);
        assert_holds(&store, &blocks);
        assert_sound(&store);
        if round % 2 == 0 { kill(store) } else { store.close() }
    }
}

/// Whether the frame's own header says that it exists only here.
fn frame_says_held(store: &BlockStore, plain: &[u8]) -> bool {
    let core = store.core();
    let entry = core.index.get(BlockId::of(plain).fingerprint()).expect("stored");
    let (disk, segment) = core.locate(entry.segment).expect("on some device");
    let offset = disk.offset(segment, entry.frame.header_sector());
    let sector = crate::io::read_blocking(&**core.array.device(disk.id), &core.pool, offset, 4096).expect("a good device");
    let header = crate::format::ExtentHeader::decode(&sector).expect("intact");
    header.frame_at(entry.frame.grain).expect("there").local_only
}

#[test]
fn a_moved_frame_has_the_flag_of_its_entry() {
    let store = open(vec![memory(16)]);
    let (local, clean) = (noise(1, BLOCK), noise(2, BLOCK));
    let id = keep(&store, &local);
    put(&store, &clean);
    let before = [place_of(&store, &local), place_of(&store, &clean)];
    assert!(frame_says_held(&store, &local) && !frame_says_held(&store, &clean));
    store.release(id.fingerprint());
    assert!(store.hold(BlockId::of(&clean).fingerprint()));
    for seed in 10.. {
        // The released one is read, so that it moves as well.
        assert_holds(&store, std::slice::from_ref(&local));
        press(&store, seed);
        if place_of(&store, &local) != before[0] && place_of(&store, &clean) != before[1] {
            break;
        }
    }
    assert!(!is_held(&store, &local) && !frame_says_held(&store, &local));
    assert!(is_held(&store, &clean) && frame_says_held(&store, &clean));
    assert_sound(&store);
}

#[test]
fn a_flag_that_changes_while_the_frame_moves_is_not_undone() {
    for held_first in [true, false] {
        let device = Arc::new(FaultyDevice::new(memory(16)));
        let store = open(vec![device.clone()]);
        let plain = noise(1, BLOCK);
        let id = if held_first { keep(&store, &plain) } else { put(&store, &plain) };
        // Moved because it is held, or because it was read.
        let (_, at) = place_of(&store, &plain);
        assert!(fault(&store, &plain).is_none());
        device.script(FaultOp::Read, at..at + 1, When::Next, Fault::Hang);
        std::thread::scope(|scope| {
            scope.spawn(|| press(&store, 1));
            while device.struck() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Reclaim is reading the frame; what it decided by is out of date from here on.
            if held_first {
                store.release(id.fingerprint())
            } else {
                assert!(store.hold(id.fingerprint()))
            }
            device.release();
        });
        assert_ne!(place_of(&store, &plain).1, at);
        assert_eq!(is_held(&store, &plain), !held_first);
        assert_holds(&store, &[plain]);
        assert_sound(&store);
    }
}

#[test]
fn what_is_held_on_a_device_that_comes_late_is_held_when_it_comes() {
    let (good, content) = (memory(64), memory(64));
    let blocks: Vec<Vec<u8>> = (0..6).map(|at| noise(at, BLOCK)).collect();
    let store = open_following(vec![good.clone(), content.clone()]);
    store.holds_known();
    keep_all(&store, &blocks);
    store.close();
    let late = Arc::new(FaultyDevice::new(content));
    late.set_offline(true);
    let array = DeviceArray::new(vec![good, late.clone()]);
    let store = BlockStore::open(array.clone(), BufferPool::new(8 << 20), FS, following()).expect("one device is good");
    let here: Vec<bool> = blocks[..4].iter().map(|plain| store.hold(BlockId::of(plain).fingerprint())).collect();
    assert_eq!(here, [true, false, true, false]);
    store.holds_known();
    store.release(BlockId::of(&blocks[3]).fingerprint());
    late.set_offline(false);
    probe_until(&array, || store.contains(&BlockId::of(&blocks[1])));
    let held: Vec<bool> = blocks.iter().map(|plain| is_held(&store, plain)).collect();
    assert_eq!(held, [true, true, true, false, false, false]);
    assert_sound(&store);
}
