//! The tree of a published snapshot, entered from its manifest's entries.

use super::*;
use crate::format::manifest::{Entry, Node};
use std::collections::BTreeMap;

fn entry(path: &str, node: Node) -> Entry {
    Entry { path: path.into(), perm: 0o640, uid: 1, gid: 2, mtime_ns: 9, xattrs: BTreeMap::new(), node }
}

fn file(key: &str) -> Node {
    Node::File { size: 5, object: Some(Origin { version: Some("v".into()), ..origin(key, "e") }) }
}

#[test]
fn a_published_tree_is_all_there_and_is_nobodys_to_list_or_export() {
    let store = in_memory();
    let mut tree = store.enter_published();
    let tagged = BTreeMap::from([(b"user.x".to_vec(), b"1".to_vec())]);
    let many = (0..2500).map(|n| entry(&format!("a/deep/{n:05}"), file(&format!("k{n}"))));
    let before = [("", Node::Directory), ("a", Node::Directory), ("a/deep", Node::Directory)];
    let after = [
        ("a/empty", Node::File { size: 0, object: None }),
        ("b", Node::Directory),
        ("l", Node::Symlink { target: b"a/empty".to_vec() }),
        ("p", Node::Special { kind: FileKind::Fifo, rdev: 0 }),
    ];
    for (path, node) in before {
        tree.entry(entry(path, node)).expect("enters");
    }
    many.for_each(|entry| tree.entry(entry).expect("enters"));
    for (path, node) in after {
        tree.entry(Entry { xattrs: tagged.clone(), ..entry(path, node) }).expect("enters");
    }
    assert_eq!(store.setting(PUBLISHED_SETTING).expect("reads"), None, "not before it is whole");
    tree.finish(b"digest etag").expect("finishes");
    assert_eq!(store.setting(PUBLISHED_SETTING).expect("reads").as_deref(), Some(&b"digest etag"[..]));

    assert_sound(&store);
    assert_eq!(names(&store, Ino::ROOT), ["a", "b", "l", "p"]);
    let a = ino_of(&store, Ino::ROOT, "a");
    assert_eq!(names(&store, ino_of(&store, a, "deep")).len(), 2500);
    let links = |ino| store.inode(ino).expect("reads").expect("is there").nlink;
    assert_eq!((links(Ino::ROOT), links(a), links(ino_of(&store, Ino::ROOT, "b"))), (4, 3, 2));
    let row = store.inode(ino_of(&store, ino_of(&store, a, "deep"), "02499")).expect("reads").expect("is there");
    assert_eq!((row.perm, row.uid, row.gid, row.mtime_ns, row.size, row.borrowed), (0o640, 1, 2, 9, 5, true));
    assert_eq!(row.origin.expect("borrows").version.as_deref(), Some("v"));
    let root = store.inode(Ino::ROOT).expect("reads").expect("is there");
    assert_eq!((root.local, root.perm, root.uid), (true, 0o640, 1));
    let link = ino_of(&store, Ino::ROOT, "l");
    assert_eq!(store.symlink_target(link).expect("reads").as_deref(), Some(&b"a/empty"[..]));
    assert_eq!(store.xattr(link, b"user.x").expect("reads").as_deref(), Some(&b"1"[..]));
    assert_eq!(store.count_changes().expect("reads").0, 0);
    let snapshot = store.take_snapshot(b"s", Ino::ROOT, b"", NOW).expect("takes");
    store.must_be_listed(&snapshot).expect("everything in it is known");
}
