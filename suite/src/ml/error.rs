//! Why a run ended without a report.

use std::io;
use std::path::{Path, PathBuf};

/// Any failure of this module.
#[derive(Debug, thiserror::Error)]
pub enum MlError {
    /// A setting that no run can have.
    #[error("{name} is {value}; {wanted}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// The files would not be enough for every accelerator to take two steps, of which the first is not counted.
    #[error(
        "a dataset of {given} bytes gives {accelerators} accelerators fewer than two steps; it takes at least {needed} bytes, smaller batches or \
         fewer accelerators"
    )]
    TooSmall {
        /// Bytes there are, or may be.
        given: u64,
        /// Bytes it takes.
        needed: u64,
        /// Accelerators to feed.
        accelerators: usize,
    },
    /// Too little room for the files.
    #[error("'{}' has {free} bytes free, and the files take {needed}; make room or give a smaller dataset size", .path.display())]
    Space {
        /// The directory.
        path: PathBuf,
        /// What the files take.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// An existing dataset without a file of the format.
    #[error("'{}' has no file that ends in {}", .path.display(), .wanted.join(" or "))]
    NoFiles {
        /// Where was looked.
        path: PathBuf,
        /// Endings that were looked for.
        wanted: &'static [&'static str],
    },
    /// A file that is not what its name says.
    #[error("'{}' is no such file: {source}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatFault,
    },
    /// A call that failed.
    #[error("cannot {what} '{}': {source}", .path.display())]
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody asked for the end.
    #[error("cancelled")]
    Cancelled,
}

/// What is wrong with the bytes of a file.
#[derive(Debug, thiserror::Error)]
pub enum FormatFault {
    /// It ends within something.
    #[error("it ends within {0}")]
    Short(&'static str),
    /// A checksum that does not match.
    #[error("the checksum of {0} does not match")]
    Checksum(&'static str),
    /// A field that makes no sense.
    #[error("{field} makes no sense: {value}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// JSON that is none.
    #[error("its header is no JSON of the expected form")]
    Json(#[from] serde_json::Error),
}

impl FormatFault {
    pub(super) fn field(field: &'static str, value: impl ToString) -> Self {
        FormatFault::Field { field, value: value.to_string() }
    }
}

/// Says of an error where it happened.
pub(super) trait At<T> {
    /// Adds a verb and a path.
    fn at(self, what: &'static str, path: &Path) -> Result<T, MlError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, MlError> {
        self.map_err(|source| MlError::Io { what, path: path.to_owned(), source: source.into() })
    }
}

/// Says of a fault which file has it.
pub(super) trait In<T> {
    /// Adds the path.
    fn in_file(self, path: &Path) -> Result<T, MlError>;
}

impl<T> In<T> for Result<T, FormatFault> {
    fn in_file(self, path: &Path) -> Result<T, MlError> {
        self.map_err(|source| MlError::Format { path: path.to_owned(), source })
    }
}
