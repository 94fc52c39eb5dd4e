//! Operations on one thread's subtree, and what they answer. Paths are relative to the subtree; the empty one is its root.

use std::collections::BTreeMap;

/// The largest file.
pub const LARGEST_FILE: u64 = 256 * 1024;

/// How a rename treats what is in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// Replaces it.
    Plain,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
}

/// How an extended attribute is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Whether it is there or not.
    Either,
    /// `XATTR_CREATE`.
    Create,
    /// `XATTR_REPLACE`.
    Replace,
}

/// Bytes by where they come from; see [`content`](crate::exercise::content).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Whose they are.
    pub tag: u64,
    /// How many.
    pub length: usize,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Create { path: String, mode: u32 },
    Write { path: String, offset: u64, bytes: Bytes },
    Append { path: String, bytes: Bytes },
    Truncate { path: String, size: u64 },
    Read { path: String, offset: u64, length: usize },
    Sync { path: String },
    Rename { from: String, to: String, renaming: Renaming },
    Link { from: String, to: String },
    Symlink { target: String, path: String },
    ReadLink { path: String },
    Unlink { path: String },
    MakeDirectory { path: String, mode: u32 },
    RemoveDirectory { path: String },
    ChangeMode { path: String, mode: u32 },
    SetTime { path: String, seconds: i64, nanoseconds: i64 },
    SetXattr { path: String, name: String, bytes: Bytes, setting: Setting },
    GetXattr { path: String, name: String },
    RemoveXattr { path: String, name: String },
    List { path: String },
    Stat { path: String },
    Hold { path: String },
    HeldWrite { slot: usize, offset: u64, bytes: Bytes },
    HeldRead { slot: usize, offset: u64, length: usize },
    HeldTruncate { slot: usize, size: u64 },
    HeldStat { slot: usize },
    Release { slot: usize },
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum EntryKind {
    File,
    Directory,
    Symlink,
}

/// What `stat` says of a file, and what is known of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Names; of a directory, 2 and its subdirectories.
    pub links: u64,
    /// Bytes; of a directory not compared.
    pub size: u64,
    /// Seconds and nanoseconds; not compared where no one set it.
    pub mtime: Option<(i64, i64)>,
}

impl Attributes {
    /// Whether a file system may say `found` where these are expected.
    pub fn allow(&self, found: &Attributes) -> bool {
        let directory = self.kind == EntryKind::Directory;
        // File systems that do not count subdirectories say 1.
        let links = self.links == found.links || (directory && found.links == 1);
        let same = (self.kind, self.mode) == (found.kind, found.mode) && links;
        same && (directory || self.size == found.size) && (self.mtime.is_none() || self.mtime == found.mtime)
    }
}

/// What an operation answers, when it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Done,
    /// Content, a link's target, or an attribute's value.
    Bytes(Vec<u8>),
    /// A listing.
    Entries(BTreeMap<String, EntryKind>),
    /// What `stat` says.
    Attributes(Attributes),
}
