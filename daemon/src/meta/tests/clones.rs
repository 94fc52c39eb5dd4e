//! Clones: the tree of a snapshot under numbers of its own, whenever its entries are made.

use super::content::block;
use super::snapshots::{create, reclaim, write};
use super::*;
use crate::ids::BlockIndex;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn take(store: &MetaStore, name: &str, root: Ino) -> SnapshotRow {
    store.take_snapshot(name.as_bytes(), root, b"", NOW).expect("takes")
}

fn clone_to(store: &MetaStore, snapshot: &str, name: &str) -> Ino {
    store.clone_snapshot(snapshot.as_bytes(), (Ino::ROOT, name.as_bytes()), NOW + 1).expect("clones").0
}

fn finish(store: &MetaStore) {
    assert!(store.finish_clones(&|| false).expect("finishes"));
}

fn refused<T: std::fmt::Debug>(result: Result<T, MetaError>) -> Refusal {
    match result.expect_err("is refused") {
        MetaError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

/// What can be seen below a directory but for numbers and times of changes.
fn shape(store: &MetaStore, dir: Ino) -> BTreeMap<Vec<u8>, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![(Vec::new(), dir)];
    while let Some((path, dir)) = left.pop() {
        for (name, ino, row) in store.read_dir(dir, None, usize::MAX).expect("reads") {
            let path = [path.as_slice(), b"/", &name].concat();
            let chunk = store.map_chunk(ino, 0).expect("reads");
            let names = store.xattr_names(ino).expect("reads");
            let xattrs: Vec<_> = names.iter().map(|name| store.xattr(ino, name).expect("reads")).collect();
            let target = store.symlink_target(ino).expect("reads");
            let attributes = (row.kind, row.perm, row.uid, row.size, row.nlink, row.mtime_ns, row.base, row.allocated);
            all.insert(path.clone(), format!("{attributes:?} {chunk:?} {xattrs:?} {target:?}"));
            if row.kind == FileKind::Directory {
                left.push((path, ino));
            }
        }
    }
    all
}

#[test]
fn a_clone_has_what_the_snapshot_has_and_goes_its_own_way() {
    let store = in_memory();
    let dir = create(&store, Ino::ROOT, "dir", FileKind::Directory);
    let file = create(&store, dir, "file", FileKind::File);
    write(&store, file, 0, block(1));
    write(&store, file, 2, block(2));
    store.set_xattr(file, b"user.a", b"v", SetMode::Either, NOW).expect("sets");
    let node = NewNode { kind: FileKind::Symlink, perm: 0o777, umask: 0, owner: (1, 2), rdev: 0, target: b"file" };
    store.create(dir, b"link", node, NOW).expect("creates");
    let snapshot = take(&store, "s", dir);
    write(&store, file, 0, block(3));
    let clone = clone_to(&store, "s", "clone");
    assert_eq!(shape(&store, clone), shape(&store, dir.at(snapshot.epoch)));
    assert_sound(&store);
    finish(&store);

    // Written in one place, it is as it was in the others.
    let copy = store.lookup(clone, b"file").expect("reads").expect("is there").ino;
    write(&store, copy, 2, block(4));
    let blocks = |ino| store.map_chunk(ino, 0).expect("reads").expect("is there").blocks;
    assert_eq!(blocks(copy), [Some(block(1)), None, Some(block(4))]);
    assert_eq!(blocks(file), [Some(block(3)), None, Some(block(2))]);
    assert_eq!(blocks(file.at(snapshot.epoch)), [Some(block(1)), None, Some(block(2))]);
    store.delete_snapshot(b"s").expect("deletes");
    assert_eq!(reclaim(&store), [0; 0], "the clone has the block that was written over");
    assert_sound(&store);
    store.unlink(clone, b"file", NOW).expect("unlinks");
    let mut released = Vec::new();
    store.free_orphans(&|_| false, &mut |gone| released.extend(gone)).expect("frees");
    released.sort_unstable();
    let mut expected = [block(1).fingerprint(), block(4).fingerprint()];
    expected.sort_unstable();
    assert_eq!(released, expected);
    assert_sound(&store);
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    let store = in_memory();
    let dir = create(&store, Ino::ROOT, "dir", FileKind::Directory);
    let deep = create(&store, dir, "deep", FileKind::Directory);
    let file = create(&store, dir, "one", FileKind::File);
    store.link(file, deep, b"two", NOW).expect("links");
    store.link(file, Ino::ROOT, b"outside", NOW).expect("links");
    take(&store, "s", dir);
    let clone = clone_to(&store, "s", "clone");
    let one = store.lookup(clone, b"one").expect("reads").expect("is there").ino;
    let deep = store.lookup(clone, b"deep").expect("reads").expect("is there").ino;
    let two = store.lookup(deep, b"two").expect("reads").expect("is there").ino;
    assert_eq!((one, store.inode(one).expect("reads").map(|row| row.nlink)), (two, Some(2)));
    assert_ne!(one, file);
    finish(&store);
    assert_sound(&store);
    // A second clone has a file of its own.
    let other = clone_to(&store, "s", "other");
    assert_ne!(store.lookup(other, b"one").expect("reads").expect("is there").ino, one);
    finish(&store);
    assert_sound(&store);
}

#[test]
fn objects_are_borrowed_and_stay_when_the_clone_goes() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("o", "12345")]);
    let state = ListingState { complete: true, last_key: None, listed_at_ns: NOW, entries: 1 };
    store.merge_listing(Ino::ROOT, (None, None), &[object("o", "12345")], Some(&state), NOW).expect("merges");
    take(&store, "s", Ino::ROOT);
    let clone = clone_to(&store, "s", "clone");
    let copy = store.lookup(clone, b"o").expect("reads").expect("is there").ino;
    let row = store.inode(copy).expect("reads").expect("is there");
    assert!(row.borrowed && row.local && row.own_origin().is_none());
    assert_eq!(row.origin, Some(origin("o", "12345")));
    assert!(store.change_of(copy).expect("reads").is_some(), "it is to be exported");
    assert_eq!(store.borrowers_in_need("o").expect("reads"), [copy]);
    store.unlink(clone, b"o", NOW).expect("unlinks");
    assert_eq!(store.doomed(None, 9).expect("reads"), [], "the object is another file's");
    assert_eq!(store.borrowers_in_need("o").expect("reads"), []);
    assert_sound(&store);
    // The file that the object is of takes it along.
    store.unlink(Ino::ROOT, b"o", NOW).expect("unlinks");
    assert_eq!(store.doomed(None, 9).expect("reads").len(), 1);
}

#[test]
fn what_was_cached_through_the_snapshot_is_cached_for_the_clone() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("o", "12345")]);
    let ino = ino_of(&store, Ino::ROOT, "o");
    store.map_blocks(&[(ino, BlockIndex(0), block(1))]).expect("maps");
    let snapshot = take(&store, "s", Ino::ROOT);
    merge(&store, Ino::ROOT, &[object("o", "another")]);
    store.map_blocks(&[(ino.at(snapshot.epoch), BlockIndex(2), block(2))]).expect("maps");
    let clone = clone_to(&store, "s", "clone");
    let copy = store.lookup(clone, b"o").expect("reads").expect("is there").ino;
    let chunk = store.map_chunk(copy, 0).expect("reads").expect("is there");
    assert_eq!((chunk.blocks, chunk.local), (vec![Some(block(1)), None, Some(block(2))], 0));
    assert_sound(&store);
}

#[test]
fn what_nobody_knew_is_not_cloned() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[prefix("d")]);
    let state = ListingState { complete: true, last_key: None, listed_at_ns: NOW, entries: 1 };
    store.merge_listing(Ino::ROOT, (None, None), &[prefix("d")], Some(&state), NOW).expect("merges");
    take(&store, "s", Ino::ROOT);
    let d = ino_of(&store, Ino::ROOT, "d");
    let clone = |name: &[u8], to: &[u8]| store.clone_snapshot(name, (Ino::ROOT, to), NOW);
    assert_eq!(refused(clone(b"s", b"clone")), Refusal::Unlisted(d));
    assert_eq!(refused(clone(b"none", b"clone")), Refusal::NotFound);
    merge(&store, d, &[]);
    store.merge_listing(d, (None, None), &[], Some(&state), NOW).expect("merges");
    take(&store, "t", Ino::ROOT);
    assert_eq!(refused(clone(b"t", b"d")), Refusal::Exists);
    clone(b"t", b"clone").expect("clones");
    assert_sound(&store);
}

#[test]
fn an_unfinished_clone_goes_on_after_a_restart_and_keeps_its_snapshot() {
    let engine = MemoryEngine::default();
    let clone = {
        let store = on(engine.clone());
        let dir = create(&store, Ino::ROOT, "dir", FileKind::Directory);
        for n in 0..600 {
            create(&store, dir, &format!("f{n:03}"), FileKind::File);
        }
        take(&store, "s", dir);
        let clone = clone_to(&store, "s", "clone");
        assert!(store.lookup(clone, b"f500").expect("reads").is_some());
        let first = store.read_dir(clone, None, 10).expect("reads");
        assert_eq!((first[0].0.as_slice(), first.len()), (&b"f000"[..], 10));
        clone
    };
    let store = on(engine);
    assert!(store.has_unfinished_clones().expect("reads"));
    assert_eq!(refused(store.delete_snapshot(b"s")), Refusal::Cloning);
    assert_eq!(store.read_dir(clone, Some(b"f590"), 100).expect("reads").len(), 9);
    assert_eq!(store.read_dir(clone, None, usize::MAX).expect("reads").len(), 600);
    // What is made of a clone that is not whole is never in a snapshot.
    let second = clone_to(&store, "s", "second");
    let taken = take(&store, "t", second);
    assert!(!store.has_unfinished_clones().expect("reads"));
    assert_eq!(store.read_dir(second.at(taken.epoch), None, usize::MAX).expect("reads").len(), 600);
    store.delete_snapshot(b"s").expect("deletes");
    assert_sound(&store);
}

#[test]
fn a_clone_that_is_removed_half_made_is_gone() {
    let store = in_memory();
    let dir = create(&store, Ino::ROOT, "dir", FileKind::Directory);
    create(&store, dir, "empty", FileKind::Directory);
    create(&store, dir, "file", FileKind::File);
    take(&store, "s", dir);
    let clone = clone_to(&store, "s", "clone");
    assert_eq!(refused(store.rmdir(Ino::ROOT, b"clone", &|_| None, NOW)), Refusal::NotEmpty);
    store.unlink(clone, b"file", NOW).expect("unlinks");
    store.rmdir(clone, b"empty", &|_| None, NOW).expect("removes");
    assert_eq!(store.lookup(clone, b"file").expect("reads"), None, "it is not made again");
    store.rmdir(Ino::ROOT, b"clone", &|_| None, NOW).expect("removes");
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    finish(&store);
    assert_sound(&store);
    store.delete_snapshot(b"s").expect("deletes");
}

type Path = Vec<u8>;

#[derive(Clone, Debug)]
enum Op {
    Create(Path),
    MakeDirectory(Path),
    Write(Path, u8, u8),
    Rename(Path, Path),
    Remove(Path),
    Look(Path),
    ReadSome(Path),
    Fill,
}

fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let path = || prop::collection::vec(0..4_u8, 1..4);
    let op = prop_oneof![
        3 => path().prop_map(Op::Create),
        3 => path().prop_map(Op::MakeDirectory),
        3 => (path(), any::<u8>(), any::<u8>()).prop_map(|(path, at, what)| Op::Write(path, at, what)),
        2 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => path().prop_map(Op::Remove),
        2 => path().prop_map(Op::Look),
        1 => path().prop_map(Op::ReadSome),
        1 => Just(Op::Fill),
    ];
    prop::collection::vec(op, 0..most)
}

fn find(store: &MetaStore, root: Ino, path: &[u8]) -> Option<Ino> {
    path.iter()
        .try_fold(root, |dir, name| store.lookup(dir, format!("n{name}").as_bytes()).expect("reads").map(|dirent| dirent.ino))
}

/// Directory and name of a path.
fn place(store: &MetaStore, root: Ino, path: &[u8]) -> Option<(Ino, Vec<u8>)> {
    let (name, above) = path.split_last()?;
    Some((find(store, root, above)?, format!("n{name}").into_bytes()))
}

/// Does something below a directory; what came of it, without numbers.
fn apply(store: &MetaStore, root: Ino, op: &Op) -> String {
    let node = |kind| NewNode { kind, perm: 0o755, umask: 0, owner: (0, 0), rdev: 0, target: b"" };
    let make = |path: &[u8], kind| place(store, root, path).map(|(dir, name)| store.create(dir, &name, node(kind), NOW).is_ok());
    let outcome = match op {
        Op::Create(path) => make(path, FileKind::File),
        Op::MakeDirectory(path) => make(path, FileKind::Directory),
        Op::Write(path, at, what) => find(store, root, path).map(|ino| {
            let is_file = store.inode(ino).expect("reads").expect("is there").kind == FileKind::File;
            if is_file {
                write(store, ino, u64::from(at % 4), block(what % 6));
            }
            is_file
        }),
        Op::Rename(from, to) => place(store, root, from)
            .zip(place(store, root, to))
            .map(|(from, to)| store.rename((from.0, &from.1), (to.0, &to.1), RenameMode::Replace, &|_| None, NOW).is_ok()),
        Op::Remove(path) => place(store, root, path)
            .map(|(dir, name)| store.unlink(dir, &name, NOW).is_ok() || store.rmdir(dir, &name, &|_| None, NOW).is_ok()),
        Op::Look(path) => find(store, root, path).map(|_| true),
        Op::ReadSome(path) => find(store, root, path).map(|ino| store.read_dir(ino, None, 1).expect("reads").is_empty()),
        Op::Fill => {
            let left = std::cell::Cell::new(1);
            store.finish_clones(&|| left.replace(0) == 0).expect("fills");
            None
        }
    };
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    format!("{outcome:?}")
}

proptest! {
    /// A clone whose entries are made when they are needed cannot be told from one that is made at once.
    #[test]
    fn when_entries_are_made_cannot_be_seen(before in ops(20), between in ops(8), after in ops(30)) {
        let [at_once, lazily] = [true, false].map(|at_once| {
            let store = in_memory();
            let base = create(&store, Ino::ROOT, "base", FileKind::Directory);
            before.iter().for_each(|op| drop(apply(&store, base, op)));
            let snapshot = take(&store, "s", base);
            let seen = shape(&store, base.at(snapshot.epoch));
            between.iter().for_each(|op| drop(apply(&store, base, op)));
            let clone = clone_to(&store, "s", "clone");
            if at_once {
                finish(&store);
            }
            (store, clone, base.at(snapshot.epoch), seen)
        });
        for op in &after {
            prop_assert_eq!(apply(&at_once.0, at_once.1, op), apply(&lazily.0, lazily.1, op), "{:?}", op);
            prop_assert_eq!(lazily.0.check().expect("reads"), []);
        }
        prop_assert_eq!(shape(&at_once.0, at_once.1), shape(&lazily.0, lazily.1));
        for (store, _, base, seen) in [at_once, lazily] {
            finish(&store);
            prop_assert_eq!(&shape(&store, base), &seen);
            prop_assert_eq!(store.check().expect("reads"), []);
            store.delete_snapshot(b"s").expect("deletes");
            reclaim(&store);
            prop_assert_eq!(store.check().expect("reads"), []);
        }
    }
}

/// Prints what a clone of a million files takes: `cargo test --release -p forebay-daemon a_million -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn a_million_files_are_cloned_at_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = MetaConfig { memory_bytes: 128 << 20 };
    let store = MetaStore::open(dir.path(), config, DEFAULTS, NOW).expect("opens");
    let dirs: Vec<_> = (0..100).map(|n| prefix(&format!("d{n:03}"))).collect();
    let files: Vec<_> = (0..10_000).map(|n| object(&format!("f{n:05}"), "\"0123456789abcdef0123456789abcdef\"")).collect();
    let state = ListingState { complete: true, last_key: None, listed_at_ns: NOW, entries: 1 };
    let list = |dir, entries: &[ListedEntry]| store.merge_listing(dir, (None, None), entries, Some(&state), NOW).expect("merges");
    list(Ino::ROOT, &dirs);
    for n in 0..100 {
        list(ino_of(&store, Ino::ROOT, &format!("d{n:03}")), &files);
    }
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let began = std::time::Instant::now();
        work();
        println!("{what}: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    };
    timed("snapshot", &mut || drop(take(&store, "s", Ino::ROOT)));
    let mut clone = None;
    timed("clone", &mut || clone = Some(clone_to(&store, "s", "clone")));
    let clone = clone.expect("was made");
    timed("first look at one file", &mut || {
        let dir = ino_of(&store, clone, "d050");
        assert!(store.lookup(dir, b"f05000").expect("reads").is_some());
    });
    timed("first listing of a directory of 10,000", &mut || {
        let dir = ino_of(&store, clone, "d060");
        assert_eq!(store.read_dir(dir, None, usize::MAX).expect("reads").len(), 10_000);
    });
    timed("all the rest", &mut || finish(&store));
}
