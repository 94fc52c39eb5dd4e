//! A snapshot.
//!
//! ```text
//! snapshot  version  flags:1 (bit 0: being deleted, bit 1: materialized)  epoch root: numbers  created: le64  path: counted
//! ```

use super::RowError;
use super::wire::{Reader, Writer};
use crate::ids::{Epoch, Ino};

const DELETING: u8 = 1;
const MATERIALIZED: u8 = 2;

/// A tree as it was when an epoch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// The epoch that ended with it.
    pub epoch: Epoch,
    /// The directory it is of.
    pub root: Ino,
    /// When, ns since the Unix epoch.
    pub created_ns: i64,
    /// That directory's path then, from the root of the file system; empty for the root itself.
    pub path: Vec<u8>,
    /// It is gone for people; what only it had is being freed.
    pub deleting: bool,
    /// All that the bucket had of it is held here.
    pub materialized: bool,
}

impl SnapshotRow {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::row(24 + self.path.len());
        out.byte(u8::from(self.deleting) * DELETING + u8::from(self.materialized) * MATERIALIZED);
        out.number(self.epoch.0);
        out.number(self.root.0);
        out.i64(self.created_ns);
        out.counted(&self.path);
        out.done()
    }

    /// The row in these bytes.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let mut input = Reader::row(row)?;
        let flags = input.byte()?;
        if flags & !(DELETING | MATERIALIZED) != 0 {
            return Err(RowError::Field("flags"));
        }
        let (deleting, materialized) = (flags & DELETING != 0, flags & MATERIALIZED != 0);
        let epoch = Epoch(input.number("epoch")?);
        if epoch < Epoch::FIRST || epoch > Ino::LAST_EPOCH {
            return Err(RowError::Field("epoch"));
        }
        let root = Ino(input.number("root")?);
        let created_ns = input.i64()?;
        let path = input.counted("path")?.to_vec();
        input.end()?;
        Ok(SnapshotRow { epoch, root, created_ns, path, deleting, materialized })
    }
}
