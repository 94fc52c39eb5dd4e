//! The log of changes, and how it is emptied.

use super::*;
use crate::ids::BlockId;
use crate::meta::engine::{Batch, Durability, Table};
use std::collections::BTreeSet;

const BLOCK: u64 = 128 << 10;

fn node(kind: FileKind) -> NewNode<'static> {
    NewNode { kind, perm: 0o644, umask: 0, owner: (1, 2), rdev: 0, target: b"" }
}

fn make(store: &MetaStore, dir: Ino, name: &str, kind: FileKind) -> Ino {
    store.create(dir, name.as_bytes(), node(kind), NOW).expect("creates").0
}

fn logged(store: &MetaStore) -> BTreeSet<Ino> {
    store.changes(None, usize::MAX).expect("reads").into_iter().map(|(ino, _)| ino).collect()
}

fn doomed(store: &MetaStore) -> Vec<(String, String)> {
    let all = store.doomed(None, usize::MAX).expect("reads");
    all.into_iter().map(|doomed| (doomed.key, doomed.row.etag)).collect()
}

fn sent(store: &MetaStore, ino: Ino, key: &str, etag: &str) -> Sent {
    let generation = store.change_of(ino).expect("reads").map_or(0, |change| change.generation);
    let link = store.inode(ino).expect("reads").expect("is there").link.expect("has a name");
    let path = key.trim_end_matches('/').as_bytes().to_vec();
    Sent { ino, generation, link, path, origin: origin(key, etag), further: Vec::new(), is_listed: true, is_clean: true }
}

fn write(store: &MetaStore, ino: Ino, size: u64, blocks: &[u8]) {
    let blocks = (0..).zip(blocks.iter().map(|n| Content::Block(BlockId([*n; 32])))).collect();
    let content = FileContent {
        ino,
        size,
        base: 0,
        block_size: BLOCK,
        mtime_ns: Some(NOW),
        ctime_ns: NOW,
        blocks,
        reserved: Reservation::default(),
        intents: 0..0,
        anew: false,
    };
    store.write_content(&[content]).expect("records");
}

#[test]
fn whatever_is_changed_here_is_logged_and_what_the_bucket_says_is_not() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[prefix("d"), object("f", "e"), object("g", "e")]);
    assert_eq!(logged(&store), BTreeSet::new());
    let (dir, f) = (ino_of(&store, Ino::ROOT, "d"), ino_of(&store, Ino::ROOT, "f"));
    let made = make(&store, dir, "made", FileKind::File);
    assert_eq!(logged(&store), BTreeSet::from([made]), "an implied directory has no object, and gets none");
    store.update_inode(f, &|row| (row.perm, row.attrs_changed) = (0o600, true)).expect("changes");
    make(&store, dir, "pipe", FileKind::Fifo);
    let sub = make(&store, dir, "sub", FileKind::Directory);
    assert_eq!(logged(&store), BTreeSet::from([f, made, sub]));
    store.update_inode_quietly(ino_of(&store, Ino::ROOT, "g"), &|row| row.perm = 0o640).expect("learns");
    let before = store.change_of(made).expect("reads").expect("is logged");
    write(&store, made, 5, &[1]);
    let after = store.change_of(made).expect("reads").expect("is logged");
    assert!(after.generation > before.generation && after.since_ns == before.since_ns);
    store.unlink(dir, b"made", NOW).expect("removes");
    assert_eq!(logged(&store), BTreeSet::from([f, sub]), "what has no name has no object");
    assert_sound(&store);
}

#[test]
fn what_was_sent_unchanged_is_the_buckets_and_what_changed_meanwhile_goes_again() {
    let store = in_memory();
    let ino = make(&store, Ino::ROOT, "f", FileKind::File);
    write(&store, ino, BLOCK + 5, &[1, 2]);
    let first = sent(&store, ino, "f", "e1");
    write(&store, ino, BLOCK + 5, &[3]);
    assert_eq!(store.exported(&first).expect("records").0, Standing::Changed);
    let row = store.inode(ino).expect("reads").expect("is there");
    assert_eq!((row.origin.map(|origin| origin.etag), row.base, row.local), (Some("e1".into()), Some(0), true));
    assert!(logged(&store).contains(&ino));
    let unclean = Sent { is_clean: false, ..sent(&store, ino, "f", "e2") };
    assert_eq!(store.exported(&unclean).expect("records").0, Standing::Changed, "something is dirty in memory");
    let (standing, mut released) = store.exported(&sent(&store, ino, "f", "e2")).expect("records");
    released.sort_unstable();
    assert_eq!((standing, released), (Standing::Exported, [2, 3].map(|n| BlockId([n; 32]).fingerprint()).to_vec()));
    let row = store.inode(ino).expect("reads").expect("is there");
    assert_eq!((row.base, row.local, row.attrs_changed, row.posix_known), (None, false, false, true));
    let map = store.map_chunk(ino, 0).expect("reads").expect("blocks stay, as cached ones");
    assert_eq!((map.blocks, map.local), (vec![Some(BlockId([3; 32])), Some(BlockId([2; 32]))], 0));
    assert_eq!(logged(&store), BTreeSet::new());
    assert_sound(&store);
}

#[test]
fn a_large_file_is_let_go_of_in_steps_each_of_which_is_sound() {
    let store = in_memory();
    let ino = make(&store, Ino::ROOT, "f", FileKind::File);
    let rows = 600;
    let size = rows * BLOCKS_PER_CHUNK * BLOCK;
    for number in 0..rows {
        let content = FileContent {
            ino,
            size,
            base: 0,
            block_size: BLOCK,
            mtime_ns: None,
            ctime_ns: NOW,
            blocks: vec![(number * BLOCKS_PER_CHUNK, Content::Block(BlockId([(number % 200) as u8 + 1; 32])))],
            reserved: Reservation::default(),
            intents: 0..0,
            anew: false,
        };
        store.write_content(&[content]).expect("records");
    }
    let sent = sent(&store, ino, "f", "e");
    let mut steps = 0;
    while store.exported(&sent).expect("records").0 == Standing::Unfinished {
        assert_sound(&store);
        assert_eq!(store.inode(ino).expect("reads").expect("is there").base, Some(size), "holes are the origin's zeros by now");
        steps += 1;
    }
    assert_eq!(steps, 2);
    assert_eq!(store.inode(ino).expect("reads").expect("is there").base, None);
    assert_sound(&store);
}

#[test]
fn an_object_whose_name_was_taken_away_is_doomed_until_it_is_gone_or_replaced() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("a", "ea"), object("b", "eb"), prefix("d")]);
    let a = ino_of(&store, Ino::ROOT, "a");
    let no_prefix = |_: Ino| Some("d/".to_owned());
    store.rename((Ino::ROOT, b"a"), (Ino::ROOT, b"c"), RenameMode::Replace, &no_prefix, NOW).expect("moves");
    store.unlink(Ino::ROOT, b"b", NOW).expect("removes");
    store.rmdir(Ino::ROOT, b"d", &no_prefix, NOW).expect("removes");
    let pairs = |all: &[(&str, &str)]| all.iter().map(|(key, etag)| ((*key).to_owned(), (*etag).to_owned())).collect::<Vec<_>>();
    assert_eq!(doomed(&store), pairs(&[("a", "ea"), ("b", "eb"), ("d/", "")]));
    // Something new takes the place of one.
    let new = make(&store, Ino::ROOT, "b", FileKind::File);
    assert_eq!(store.exported(&sent(&store, new, "b", "e2")).expect("records").0, Standing::Exported);
    assert_eq!(store.exported(&sent(&store, a, "c", "ec")).expect("records").0, Standing::Exported);
    assert_eq!(doomed(&store), pairs(&[("a", "ea"), ("d/", "")]));
    for doomed in store.doomed(None, 10).expect("reads") {
        store.undoom(&doomed).expect("forgets");
    }
    assert_eq!(doomed(&store), []);
    // The same content again under a name that was taken away: the whiteout of then must not hide it.
    merge(&store, Ino::ROOT, &[object("b", "e2"), object("c", "ec")]);
    assert_eq!(names(&store, Ino::ROOT), ["b", "c"]);
    assert_sound(&store);
}

#[test]
fn a_listing_that_was_asked_for_before_an_export_ended_says_nothing_about_it() {
    let store = in_memory();
    let ino = make(&store, Ino::ROOT, "f", FileKind::File);
    store.begin_export(ino);
    assert_eq!(store.exported(&sent(&store, ino, "f", "e")).expect("records").0, Standing::Exported);
    let asked = |asked_ns| store.merge_listing_asked(Ino::ROOT, (None, None), &[], None, asked_ns, NOW).expect("merges");
    assert_eq!(asked(i64::MAX), [], "it is under way");
    store.end_export(ino);
    assert_eq!(asked(0), [], "asked before its end");
    assert_eq!(names(&store, Ino::ROOT), ["f"]);
    assert_eq!(asked(i64::MAX).len(), 1, "a later one knows better");
}

#[test]
fn directories_made_here_move_with_what_was_exported_below_them() {
    let store = in_memory();
    let outer = make(&store, Ino::ROOT, "outer", FileKind::Directory);
    let inner = make(&store, outer, "inner", FileKind::Directory);
    let file = make(&store, inner, "f", FileKind::File);
    assert_eq!(store.exported(&sent(&store, file, "outer/inner/f", "e")).expect("records").0, Standing::Exported);
    for (dir, prefix) in [(inner, "outer/inner/"), (outer, "outer/")] {
        let row = store.inode(dir).expect("reads").expect("is there");
        assert_eq!((row.local, row.origin.map(|origin| origin.key)), (true, Some(prefix.to_owned())));
        assert!(logged(&store).contains(&dir), "its marker is still to be written");
    }
    assert_sound(&store);
}

#[test]
fn what_was_changed_before_there_was_a_log_is_entered_when_the_store_is_taken_over() {
    use crate::format::rows::key::{self, Space};
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    merge(&store, Ino::ROOT, &[object("f", "e"), object("g", "e")]);
    let made = make(&store, Ino::ROOT, "made", FileKind::File);
    let f = ino_of(&store, Ino::ROOT, "f");
    store.update_inode(f, &|row| row.attrs_changed = true).expect("changes");
    let mut batch = Batch::default();
    batch.put(Table::Settings, key::setting(Space::Internal, "schema"), crate::format::rows::encode_number(4));
    for ino in [made, f] {
        batch.remove(Table::Changes, key::ino(ino));
    }
    engine.commit(batch, Durability::Process).expect("commits");
    assert_eq!(logged(&on(engine)), BTreeSet::from([made, f]));
}
