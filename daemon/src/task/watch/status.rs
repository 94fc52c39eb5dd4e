//! How far behind automatic import is: what `forebay status` and `forebay dra show` print.

use serde::{Deserialize, Serialize};

/// The last pass over a bucket that went to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassStatus {
    /// When it ended, seconds since the Unix epoch.
    pub ended: i64,
    /// How long ago that was, in seconds.
    pub ago_seconds: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Objects looked at; those in directories in which nobody has looked are not.
    pub objects: u64,
    /// New names it brought.
    pub new: u64,
    /// Names whose objects it found replaced.
    pub changed: u64,
    /// Names it removed.
    pub deleted: u64,
}

/// A queue of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its URL.
    pub url: String,
    /// Whether it answered when it was last asked.
    pub connected: bool,
    /// Messages received since the mount, those that came again included.
    pub messages: u64,
    /// Seconds since the last message came.
    pub last_message_seconds: Option<u64>,
    /// The age of the oldest message in hand; nothing while none is.
    pub oldest_message_seconds: Option<u64>,
    /// Messages that wait, as far as the queue knows.
    pub backlog: Option<u64>,
    /// Messages received and not deleted yet, by whomever.
    pub in_flight: Option<u64>,
    /// Messages that are none about a bucket, since the mount. They were deleted.
    pub unreadable: u64,
    /// Messages given up after several tries, since the mount. They were deleted, and the bucket is listed instead.
    pub given_up: u64,
    /// What went wrong last, while it goes wrong.
    pub last_error: Option<String>,
}

/// How automatic import of one directory is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoImportStatus {
    /// The directory's inode.
    pub root: u64,
    /// What the keys of its objects start with.
    pub prefix: String,
    /// Which changes come in: `new`, `changed`, `deleted`.
    pub events: Vec<String>,
    /// The last pass that went to its end.
    pub last_pass: Option<PassStatus>,
    /// Whether one is under way.
    pub under_way: bool,
    /// Passes that went to their end since the mount.
    pub passes: u64,
    /// Passes that failed since the mount.
    pub failed_passes: u64,
    /// From the end of a pass to the next, as of now, in milliseconds.
    pub interval_ms: u64,
    /// New names since the mount.
    pub new: u64,
    /// Names whose objects were found replaced since the mount.
    pub changed: u64,
    /// Names removed since the mount.
    pub deleted: u64,
    /// Files that both sides changed, as they are now. They stay as they are here until they are exported.
    pub conflicts: u64,
    /// The key of one of them.
    pub conflict: Option<String>,
    /// What the last pass failed with, if it failed.
    pub last_error: Option<String>,
    /// The queue, where there is one.
    pub queue: Option<QueueStatus>,
}
