//! What people ask for files' data, and letting go of what is cached.

use super::*;
use crate::ids::{BlockId, BlockIndex};
use std::collections::HashSet;

fn listed(store: &MetaStore, etags: &[(&str, &str)]) {
    let entries: Vec<ListedEntry> = etags.iter().map(|(name, etag)| object(name, etag)).collect();
    merge(store, Ino::ROOT, &entries);
}

fn ino(store: &MetaStore, name: &str) -> Ino {
    ino_of(store, Ino::ROOT, name)
}

const PIN: Wishes = Wishes { norelease: Some(true), noarchive: None };

#[test]
fn wishes_are_kept_change_nothing_else_and_are_no_change_for_the_bucket() {
    let store = in_memory();
    listed(&store, &[("f", "a")]);
    let at = ino(&store, "f");
    let before = store.inode(at).expect("reads").expect("is there");
    let row = store.set_wishes(at, Wishes { norelease: Some(true), noarchive: Some(true) }).expect("sets").expect("is there");
    assert_eq!(row, Inode { norelease: true, noarchive: true, ..before.clone() });
    assert_eq!(store.pins().expect("reads"), [at]);
    assert_eq!(store.change_of(at).expect("reads"), None);
    assert_eq!(store.check().expect("reads"), []);
    store.set_wishes(at, Wishes { norelease: Some(false), noarchive: Some(false) }).expect("clears");
    assert_eq!((store.inode(at).expect("reads"), store.pins().expect("reads")), (Some(before), vec![]));
    let on_a_directory = store.set_wishes(Ino::ROOT, PIN);
    assert!(matches!(on_a_directory, Err(MetaError::Refused(Refusal::Invalid(_)))));
    assert_eq!(store.set_wishes(Ino(999_999), PIN).expect("reads"), None);
}

#[test]
fn a_new_version_of_a_pinned_file_is_pinned_and_the_old_one_goes() {
    let store = in_memory();
    listed(&store, &[("f", "a"), ("g", "a")]);
    let old = ino(&store, "f");
    store.set_wishes(old, Wishes { norelease: Some(true), noarchive: Some(true) }).expect("sets");
    listed(&store, &[("f", "b"), ("g", "b")]);
    let new = ino(&store, "f");
    assert_ne!(old, new);
    let row = store.inode(new).expect("reads").expect("is there");
    assert_eq!((row.norelease, row.noarchive), (true, false));
    assert!(!store.inode(ino(&store, "g")).expect("reads").expect("is there").norelease);
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    assert_eq!(store.pins().expect("reads"), [new]);
    assert_eq!(store.check().expect("reads"), []);
}

#[test]
fn only_what_the_bucket_has_is_let_go_of() {
    let store = in_memory();
    listed(&store, &[("f", "a"), ("g", "a")]);
    let (f, g) = (ino(&store, "f"), ino(&store, "g"));
    let id = |at: u8| BlockId([at; 32]);
    // More rows than one step takes, and a block that both files have.
    let blocks: Vec<_> = (0..300).map(|chunk| (f, BlockIndex(chunk * BLOCKS_PER_CHUNK), id((chunk % 7) as u8 + 1))).collect();
    store.map_blocks(&blocks).expect("maps");
    store.map_blocks(&[(g, BlockIndex(0), id(1))]).expect("maps");
    store.set_wishes(f, PIN).expect("sets");
    assert_eq!(store.let_go_of_cached(f).expect("reads"), LetGo::Pinned);
    store.set_wishes(f, Wishes { norelease: Some(false), noarchive: None }).expect("clears");
    let mut gone = HashSet::new();
    let steps: Vec<bool> = (0..2)
        .map(|_| match store.let_go_of_cached(f).expect("lets go") {
            LetGo::More(blocks) => {
                gone.extend(blocks);
                false
            }
            LetGo::All(blocks) => {
                gone.extend(blocks);
                true
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(steps, [false, true]);
    assert_eq!(store.next_chunk(f, 0).expect("reads"), None);
    assert_eq!(gone.len(), 7);
    store.without_mapped(&mut gone).expect("reads");
    assert_eq!(gone.len(), 6, "another file has one of them");
    assert!(!gone.contains(&id(1).fingerprint()));
    let written = FileContent {
        ino: g,
        size: 1 << 20,
        base: 1,
        block_size: 128 << 10,
        mtime_ns: None,
        ctime_ns: 2,
        blocks: vec![(1, Content::Block(id(9)))],
        reserved: Reservation::default(),
        intents: 0..0,
        anew: false,
    };
    store.write_content(&[written]).expect("writes");
    assert_eq!(store.let_go_of_cached(g).expect("reads"), LetGo::OnlyHere);
    assert!(store.next_chunk(g, 0).expect("reads").is_some(), "nothing of it went");
    assert_eq!(store.let_go_of_cached(Ino(999_999)).expect("reads"), LetGo::Gone);
    assert_eq!(store.check().expect("reads"), []);
}
