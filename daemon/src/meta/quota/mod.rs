//! Quotas of users, groups and directory trees (projects): what they use, and what they may.
//!
//! What counts is what exists only here: an inode that was made, moved or written here, and the blocks of it that were written here, each
//! as far as the file's end and in whole sectors. Nothing counts that is in the bucket and was only read.
//!
//! [`books`] is what is used and allowed, in memory; [`mod@count`] derives from the writes of a transaction how usage changes, and enters that
//! in the same transaction; [`admin`] sets limits and counts trees that were there before; [`reserve`] is for data that is written and not in
//! the metadata yet; [`check`] counts everything again.
//!
//! Invariants:
//! 1. An inode that counts has a charge row, which says for whom and with how many bytes; the usage rows are the sums of the charge rows.
//!    All change in the transaction that changes the inode, so no crash can part them.
//! 2. Until everything was counted once, an inode that has no charge row gets it with its next change, or from the count.
//! 3. The project of an inode is the nearest directory at or above it that has project limits; it is found anew whenever the inode changes, and no
//!    directory moves and no project comes or goes while a transaction is under way (the gate).
//! 4. A limit is held against what is used, and what is being used: reserved by writes in memory, or by transactions under way.

mod admin;
mod books;
mod check;
mod count;
mod project;
mod reserve;

pub use admin::{Quota, QuotaState};
pub use books::Enforce;
pub(super) use books::Quotas;
pub use check::QuotaViolation;
pub(super) use count::{Entry, Spending, count};
pub use reserve::Reservation;

use super::engine::Table;
use super::rows::damaged;
use super::{MetaError, MetaStore};
use crate::config::Settings;
use crate::format::rows::{BLOCKS_PER_CHUNK, QuotaKind};
use crate::format::rows::{Charge, FileKind, HOLE, InodeRow, MapChunk};
use crate::units::SECTOR;

/// Bytes of a block.
pub(super) const BLOCK: u64 = Settings::BLOCK_SIZE as u64;

/// Grace periods of one kind of quota, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graces {
    /// For bytes.
    pub bytes_s: u64,
    /// For inodes.
    pub inodes_s: u64,
}

/// Seven days, as on Linux.
pub const DEFAULT_GRACE_S: u64 = 7 * 24 * 3600;

impl Default for Graces {
    fn default() -> Self {
        Graces { bytes_s: DEFAULT_GRACE_S, inodes_s: DEFAULT_GRACE_S }
    }
}

/// Whether an inode counts. One that the bucket has does not, until it is moved or written; what lost its last name does for as long as it may
/// hold data.
pub(super) fn counts(row: &InodeRow) -> bool {
    if row.nlink > 0 {
        return row.local || row.base.is_some();
    }
    row.kind == FileKind::File && (row.base.is_some() || (row.local && row.origin.is_none()))
}

/// Bytes that a block written here counts for: as far as the file goes, in whole sectors.
pub fn block_bytes(index: u64, size: u64) -> u64 {
    size.saturating_sub(index.saturating_mul(BLOCK)).min(BLOCK).next_multiple_of(SECTOR as u64)
}

/// Bytes that the blocks of one row of a file's map count for.
fn chunk_bytes(number: u64, chunk: &MapChunk, size: u64) -> u64 {
    let counts = |(slot, id): (usize, &Option<_>)| {
        let is_here = chunk.is_local(slot) && id.is_some_and(|id| id != HOLE);
        if is_here { block_bytes(number * BLOCKS_PER_CHUNK + slot as u64, size) } else { 0 }
    };
    chunk.blocks.iter().enumerate().map(counts).sum()
}

fn decode_charge(row: &[u8]) -> Result<Charge, MetaError> {
    Charge::decode(row).map_err(damaged(Table::Charges))
}

impl MetaStore {
    /// Whether anything is counted: nothing is before the first limit was set.
    pub fn has_quotas(&self) -> bool {
        self.shared.quotas.is_on()
    }
}

impl Enforce {
    /// Whose limits hold for what a user does.
    pub fn of_user(uid: u32) -> Self {
        if uid == 0 { Enforce::Projects } else { Enforce::Everything }
    }

    /// Whether limits of a kind hold.
    pub(super) fn holds_for(self, kind: QuotaKind) -> bool {
        match self {
            Enforce::Everything => true,
            Enforce::Projects => kind == QuotaKind::Project,
            Enforce::Nothing => false,
        }
    }
}
