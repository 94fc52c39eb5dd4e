//! The file system's operations, free of FUSE: one file per family.
//!
//! Metadata operations return an [`Answer`]: ready at once when the rows are here, otherwise a future that goes to the
//! object store. Reads complete through a callback, from a device thread when the data is cached.
//!
//! Invariants:
//! 1. An answer about a name is as old as `--metadata-ttl` at most: from a listing of its directory or from a probe of
//!    the one name, whichever is newer.
//! 2. An inode stands for one version of one object for ever. A replaced object is a new inode, so that old and new bytes
//!    never meet in the kernel's page cache.
//! 3. The kernel hears of every change it may have cached, from a thread of its own.

mod ahead;
mod associations;
mod attr;
mod care;
mod code;
mod copy;
mod create;
mod diff;
mod digest;
mod directory;
mod export;
mod figures;
mod frozen;
mod handles;
mod hsm;
mod import;
mod invalidate;
mod listing;
mod lookup;
mod materialize;
mod opened;
mod posix;
mod preload;
mod publish;
mod quota;
mod read;
mod readdir;
mod redo;
mod release;
mod remove;
mod restore;
mod setattr;
mod settled;
mod snapshots;
mod stripe;
mod types;
mod walk;
mod watch;
mod write;
mod xattr;

pub use associations::{AssociationChange, AssociationView, EVENT_QUEUE_URL, NewAssociation, RootAssociation};
pub use code::ErrorCode;
pub use digest::{DigestProgress, TreeDigest};
pub use export::{AutoExportStatus, ExportEvents, ExportFailure, ExportResult, ExportTree, Exported, RemovalOutcome};
pub use figures::{Figures, SnapshotFigures};
pub use hsm::{HsmAction, HsmState};
pub use import::{ImportDir, ImportPart, ImportRoot, Unread};
pub use materialize::{MaterializedFile, Materializing};
pub use posix::HeadFailure;
pub use preload::{PreloadFile, preload_parts};
pub use publish::{PublishOrder, PublishState, PublishView};
pub use quota::ShownQuota;
pub use release::{ReleasedBlocks, ReleasedFile};
pub use restore::Restored;
pub use types::*;
pub use walk::{Closed, FileWalk, FoundFile};
pub use watch::{Disagreement, NamedPlace, TakenOver};

use crate::block::BlockStore;
use crate::cache::{Cache, FileEvents, Unflushed};
use crate::clock::SharedClock;
use crate::config::{MetadataTtl, PosixMetadata};
use crate::error::{Error, ErrorKind};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, MetaError, MetaStore, Refusal, allocated_bytes, is_uncounted};
use crate::repository::{ObjectHead, Repository};
use crate::stripe::Layout;
use crate::units::SECTOR;
use associations::Associations;
use directory::Directories;
use handles::Handles;
use invalidate::Invalidator;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CHANGE_COUNTERS: usize = 64;

/// Settings of the operations.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// The key prefix of the root, where it has a bucket: empty, or ending in `/`.
    pub key_prefix: String,
    /// How long listings hold.
    pub metadata_ttl: MetadataTtl,
    /// How object metadata is used.
    pub posix_metadata: PosixMetadata,
    /// The layout where neither a file nor a directory above it has one.
    pub layout: Layout,
    /// The file system's identity, by which its work in the bucket is known again.
    pub identity: u128,
    /// How long a request to a bucket that is linked later is retried.
    pub store_deadline: Duration,
    /// Memory for bodies on their way to the bucket, in bytes.
    pub export_bytes: u64,
}

/// The components the operations work with.
pub struct VfsParts {
    /// Rows.
    pub meta: Arc<MetaStore>,
    /// Data.
    pub cache: Arc<Cache>,
    /// Blocks, for `statfs`.
    pub store: BlockStore,
    /// Objects.
    pub repository: Arc<Repository>,
    /// Time.
    pub clock: SharedClock,
    /// Where futures run.
    pub runtime: tokio::runtime::Handle,
}

/// The file system. Clones share it.
#[derive(Clone)]
pub struct Vfs(Arc<Inner>);

struct Inner {
    meta: Arc<MetaStore>,
    cache: Arc<Cache>,
    store: BlockStore,
    repository: Arc<Repository>,
    clock: SharedClock,
    runtime: tokio::runtime::Handle,
    config: VfsConfig,
    associations: Associations,
    handles: Handles,
    directories: Directories,
    invalidator: Invalidator,
    heads: posix::Heads,
    opened: opened::Opened,
    restoring: preload::Restoring,
    exports: Arc<export::Exports>,
    auto: Arc<export::Auto>,
    publications: publish::Publications,
    renames: Mutex<()>,
    last_count: figures::LastCount,
    settled: parking_lot::RwLock<settled::Settled>,
    /// Counts changes of names, by directory (some share a counter): a listing read before the last one may tell the kernel of what
    /// is gone.
    changes: [AtomicU64; CHANGE_COUNTERS],
}

impl Vfs {
    /// The operations over these components.
    pub fn new(parts: VfsParts, config: VfsConfig) -> Self {
        let VfsParts { meta, cache, store, repository, clock, runtime } = parts;
        let ttl = config.metadata_ttl.as_duration();
        let auto = Arc::new(export::Auto::default());
        let listener = Arc::clone(&auto);
        meta.set_change_listener(Box::new(move |changed| listener.note(changed)));
        let vfs = Vfs(Arc::new(Inner {
            associations: Associations::default(),
            directories: Directories::new(ttl),
            handles: Handles::default(),
            invalidator: Invalidator::start(),
            heads: posix::Heads::default(),
            opened: opened::Opened::default(),
            restoring: preload::Restoring::default(),
            exports: Arc::new(export::Exports::new(config.identity, config.export_bytes)),
            auto: Arc::clone(&auto),
            publications: publish::Publications::default(),
            renames: Mutex::default(),
            last_count: figures::LastCount::default(),
            settled: parking_lot::RwLock::default(),
            changes: std::array::from_fn(|_| AtomicU64::new(0)),
            meta,
            cache,
            store,
            repository,
            clock,
            runtime,
            config,
        }));
        vfs.0.cache.set_events(Arc::new(Events(Arc::downgrade(&vfs.0))));
        vfs
    }

    /// Sets whom to tell about changes in the bucket; once, after mounting.
    pub fn set_kernel_cache(&self, kernel: Arc<dyn KernelCache>) {
        self.0.invalidator.set_kernel(kernel);
    }

    /// Frees what deleted and replaced objects left behind; a background task calls it.
    pub fn free_orphans(&self) -> Result<u64, MetaError> {
        self.0.cache.free_orphans()
    }

    /// Stops the threads of the operations. Requests that still come in are answered from what is known.
    pub fn close(&self) {
        self.0.invalidator.close();
        self.0.associations.forget_listener();
    }
}

impl Inner {
    fn ttl(&self) -> Duration {
        self.config.metadata_ttl.as_duration()
    }

    /// An inode as it is now, what was written and not flushed included.
    fn inode(&self, ino: Ino) -> crate::error::Result<Inode> {
        Ok(self.with_mapped(ino, self.row(ino)?))
    }

    /// A file that may have been written through a mapping is not told to be empty: whoever copies it would not look inside.
    fn with_mapped(&self, ino: Ino, mut row: Inode) -> Inode {
        let seems_empty = row.kind == FileKind::File && row.size > 0 && allocated_bytes(&row) == 0;
        if seems_empty && self.cache.may_be_mapped(ino) {
            row.allocated = Some(SECTOR as u64);
        }
        row
    }

    /// The same without regard to mappings. Needs no lock of files in use.
    fn row(&self, ino: Ino) -> crate::error::Result<Inode> {
        if ino == Ino::SNAPSHOTS {
            return self.snapshots_row();
        }
        // In this order: what is flushed between the two is in the row.
        let unflushed = self.cache.unflushed(ino);
        let row = match self.meta.inode(ino) {
            // Its snapshot was deleted.
            Err(MetaError::Refused(Refusal::NotFound)) => None,
            found => found.map_err(metadata_error)?,
        };
        let row = row.ok_or_else(|| Error::new(ErrorKind::Stale, format!("{ino} no longer exists")))?;
        Ok(with_unflushed(self.counted(ino, row)?, unflushed))
    }

    /// A row with its count of what it allocates, if only it was made before there were any.
    fn counted(&self, ino: Ino, row: Inode) -> crate::error::Result<Inode> {
        if !is_uncounted(&row) {
            return Ok(row);
        }
        Ok(self.meta.count_allocated(ino).map_err(metadata_error)?.unwrap_or(row))
    }

    fn names_changed(&self, dir: Ino) {
        self.changes[dir.0 as usize % CHANGE_COUNTERS].fetch_add(1, Ordering::AcqRel);
    }

    fn changes_of(&self, dir: Ino) -> u64 {
        self.changes[dir.0 as usize % CHANGE_COUNTERS].load(Ordering::Acquire)
    }

    fn is_in_use(&self, ino: Ino) -> bool {
        self.cache.in_use(ino)
    }
}

fn with_unflushed(mut row: Inode, unflushed: Option<Unflushed>) -> Inode {
    if let Some(unflushed) = unflushed {
        (row.size, row.allocated) = (unflushed.size, Some(unflushed.allocated));
        row.mtime_ns = unflushed.mtime_ns.unwrap_or(row.mtime_ns);
        row.ctime_ns = row.ctime_ns.max(unflushed.ctime_ns);
    }
    row
}

/// What the cache learns while fetching, on its way to the name space. Weak: the cache outlives no file system.
struct Events(std::sync::Weak<Inner>);

impl FileEvents for Events {
    fn object_head(&self, ino: Ino, head: &ObjectHead) {
        if let Some(inner) = self.0.upgrade().filter(|_| !ino.is_frozen()) {
            inner.learn_from_get(ino, head);
        }
    }

    fn object_changed(&self, ino: Ino) {
        if let Some(inner) = self.0.upgrade().filter(|_| !ino.is_frozen()) {
            inner.recheck(ino);
        }
    }
}

fn metadata_error(error: MetaError) -> Error {
    if let MetaError::Refused(refusal) = &error {
        return Error::new(kind_of(refusal), refusal.to_string());
    }
    tracing::error!(%error, "metadata could not be read or written");
    Error::new(ErrorKind::Io, error.to_string())
}

fn kind_of(refusal: &Refusal) -> ErrorKind {
    match refusal {
        Refusal::NotFound => ErrorKind::NotFound,
        Refusal::Exists => ErrorKind::Exists,
        Refusal::NotDirectory => ErrorKind::NotDirectory,
        Refusal::IsDirectory => ErrorKind::IsDirectory,
        Refusal::NotEmpty => ErrorKind::NotEmpty,
        Refusal::Invalid(_) => ErrorKind::Invalid,
        Refusal::TooManyLinks => ErrorKind::TooManyLinks,
        Refusal::NotPermitted => ErrorKind::NotPermitted,
        Refusal::Linked => ErrorKind::Busy,
        Refusal::NoAttribute => ErrorKind::NoData,
        Refusal::Unlisted(_) => ErrorKind::Stale,
        Refusal::Cloning => ErrorKind::Busy,
        Refusal::OverQuota(_) => ErrorKind::OverQuota,
        Refusal::CrossesProjects => ErrorKind::CrossesProjects,
    }
}
