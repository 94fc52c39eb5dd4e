//! Space given back: dead segments are freed, nearly empty ones emptied, nothing that counts is dropped, and writers find room afterwards.

use super::*;
use crate::io::FaultyDevice;
use crate::io::faulty::{Fault, FaultOp, When};

fn blocks(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|at| noise(at, BLOCK)).collect()
}

fn forget(store: &BlockStore, blocks: &[Vec<u8>]) {
    blocks.iter().for_each(|plain| assert!(store.forget(BlockId::of(plain).fingerprint()) > 0));
}

#[test]
fn what_is_dead_is_freed_and_what_is_nearly_empty_emptied() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let all = blocks(200);
    put_all(&store, &all);
    store.flush().expect("a good device");
    let full = store.stats().reserved_bytes;
    // Three of four in one half, all in the other.
    let (gone, left): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(at, _)| *at >= 100 || at % 4 != 0);
    let plain = |some: Vec<(usize, Vec<u8>)>| some.into_iter().map(|(_, plain)| plain).collect::<Vec<_>>();
    let (gone, left) = (plain(gone), plain(left));
    forget(&store, &gone);
    let freed = store.give_back(&|| true);
    assert!(freed >= 20, "{freed} segments");
    let stats = store.stats();
    assert!(stats.reserved_bytes < full / 3, "{} of {full} bytes are still reserved", stats.reserved_bytes);
    assert_eq!((stats.blocks, stats.evicted_blocks), (left.len() as u64, 0));
    assert_holds(&store, &left);
    assert_sound(&store);
    // All of the space is there again for others, and after a start everything is where it went.
    put_all(&store, &blocks(100));
    assert_sound(&store);
    store.close();
    let store = open(vec![device]);
    assert_holds(&store, &left);
    assert_holds(&store, &blocks(100));
    assert_sound(&store);
}

#[test]
fn free_space_goes_to_the_file_system_below_and_a_failure_there_costs_nothing() {
    for fails in [false, true] {
        let device = Arc::new(FaultyDevice::new(memory(64)));
        let store = open(vec![device.clone()]);
        let all = blocks(60);
        put_all(&store, &all);
        let (_, place) = place_of(&store, &all[30]);
        forget(&store, &all);
        if fails {
            device.script(FaultOp::Discard, 0..u64::MAX, When::Every, Fault::Errno(libc::EOPNOTSUPP));
        }
        assert!(store.give_back(&|| true) > 4);
        let bytes = crate::io::read_blocking(&*device, &store.core().pool, place, 4096).expect("reads");
        assert_eq!(bytes.iter().all(|byte| *byte == 0), !fails);
        assert!(!fails || device.struck() > 0);
        put_all(&store, &all);
        assert_holds(&store, &all);
        assert_sound(&store);
    }
}

#[test]
fn a_dead_segment_is_given_back_by_itself() {
    let store = open(vec![memory(64)]);
    let all = blocks(60);
    put_all(&store, &all);
    let full = store.stats().reserved_bytes;
    forget(&store, &all);
    eventually(|| store.stats().reserved_bytes + 2 * MIB <= full);
    assert_eq!(store.stats().blocks, 0);
}

#[test]
fn nothing_is_freed_before_it_is_known_what_is_held() {
    let config = BlockStoreConfig { holds_follow: true, ..small_config() };
    let device = memory(64);
    let store = try_open(vec![device.clone()], config.clone()).expect("opens");
    let all = blocks(60);
    put_all(&store, &all);
    store.close();
    let store = try_open(vec![device], config).expect("opens");
    forget(&store, &all);
    assert_eq!(store.give_back(&|| true), 0);
    store.holds_known();
    assert!(store.give_back(&|| true) > 4);
}

#[test]
fn a_full_device_is_not_emptied_into_itself() {
    let store = open(vec![memory(16)]);
    let all = blocks(400);
    for part in all.chunks(20) {
        put_all(&store, part);
    }
    assert!(store.stats().evicted_blocks > 200);
    store.give_back(&|| true);
    assert!(store.stats().blocks > 50, "{:?}", store.stats());
    assert_sound(&store);
    put_all(&store, &all[..50]);
    assert_holds(&store, &all[..50]);
}
