//! Metadata: a transactional, ordered key-value engine behind a narrow trait, and the rows of the file system in it.

use crate::ids::{BlockId, BlockIndex, Epoch, Ino};
use crate::stripe::Layout;
use std::path::Path;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// The object an inode's content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The full object key.
    pub key: String,
    /// The ETag of the version this inode stands for.
    pub etag: String,
    /// The version id, where known.
    pub version: Option<String>,
}

/// An inode's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// File, directory, symlink.
    pub kind: FileKind,
    /// Permission bits, `0o7777` at most.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Access time, ns since the Unix epoch.
    pub atime_ns: i64,
    /// Modification time, ns since the Unix epoch.
    pub mtime_ns: i64,
    /// Change time, ns since the Unix epoch.
    pub ctime_ns: i64,
    /// Whether the POSIX attributes came from the object's metadata (a GET or HEAD), not from a listing's defaults.
    pub posix_known: bool,
    /// Where the content comes from; `None` for what exists only here (the root, implicit directories).
    pub origin: Option<Origin>,
    /// Stripe layout set on this file or directory; `None` inherits.
    pub layout: Option<Layout>,
}

/// A directory entry's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent {
    /// What the name refers to.
    pub ino: Ino,
    /// Its kind, for `d_type`.
    pub kind: FileKind,
}

/// How far the listing of a directory has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingState {
    /// Every key has been seen, up to the end.
    pub complete: bool,
    /// The last key seen, to resume after.
    pub last_key: Option<String>,
    /// When the newest complete listing began, ns since the Unix epoch.
    pub listed_at_ns: i64,
    /// Entries seen.
    pub entries: u64,
}

/// One entry of a directory as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// The name, 1 to 255 bytes, no `/`.
    pub name: Vec<u8>,
    /// What it is.
    pub node: ListedNode,
}

/// What a listed name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedNode {
    /// An object.
    File {
        /// Size in bytes.
        size: u64,
        /// Last-Modified, ns since the Unix epoch.
        modified_ns: i64,
        /// Key and version.
        origin: Origin,
    },
    /// A common prefix.
    Directory,
}

/// What a listing page changed in the name space; the kernel's caches are invalidated by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A name appeared.
    Added {
        /// The name.
        name: Vec<u8>,
        /// Its inode.
        ino: Ino,
    },
    /// The name now refers to another inode: the object was replaced, or changed its kind.
    Replaced {
        /// The name.
        name: Vec<u8>,
        /// The inode it referred to.
        old: Ino,
        /// The inode it refers to now.
        new: Ino,
    },
    /// The name is gone.
    Removed {
        /// The name.
        name: Vec<u8>,
        /// The inode it referred to.
        old: Ino,
    },
}

/// Defaults for attributes that a listing does not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultAttrs {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of files.
    pub file_perm: u16,
    /// Permission bits of directories.
    pub dir_perm: u16,
}

/// Blocks in one file-map row: 64 blocks of 128 KiB = 8 MiB of file.
pub const BLOCKS_PER_CHUNK: u64 = 64;

/// One row of a file map: which block holds which part of a file, where known. Entries are hints checked by content:
/// a block that is named here but no longer stored is fetched again.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MapChunk {
    /// `BLOCKS_PER_CHUNK` slots or fewer; missing and `None` alike mean not known.
    pub blocks: Vec<Option<BlockId>>,
}

/// A metadata failure.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// Another transaction changed a row this one depends on; try again.
    #[error("conflict with another metadata change")]
    Conflict,
    /// A row does not decode: damage, or a format this version does not know.
    #[error("metadata row in {table} is damaged: {why}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The engine failed.
    #[error("metadata engine: {0}")]
    Engine(String),
}

/// The rows of one file system. Cheap to share; every method is safe to call from many threads.
pub struct MetaStore;

/// Settings of the metadata store.
#[derive(Clone, Debug)]
pub struct MetaConfig {
    /// Memory for the engine's caches and write buffers, in bytes.
    pub memory_bytes: usize,
}

#[allow(unused_variables, reason = "signatures agreed before the bodies")]
impl MetaStore {
    /// Opens or creates the store in a directory; creates the root inode.
    pub fn open(dir: &Path, config: MetaConfig, defaults: DefaultAttrs, now_ns: i64) -> Result<Self, MetaError> {
        todo!("helper E")
    }
    /// The epoch new rows are written in.
    pub fn epoch(&self) -> Epoch {
        todo!("helper E")
    }
    /// An inode's newest row.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>, MetaError> {
        todo!("helper E")
    }
    /// Reads, changes and writes an inode's row atomically (retrying on conflict); `None` if there is no such inode.
    pub fn update_inode(&self, ino: Ino, change: &dyn Fn(&mut Inode)) -> Result<Option<Inode>, MetaError> {
        todo!("helper E")
    }
    /// Resolves a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Dirent>, MetaError> {
        todo!("helper E")
    }
    /// The directory an inode was found in and its name there; `None` for the root.
    pub fn parent_of(&self, ino: Ino) -> Result<Option<(Ino, Vec<u8>)>, MetaError> {
        todo!("helper E")
    }
    /// Entries after a name (from the start for `None`), in byte order of names, with their inodes, at most `limit`.
    pub fn read_dir(&self, parent: Ino, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Ino, Inode)>, MetaError> {
        todo!("helper E")
    }
    /// A directory's listing state; `None` if nobody looked inside yet.
    pub fn listing_state(&self, dir: Ino) -> Result<Option<ListingState>, MetaError> {
        todo!("helper E")
    }
    /// Merges one page of a listing, in one transaction with the directory's new state.
    ///
    /// `entries` are sorted by name and complete for names in the half-open interval `covers` (`None` = unbounded):
    /// a name in it that the page lacks and that came from the store is removed. A file whose ETag (or kind) differs gets a *new* inode, so that
    /// old and new bytes never share a page cache; an unchanged one keeps its inode and attributes, and is not rewritten.
    /// Inodes that lost their last name are kept while `in_use` says so, and freed by [`MetaStore::free_orphans`].
    pub fn merge_listing(
        &self,
        parent: Ino,
        covers: (Option<Vec<u8>>, Option<Vec<u8>>),
        entries: &[ListedEntry],
        state: Option<&ListingState>,
        now_ns: i64,
    ) -> Result<Vec<Change>, MetaError> {
        todo!("helper E")
    }
    /// Frees inodes without a name (their rows and file maps) that `in_use` does not hold on to.
    pub fn free_orphans(&self, in_use: &dyn Fn(Ino) -> bool) -> Result<u64, MetaError> {
        todo!("helper E")
    }
    /// One row of a file's map.
    pub fn map_chunk(&self, ino: Ino, chunk: u64) -> Result<Option<MapChunk>, MetaError> {
        todo!("helper E")
    }
    /// Adds blocks to the maps of files, in one transaction. Inodes that are gone are skipped.
    pub fn map_blocks(&self, blocks: &[(Ino, BlockIndex, BlockId)]) -> Result<(), MetaError> {
        todo!("helper E")
    }
    /// A symlink's target, if known.
    pub fn symlink_target(&self, ino: Ino) -> Result<Option<Vec<u8>>, MetaError> {
        todo!("helper E")
    }
    /// Turns an inode into a symlink with this target (its object's metadata said so): kind, size and dirent change.
    pub fn become_symlink(&self, ino: Ino, target: &[u8]) -> Result<(), MetaError> {
        todo!("helper E")
    }
    /// Records keys that no POSIX tree can hold, seen while listing a directory; replaces what was recorded for it from
    /// `covers` on.
    pub fn record_hidden(&self, dir: Ino, keys: &[(String, String)]) -> Result<(), MetaError> {
        todo!("helper E")
    }
    /// All recorded hidden keys with their reasons, at most `limit`, and how many there are in all.
    pub fn hidden_keys(&self, limit: usize) -> Result<(Vec<(String, String)>, u64), MetaError> {
        todo!("helper E")
    }
    /// A small named value (file system identity, settings).
    pub fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, MetaError> {
        todo!("helper E")
    }
    /// Sets a small named value.
    pub fn set_setting(&self, name: &str, value: &[u8]) -> Result<(), MetaError> {
        todo!("helper E")
    }
    /// Makes everything committed so far durable.
    pub fn flush(&self) -> Result<(), MetaError> {
        todo!("helper E")
    }
}
