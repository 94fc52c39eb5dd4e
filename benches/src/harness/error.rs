//! What can go wrong in a bench: always the machine's or a peer's failure, told with the thing it happened to.

use std::fmt::Display;
use std::io;

/// A failed step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, directory or socket.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A step that ran over its deadline.
    #[error("{what} took longer than {seconds} s")]
    TimedOut {
        /// The step.
        what: String,
        /// The deadline.
        seconds: u64,
    },
    /// A program that could not be started, failed, or said something unexpected.
    #[error("{program}: {why}")]
    Program {
        /// Its name.
        program: String,
        /// What happened.
        why: String,
    },
    /// The store's answer.
    #[error("{request}: {why}")]
    Http {
        /// Method and path.
        request: String,
        /// What happened.
        why: String,
    },
    /// Bytes that are not the object's.
    #[error("{file}: wrong data at byte {offset}")]
    WrongData {
        /// The file.
        file: String,
        /// The first chunk that differs.
        offset: u64,
    },
}

/// The result of a step.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A program's failure.
    pub fn program(program: impl Display, why: impl Display) -> Self {
        Error::Program { program: program.to_string(), why: why.to_string() }
    }
}

/// Says what an I/O error happened to.
pub trait At<T> {
    /// Names the step.
    fn at(self, what: impl Display) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: impl Display) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.to_string(), source })
    }
}
