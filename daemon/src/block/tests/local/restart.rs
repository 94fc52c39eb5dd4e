//! What is held after a start, by the word of the caller or of the devices.

use super::*;

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

#[test]
fn what_was_kept_and_flushed_survives_a_power_cut_at_any_moment() {
    let device = memory(8);
    let store = open_following(vec![device.clone()]);
    store.holds_known();
    let held: Vec<Vec<u8>> = (0..12).map(|at| noise(at, BLOCK)).collect();
    keep_all(&store, &held);
    store.flush().expect("a good device");
    let mut images = Vec::new();
    for round in 0..60u64 {
        put_all(&store, &[noise(1000 + round * 2, BLOCK), noise(1001 + round * 2, BLOCK)]);
        images.push(Arc::new(device.power_cut(round)));
    }
    kill(store);
    for (at, image) in images.into_iter().enumerate() {
        let store = open_following(vec![image]);
        assert!(held.iter().all(|plain| store.hold(BlockId::of(plain).fingerprint())), "image {at} does not have all");
        store.holds_known();
        put_all(&store, &[noise(1, BLOCK), noise(2000, BLOCK)]);
        assert_holds(&store, &held);
        assert_sound(&store);
        kill(store);
    }
}
