//! What goes over the control socket.

use crate::block::BlockStats;
use serde::{Deserialize, Serialize};

/// One device of the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// The cache directory.
    pub path: String,
    /// Bytes Forebay may use on it.
    pub capacity_bytes: u64,
    /// Whether it is in service.
    pub in_service: bool,
    /// Requests that failed since start.
    pub errors: u64,
    /// Bytes read since start.
    pub read_bytes: u64,
    /// Bytes written since start.
    pub written_bytes: u64,
    /// Read requests since start.
    pub reads: u64,
    /// Write requests since start.
    pub writes: u64,
}

/// What `forebay status` shows of one mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The repository's URL.
    pub repository: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// The daemon's process id.
    pub pid: u32,
    /// Forebay's version.
    pub version: String,
    /// Seconds since the mount.
    pub uptime_seconds: u64,
    /// `persistent` or `scratch`.
    pub deployment: String,
    /// The block store's figures.
    pub cache: BlockStats,
    /// The devices.
    pub devices: Vec<DeviceStatus>,
    /// Resident memory in bytes, and the bound on it.
    pub memory_bytes: u64,
    /// `--memory-target`.
    pub memory_target_bytes: u64,
    /// Bytes served from the cache since start.
    pub hit_bytes: u64,
    /// Bytes fetched from the store since start.
    pub fetched_bytes: u64,
    /// Requests sent to the store since start: GET, HEAD, LIST.
    pub requests: Requests,
    /// Keys of the bucket that no POSIX tree can hold, seen so far.
    pub hidden_keys: u64,
    /// Bytes that exist only here.
    pub dirty_bytes: u64,
}

/// Requests to the store, by operation.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Requests {
    /// GETs.
    pub get: u64,
    /// HEADs.
    pub head: u64,
    /// LISTs.
    pub list: u64,
    /// Tries that were repeated.
    pub retries: u64,
}
