//! What an operation of the file system can fail with, as its callers see it. `fuse` turns a kind into an errno.

use std::fmt;

/// The kinds of failure a file-system operation has. Every typed error below becomes one of these once, here at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such name or inode (`ENOENT`).
    NotFound,
    /// Not a directory (`ENOTDIR`).
    NotDirectory,
    /// A directory, where a file is needed (`EISDIR`).
    IsDirectory,
    /// The object behind an open file was replaced, or the inode is gone (`ESTALE`).
    Stale,
    /// The file system cannot be written (`EROFS`).
    ReadOnly,
    /// A bad argument (`EINVAL`).
    Invalid,
    /// The store refused (`EACCES`).
    AccessDenied,
    /// No such attribute (`ENODATA`).
    NoData,
    /// Nothing to be found at or after an offset (`ENXIO`).
    NoSuchData,
    /// The caller's buffer is too small (`ERANGE`).
    Range,
    /// Not supported here (`EOPNOTSUPP`).
    Unsupported,
    /// A stale or foreign handle (`EBADF`).
    BadHandle,
    /// A name over 255 bytes (`ENAMETOOLONG`).
    NameTooLong,
    /// The name is taken (`EEXIST`).
    Exists,
    /// The directory has entries (`ENOTEMPTY`).
    NotEmpty,
    /// A file cannot have more names (`EMLINK`).
    TooManyLinks,
    /// Nobody may do this (`EPERM`).
    NotPermitted,
    /// A file cannot be this large (`EFBIG`).
    TooLarge,
    /// The devices are full of what cannot be dropped (`ENOSPC`).
    NoSpace,
    /// Over a quota (`EDQUOT`).
    OverQuota,
    /// A move that has to be a copy (`EXDEV`).
    CrossesProjects,
    /// Somebody else is at it (`EBUSY`).
    Busy,
    /// The store or a device failed after all tries (`EIO`).
    Io,
    /// The file system is shutting down (`ESHUTDOWN`).
    ShuttingDown,
}

/// A failed operation: its kind, and words for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What happened, naming the thing and the cause.
    pub message: String,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The result of a file-system operation.
pub type Result<T> = std::result::Result<T, Error>;
