//! Metadata: a transactional, ordered key-value engine behind a narrow trait, and the rows of the file system in it.
//!
//! [`engine`] is the seam to the engine, `rows` reads and writes versioned rows and runs transactions; the other files are one
//! family of operations each. The bytes of the rows are [`crate::format::rows`].
//!
//! Invariants:
//! 1. Every directory entry names an inode that has a row, and that inode's row says which directory and name it has; further
//!    names of a file with hard links have a row each.
//! 2. An inode without a name has an orphan row until it is freed. Inode numbers are never used twice.
//! 3. A change is one commit, whole or not at all; what returned survives the death of the process, and after
//!    [`MetaStore::flush`] a power cut.

mod acl;
mod allocated;
mod aside;
mod associations;
mod changes;
pub mod check;
mod clones;
mod content;
mod create;
mod dir;
pub mod engine;
mod exported;
mod exporting;
mod hidden;
mod hsm;
mod import;
mod ino;
mod inode;
mod intent;
mod listing;
mod map;
mod mapped;
mod names;
mod orphans;
mod places;
mod published;
mod quota;
mod references;
mod remove;
mod rename;
mod repair;
mod rows;
mod settings;
mod share;
mod snapshots;
mod subtree;
mod tasks;
mod xattr;

#[cfg(test)]
mod tests;

pub use crate::format::rows::{AssociationRow, AssociationState, EventBits};
pub use crate::format::rows::{
    BLOCKS_PER_CHUNK, Dirent, FileKind, HOLE, InodeRow as Inode, Intent, Limit, Link, ListingState, MapChunk, Origin, QuotaId,
    QuotaKind, QuotaLimits, SnapshotRow, TaskCounters, TaskKind, TaskReport, TaskRow, TaskState, Usage,
};
pub use crate::format::rows::{ChangeRow, DoomedRow, UploadKind, UploadRow};
pub use acl::AclKind;
pub use allocated::{allocated_bytes, claim, is_uncounted};
pub use changes::{ChangeListener, Doomed};
pub use clones::Borrowers;
pub use content::{CUT_ROWS, Content, FileContent, Recorded};
pub use create::NewNode;
pub use exported::{Sent, Standing};
pub use hsm::{LetGo, Wishes};
pub use import::{Accept, Conflict, ConflictKind, ListedPart, Merged, Missing};
pub use intent::IntentLog;
pub use mapped::Moment;
pub use places::BlockPlace;
pub use published::{PUBLISHED_SETTING, Published};
pub use quota::{DEFAULT_GRACE_S, Enforce, Graces, Quota, QuotaState, QuotaViolation, Reservation, block_bytes};
pub use remove::Removed;
pub use rename::{Mode as RenameMode, Renamed};
pub use repair::{LOST_AND_FOUND, Repaired};
pub use settings::REPOSITORY_SETTING;
pub use share::{Share, SharedBlocks};
pub use snapshots::{Difference, Differs, Leaving, Since, TreeView, is_snapshot_name};
pub use tasks::FoundTask;
pub use xattr::SetMode;

use crate::ids::{Epoch, Ino};
use engine::Engine;
use engine::local::LocalEngine;
use ino::InoAllocator;
use parking_lot::RwLock;
use quota::{Entry, Quotas, Spending};
use rows::{Reading, Txn};
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

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

/// Why a change to the tree is not allowed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name, the inode, or the directory it should be in does not exist.
    #[error("no such name")]
    NotFound,
    /// The name is taken.
    #[error("the name exists")]
    Exists,
    /// A directory is needed.
    #[error("not a directory")]
    NotDirectory,
    /// A directory is in the way.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A directory would become its own descendant, or a name is none.
    #[error("not possible: {0}")]
    Invalid(&'static str),
    /// The file has as many names as it can.
    #[error("too many links")]
    TooManyLinks,
    /// The directory, or one below it, is linked to a bucket.
    #[error("it is linked to a bucket, or a directory below it is; 'forebay dra delete' unlinks it")]
    Linked,
    /// Directories have one name; some attributes cannot be set.
    #[error("not permitted")]
    NotPermitted,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// More than a quota leaves.
    #[error("over the quota of {0}")]
    OverQuota(QuotaId),
    /// The snapshot has a directory of which nobody knew what was in it.
    #[error("{0} had not been listed when the snapshot was taken: 'forebay import' before it would have")]
    Unlisted(Ino),
    /// A clone is not finished.
    #[error("a clone of it is still being made: try again in a moment")]
    Cloning,
    /// A tree too large to be moved from one project to another at once: it has to be copied.
    #[error("too much below the directory to move it to another project at once")]
    CrossesProjects,
}

/// A metadata failure.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The change is not allowed.
    #[error(transparent)]
    Refused(#[from] Refusal),
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
    /// A listing page that cannot be merged; nothing was changed.
    #[error("the listing is not usable: {why}")]
    BadListing {
        /// What is wrong.
        why: &'static str,
    },
    /// The engine failed.
    #[error("metadata engine: {0}")]
    Engine(String),
}

/// Settings of the metadata store.
#[derive(Clone, Debug)]
pub struct MetaConfig {
    /// Memory for the engine's caches and write buffers, in bytes.
    pub memory_bytes: usize,
}

/// The rows of one file system. Cheap to share; every method is safe to call from many threads.
#[derive(Clone)]
pub struct MetaStore {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Box<dyn Engine>,
    /// The newest epoch seen in a commit: at least that of every commit that returned.
    epoch: AtomicU64,
    numbers: InoAllocator,
    defaults: DefaultAttrs,
    quotas: Quotas,
    change_listener: OnceLock<ChangeListener>,
    turns: rows::Turns,
    /// The directories of associations.
    association_roots: RwLock<HashSet<Ino>>,
    exporting: exporting::Exporting,
    kept: snapshots::Kept,
    clones: clones::Clones,
}

impl MetaStore {
    /// Opens or creates the store in a directory; creates the root inode.
    pub fn open(dir: &Path, config: MetaConfig, defaults: DefaultAttrs, now_ns: i64) -> Result<Self, MetaError> {
        let engine = LocalEngine::open(dir, config.memory_bytes)?;
        Self::with_engine(Box::new(engine), defaults, now_ns)
    }

    /// The same on any engine.
    pub fn with_engine(engine: Box<dyn Engine>, defaults: DefaultAttrs, now_ns: i64) -> Result<Self, MetaError> {
        let epoch = settings::initialise(&*engine, &defaults, now_ns)?;
        let quotas = Quotas::load(&*engine)?;
        let shared = Shared {
            engine,
            epoch: AtomicU64::new(epoch.0),
            numbers: InoAllocator::new(),
            defaults,
            quotas,
            change_listener: OnceLock::new(),
            turns: rows::Turns::default(),
            association_roots: RwLock::default(),
            exporting: exporting::Exporting::default(),
            kept: snapshots::Kept::default(),
            clones: clones::Clones::default(),
        };
        let this = MetaStore { shared: Arc::new(shared) };
        snapshots::Kept::load(&this)?;
        clones::Clones::load(&this)?;
        let roots = this.associations()?.into_iter().map(|(_, row)| row.root).collect();
        *this.shared.association_roots.write() = roots;
        Ok(this)
    }

    /// The epoch new rows are written in.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.shared.epoch.load(Ordering::Acquire))
    }

    /// Makes everything committed so far durable.
    pub fn flush(&self) -> Result<(), MetaError> {
        Ok(self.shared.engine.flush()?)
    }

    fn engine(&self) -> &dyn Engine {
        &*self.shared.engine
    }

    fn defaults(&self) -> &DefaultAttrs {
        &self.shared.defaults
    }

    /// The newest state. The epoch may lag behind one that another thread is just beginning: then this is the end of the old one.
    fn reading(&self) -> Reading<'_> {
        Reading { view: self.engine().view(), epoch: self.epoch() }
    }

    fn transact<T>(&self, body: impl FnMut(&mut Txn<'_>) -> Result<T, MetaError>) -> Result<T, MetaError> {
        self.transact_for(&Spending::default(), body)
    }

    /// A transaction that quotas may refuse, or that something was reserved for.
    fn transact_for<T>(&self, by: &Spending<'_>, body: impl FnMut(&mut Txn<'_>) -> Result<T, MetaError>) -> Result<T, MetaError> {
        let (result, released) = self.transact_releasing(by, body)?;
        debug_assert!(released.is_empty(), "nobody lets go of {released:?}");
        Ok(result)
    }

    /// A transaction after which blocks may have no reference any more: their fingerprints are returned beside the result.
    fn transact_releasing<T>(
        &self,
        by: &Spending<'_>,
        body: impl FnMut(&mut Txn<'_>) -> Result<T, MetaError>,
    ) -> Result<(T, Vec<u64>), MetaError> {
        let _gate = self.shared.quotas.gate.read();
        self.transact_in_gate(by, body)
    }

    fn transact_in_gate<T>(
        &self,
        by: &Spending<'_>,
        mut body: impl FnMut(&mut Txn<'_>) -> Result<T, MetaError>,
    ) -> Result<(T, Vec<u64>), MetaError> {
        let quotas = &self.shared.quotas;
        let mut changed = Vec::new();
        let mut body = |txn: &mut Txn<'_>| {
            let result = body(txn)?;
            snapshots::note(txn, &self.shared.kept)?;
            let result = (result, references::derive(txn)?);
            changed = changes::derive(txn, &self.shared.association_roots.read())?;
            Ok(result)
        };
        if !quotas.is_on() {
            let (result, epoch) = rows::transact_in_turn(self.engine(), &self.shared.turns, by.alone_in_turn, body)?;
            // Whoever learns of this commit must find its rows.
            self.saw_epoch(epoch);
            self.tell_of(&changed);
            return Ok(result);
        }
        let mut entry = Entry::default();
        let outcome = rows::transact_in_turn(self.engine(), &self.shared.turns, by.alone_in_turn, |txn| {
            // Of the try before, which met a conflict.
            entry.undo();
            let result = body(txn)?;
            quota::count(quotas, txn, by, &mut entry)?;
            Ok(result)
        });
        match outcome {
            Ok((result, epoch)) => {
                self.saw_epoch(epoch);
                self.tell_of(&changed);
                self.save_timers(&entry.settle(quotas, by))?;
                Ok(result)
            }
            Err(error) => {
                entry.undo();
                Err(error)
            }
        }
    }

    fn tell_of(&self, changed: &[Ino]) {
        if let Some(listener) = self.shared.change_listener.get().filter(|_| !changed.is_empty()) {
            listener(changed);
        }
    }

    fn saw_epoch(&self, epoch: Epoch) {
        self.shared.epoch.fetch_max(epoch.0, Ordering::AcqRel);
    }

    fn take_inos(&self, count: u64) -> Result<Range<u64>, MetaError> {
        self.shared.numbers.take(self.engine(), count)
    }
}
