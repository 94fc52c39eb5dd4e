//! Why a bench ended without a report, or a row without a figure. Each is one line: the thing, the cause, the way out.

use crate::store::StoreFault;
use crate::units;
use std::io;
use std::path::{Path, PathBuf};

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory that cannot be measured.
    #[error("'{}' {cause}; {way_out}", .path.display())]
    Place {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
        /// What to do.
        way_out: &'static str,
    },
    /// Too little room for the files.
    #[error(
        "'{}' has {} free, and the bench wants {}; make room, or give it less with --size, --files or --quick",
        .path.display(), units::size(*.free), units::size(*.needed)
    )]
    Space {
        /// The directory.
        path: PathBuf,
        /// What the files take.
        needed: u64,
        /// What there is.
        free: u64,
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
    /// A store that refused.
    #[error("cannot {what} '{key}': {source}")]
    Store {
        /// What was tried: a verb.
        what: &'static str,
        /// The key.
        key: String,
        /// Why not.
        source: StoreFault,
    },
    /// Somebody asked for the end.
    #[error("interrupted; what the bench made is removed")]
    Interrupted,
    /// What the bench made could not be removed.
    #[error("'{left}' could not be removed ({cause}); remove it by hand")]
    Left {
        /// What is left.
        left: String,
        /// Why.
        cause: String,
    },
}

/// The result of anything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether nothing more can be measured. Anything else is told in the row and the bench goes on: file systems differ in
    /// what they can do.
    pub(crate) fn ends_the_bench(&self) -> bool {
        match self {
            Error::Io { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::ENOSPC | libc::EDQUOT | libc::ENOTCONN | libc::EROFS | libc::ECONNABORTED | libc::EMFILE)
            ),
            Error::Store { source, .. } => source.is_lasting,
            Error::Place { .. } | Error::Space { .. } | Error::Interrupted | Error::Left { .. } => true,
        }
    }
}

/// Says of an I/O error what was tried on what.
pub(crate) trait At<T> {
    /// Adds a verb and a path.
    fn at(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { what, path: path.to_owned(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_ends_the_bench_and_a_missing_call_does_not() {
        let failed = |code| Err::<(), _>(io::Error::from_raw_os_error(code)).at("rename", Path::new("/d/x")).unwrap_err();
        assert!(failed(libc::ENOSPC).ends_the_bench());
        assert!(!failed(libc::EOPNOTSUPP).ends_the_bench());
        assert!(failed(libc::EOPNOTSUPP).to_string().starts_with("cannot rename '/d/x': Operation not supported"));
    }
}
