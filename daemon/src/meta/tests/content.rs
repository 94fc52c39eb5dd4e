//! Content of files: blocks, sizes, and the count of references.

use super::*;
use crate::ids::{BlockId, BlockIndex};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) const BLOCK: u64 = 128 << 10;
const NOTHING: [u64; 0] = [];

pub(super) fn block(n: u8) -> BlockId {
    BlockId([n + 1; 32])
}

fn file(store: &MetaStore, name: &str) -> Ino {
    let node = NewNode { kind: FileKind::File, perm: 0o600, umask: 0, owner: (0, 0), rdev: 0, target: b"" };
    store.create(Ino::ROOT, name.as_bytes(), node, NOW).expect("creates").0
}

pub(super) fn content(ino: Ino, size: u64, blocks: Vec<(u64, Content)>) -> FileContent {
    FileContent {
        intents: 0..0,
        anew: false,
        ino,
        size,
        base: 0,
        block_size: BLOCK,
        mtime_ns: Some(NOW),
        ctime_ns: NOW,
        blocks,
        reserved: Reservation::default(),
    }
}

/// References counted from the maps of files.
fn counted(store: &MetaStore, files: &[Ino]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for ino in files {
        let mut from = 0;
        while let Some((number, chunk)) = store.next_chunk(*ino, from).expect("reads") {
            let local = chunk.blocks.iter().enumerate().filter(|(slot, _)| chunk.is_local(*slot));
            for id in local.filter_map(|(_, id)| *id).filter(|id| *id != HOLE) {
                *counts.entry(id.fingerprint()).or_default() += 1;
            }
            from = number + 1;
        }
    }
    counts
}

fn referenced(store: &MetaStore) -> Vec<u64> {
    let mut all = Vec::new();
    store.references(&mut |fingerprint| all.push(fingerprint)).expect("reads");
    all
}

#[test]
fn intents_go_with_what_records_cuts_or_frees_their_file() {
    let store = in_memory();
    let files = ["recorded", "cut", "removed", "other"].map(|name| file(&store, name));
    let intent = |place: u64| Intent { size: 4, mtime_ns: None, ctime_ns: NOW, pieces: vec![(place, b"byte".to_vec())] };
    for place in 0..3 {
        store.log_intents(&files.map(|ino| (ino, place, intent(place)))).expect("logs");
    }
    let log = |ino, places: std::ops::Range<u64>| IntentLog { ino, intents: places.clone().map(intent).collect(), places };
    assert_eq!(store.intents().expect("reads"), files.map(|ino| log(ino, 0..3)));
    let recorded = FileContent { intents: 0..2, ..content(files[0], 4, vec![(0, Content::Block(block(1)))]) };
    store.write_content(&[recorded]).expect("writes");
    store.cut_content(files[1], 0, 0, BLOCK, NOW).expect("cuts");
    store.unlink(Ino::ROOT, b"removed", NOW).expect("unlinks");
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    assert_eq!(store.intents().expect("reads"), [log(files[0], 2..3), log(files[3], 0..3)]);
    assert_eq!(store.check().expect("reads"), []);
    store.log_intents(&[(Ino(9999), 0, intent(0))]).expect("logs");
    assert_eq!(store.check().expect("reads"), [check::Violation::Leftover { ino: Ino(9999), table: engine::Table::Intents }]);
}

#[test]
fn a_block_is_released_with_its_last_reference() {
    let store = in_memory();
    let (a, b) = (file(&store, "a"), file(&store, "b"));
    let one = Content::Block(block(1));
    assert_eq!(store.write_content(&[content(a, 2 * BLOCK, vec![(0, one), (1, one)])]).expect("writes").released, NOTHING);
    assert_eq!(store.write_content(&[content(b, BLOCK, vec![(0, one)])]).expect("writes").released, NOTHING);
    assert!(store.is_referenced(block(1).fingerprint()).expect("reads"));
    assert_eq!(store.cut_content(a, BLOCK, 0, BLOCK, NOW).expect("cuts"), NOTHING);
    let other = content(a, BLOCK, vec![(0, Content::Block(block(2)))]);
    assert_eq!(store.write_content(&[other]).expect("writes").released, NOTHING);
    store.unlink(Ino::ROOT, b"b", NOW).expect("unlinks");
    let mut released = Vec::new();
    store.free_orphans(&|_| false, &mut |mut more| released.append(&mut more)).expect("frees");
    assert_eq!((released, referenced(&store)), (vec![block(1).fingerprint()], vec![block(2).fingerprint()]));
    assert_sound(&store);
}

#[test]
fn a_cut_never_records_more_than_there_was() {
    let store = in_memory();
    let ino = file(&store, "f");
    store.cut_content(ino, 1000, 0, BLOCK, NOW).expect("cuts");
    assert_eq!(store.inode(ino).expect("reads").expect("is").size, 0, "what was written since is not recorded yet");
}

#[test]
fn a_long_file_is_cut_in_steps() {
    let store = in_memory();
    let ino = file(&store, "f");
    let blocks: Vec<_> = (0..600).map(|chunk| (chunk * BLOCKS_PER_CHUNK, Content::Block(block((chunk % 200) as u8)))).collect();
    let size = 600 * BLOCKS_PER_CHUNK * BLOCK;
    store.write_content(&[content(ino, size, blocks)]).expect("writes");
    let released = store.cut_content(ino, BLOCK, 0, BLOCK, NOW).expect("cuts");
    assert_eq!((released.len(), referenced(&store)), (199, vec![block(0).fingerprint()]));
    assert_eq!(store.next_chunk(ino, 1).expect("reads"), None);
}

#[test]
fn fetched_blocks_do_not_enter_the_map_of_a_file_that_was_written() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("f", "e")]);
    let ino = ino_of(&store, Ino::ROOT, "f");
    store.map_blocks(&[(ino, BlockIndex(0), block(1))]).expect("maps");
    store.write_content(&[FileContent { base: 3, ..content(ino, 3, vec![(0, Content::Zeros)]) }]).expect("writes");
    store.map_blocks(&[(ino, BlockIndex(0), block(1)), (ino, BlockIndex(1), block(2))]).expect("maps nothing");
    let chunk = store.map_chunk(ino, 0).expect("reads").expect("a hole in what the origin has");
    assert_eq!((chunk.blocks, chunk.local), (vec![Some(HOLE)], 1));
}

fn slot_of(store: &MetaStore, ino: Ino, index: u64) -> Option<BlockId> {
    let chunk = store.map_chunk(ino, index / BLOCKS_PER_CHUNK).expect("reads")?;
    chunk.blocks.get((index % BLOCKS_PER_CHUNK) as usize).copied().flatten()
}

#[test]
fn blocks_that_only_the_origin_has_are_not_shared_and_what_is_recorded_is() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("o", "e")]);
    let (source, dest) = (ino_of(&store, Ino::ROOT, "o"), file(&store, "f"));
    let written = vec![(0, Content::Block(block(1))), (1, Content::Zeros), (3, Content::Block(block(2)))];
    store.write_content(&[FileContent { base: 3 * BLOCK, ..content(source, 5 * BLOCK, written) }]).expect("writes");
    let share = |from, count| {
        let share = Share { from: (source, from), to: (dest, from), count, block_size: BLOCK, now_ns: NOW + 5 };
        store.share_content(&share).expect("shares").blocks
    };
    assert_eq!(share(0, 5), [Content::Block(block(1)), Content::Zeros], "the third block is the origin's");
    assert_eq!(store.inode(dest).expect("reads").expect("is").size, 2 * BLOCK);
    assert_eq!(share(3, 9), [Content::Block(block(2)), Content::Zeros], "the file ends there");
    let row = store.inode(dest).expect("reads").expect("is");
    assert_eq!((row.size, row.mtime_ns, row.ctime_ns), (5 * BLOCK, NOW + 5, NOW + 5));
    assert_eq!([0, 1, 2, 3, 4].map(|index| slot_of(&store, dest, index)), [Some(block(1)), None, None, Some(block(2)), None]);
    assert_eq!(store.cut_content(source, 0, 0, BLOCK, NOW).expect("cuts"), NOTHING);
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<(u64, u8)>),
    Cut(usize, u64),
    Share((usize, u64), (usize, u64), u64),
    Remove(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let place = prop_oneof![0..6u64, 60..70u64, 200..203u64];
    prop_oneof![
        4 => (0..3usize, proptest::collection::btree_map(place, 0..5u8, 1..5)).prop_map(|(f, b)| Op::Write(f, b.into_iter().collect())),
        2 => (0..3usize, prop_oneof![0..6u64, 60..70u64]).prop_map(|(file, blocks)| Op::Cut(file, blocks)),
        2 => ((0..3usize, 0..70u64), (0..3usize, 0..70u64), 1..70u64).prop_map(|(from, to, count)| Op::Share(from, to, count)),
        1 => (0..3usize).prop_map(Op::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn references_are_what_the_maps_hold_and_releases_are_what_they_no_longer_do(ops in proptest::collection::vec(op(), 1..40)) {
        let store = in_memory();
        let mut files: Vec<Ino> = (0..3).map(|n| file(&store, &format!("f{n}"))).collect();
        for (step, op) in ops.into_iter().enumerate() {
            let before = counted(&store, &files);
            let mut released = match op {
                Op::Write(at, blocks) => {
                    // 0 is a block of zeros.
                    let blocks = blocks.into_iter().map(|(index, n)| (index, if n == 0 { Content::Zeros } else { Content::Block(block(n)) }));
                    store.write_content(&[content(files[at], 300 * BLOCK, blocks.collect())]).expect("writes").released
                }
                Op::Cut(at, blocks) => store.cut_content(files[at], blocks * BLOCK, 0, BLOCK, NOW).expect("cuts"),
                Op::Share((a, from), (b, to), count) => {
                    let share = Share { from: (files[a], from), to: (files[b], to), count, block_size: BLOCK, now_ns: NOW };
                    let slots = |ino: Ino, first: u64| -> Vec<_> { (first..first + count).map(|index| slot_of(&store, ino, index)).collect() };
                    let expected = slots(files[a], from);
                    let shared = store.share_content(&share).expect("shares");
                    let n = shared.blocks.len();
                    prop_assert_eq!(&slots(files[b], to)[..n], &expected[..n]);
                    shared.released
                }
                Op::Remove(at) => {
                    let (_, name) = store.parent_of(files[at]).expect("reads").expect("has a name");
                    store.unlink(Ino::ROOT, &name, NOW).expect("unlinks");
                    let mut released = Vec::new();
                    store.free_orphans(&|_| false, &mut |mut more| released.append(&mut more)).expect("frees");
                    files[at] = file(&store, &format!("again-{step}"));
                    released
                }
            };
            released.sort_unstable();
            let after = counted(&store, &files);
            let gone: Vec<u64> = before.keys().filter(|fingerprint| !after.contains_key(fingerprint)).copied().collect();
            prop_assert_eq!(released, gone);
            prop_assert_eq!(referenced(&store), after.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(store.check().expect("reads"), []);
        }
    }
}
