//! Forebay over FUSE: kernel requests in, `vfs` calls out, and what a mount needs around that.
//!
//! Owns: the mapping of errors to errnos (`errno`, the only place), what is asked of the kernel at INIT (`init`), mounting and
//! unmounting with their errors, the kernel's caches ([`kernel_cache`]). Knows nothing of S3, caches or the command line.
//!
//! Order it guarantees: a handler never blocks on the object store (it spawns), and never notifies the kernel itself.

mod attr;
mod dispatch;
mod errno;
mod groups;
mod init;
mod listing;
mod operations;
mod readahead;

pub mod kernel_cache;
pub mod mount;
pub mod mountinfo;
pub mod unmount;

#[cfg(test)]
mod tests;

pub use mount::{MountError, MountHandle, MountOptions, check_mountpoint, mount};
pub use unmount::{UnmountError, Unmounter};

/// The subtype of Forebay's mounts: `/proc/self/mountinfo` shows them as `fuse.forebay`.
pub const SUBTYPE: &str = "forebay";
