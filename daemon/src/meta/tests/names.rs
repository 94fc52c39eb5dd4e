//! Names made, moved and taken away.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

const FILE: NewNode<'static> = NewNode { kind: FileKind::File, perm: 0o644, umask: 0, owner: (1, 2), rdev: 0, target: b"" };
const DIR: NewNode<'static> = NewNode { kind: FileKind::Directory, perm: 0o755, umask: 0, owner: (1, 2), rdev: 0, target: b"" };

fn make(store: &MetaStore, parent: Ino, name: &str, node: NewNode<'_>) -> Ino {
    store.create(parent, name.as_bytes(), node, NOW).expect("creates").0
}

fn move_to(store: &MetaStore, from: (Ino, &str), to: (Ino, &str), mode: RenameMode) -> Result<Renamed, MetaError> {
    let prefix_of = |_| Some("old/".to_owned());
    store.rename((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()), mode, &prefix_of, NOW)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, MetaError>) -> Refusal {
    match result.expect_err("is refused") {
        MetaError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[test]
fn threads_that_move_files_over_each_others_lose_none() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let defaults = DefaultAttrs { uid: 0, gid: 0, file_perm: 0o644, dir_perm: 0o755 };
    let store = MetaStore::open(dir.path(), MetaConfig { memory_bytes: 8 << 20 }, defaults, NOW).expect("opens");
    let parent = make(&store, Ino::ROOT, "shared", DIR);
    let serial = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, serial) = (&store, &serial);
            scope.spawn(move || {
                for _ in 0..300 {
                    let own = format!("own-{thread}");
                    let ino = make(store, parent, &own, FILE);
                    let public = format!("f{}", serial.fetch_add(1, Ordering::Relaxed) % 5);
                    let renamed =
                        move_to(store, (parent, &own), (parent, &public), RenameMode::Replace).expect("its own name is there");
                    assert_eq!(renamed.ino, ino);
                }
            });
        }
    });
    assert_eq!(names(&store, parent).len(), 5);
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    assert_sound(&store);
}

#[test]
fn a_name_is_made_once_and_its_directory_says_when() {
    let store = in_memory();
    let dir = make(&store, Ino::ROOT, "d", DIR);
    let ino = make(&store, dir, "f", FILE);
    assert_eq!(refusal(store.create(dir, b"f", FILE, NOW)), Refusal::Exists);
    assert_eq!(refusal(store.create(ino, b"g", FILE, NOW)), Refusal::NotDirectory);
    assert_eq!(refusal(store.create(Ino(999), b"g", FILE, NOW)), Refusal::NotFound);
    store.create(dir, b"later", FILE, NOW + 5).expect("creates");
    let (root, dir) = (store.inode(Ino::ROOT).expect("reads").expect("is"), store.inode(dir).expect("reads").expect("is"));
    assert_eq!((root.nlink, dir.nlink, dir.mtime_ns, dir.ctime_ns), (3, 2, NOW + 5, NOW + 5));
    assert_sound(&store);
}

#[test]
fn a_set_group_id_directory_gives_its_group() {
    let store = in_memory();
    let dir = store.create(Ino::ROOT, b"d", NewNode { perm: 0o2775, owner: (1, 77), ..DIR }, NOW).expect("creates").0;
    let (_, file) = store.create(dir, b"f", FILE, NOW).expect("creates");
    let (_, below) = store.create(dir, b"below", DIR, NOW).expect("creates");
    assert_eq!((file.gid, file.perm, below.gid, below.perm), (77, 0o644, 77, 0o2755));
}

#[test]
fn a_file_lives_as_long_as_it_has_a_name() {
    let store = in_memory();
    let (a, b) = (make(&store, Ino::ROOT, "a", DIR), make(&store, Ino::ROOT, "b", DIR));
    let ino = make(&store, a, "f", FILE);
    assert_eq!(store.link(ino, b, b"g", NOW).expect("links").nlink, 2);
    assert_eq!(refusal(store.link(a, b, b"h", NOW)), Refusal::NotPermitted);
    assert_sound(&store);
    // The name in its own row goes first: the other one takes its place.
    assert_eq!(store.unlink(a, b"f", NOW).expect("unlinks"), Removed { ino, orphaned: false });
    assert_eq!(store.parent_of(ino).expect("reads"), Some((b, b"g".to_vec())));
    assert_sound(&store);
    assert_eq!(store.unlink(b, b"g", NOW).expect("unlinks"), Removed { ino, orphaned: true });
    assert_eq!(refusal(store.link(ino, a, b"again", NOW)), Refusal::NotFound);
    assert_eq!(store.free_orphans(&|used| used == ino, &mut |_| {}).expect("frees"), 0);
    assert_eq!(store.free_orphans(&|_| false, &mut |_| {}).expect("frees"), 1);
    assert_sound(&store);
}

#[test]
fn directories_go_only_empty_and_never_below_themselves() {
    let store = in_memory();
    let a = make(&store, Ino::ROOT, "a", DIR);
    let b = make(&store, a, "b", DIR);
    let file = make(&store, Ino::ROOT, "f", FILE);
    assert_eq!(refusal(store.rmdir(Ino::ROOT, b"a", &|_| None, NOW)), Refusal::NotEmpty);
    assert_eq!(refusal(store.rmdir(Ino::ROOT, b"f", &|_| None, NOW)), Refusal::NotDirectory);
    assert_eq!(refusal(store.unlink(Ino::ROOT, b"a", NOW)), Refusal::IsDirectory);
    assert!(matches!(refusal(move_to(&store, (Ino::ROOT, "a"), (b, "c"), RenameMode::Replace)), Refusal::Invalid(_)));
    assert_eq!(refusal(move_to(&store, (Ino::ROOT, "f"), (Ino::ROOT, "a"), RenameMode::Replace)), Refusal::IsDirectory);
    assert_eq!(refusal(move_to(&store, (Ino::ROOT, "a"), (Ino::ROOT, "f"), RenameMode::Replace)), Refusal::NotDirectory);
    store.rmdir(a, b"b", &|_| None, NOW).expect("removes");
    assert_eq!(refusal(store.create(b, b"x", FILE, NOW)), Refusal::NotFound);
    assert_eq!(store.lookup(Ino::ROOT, b"f").expect("reads").expect("is").ino, file);
    assert_sound(&store);
}

#[test]
fn names_are_replaced_kept_or_exchanged() {
    let store = in_memory();
    let dir = make(&store, Ino::ROOT, "d", DIR);
    let (one, two) = (make(&store, Ino::ROOT, "one", FILE), make(&store, dir, "two", DIR));
    assert_eq!(refusal(move_to(&store, (Ino::ROOT, "one"), (dir, "two"), RenameMode::NoReplace)), Refusal::Exists);
    assert_eq!(refusal(move_to(&store, (Ino::ROOT, "one"), (dir, "none"), RenameMode::Exchange)), Refusal::NotFound);
    move_to(&store, (Ino::ROOT, "one"), (dir, "two"), RenameMode::Exchange).expect("exchanges");
    assert_eq!((ino_of(&store, Ino::ROOT, "one"), ino_of(&store, dir, "two")), (two, one));
    let links = |ino| store.inode(ino).expect("reads").expect("is").nlink;
    assert_eq!((links(Ino::ROOT), links(dir)), (4, 2));
    let other = make(&store, dir, "other", FILE);
    let renamed = move_to(&store, (dir, "two"), (dir, "other"), RenameMode::Replace).expect("replaces");
    assert_eq!(renamed, Renamed { ino: one, replaced: Some(other), orphaned: true });
    // Two names of one file: nothing happens.
    store.link(one, dir, b"same", NOW).expect("links");
    let nothing = move_to(&store, (dir, "same"), (dir, "other"), RenameMode::Replace).expect("does nothing");
    assert_eq!((nothing.replaced, names(&store, dir)), (None, vec!["other".to_owned(), "same".to_owned()]));
    assert_sound(&store);
}

#[test]
fn what_was_removed_or_moved_here_does_not_come_back_with_a_listing() {
    let store = in_memory();
    let listed = [prefix("dir"), object("gone", "one"), object("moved", "two")];
    merge(&store, Ino::ROOT, &listed);
    let (dir, moved) = (ino_of(&store, Ino::ROOT, "dir"), ino_of(&store, Ino::ROOT, "moved"));
    store.unlink(Ino::ROOT, b"gone", NOW).expect("unlinks");
    move_to(&store, (Ino::ROOT, "moved"), (dir, "m"), RenameMode::Replace).expect("moves");
    move_to(&store, (Ino::ROOT, "dir"), (Ino::ROOT, "elsewhere"), RenameMode::Replace).expect("moves");
    assert_eq!(merge(&store, Ino::ROOT, &listed), []);
    assert_eq!((names(&store, Ino::ROOT), names(&store, dir)), (vec!["elsewhere".to_owned()], vec!["m".to_owned()]));
    assert_eq!(store.inode(dir).expect("reads").expect("is").origin.expect("keeps its prefix").key, "old/");
    assert_eq!(ino_of(&store, dir, "m"), moved);
    // The moved file's object is another one now: what was moved stays what it was, and the name is free for the new one.
    let again = [prefix("dir"), object("gone", "new"), object("moved", "new")];
    assert_eq!(merge(&store, Ino::ROOT, &again).len(), 2);
    assert_eq!(names(&store, Ino::ROOT), ["elsewhere", "gone", "moved"]);
    // Once the store has it no more, neither has the whiteout anything to hide.
    merge(&store, Ino::ROOT, &[]);
    assert_eq!(merge(&store, Ino::ROOT, &[prefix("dir")]).len(), 1);
    assert_sound(&store);
}

#[test]
fn attributes_are_set_replaced_listed_and_removed_and_go_with_their_file() {
    let store = in_memory();
    let ino = make(&store, Ino::ROOT, "f", FILE);
    assert_eq!(refusal(store.set_xattr(ino, b"user.a", b"1", SetMode::Replace, NOW)), Refusal::NoAttribute);
    store.set_xattr(ino, b"user.a", b"1", SetMode::Create, NOW).expect("sets");
    assert_eq!(refusal(store.set_xattr(ino, b"user.a", b"2", SetMode::Create, NOW)), Refusal::Exists);
    store.set_xattr(ino, b"user.b", b"", SetMode::Either, NOW).expect("sets");
    assert_eq!(store.xattr_names(ino).expect("reads"), [b"user.a".to_vec(), b"user.b".to_vec()]);
    assert_eq!(store.xattr(ino, b"user.a").expect("reads").as_deref(), Some(&b"1"[..]));
    store.remove_xattr(ino, b"user.a", NOW).expect("removes");
    assert_eq!(refusal(store.remove_xattr(ino, b"user.a", NOW)), Refusal::NoAttribute);
    store.unlink(Ino::ROOT, b"f", NOW).expect("unlinks");
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    assert_sound(&store);
}
