//! Snapshots: each reads as a copy of the tree made at that instant, for ever; deleting them in any order frees what only they had.

use super::super::engine::Order;
use super::content::{BLOCK, block, content};
use super::*;
use crate::ids::{BlockId, BlockIndex};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

pub(super) fn take(store: &MetaStore, name: &str) -> SnapshotRow {
    store.take_snapshot(name.as_bytes(), Ino::ROOT, b"", NOW).expect("takes")
}

pub(super) fn reclaim(store: &MetaStore) -> Vec<u64> {
    let mut released = Vec::new();
    store.reclaim_snapshots(&|| Some(()), &mut |gone| released.extend(gone)).expect("reclaims");
    released
}

pub(super) fn create(store: &MetaStore, parent: Ino, name: &str, kind: FileKind) -> Ino {
    let node = NewNode { kind, perm: 0o755, umask: 0, owner: (0, 0), rdev: 0, target: b"" };
    store.create(parent, name.as_bytes(), node, NOW).expect("creates").0
}

pub(super) fn write(store: &MetaStore, ino: Ino, index: u64, id: BlockId) -> Vec<u64> {
    let size = store.inode(ino).expect("reads").expect("there").size.max((index + 1) * BLOCK);
    store.write_content(&[content(ino, size, vec![(index, Content::Block(id))])]).expect("writes").released
}

/// Everything that can be seen below a directory: paths with attributes, blocks and extended attributes.
fn dump(store: &MetaStore, dir: Ino) -> BTreeMap<Vec<u8>, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![(Vec::new(), dir)];
    while let Some((path, dir)) = left.pop() {
        for (name, ino, row) in store.read_dir(dir, None, usize::MAX).expect("reads") {
            let path = [path.as_slice(), b"/", &name].concat();
            assert_eq!(store.lookup(dir, &name).expect("reads").map(|dirent| dirent.ino), Some(ino));
            assert_eq!(store.inode(ino).expect("reads").as_ref(), Some(&row));
            let chunk = store.map_chunk(ino, 0).expect("reads");
            let own = ino.in_snapshot().map_or(ino, |(_, own)| own);
            let parent = row.link.as_ref().map(|link| link.parent.in_snapshot().map_or(link.parent, |(_, own)| own));
            let attributes = (row.kind, row.perm, row.size, row.nlink, parent);
            let xattrs: Vec<_> = store.xattr_names(ino).expect("reads").into_iter().map(|name| store.xattr(ino, &name)).collect();
            all.insert(path.clone(), format!("{own} {attributes:?} {chunk:?} {xattrs:?}"));
            if row.kind == FileKind::Directory {
                left.push((path, ino));
            }
        }
    }
    all
}

/// Rows of all tables that are kept by epoch, and of the log of what was written over.
pub(super) fn row_counts(store: &MetaStore) -> BTreeMap<&'static str, usize> {
    let tables = engine::Table::ALL.into_iter().filter(|table| table.is_versioned() || *table == engine::Table::Rewritten);
    let count = |table| {
        let (mut count, everything) = (0, engine::KeyRange { start: Vec::new(), end: None });
        let scanned = store.engine().view().scan(table, &everything, Order::Ascending, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
        scanned.expect("reads");
        count
    };
    tables.map(|table| (table.name(), count(table))).collect()
}

#[test]
fn what_only_a_snapshot_has_is_released_with_it() {
    let store = in_memory();
    let file = create(&store, Ino::ROOT, "file", FileKind::File);
    write(&store, file, 0, block(1));
    write(&store, file, 1, block(2));
    let first = take(&store, "first");
    assert_eq!(write(&store, file, 0, block(3)), [0; 0], "the snapshot still has what was written over");
    take(&store, "second");
    store.unlink(Ino::ROOT, b"file", NOW).expect("unlinks");
    store.free_orphans(&|_| false, &mut |gone| assert_eq!(gone, [0; 0])).expect("frees");
    assert_sound(&store);
    let seen = file.at(first.epoch);
    assert_eq!(store.inode(seen).expect("reads").map(|row| row.size), Some(2 * BLOCK));
    assert_eq!(store.map_chunk(seen, 0).expect("reads").expect("there").blocks, [Some(block(1)), Some(block(2))]);

    store.delete_snapshot(b"first").expect("deletes");
    assert!(matches!(store.inode(seen), Err(MetaError::Refused(Refusal::NotFound))), "nobody reads it any more");
    assert!(matches!(store.delete_snapshot(b"first"), Err(MetaError::Refused(Refusal::NotFound))));
    assert_eq!(reclaim(&store), [block(1).fingerprint()]);
    assert_sound(&store);
    store.delete_snapshot(b"second").expect("deletes");
    let mut released = reclaim(&store);
    released.sort_unstable();
    let mut expected = [block(2).fingerprint(), block(3).fingerprint()];
    expected.sort_unstable();
    assert_eq!(released, expected);
    assert_sound(&store);
    let rows = row_counts(&store);
    assert_eq!((rows["inodes"], rows.values().sum::<usize>()), (1, 1), "{rows:?}");
}

#[test]
fn names_are_unique_and_numbers_are_not_used_again() {
    let store = in_memory();
    let first = take(&store, "a");
    assert!(matches!(store.take_snapshot(b"a", Ino::ROOT, b"", NOW), Err(MetaError::Refused(Refusal::Exists))));
    store.delete_snapshot(b"a").expect("deletes");
    assert_eq!(store.snapshots().expect("reads"), []);
    // The name is free at once, and the new one is not taken for the old.
    let second = take(&store, "a");
    assert!(second.epoch > first.epoch);
    reclaim(&store);
    assert_eq!(store.snapshots().expect("reads"), [(b"a".to_vec(), second)]);
}

#[test]
fn a_rotation_of_snapshots_leaves_no_trace_and_goes_on_where_it_stopped() {
    let store = in_memory();
    take(&store, "0");
    for round in 1..8 {
        // Some that stay, and many that come and go.
        create(&store, Ino::ROOT, &format!("stays{round}"), FileKind::File);
        for n in 0..600 {
            create(&store, Ino::ROOT, &format!("t{n}"), FileKind::File);
        }
        for n in 0..600 {
            store.unlink(Ino::ROOT, format!("t{n}").as_bytes(), NOW).expect("unlinks");
        }
        store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
        take(&store, &round.to_string());
        store.delete_snapshot((round - 1).to_string().as_bytes()).expect("deletes");
        // One step at a time, as where there is little time.
        while store.all_names() > 1 {
            let left = std::cell::Cell::new(1);
            let once = || (left.replace(left.get() - 1) > 0).then_some(());
            store.reclaim_snapshots(&once, &mut |_| {}).expect("reclaims");
        }
    }
    let rows = row_counts(&store);
    assert!(rows["rewritten"] <= 3, "{rows:?}");
    assert_eq!((rows["inodes"], rows["dirents"]), (8, 7), "{rows:?}");
    assert_sound(&store);
}

#[test]
fn snapshots_and_their_deletion_go_on_after_a_restart() {
    let engine = MemoryEngine::default();
    let (first, file) = {
        let store = on(engine.clone());
        let file = create(&store, Ino::ROOT, "file", FileKind::File);
        write(&store, file, 0, block(1));
        let first = take(&store, "first");
        write(&store, file, 0, block(2));
        take(&store, "second");
        store.delete_snapshot(b"second").expect("deletes");
        (first, file)
    };
    let store = on(engine.clone());
    assert_eq!(store.snapshots().expect("reads"), [(b"first".to_vec(), first.clone())]);
    assert_eq!(store.map_chunk(file.at(first.epoch), 0).expect("reads").expect("there").blocks, [Some(block(1))]);
    store.reclaim_snapshots(&|| None::<()>, &mut |_| panic!("it may not go on")).expect("stops");
    reclaim(&store);
    store.delete_snapshot(b"first").expect("deletes");
    let store = on(engine);
    assert_eq!(reclaim(&store), [block(1).fingerprint()]);
    assert_sound(&store);
}

#[test]
fn what_is_cached_of_a_snapshot_later_is_kept_with_it() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("o", "12345")]);
    let ino = ino_of(&store, Ino::ROOT, "o");
    let snapshot = take(&store, "s");
    let seen = ino.at(snapshot.epoch);
    merge(&store, Ino::ROOT, &[object("o", "another")]);
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    store.map_blocks(&[(seen, BlockIndex(1), block(7))]).expect("maps");
    let chunk = store.map_chunk(seen, 0).expect("reads").expect("there");
    assert_eq!((chunk.blocks, chunk.local), (vec![None, Some(block(7))], 0));
    assert_eq!(store.inode(seen).expect("reads").and_then(|row| row.origin).map(|origin| origin.etag), Some("12345".into()));
    assert_sound(&store);
    store.delete_snapshot(b"s").expect("deletes");
    store.map_blocks(&[(seen, BlockIndex(2), block(8))]).expect("is nothing to anybody");
    reclaim(&store);
    assert_eq!(row_counts(&store)["filemap"], 0);
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Take,
    Delete(u8),
    Create(u8, u8),
    MakeDirectory(u8, u8),
    Write(u8, u8, u8),
    Cut(u8),
    Rename(u8, u8, u8),
    Remove(u8),
    SetAttribute(u8, u8),
    Chmod(u8, u8),
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = any::<u8>;
    let step = prop_oneof![
        2 => Just(Step::Take),
        1 => any().prop_map(Step::Delete),
        3 => (any(), any()).prop_map(|(dir, name)| Step::Create(dir, name)),
        2 => (any(), any()).prop_map(|(dir, name)| Step::MakeDirectory(dir, name)),
        4 => (any(), any(), any()).prop_map(|(file, at, what)| Step::Write(file, at, what)),
        1 => any().prop_map(Step::Cut),
        3 => (any(), any(), any()).prop_map(|(what, dir, name)| Step::Rename(what, dir, name)),
        3 => any().prop_map(Step::Remove),
        1 => (any(), any()).prop_map(|(what, value)| Step::SetAttribute(what, value)),
        1 => (any(), any()).prop_map(|(what, perm)| Step::Chmod(what, perm)),
    ];
    prop::collection::vec(step, 1..60)
}

/// Entries of the whole tree: where each is, what it is.
pub(super) fn entries(store: &MetaStore) -> Vec<(Ino, Vec<u8>, Ino, FileKind)> {
    let (mut all, mut left) = (Vec::new(), vec![Ino::ROOT]);
    while let Some(dir) = left.pop() {
        for (name, ino, row) in store.read_dir(dir, None, usize::MAX).expect("reads") {
            all.push((dir, name, ino, row.kind));
            if row.kind == FileKind::Directory {
                left.push(ino);
            }
        }
    }
    all.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    all
}

pub(super) fn pick<T>(all: &[T], by: u8) -> Option<&T> {
    (!all.is_empty()).then(|| &all[usize::from(by) % all.len()])
}

pub(super) type Trees = BTreeMap<String, (SnapshotRow, BTreeMap<Vec<u8>, String>)>;

pub(super) fn do_step(store: &MetaStore, step: &Step, kept: &mut Trees, serial: usize) {
    let all = entries(store);
    let files: Vec<Ino> = all.iter().filter(|entry| entry.3 == FileKind::File).map(|entry| entry.2).collect();
    let dirs: Vec<Ino> =
        [Ino::ROOT].into_iter().chain(all.iter().filter(|entry| entry.3 == FileKind::Directory).map(|entry| entry.2)).collect();
    let name = |n: u8| format!("n{}", n % 5).into_bytes();
    let node = |kind| NewNode { kind, perm: 0o755, umask: 0, owner: (0, 0), rdev: 0, target: b"" };
    // Refusals (names that exist, directories that are not empty) are as good as steps.
    match *step {
        Step::Take => {
            let seen = dump(store, Ino::ROOT);
            kept.insert(format!("s{serial}"), (take(store, &format!("s{serial}")), seen));
        }
        Step::Delete(which) => {
            let names: Vec<String> = kept.keys().cloned().collect();
            let Some(name) = pick(&names, which) else { return };
            kept.remove(name);
            let foretold = super::figures::leaving(store, name);
            store.delete_snapshot(name.as_bytes()).expect("deletes");
            assert_eq!(BTreeSet::from_iter(reclaim(store)), foretold, "what it frees was told before");
        }
        Step::Create(dir, n) => drop(store.create(*pick(&dirs, dir).expect("the root"), &name(n), node(FileKind::File), NOW)),
        Step::MakeDirectory(dir, n) => {
            drop(store.create(*pick(&dirs, dir).expect("the root"), &name(n), node(FileKind::Directory), NOW));
        }
        Step::Write(file, at, what) => {
            if let Some(ino) = pick(&files, file) {
                write(store, *ino, u64::from(at % 4), block(what % 6));
            }
        }
        Step::Cut(file) => {
            if let Some(ino) = pick(&files, file) {
                store.cut_content(*ino, BLOCK, 0, BLOCK, NOW).expect("cuts");
            }
        }
        Step::Rename(what, dir, n) => {
            if let Some((parent, from, ..)) = pick(&all, what) {
                let to = *pick(&dirs, dir).expect("the root");
                drop(store.rename((*parent, from), (to, &name(n)), RenameMode::Replace, &|_| None, NOW));
            }
        }
        Step::Remove(what) => match pick(&all, what) {
            Some((parent, name, _, FileKind::Directory)) => drop(store.rmdir(*parent, name, &|_| None, NOW)),
            Some((parent, name, ..)) => drop(store.unlink(*parent, name, NOW)),
            None => {}
        },
        Step::SetAttribute(what, value) => {
            if let Some((_, _, ino, _)) = pick(&all, what) {
                store.set_xattr(*ino, b"user.a", &[value], SetMode::Either, NOW).expect("sets");
            }
        }
        Step::Chmod(what, perm) => {
            if let Some((_, _, ino, _)) = pick(&all, what) {
                store.update_inode(*ino, &|row| row.perm = perm.into()).expect("changes");
            }
        }
    }
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
}

proptest! {
    #[test]
    fn each_snapshot_is_the_tree_of_its_instant_until_it_is_deleted(steps in steps()) {
        let store = in_memory();
        let mut kept = BTreeMap::new();
        for (serial, step) in steps.iter().enumerate() {
            do_step(&store, step, &mut kept, serial);
            prop_assert_eq!(store.check().expect("reads"), []);
            for (row, seen) in kept.values() {
                prop_assert_eq!(&dump(&store, Ino::ROOT.at(row.epoch)), seen);
            }
        }
        let now = dump(&store, Ino::ROOT);
        for name in kept.keys() {
            store.delete_snapshot(name.as_bytes()).expect("deletes");
        }
        reclaim(&store);
        prop_assert_eq!(dump(&store, Ino::ROOT), now);
        prop_assert_eq!(store.check().expect("reads"), []);
        // What is left are the rows of the tree as it is.
        let rows = row_counts(&store);
        prop_assert_eq!((rows["inodes"], rows["dirents"], rows["rewritten"]), (entries(&store).len() + 1, entries(&store).len(), 0));
        let mapped = entries(&store).iter().filter(|entry| store.map_chunk(entry.2, 0).expect("reads").is_some()).count();
        prop_assert_eq!(rows["filemap"], mapped);
    }
}
