//! Held blocks: never dropped, verified before they are referenced, counted exactly, and let go when nobody references them.

mod copies;
mod model;
mod moves;
mod restart;
mod space;
mod twice;

use super::*;
use crate::io::FaultyDevice;
use crate::io::faulty::{Fault, FaultOp, When};
use std::time::Duration;

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
    let blocks: Vec<Vec<u8>> = (0..250).map(|at| noise(1_000_000 + seed * 1000 + at, BLOCK)).collect();
    for part in blocks.chunks(25) {
        put_all(store, part);
    }
}

/// As [`press`], and every block is read, so that main segments come and go too.
fn press_hard(store: &BlockStore, seed: u64) {
    let blocks: Vec<Vec<u8>> = (0..250).map(|at| noise(2_000_000 + seed * 1000 + at, BLOCK)).collect();
    for part in blocks.chunks(25) {
        put_all(store, part);
        for plain in part {
            let _ = fault(store, plain);
        }
    }
}

#[test]
fn held_blocks_stay_while_clean_ones_come_and_go() {
    let store = open(vec![memory(16)]);
    let held: Vec<Vec<u8>> = (0..40).map(|at| if at % 4 == 0 { text(at, BLOCK) } else { noise(at, BLOCK) }).collect();
    for part in held.chunks(8) {
        keep_all(&store, part);
        press(&store, part[0][0].into());
    }
    assert!(store.stats().evicted_blocks > 800);
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
    // It was read, so it survives the first passes.
    assert!((2..30).any(|seed| {
        press_hard(&store, seed);
        !store.contains(&id)
    }));
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
fn what_a_thread_holds_stays_whatever_others_do_with_the_same_blocks() {
    const BLOCKS: u64 = 60;
    let store = open(vec![memory(16), memory(16)]);
    let block = |at: u64| if at.is_multiple_of(3) { noise(at, 3000) } else { noise(at, BLOCK) };
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(thread);
                let mut held = std::collections::BTreeSet::new();
                for _ in 0..200 {
                    // Each thread holds blocks of its own, and caches those of all.
                    let own = random.random_range(0..BLOCKS / 4) * 4 + thread;
                    let any = random.random_range(0..BLOCKS + 200);
                    let id = BlockId::of(&block(own));
                    match random.random_range(0..5) {
                        0 | 1 => {
                            start_put(store, &block(any), 0).recv().expect("answered").expect("stored");
                        }
                        2 => {
                            start_put_local(store, &block(own), 1).recv().expect("answered").expect("stored");
                            store.keep(&id);
                            held.insert(own);
                        }
                        3 if held.remove(&own) => store.release(id.fingerprint()),
                        _ => held.iter().for_each(|at| assert_holds(store, &[block(*at)])),
                    }
                }
                held.iter().for_each(|at| assert!(is_held(store, &block(*at))));
            });
        }
    });
    assert!(store.stats().evicted_blocks > 0, "there was no pressure");
    assert_eq!(store.stats().corrupt_blocks, 0);
    assert_sound(&store);
}
