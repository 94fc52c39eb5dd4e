//! Names made, moved and taken away.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

const FILE: NewNode<'static> = NewNode { kind: FileKind::File, perm: 0o644, owner: (1, 2), rdev: 0, target: b"" };
const DIR: NewNode<'static> = NewNode { kind: FileKind::Directory, perm: 0o755, owner: (1, 2), rdev: 0, target: b"" };

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
                    let renamed = move_to(store, (parent, &own), (parent, &public), RenameMode::Replace).expect("its own name is there");
                    assert_eq!(renamed.ino, ino);
                }
            });
        }
    });
    assert_eq!(names(&store, parent).len(), 5);
    store.free_orphans(&|_| false, &mut |_| {}).expect("frees");
    assert_sound(&store);
}
