//! What goes over the control socket.

use super::dra::AssociationInfo;
use crate::block::BlockStats;
use crate::error::{Error, ErrorKind};
use crate::task::watch::AutoImportStatus;
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
    /// Requests sent to the store since start.
    pub requests: Requests,
    /// Keys of the bucket that no POSIX tree can hold, seen so far.
    pub hidden_keys: u64,
    /// Bytes that exist only here.
    pub dirty_bytes: u64,
    /// `--dirty-copies`.
    #[serde(default)]
    pub dirty_copies: u8,
    /// Blocks that exist only here and lack their second copy.
    #[serde(default)]
    pub lacking_copies: u64,
    /// What the bucket does not have yet.
    #[serde(default)]
    pub unexported: Unexported,
    /// Which directories are linked to which buckets.
    #[serde(default)]
    pub associations: Vec<AssociationInfo>,
    /// How automatic import is doing, for each directory that has it.
    #[serde(default)]
    pub auto_import: Vec<AutoImportStatus>,
}

/// What was made and changed here and the bucket does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexported {
    /// Files, directories and symlinks.
    pub changes: u64,
    /// Seconds since the oldest of these changes.
    pub oldest_seconds: u64,
    /// Whether `--auto-export` is on.
    pub automatic: bool,
    /// Of the changes it takes care of: tried and failed so far.
    pub failing: u64,
    /// Why one of them failed.
    pub last_failure: Option<String>,
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
    /// PUTs of whole objects.
    #[serde(default)]
    pub put: u64,
    /// DELETEs.
    #[serde(default)]
    pub delete: u64,
    /// Copies at the server.
    #[serde(default)]
    pub copy: u64,
    /// Requests of multipart uploads.
    #[serde(default)]
    pub multipart: u64,
    /// Tries that were repeated.
    pub retries: u64,
}

/// The stripe layout in force for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StripeInfo {
    /// Devices the file is spread over; 0 means all of them.
    pub stripe_count: u8,
    /// Bytes on one device before the next takes over.
    pub stripe_size: u64,
    /// Whether it comes from a directory above (or the mount's default) rather than from the path itself.
    pub inherited: bool,
}

/// A stripe layout to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StripeRequest {
    /// Devices to spread over; 0 means all of them.
    pub stripe_count: u8,
    /// Bytes on one device before the next takes over; a multiple of the block size.
    pub stripe_size: u64,
}

/// A key of the bucket that the mount cannot show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenKey {
    /// The full key.
    pub key: String,
    /// Why no POSIX tree can hold it.
    pub reason: String,
}

/// Hidden keys seen so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenKeys {
    /// As many as were asked for.
    pub keys: Vec<HiddenKey>,
    /// How many there are in all.
    pub total: u64,
}

/// What kind of failure a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiErrorKind {
    /// No such path, or no such request.
    NotFound,
    /// The request makes no sense.
    Invalid,
    /// Somebody uses the mount.
    Busy,
    /// Not allowed.
    Denied,
    /// Not possible here.
    Unsupported,
    /// The store, a device or the daemon itself failed.
    Failed,
    /// A kind that a newer daemon knows.
    #[serde(other)]
    Unknown,
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure.
    pub kind: ApiErrorKind,
    /// One line that names the thing and the cause.
    pub message: String,
}

impl ApiError {
    /// An error of a kind.
    pub fn new(kind: ApiErrorKind, message: impl Into<String>) -> Self {
        ApiError { kind, message: message.into() }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::NotFound => ApiErrorKind::NotFound,
            ErrorKind::NotDirectory
            | ErrorKind::IsDirectory
            | ErrorKind::Invalid
            | ErrorKind::Range
            | ErrorKind::NoSuchData
            | ErrorKind::BadHandle
            | ErrorKind::NameTooLong
            | ErrorKind::Exists
            | ErrorKind::NotEmpty
            | ErrorKind::TooManyLinks
            | ErrorKind::TooLarge
            | ErrorKind::CrossesProjects => ApiErrorKind::Invalid,
            ErrorKind::AccessDenied | ErrorKind::NotPermitted => ApiErrorKind::Denied,
            ErrorKind::ReadOnly | ErrorKind::Unsupported | ErrorKind::NoData => ApiErrorKind::Unsupported,
            ErrorKind::Stale
            | ErrorKind::Busy
            | ErrorKind::Io
            | ErrorKind::NoSpace
            | ErrorKind::OverQuota
            | ErrorKind::ShuttingDown => ApiErrorKind::Failed,
        };
        ApiError { kind, message: error.message }
    }
}
