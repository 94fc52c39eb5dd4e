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

fn start_put_now(store: &BlockStore, plain: &[u8], device: u8) -> mpsc::Receiver<Result<BlockId, PutError>> {
    let (answer, receiver) = mpsc::channel();
    store.put_now(at_rest(plain), DeviceId(device), Box::new(move |result| drop(answer.send(result))));
    receiver
}

#[test]
fn what_has_to_wait_is_left_to_others_and_the_rest_is_done_at_once() {
    let gated = Gated::new();
    let config = BlockStoreConfig { encoder_threads: 1, ..small_config() };
    let store = try_open(vec![memory(64), gated.clone()], config).expect("good devices");
    gated.set(false);
    // Opens a segment on the first device, and has the only encoder wait for one on the second.
    let blocks: Vec<_> = (0..12).map(|seed| noise(seed, BLOCK)).collect();
    start_put_now(&store, &blocks[0], 0).recv().expect("answered").expect("stored");
    let waiting: Vec<_> = blocks[1..3].iter().map(|plain| start_put_now(&store, plain, 1)).collect();
    // The caller's own thread, since there is no other.
    let now: Vec<_> = blocks[3..].iter().map(|plain| start_put_now(&store, plain, 0)).collect();
    for answer in now {
        answer.recv().expect("answered").expect("stored");
    }
    assert!(waiting.iter().all(|answer| answer.try_recv().is_err()), "no space is reserved yet");
    gated.set(true);
    for answer in waiting {
        answer.recv().expect("answered").expect("stored");
    }
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
                let order = (0..blocks.len()).map(|at| (at + first * 10) % blocks.len());
                let answers: Vec<_> = order.map(|at| start_put_now(store, &blocks[at], at as u8 % 2)).collect();
                for answer in answers {
                    answer.recv().expect("answered").expect("stored");
                }
            });
        }
    });
    assert_holds(&store, &blocks);
    assert_eq!(store.stats().blocks, blocks.len() as u64);
    assert_sound(&store);
}
