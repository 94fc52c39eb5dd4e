//! Checking a file system that is not mounted: its cache directories are locked and opened, and no bucket is asked for anything.
//!
//! Invariants:
//! 1. Directories that hold no cache are refused, and nothing is made in them.
//! 2. Nothing in the block store is dropped, moved or copied: it is never told that all holds are known. What opening it writes is what every start writes.

use super::cache_dir::CacheDir;
use super::{StartError, WINDOW};
use crate::block::{BlockStore, BlockStoreConfig};
use crate::cache::care::{FsckOptions, FsckReport, Watch};
use crate::cache::{Cache, CacheConfig, Components};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::ids::FsId;
use crate::io::uring::{UringDevice, UringOptions};
use crate::io::{BufferPool, Device};
use crate::meta::{DefaultAttrs, MetaConfig, MetaStore};
use crate::repository::{Repository, RepositoryConfig};
use crate::stripe::DeviceArray;
use crate::units::MIB;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Memory for each of the parts that want some.
const MEMORY: u64 = 64 * MIB;

/// What to check, and as whom to own what is found.
#[derive(Clone, Debug)]
pub struct OfflineCheck {
    /// The cache directories, in the order of the mount.
    pub dirs: Vec<PathBuf>,
    /// Whether to repair the metadata.
    pub repair: bool,
    /// Whether to read all data as well; so many bytes a second.
    pub data_rate: Option<u64>,
    /// Copies that there are to be of what exists only here.
    pub copies: u8,
    /// Owner and group of what has lost them.
    pub owner: (u32, u32),
}

/// Checks a file system that is not mounted.
pub fn check_offline(check: &OfflineCheck, watch: &Watch) -> Result<FsckReport, StartError> {
    let dirs = lock(&check.dirs)?;
    let clock = SystemClock::shared();
    let (uid, gid) = check.owner;
    let defaults = DefaultAttrs { uid, gid, file_perm: 0o644, dir_perm: 0o755 };
    let config = MetaConfig { memory_bytes: MEMORY as usize };
    let failed = |error: crate::meta::MetaError| StartError(format!("metadata in {}: {error}", dirs[0].metadata().display()));
    let meta = Arc::new(MetaStore::open(&dirs[0].metadata(), config, defaults, clock.wall_ns()).map_err(failed)?);
    let identity = meta.setting("fs-id").map_err(failed)?.and_then(|id| <[u8; 16]>::try_from(id).ok());
    let no_identity = || StartError(format!("cache directory {}: nothing was ever mounted with it", dirs[0].path().display()));
    let fs = FsId(identity.ok_or_else(no_identity)?);
    let pool = BufferPool::new(MEMORY as usize);
    let array = open_devices(&dirs, &pool)?;
    let config = BlockStoreConfig {
        block_size: Settings::BLOCK_SIZE,
        // See both copies, wherever there may be two.
        copies: dirs.len().min(2) as u8,
        holds_follow: true,
        ..BlockStoreConfig::default()
    };
    let store = BlockStore::open(Arc::clone(&array), pool, fs, config).map_err(|error| StartError(error.to_string()))?;
    // So that what exists only here is told from what is cached. That this is all is not said (invariant 2).
    let mut hold = |fingerprint: u64| {
        store.hold(fingerprint);
    };
    meta.references(&mut hold).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| StartError(format!("threads could not be started: {error}")))?;
    let components = Components {
        store,
        meta: Arc::clone(&meta),
        repository: Arc::new(Repository::empty(RepositoryConfig::default(), Arc::clone(&clock))),
        array,
        runtime: runtime.handle().clone(),
    };
    let config = CacheConfig {
        block_size: Settings::BLOCK_SIZE,
        fetch_bytes: MEMORY as usize,
        map_bytes: MEMORY,
        fill_bytes: MEMORY as usize,
        window_bytes: WINDOW,
        dirty_bytes: MEMORY as usize,
        durable: true,
    };
    let cache = Cache::start(components, config);
    let options = FsckOptions { repair: check.repair, data: check.data_rate, is_mounted: false, copies: check.copies };
    let report = cache.fsck(&options, clock.wall_ns(), watch, &mut |_, _| {});
    cache.close();
    let report = report.map_err(failed)?;
    meta.flush().map_err(failed)?;
    Ok(report)
}

fn lock(paths: &[PathBuf]) -> Result<Vec<CacheDir>, StartError> {
    let no_cache =
        |path: &Path| StartError(format!("{} is not a cache directory; give those of the mount, in their order", path.display()));
    for (at, path) in paths.iter().enumerate() {
        if !path.join("segments").is_file() || (at == 0 && !path.join("metadata").is_dir()) {
            return Err(no_cache(path));
        }
    }
    paths.iter().map(|path| CacheDir::lock(path)).collect()
}

fn open_devices(dirs: &[CacheDir], pool: &BufferPool) -> Result<Arc<DeviceArray>, StartError> {
    let open = |dir: &CacheDir| {
        let device = UringDevice::open(&dir.segments(), dir.capacity(None)?, pool, UringOptions::default());
        let device = device.map_err(|error| StartError(format!("cache directory {}: {error}", dir.path().display())))?;
        Ok(Arc::new(device) as Arc<dyn Device>)
    };
    Ok(DeviceArray::new(dirs.iter().map(open).collect::<Result<Vec<_>, StartError>>()?))
}
