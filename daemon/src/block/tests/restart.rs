//! What a store finds again: after a clean stop, a kill, a torn write, a power cut.

use super::*;
use crate::units::SECTOR;

fn blocks(count: u64) -> Vec<Vec<u8>> {
    let block = |at: u64| match at % 4 {
        0 => noise(at, BLOCK),
        1 => text(at, BLOCK),
        2 => noise(at, 700 + at as usize),
        _ => noise(at, 40_000),
    };
    (0..count).map(block).collect()
}

#[test]
fn a_clean_stop_loses_nothing() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(64), memory(64)];
    let blocks = blocks(200);
    let store = open(devices.clone());
    put_all(&store, &blocks);
    let before = store.stats();
    store.close();
    let store = open(devices);
    let after = store.stats();
    assert_eq!((after.blocks, after.plain_bytes, after.stored_bytes), (before.blocks, before.plain_bytes, before.stored_bytes));
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn a_clean_stop_needs_no_scan() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    put_all(&store, &blocks(100));
    store.close();
    let before = device.counters();
    drop(open(vec![device.clone()]));
    let segments = 63;
    assert!(device.counters().reads - before.reads <= 2 * segments + 8, "{:?} {before:?}", device.counters());
}

#[test]
fn a_kill_loses_nothing_that_was_answered() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(64), memory(64)];
    let blocks = blocks(200);
    let store = open(devices.clone());
    put_all(&store, &blocks);
    kill(store);
    let store = open(devices);
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn many_stops_of_both_kinds_lose_nothing_and_waste_no_segment() {
    let devices: Vec<Arc<dyn Device>> = vec![memory(32)];
    let blocks = blocks(60);
    for (round, part) in blocks.chunks(6).enumerate() {
        let store = open(devices.clone());
        assert_holds(&store, &blocks[..round * 6]);
        put_all(&store, part);
        assert_sound(&store);
        if round % 2 == 0 { kill(store) } else { store.close() }
    }
    let store = open(devices);
    assert_holds(&store, &blocks);
    let stats = store.stats();
    assert!(stats.reserved_bytes <= stats.stored_bytes + stats.stored_bytes / 2 + 2 * MIB, "{stats:?}");
}

#[test]
fn a_power_cut_after_a_flush_loses_nothing_that_was_flushed() {
    for seed in 0..4 {
        let device = memory(64);
        let blocks = blocks(120);
        let store = open(vec![device.clone()]);
        put_all(&store, &blocks[..80]);
        store.flush().expect("a good device");
        put_all(&store, &blocks[80..]);
        let left = Arc::new(device.power_cut(seed));
        kill(store);
        let store = open(vec![left]);
        assert_holds(&store, &blocks[..80]);
        assert_sound(&store);
    }
}

#[test]
fn after_a_power_cut_whatever_is_found_is_intact() {
    for seed in 0..6 {
        let device = memory(64);
        let blocks = blocks(150);
        let store = open(vec![device.clone()]);
        put_all(&store, &blocks);
        let left = Arc::new(device.power_cut(seed));
        kill(store);
        let store = open(vec![left]);
        for plain in &blocks {
            let fault = fault(&store, plain);
            let fine = match fault {
                None => true,
                Some(ReadFault::Missing(_)) => !store.contains(&BlockId::of(plain)),
                Some(_) => false,
            };
            assert!(fine, "seed {seed}: {fault:?}");
        }
        assert_eq!(store.stats().corrupt_blocks, 0);
        assert_sound(&store);
        put_all(&store, &blocks);
        assert_holds(&store, &blocks);
    }
}

#[test]
fn a_torn_last_extent_ends_the_scan_there() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let (kept, torn) = (noise(1, BLOCK), noise(2, BLOCK));
    put(&store, &kept);
    put(&store, &torn);
    let (_, at) = place_of(&store, &torn);
    kill(store);
    device.corrupt(at - SECTOR as u64 + 100, |byte| *byte ^= 0xff);
    let store = open(vec![device]);
    assert_holds(&store, &[kept]);
    assert!(!store.contains(&BlockId::of(&torn)));
    // The next block goes where the torn one was, and is found again.
    let next = noise(3, BLOCK);
    put(&store, &next);
    assert_eq!(place_of(&store, &next).1, at);
    assert_sound(&store);
}

#[test]
fn a_damaged_footer_falls_back_to_a_scan() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let blocks = blocks(40);
    put_all(&store, &blocks);
    store.close();
    // Every segment's last sector.
    let geometry = store.core().disks[0].geometry;
    for segment in 0..geometry.segments {
        device.corrupt(geometry.segment_offset(segment + 1) - 4000, |byte| *byte ^= 1);
    }
    let store = open(vec![device]);
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn a_sealed_segment_whose_table_is_long_is_found() {
    let config = BlockStoreConfig { segment_bytes: Some(16 << 20), ..small_config() };
    let device: Arc<dyn Device> = memory(128);
    let store = try_open(vec![device.clone()], config.clone()).expect("a good device");
    let blocks: Vec<Vec<u8>> = (0..3000).map(|at| noise(at, 300)).collect();
    put_all(&store, &blocks);
    store.close();
    let store = try_open(vec![device], config).expect("a good device");
    assert_holds(&store, &blocks);
}

#[test]
fn after_a_power_cut_at_any_moment_of_a_full_cache_whatever_is_found_is_intact() {
    let device = memory(6);
    let store = open(vec![device.clone()]);
    let blocks: Vec<Vec<u8>> = (0..220).map(|at| noise(at, BLOCK)).collect();
    let mut images = Vec::new();
    for (round, part) in blocks.chunks(2).enumerate() {
        put_all(&store, part);
        // Some are read, so that frames move.
        if round % 3 == 0 {
            let _ = fault(&store, &part[0]);
        }
        if round >= 60 {
            images.push(Arc::new(device.power_cut(round as u64)));
        }
    }
    kill(store);
    for (at, image) in images.into_iter().enumerate() {
        let store = open(vec![image]);
        let found: Vec<_> = blocks.iter().filter(|plain| store.contains(&BlockId::of(plain))).collect();
        assert!(found.len() > 5, "image {at}: only {} blocks were found", found.len());
        for plain in found {
            // A full cache goes on reclaiming: a block may leave between the two questions, but never turn out damaged.
            let fault = fault(&store, plain);
            assert!(matches!(fault, None | Some(ReadFault::Missing(_))), "image {at}: {fault:?}");
        }
        assert_sound(&store);
        kill(store);
    }
}
