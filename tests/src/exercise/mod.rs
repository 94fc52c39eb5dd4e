//! Exercisers: programs that work a directory hard and know what it has to hold afterwards. Each takes any directory, so
//! each is proven here on a plain temporary one; what it then finds on a mount is the mount's own.
//!
//! - [`fsx`]: one file, random operations against a copy in memory.
//! - [`stress`]: one tree, many threads, every errno predicted by a model.
//! - [`crash`]: a writer that is killed (or loses its file system), and a check of what is left.
//! - [`pjdfstest`]: the POSIX suite of that name, run and read.
//! - [`trees`]: what people do with a file system: databases, repositories, archives, builds.
//! - `soak`: all of these at full length, on a directory of one's choice, when asked for.
//!
//! The same seed gives the same operations, except where threads meet in one directory.

pub mod content;
pub mod crash;
pub mod fsx;
pub mod pjdfstest;
#[cfg(test)]
mod soak;
pub mod stress;
pub mod trees;

/// What an exerciser found wrong, and how to find it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{exerciser}, seed {seed}, operation {operation}: {difference}")]
pub struct Failure {
    /// Which exerciser.
    pub exerciser: &'static str,
    /// The seed it was given.
    pub seed: u64,
    /// How many operations had gone before.
    pub operation: u64,
    /// What was asked, what was expected and what came.
    pub difference: String,
}
