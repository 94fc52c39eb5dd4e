//! The cache: serves reads of files from memory, from the block store or from the object store, and fills the block store
//! behind the reader's back.
//!
//! Invariants:
//! 1. *One version.* A [`CachedFile`] stands for one version of one object. Every byte it hands out was fetched pinned to
//!    that version's ETag, or read from a block whose hash the file's map recorded for that version.
//! 2. *Single flight.* At any time at most one GET covers a block of a file: whoever finds a block absent marks it in flight
//!    under the file's lock before anyone else can look.
//! 3. *Every waiter is answered.* A block leaves the in-flight state only through `publish` or `fail`, and both take its waiters along.
//! 4. *Map after data.* A block enters a file's map only after the block store can read it back.
//! 5. *The hit path crosses no async runtime*: a read whose blocks are all mapped goes from the caller's thread to the
//!    devices and is answered from the device's completion.

mod budget;
pub mod care;
mod directory;
mod export;
mod fetch;
mod file;
mod filemap;
mod fill;
mod hold;
mod local;
mod pinned;
mod pipe;
mod preload;
mod read;
mod readahead;
mod region;
mod release;
mod written;

pub use budget::MemoryBudget;
pub use directory::{Ahead, DirectoryAhead, NEAR, OnOpen};
pub use export::Sending;
pub use file::{CachedFile, FileSpec, Source};
pub use hold::Holding;
pub use local::LocalData;
pub use preload::{PRELOAD_PART, Preload, PreloadError};
pub use read::Reader;
pub use release::FileRelease;
pub use written::{AtStandstill, By, DoneReply, SIZE_MAX, Seek};

use crate::block::BlockStore;
use crate::error::{Error, ErrorKind};
use crate::ids::Ino;
use crate::meta::MetaStore;
use crate::repository::{ObjectHead, Repository};
use crate::stripe::DeviceArray;
use bytes::Bytes;
use filemap::FileMaps;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long [`Cache::drain`] waits: longer than a device's deadline, so that a failing one has said so.
const DRAIN: Duration = Duration::from_secs(15);

/// Called once with the bytes read (fewer than asked only at end of file). May run on a device thread: must not block.
pub type ReadReply = Box<dyn FnOnce(Result<Bytes, Error>) + Send>;

/// What the cache learns about objects while fetching; the name space wants to know.
pub trait FileEvents: Send + Sync + 'static {
    /// A GET of this inode's object brought these headers.
    fn object_head(&self, ino: Ino, head: &ObjectHead);
    /// The object is no longer the version this inode stands for.
    fn object_changed(&self, ino: Ino);
}

/// Settings of the cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Block size in bytes.
    pub block_size: u32,
    /// Memory for data in flight and fetched ahead, in bytes.
    pub fetch_bytes: usize,
    /// Memory for file-map rows, in bytes.
    pub map_bytes: u64,
    /// Bytes handed to the block store and not yet on a device.
    pub fill_bytes: usize,
    /// Largest read-ahead window of one handle, in bytes.
    pub window_bytes: u64,
    /// Memory for data written and not yet on a device, in bytes.
    pub dirty_bytes: usize,
    /// Whether what was synced must survive a power cut.
    pub durable: bool,
}

/// Counters of the cache.
#[derive(Default)]
pub struct CacheCounters {
    /// Bytes answered from the block store or from memory without a GET of their own.
    pub hit_bytes: AtomicU64,
    /// Bytes fetched from the object store.
    pub fetched_bytes: AtomicU64,
    /// Blocks fetched that could not be stored.
    pub unstored_blocks: AtomicU64,
}

/// What of an inode is not in the metadata yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unflushed {
    /// Size in bytes.
    pub size: u64,
    /// Bytes that have something in them.
    pub allocated: u64,
    /// When it was last written, if that is not in the metadata.
    pub mtime_ns: Option<i64>,
    /// When it was last changed.
    pub ctime_ns: i64,
}

/// The components the cache works with.
pub struct Components {
    /// Blocks on devices.
    pub store: BlockStore,
    /// Rows.
    pub meta: Arc<MetaStore>,
    /// Objects.
    pub repository: Arc<Repository>,
    /// Devices, for placement.
    pub array: Arc<DeviceArray>,
    /// Where fetches run.
    pub runtime: tokio::runtime::Handle,
}

/// The cache of one file system.
pub struct Cache {
    store: BlockStore,
    repository: Arc<Repository>,
    array: Arc<DeviceArray>,
    runtime: tokio::runtime::Handle,
    maps: Arc<FileMaps>,
    budget: Arc<MemoryBudget>,
    retained: budget::Retained,
    regions: Arc<region::RegionPool>,
    pipe: pipe::Pipe,
    fill_permits: Arc<Semaphore>,
    files: Mutex<HashMap<Ino, Weak<CachedFile>>>,
    events: OnceLock<Arc<dyn FileEvents>>,
    config: CacheConfig,
    counters: CacheCounters,
    sequential_readers: AtomicU64,
    meta: Arc<MetaStore>,
    flusher: written::Flusher,
    /// Held while references to blocks change in the metadata and what follows from that in the block store.
    references: Mutex<()>,
    released: written::Released,
    /// What was let go of and may be nobody's.
    deleted: care::Deleted,
    /// Blocks of files whose data is to stay here.
    pinned: pinned::PinnedFiles,
    /// Bytes that preloads have on their way to the devices.
    preloading: AtomicU64,
    /// Files that are not what was synced of them.
    refused: Mutex<HashSet<Ino>>,
    /// Whether anything has lost its last name since what had was freed.
    has_unlinked: AtomicBool,
}

impl Cache {
    /// A cache over these components. Starts the thread that writes file maps.
    pub fn start(components: Components, config: CacheConfig) -> Arc<Self> {
        let Components { store, meta, repository, array, runtime } = components;
        let cache = Arc::new(Cache {
            maps: FileMaps::start(Arc::clone(&meta), config.map_bytes),
            flusher: written::Flusher::new(config.dirty_bytes, config.durable),
            references: Mutex::default(),
            released: written::Released::default(),
            deleted: care::Deleted::new(),
            has_unlinked: AtomicBool::new(false),
            refused: Mutex::default(),
            pinned: pinned::PinnedFiles::new(&store),
            preloading: AtomicU64::new(0),
            meta,
            budget: Arc::new(MemoryBudget::new(config.fetch_bytes)),
            retained: budget::Retained::default(),
            regions: region::RegionPool::new(config.block_size),
            pipe: pipe::Pipe::new(std::thread::available_parallelism().map_or(1, usize::from)),
            fill_permits: Arc::new(Semaphore::new(config.fill_bytes)),
            files: Mutex::default(),
            events: OnceLock::new(),
            counters: CacheCounters::default(),
            sequential_readers: AtomicU64::new(0),
            store,
            repository,
            array,
            runtime,
            config,
        });
        written::Flusher::start(&cache);
        cache
    }

    /// Holds on to the blocks that exist only here, and pins those of files that are to stay; before that the block store drops nothing.
    pub fn hold_local(&self) -> Result<(), crate::meta::MetaError> {
        let mut missing = 0_u64;
        self.meta.references(&mut |fingerprint| missing += u64::from(!self.store.hold(fingerprint)))?;
        if missing > 0 {
            tracing::error!(
                blocks = missing,
                "data that exists only here is not on the devices in service; reading it fails until it is"
            );
        }
        self.load_pins()?;
        self.store.holds_known();
        Ok(())
    }

    /// What an inode's size and times are, where something of it is not in the metadata yet.
    pub fn unflushed(&self, ino: Ino) -> Option<Unflushed> {
        let file = self.flusher.dirty_file(ino)?;
        let state = file.written().lock();
        let allocated = self.allocated(&file, &state);
        Some(Unflushed { size: state.size, allocated, mtime_ns: state.unrecorded_mtime_ns(), ctime_ns: state.ctime_ns })
    }

    /// Sets a file's times by `set`: what a write before that would have set no longer counts, also where it is being flushed.
    pub fn set_times<T>(&self, ino: Ino, set: impl FnOnce() -> T) -> T {
        let Some(file) = self.flusher.dirty_file(ino) else { return set() };
        let _no_commit = self.without_log(&file);
        let result = set();
        file.written().lock().times_were_set();
        result
    }

    /// Whether the kernel may have pages of a file that were written through a mapping and not to us.
    pub fn may_be_mapped(&self, ino: Ino) -> bool {
        let file = self.files.lock().get(&ino).and_then(Weak::upgrade);
        file.is_some_and(|file| file.mapping_handles() > 0)
    }

    /// A file may have set-ID bits by now.
    pub fn note_set_ids(&self, ino: Ino) {
        if let Some(file) = self.files.lock().get(&ino).and_then(Weak::upgrade) {
            file.note_set_ids();
        }
    }

    /// A file has lost its last name.
    pub fn unlinked(&self, ino: Ino) {
        self.has_unlinked.store(true, Ordering::Release);
        if let Some(file) = self.files.lock().get(&ino).and_then(Weak::upgrade) {
            file.note_unlinked();
        }
    }

    /// Frees inodes without a name that nobody has in use, and lets go of their blocks.
    pub fn free_orphans(&self) -> Result<u64, crate::meta::MetaError> {
        let _references = self.references.lock();
        self.has_unlinked.store(false, Ordering::Release);
        let in_use = |ino| {
            let in_use = self.in_use(ino);
            self.has_unlinked.fetch_or(in_use, Ordering::AcqRel);
            in_use
        };
        let freed = self.meta.free_orphans(&in_use, &mut |released| self.release(&released))?;
        if freed > 0 {
            self.pinned.note_stale();
        }
        Ok(freed)
    }

    /// Frees what deleted snapshots kept, a bounded number of rows at a time, until `stop`.
    pub fn reclaim_snapshots(&self, stop: &dyn Fn() -> bool) -> Result<(), crate::meta::MetaError> {
        // Whoever writes comes in between.
        let enter = || (!stop()).then(|| self.references.lock());
        self.meta.reclaim_snapshots(&enter, &mut |released| self.release(&released))
    }

    /// Bytes written and not yet on a device.
    pub fn dirty_bytes(&self) -> usize {
        self.flusher.used()
    }

    /// Sets whom to tell what fetches learn about objects; once.
    pub fn set_events(&self, events: Arc<dyn FileEvents>) {
        let _ = self.events.set(events);
    }

    /// The shared state of a file. Where nobody has it in use it is made from `spec`, which reads the metadata only then: nothing of
    /// the file can be on its way there.
    pub fn file(&self, ino: Ino, spec: impl FnOnce() -> Result<FileSpec, Error>) -> Result<Arc<CachedFile>, Error> {
        self.check_refused(ino)?;
        let mut files = self.files.lock();
        if let Some(file) = files.get(&ino).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = Arc::new(CachedFile::new(spec()?, self.config.block_size));
        files.insert(file.ino(), Arc::downgrade(&file));
        // Dead entries are swept when they outnumber the living, so that the table stays proportional to files in use.
        if files.len() >= 1024 && files.len().is_power_of_two() {
            files.retain(|_, file| file.strong_count() > 0);
        }
        Ok(file)
    }

    /// Whether a file may be got at.
    pub fn check_refused(&self, ino: Ino) -> Result<(), Error> {
        if self.refused.lock().contains(&ino) {
            return Err(Error::new(ErrorKind::Io, format!("what was synced of {ino} is on a device that is not in service")));
        }
        Ok(())
    }

    /// Has nobody get at a file any more.
    pub fn refuse(&self, ino: Ino) {
        self.refused.lock().insert(ino);
    }

    /// Whether anybody has a file open for writing.
    pub fn has_writers(&self, ino: Ino) -> bool {
        self.files.lock().get(&ino).and_then(Weak::upgrade).is_some_and(|file| file.has_writers())
    }

    /// Whether a file's state is in use: open, being fetched, or fetched ahead.
    pub fn in_use(&self, ino: Ino) -> bool {
        self.files.lock().get(&ino).is_some_and(|file| file.strong_count() > 0)
    }

    /// Counters since start.
    pub fn counters(&self) -> &CacheCounters {
        &self.counters
    }

    /// The memory budget of fetches, which the process's memory governor shrinks and restores.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Drops data fetched ahead that nobody has read yet and that is on a device; the governor calls it under pressure.
    pub fn release_retained(&self) {
        self.retained.clear();
        self.regions.clear();
    }

    /// Gives back memory kept for fetches if there have been none since the last call; the governor calls it now and then.
    pub fn trim(&self) {
        self.regions.trim();
    }

    /// Waits until every block handed to the block store was answered, unless devices hang: then for [`DRAIN`] at most.
    pub fn drain(&self) {
        let until = Instant::now() + DRAIN;
        while self.fill_permits.available_permits() < self.config.fill_bytes && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Has the metadata say of everything that was cached so far where it is.
    pub fn record_maps(&self) {
        self.maps.commit_pending();
    }

    /// Writes what is pending to the file maps and stops the thread that does so.
    pub fn close(&self) {
        self.close_flusher();
        self.retained.clear();
        self.maps.close();
    }

    fn count_hit(&self, bytes: usize) {
        self.counters.hit_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
