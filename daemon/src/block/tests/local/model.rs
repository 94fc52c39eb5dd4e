//! Random sequences of everything that concerns held blocks, compared with a plain list of who references what.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Distinct blocks; together more than the device takes.
const BLOCKS: usize = 90;

#[derive(Clone, Debug)]
enum Op {
    Put(usize),
    /// A local put, and whether its result is recorded, refused, or left for later.
    PutLocal(usize, After),
    /// All results left for later are recorded.
    KeepPending,
    Hold(usize),
    Release(usize),
    Read(usize),
    Restart {
        kill: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum After {
    Keep,
    Discard,
    Wait,
}

fn op() -> impl Strategy<Value = Op> {
    let block = 0..BLOCKS;
    let after = prop_oneof![4 => Just(After::Keep), 1 => Just(After::Discard), 1 => Just(After::Wait)];
    prop_oneof![
        30 => block.clone().prop_map(Op::Put),
        20 => (block.clone(), after).prop_map(|(block, after)| Op::PutLocal(block, after)),
        2 => Just(Op::KeepPending),
        5 => block.clone().prop_map(Op::Hold),
        20 => block.clone().prop_map(Op::Release),
        20 => block.prop_map(Op::Read),
        1 => any::<bool>().prop_map(|kill| Op::Restart { kill }),
    ]
}

fn block(at: usize) -> Vec<u8> {
    match at % 6 {
        0 => text(at as u64, BLOCK),
        1 => noise(at as u64, 100 + at * 50),
        2 => text(at as u64, 30_000),
        _ => noise(at as u64, BLOCK),
    }
}

struct Model {
    devices: Vec<Arc<dyn Device>>,
    store: BlockStore,
    copies: u8,
    restarts: usize,
    /// Blocks that something references.
    referenced: [bool; BLOCKS],
    /// Results of local puts that are still to be recorded.
    pending: HashMap<usize, u32>,
}

impl Model {
    fn new(copies: u8) -> Self {
        let devices: Vec<Arc<dyn Device>> = if copies == 1 { vec![memory(7), memory(6)] } else { vec![memory(12), memory(11)] };
        let store = Self::open(&devices, copies);
        store.holds_known();
        Model { devices, store, copies, restarts: 0, referenced: [false; BLOCKS], pending: HashMap::new() }
    }

    fn open(devices: &[Arc<dyn Device>], copies: u8) -> BlockStore {
        let config = BlockStoreConfig { holds_follow: true, copies, ..small_config() };
        try_open(devices.to_vec(), config).expect("good devices")
    }

    fn is_held(&self, at: usize) -> bool {
        self.referenced[at] || self.pending.contains_key(&at)
    }

    fn put_local(&mut self, at: usize, after: After) {
        let (answer, receiver) = mpsc::channel();
        let done = Box::new(move |result| drop(answer.send(result)));
        self.store.put_local(Bytes::from(block(at)), DeviceId(at as u8 % 2), done);
        self.store.flush().expect("good devices");
        let id = match receiver.recv().expect("answered") {
            Ok(id) => id,
            Err(error) => return assert!(matches!(error, PutError::NoSpace), "{error:?}"),
        };
        match after {
            After::Keep => {
                self.store.keep(&id);
                self.referenced[at] = true;
            }
            After::Discard => self.store.discard(&id, self.referenced[at]),
            After::Wait => *self.pending.entry(at).or_default() += 1,
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put(at) => {
                let put = try_put(&self.store, &block(*at));
                assert!(matches!(put, Ok(_) | Err(PutError::NoSpace)), "{put:?}");
            }
            Op::PutLocal(at, after) => self.put_local(*at, *after),
            Op::KeepPending => {
                for (at, count) in std::mem::take(&mut self.pending) {
                    (0..count).for_each(|_| self.store.keep(&BlockId::of(&block(at))));
                    self.referenced[at] = true;
                }
            }
            Op::Hold(at) => {
                let id = BlockId::of(&block(*at));
                if self.store.contains(&id) && self.store.hold(id.fingerprint()) {
                    self.referenced[*at] = true;
                }
            }
            Op::Release(at) => {
                self.store.release(BlockId::of(&block(*at)).fingerprint());
                self.referenced[*at] = false;
            }
            Op::Read(at) => {
                let met = fault(&self.store, &block(*at));
                assert!(matches!(met, None | Some(ReadFault::Missing(_))), "{met:?}");
                assert!(met.is_none() || !self.is_held(*at), "block {at} is held, and missing");
            }
            Op::Restart { kill: killed } => self.restart(*killed),
        }
    }

    fn restart(&mut self, killed: bool) {
        let lacking = self.store.lacking_copies();
        // What was not recorded is not referenced.
        self.pending.clear();
        if killed {
            kill(self.store.clone())
        } else {
            self.store.close()
        }
        self.restarts += 1;
        if self.copies == 2 && self.restarts.is_multiple_of(3) && lacking == 0 {
            // What has two copies survives the loss of any device.
            self.devices[self.restarts % 2] = memory(12 - self.restarts as u64 % 2);
        }
        self.store = Self::open(&self.devices, self.copies);
        for at in (0..BLOCKS).filter(|at| self.referenced[*at]) {
            assert!(self.store.hold(BlockId::of(&block(at)).fingerprint()), "held block {at} was not found again");
        }
        self.store.holds_known();
    }

    fn check(&self) {
        self.store.flush().expect("good devices");
        // A cached block that is held from now on may find no room for a second copy.
        eventually(|| self.store.lacking_copies() == 0 || self.store.room_for_local() < 2 * BLOCK as u64);
        assert_eq!(self.store.check().violations, []);
        for at in 0..BLOCKS {
            let plain = block(at);
            let entry = self.store.core().copies(BlockId::of(&plain).fingerprint()).next();
            assert_eq!(entry.is_some_and(|entry| entry.frame.local_only), self.is_held(at), "block {at}");
            if self.is_held(at) {
                assert_holds(&self.store, &[plain]);
            }
        }
        let stats = self.store.stats();
        assert_eq!((stats.lost_local_blocks, stats.corrupt_blocks), (0, 0));
        assert!(stats.held_bytes <= stats.stored_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn held_blocks_are_here_and_counted_whatever_happens(ops in proptest::collection::vec(op(), 50..250)) {
        run(1, &ops);
    }

    #[test]
    fn held_blocks_have_two_copies_whatever_happens_and_survive_lost_devices(ops in proptest::collection::vec(op(), 50..250)) {
        run(2, &ops);
    }
}

fn run(copies: u8, ops: &[Op]) {
    let mut model = Model::new(copies);
    for (at, op) in ops.iter().enumerate() {
        model.apply(op);
        if at % 40 == 39 {
            model.check();
        }
    }
    model.check();
    for _ in 0..3 {
        model.restart(true);
        model.check();
    }
}
