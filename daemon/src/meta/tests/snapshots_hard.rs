//! Snapshots and clones where it is hard: a thousand at once with churn, and ends at every commit.

use super::super::engine::faulty::{Fault, FaultyEngine};
use super::content::block;
use super::snapshots::{create, reclaim, row_counts, write};
use super::*;

const MANY: usize = 1_000;
const FILES: usize = 20;

fn take(store: &MetaStore, name: &str) -> Result<SnapshotRow, MetaError> {
    store.take_snapshot(name.as_bytes(), Ino::ROOT, b"", NOW)
}

/// Numbers that look random, the same each time.
fn scatter(n: usize) -> usize {
    (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) as usize
}

#[test]
fn a_thousand_snapshots_with_churn_read_as_they_were_and_go_in_any_order() {
    let store = in_memory();
    let files: Vec<Ino> = (0..FILES).map(|n| create(&store, Ino::ROOT, &format!("f{n:02}"), FileKind::File)).collect();
    let mut content = [None; FILES];
    let mut kept = Vec::new();
    for n in 0..MANY {
        let (file, what) = (scatter(n) % FILES, (scatter(n + 7) % 200) as u8);
        write(&store, files[file], 0, block(what));
        content[file] = Some(block(what));
        create(&store, Ino::ROOT, &format!("t{n}"), FileKind::File);
        if n >= 3 {
            store.unlink(Ino::ROOT, format!("t{}", n - 3).as_bytes(), NOW).expect("unlinks");
            store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
        }
        let taken = take(&store, &format!("s{n}")).expect("takes");
        kept.push((format!("s{n}"), taken.epoch, content, n));
    }
    assert_eq!(store.snapshots().expect("reads").len(), MANY);
    let reads_as_it_was = |(_, epoch, content, n): &(String, Epoch, [Option<crate::ids::BlockId>; FILES], usize)| {
        for (file, expected) in files.iter().zip(content) {
            let chunk = store.map_chunk(file.at(*epoch), 0).expect("reads");
            assert_eq!(chunk.and_then(|chunk| chunk.blocks.first().copied().flatten()), *expected);
        }
        let names = store.read_dir(Ino::ROOT.at(*epoch), None, usize::MAX).expect("reads").len();
        assert_eq!(names, FILES + (n + 1).min(3));
    };
    kept.iter().step_by(37).for_each(reads_as_it_was);
    kept.sort_by_key(|(_, _, _, n)| scatter(*n));
    for at in 0..MANY {
        store.delete_snapshot(kept[at].0.as_bytes()).expect("deletes");
        if at % 50 == 49 {
            reclaim(&store);
            kept[at + 1..].iter().step_by(211).for_each(reads_as_it_was);
        }
        if at % 250 == 249 {
            assert_sound(&store);
        }
    }
    let rows = row_counts(&store);
    assert_eq!((rows["inodes"], rows["dirents"], rows["rewritten"]), (FILES + 4, FILES + 3, 0), "{rows:?}");
}

/// Something of everything; stops at the first failure.
fn story(store: &MetaStore) -> Result<(), MetaError> {
    let node = |kind| NewNode { kind, perm: 0o755, umask: 0, owner: (0, 0), rdev: 0, target: b"" };
    let make = |dir, name: &str, kind| store.create(dir, name.as_bytes(), node(kind), NOW).map(|(ino, _)| ino);
    let put = |ino, what| {
        let file = super::content::content(ino, 2 * super::content::BLOCK, vec![(0, Content::Block(block(what)))]);
        store.write_content(&[file]).map(drop)
    };
    let dir = make(Ino::ROOT, "dir", FileKind::Directory)?;
    let deep = make(dir, "deep", FileKind::Directory)?;
    let (one, two) = (make(dir, "one", FileKind::File)?, make(deep, "two", FileKind::File)?);
    store.link(one, deep, b"again", NOW)?;
    put(one, 1)?;
    put(two, 2)?;
    store.take_snapshot(b"first", dir, b"dir", NOW)?;
    put(one, 3)?;
    store.unlink(deep, b"two", NOW)?;
    store.free_orphans(&|_| false, &mut |_| {})?;
    let (clone, _) = store.clone_snapshot(b"first", (Ino::ROOT, b"clone"), NOW)?;
    let copy = store.lookup(clone, b"one")?.ok_or(Refusal::NotFound)?.ino;
    put(copy, 4)?;
    store.copy_from_snapshot(b"first", two, (deep, b"back"), NOW)?;
    store.restore_attributes(deep, deep, Epoch::FIRST, NOW)?;
    take(store, "second")?;
    store.rename((clone, b"deep"), (Ino::ROOT, b"moved"), RenameMode::Replace, &|_| None, NOW)?;
    store.delete_snapshot(b"first")?;
    store.reclaim_snapshots(&|| Some(()), &mut |_| {})?;
    store.delete_snapshot(b"second")?;
    store.reclaim_snapshots(&|| Some(()), &mut |_| {})
}

#[test]
fn an_end_at_any_commit_leaves_a_sound_store_that_goes_on() {
    let whole = std::sync::Arc::new(FaultyEngine::new(MemoryEngine::default()));
    story(&on(std::sync::Arc::clone(&whole))).expect("is told");
    let commits = whole.commits();
    assert!(commits > 25, "{commits}");
    for at in 1..=commits {
        for fault in [Fault::NotApplied, Fault::AppliedReplyLost] {
            let engine = MemoryEngine::default();
            let faulty = FaultyEngine::new(engine.clone());
            let store = on(faulty_from(faulty, at, fault));
            let outcome = story(&store);
            drop(store);
            let store = on(engine);
            assert_eq!(store.check().expect("reads"), [], "after commit {at}, {fault:?}: {outcome:?}");
            store.finish_clones(&|| false).expect("goes on");
            for (name, _) in store.snapshots().expect("reads") {
                store.delete_snapshot(&name).expect("deletes");
            }
            store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
            reclaim(&store);
            assert_eq!(store.check().expect("reads"), [], "after commit {at}, {fault:?}");
            let rows = row_counts(&store);
            assert_eq!(rows["rewritten"], 0, "after commit {at}, {fault:?}: {rows:?}");
        }
    }
}

/// Has a commit fail, counted from the first of all: also those that make the store.
fn faulty_from(engine: FaultyEngine<MemoryEngine>, at: u64, fault: Fault) -> FaultyEngine<MemoryEngine> {
    // The first commit makes the store: without it there is nothing to go on with.
    if at > 1 {
        engine.fail(at, fault);
    }
    engine
}
