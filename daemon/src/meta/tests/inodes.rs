//! Inodes, maps, hidden keys and settings.

use super::*;
use crate::ids::{BlockId, BlockIndex};

#[test]
fn a_new_store_has_a_root() {
    let store = in_memory();
    let root = store.inode(Ino::ROOT).expect("reads").expect("exists");
    assert_eq!((root.kind, root.perm, root.uid, root.mtime_ns), (FileKind::Directory, 0o755, 7, NOW));
    assert_eq!(store.parent_of(Ino::ROOT).expect("reads"), None);
    assert_eq!(store.listing_state(Ino::ROOT).expect("reads"), None);
    assert_sound(&store);
}

#[test]
fn an_inode_knows_its_directory_and_name_whatever_is_updated() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[prefix("d")]);
    let dir = ino_of(&store, Ino::ROOT, "d");
    merge(&store, dir, &[object("f", "e")]);
    let file = ino_of(&store, dir, "f");
    let updated = store.update_inode(file, &|inode| (inode.size, inode.origin) = (99, None)).expect("updates");
    assert_eq!(updated.map(|inode| inode.size), Some(99));
    assert_eq!(store.parent_of(file).expect("reads"), Some((dir, b"f".to_vec())));
    assert_sound(&store);
}

#[test]
fn updates_from_many_threads_are_all_kept() {
    let store = in_memory();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    store.update_inode(Ino::ROOT, &|inode| inode.size += 1).expect("updates");
                }
            });
        }
    });
    assert_eq!(store.inode(Ino::ROOT).expect("reads").map(|root| root.size), Some(100));
}

#[test]
fn updating_an_inode_that_is_gone_makes_none() {
    let store = in_memory();
    assert_eq!(store.update_inode(Ino(5), &|_| {}).expect("reads"), None);
    store.become_symlink(Ino(5), b"x").expect("does nothing");
    assert_eq!(store.inode(Ino(5)).expect("reads"), None);
    assert_eq!(store.symlink_target(Ino(5)).expect("reads"), None);
}

#[test]
fn names_that_cannot_exist_are_not_found() {
    let store = in_memory();
    for name in [b"".as_slice(), b"a\0b", b"a/b", &[b'x'; 256]] {
        assert_eq!(store.lookup(Ino::ROOT, name).expect("reads"), None);
    }
}

#[test]
fn blocks_are_added_to_what_is_mapped_already() {
    let store = in_memory();
    let id = |n: u8| BlockId([n; 32]);
    store.map_blocks(&[(Ino::ROOT, BlockIndex(1), id(1)), (Ino::ROOT, BlockIndex(64), id(64))]).expect("maps");
    store.map_blocks(&[(Ino::ROOT, BlockIndex(3), id(3)), (Ino::ROOT, BlockIndex(1), id(9))]).expect("maps");
    let first = store.map_chunk(Ino::ROOT, 0).expect("reads").expect("mapped");
    assert_eq!(first.blocks, [None, Some(id(9)), None, Some(id(3))]);
    let second = store.map_chunk(Ino::ROOT, 1).expect("reads").expect("mapped");
    assert_eq!(second.blocks, [Some(id(64))]);
    assert_eq!(store.map_chunk(Ino::ROOT, 2).expect("reads"), None);
}

#[test]
fn hidden_keys_are_counted_and_replaced_where_listed_again() {
    let store = in_memory();
    let keys = |list: &[&str]| list.iter().map(|key| (key.to_string(), "why".to_string())).collect::<Vec<_>>();
    store.record_hidden(Ino(2), (None, None), &keys(&["a//", "b//", "c//"])).expect("records");
    store.record_hidden(Ino(3), (None, None), &keys(&["z//"])).expect("records");
    store.record_hidden(Ino(2), (Some("b"), Some("c")), &keys(&["b..", "b//"])).expect("records");
    assert_eq!(store.hidden_keys(9).expect("reads"), (keys(&["a//", "b..", "b//", "c//", "z//"]), 5));
    store.record_hidden(Ino(2), (Some("b"), None), &[]).expect("records");
    assert_eq!(store.hidden_keys(1).expect("reads"), (keys(&["a//"]), 2));
}

#[test]
fn settings_are_kept_apart_from_the_stores_own() {
    let store = in_memory();
    assert_eq!(store.setting("epoch").expect("reads"), None);
    store.set_setting("epoch", b"mine").expect("sets");
    assert_eq!(store.setting("epoch").expect("reads").as_deref(), Some(b"mine".as_slice()));
    assert_eq!(store.epoch(), Epoch::FIRST);
    store.flush().expect("flushes");
}
