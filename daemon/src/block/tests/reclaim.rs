//! A full cache: puts go on, what is hot stays, the figures are right.

use super::*;

#[test]
fn a_full_cache_takes_new_blocks_and_forgets_old_ones() {
    let store = open(vec![memory(16)]);
    let blocks: Vec<Vec<u8>> = (0..500).map(|at| noise(at, BLOCK)).collect();
    for part in blocks.chunks(25) {
        put_all(&store, part);
    }
    let stats = store.stats();
    assert!(stats.evicted_blocks > 300, "{stats:?}");
    assert_eq!(stats.blocks + stats.evicted_blocks, 500);
    assert!(stats.reserved_bytes <= stats.capacity_bytes);
    // Newest first out last: the last ones are there.
    assert_holds(&store, &blocks[490..]);
    assert_sound(&store);
}

#[test]
fn a_full_cache_survives_restarts_of_both_kinds() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(16), memory(16)];
    for round in 0..6u64 {
        let store = open(devices.clone());
        let blocks: Vec<Vec<u8>> = (0..200).map(|at| noise(round * 1000 + at, BLOCK)).collect();
        for part in blocks.chunks(25) {
            put_all(&store, part);
        }
        assert_holds(&store, &blocks[190..]);
        assert_sound(&store);
        if round % 2 == 0 { kill(store) } else { store.close() }
    }
}

#[test]
fn the_smallest_device_works() {
    let device = Arc::new(MemoryDevice::new(4 * MIB + (64 << 10)));
    let store = open(vec![device]);
    for at in 0..300 {
        let plain = noise(at, BLOCK);
        put(&store, &plain);
        assert_holds(&store, &[plain]);
    }
    assert_sound(&store);
}

#[test]
fn one_pass_over_ten_times_the_cache_leaves_the_hot_set() {
    let store = open(vec![memory(16)]);
    let hot: Vec<Vec<u8>> = (0..30).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &hot);
    let mut hits = 0;
    let rounds = 10 * 16 * 8 / 20;
    for round in 0..rounds {
        let scan: Vec<Vec<u8>> = (0..20).map(|at| noise(10_000 + round * 20 + at, BLOCK)).collect();
        put_all(&store, &scan);
        hits += hot.iter().filter(|plain| fault(&store, plain).is_none()).count();
    }
    let possible = hot.len() * rounds as usize;
    assert!(hits * 100 >= possible * 95, "the hot set was there in {hits} of {possible} reads");
    assert_sound(&store);
}

#[test]
fn blocks_that_come_back_soon_after_they_were_dropped_go_to_main() {
    let store = open(vec![memory(16)]);
    // Several: the table of what was dropped forgets one where another falls on its slot.
    let back: Vec<Vec<u8>> = (0..8).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &back);
    for at in 100.. {
        put(&store, &noise(at, BLOCK));
        if back.iter().all(|plain| !store.contains(&BlockId::of(plain))) {
            break;
        }
    }
    put_all(&store, &back);
    let core = store.core();
    let is_in_main = |plain: &&Vec<u8>| {
        let entry = core.index.get(BlockId::of(plain).fingerprint()).expect("just put");
        let (disk, segment) = core.locate(entry.segment).expect("on some device");
        disk.segments[segment as usize].class() == crate::format::SegmentClass::Main
    };
    let in_main = back.iter().filter(is_in_main).count();
    assert!(in_main >= 5, "{in_main} of {} went to main", back.len());
}

#[test]
fn a_cache_in_which_everything_is_hot_still_takes_new_blocks() {
    let store = open(vec![memory(8)]);
    let mut recent: Vec<Vec<u8>> = Vec::new();
    for at in 0..300 {
        let plain = noise(at, BLOCK);
        put(&store, &plain);
        recent.push(plain);
        for plain in recent.iter().rev().take(40) {
            let _ = fault(&store, plain);
        }
    }
    assert_holds(&store, &recent[299..]);
    assert_sound(&store);
}

#[test]
fn small_frames_fill_and_leave_segments_too() {
    let store = open(vec![memory(8)]);
    for round in 0..30u64 {
        let blocks: Vec<Vec<u8>> = (0..400).map(|at| noise(round * 400 + at, 1 + (at as usize * 37) % 3000)).collect();
        put_all(&store, &blocks);
        assert_holds(&store, &blocks[395..]);
    }
    assert!(store.stats().evicted_blocks > 0);
    assert_sound(&store);
}
