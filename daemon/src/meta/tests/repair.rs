//! A store damaged in each known way is told of, repaired, and sound afterwards, however often the repair was interrupted; and all data is still there, and can be reached.

use super::check::Violation;
use super::content::{BLOCK, block, content};
use super::engine::{Batch, Durability, KeyRange, Table};
use super::references::local_blocks;
use super::*;
use crate::format::rows::{TOMBSTONE, encode_number, encode_text, key};
use crate::ids::BlockIndex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

const STRANGER: Ino = Ino(999_999);

/// A tree with something of everything, and a snapshot below it.
struct Sample {
    engine: MemoryEngine,
    store: MetaStore,
    dir: Ino,
    file: Ino,
    twice: Ino,
    link: Ino,
    object: Ino,
    pinned: Ino,
}

fn make(store: &MetaStore, parent: Ino, name: &str, kind: FileKind) -> Ino {
    let target: &[u8] = if kind == FileKind::Symlink { b"target" } else { b"" };
    let node = NewNode { kind, perm: 0o755, umask: 0, owner: (0, 0), rdev: 0, target };
    store.create(parent, name.as_bytes(), node, NOW).expect("creates").0
}

fn write(store: &MetaStore, ino: Ino, index: u64, n: u8) {
    let size = store.inode(ino).expect("reads").expect("there").size.max((index + 1) * BLOCK);
    store.write_content(&[content(ino, size, vec![(index, Content::Block(block(n)))])]).expect("writes");
}

fn sample() -> Sample {
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    merge(&store, Ino::ROOT, &[object("o", "12345"), object("p", "123")]);
    let (object, pinned) = (ino_of(&store, Ino::ROOT, "o"), ino_of(&store, Ino::ROOT, "p"));
    let dir = make(&store, Ino::ROOT, "d", FileKind::Directory);
    let file = make(&store, dir, "f", FileKind::File);
    let twice = make(&store, Ino::ROOT, "g", FileKind::File);
    let link = make(&store, dir, "l", FileKind::Symlink);
    write(&store, file, 0, 1);
    write(&store, file, 1, 2);
    write(&store, twice, 0, 1);
    store.link(twice, dir, b"h", NOW).expect("links");
    store.map_blocks(&[(object, BlockIndex(0), block(9))]).expect("maps");
    store.take_snapshot(b"s", Ino::ROOT, b"", NOW).expect("takes");
    write(&store, file, 0, 3);
    store.set_wishes(pinned, Wishes { norelease: Some(true), noarchive: None }).expect("sets");
    assert_sound(&store);
    Sample { engine, store, dir, file, twice, link, object, pinned }
}

impl Sample {
    fn put(&self, table: Table, key: &[u8], row: Vec<u8>) {
        let key = if table.is_versioned() { key::versioned(key, self.store.epoch()) } else { key.to_vec() };
        let mut batch = Batch::default();
        batch.put(table, key, row);
        self.store.engine().commit(batch, Durability::Durable).expect("commits");
    }

    /// Takes a row away as damage would: nothing that hangs on it changes.
    fn lose(&self, table: Table, key: &[u8]) {
        if table.is_versioned() {
            return self.put(table, key, TOMBSTONE.to_vec());
        }
        let mut batch = Batch::default();
        batch.remove(table, key);
        self.store.engine().commit(batch, Durability::Durable).expect("commits");
    }

    fn change_row(&self, ino: Ino, change: impl FnOnce(&mut Inode)) {
        let mut row = self.store.inode(ino).expect("reads").expect("there");
        change(&mut row);
        self.put(Table::Inodes, &key::ino(ino), row.encode());
    }
}

type Harm = fn(&Sample);

/// Each known way, with what a check must say of it at least.
const HARMS: [(&str, Harm); 22] = [
    ("names o, which has no row", |it| it.lose(Table::Inodes, &key::ino(it.object))),
    ("names f, which has no row", |it| it.lose(Table::Inodes, &key::ino(it.file))),
    ("names d, which has no row", |it| it.lose(Table::Inodes, &key::ino(it.dir))),
    ("names l, which has no row", |it| it.lose(Table::Inodes, &key::ino(it.link))),
    ("which says it has another name", |it| it.lose(Table::Links, &key::further_name(it.twice, it.dir, b"h"))),
    ("which says it has another name", |it| it.change_row(it.file, |row| row.link = None)),
    ("has no name and is not an orphan", |it| it.lose(Table::Dirents, &key::dirent(it.dir, b"f"))),
    ("has no name and is not an orphan", |it| {
        it.lose(Table::Dirents, &key::dirent(it.dir, b"f"));
        make(&it.store, it.dir, "f", FileKind::Directory);
    }),
    ("has no name and is not an orphan", |it| {
        let empty = make(&it.store, Ino::ROOT, "e", FileKind::File);
        it.change_row(empty, |row| row.link = None);
        it.lose(Table::Dirents, &key::dirent(Ino::ROOT, b"e"));
    }),
    ("is said to allocate", |it| it.change_row(it.file, |row| row.allocated = Some(5))),
    ("is not in the log", |it| it.lose(Table::Changes, &key::ino(it.file))),
    ("is pinned in one place", |it| it.lose(Table::Pins, &key::ino(it.pinned))),
    ("is pinned in one place", |it| it.put(Table::Pins, &key::ino(it.file), encode_text(b""))),
    ("referred to 0 times", |it| it.lose(Table::Refs, &key::reference(block(1).fingerprint()))),
    ("referred to 1 times and is 2", |it| it.put(Table::Refs, &key::reference(block(1).fingerprint()), encode_number(1))),
    ("referred to 7 times and is 0", |it| it.put(Table::Refs, &key::reference(77), encode_number(7))),
    ("rows in filemap", |it| {
        let map = MapChunk { blocks: vec![Some(block(8))], local: 0 };
        it.put(Table::FileMap, &key::chunk(STRANGER, 3), map.encode());
    }),
    ("rows in filemap", |it| {
        let map = MapChunk { blocks: vec![None, Some(block(2))], local: 2 };
        it.put(Table::FileMap, &key::chunk(STRANGER, 0), map.encode());
        it.put(Table::Xattrs, &key::xattr(STRANGER, b"user.a"), encode_text(b"a"));
    }),
    ("rows in xattrs", |it| it.put(Table::Xattrs, &key::xattr(STRANGER, b"user.a"), encode_text(b"a"))),
    ("rows in symlinks", |it| it.put(Table::Symlinks, &key::ino(STRANGER), encode_text(b"somewhere"))),
    ("rows in links", |it| it.put(Table::Links, &key::further_name(STRANGER, it.dir, b"x"), encode_text(b""))),
    ("rows in changes", |it| {
        let row = ChangeRow { generation: 1, since_ns: NOW };
        it.put(Table::Changes, &key::ino(STRANGER), row.encode());
    }),
];

/// Blocks written here that the maps of the present tree name.
fn data(store: &MetaStore) -> BTreeSet<(Ino, u64)> {
    let mut found = BTreeSet::new();
    let everything = KeyRange { start: Vec::new(), end: None };
    let scanned = store.reading().scan(Table::FileMap, &everything, &mut |prefix, row| {
        let ino = key::leading_ino(prefix).expect("a key");
        found.extend(local_blocks(row)?.map(|fingerprint| (ino, fingerprint)));
        Ok(ControlFlow::Continue(()))
    });
    scanned.expect("reads");
    found
}

/// Every inode that a name leads to, with one of its paths.
fn reachable(store: &MetaStore) -> BTreeMap<Ino, String> {
    let (mut all, mut left) = (BTreeMap::new(), vec![(String::new(), Ino::ROOT)]);
    while let Some((path, dir)) = left.pop() {
        for (name, ino, row) in store.read_dir(dir, None, usize::MAX).expect("reads") {
            let path = format!("{path}/{}", String::from_utf8(name).expect("text"));
            if row.kind == FileKind::Directory {
                left.push((path.clone(), ino));
            }
            all.insert(ino, path);
        }
    }
    all
}

/// Repairs as the cache does, up to so many repairs; whether there is nothing left to do.
fn repair(store: &MetaStore, mut at_most: usize) -> bool {
    for _ in 0..4 {
        let mut violations = store.check().expect("reads");
        if violations.is_empty() {
            return true;
        }
        // Counts first.
        violations.sort_by_key(|violation| !matches!(violation, Violation::WrongReferences { .. }));
        for violation in violations {
            if at_most == 0 {
                return false;
            }
            at_most -= 1;
            store.repair(&violation, NOW + 1).expect("repairs");
        }
    }
    store.check().expect("reads").is_empty()
}

fn assert_all_is_there(store: &MetaStore, before: &BTreeSet<(Ino, u64)>, harm: &str) {
    assert_eq!(store.check().expect("reads"), [], "{harm}");
    let after = data(store);
    assert!(before.is_subset(&after), "{harm}: {before:?} became {after:?}");
    let reachable = reachable(store);
    for (ino, _) in before {
        assert!(reachable.contains_key(ino), "{harm}: {ino} cannot be reached among {reachable:?}");
    }
    // And the snapshot is what it was.
    let (_, snapshot) = store.snapshots().expect("reads").remove(0);
    let names: Vec<_> =
        store.read_dir(Ino::ROOT.at(snapshot.epoch), None, 99).expect("reads").into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["d", "g", "o", "p"].map(|name| name.as_bytes().to_vec()), "{harm}");
}

#[test]
fn every_harm_is_told_of_and_repaired_and_no_data_is_dropped() {
    for (harm, damage) in HARMS {
        let it = sample();
        damage(&it);
        let told: Vec<String> = it.store.check().expect("reads").iter().map(ToString::to_string).collect();
        let told = told.join("; ");
        let words = harm.strip_prefix("names ").map_or(harm.to_owned(), |named| {
            let (name, rest) = named.split_once(", ").expect("two parts");
            format!("'{name}', {rest}")
        });
        assert!(told.contains(&words), "{words}: {told}");
        let before = data(&it.store);
        assert!(repair(&it.store, usize::MAX), "{harm}: {:?}", it.store.check());
        assert_all_is_there(&it.store, &before, harm);
    }
}

#[test]
fn all_harms_at_once_are_repaired_and_stopping_anywhere_leaves_what_can_be_repaired() {
    let mut steps = 0;
    loop {
        let it = sample();
        // Those that can be done to one store.
        for (_, damage) in [0, 4, 9, 11, 13, 15, 17, 20].map(|at| HARMS[at]) {
            damage(&it);
        }
        let before = data(&it.store);
        let whole = repair(&it.store, steps);
        // Somebody else goes on, with what is in the engine.
        let later = on(it.engine.clone());
        assert!(repair(&later, usize::MAX), "after {steps} steps: {:?}", later.check());
        assert_all_is_there(&later, &before, &format!("{steps} steps"));
        if whole {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 8, "each of them took a step: {steps}");
}

#[test]
fn a_power_cut_in_a_repair_harms_nothing() {
    let mut cut_short = 0;
    for seed in 0..40 {
        let it = sample();
        HARMS[1].1(&it);
        HARMS[7].1(&it);
        HARMS[17].1(&it);
        it.engine.flush().expect("flushes");
        let before = data(&it.store);
        repair(&it.store, usize::MAX);
        let later = on(it.engine.power_cut(seed));
        cut_short += u32::from(!later.check().expect("reads").is_empty());
        assert!(repair(&later, usize::MAX), "{:?}", later.check());
        assert_all_is_there(&later, &before, &format!("seed {seed}"));
    }
    assert!(cut_short > 0, "no cut came in between");
}

#[test]
fn what_is_repaired_is_what_it_was_as_far_as_that_is_known() {
    // A file whose row is lost keeps its name and its blocks.
    let it = sample();
    it.lose(Table::Inodes, &key::ino(it.file));
    assert!(repair(&it.store, usize::MAX));
    let row = it.store.inode(it.file).expect("reads").expect("made anew");
    assert_eq!((ino_of(&it.store, it.dir, "f"), row.size, row.perm, row.base), (it.file, 2 * BLOCK, 0o600, Some(0)));
    // One whose name is lost and taken goes where lost things go.
    let it = sample();
    HARMS[7].1(&it);
    assert!(repair(&it.store, usize::MAX));
    let place = format!("/lost+found/inode-{}", it.file.0);
    assert_eq!(reachable(&it.store).get(&it.file), Some(&place));
    // One whose name is lost and free gets it back.
    let it = sample();
    HARMS[6].1(&it);
    assert!(repair(&it.store, usize::MAX));
    assert_eq!(reachable(&it.store).get(&it.file), Some(&"/d/f".to_owned()));
    assert_eq!(it.store.lookup(Ino::ROOT, LOST_AND_FOUND).expect("reads"), None, "there is no need for it");
    // What the bucket has and nothing else is left to it.
    let it = sample();
    HARMS[0].1(&it);
    assert!(repair(&it.store, usize::MAX));
    assert_eq!(it.store.lookup(Ino::ROOT, b"o").expect("reads"), None);
    // An empty file that nothing leads to is freed.
    let it = sample();
    HARMS[8].1(&it);
    assert!(repair(&it.store, usize::MAX));
    assert_eq!(it.store.free_orphans(&|_| false, &mut |_| {}).expect("frees"), 1);
    assert_sound(&it.store);
    // Further names are names again.
    let it = sample();
    HARMS[4].1(&it);
    assert!(repair(&it.store, usize::MAX));
    assert_eq!(it.store.inode(it.twice).expect("reads").expect("there").nlink, 2);
    assert_eq!(ino_of(&it.store, it.dir, "h"), it.twice);
}

#[test]
fn counts_tell_which_blocks_to_hold_and_which_to_let_go_of() {
    let it = sample();
    it.lose(Table::Refs, &key::reference(block(1).fingerprint()));
    it.put(Table::Refs, &key::reference(77), encode_number(7));
    it.put(Table::Refs, &key::reference(block(2).fingerprint()), encode_number(9));
    let wrong = [block(1).fingerprint(), 77, block(2).fingerprint(), block(3).fingerprint()];
    let repaired = it.store.repair_references(&wrong).expect("repairs");
    assert_eq!((repaired.referred, repaired.released), (vec![block(1).fingerprint()], vec![77]));
    assert_sound(&it.store);
    // A map that does not decode could have named any block: then no count is touched.
    it.put(Table::Refs, &key::reference(block(1).fingerprint()), encode_number(9));
    it.put(Table::FileMap, &key::chunk(it.file, 5), b"\x01\xff".to_vec());
    let told = it.store.check().expect("reads");
    assert!(told.iter().any(|violation| matches!(violation, Violation::DamagedRow { table: "filemap", .. })), "{told:?}");
    assert!(!told.iter().any(|violation| matches!(violation, Violation::WrongReferences { .. })), "{told:?}");
    assert!(it.store.repair_references(&wrong).is_err());
}

#[test]
fn a_block_is_found_in_the_tree_and_in_snapshots_by_name() {
    let it = sample();
    let of = |n: u8| {
        let wanted: HashSet<u64> = [block(n).fingerprint()].into();
        let places = it.store.places_of(&wanted).expect("reads");
        let said = |place: BlockPlace| format!("{} {}", String::from_utf8(place.path).expect("text"), place.index);
        places.into_iter().map(said).collect::<Vec<_>>()
    };
    assert_eq!(of(1), [".snapshots/s/d/f 0", ".snapshots/s/g 0", "g 0"]);
    assert_eq!(of(2), [".snapshots/s/d/f 1", "d/f 1"]);
    assert_eq!(of(3), ["d/f 0"]);
    assert_eq!(of(9), [] as [String; 0], "the bucket has it");
    it.store.take_snapshot(b"part", it.dir, b"d", NOW).expect("takes");
    it.store.unlink(it.dir, b"f", NOW).expect("unlinks");
    assert_eq!(of(3)[1], ".snapshots/part/f 0");
    assert!(of(3)[0].starts_with("(a removed file, ino "), "{:?}", of(3));
    it.store.delete_snapshot(b"part").expect("deletes");
    it.store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    assert_eq!(of(3), [] as [String; 0]);
}
