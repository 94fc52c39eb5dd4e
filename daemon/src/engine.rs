//! The composition root: settings in, a running file system out.

mod cache_dir;
mod care;
mod memory;
mod offline;
mod published;
mod watching;

pub use offline::{OfflineCheck, check_offline};

use crate::block::{BlockStore, BlockStoreConfig};
use crate::cache::{Cache, CacheConfig, Components};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Deployment, MetadataTtl, PosixMetadata, RepositorySettings, Settings};
use crate::control::dra::AssociationInfo;
use crate::control::types::{DeviceStatus, Requests, Status, Unexported};
use crate::ids::{AssociationId, FsId};
use crate::io::uring::{UringDevice, UringOptions};
use crate::io::{BufferPool, Device};
use crate::meta::engine::Engine;
use crate::meta::{DefaultAttrs, EventBits, MetaConfig, MetaStore, REPOSITORY_SETTING};
use crate::repository::queue::EventQueue;
use crate::repository::retry::RetryConfig;
use crate::repository::{self, Opened, Repository, RepositoryConfig};
use crate::stripe::{DeviceArray, DeviceReport, Layout};
use crate::task::export::Export;
use crate::task::import::Import;
use crate::task::materialize::Materialize;
use crate::task::preload::Preload;
use crate::task::release::Release;
use crate::task::watch::{AutoImportStatus, Watch};
use crate::task::{ReportStores, TaskConfig, TaskParts, Tasks};
use crate::units::MIB;
use crate::vfs::{AssociationView, EVENT_QUEUE_URL, RootAssociation, Vfs, VfsConfig, VfsParts};
use cache_dir::CacheDir;
use memory::Shares;
use parking_lot::Mutex;
use published::{Manifest, Stand};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use watching::Watching;

/// Why a file system could not start: one line that names the thing, the cause and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// How often orphaned rows are swept, commits are made durable, and devices out of service are tried again.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long freeing what deleted snapshots kept may take at a time: other work waits behind it.
const RECLAIM_FOR: Duration = Duration::from_millis(500);
/// Largest read-ahead window of one stream: 16 ranges of 8 MiB, what it takes to fill 1.4 GB/s at 90 MB/s per connection.
const WINDOW: u64 = 128 * MIB;

/// The components that a test may replace; [`FileSystem::start`] makes the real ones.
pub struct World {
    /// The root's object store and key prefix; `None` where the root is to have no bucket.
    pub root: Option<Opened>,
    /// The queue of the root's bucket's events, in place of the one that the settings name.
    pub event_queue: Option<Arc<dyn EventQueue>>,
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
    watching: Watching,
    care: care::Care,
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
        let root = match settings.repository.is_none() {
            true => None,
            false => Some(repository::open(&settings.repository).map_err(|error| StartError(error.to_string()))?),
        };
        Self::start_in(settings, World { root, event_queue: None, clock, devices: None, metadata: None, give_back })
    }

    /// The same with given components.
    pub fn start_in(settings: Settings, world: World) -> Result<Self, StartError> {
        check_copies(&settings)?;
        let World { root, event_queue, clock, devices, metadata, give_back } = world;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("fby-net").build();
        let runtime = runtime.map_err(|error| StartError(format!("threads could not be started: {error}")))?;
        let handle = runtime.handle().clone();
        let retry = RetryConfig { deadline: settings.repository.deadline, ..RetryConfig::default() };
        // Daemons that were turned away together must not come back together.
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let config = RepositoryConfig { retry, seed, ..RepositoryConfig::default() };
        let repository = Arc::new(Repository::empty(config, Arc::clone(&clock)));
        let key_prefix = root.as_ref().map_or_else(String::new, |(_, prefix)| prefix.clone());
        if let Some((store, _)) = root {
            repository.link(AssociationId::ROOT, store);
            // Before anything on disk is touched: a wrong bucket or wrong credentials must leave no trace.
            handle.block_on(repository.check_access(&key_prefix)).map_err(|error| StartError(error.to_string()))?;
        }

        let manifest = handle.block_on(Manifest::find(&settings, &key_prefix, &repository))?;

        let shares = Shares::of(settings.memory_target.0, settings.dirty_copies);
        let dirs = lock_dirs(&settings)?;
        warn_of_shared_disks(&settings);
        let mut meta = open_meta(&settings, &dirs[0], metadata, shares, clock.wall_ns())?;
        let mut fs = identity(&meta, &settings)?;
        if let Some(manifest) = &manifest {
            let stand = manifest.stand(&meta, &settings)?;
            if stand == Stand::Begun {
                // Before anything else is in the cache: nothing else is lost.
                drop(meta);
                dirs[0].forget_metadata()?;
                meta = open_meta(&settings, &dirs[0], None, shares, clock.wall_ns())?;
                fs = identity(&meta, &settings)?;
            }
            if stand != Stand::Loaded {
                handle.block_on(manifest.load(&meta, &repository))?;
            }
        }
        let meta = Arc::new(meta);
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
            // A snapshot does not change, and its manifest says all there is to be known.
            metadata_ttl: manifest.as_ref().map_or(settings.metadata_ttl, |_| MetadataTtl::Indefinite),
            posix_metadata: manifest.as_ref().map_or(settings.posix_metadata, |_| PosixMetadata::Off),
            layout,
            identity: u128::from_be_bytes(fs.0),
            store_deadline: settings.repository.deadline,
            export_bytes: shares.export as u64,
        };
        let vfs = Vfs::new(parts, config);
        vfs.start_associations(root_association(&settings)).map_err(|error| StartError(format!("associations: {error}")))?;
        vfs.redo_intents().map_err(|error| StartError(error.to_string()))?;
        let tasks = TaskParts {
            meta: Arc::clone(&meta),
            clock: Arc::clone(&clock),
            runtime: handle.clone(),
            spools: dirs[0].tasks(),
            reports: ReportStores {
                repository: Arc::clone(&repository),
                settings: settings.repository.clone(),
                identity: u128::from_be_bytes(fs.0),
                clock: Arc::clone(&clock),
                runtime: handle.clone(),
            },
            jobs: vec![
                Arc::new(Import::new(vfs.clone())),
                Arc::new(Export::new(vfs.clone())),
                Arc::new(Release::new(vfs.clone())),
                Arc::new(Preload::new(vfs.clone())),
                Arc::new(Materialize::new(vfs.clone())),
            ],
        };
        let tasks = Tasks::start(tasks, TaskConfig::default()).map_err(|error| StartError(format!("tasks: {error}")))?;
        let target = settings.memory_target.0;
        handle.spawn(memory::govern(Arc::downgrade(&cache), target, give_back));
        let watching = Watching {
            vfs: vfs.clone(),
            watch: Watch::new(vfs.clone(), handle.clone(), settings.polling),
            repository: Arc::clone(&repository),
            root_queue: event_queue,
        };
        let renewed = watching.clone();
        vfs.on_change_of_associations(Box::new(move || renewed.renew()));
        let this = FileSystem {
            watching,
            care: care::Care::default(),
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
        this.vfs.start_auto_export();
        this.watching.renew();
        Ok(this)
    }

    /// How automatic import is doing, for each watched directory.
    pub fn auto_import_status(&self) -> Vec<AutoImportStatus> {
        self.watching.watch.status()
    }

    /// Automatic import: to list now what would be listed later.
    pub fn watch(&self) -> &Watch {
        &self.watching.watch
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
            automatic: self.vfs.exports_by_itself(),
            failing: auto.failing,
            last_failure: auto.last_failure,
        }
    }

    /// An association, and how automatic import is doing there.
    pub fn association_info(&self, view: AssociationView) -> AssociationInfo {
        let auto_import_status = self.watching.status_of(view.root);
        AssociationInfo { auto_import_status, ..view.into() }
    }

    /// What `forebay status` shows of this file system; the mount point is filled in by the caller.
    pub fn status(&self) -> Status {
        let counters = self.cache.counters();
        let requests = self.repository.counters();
        Status {
            repository: self.settings.source(),
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
            associations: self.vfs.associations().into_iter().map(|view| self.association_info(view)).collect(),
            auto_import: self.auto_import_status(),
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
                    let began = std::time::Instant::now();
                    if let Err(error) = vfs.finish_clones(&|| began.elapsed() > RECLAIM_FOR) {
                        tracing::warn!(%error, "what is still to be made of a clone could not be made; it is tried again");
                    }
                    if let Err(error) = vfs.reclaim_snapshots(&|| began.elapsed() > RECLAIM_FOR) {
                        tracing::warn!(%error, "what deleted snapshots kept could not be freed; it is tried again");
                    }
                    if let Err(error) = cache.make_durable() {
                        tracing::warn!(%error, "metadata could not be made durable");
                    }
                    if let Err(error) = cache.forget_deleted() {
                        tracing::warn!(%error, "blocks of removed files could not be dropped; they go when room is needed");
                    }
                    if let Err(error) = cache.tend_pins() {
                        tracing::warn!(%error, "pins that nobody needs could not be found; it is tried again");
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
        self.care.close();
        self.vfs.stop_auto_export();
        self.watching.watch.stop();
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

/// What the mount says of the root's bucket, if it names one. A snapshot is linked to nothing: it is read from the bucket, and neither listed nor exported.
fn root_association(settings: &Settings) -> Option<RootAssociation> {
    (!settings.repository.is_none() && settings.snapshot.is_none()).then(|| RootAssociation {
        settings: settings.repository.clone(),
        auto_import: settings.auto_import.map(|auto| EventBits::new(auto.new, auto.changed, auto.deleted)),
        auto_export: settings.auto_export,
        further: settings.event_queue_url.iter().map(|url| (EVENT_QUEUE_URL.to_owned(), url.clone())).collect(),
    })
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
    let here = format!("{} {}", settings.source(), settings.repository.endpoint_url.as_deref().unwrap_or_default());
    if let Some(id) = meta.setting("fs-id").map_err(failed)? {
        let of = meta.setting(REPOSITORY_SETTING).map_err(failed)?.unwrap_or_default();
        let of = String::from_utf8_lossy(&of);
        if of.trim_end() != here.trim_end() {
            let url = settings.source();
            let why = match of.trim() {
                RepositorySettings::NONE => {
                    format!("has a root without a bucket; mount it as 'none', or give {url} its own --cache")
                }
                of if settings.repository.is_none() => format!("belongs to {of}; mount it so, or give another --cache"),
                of => format!("belongs to {of}; give {url} its own --cache"),
            };
            return Err(StartError(format!("cache directory {dir} {why}")));
        }
        let id =
            id.try_into().map_err(|_| StartError(format!("cache directory {dir}: damaged identity; empty it to start anew")))?;
        return Ok(FsId(id));
    }
    let id = FsId(*uuid::Uuid::new_v4().as_bytes());
    meta.set_setting(REPOSITORY_SETTING, here.trim_end().as_bytes()).map_err(failed)?;
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
