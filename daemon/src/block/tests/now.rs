//! Puts on threads that must not wait.

use super::*;
use crate::io::{DeviceCounters, IoError, IoRequest};
use parking_lot::{Condvar, Mutex as Lock};

/// A device that reserves space only once it may.
struct Gated {
    inner: Arc<MemoryDevice>,
    may: Lock<bool>,
    changed: Condvar,
}

impl Gated {
    fn new() -> Arc<Self> {
        Arc::new(Gated { inner: memory(64), may: Lock::new(true), changed: Condvar::new() })
    }

    fn set(&self, may: bool) {
        *self.may.lock() = may;
        self.changed.notify_all();
    }
}

impl Device for Gated {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn len(&self) -> u64 {
        self.inner.len()
    }
    fn submit(&self, batch: Vec<IoRequest>) {
        self.inner.submit(batch);
    }
    fn flush(&self) -> Result<(), IoError> {
        self.inner.flush()
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.changed.wait_while(&mut self.may.lock(), |may| !*may);
        self.inner.allocate(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.inner.discard(offset, len)
    }
    fn counters(&self) -> DeviceCounters {
        self.inner.counters()
    }
}

type Answers = mpsc::Receiver<Result<BlockId, PutError>>;

/// Puts blocks, which all lie where a device can take them, and returns before they are answered.
fn put_all_now(store: &BlockStore, blocks: &[Vec<u8>], device: impl Fn(usize) -> u8) -> Answers {
    let (answer, answers) = mpsc::channel();
    for (at, plain) in blocks.iter().enumerate() {
        let answer = answer.clone();
        store.put_now(at_rest(plain), DeviceId(device(at)), Box::new(move |result| drop(answer.send(result))));
    }
    answers
}

fn take(answers: &Answers, count: usize) {
    for _ in 0..count {
        answers.recv().expect("answered").expect("stored");
    }
}

#[test]
fn what_has_to_wait_is_left_to_others_and_the_rest_is_done_at_once() {
    let gated = Gated::new();
    let config = BlockStoreConfig { encoder_threads: 1, segment_bytes: Some(8 * MIB), ..small_config() };
    let store = try_open(vec![memory(64), gated.clone()], config).expect("good devices");
    let blocks: Vec<_> = (0..33).map(|seed| noise(seed, BLOCK)).collect();
    // Opens a segment on the first device; then the only encoder waits for one on the second.
    take(&put_all_now(&store, &blocks[..1], |_| 0), 1);
    gated.set(false);
    let waiting = put_all_now(&store, &blocks[1..3], |_| 1);
    let others = put_all_now(&store, &blocks[3..], |_| 0);
    // Added by the caller's own thread, since there is no other. The last extent (of 2 MiB) is not full, and one or two blocks may have met a lane
    // in use.
    take(&others, 10);
    assert!(waiting.try_recv().is_err(), "no space is reserved yet");
    gated.set(true);
    take(&waiting, 2);
    take(&others, 20);
    assert_holds(&store, &blocks);
    assert_sound(&store);
}

#[test]
fn many_are_put_at_once_and_no_block_twice() {
    let store = open(vec![memory(64), memory(64)]);
    let blocks: Vec<_> =
        (0..40).map(|seed| if seed % 3 == 0 { text(seed, BLOCK) } else { noise(seed, BLOCK - seed as usize % 2) }).collect();
    std::thread::scope(|scope| {
        for first in 0..4 {
            let (store, blocks) = (&store, &blocks);
            scope.spawn(move || {
                let mut order = blocks.clone();
                order.rotate_left(first * 10);
                take(&put_all_now(store, &order, |at| at as u8 % 2), order.len());
            });
        }
    });
    assert_holds(&store, &blocks);
    assert_eq!(store.stats().blocks, blocks.len() as u64);
    assert_sound(&store);
}
