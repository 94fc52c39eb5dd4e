//! Forebay's own tests that need more than one crate: real mounts against a real S3 server, and the checks of the
//! workspace's shape. One binary; every module is a family of tests.
//!
//! - [`fixtures`]: what the tests stand on. Modules here use it, and nothing outside this package does.
//! - [`exercise`]: programs that work a directory hard, and know what it has to hold afterwards.
//! - `mounts`: real mounts: reading, names, consistency, faults, devices, restarts.
//! - `rows`: the import rows inside `daemon`.
//! - `workspace`: which crate may depend on which, and under which licences the dependencies come.

pub mod exercise;
pub mod fixtures;

#[cfg(test)]
mod mounts;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod workspace;
