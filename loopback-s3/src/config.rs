//! Settings of a server.

use std::path::PathBuf;

/// An access key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The access key id.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Credentials { access_key: "FOREBAYLOOPBACK".to_owned(), secret_key: "forebay-loopback-secret".to_owned() }
    }
}

/// What the ETag of an object put whole is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtagKind {
    /// The MD5 of its content, as S3 does (0.65 GB/s per core).
    #[default]
    Md5,
    /// Random: as for encrypted objects in S3, and free.
    Opaque,
}

/// Where large bodies go instead of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// Bodies of at least this many bytes go to files.
    pub threshold_bytes: u64,
    /// A temporary directory is made in here; `None`: where the system keeps temporary files.
    pub directory: Option<PathBuf>,
}

/// Settings of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopbackConfig {
    /// What signed requests must be signed with.
    pub credentials: Credentials,
    /// Whether unsigned requests are allowed.
    pub allow_anonymous: bool,
    /// What ETags are.
    pub etags: EtagKind,
    /// Where large bodies go; `None`: everything stays in memory.
    pub spill: Option<Spill>,
    /// Buckets to begin with.
    pub buckets: Vec<String>,
    /// The TCP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// How many requests the log keeps; the oldest go first. Counters count all.
    pub request_log_len: usize,
}

impl Default for LoopbackConfig {
    fn default() -> Self {
        LoopbackConfig {
            credentials: Credentials::default(),
            allow_anonymous: true,
            etags: EtagKind::default(),
            spill: None,
            buckets: Vec::new(),
            port: 0,
            request_log_len: 100_000,
        }
    }
}
