//! What every object store must do, run against each of them.

use super::ObjectStore;
use super::directory::DirectoryStore;
use super::memory::MemoryStore;
use super::s3::testing::S3Subject;
use std::path::PathBuf;

/// A test of each property for each store.
macro_rules! conform {
    ($($store:ident: $($property:ident)*;)*) => { $( mod $store { $(
        #[tokio::test]
        async fn $property() {
            super::$property(&super::super::$store().await).await;
        }
    )* } )* };
}

mod multipart;
mod reads;
mod writes;

/// A store under test, and a way to change what is in it.
pub trait Subject: Send + Sync {
    fn store(&self) -> &dyn ObjectStore;
    fn put(&self, key: &str, data: &[u8]);
    fn delete(&self, key: &str);
    /// Whether it can hold keys that no path can.
    fn holds_odd_keys(&self) -> bool;
}

struct Memory(MemoryStore);

impl Subject for Memory {
    fn store(&self) -> &dyn ObjectStore {
        &self.0
    }
    fn put(&self, key: &str, data: &[u8]) {
        self.0.put(key, data.to_vec());
    }
    fn delete(&self, key: &str) {
        self.0.delete(key);
    }
    fn holds_odd_keys(&self) -> bool {
        true
    }
}

struct Directory {
    store: DirectoryStore,
    root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Subject for Directory {
    fn store(&self) -> &dyn ObjectStore {
        &self.store
    }
    fn put(&self, key: &str, data: &[u8]) {
        let path = self.root.join(key);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("created");
        let fresh = self._dir.path().join("fresh");
        std::fs::write(&fresh, data).expect("written");
        std::fs::rename(fresh, path).expect("renamed");
    }
    fn delete(&self, key: &str) {
        std::fs::remove_file(self.root.join(key)).expect("removed");
    }
    fn holds_odd_keys(&self) -> bool {
        false
    }
}

async fn memory() -> impl Subject {
    Memory(MemoryStore::new())
}

async fn directory() -> impl Subject {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("created");
    Directory { store: DirectoryStore::open(&root).expect("opened"), root, _dir: dir }
}

async fn s3() -> impl Subject {
    S3Subject::start(false).await
}

async fn s3_with_versions() -> impl Subject {
    S3Subject::start(true).await
}
