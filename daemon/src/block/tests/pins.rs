//! Pinned blocks: dropped last, never in the way.

use super::*;

fn pin_all(set: &PinSet, blocks: &[Vec<u8>]) {
    blocks.iter().for_each(|plain| set.add(BlockId::of(plain).fingerprint()));
}

fn scan(store: &BlockStore, first: u64, count: u64) {
    for part in (first..first + count).collect::<Vec<_>>().chunks(25) {
        put_all(store, &part.iter().map(|at| noise(*at, BLOCK)).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_pinned_stays_whatever_comes_and_goes_once_it_is_let_go_of() {
    let store = open(vec![memory(16)]);
    let kept: Vec<Vec<u8>> = (0..30).map(|at| noise(at, BLOCK)).collect();
    let set = store.pin_set();
    // Before some of them are there, and after.
    pin_all(&set, &kept[..10]);
    put_all(&store, &kept);
    pin_all(&set, &kept[10..]);
    scan(&store, 1000, 500);
    assert_holds(&store, &kept);
    let stats = store.stats();
    assert!(stats.evicted_blocks > 300, "everything else went: {stats:?}");
    assert_eq!((stats.dropped_pins, stats.pinned_bytes), (0, 30 * BLOCK as u64));
    assert_sound(&store);
    drop(set);
    assert_eq!(store.stats().pinned_bytes, 0);
    let given_back: u64 = kept.iter().map(|plain| store.forget(BlockId::of(plain).fingerprint())).sum();
    assert_eq!(given_back, 30 * BLOCK as u64, "nothing keeps them any more");
    assert_sound(&store);
}

#[test]
fn pins_that_fill_the_cache_yield_rather_than_refuse() {
    let store = open(vec![memory(16)]);
    let set = store.pin_set();
    let kept: Vec<Vec<u8>> = (0..500).map(|at| noise(at, BLOCK)).collect();
    pin_all(&set, &kept);
    for part in kept.chunks(25) {
        put_all(&store, part);
    }
    let stats = store.stats();
    assert!(stats.dropped_pins > 300, "{stats:?}");
    assert_eq!(stats.evicted_blocks, stats.dropped_pins);
    // What is put is stored, pinned or not.
    assert_holds(&store, &kept[490..]);
    let other = noise(9999, BLOCK);
    put(&store, &other);
    assert_holds(&store, &[other]);
    assert_eq!(store.room_for_pins(), 0);
    assert_sound(&store);
}

#[test]
fn the_room_for_pins_is_there() {
    let store = open(vec![memory(32)]);
    scan(&store, 5000, 400);
    let set = store.pin_set();
    let mut kept = Vec::new();
    while store.room_for_pins() > 2 * BLOCK as u64 {
        let plain = noise(kept.len() as u64, BLOCK);
        put(&store, &plain);
        pin_all(&set, std::slice::from_ref(&plain));
        kept.push(plain);
    }
    assert!(kept.len() > 100, "{}", kept.len());
    scan(&store, 6000, 400);
    assert_eq!(store.stats().dropped_pins, 0);
    assert_holds(&store, &kept);
    assert_sound(&store);
}

#[test]
fn a_block_is_pinned_as_long_as_any_set_has_it() {
    let store = open(vec![memory(16)]);
    let plain = noise(1, BLOCK);
    let (one, other) = (store.pin_set(), store.pin_set());
    put(&store, &plain);
    let fingerprint = BlockId::of(&plain).fingerprint();
    one.add(fingerprint);
    one.add(fingerprint);
    other.add(fingerprint);
    drop(one);
    assert_eq!(store.forget(fingerprint), 0, "pinned");
    assert!(store.stats().pinned_bytes > 0);
    drop(other);
    assert_eq!(store.stats().pinned_bytes, 0);
    assert!(store.forget(fingerprint) >= BLOCK as u64);
    assert!(!store.contains(&BlockId::of(&plain)));
    assert_eq!(store.stats().blocks, 0);
}

#[test]
fn held_blocks_are_not_forgotten_and_count_as_pinned_once_they_are_let_go_of() {
    let store = open(vec![memory(16)]);
    let plain = noise(1, BLOCK);
    let (answer, receiver) = mpsc::channel();
    store.put_local(Bytes::copy_from_slice(&plain), DeviceId(0), Box::new(move |result| drop(answer.send(result))));
    store.flush().expect("the device is good");
    let id = receiver.recv().expect("answered").expect("stored");
    store.keep(&id);
    assert_eq!(store.forget(id.fingerprint()), 0, "held");
    let set = store.pin_set();
    set.add(id.fingerprint());
    assert_eq!(store.stats().pinned_bytes, 0, "held: counted as that");
    assert_sound(&store);
    store.release(id.fingerprint());
    assert!(store.stats().pinned_bytes >= BLOCK as u64);
    assert_sound(&store);
    assert!(store.hold(id.fingerprint()));
    assert_eq!(store.stats().pinned_bytes, 0);
    assert_sound(&store);
    drop(set);
    assert_sound(&store);
}
