//! Which copy a local put is answered for: verified, written anew, or written by another put under way.

use super::*;
use crate::block::verify::Existing;

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
    assert_eq!(existing, Existing::Other(BlockId::of(&plain)));
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
