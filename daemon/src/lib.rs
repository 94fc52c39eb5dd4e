//! The Forebay file system, without FUSE: an S3 bucket as a tree of files, cached on local NVMe.
//!
//! Modules stand in rows; a module imports only from lower rows (`tests/src/rows.rs` checks it):
//!
//! | row | modules |
//! | --- | --- |
//! | 7 | `control` |
//! | 6 | `task` |
//! | 5 | `vfs` |
//! | 3 | `cache` |
//! | 2 | `meta`, `block` |
//! | 1 | `stripe`, `repository`, `codec` |
//! | 0 | `io`, `format`, `ids`, `units`, `error`, `clock`, `config` |
//!
//! `engine` is the composition root: settings and components in, a running file system out.

pub mod block;
pub mod cache;
pub mod clock;
pub mod codec;
pub mod config;
pub mod control;
pub mod engine;
pub mod error;
pub mod format;
pub mod ids;
pub mod io;
pub mod meta;
pub mod repository;
pub mod stripe;
pub mod task;
pub mod units;
pub mod vfs;
