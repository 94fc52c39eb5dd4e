//! The store on its memory and faulty engines, and on disk.

mod allocated;
mod changes;
mod clones;
mod content;
mod diff;
mod diff_model;
mod epochs;
mod figures;
mod hsm;
mod inodes;
mod listing;
mod names;
mod orphans;
mod published;
mod quota;
mod quota_model;
mod repair;
mod restart;
mod snapshots;
mod snapshots_hard;

use super::engine::memory::MemoryEngine;
use super::*;

const NOW: i64 = 1_700_000_000_000_000_000;
const DEFAULTS: DefaultAttrs = DefaultAttrs { uid: 7, gid: 8, file_perm: 0o644, dir_perm: 0o755 };
const CONFIG: MetaConfig = MetaConfig { memory_bytes: 16 << 20 };

fn on(engine: impl Engine) -> MetaStore {
    MetaStore::with_engine(Box::new(engine), DEFAULTS, NOW).expect("opens")
}

fn in_memory() -> MetaStore {
    on(MemoryEngine::default())
}

fn origin(key: &str, etag: &str) -> Origin {
    Origin { key: key.into(), etag: etag.into(), version: None }
}

/// A listed object; its key is its name.
fn object(name: &str, etag: &str) -> ListedEntry {
    let node = ListedNode::File { size: etag.len() as u64, modified_ns: 5, origin: origin(name, etag) };
    ListedEntry { name: name.into(), node }
}

fn prefix(name: &str) -> ListedEntry {
    ListedEntry { name: name.into(), node: ListedNode::Directory }
}

/// Merges a complete listing of a directory.
fn merge(store: &MetaStore, dir: Ino, entries: &[ListedEntry]) -> Vec<Change> {
    store.merge_listing(dir, (None, None), entries, None, NOW).expect("merges")
}

fn ino_of(store: &MetaStore, dir: Ino, name: &str) -> Ino {
    store.lookup(dir, name.as_bytes()).expect("reads").expect("exists").ino
}

fn names(store: &MetaStore, dir: Ino) -> Vec<String> {
    let entries = store.read_dir(dir, None, usize::MAX).expect("reads");
    entries.into_iter().map(|(name, ..)| String::from_utf8(name).expect("text")).collect()
}

fn assert_sound(store: &MetaStore) {
    assert_eq!(store.check().expect("reads"), []);
}
