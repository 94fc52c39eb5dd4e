//! Validated settings of a mount. The command line builds [`Settings`]; components come in through `engine`.

use crate::units::{ByteCount, MIB};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// `s3://bucket[/prefix]`, `gs://…`, `az://…` or `file:///dir`, as given.
    pub url: String,
    /// `--endpoint-url`.
    pub endpoint_url: Option<String>,
    /// `--region`.
    pub region: Option<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--force-path-style`; implied by an endpoint whose host is an address or localhost.
    pub force_path_style: bool,
    /// `--no-sign-request`.
    pub no_sign_request: bool,
    /// `--requester-pays`.
    pub requester_pays: bool,
    /// `--sse`: `AES256`, `aws:kms`, `aws:kms:dsse` or `sse-c`.
    pub sse: Option<String>,
    /// `--sse-kms-key-id`; for `sse-c`: the base64 key.
    pub sse_kms_key_id: Option<String>,
    /// How long a request is retried before the operation fails.
    pub deadline: Duration,
}

impl RepositorySettings {
    /// All but the URL, as the command's options and their values; nothing that is a secret.
    pub fn options(&self) -> BTreeMap<String, String> {
        let texts = [
            ("endpoint-url", &self.endpoint_url),
            ("region", &self.region),
            ("profile", &self.profile),
            ("sse", &self.sse),
            ("sse-kms-key-id", &self.sse_kms_key_id),
        ];
        let is_secret = |name: &str| name == "sse-kms-key-id" && self.sse.as_deref() == Some("sse-c");
        let texts = texts.into_iter().filter(|(name, _)| !is_secret(name));
        let flags = [
            ("force-path-style", self.force_path_style),
            ("no-sign-request", self.no_sign_request),
            ("requester-pays", self.requester_pays),
        ];
        let texts = texts.filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        texts.chain(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name.to_owned(), "true".to_owned()))).collect()
    }

    /// The settings of a URL and options that [`RepositorySettings::options`] made.
    pub fn from_options(url: &str, options: &BTreeMap<String, String>, deadline: Duration) -> Self {
        let text = |name: &str| options.get(name).cloned();
        let flag = |name: &str| options.contains_key(name);
        RepositorySettings {
            url: url.to_owned(),
            endpoint_url: text("endpoint-url"),
            region: text("region"),
            profile: text("profile"),
            force_path_style: flag("force-path-style"),
            no_sign_request: flag("no-sign-request"),
            requester_pays: flag("requester-pays"),
            sse: text("sse"),
            sse_kms_key_id: text("sse-kms-key-id"),
            deadline,
        }
    }

    /// Whether no bucket is meant: `none` in place of a URL.
    pub fn is_none(&self) -> bool {
        self.url == Self::NONE
    }

    /// What stands in place of a URL where the root is to have no bucket.
    pub const NONE: &str = "none";

    /// What is at a URL, with nothing else said.
    pub fn plain(url: &str, deadline: Duration) -> Self {
        RepositorySettings {
            url: url.to_owned(),
            endpoint_url: None,
            region: None,
            profile: None,
            force_path_style: false,
            no_sign_request: false,
            requester_pays: false,
            sse: None,
            sse_kms_key_id: None,
            deadline,
        }
    }
}

/// `--posix-metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PosixMetadata {
    /// What GETs bring along anyway.
    #[default]
    Free,
    /// HEAD in the background, 128 at a time; a stat waits for its own.
    Eager,
    /// Never.
    Off,
}

/// `--metadata-ttl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MetadataTtl {
    /// What a listing said holds for this long.
    For(Duration),
    /// Names and attributes are never checked again.
    Indefinite,
}

impl MetadataTtl {
    /// The time for which the kernel may keep what it was told.
    pub fn as_duration(self) -> Duration {
        match self {
            MetadataTtl::For(ttl) => ttl,
            MetadataTtl::Indefinite => Duration::from_secs(365 * 24 * 3600),
        }
    }
}

/// `--deployment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deployment {
    /// Survives crashes.
    #[default]
    Persistent,
    /// Starts empty after an unclean stop.
    Scratch,
}

/// What is done where the bucket has something else than what was seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// The export of that file fails; both versions stay where they are.
    #[default]
    Fail,
    /// The bucket's version is overwritten.
    Overwrite,
    /// The file is passed over; both versions stay where they are.
    Skip,
    /// The bucket's version keeps the name; ours goes on beside it, under another.
    KeepBoth,
}

/// `--auto-export`: what is exported by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct AutoExport {
    /// What the bucket does not have.
    pub new: bool,
    /// What it has otherwise.
    pub changed: bool,
    /// What was deleted or moved here.
    pub deleted: bool,
    /// What is done about conflicts.
    pub on_conflict: OnConflict,
}

impl OnConflict {
    const ALL: [OnConflict; 4] = [OnConflict::Fail, OnConflict::Overwrite, OnConflict::Skip, OnConflict::KeepBoth];

    /// How it is recorded.
    pub fn code(self) -> u8 {
        Self::ALL.iter().position(|known| *known == self).unwrap_or_default() as u8
    }

    /// What was recorded; a choice that this version does not know is the safe one.
    pub fn of_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or_default()
    }
}

impl AutoExport {
    /// Whether anything is.
    pub fn is_on(&self) -> bool {
        self.new || self.changed || self.deleted
    }
}

/// `--auto-import`: which changes of the bucket come in by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct AutoImport {
    /// Objects that no name here stands for.
    pub new: bool,
    /// Objects that were replaced.
    pub changed: bool,
    /// Objects that are gone.
    pub deleted: bool,
}

impl AutoImport {
    /// Whether anything is.
    pub fn is_on(&self) -> bool {
        self.new || self.changed || self.deleted
    }
}

/// How often a watched bucket is listed. Where a listing takes long it is done less often than any of this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Polling {
    /// From the end of a pass that found changes to the next.
    pub shortest: Duration,
    /// From pass to pass where nothing changes.
    pub longest: Duration,
    /// From pass to pass while a queue tells of changes, and the passes only find what it missed.
    pub reconcile: Duration,
}

impl Default for Polling {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Polling { shortest: seconds(10), longest: seconds(300), reconcile: seconds(1800) }
    }
}

/// Everything a mount needs to know.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The bucket.
    pub repository: RepositorySettings,
    /// The name of a snapshot that was exported there, as text: it is mounted, and not what the bucket has.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// One directory per device, in order; never empty.
    pub cache_dirs: Vec<PathBuf>,
    /// Bytes per device; `None` takes all but 5 % of the file system it is on.
    pub cache_size: Option<ByteCount>,
    /// Bound on the whole process's memory.
    pub memory_target: ByteCount,
    /// Scratch or persistent.
    pub deployment: Deployment,
    /// Copies of data that exists only here: 1, or 2 on different devices.
    pub dirty_copies: u8,
    /// LZ4 where it pays.
    pub compression: bool,
    /// Store equal blocks once.
    pub dedup: bool,
    /// Default stripe count for the root; 0 = all devices.
    pub stripe_count: u8,
    /// Default stripe size.
    pub stripe_size: ByteCount,
    /// How object metadata is used.
    pub posix_metadata: PosixMetadata,
    /// How long listings hold.
    pub metadata_ttl: MetadataTtl,
    /// What is exported by itself to the root's bucket; `None` leaves it as it was at the last mount.
    #[serde(default)]
    pub auto_export: Option<AutoExport>,
    /// What comes in by itself from the root's bucket; `None` leaves it as it was at the last mount.
    #[serde(default)]
    pub auto_import: Option<AutoImport>,
    /// The SQS queue that tells of changes in the bucket.
    #[serde(default)]
    pub event_queue_url: Option<String>,
    /// How often the bucket is listed for changes.
    #[serde(default)]
    pub polling: Polling,
    /// Default owner.
    pub uid: u32,
    /// Default group.
    pub gid: u32,
    /// Default permission bits of files.
    pub file_mode: u16,
    /// Default permission bits of directories.
    pub dir_mode: u16,
}

impl Settings {
    /// What is mounted, for people: the URL, and `@` and the name of a snapshot.
    pub fn source(&self) -> String {
        let url = &self.repository.url;
        self.snapshot.as_ref().map_or_else(|| url.clone(), |name| format!("{}@{name}", url.trim_end_matches('/')))
    }

    /// Block size: the unit of hashing, dedup, compression and eviction, in bytes.
    pub const BLOCK_SIZE: u32 = 128 << 10;
    /// The least `--memory-target` that leaves room for every budget.
    pub const MEMORY_FLOOR: ByteCount = ByteCount(256 * MIB);
    /// `--memory-target` where none is given.
    pub const MEMORY_DEFAULT: ByteCount = ByteCount(1024 * MIB);
}
