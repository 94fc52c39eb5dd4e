//! What files allocate, against a plain count.

use super::*;
use crate::ids::BlockId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const BLOCK: u64 = 128 << 10;
const ROW: u64 = BLOCK * BLOCKS_PER_CHUNK;

/// A file as a list of what was put where.
#[derive(Clone, Default)]
struct Plain {
    size: u64,
    base: u64,
    /// Blocks written here, and whether they are more than zeros.
    written: BTreeMap<u64, bool>,
}

impl Plain {
    fn allocated(&self) -> u64 {
        let end = self.size.div_ceil(BLOCK);
        let of_origin = (0..self.base.div_ceil(BLOCK).min(end)).filter(|index| !self.written.contains_key(index));
        let written = self.written.iter().filter(|(index, is_data)| **is_data && **index < end).map(|(index, _)| *index);
        of_origin.chain(written).map(|index| (self.size - index * BLOCK).min(BLOCK).div_ceil(4096) * 4096).sum()
    }

    fn cut(&mut self, size: u64) {
        (self.size, self.base) = (self.size.min(size), self.base.min(size));
        self.written.retain(|index, _| index * BLOCK < size);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<(u64, u8)>, u64),
    Cut(usize, u64),
    Share((usize, u64), (usize, u64), u64),
    /// As a store of an older schema has it.
    Forget(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let place = || prop_oneof![0..6u64, 60..70u64, 200..203u64];
    let size = || prop_oneof![0..4 * BLOCK, 63 * BLOCK..66 * BLOCK, (1..4u64).prop_map(|rows| rows * ROW), 0..210 * BLOCK];
    prop_oneof![
        4 => (0..3usize, proptest::collection::btree_map(place(), 0..4u8, 0..5), size())
            .prop_map(|(file, blocks, size)| Op::Write(file, blocks.into_iter().collect(), size)),
        2 => (0..3usize, size()).prop_map(|(file, size)| Op::Cut(file, size)),
        2 => ((0..3usize, 0..70u64), (0..3usize, 0..70u64), 1..70u64).prop_map(|(from, to, count)| Op::Share(from, to, count)),
        1 => (0..3usize).prop_map(Op::Forget),
    ]
}

/// Two objects, which are claimed, and a file made here.
fn three_files(store: &MetaStore, sizes: [u64; 2]) -> (Vec<Ino>, Vec<Plain>) {
    let object = |n: usize| ListedEntry {
        name: format!("object-{n}").into(),
        node: ListedNode::File { size: sizes[n], modified_ns: 5, origin: origin(&format!("object-{n}"), "e") },
    };
    merge(store, Ino::ROOT, &[object(0), object(1)]);
    let mut inos: Vec<Ino> = (0..2).map(|n| ino_of(store, Ino::ROOT, &format!("object-{n}"))).collect();
    for (ino, size) in inos.iter().zip(sizes) {
        let before = store.inode(*ino).expect("reads").expect("is there");
        assert_eq!((before.allocated, allocated_bytes(&before)), (None, size.div_ceil(4096) * 4096), "it is its object");
        store.update_inode(*ino, &claim).expect("claims");
    }
    let node = NewNode { kind: FileKind::File, perm: 0o600, umask: 0, owner: (0, 0), rdev: 0, target: b"" };
    inos.push(store.create(Ino::ROOT, b"made", node, NOW).expect("creates").0);
    let plain = |size| Plain { size, base: size, written: BTreeMap::new() };
    (inos, vec![plain(sizes[0]), plain(sizes[1]), plain(0)])
}

fn write(store: &MetaStore, ino: Ino, plain: &mut Plain, blocks: &[(u64, u8)], size: u64) {
    let end = blocks.iter().map(|(index, _)| index * BLOCK + 1).max().unwrap_or(0);
    plain.size = plain.size.max(size).max(end);
    plain.written.extend(blocks.iter().map(|(index, n)| (*index, *n != 0)));
    let content = |n: u8| if n == 0 { Content::Zeros } else { Content::Block(BlockId([n; 32])) };
    let file = FileContent {
        intents: 0..0,
        anew: false,
        ino,
        size: plain.size,
        base: plain.base,
        block_size: BLOCK,
        mtime_ns: Some(NOW),
        ctime_ns: NOW,
        blocks: blocks.iter().map(|(index, n)| (*index, content(*n))).collect(),
        reserved: Reservation::default(),
    };
    let recorded = store.write_content(&[file]).expect("writes");
    assert_eq!(recorded.allocated, [plain.allocated()]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn what_files_allocate_is_what_a_plain_count_says(
        sizes in [0..3 * BLOCK, 0..70 * BLOCK],
        ops in proptest::collection::vec(op(), 1..30),
    ) {
        let store = in_memory();
        let (inos, mut plains) = three_files(&store, sizes);
        for op in ops {
            match op {
                Op::Write(at, blocks, size) => write(&store, inos[at], &mut plains[at], &blocks, size),
                Op::Cut(at, size) => {
                    let base = plains[at].base.min(size);
                    store.cut_content(inos[at], size, base, BLOCK, NOW).expect("cuts");
                    plains[at].cut(size);
                }
                Op::Share((a, from), (b, to), count) => {
                    let share = Share { from: (inos[a], from), to: (inos[b], to), count, block_size: BLOCK, now_ns: NOW };
                    let shared = store.share_content(&share).expect("shares");
                    let plain = &mut plains[b];
                    plain.written.extend((to..).zip(shared.blocks.iter().map(|content| *content != Content::Zeros)));
                    if !shared.blocks.is_empty() {
                        plain.size = plain.size.max((to + shared.blocks.len() as u64) * BLOCK);
                        prop_assert_eq!(shared.recorded, (plain.size, plain.allocated()));
                    }
                }
                Op::Forget(at) => {
                    store.update_inode(inos[at], &|row| row.allocated = None).expect("updates");
                }
            }
            for (ino, plain) in inos.iter().zip(&plains) {
                let row = store.inode(*ino).expect("reads").expect("is there");
                if !is_uncounted(&row) {
                    prop_assert_eq!((row.size, allocated_bytes(&row)), (plain.size, plain.allocated()));
                }
            }
            prop_assert_eq!(store.check().expect("reads"), []);
        }
        for (ino, plain) in inos.iter().zip(&plains) {
            let row = store.count_allocated(*ino).expect("counts").expect("is there");
            prop_assert_eq!(allocated_bytes(&row), plain.allocated());
            prop_assert_eq!(store.inode(*ino).expect("reads"), Some(row));
        }
    }
}

#[test]
fn a_hole_of_a_tebibyte_allocates_nothing_and_what_is_cut_in_many_steps_neither() {
    let store = in_memory();
    let (inos, mut plains) = three_files(&store, [0, 0]);
    let ino = inos[2];
    write(&store, ino, &mut plains[2], &[], 1 << 40);
    assert_eq!(plains[2].allocated(), 0);
    let far = (1 << 39) / BLOCK;
    let blocks: Vec<(u64, u8)> = (0..600).map(|row| (row * BLOCKS_PER_CHUNK, 1)).chain([(far, 2)]).collect();
    write(&store, ino, &mut plains[2], &blocks, 0);
    let size = 3 * ROW + 5000;
    store.cut_content(ino, size, 0, BLOCK, NOW).expect("cuts");
    plains[2].cut(size);
    assert_eq!(allocated_bytes(&store.inode(ino).expect("reads").expect("is there")), 3 * BLOCK + 8192);
    assert_sound(&store);
}

#[test]
fn a_wrong_count_is_noticed() {
    let store = in_memory();
    let (inos, mut plains) = three_files(&store, [0, 0]);
    write(&store, inos[2], &mut plains[2], &[(0, 1)], 10);
    store.update_inode(inos[2], &|row| row.allocated = Some(0)).expect("updates");
    let wrong = check::Violation::WrongAllocated { ino: inos[2], found: 0, expected: 4096 };
    assert_eq!(store.check().expect("reads"), [wrong]);
}
