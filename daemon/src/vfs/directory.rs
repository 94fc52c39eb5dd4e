//! Directories in use: their key prefix, how far they are listed, what is being listed right now, and names probed singly.

use super::{Inner, metadata_error};
use crate::cache::DirectoryAhead;
use crate::error::Result;
use crate::format::located::association_of;
use crate::ids::Ino;
use crate::meta::ListingState;
use crate::stripe::Layout;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Directories kept in memory at most; the rest is read from its rows again.
const DIRECTORIES: u64 = 16_384;
/// Names checked one by one that are remembered, found or not.
const PROBED_NAMES: u64 = 65_536;

/// A directory in use.
pub(super) struct Directory {
    pub(super) ino: Ino,
    /// What its objects' keys start with, located: nothing, or ending in `/`.
    pub(super) prefix: String,
    /// What the keys of its entries start with once all is exported: otherwise only for a directory that was moved, or is below one.
    pub(super) target: String,
    /// Whether the store may have anything below that prefix: not so for a directory made here.
    pub(super) in_store: bool,
    /// The layout that files in it inherit.
    pub(super) layout: Layout,
    pub(super) listing: RwLock<Option<ListingState>>,
    /// One listing at a time.
    pub(super) flight: tokio::sync::Mutex<()>,
    pub(super) ahead: Mutex<DirectoryAhead>,
}

/// The table of directories in use.
pub(super) struct Directories {
    table: Cache<Ino, Arc<Directory>>,
    /// Counts what was forgotten: what was read before is not remembered after it.
    forgotten: AtomicU64,
    /// Names checked one by one, with the wall time (ns) of the check.
    probed: Cache<(Ino, Vec<u8>), i64>,
    /// Whether anything was ever probed: spares everybody else the allocation of a key.
    any_probed: AtomicBool,
}

impl Directories {
    pub(super) fn new(ttl: Duration) -> Self {
        let probed = Cache::builder().max_capacity(PROBED_NAMES).time_to_live(ttl).build();
        Directories { table: Cache::new(DIRECTORIES), forgotten: AtomicU64::new(0), probed, any_probed: AtomicBool::new(false) }
    }

    /// Drops what was derived from rows, after a change to layouts.
    pub(super) fn forget_all(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.table.invalidate_all();
    }

    pub(super) fn forget(&self, ino: Ino) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.table.invalidate(&ino);
    }

    pub(super) fn note_probe(&self, parent: Ino, name: &[u8], at_ns: i64) {
        self.probed.insert((parent, name.to_vec()), at_ns);
        self.any_probed.store(true, Ordering::Release);
    }

    pub(super) fn forget_probe(&self, parent: Ino, name: &[u8]) {
        self.probed.invalidate(&(parent, name.to_vec()));
    }

    pub(super) fn probed_at(&self, parent: Ino, name: &[u8]) -> Option<i64> {
        self.any_probed.load(Ordering::Acquire).then(|| self.probed.get(&(parent, name.to_vec()))).flatten()
    }
}

impl Directory {
    /// When a listing last said something about a name (wall time, ns), if one did.
    pub(super) fn listed_at(&self, name: &[u8]) -> Option<i64> {
        let listing = self.listing.read();
        let state = listing.as_ref()?;
        let passed = || state.last_key.as_ref().is_some_and(|last| passes(last.as_bytes(), self.prefix.as_bytes(), name));
        (state.complete || passed()).then_some(state.listed_at_ns)
    }

    pub(super) fn state(&self) -> Option<ListingState> {
        self.listing.read().clone()
    }
}

/// Whether a listing that came to `last_key` has seen all there is of a name, as an object and as a prefix.
fn passes(last_key: &[u8], prefix: &[u8], name: &[u8]) -> bool {
    let Some(relative) = last_key.strip_prefix(prefix) else { return false };
    let as_prefix = name.iter().chain(b"/");
    relative.iter().ge(as_prefix)
}

impl Inner {
    /// A directory's state, from memory or from its rows.
    pub(super) fn directory(&self, ino: Ino) -> Result<Arc<Directory>> {
        if let Some(directory) = self.directories.table.get(&ino) {
            return Ok(directory);
        }
        let forgotten = self.directories.forgotten.load(Ordering::Acquire);
        let directory = Arc::new(self.load_directory(ino)?);
        if self.directories.forgotten.load(Ordering::Acquire) != forgotten {
            // Right for whoever asked, and perhaps not for the next one.
            return Ok(directory);
        }
        Ok(self.directories.table.get_with(ino, || directory))
    }

    fn load_directory(&self, ino: Ino) -> Result<Directory> {
        let row = self.inode(ino)?;
        let linked = self.associations.at(ino.in_snapshot().map_or(ino, |(_, own)| own));
        let (prefix, target, inherited) = match (self.meta.parent_of(ino).map_err(metadata_error)?, &linked) {
            (None, _) => (self.prefix_of_root(), self.prefix_of_root(), self.config.layout),
            (Some((parent, _)), Some(linked)) => (linked.prefix.clone(), linked.prefix.clone(), self.directory(parent)?.layout),
            (Some((parent, name)), None) => {
                let parent = self.directory(parent)?;
                let name = String::from_utf8_lossy(&name);
                let moved = row.origin.as_ref().map(|origin| origin.key.clone());
                let prefix = moved.unwrap_or_else(|| format!("{}{name}/", parent.prefix));
                (prefix, format!("{}{name}/", parent.target), parent.layout)
            }
        };
        let listing = self.meta.listing_state(ino).map_err(metadata_error)?;
        let in_store = (!row.local || row.origin.is_some()) && self.repository.is_linked(association_of(&prefix));
        Ok(Directory {
            ino,
            prefix,
            target,
            in_store,
            layout: row.layout.unwrap_or(inherited),
            listing: RwLock::new(listing),
            flight: tokio::sync::Mutex::default(),
            ahead: Mutex::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn a_name_is_passed_once_its_prefix_form_is() {
        assert!(!passes(b"d/a", b"d/", b"a"), "a/ may still come");
        assert!(!passes(b"d/a-b", b"d/", b"a"), "a/ sorts after a-b");
        assert!(passes(b"d/a/", b"d/", b"a"));
        assert!(passes(b"d/a0", b"d/", b"a"));
        assert!(!passes(b"d/a0", b"d/", b"b"));
        assert!(!passes(b"", b"d/", b"a"));
    }
}
