//! The store on disk: restarts, sudden ends, many entries.

use super::super::engine::{Batch, Durability, Table};
use super::*;
use crate::format::rows::encode_number;
use crate::format::rows::key::{self, Space};
use std::collections::BTreeSet;

fn open(dir: &Path) -> (MetaStore, Arc<LocalEngine>) {
    let engine = Arc::new(LocalEngine::open(dir, CONFIG.memory_bytes).expect("opens"));
    (on(engine.clone()), engine)
}

/// What the kernel has of a store at this moment: what is left of it when the process dies now. (A copy takes time, so the
/// engine must not be in the middle of a checkpoint.)
fn as_after_a_kill(dir: &Path, engine: &LocalEngine) -> tempfile::TempDir {
    engine.settle();
    let copy = tempfile::tempdir().expect("temporary directory");
    copy_tree(dir, copy.path());
    copy
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("has a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_committed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, engine) = open(dir.path());
    let mut listed = Vec::new();
    for round in 0..5 {
        listed.push(object(&format!("{round}"), "e"));
        merge(&store, Ino::ROOT, &listed);
        let left = as_after_a_kill(dir.path(), &engine);
        let (survivor, _) = open(left.path());
        assert_eq!(names(&survivor, Ino::ROOT).len(), round + 1);
        assert_sound(&survivor);
    }
}

#[test]
fn inode_numbers_are_never_used_again() {
    let mut dir = tempfile::tempdir().expect("temporary directory");
    let mut numbers = BTreeSet::new();
    for life in 0..4 {
        let (store, engine) = open(dir.path());
        let entries: Vec<_> = (0..1500).map(|n| object(&format!("{n:04}"), &format!("{life}"))).collect();
        for change in merge(&store, Ino::ROOT, &entries) {
            let (Change::Added { ino, .. } | Change::Replaced { new: ino, .. }) = change else { panic!("{change:?}") };
            assert!(numbers.insert(ino), "{ino} again in life {life}");
        }
        dir = as_after_a_kill(dir.path(), &engine);
    }
    assert_eq!(numbers.len(), 6000);
}

#[test]
fn twenty_thousand_entries_are_listed_read_and_found_after_a_restart() {
    const ENTRIES: usize = 20_000;
    const PAGE: usize = 1_000;
    let dir = tempfile::tempdir().expect("temporary directory");
    let entries: Vec<_> = (0..ENTRIES).map(|n| object(&format!("image-{n:06}.jpg"), &format!("\"{n:032x}\""))).collect();
    {
        let store = MetaStore::open(dir.path(), CONFIG, DEFAULTS, NOW).expect("opens");
        let mut from = None;
        for page in entries.chunks(PAGE) {
            let next = page.last().map(|last| [last.name.as_slice(), &[1]].concat());
            let covers = (from.take(), next.clone());
            let changes = store.merge_listing(Ino::ROOT, covers, page, None, NOW).expect("merges");
            assert_eq!(changes.len(), PAGE);
            from = next;
        }
    }
    let store = MetaStore::open(dir.path(), CONFIG, DEFAULTS, NOW).expect("opens");
    let found = store.read_dir(Ino::ROOT, None, usize::MAX).expect("reads");
    assert_eq!(found.len(), ENTRIES);
    for (entry, (name, ino, inode)) in entries.iter().zip(&found) {
        assert_eq!(entry.name, *name);
        assert_eq!(store.lookup(Ino::ROOT, name).expect("reads").map(|d| d.ino), Some(*ino));
        let ListedNode::File { origin, .. } = &entry.node else { panic!("{entry:?}") };
        assert_eq!(inode.origin.as_ref(), Some(origin));
    }
}

#[test]
fn a_store_of_a_newer_schema_is_refused_and_left_as_it_is() {
    let engine = MemoryEngine::default();
    let schema = key::setting(Space::Internal, "schema");
    let mut batch = Batch::default();
    batch.put(Table::Settings, schema.clone(), encode_number(9));
    engine.commit(batch, Durability::Process).expect("commits");
    let refused = MetaStore::with_engine(Box::new(engine.clone()), DEFAULTS, NOW).map(drop);
    assert!(matches!(&refused, Err(MetaError::Damaged { why, .. }) if why.contains("newer")), "{refused:?}");
    assert_eq!(engine.view().get(Table::Settings, &schema).expect("reads"), Some(encode_number(9)));
}

#[test]
fn a_store_of_an_older_schema_is_taken_over() {
    for older in [1, 2, 3, 4] {
        let engine = MemoryEngine::default();
        let store = on(engine.clone());
        merge(&store, Ino::ROOT, &[object("f", "e")]);
        let schema = key::setting(Space::Internal, "schema");
        let mut batch = Batch::default();
        batch.put(Table::Settings, schema.clone(), encode_number(older));
        engine.commit(batch, Durability::Process).expect("commits");
        assert_eq!(names(&on(engine.clone()), Ino::ROOT), ["f"]);
        assert_eq!(engine.view().get(Table::Settings, &schema).expect("reads"), Some(encode_number(8)));
    }
}

#[test]
fn a_damaged_row_is_an_error_that_names_its_table() {
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    let mut batch = Batch::default();
    batch.put(Table::Inodes, key::versioned(&key::ino(Ino(9)), Epoch::FIRST), vec![1, 2]);
    engine.commit(batch, Durability::Process).expect("commits");
    let answer = store.inode(Ino(9));
    assert!(matches!(answer, Err(MetaError::Damaged { table: "inodes", .. })), "{answer:?}");
}
