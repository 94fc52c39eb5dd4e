//! Freeing what has lost its name.

use super::super::engine::{Engine, KeyRange, Order, Table};
use super::*;
use crate::ids::{BlockId, BlockIndex};
use std::ops::ControlFlow;

fn rows(engine: &dyn Engine, table: Table) -> usize {
    let mut count = 0;
    let all = KeyRange { start: Vec::new(), end: None };
    let counted = engine.view().scan(table, &all, Order::Ascending, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    });
    counted.expect("scans");
    count
}

#[test]
fn an_orphan_goes_with_its_map_when_nobody_uses_it() {
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    merge(&store, Ino::ROOT, &[object("f", "e")]);
    let ino = ino_of(&store, Ino::ROOT, "f");
    let blocks: Vec<_> = (0..200).map(|index| (ino, BlockIndex(index), BlockId([index as u8; 32]))).collect();
    store.map_blocks(&blocks).expect("maps");
    merge(&store, Ino::ROOT, &[]);
    assert_eq!(store.free_orphans(&|used| used == ino, &mut |_| {}).expect("frees"), 0);
    assert!(store.inode(ino).expect("reads").is_some());
    assert!(store.map_chunk(ino, 3).expect("reads").is_some());

    let restarted = on(engine.clone());
    assert_eq!(restarted.free_orphans(&|_| false, &mut |_| {}).expect("frees"), 1);
    assert_eq!(store.inode(ino).expect("reads"), None);
    assert_eq!((rows(&engine, Table::FileMap), rows(&engine, Table::Orphans), rows(&engine, Table::Inodes)), (0, 0, 1));
}

#[test]
fn a_tree_that_went_with_its_prefix_is_freed_whole() {
    const FILES: usize = 2_500;
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    merge(&store, Ino::ROOT, &[prefix("d")]);
    let dir = ino_of(&store, Ino::ROOT, "d");
    let files: Vec<_> = (0..FILES).map(|n| object(&format!("{n:05}"), "e")).chain([prefix("sub")]).collect();
    merge(&store, dir, &files);
    let sub = ino_of(&store, dir, "sub");
    merge(&store, sub, &[object("deep", "e")]);
    store.record_hidden(sub, (None, None), &[("d/sub//x".into(), "empty name".into())]).expect("records");

    let changes = merge(&store, Ino::ROOT, &[object("d", "now a file")]);
    assert!(matches!(changes.as_slice(), [Change::Replaced { old, .. }] if *old == dir), "{changes:?}");
    let deep = ino_of(&store, sub, "deep");
    assert_eq!(store.free_orphans(&|ino| ino == deep, &mut |_| {}).expect("frees"), 2 + FILES as u64);
    assert!(store.inode(deep).expect("reads").is_some());
    assert_eq!(store.free_orphans(&|_| false, &mut |_| {}).expect("frees"), 1);
    // The root and the new file.
    assert_eq!((rows(&engine, Table::Inodes), rows(&engine, Table::Dirents), rows(&engine, Table::Orphans)), (2, 1, 0));
    assert_eq!(store.hidden_keys(9).expect("reads"), (vec![], 0));
    assert_sound(&store);
}

#[test]
fn blocks_of_an_inode_that_is_gone_are_not_mapped() {
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    store.map_blocks(&[(Ino(77), BlockIndex(0), BlockId([1; 32]))]).expect("skips");
    assert_eq!(rows(&engine, Table::FileMap), 0);
}
