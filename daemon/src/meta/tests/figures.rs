//! Which blocks files and snapshots name, and what would go with a snapshot. That what is told before a deletion is what the deletion releases is part of the
//! model of snapshots.

use super::content::{BLOCK, block};
use super::snapshots::{Step, Trees, create, do_step, reclaim, steps, take, write};
use super::*;
use crate::ids::BlockIndex;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What deleting a snapshot would release.
pub(super) fn leaving(store: &MetaStore, name: &str) -> BTreeSet<u64> {
    let epoch = store.snapshot(name.as_bytes()).expect("reads").expect("there is one").epoch;
    let leaving = store.leaving(epoch).expect("is kept");
    let mut going: BTreeMap<u64, u64> = BTreeMap::new();
    leaving.references(&mut |fingerprint| *going.entry(fingerprint).or_default() += 1).expect("reads");
    let all_go = |(fingerprint, going): (u64, u64)| {
        let count = leaving.count(fingerprint).expect("reads");
        assert!(going <= count, "{going} of {count} references go");
        (going == count).then_some(fingerprint)
    };
    going.into_iter().filter_map(all_go).collect()
}

fn of_all(store: &MetaStore) -> Vec<u64> {
    let mut all = Vec::new();
    store.moment().blocks(&mut |fingerprint| all.push(fingerprint)).expect("reads");
    all.sort_unstable();
    all
}

fn of_file(store: &MetaStore, ino: Ino) -> Vec<u64> {
    let mut all = Vec::new();
    store.blocks_of(ino, &mut |fingerprint| all.push(fingerprint)).expect("reads");
    all
}

fn fingerprints(blocks: &[u8]) -> Vec<u64> {
    let mut all: Vec<u64> = blocks.iter().map(|n| block(*n).fingerprint()).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_block_that_stays_in_its_place_counts_once_whatever_snapshots_there_are() {
    let store = in_memory();
    let file = create(&store, Ino::ROOT, "file", FileKind::File);
    for index in 0..3 {
        write(&store, file, index, block(index as u8));
    }
    write(&store, file, 3, block(0));
    assert_eq!(of_all(&store), fingerprints(&[0, 0, 1, 2]), "one block in two places");
    let mut seen = Vec::new();
    for round in 0..3 {
        seen.push(take(&store, &round.to_string()));
        write(&store, file, 1, block(10 + round));
    }
    assert_eq!(of_all(&store), fingerprints(&[0, 0, 1, 2, 10, 11, 12]), "what the second place had in turn");
    assert_eq!(of_file(&store, file.at(seen[1].epoch)), [0, 10, 2, 0].map(|n| block(n).fingerprint()));
    store.cut_content(file, 0, 0, BLOCK, NOW).expect("cuts");
    assert_eq!(of_all(&store), fingerprints(&[0, 0, 1, 2, 10, 11]), "snapshots still have the rest");
    assert_eq!(of_file(&store, file), [0; 0]);
    assert_eq!(leaving(&store, "0"), BTreeSet::from_iter(fingerprints(&[1])));
    assert_eq!(leaving(&store, "1"), BTreeSet::from_iter(fingerprints(&[10])));
    store.delete_snapshot(b"0").expect("deletes");
    store.delete_snapshot(b"1").expect("deletes");
    reclaim(&store);
    assert_eq!(leaving(&store, "2"), BTreeSet::from_iter(fingerprints(&[0, 2, 11])), "all that it has");
}

#[test]
fn what_was_cached_through_a_snapshot_counts_where_the_tree_does_not_name_it() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("o", "12345")]);
    let ino = ino_of(&store, Ino::ROOT, "o");
    store.map_blocks(&[(ino, BlockIndex(0), block(1))]).expect("maps");
    let seen = ino.at(take(&store, "s").epoch);
    store.map_blocks(&[(seen, BlockIndex(0), block(1)), (seen, BlockIndex(1), block(2))]).expect("maps");
    assert_eq!(of_all(&store), fingerprints(&[1, 2]));
    assert_eq!(of_file(&store, seen), [1, 2].map(|n| block(n).fingerprint()));
    assert_eq!(of_file(&store, ino), fingerprints(&[1]));
    // In a row that the tree has not at all.
    store.map_blocks(&[(seen, BlockIndex(BLOCKS_PER_CHUNK), block(3))]).expect("maps");
    assert_eq!(of_file(&store, seen), [1, 2, 3].map(|n| block(n).fingerprint()));
    assert_eq!(of_all(&store), fingerprints(&[1, 2, 3]));
    assert_eq!(leaving(&store, "s"), BTreeSet::new(), "what is only cached is held by nobody");
}

#[test]
fn what_is_held_for_a_snapshot_is_referred_to_until_it_is_deleted() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("o", "12345")]);
    let ino = ino_of(&store, Ino::ROOT, "o");
    store.map_blocks(&[(ino, BlockIndex(0), block(1))]).expect("maps");
    let snapshot = take(&store, "s");
    let seen = ino.at(snapshot.epoch);
    let places =
        [(seen, BlockIndex(0), block(1)), (seen, BlockIndex(1), block(2)), (seen, BlockIndex(BLOCKS_PER_CHUNK), block(3))];
    assert!(!store.is_held_whole(seen, 1).expect("reads"), "what is cached is not held");
    assert_eq!(store.hold_blocks(&places).expect("holds"), [0; 0]);
    assert_eq!(store.hold_blocks(&places).expect("holds"), [0; 0], "once is enough");
    assert_eq!((store.held_slots(seen, 0).expect("reads"), store.held_slots(seen, 1).expect("reads")), (3, 1));
    for (blocks, is_whole) in [(0, true), (2, true), (3, false), (BLOCKS_PER_CHUNK + 1, false)] {
        assert_eq!(store.is_held_whole(seen, blocks).expect("reads"), is_whole, "{blocks}");
    }
    // A reader takes it for what is cached, and caching it again changes nothing of it.
    store.map_blocks(&[(seen, BlockIndex(1), block(9)), (seen, BlockIndex(2), block(4))]).expect("maps");
    let chunk = store.map_chunk(seen, 0).expect("reads").expect("there");
    assert_eq!((chunk.blocks, chunk.local), (vec![Some(block(1)), Some(block(2)), Some(block(4))], 0));
    let mut held = Vec::new();
    store.references(&mut |fingerprint| held.push(fingerprint)).expect("reads");
    held.sort_unstable();
    assert_eq!(held, fingerprints(&[1, 2, 3]));
    // One block is referred to from elsewhere as well, one is what a write in the tree has since.
    let file = create(&store, Ino::ROOT, "file", FileKind::File);
    write(&store, file, 0, block(2));
    assert_eq!(leaving(&store, "s"), BTreeSet::from_iter(fingerprints(&[1, 3])));
    assert!(!store.snapshot(b"s").expect("reads").expect("there").materialized);
    assert!(store.set_materialized(b"s", snapshot.epoch).expect("notes").materialized);
    assert!(store.set_materialized(b"s", crate::ids::Epoch(9)).is_err() && store.set_materialized(b"t", snapshot.epoch).is_err());
    take(&store, "later");
    store.hold_blocks(&[(seen, BlockIndex(5), block(5))]).expect("holds, in an epoch after");
    assert_sound(&store);
    assert_eq!(store.snapshot(b"s").expect("reads"), Some(SnapshotRow { materialized: true, ..snapshot }));
    store.delete_snapshot(b"s").expect("deletes");
    assert!(matches!(store.hold_blocks(&places), Err(MetaError::Refused(Refusal::NotFound))), "nothing is held for it any more");
    assert_eq!(BTreeSet::from_iter(reclaim(&store)), BTreeSet::from_iter(fingerprints(&[1, 3, 5])));
    assert_sound(&store);
    assert!(store.is_referenced(block(2).fingerprint()).expect("reads"));
}

#[test]
fn only_files_that_have_a_name_are_told_of() {
    let store = in_memory();
    let names = ["a", "b", "c"].map(|name| create(&store, Ino::ROOT, name, FileKind::File));
    create(&store, Ino::ROOT, "d", FileKind::Directory);
    store.unlink(Ino::ROOT, b"b", NOW).expect("unlinks");
    let mut found = Vec::new();
    store.moment().files(&mut |ino, row| found.push((ino, row.size))).expect("reads");
    assert_eq!(found, [(names[0], 0), (names[2], 0)]);
}

/// A step of the tree, and what is held for which snapshot before: of which file, where, and what.
/// A step, and what is held after it: which snapshot, file, block, content.
type StepAndHolds = (Step, Vec<(u8, u8, u8, u8)>);

fn steps_with_holds() -> impl Strategy<Value = Vec<StepAndHolds>> {
    let holds = prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>()), 0..3);
    steps().prop_flat_map(move |steps| steps.into_iter().map(|step| (Just(step), holds.clone())).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn what_is_held_goes_with_its_snapshot_and_is_told_before(steps in steps_with_holds()) {
        let store = in_memory();
        let mut kept = Trees::new();
        for (serial, (step, holds)) in steps.iter().enumerate() {
            for (of, file, at, what) in holds {
                let epochs: Vec<_> = kept.values().map(|(row, _)| row.epoch).collect();
                let Some(epoch) = epochs.get(usize::from(*of) % epochs.len().max(1)) else { continue };
                let file = Ino(2 + u64::from(file % 8)).at(*epoch);
                store.hold_blocks(&[(file, BlockIndex(u64::from(at % 4)), block(what % 6))]).expect("holds");
            }
            // Before a deletion it is told what it releases.
            do_step(&store, step, &mut kept, serial);
            prop_assert_eq!(store.check().expect("reads"), []);
        }
        let names: Vec<String> = kept.keys().cloned().collect();
        for name in names {
            let foretold = leaving(&store, &name);
            store.delete_snapshot(name.as_bytes()).expect("deletes");
            prop_assert_eq!(BTreeSet::from_iter(reclaim(&store)), foretold);
        }
        prop_assert_eq!(store.check().expect("reads"), []);
    }

    #[test]
    fn all_that_files_and_snapshots_have_is_visited_and_nothing_else(steps in steps()) {
        let store = in_memory();
        let mut kept = Trees::new();
        for (serial, step) in steps.iter().enumerate() {
            do_step(&store, step, &mut kept, serial);
            // As the housekeeping does: what nobody reads any more is not left lying.
            reclaim(&store);
        }
        let (mut places, mut blocks) = (BTreeSet::new(), BTreeSet::new());
        let epochs: Vec<_> = kept.values().map(|(row, _)| row.epoch).collect();
        let trees = [None].into_iter().chain(epochs.into_iter().map(Some));
        for tree in trees {
            let shown = |ino: Ino| tree.map_or(ino, |epoch| ino.at(epoch));
            let mut left = vec![shown(Ino::ROOT)];
            while let Some(dir) = left.pop() {
                for (_, ino, row) in store.read_dir(dir, None, usize::MAX).expect("reads") {
                    if row.kind == FileKind::Directory {
                        left.push(ino);
                        continue;
                    }
                    let own = ino.in_snapshot().map_or(ino, |(_, own)| own);
                    let chunk = store.map_chunk(ino, 0).expect("reads").unwrap_or_default();
                    for (slot, id) in chunk.blocks.iter().enumerate().filter_map(|(slot, id)| Some((slot, (*id)?))) {
                        places.insert((own, slot, id));
                        blocks.insert(id.fingerprint());
                    }
                }
            }
        }
        let visited = of_all(&store);
        prop_assert_eq!(BTreeSet::from_iter(visited.iter().copied()), blocks);
        // More only where a place had a block, then another, then the first again.
        prop_assert!(visited.len() >= places.len());
        if kept.len() < 2 {
            prop_assert_eq!(visited.len(), places.len());
        }
    }
}
