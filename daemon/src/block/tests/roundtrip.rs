//! What goes in comes out: sizes, encodings, ranges, duplicates.

use super::*;
use crate::io::FaultyDevice;
use crate::io::faulty::{Fault, FaultOp, When};
use crate::units::SECTOR;

fn many_sizes() -> Vec<Vec<u8>> {
    let mut lens = vec![1, 2, 15, 16, 17, 100, 4095, 4096, 4097, 5000, 8191, 8192, 8193, 100_000, BLOCK - 1, BLOCK];
    let mut random = StdRng::seed_from_u64(11);
    lens.extend((0..60).map(|_| random.random_range(1..=BLOCK)));
    lens.extend((0..60).map(|_| random.random_range(1..SECTOR)));
    let blocks = lens.into_iter().enumerate();
    blocks.flat_map(|(at, len)| [noise(at as u64, len), text(1000 + at as u64, len)]).collect()
}

#[test]
fn blocks_of_every_size_come_back() {
    let store = open(vec![memory(64), memory(64)]);
    let blocks = many_sizes();
    let ids = put_all(&store, &blocks);
    assert_eq!(ids, blocks.iter().map(|plain| BlockId::of(plain)).collect::<Vec<_>>());
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn a_block_is_written_from_where_it_lies_if_it_lies_on_sectors() {
    for (lie, is_copied) in [(at_rest as fn(&[u8]) -> Bytes, false), (askew, true)] {
        let device = Arc::new(FaultyDevice::new(memory(64)));
        let pool = BufferPool::new(8 << 20);
        let store = BlockStore::open(DeviceArray::new(vec![device.clone() as _]), pool.clone(), FS, small_config());
        let store = store.expect("a good device");
        let before = pool.stats().arena_in_use_bytes;
        device.script(FaultOp::Write, 0..u64::MAX, When::Every, Fault::Hang);
        let (answer, answered) = mpsc::channel();
        let plain = noise(5, BLOCK);
        store.put(lie(&plain), DeviceId(0), Box::new(move |result| drop(answer.send(result))));
        eventually(|| device.struck() > 0);
        assert_eq!(pool.stats().arena_in_use_bytes - before >= BLOCK as u64, is_copied);
        device.heal();
        // Until what was struck hangs where it can be released from.
        let stored = loop {
            device.release();
            match answered.recv_timeout(std::time::Duration::from_millis(20)) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                answered => break answered.expect("answered"),
            }
        };
        assert_eq!(stored.expect("stored"), BlockId::of(&plain));
        assert_holds(&store, &[plain]);
    }
}

#[test]
fn an_extent_may_begin_with_blocks_at_rest_and_go_on_with_others() {
    let store = open(vec![memory(64)]);
    let blocks: Vec<Vec<u8>> = (0..12).map(|at| if at == 3 { text(at, BLOCK) } else { noise(at, BLOCK) }).collect();
    let answers: Vec<_> = blocks
        .iter()
        .enumerate()
        .map(|(at, plain)| {
            let (answer, receiver) = mpsc::channel();
            let lies = if at % 4 == 1 { askew(plain) } else { at_rest(plain) };
            store.put(lies, DeviceId(0), Box::new(move |result| drop(answer.send(result))));
            receiver
        })
        .collect();
    for answer in answers {
        answer.recv().expect("answered").expect("stored");
    }
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn compressible_blocks_take_less_space() {
    let store = open(vec![memory(64)]);
    put(&store, &text(1, BLOCK));
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.plain_bytes), (1, BLOCK as u64));
    assert!(stats.stored_bytes < BLOCK as u64 * 3 / 4, "{stats:?}");
}

#[test]
fn without_compression_every_frame_is_raw() {
    let config = BlockStoreConfig { compress: false, ..small_config() };
    let store = try_open(vec![memory(64)], config).expect("a good device");
    let plain = text(1, BLOCK);
    put(&store, &plain);
    assert_eq!(store.stats().stored_bytes, BLOCK as u64);
    assert_holds(&store, &[plain]);
}

/// A file of blocks of mixed kinds, the last one short.
fn file() -> Vec<Vec<u8>> {
    let mut blocks: Vec<Vec<u8>> = (0..24).map(|at| if at % 3 == 1 { text(at, BLOCK) } else { noise(at, BLOCK) }).collect();
    blocks.push(noise(99, 70_001));
    blocks
}

fn wants_for(blocks: &[Vec<u8>], start: usize, len: usize) -> Vec<BlockWant> {
    let mut wants = Vec::new();
    let mut at = start;
    while at < start + len {
        let plain = &blocks[at / BLOCK];
        let from = at % BLOCK;
        let take = (plain.len() - from).min(start + len - at);
        wants.push(want(plain, from, take));
        at += take;
    }
    wants
}

fn random_ranges_match(config: BlockStoreConfig) {
    let store = try_open(vec![memory(64), memory(64), memory(64)], config).expect("good devices");
    let blocks = file();
    put_all(&store, &blocks);
    let bytes = blocks.concat();
    let mut random = StdRng::seed_from_u64(5);
    for round in 0..300 {
        let start = random.random_range(0..bytes.len());
        let most = if round % 2 == 0 { 5000 } else { 700_000 };
        let len = random.random_range(1..=most.min(bytes.len() - start));
        let got = read(&store, wants_for(&blocks, start, len)).expect("everything is stored");
        assert!(got == bytes[start..start + len], "bytes {start}+{len} differ");
    }
    let aligned = read(&store, wants_for(&blocks, 0, bytes.len())).expect("everything is stored");
    assert!(aligned == bytes, "the whole file differs");
}

#[test]
fn ranges_across_blocks_at_odd_offsets_match() {
    random_ranges_match(small_config());
}

#[test]
fn ranges_match_when_no_header_is_ever_in_memory() {
    random_ranges_match(BlockStoreConfig { header_cache_bytes: 0, ..small_config() });
}

#[test]
fn pieces_of_blocks_that_share_sectors_are_put_together() {
    let store = open(vec![memory(64)]);
    let blocks: Vec<Vec<u8>> = (0..50).map(|at| noise(at, 10 + at as usize * 90)).collect();
    put_all(&store, &blocks);
    let wants = blocks.iter().map(|plain| want(plain, 3, plain.len() - 5)).collect();
    let expected: Vec<u8> = blocks.iter().flat_map(|plain| plain[3..plain.len() - 2].to_vec()).collect();
    assert!(read(&store, wants).expect("everything is stored") == expected);
}

#[test]
fn a_small_read_of_a_raw_block_reads_one_sector() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let plain = noise(3, BLOCK);
    put(&store, &plain);
    let before = device.counters();
    let got = read(&store, vec![want(&plain, 5 * SECTOR, SECTOR)]).expect("stored");
    let after = device.counters();
    assert!(got == plain[5 * SECTOR..6 * SECTOR]);
    assert_eq!((after.reads - before.reads, after.read_bytes - before.read_bytes), (1, SECTOR as u64));
}

#[test]
fn a_long_read_of_neighbours_merges_into_large_requests() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let blocks: Vec<Vec<u8>> = (0..16).map(|at| noise(at, BLOCK)).collect();
    // One after the other into the encoder, so that they lie in order.
    let config = BlockStoreConfig { encoder_threads: 1, segment_bytes: Some(8 << 20), ..small_config() };
    drop(store);
    let device = memory(64);
    let store = try_open(vec![device.clone()], config).expect("a good device");
    put_all(&store, &blocks);
    let before = device.counters().reads;
    let got = read(&store, blocks.iter().map(|plain| whole(plain)).collect()).expect("stored");
    assert!(got == blocks.concat());
    assert!(device.counters().reads - before <= 4, "16 neighbouring blocks took {} reads", device.counters().reads - before);
}

#[test]
fn the_same_block_is_stored_once() {
    let store = open(vec![memory(64)]);
    let plain = noise(1, BLOCK);
    put(&store, &plain);
    put(&store, &plain);
    put_all(&store, &vec![plain.clone(); 10]);
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.dedup_bytes), (1, 11 * BLOCK as u64));
    assert_sound(&store);
}

#[test]
fn the_same_block_put_twice_at_once_is_stored_once() {
    let store = open(vec![memory(64)]);
    let blocks: Vec<Vec<u8>> = (0..20).flat_map(|at| [noise(at, BLOCK), noise(at, BLOCK)]).collect();
    put_all(&store, &blocks);
    assert_eq!(store.stats().blocks, 20);
    assert_eq!(store.stats().dedup_bytes, 20 * BLOCK as u64);
    assert_sound(&store);
}

#[test]
fn without_dedup_a_second_put_replaces_the_copy() {
    let config = BlockStoreConfig { dedup: false, ..small_config() };
    let store = try_open(vec![memory(64)], config).expect("a good device");
    let plain = noise(1, BLOCK);
    put(&store, &plain);
    let first = place_of(&store, &plain);
    put(&store, &plain);
    assert_ne!(place_of(&store, &plain), first);
    assert_eq!((store.stats().blocks, store.stats().dedup_bytes), (1, 0));
    assert_sound(&store);
}

#[test]
fn every_missing_block_is_named_with_its_position() {
    let store = open(vec![memory(64)]);
    let here = noise(1, 5000);
    put(&store, &here);
    let (gone, lost) = (noise(2, 5000), noise(3, 5000));
    let faults = read(&store, vec![whole(&gone), whole(&here), whole(&lost)]).expect_err("two are missing");
    let named: Vec<_> = faults.iter().map(|(at, fault)| (*at, matches!(fault, ReadFault::Missing(_)))).collect();
    assert_eq!(named, [(0, true), (2, true)]);
    assert!(!store.contains(&BlockId::of(&gone)));
}

#[test]
fn a_block_with_the_same_fingerprint_is_missing_not_mistaken() {
    let store = open(vec![memory(64)]);
    let plain = noise(1, 5000);
    put(&store, &plain);
    let mut other = BlockId::of(&plain);
    other.0[20] ^= 1;
    let faults = read(&store, vec![BlockWant { id: other, ..whole(&plain) }]).expect_err("no such block");
    assert!(matches!(faults[..], [(0, ReadFault::Missing(id))] if id == other), "{faults:?}");
    assert_holds(&store, &[plain]);
}

#[test]
fn an_empty_read_is_empty() {
    assert_eq!(read(&open(vec![memory(64)]), Vec::new()).expect("nothing to fail"), Bytes::new());
}

#[test]
fn a_closed_store_answers() {
    let store = open(vec![memory(64)]);
    let plain = noise(1, 5000);
    put(&store, &plain);
    store.close();
    assert!(matches!(try_put(&store, &plain), Err(PutError::Closing)));
    assert!(matches!(fault(&store, &plain), Some(ReadFault::Missing(_))));
    assert!(!store.contains(&BlockId::of(&plain)));
}
