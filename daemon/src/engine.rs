//! The composition root: settings in, a running file system out.

mod cache_dir;
mod memory;

use crate::block::{BlockStore, BlockStoreConfig};
use crate::cache::{Cache, CacheConfig, Components};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Deployment, Settings};
use crate::control::types::{DeviceStatus, Requests, Status, Unexported};
use crate::ids::FsId;
use crate::io::uring::{UringDevice, UringOptions};
use crate::io::{BufferPool, Device};
use crate::meta::engine::Engine;
use crate::meta::{DefaultAttrs, MetaConfig, MetaStore};
use crate::repository::retry::RetryConfig;
use crate::repository::{self, ObjectStore, Repository, RepositoryConfig};
use crate::stripe::{DeviceArray, DeviceReport, Layout};
use crate::task::export::Export;
use crate::task::import::Import;
use crate::task::{TaskConfig, TaskParts, Tasks};
use crate::units::MIB;
use crate::vfs::{Vfs, VfsConfig, VfsParts};
use cache_dir::CacheDir;
use memory::Shares;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Why a file system could not start: one line that names the thing, the cause and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// How often orphaned rows are swept, commits are made durable, and devices out of service are tried again.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Largest read-ahead window of one stream: 16 ranges of 8 MiB, what it takes to fill 1.4 GB/s at 90 MB/s per connection.
const WINDOW: u64 = 128 * MIB;

/// The components that a test may replace; [`FileSystem::start`] makes the real ones.
pub struct World {
    /// The object store.
    pub store: Arc<dyn ObjectStore>,
    /// The key prefix of the root.
    pub key_prefix: String,
    /// Time.
    pub clock: SharedClock,
    /// Devices instead of files in the cache directories, one for each.
    pub devices: Option<Vec<Arc<dyn Device>>>,
    /// A metadata engine instead of the one in the first cache directory.
    pub metadata: Option<Box<dyn Engine>>,
    /// Called when memory runs short, to have the allocator return what it holds.
    pub give_back: fn(),
}

/// A running file system, not yet mounted anywhere.
pub struct FileSystem {
    settings: Settings,
    clock: SharedClock,
    started: Duration,
    vfs: Vfs,
    tasks: Tasks,
    cache: Arc<Cache>,
    blocks: BlockStore,
    meta: Arc<MetaStore>,
    repository: Arc<Repository>,
    array: Arc<DeviceArray>,
    dirs: Vec<CacheDir>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    handle: tokio::runtime::Handle,
}

impl FileSystem {
    /// Checks the bucket, opens or formats the cache, and starts everything. Blocks; starts its own tokio runtime.
    pub fn start(settings: Settings, give_back: fn()) -> Result<Self, StartError> {
        let clock = SystemClock::shared();
        let (store, key_prefix) = repository::open(&settings.repository).map_err(|error| StartError(error.to_string()))?;
        Self::start_in(settings, World { store, key_prefix, clock, devices: None, metadata: None, give_back })
    }

    /// The same with given components.
    pub fn start_in(settings: Settings, world: World) -> Result<Self, StartError> {
        check_copies(&settings)?;
        let World { store, key_prefix, clock, devices, metadata, give_back } = world;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("fby-net").build();
        let runtime = runtime.map_err(|error| StartError(format!("threads could not be started: {error}")))?;
        let handle = runtime.handle().clone();
        let retry = RetryConfig { deadline: settings.repository.deadline, ..RetryConfig::default() };
        // Daemons that were turned away together must not come back together.
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let config = RepositoryConfig { retry, seed, ..RepositoryConfig::default() };
        let repository = Arc::new(Repository::new(store, config, Arc::clone(&clock)));
        // Before anything on disk is touched: a wrong bucket or wrong credentials must leave no trace.
        handle.block_on(repository.check_access(&key_prefix)).map_err(|error| StartError(error.to_string()))?;

        let shares = Shares::of(settings.memory_target.0, settings.dirty_copies);
        let dirs = lock_dirs(&settings)?;
        warn_of_shared_disks(&settings);
        let meta = Arc::new(open_meta(&settings, &dirs[0], metadata, shares, clock.wall_ns())?);
        let fs = identity(&meta, &settings)?;
        let pool = BufferPool::new(shares.arena);
        let array = match devices {
            Some(devices) => DeviceArray::new(devices),
            None => open_devices(&settings, &dirs, &pool)?,
        };
        let blocks = open_blocks(&settings, &array, pool, fs, shares)?;
        let components = Components {
            store: blocks.clone(),
            meta: Arc::clone(&meta),
            repository: Arc::clone(&repository),
            array: Arc::clone(&array),
            runtime: handle.clone(),
        };
        let config = CacheConfig {
            block_size: Settings::BLOCK_SIZE,
            fetch_bytes: shares.fetch,
            map_bytes: shares.maps as u64,
            fill_bytes: shares.fill,
            window_bytes: WINDOW,
            dirty_bytes: shares.dirty,
            durable: settings.deployment == Deployment::Persistent,
        };
        let cache = Cache::start(components, config);
        cache.hold_local().map_err(|error| StartError(format!("metadata: {error}")))?;
        let parts = VfsParts {
            meta: Arc::clone(&meta),
            cache: Arc::clone(&cache),
            store: blocks.clone(),
            repository: Arc::clone(&repository),
            clock: Arc::clone(&clock),
            runtime: handle.clone(),
        };
        let layout = Layout { stripe_count: settings.stripe_count, stripe_size: settings.stripe_size.0 };
        let config = VfsConfig {
            key_prefix,
            metadata_ttl: settings.metadata_ttl,
            posix_metadata: settings.posix_metadata,
            layout,
            identity: u128::from_be_bytes(fs.0),
            auto_export: settings.auto_export,
            export_bytes: shares.export as u64,
        };
        let vfs = Vfs::new(parts, config);
        vfs.redo_intents().map_err(|error| StartError(error.to_string()))?;
        let tasks = TaskParts {
            meta: Arc::clone(&meta),
            clock: Arc::clone(&clock),
            runtime: handle.clone(),
            spools: dirs[0].tasks(),
            jobs: vec![Arc::new(Import::new(vfs.clone())), Arc::new(Export::new(vfs.clone()))],
        };
        let tasks = Tasks::start(tasks, TaskConfig::default()).map_err(|error| StartError(format!("tasks: {error}")))?;
        let target = settings.memory_target.0;
        handle.spawn(memory::govern(Arc::downgrade(&cache), target, give_back));
        let this = FileSystem {
            started: clock.monotonic(),
            settings,
            clock,
            vfs,
            tasks,
            cache,
            blocks,
            meta,
            repository,
            array,
            dirs,
            runtime: Mutex::new(Some(runtime)),
            handle,
        };
        this.keep_house();
        if this.settings.auto_export.is_on() {
            this.vfs.start_auto_export();
        }
        Ok(this)
    }

    /// The operations.
    pub fn vfs(&self) -> &Vfs {
        &self.vfs
    }

    /// The tasks.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Where futures of [`crate::vfs::Answer::Pending`] run.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.handle
    }

    /// The settings it runs with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Keys of the bucket that no POSIX tree can hold, seen so far, with the reason; at most `limit`, and their number.
    pub fn hidden_keys(&self, limit: usize) -> crate::error::Result<(Vec<(String, String)>, u64)> {
        self.meta.hidden_keys(limit).map_err(|error| crate::error::Error::new(crate::error::ErrorKind::Io, error.to_string()))
    }

    fn unexported(&self) -> Unexported {
        let (changes, oldest_ns) = self.meta.count_changes().unwrap_or_default();
        let age_ns = oldest_ns.map_or(0, |oldest| self.clock.wall_ns().saturating_sub(oldest).max(0));
        let auto = self.vfs.auto_export_status();
        Unexported {
            changes,
            oldest_seconds: age_ns.unsigned_abs() / 1_000_000_000,
            automatic: self.settings.auto_export.is_on(),
            failing: auto.failing,
            last_failure: auto.last_failure,
        }
    }

    /// What `forebay status` shows of this file system; the mount point is filled in by the caller.
    pub fn status(&self) -> Status {
        let counters = self.cache.counters();
        let requests = self.repository.counters();
        Status {
            repository: self.settings.repository.url.clone(),
            mountpoint: String::new(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: (self.clock.monotonic() - self.started).as_secs(),
            deployment: format!("{:?}", self.settings.deployment).to_lowercase(),
            cache: self.blocks.stats(),
            devices: self.devices(),
            memory_bytes: memory::resident_bytes(),
            memory_target_bytes: self.settings.memory_target.0,
            hit_bytes: counters.hit_bytes.load(Ordering::Relaxed),
            fetched_bytes: counters.fetched_bytes.load(Ordering::Relaxed),
            requests: Requests {
                get: requests.get,
                head: requests.head,
                list: requests.list,
                put: requests.put,
                delete: requests.delete,
                copy: requests.copy,
                multipart: requests.multipart,
                retries: requests.retries,
            },
            unexported: self.unexported(),
            hidden_keys: self.meta.hidden_keys(0).map_or(0, |(_, count)| count),
            dirty_bytes: self.cache.dirty_bytes() as u64,
            dirty_copies: self.settings.dirty_copies,
            lacking_copies: self.blocks.lacking_copies(),
        }
    }

    fn devices(&self) -> Vec<DeviceStatus> {
        let status = |(device, dir): (DeviceReport, &CacheDir)| DeviceStatus {
            path: dir.path().display().to_string(),
            capacity_bytes: device.capacity_bytes,
            in_service: device.in_service,
            errors: device.errors,
            read_bytes: device.counters.read_bytes,
            written_bytes: device.counters.written_bytes,
            reads: device.counters.reads,
            writes: device.counters.writes,
        };
        self.array.report().into_iter().zip(&self.dirs).map(status).collect()
    }

    /// Waits until all that was fetched so far is on the devices and in the file maps.
    pub fn flush(&self) {
        self.cache.drain();
        if let Err(error) = self.blocks.flush() {
            tracing::warn!(%error, "some fetched data did not reach the cache");
        }
        self.cache.drain();
    }

    fn keep_house(&self) {
        let (vfs, cache, array) = (self.vfs.clone(), Arc::downgrade(&self.cache), Arc::downgrade(&self.array));
        let clock = Arc::clone(&self.clock);
        self.handle.spawn(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING).await;
                let (Some(cache), Some(array)) = (cache.upgrade(), array.upgrade()) else { return };
                let (vfs, clock) = (vfs.clone(), Arc::clone(&clock));
                let work = move || {
                    array.probe_tick(clock.monotonic());
                    if let Err(error) = vfs.free_orphans() {
                        tracing::warn!(%error, "rows of deleted objects could not be freed");
                    }
                    if let Err(error) = cache.make_durable() {
                        tracing::warn!(%error, "metadata could not be made durable");
                    }
                    if let Err(error) = vfs.continue_counting() {
                        tracing::warn!(%error, "what is here could not be counted for quotas; it is tried again");
                    }
                };
                let _ = tokio::task::spawn_blocking(work).await;
            }
        });
    }

    /// Flushes and stops. Idempotent.
    pub fn shutdown(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        self.vfs.stop_auto_export();
        self.tasks.close();
        // Fetches end first: they are what brings work to the rest.
        runtime.shutdown_timeout(Duration::from_secs(5));
        self.vfs.close();
        self.flush();
        self.cache.close();
        self.blocks.close();
        match self.meta.flush() {
            Ok(()) if self.settings.deployment == Deployment::Scratch => self.dirs[0].end_scratch(),
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "metadata could not be made durable"),
        }
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Two copies are on two devices, and are for what is to outlive a crash.
fn check_copies(settings: &Settings) -> Result<(), StartError> {
    let why_not = match settings {
        Settings { dirty_copies: 0 | 1, .. } => return Ok(()),
        Settings { cache_dirs, .. } if cache_dirs.len() < 2 => {
            "there is one cache directory, and the copies go to two devices; give --cache twice, on different disks"
        }
        Settings { deployment: Deployment::Scratch, .. } => {
            "a scratch deployment promises nothing about what is written; leave one of the two out"
        }
        _ => return Ok(()),
    };
    Err(StartError(format!("--dirty-copies {}: {why_not}", settings.dirty_copies)))
}

/// Copies on one disk are lost together. All that can be told is whether the directories are on one file system.
fn warn_of_shared_disks(settings: &Settings) {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::HashSet::new();
    let shared = settings.cache_dirs.iter().find(|dir| std::fs::metadata(dir).is_ok_and(|found| !seen.insert(found.dev())));
    if let Some(dir) = shared.filter(|_| settings.dirty_copies > 1) {
        tracing::warn!(dir = %dir.display(), "--dirty-copies 2: this cache directory is on the same file system as another, and both may be lost at once");
    }
}

fn lock_dirs(settings: &Settings) -> Result<Vec<CacheDir>, StartError> {
    let dirs = settings.cache_dirs.iter().map(|path| CacheDir::lock(path)).collect::<Result<Vec<_>, _>>()?;
    if settings.deployment == Deployment::Scratch && dirs[0].begin_scratch(&dirs)? {
        tracing::warn!(
            "the last scratch mount did not end cleanly: its cache starts empty, and what was written there and not exported is lost"
        );
    }
    Ok(dirs)
}

fn open_meta(
    settings: &Settings,
    dir: &CacheDir,
    engine: Option<Box<dyn Engine>>,
    shares: Shares,
    now_ns: i64,
) -> Result<MetaStore, StartError> {
    let defaults =
        DefaultAttrs { uid: settings.uid, gid: settings.gid, file_perm: settings.file_mode, dir_perm: settings.dir_mode };
    let config = MetaConfig { memory_bytes: shares.metadata };
    let opened = match engine {
        Some(engine) => MetaStore::with_engine(engine, defaults, now_ns),
        None => MetaStore::open(&dir.metadata(), config, defaults, now_ns),
    };
    opened.map_err(|error| {
        let path = dir.metadata();
        StartError(format!(
            "metadata in {}: {error}; if it is damaged, remove the cache directory's contents to start anew",
            path.display()
        ))
    })
}

/// The identity of the cache: made with its first mount, checked against the repository at each.
fn identity(meta: &MetaStore, settings: &Settings) -> Result<FsId, StartError> {
    let failed = |error: crate::meta::MetaError| StartError(format!("metadata: {error}"));
    let dir = settings.cache_dirs[0].display();
    let here = format!("{} {}", settings.repository.url, settings.repository.endpoint_url.as_deref().unwrap_or_default());
    if let Some(id) = meta.setting("fs-id").map_err(failed)? {
        let of = meta.setting("repository").map_err(failed)?.unwrap_or_default();
        let of = String::from_utf8_lossy(&of);
        if of != here {
            let of = of.trim();
            return Err(StartError(format!(
                "cache directory {dir} belongs to {of}; give {} its own --cache",
                settings.repository.url
            )));
        }
        let id =
            id.try_into().map_err(|_| StartError(format!("cache directory {dir}: damaged identity; empty it to start anew")))?;
        return Ok(FsId(id));
    }
    let id = FsId(*uuid::Uuid::new_v4().as_bytes());
    meta.set_setting("repository", here.as_bytes()).map_err(failed)?;
    meta.set_setting("fs-id", &id.0).map_err(failed)?;
    meta.flush().map_err(failed)?;
    Ok(id)
}

fn open_devices(settings: &Settings, dirs: &[CacheDir], pool: &BufferPool) -> Result<Arc<DeviceArray>, StartError> {
    let open = |dir: &CacheDir| {
        let len = dir.capacity(settings.cache_size)?;
        let device = UringDevice::open(&dir.segments(), len, pool, UringOptions::default());
        let device = device.map_err(|error| StartError(format!("cache directory {}: {error}", dir.path().display())))?;
        Ok(Arc::new(device) as Arc<dyn Device>)
    };
    Ok(DeviceArray::new(dirs.iter().map(open).collect::<Result<Vec<_>, StartError>>()?))
}

fn open_blocks(
    settings: &Settings,
    array: &Arc<DeviceArray>,
    pool: BufferPool,
    fs: FsId,
    shares: Shares,
) -> Result<BlockStore, StartError> {
    let config = BlockStoreConfig {
        block_size: Settings::BLOCK_SIZE,
        compress: settings.compression,
        dedup: settings.dedup,
        header_cache_bytes: shares.headers,
        encoder_threads: std::thread::available_parallelism().map_or(2, |n| n.get().min(8)),
        segment_bytes: None,
        // The cache bounds what it hands over by itself, below this: `put` is called from async tasks and must not block.
        put_bytes: shares.fill * 2 + shares.dirty,
        // Told by the metadata, once both are open.
        holds_follow: true,
        copies: settings.dirty_copies,
    };
    BlockStore::open(Arc::clone(array), pool, fs, config).map_err(|error| StartError(error.to_string()))
}
