//! Rows by epoch: old views stay as they were, whatever happens after.

use super::super::engine::Table;
use super::super::rows::{Reading, transact};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Takes a snapshot; the epoch that it ended.
fn advance(store: &MetaStore, name: &str) -> Epoch {
    store.take_snapshot(name.as_bytes(), Ino::ROOT, b"", NOW).expect("advances").epoch
}

#[test]
fn a_view_at_an_old_epoch_sees_the_old_tree() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("changed", "1"), object("kept", "1"), object("removed", "1")]);
    let removed = ino_of(&store, Ino::ROOT, "removed");
    let kept = ino_of(&store, Ino::ROOT, "kept");
    let before = store.read_dir(Ino::ROOT, None, 99).expect("reads");
    let old = advance(&store, &format!("s{}", store.epoch().0));
    merge(&store, Ino::ROOT, &[object("changed", "2"), object("kept", "1"), object("new", "1")]);
    store.update_inode(kept, &|inode| inode.perm = 0).expect("updates");
    assert_eq!(store.free_orphans(&|_| false, &mut |_| {}).expect("frees"), 2);

    let view = store.at_epoch(old);
    assert_eq!(view.read_dir(Ino::ROOT, None, 99).expect("reads"), before);
    assert_eq!(view.lookup(Ino::ROOT, b"new").expect("reads"), None);
    assert_eq!(view.lookup(Ino::ROOT, b"removed").expect("reads").map(|d| d.ino), Some(removed));
    assert_eq!(view.inode(removed).expect("reads").map(|inode| inode.size), Some(1));
    assert_eq!(view.inode(kept).expect("reads").map(|inode| inode.perm), Some(0o644));

    assert_eq!(names(&store, Ino::ROOT), ["changed", "kept", "new"]);
    assert_eq!(store.inode(removed).expect("reads"), None);
    assert_eq!(store.inode(kept).expect("reads").map(|inode| inode.perm), Some(0));
    assert_sound(&store);
}

#[test]
fn the_epoch_is_kept_across_a_restart() {
    let engine = MemoryEngine::default();
    assert_eq!(advance(&on(engine.clone()), "s"), Epoch::FIRST);
    assert_eq!(on(engine).epoch(), Epoch(2));
}

#[test]
fn a_transaction_that_began_before_an_epoch_ended_is_tried_again_in_the_next() {
    let store = in_memory();
    let mut tries = Vec::new();
    store
        .transact(|txn| {
            tries.push(txn.reading().epoch);
            if tries.len() == 1 {
                advance(&store, "s");
            }
            txn.write(Table::Xattrs, b"row", vec![1]);
            Ok(())
        })
        .expect("commits");
    assert_eq!(tries, [Epoch(1), Epoch(2)]);
    let at_old = Reading { view: store.engine().view(), epoch: Epoch(1) };
    assert_eq!(at_old.newest(Table::Xattrs, b"row").expect("reads"), None);
}

#[derive(Clone, Debug)]
enum Step {
    Advance,
    Put(u8, u8),
    Remove(u8),
}

proptest! {
    #[test]
    fn each_epoch_reads_as_a_copy_of_the_map_at_its_end(
        steps in prop::collection::vec(prop_oneof![
            1 => Just(Step::Advance),
            3 => (0..4u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            2 => (0..4u8).prop_map(Step::Remove),
        ], 1..40)
    ) {
        let store = in_memory();
        let mut now: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut ended = Vec::new();
        for step in steps {
            match step {
                Step::Advance => {
                    advance(&store, &format!("s{}", store.epoch().0));
                    ended.push(now.clone());
                }
                Step::Put(key, value) => {
                    now.insert(vec![key], vec![1, value]);
                    transact(store.engine(), |txn| { txn.write(Table::Inodes, &[key], vec![1, value]); Ok(()) }).expect("commits");
                }
                Step::Remove(key) => {
                    now.remove([key].as_slice());
                    transact(store.engine(), |txn| txn.remove(Table::Inodes, &[key])).expect("commits");
                }
            }
        }
        ended.push(now);
        for (index, expected) in ended.iter().enumerate() {
            let reading = Reading { view: store.engine().view(), epoch: Epoch(index as u64 + 1) };
            for key in 0..4u8 {
                prop_assert_eq!(&reading.newest(Table::Inodes, &[key]).expect("reads"), &expected.get([key].as_slice()).cloned());
            }
            let mut scanned = BTreeMap::new();
            let keys = engine::KeyRange { start: vec![0], end: Some(vec![4]) };
            reading.scan(Table::Inodes, &keys, &mut |prefix, row| {
                // The root's own row has a longer prefix.
                if prefix.len() == 1 {
                    scanned.insert(prefix.to_vec(), row.to_vec());
                }
                Ok(ControlFlow::Continue(()))
            }).expect("scans");
            prop_assert_eq!(&scanned, expected);
        }
    }
}
