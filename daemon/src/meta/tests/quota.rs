//! Limits, timers, projects, and counting what was there before.

use super::*;
use crate::ids::BlockId;

pub(super) const BLOCK: u64 = 128 << 10;
const SECOND: i64 = 1_000_000_000;

pub(super) fn make(store: &MetaStore, dir: Ino, name: &str, kind: FileKind, owner: (u32, u32)) -> Result<Ino, MetaError> {
    let node =
        NewNode { kind, perm: 0o700, umask: 0, owner, rdev: 0, target: if kind == FileKind::Symlink { b"target" } else { b"" } };
    Ok(store.create(dir, name.as_bytes(), node, NOW)?.0)
}

fn file(store: &MetaStore, dir: Ino, name: &str, uid: u32) -> Ino {
    make(store, dir, name, FileKind::File, (uid, uid)).expect("makes")
}

fn directory(store: &MetaStore, dir: Ino, name: &str) -> Ino {
    make(store, dir, name, FileKind::Directory, (0, 0)).expect("makes")
}

pub(super) fn write(store: &MetaStore, ino: Ino, size: u64, blocks: &[u64], reserved: Reservation) {
    let blocks = blocks.iter().map(|index| (*index, Content::Block(BlockId([*index as u8 + 1; 32])))).collect();
    let content = FileContent {
        ino,
        size,
        base: 0,
        block_size: BLOCK,
        mtime_ns: None,
        ctime_ns: NOW,
        blocks,
        reserved,
        intents: 0..0,
        anew: false,
    };
    store.write_content(&[content]).expect("writes");
}

fn limit(store: &MetaStore, id: QuotaId, limits: QuotaLimits) {
    store.set_quota(id, &|held| *held = limits, NOW).expect("sets");
}

fn inodes(soft: u64, hard: u64) -> QuotaLimits {
    QuotaLimits { inodes: Limit { soft, hard }, ..QuotaLimits::default() }
}

fn bytes(soft: u64, hard: u64) -> QuotaLimits {
    QuotaLimits { bytes: Limit { soft, hard }, ..QuotaLimits::default() }
}

fn used(store: &MetaStore, id: QuotaId) -> (u64, u64) {
    let used = store.quota(id, NOW).used;
    (used.bytes, used.inodes)
}

fn free(store: &MetaStore) {
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
}

#[track_caller]
fn assert_counted(store: &MetaStore) {
    assert_eq!(store.check_quotas().expect("reads"), []);
    assert_sound(store);
}

fn refused<T: std::fmt::Debug>(result: Result<T, MetaError>) -> QuotaId {
    match result.expect_err("over quota") {
        MetaError::Refused(Refusal::OverQuota(id)) => id,
        other => panic!("{other}"),
    }
}

#[test]
fn nothing_is_counted_before_the_first_limit() {
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    file(&store, Ino::ROOT, "f", 5);
    assert!(!store.has_quotas());
    let rows = |table| {
        let mut rows = 0;
        let everything = engine::KeyRange { start: Vec::new(), end: None };
        let view = engine.view();
        view.scan(table, &everything, engine::Order::Ascending, &mut |_, _| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        })
        .expect("scans");
        rows
    };
    assert_eq!([engine::Table::Quotas, engine::Table::Usage, engine::Table::Charges].map(rows), [0; 3]);
}

#[test]
fn a_hard_limit_of_inodes_refuses_everybody_but_root() {
    let store = in_memory();
    limit(&store, QuotaId::User(5), inodes(0, 2));
    file(&store, Ino::ROOT, "a", 5);
    make(&store, Ino::ROOT, "b", FileKind::Directory, (5, 5)).expect("the second");
    for (n, kind) in [FileKind::File, FileKind::Directory, FileKind::Symlink, FileKind::Fifo].into_iter().enumerate() {
        assert_eq!(refused(make(&store, Ino::ROOT, &format!("c{n}"), kind, (5, 5))), QuotaId::User(5));
    }
    file(&store, Ino::ROOT, "d", 6);
    file(&store, Ino::ROOT, "e", 0);
    store.unlink(Ino::ROOT, b"a", NOW).expect("unlinks");
    assert_eq!(used(&store, QuotaId::User(5)), (0, 2), "it counts until it is freed");
    free(&store);
    file(&store, Ino::ROOT, "f", 5);
    // Given away, it counts for whom it was given to, and that may be refused.
    let e = ino_of(&store, Ino::ROOT, "e");
    let chown = |enforce| store.update_inode_for(e, enforce, NOW, &|row| row.uid = 5);
    assert_eq!(refused(chown(Enforce::Everything)), QuotaId::User(5));
    chown(Enforce::Projects).expect("root may");
    assert_eq!((used(&store, QuotaId::User(5)), used(&store, QuotaId::User(0))), ((0, 3), (0, 0)));
    assert_counted(&store);
}

#[test]
fn bytes_are_those_of_blocks_below_the_end_in_whole_sectors() {
    let store = in_memory();
    limit(&store, QuotaId::Group(7), bytes(0, 1 << 30));
    let ino = make(&store, Ino::ROOT, "f", FileKind::File, (0, 7)).expect("makes");
    let group = || used(&store, QuotaId::Group(7)).0;
    write(&store, ino, 100, &[0], Reservation::default());
    assert_eq!(group(), 4096);
    write(&store, ino, 100 * BLOCK, &[70], Reservation::default());
    assert_eq!(group(), 2 * BLOCK, "what lies between is a hole");
    write(&store, ino, 100 * BLOCK, &[0], Reservation::default());
    assert_eq!(group(), 2 * BLOCK);
    store.cut_content(ino, 70 * BLOCK + 5000, 0, BLOCK, NOW).expect("cuts");
    assert_eq!(group(), BLOCK + 8192);
    assert_counted(&store);
    store.cut_content(ino, 0, 0, BLOCK, NOW).expect("cuts");
    assert_eq!(group(), 0);
    assert_counted(&store);
}

#[test]
fn what_the_bucket_has_counts_once_it_is_written_or_moved() {
    let store = in_memory();
    merge(&store, Ino::ROOT, &[object("a", "e"), object("b", "e"), object("c", "e"), prefix("d")]);
    limit(&store, QuotaId::User(DEFAULTS.uid), inodes(0, 2));
    let owner = || used(&store, QuotaId::User(DEFAULTS.uid));
    assert_eq!(owner(), (0, 0));
    store.unlink(Ino::ROOT, b"a", NOW).expect("removing costs nothing");
    assert_eq!(owner(), (0, 0));
    store.rename((Ino::ROOT, b"b"), (Ino::ROOT, b"moved"), RenameMode::Replace, &|_| None, NOW).expect("moves");
    let c = ino_of(&store, Ino::ROOT, "c");
    let claim = || store.update_inode_for(c, Enforce::Everything, NOW, &|row| row.base = Some(1));
    claim().expect("the second");
    write(&store, c, 1, &[0], Reservation::default());
    assert_eq!(owner(), (4096, 2));
    assert_counted(&store);
}

#[test]
fn a_soft_limit_counts_as_a_hard_one_after_its_grace_also_after_a_restart() {
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    let user = QuotaId::User(5);
    limit(&store, user, inodes(1, 10));
    let at = |store: &MetaStore, name: &str, now_ns: i64| {
        let node = NewNode { kind: FileKind::File, perm: 0, umask: 0, owner: (5, 5), rdev: 0, target: b"" };
        store.create(Ino::ROOT, name.as_bytes(), node, now_ns).map(drop)
    };
    at(&store, "a", NOW).expect("within");
    assert_eq!(store.quota(user, NOW).inodes, QuotaState::Within);
    at(&store, "b", NOW).expect("over the soft limit");
    let week = DEFAULT_GRACE_S as i64 * SECOND;
    assert_eq!(store.quota(user, NOW).inodes, QuotaState::GraceUntil(NOW + week));
    at(&store, "c", NOW + week - SECOND).expect("within the grace period");
    drop(store);
    let store = on(engine.clone());
    assert_eq!(refused(at(&store, "d", NOW + week)), user);
    assert_eq!(store.quota(user, NOW + week).inodes, QuotaState::Expired);
    store.set_graces(QuotaKind::User, Graces { bytes_s: 1, inodes_s: 2 * DEFAULT_GRACE_S }).expect("sets");
    at(&on(engine.clone()), "d", NOW + week).expect("a longer grace holds at once, and after a restart");
    let store = on(engine);
    for name in ["a", "b", "c"] {
        store.unlink(Ino::ROOT, name.as_bytes(), NOW).expect("unlinks");
    }
    free(&store);
    assert_eq!(store.quota(user, NOW).inodes, QuotaState::Within, "back below it the timer stops");
    assert_counted(&store);
}

#[test]
fn a_project_is_the_nearest_directory_that_is_one_and_binds_root_too() {
    let store = in_memory();
    let outer = directory(&store, Ino::ROOT, "outer");
    let inner = directory(&store, outer, "inner");
    let deep = directory(&store, inner, "deep");
    file(&store, deep, "f", 1);
    let (outside, within) = (QuotaId::Project(outer), QuotaId::Project(inner));
    limit(&store, outside, inodes(0, 3));
    assert_eq!(used(&store, outside).1, 4);
    limit(&store, within, inodes(0, 4));
    assert_eq!((used(&store, outside).1, used(&store, within).1), (1, 3));
    assert_eq!(store.project_of(deep).expect("reads"), Some(inner));
    file(&store, deep, "g", 0);
    assert_eq!(refused(make(&store, deep, "h", FileKind::File, (0, 0))), within);
    assert_counted(&store);
    limit(&store, within, QuotaLimits::default());
    assert_eq!((used(&store, outside).1, used(&store, within).1), (5, 0));
    assert_counted(&store);
}

#[test]
fn moving_a_tree_moves_what_it_counts_for() {
    let store = in_memory();
    let (a, b) = (directory(&store, Ino::ROOT, "a"), directory(&store, Ino::ROOT, "b"));
    let tree = directory(&store, a, "tree");
    let below = directory(&store, tree, "below");
    write(&store, file(&store, below, "f", 1), BLOCK, &[0], Reservation::default());
    limit(&store, QuotaId::Project(a), inodes(0, 100));
    limit(&store, QuotaId::Project(b), inodes(0, 4));
    let rename = |from: (Ino, &str), to: (Ino, &str), mode| {
        store.rename((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()), mode, &|_| None, NOW)
    };
    rename((a, "tree"), (b, "tree"), RenameMode::Replace).expect("fits exactly");
    assert_eq!((used(&store, QuotaId::Project(a)), used(&store, QuotaId::Project(b))), ((0, 1), (BLOCK, 4)));
    assert_counted(&store);
    directory(&store, a, "other");
    rename((b, "tree"), (a, "other"), RenameMode::Exchange).expect("exchanges");
    assert_eq!((used(&store, QuotaId::Project(a)), used(&store, QuotaId::Project(b))), ((BLOCK, 4), (0, 2)));
    file(&store, b, "one", 0);
    assert_eq!(refused(rename((a, "other"), (b, "again"), RenameMode::Replace)), QuotaId::Project(b));
    rename((below, "f"), (b, "f"), RenameMode::Replace).expect("one file fits");
    assert_counted(&store);
}

#[test]
fn a_tree_too_large_to_move_at_once_has_to_be_copied() {
    let store = in_memory();
    let (a, b) = (directory(&store, Ino::ROOT, "a"), directory(&store, Ino::ROOT, "b"));
    let tree = directory(&store, a, "tree");
    let entries: Vec<_> = (0..10_001).map(|n| object(&format!("{n:05}"), "e")).collect();
    merge(&store, tree, &entries);
    limit(&store, QuotaId::Project(a), inodes(0, 100));
    let moved = |to: Ino| store.rename((a, b"tree"), (to, b"new"), RenameMode::Replace, &|_| None, NOW);
    assert!(matches!(moved(b), Err(MetaError::Refused(Refusal::CrossesProjects))));
    moved(a).expect("within the project it may");
    assert_counted(&store);
}

#[test]
fn a_project_ends_with_its_directory() {
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    let dir = directory(&store, Ino::ROOT, "p");
    limit(&store, QuotaId::Project(dir), inodes(1, 1));
    store.rmdir(Ino::ROOT, b"p", &|_| None, NOW).expect("removes");
    free(&store);
    assert!(store.quota(QuotaId::Project(dir), NOW).limits.is_none());
    assert_counted(&store);
    assert!(on(engine).all_quotas(NOW).iter().all(|quota| quota.id.kind() != QuotaKind::Project));
}

#[test]
fn what_was_here_before_is_counted_once_and_a_count_goes_on_after_a_restart() {
    let engine = MemoryEngine::default();
    let store = on(engine.clone());
    for n in 0..2500 {
        let ino = file(&store, Ino::ROOT, &format!("{n}"), 5);
        if n % 100 == 0 {
            write(&store, ino, 3 * BLOCK, &[0, 2], Reservation::default());
        }
    }
    limit(&store, QuotaId::User(5), inodes(0, 1));
    assert_eq!(used(&store, QuotaId::User(5)), (50 * BLOCK, 2500));
    assert_counted(&store);
    // As a crash in the middle leaves it.
    let mut batch = engine::Batch::default();
    let cursor = crate::format::rows::key::setting(crate::format::rows::key::Space::Internal, "quota-counted");
    batch.put(engine::Table::Settings, cursor, crate::format::rows::encode_number(7));
    engine.commit(batch, engine::Durability::Process).expect("commits");
    let store = on(engine);
    assert!(store.is_counting());
    store.continue_counting(NOW).expect("counts");
    assert!(!store.is_counting());
    assert_eq!(used(&store, QuotaId::User(5)), (50 * BLOCK, 2500));
    assert_counted(&store);
}

#[test]
fn names_change_while_everything_is_counted() {
    let store = in_memory();
    let inos: Vec<_> = (0..3000).map(|n| file(&store, Ino::ROOT, &format!("{n}"), 5)).collect();
    std::thread::scope(|scope| {
        for part in 0..3 {
            let (store, inos) = (&store, &inos);
            scope.spawn(move || {
                for ino in inos.iter().skip(part).step_by(3) {
                    store.update_inode(*ino, &|row| row.uid = 6).expect("gives away");
                    file(store, Ino::ROOT, &format!("new-{}", ino.0), 5);
                }
            });
        }
        limit(&store, QuotaId::User(5), inodes(0, 1_000_000));
    });
    assert_eq!((used(&store, QuotaId::User(5)).1, used(&store, QuotaId::User(6)).1), (3000, 3000));
    assert_counted(&store);
}

#[test]
fn what_is_reserved_counts_until_a_round_records_it() {
    let store = in_memory();
    let user = QuotaId::User(5);
    limit(&store, user, bytes(0, 2 * BLOCK));
    let ino = file(&store, Ino::ROOT, "f", 5);
    let mut reserved = Reservation::default();
    let mut reserve = |bytes| store.reserve(ino, &mut reserved, bytes, Enforce::Everything, NOW);
    reserve(2 * BLOCK).expect("fits");
    assert_eq!((refused(reserve(1)), used(&store, user).0), (user, 2 * BLOCK));
    // It came to less: the rest is free again.
    write(&store, ino, BLOCK, &[0], reserved.take());
    assert_eq!(used(&store, user).0, BLOCK);
    store.update_inode(ino, &|row| row.uid = 6).expect("gives away");
    store.reserve(ino, &mut reserved, 3 * BLOCK, Enforce::Everything, NOW).expect("another pays");
    assert_eq!((used(&store, user).0, used(&store, QuotaId::User(6)).0), (0, 4 * BLOCK));
    reserved.take().give_back();
    assert_eq!(used(&store, QuotaId::User(6)).0, BLOCK);
    assert_counted(&store);
}

#[test]
#[ignore = "prints figures; run it optimised"]
fn what_counting_costs() {
    const ROUNDS: u32 = 20_000;
    let per = |what: &str, rounds: u32, work: &mut dyn FnMut(u32)| {
        let start = std::time::Instant::now();
        (0..rounds).for_each(work);
        println!("{what}: {:.3} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    };
    for (mode, user, project) in [("off", false, false), ("users", true, false), ("users and a project", true, true)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = MetaStore::open(dir.path(), CONFIG, DEFAULTS, NOW).expect("opens");
        let parent = directory(&store, directory(&store, directory(&store, Ino::ROOT, "a"), "b"), "c");
        if user {
            limit(&store, QuotaId::User(5), bytes(0, 1 << 60));
        }
        if project {
            limit(&store, QuotaId::Project(ino_of(&store, Ino::ROOT, "a")), bytes(0, 1 << 60));
        }
        per(&format!("create, quotas {mode}"), ROUNDS, &mut |n| {
            file(&store, parent, &format!("{n}"), 5);
        });
        let ino = ino_of(&store, parent, "0");
        let mut reserved = Reservation::default();
        per(&format!("reserve for a write, quotas {mode}"), 10 * ROUNDS, &mut |_| {
            store.reserve(ino, &mut reserved, 4096, Enforce::Everything, NOW).expect("reserves");
        });
        per(&format!("record a block, quotas {mode}"), ROUNDS, &mut |n| {
            write(&store, ino, BLOCK * 2048, &[u64::from(n % 200)], reserved.take());
        });
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = MetaStore::open(dir.path(), CONFIG, DEFAULTS, NOW).expect("opens");
    let entries: Vec<_> = (0..200_000).map(|n| object(&format!("{n:06}"), "e")).collect();
    for page in entries.chunks(1000) {
        let next = [page[page.len() - 1].name.as_slice(), &[1]].concat();
        store.merge_listing(Ino::ROOT, (Some(page[0].name.clone()), Some(next)), page, None, NOW).expect("merges");
    }
    let parent = directory(&store, Ino::ROOT, "local");
    for n in 0..100_000 {
        file(&store, parent, &format!("{n}"), 5);
    }
    let start = std::time::Instant::now();
    limit(&store, QuotaId::User(5), bytes(0, 1 << 60));
    println!("first limit with 300,000 inodes, 100,000 of which count: {:.2} s", start.elapsed().as_secs_f64());
}
