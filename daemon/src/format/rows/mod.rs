//! The rows of the metadata store: every byte of their keys and values, encoded and decoded here and nowhere else.
//!
//! `docs/format-metadata.md` describes the same bytes for people. Keys are big-endian, so that byte order is numeric order;
//! an epoch stands inverted at the end of a versioned key, so that the newest row of a thing comes first. A value begins
//! with its row version; version 0 is the tombstone.
//!
//! Invariants:
//! 1. Decoders are total: any bytes give a row or a [`RowError`], never a panic, and never more memory than the input's size
//!    warrants.
//! 2. A row has one encoding: `encode(decode(bytes)) == bytes` for whatever `decode` accepts.

mod association;
mod change;
mod clone;
mod dirent;
mod import;
mod inode;
mod intent;
pub mod journal;
pub mod key;
mod listing;
mod map;
mod preload;
mod quota;
mod small;
mod snapshot;
mod task;
mod wire;

pub use association::{AssociationRow, AssociationState, EventBits};
pub use change::{ChangeRow, DoomedRow, UploadKind, UploadRow};
pub use clone::CloneRow;
pub use dirent::Dirent;
pub use import::{ImportCursor, KeySpan};
pub use inode::{FileKind, InodeRow, Layout, Link, Origin};
pub use intent::Intent;
pub use listing::ListingState;
pub use map::{BLOCKS_PER_CHUNK, HOLE, MapChunk};
pub use preload::PreloadCursor;
pub use quota::{Charge, Limit, QuotaId, QuotaKind, QuotaLimits, QuotaRow, Usage};
pub use small::{decode_number, decode_text, encode_number, encode_text};
pub use snapshot::SnapshotRow;
pub use task::{TaskCounters, TaskKind, TaskReport, TaskRow, TaskState};

/// A row version: the first byte of a value.
pub const ROW_VERSION: u8 = 1;

/// The value that says "removed in this epoch": one byte, version 0.
pub const TOMBSTONE: &[u8] = &[0];

/// Whether a value is the tombstone.
pub fn is_tombstone(value: &[u8]) -> bool {
    value == TOMBSTONE
}

/// Why bytes are not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The row ends before its last field.
    #[error("the row is cut short")]
    Short,
    /// Bytes follow the last field.
    #[error("{0} bytes follow the end of the row")]
    Trailing(usize),
    /// A version this program does not know.
    #[error("row version {0} is not known")]
    Version(u8),
    /// A field has a value that it cannot have.
    #[error("field '{0}' is out of range")]
    Field(&'static str),
    /// Text that is not UTF-8.
    #[error("field '{0}' is not UTF-8")]
    Text(&'static str),
}

#[cfg(test)]
mod tests;
