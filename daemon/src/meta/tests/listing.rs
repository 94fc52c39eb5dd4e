//! Merging listings: single cases, and random sequences against a model.

use super::super::engine::faulty::{Fault, FaultyEngine};
use super::*;
use crate::stripe::Layout;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn a_new_object_takes_its_attributes_from_the_listing_and_the_defaults() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[prefix("d"), object("f", "\"e\"")]);
    let file = store.inode(ino_of(&store, Ino::ROOT, "f")).expect("reads").expect("exists");
    let link = crate::format::rows::Link { parent: Ino::ROOT, name: b"f".to_vec() };
    let made = Inode::new(FileKind::File, 0o644, (7, 8), 5, Some(link));
    let expected = Inode { size: 3, origin: Some(origin("f", "\"e\"")), ..made };
    assert_eq!(file, expected);
    let dir = store.inode(ino_of(&store, Ino::ROOT, "d")).expect("reads").expect("exists");
    assert_eq!((dir.kind, dir.perm, dir.nlink, dir.mtime_ns, dir.origin), (FileKind::Directory, 0o755, 2, NOW, None));
    assert_sound(&store);
}

#[test]
fn an_unchanged_file_keeps_its_inode_and_attributes() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("f", "e")]);
    let ino = ino_of(&store, Ino::ROOT, "f");
    store.update_inode(ino, &|inode| inode.perm = 0o600).expect("updates");
    assert_eq!(merge(&store, Ino::ROOT, &[object("f", "e")]), []);
    assert_eq!(ino_of(&store, Ino::ROOT, "f"), ino);
    assert_eq!(store.inode(ino).expect("reads").expect("exists").perm, 0o600);
}

#[test]
fn a_replaced_file_begins_anew() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("f", "one")]);
    let old = ino_of(&store, Ino::ROOT, "f");
    let layout = Layout { stripe_count: 2, stripe_size: 1 << 20 };
    store.update_inode(old, &|inode| (inode.perm, inode.layout) = (0o600, Some(layout))).expect("updates");
    let changes = merge(&store, Ino::ROOT, &[object("f", "two")]);
    let new = ino_of(&store, Ino::ROOT, "f");
    assert_eq!(changes, [Change::Replaced { name: b"f".to_vec(), old, new }]);
    let inode = store.inode(new).expect("reads").expect("exists");
    assert_eq!((inode.perm, inode.layout), (0o644, None));
    let kept = store.inode(old).expect("reads").expect("an open file still needs it");
    assert_eq!(kept.origin, Some(origin("f", "one")));
    assert_sound(&store);
}

#[test]
fn what_is_taken_over_is_said_and_what_both_sides_changed_is_told() {
    let listed = [object("changes", "two"), object("comes", "one"), object("mine", "two"), object("stays", "one")];
    let part = || ListedPart { parent: Ino::ROOT, segments: vec![((None, None), listed.as_slice())], asked_ns: NOW, state: None };
    for bits in 0..8 {
        let accept = Accept { new: bits & 1 != 0, changed: bits & 2 != 0, deleted: bits & 4 != 0 };
        let store = in_memory();
        let before = ["changes", "goes", "mine", "orphaned", "stays"].map(|name| object(name, "one"));
        merge(&store, Ino::ROOT, &before);
        let ours = ["mine", "orphaned"].map(|name| ino_of(&store, Ino::ROOT, name));
        ours.iter().for_each(|ino| drop(store.update_inode(*ino, &|row| row.base = Some(row.size)).expect("updates")));
        let merged = store.merge_accepted(&[part()], &[accept], NOW).expect("merges").remove(0);
        let kinds = merged.changes.iter().map(|change| match change {
            Change::Added { name, .. } => format!("new {}", String::from_utf8_lossy(name)),
            Change::Replaced { name, .. } => format!("changed {}", String::from_utf8_lossy(name)),
            Change::Removed { name, .. } => format!("deleted {}", String::from_utf8_lossy(name)),
        });
        let expected = [(accept.changed, "changed changes"), (accept.new, "new comes"), (accept.deleted, "deleted goes")];
        let expected: Vec<_> = expected.into_iter().filter(|(is, _)| *is).map(|(_, what)| what.to_owned()).collect();
        assert_eq!(kinds.collect::<Vec<_>>(), expected);
        let conflict = |name: &str, ino, kind| Conflict { name: name.into(), ino, kind };
        let told = [conflict("mine", ours[0], ConflictKind::Changed), conflict("orphaned", ours[1], ConflictKind::Deleted)];
        assert_eq!(merged.conflicts, told);
        assert_eq!(ours, ["mine", "orphaned"].map(|name| ino_of(&store, Ino::ROOT, name)), "both stay");
        assert_sound(&store);
    }
}

#[test]
fn a_prefix_that_is_gone_leaves_what_was_made_below_it() {
    for replaced in [false, true] {
        let store = in_memory();
        merge(&store, Ino::ROOT, &[prefix("d"), prefix("empty")]);
        let dir = ino_of(&store, Ino::ROOT, "d");
        merge(&store, dir, &[prefix("sub"), object("theirs", "e")]);
        let sub = ino_of(&store, dir, "sub");
        let node = NewNode { kind: FileKind::File, perm: 0o600, umask: 0, owner: (0, 0), rdev: 0, target: b"" };
        let (mine, _) = store.create(sub, b"mine", node, NOW).expect("makes");
        let now: &[ListedEntry] = if replaced { &[object("d", "e")] } else { &[] };
        let gone = merge(&store, Ino::ROOT, now);
        assert!(matches!(&gone[..], [Change::Removed { name, .. }] if name == b"empty"), "{gone:?}");
        assert_eq!(merge(&store, Ino::ROOT, now), [], "it stays");
        assert_eq!(merge(&store, dir, &[]).len(), 1, "what was the store's goes");
        store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
        assert_eq!((ino_of(&store, Ino::ROOT, "d"), ino_of(&store, dir, "sub"), ino_of(&store, sub, "mine")), (dir, sub, mine));
        assert_sound(&store);
        merge(&store, Ino::ROOT, &[prefix("d")]);
        merge(&store, dir, &[object("again", "e")]);
        assert_eq!(ino_of(&store, Ino::ROOT, "d"), dir, "the prefix is back, and its objects show");
        assert_sound(&store);
    }
}

#[test]
fn what_exists_only_here_is_left_alone() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("local", "e"), object("other", "e")]);
    let local = ino_of(&store, Ino::ROOT, "local");
    store.update_inode(local, &|inode| inode.local = true).expect("updates");
    assert_eq!(merge(&store, Ino::ROOT, &[object("local", "theirs"), object("other", "e")]), []);
    assert_eq!(merge(&store, Ino::ROOT, &[]).len(), 1);
    assert_eq!(ino_of(&store, Ino::ROOT, "local"), local);
}

#[test]
fn a_symlink_is_still_the_object_that_holds_its_target() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("l", "abc")]);
    let ino = ino_of(&store, Ino::ROOT, "l");
    store.become_symlink(ino, b"abc").expect("changes");
    assert_eq!(store.lookup(Ino::ROOT, b"l").expect("reads"), Some(Dirent { ino, kind: FileKind::Symlink }));
    assert_eq!(store.symlink_target(ino).expect("reads").as_deref(), Some(b"abc".as_slice()));
    assert_eq!(merge(&store, Ino::ROOT, &[object("l", "abc")]), []);
    assert_sound(&store);
}

#[test]
fn a_page_leaves_names_outside_of_what_it_covers() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &["a", "b", "c", "d"].map(|name| object(name, "e")));
    let covers = (Some(b"b".to_vec()), Some(b"d".to_vec()));
    let state = ListingState { complete: false, last_key: Some("c".into()), listed_at_ns: 3, entries: 1 };
    let changes = store.merge_listing(Ino::ROOT, covers, &[], Some(&state), NOW).expect("merges");
    assert_eq!(changes.len(), 2);
    assert_eq!(names(&store, Ino::ROOT), ["a", "d"]);
    assert_eq!(store.listing_state(Ino::ROOT).expect("reads"), Some(state));
}

#[test]
fn unusable_pages_are_refused_whole() {
    let store = in_memory();
    let only_b = (Some(b"b".to_vec()), Some(b"c".to_vec()));
    let everything = (None, None);
    let long = "n".repeat(256);
    let pages = [
        (everything.clone(), vec![object("b", "e"), object("a", "e")]),
        (everything.clone(), vec![object("a", "e"), object("a", "e")]),
        (everything.clone(), vec![object("a\0", "e")]),
        (everything.clone(), vec![object("a/b", "e")]),
        (everything.clone(), vec![object("", "e")]),
        (everything, vec![object(&long, "e")]),
        (only_b.clone(), vec![object("a", "e")]),
        (only_b, vec![object("c", "e")]),
    ];
    for (covers, page) in pages {
        let answer = store.merge_listing(Ino::ROOT, covers, &page, None, NOW);
        assert!(matches!(answer, Err(MetaError::BadListing { .. })), "{page:?}: {answer:?}");
    }
    assert_eq!(names(&store, Ino::ROOT), [""; 0]);
}

#[test]
fn a_directory_that_is_gone_or_none_takes_no_entries() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("f", "e")]);
    let file = ino_of(&store, Ino::ROOT, "f");
    assert_eq!(merge(&store, Ino(999), &[object("x", "e")]), []);
    assert_eq!(merge(&store, file, &[object("x", "e")]), []);
    assert_sound(&store);
}

#[test]
fn a_conflict_is_tried_again_and_a_failure_changes_nothing() {
    let engine = Arc::new(FaultyEngine::new(MemoryEngine::default()));
    let store = on(engine.clone());
    merge(&store, Ino::ROOT, &[object("a", "e")]);
    engine.fail(1, Fault::Conflict);
    engine.fail(2, Fault::Conflict);
    assert_eq!(merge(&store, Ino::ROOT, &[object("a", "e"), object("b", "e")]).len(), 1);
    engine.fail(1, Fault::NotApplied);
    let answer = store.merge_listing(Ino::ROOT, (None, None), &[], None, NOW);
    assert!(matches!(answer, Err(MetaError::Engine(_))), "{answer:?}");
    assert_eq!(names(&store, Ino::ROOT), ["a", "b"]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Object(u8),
    Prefix,
}

type Page = BTreeMap<Vec<u8>, Node>;

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(1u8), Just(0xffu8)], 1..4)
}

fn any_page() -> impl Strategy<Value = Page> {
    let node = prop_oneof![3 => (0..3u8).prop_map(Node::Object), 1 => Just(Node::Prefix)];
    prop::collection::btree_map(any_name(), node, 0..12)
}

fn listed(name: &[u8], node: Node) -> ListedEntry {
    let node = match node {
        Node::Prefix => ListedNode::Directory,
        Node::Object(version) => {
            ListedNode::File { size: 9, modified_ns: 5, origin: origin("some key", &format!("etag {version}")) }
        }
    };
    ListedEntry { name: name.to_vec(), node }
}

/// What the directory must hold: each name's inode number and node.
#[derive(Default)]
struct Model {
    names: BTreeMap<Vec<u8>, (Ino, Node)>,
    ever: BTreeSet<Ino>,
}

impl Model {
    /// Applies a page; `new_ino` tells the number that the store gave to a name.
    fn merge(&mut self, covers: &(Option<Vec<u8>>, Option<Vec<u8>>), page: &Page, new_ino: &dyn Fn(&[u8]) -> Ino) -> Vec<Change> {
        let covered =
            |name: &Vec<u8>| covers.0.as_ref().is_none_or(|from| name >= from) && covers.1.as_ref().is_none_or(|to| name < to);
        let touched: BTreeSet<Vec<u8>> = self.names.keys().chain(page.keys()).filter(|name| covered(name)).cloned().collect();
        let mut changes = Vec::new();
        for name in touched {
            match (self.names.get(&name).copied(), page.get(&name).copied()) {
                (Some((_, old)), Some(new)) if old == new => {}
                (Some((old, _)), None) => {
                    self.names.remove(&name);
                    changes.push(Change::Removed { name, old });
                }
                (before, Some(node)) => {
                    let ino = new_ino(&name);
                    assert!(self.ever.insert(ino), "{ino} was used before");
                    self.names.insert(name.clone(), (ino, node));
                    changes.push(match before {
                        Some((old, _)) => Change::Replaced { name, old, new: ino },
                        None => Change::Added { name, ino },
                    });
                }
                (None, None) => unreachable!("touched names are in one of the two"),
            }
        }
        changes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_listings_leave_what_a_model_would_hold(
        rounds in prop::collection::vec((any_page(), prop::option::of(any_name()), prop::option::of(any_name()), any::<(bool, bool)>()), 1..8)
    ) {
        let store = in_memory();
        let mut model = Model::default();
        for (mut page, from, to, (advance, free)) in rounds {
            let covers = match (from, to) {
                (Some(a), Some(b)) if a > b => (Some(b), Some(a)),
                covers => covers,
            };
            page.retain(|name, _| covers.0.as_ref().is_none_or(|from| name >= from) && covers.1.as_ref().is_none_or(|to| name < to));
            let entries: Vec<_> = page.iter().map(|(name, node)| listed(name, *node)).collect();
            if advance {
                store.take_snapshot(format!("s{}", store.epoch().0).as_bytes(), Ino::ROOT, b"", NOW).expect("takes");
            }
            let changes = store.merge_listing(Ino::ROOT, covers.clone(), &entries, None, NOW).expect("merges");
            let expected = model.merge(&covers, &page, &|name| store.lookup(Ino::ROOT, name).expect("reads").expect("was just listed").ino);
            prop_assert_eq!(changes, expected);
            if free {
                store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
            }
            let found: Vec<_> = store.read_dir(Ino::ROOT, None, usize::MAX).expect("reads").into_iter().map(|(name, ino, inode)| (name, ino, inode.kind)).collect();
            let held: Vec<_> = model.names.iter().map(|(name, (ino, node))| {
                (name.clone(), *ino, if *node == Node::Prefix { FileKind::Directory } else { FileKind::File })
            }).collect();
            prop_assert_eq!(found, held);
            assert_sound(&store);
        }
    }

    #[test]
    fn reading_in_pieces_gives_the_whole(page in any_page(), limit in 1..5usize) {
        let store = in_memory();
        merge(&store, Ino::ROOT, &page.iter().map(|(name, node)| listed(name, *node)).collect::<Vec<_>>());
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        loop {
            let piece = store.read_dir(Ino::ROOT, pieces.last().map(Vec::as_slice), limit).expect("reads");
            prop_assert!(piece.len() <= limit);
            if piece.is_empty() {
                break;
            }
            pieces.extend(piece.into_iter().map(|(name, ..)| name));
        }
        prop_assert_eq!(pieces, page.into_keys().collect::<Vec<_>>());
    }
}

#[test]
fn a_name_asked_for_by_itself_keeps_its_inode_and_its_neighbours() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("a", "e"), prefix("d"), object("d-x", "e")]);
    let before = ["a", "d", "d-x"].map(|name| ino_of(&store, Ino::ROOT, name));
    let only = |name: &[u8]| (Some(name.to_vec()), Some([name, b"\0"].concat()));
    for entry in [object("a", "e"), prefix("d")] {
        let entries = std::slice::from_ref(&entry);
        let changes = store.merge_listing(Ino::ROOT, only(&entry.name), entries, None, NOW).expect("merges");
        assert_eq!(changes, []);
    }
    let rest = (Some(b"d\0".to_vec()), None);
    store.merge_listing(Ino::ROOT, rest, &[object("d-x", "e")], None, NOW).expect("merges");
    assert_eq!(["a", "d", "d-x"].map(|name| ino_of(&store, Ino::ROOT, name)), before, "what is after `d` does not hold it");
    store.merge_listing(Ino::ROOT, only(b"a"), &[], None, NOW).expect("merges");
    assert_eq!(names(&store, Ino::ROOT), ["d", "d-x"]);
    assert_sound(&store);
}
