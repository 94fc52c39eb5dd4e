//! What the operations take and give.

use crate::error::Result;
use crate::ids::Ino;
use crate::meta::FileKind;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::time::Duration;

/// An operation's result, now or later. Later means the object store is asked; run the future on the runtime.
pub enum Answer<T> {
    /// Known already.
    Ready(Result<T>),
    /// The object store has to be asked.
    Pending(BoxFuture<'static, Result<T>>),
}

/// `stat` of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// File, directory, symlink.
    pub kind: FileKind,
    /// Permission bits.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that have something in them.
    pub allocated: u64,
    /// Access time, ns since the Unix epoch.
    pub atime_ns: i64,
    /// Modification time, ns since the Unix epoch.
    pub mtime_ns: i64,
    /// Change time, ns since the Unix epoch.
    pub ctime_ns: i64,
    /// Device number of a device, else 0.
    pub rdev: u32,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits that what it makes does not get.
    pub umask: u16,
}

/// What `setattr` changes; `None` leaves as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits.
    pub perm: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Whether set-user-ID and set-group-ID go with it, as when somebody without the right to keep them cuts a file, or its owner changes.
    pub drops_ids: bool,
}

impl SetAttr {
    /// Whether it sets something beside the size.
    pub(super) fn sets_attributes(&self) -> bool {
        self.perm.is_some() || self.uid.is_some() || self.gid.is_some() || self.atime.is_some() || self.mtime.is_some()
    }
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The present.
    Now,
    /// Nanoseconds since the Unix epoch.
    At(i64),
}

impl SetTime {
    pub(super) fn or_at(self, now_ns: i64) -> i64 {
        match self {
            SetTime::Now => now_ns,
            SetTime::At(ns) => ns,
        }
    }
}

/// Attributes and how long the kernel may keep them (and the entry that led to them).
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The attributes.
    pub attr: Attr,
    /// For how long they hold.
    pub ttl: Duration,
}

/// A name resolved, or known not to exist for a while.
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    /// It exists.
    Found(Entry),
    /// It does not, and the kernel may remember that.
    Absent {
        /// For how long.
        ttl: Duration,
    },
}

/// An open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// One entry of a directory read.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// Where to go on after this entry.
    pub next_offset: u64,
    /// Its attributes; `.` and `..` included.
    pub entry: Entry,
}

/// A batch of directory entries; an empty batch is the end.
pub type DirBatch = Vec<DirEntry>;

/// Space and inodes, for `statfs`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsStats {
    /// Block size in bytes.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks free.
    pub blocks_free: u64,
    /// Inodes known.
    pub files: u64,
}

/// Called once with the bytes read (fewer than asked only at end of file). May run on a device thread: must not block.
pub type ReadReply = Box<dyn FnOnce(Result<Bytes>) + Send>;

/// Called once when a write, a sync or the like is done. May run on a device thread: must not block.
pub use crate::cache::DoneReply;
/// The same for a write.
pub use crate::cache::DoneReply as WriteReply;
pub use crate::cache::Seek;

/// The kernel's caches, which the file system invalidates when the bucket changes. Called from a thread of its own, never
/// from inside an operation (the kernel may hold locks that the notification needs).
pub trait KernelCache: Send + Sync + 'static {
    /// Forgets a name (positive or negative).
    fn forget_entry(&self, parent: Ino, name: &[u8]);
    /// Forgets an inode's attributes and pages.
    fn forget_inode(&self, ino: Ino);
    /// Waits until the kernel has forgotten all that it was told to before, at most so long. Not for a thread that answers the kernel.
    fn settle(&self, at_most: Duration);
}

/// A file just opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenedFile {
    /// The handle.
    pub handle: HandleId,
    /// Whether the kernel may keep the pages it has of this inode.
    pub keep_cache: bool,
}

/// A directory just opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenedDir {
    /// The handle.
    pub handle: HandleId,
    /// Whether the kernel may keep and use the directory's cached entries.
    pub keep_cache: bool,
}
