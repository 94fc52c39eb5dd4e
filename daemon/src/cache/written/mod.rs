//! Files being written: dirty blocks in memory, and their way to the devices and into the metadata.
//!
//! [`state`] is what one file has dirty; `write`, `read` and `resize` work on it, and `charge` has quotas pay for it; `flush` is the one thread
//! that makes it local data: blocks first, then one metadata transaction for all files of a round. `copy` makes blocks of one file blocks of
//! another, between rounds. `intent` makes small syncs durable without a round.
//!
//! Invariants:
//! 1. A byte that was written is in a dirty block, in a block being flushed, or in a block that the file's map names; a reader looks in that
//!    order, under the file's lock, and so never sees an older one.
//! 2. What a metadata transaction says of a file is what the file was at one moment: its size, its blocks, its times.
//! 3. A block leaves memory only after the transaction that names it; if that fails, or its device does, it stays dirty.
//! 4. A block is let go of only after the commit that dropped the last reference to it is durable.
//! 5. Dirty memory stays within its budget: writes beyond it wait for a round to end.

mod allocated;
mod charge;
mod copy;
mod errors;
mod flush;
mod intent;
mod read;
mod release;
mod resize;
mod room;
mod seek;
mod sent;
mod state;
mod still;
mod write;

pub use copy::By;
pub(super) use errors::{Told, WriteErrors};
pub(super) use flush::Flusher;
pub(super) use release::Released;
pub use seek::Seek;
pub(super) use state::Written;
pub use still::AtStandstill;

use crate::error::Error;

/// Called once when a write, a change of size or an `fsync` is done. May run on a device thread: must not block.
pub type DoneReply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// The largest file, in bytes.
pub const SIZE_MAX: u64 = 16 << 40;
