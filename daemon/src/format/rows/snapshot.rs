//! A snapshot.
//!
//! ```text
//! snapshot  version  flags:1 (bit 0: being deleted)  epoch root: numbers  created: le64  path: counted
//! ```

use super::RowError;
use super::wire::{Reader, Writer};
use crate::ids::{Epoch, Ino};

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
}

impl SnapshotRow {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::row(24 + self.path.len());
        out.byte(u8::from(self.deleting));
        out.number(self.epoch.0);
        out.number(self.root.0);
        out.i64(self.created_ns);
        out.counted(&self.path);
        out.done()
    }

    /// The row in these bytes.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let mut input = Reader::row(row)?;
        let deleting = match input.byte()? {
            0 => false,
            1 => true,
            _ => return Err(RowError::Field("flags")),
        };
        let epoch = Epoch(input.number("epoch")?);
        if epoch < Epoch::FIRST || epoch > Ino::LAST_EPOCH {
            return Err(RowError::Field("epoch"));
        }
        let root = Ino(input.number("root")?);
        let created_ns = input.i64()?;
        let path = input.counted("path")?.to_vec();
        input.end()?;
        Ok(SnapshotRow { epoch, root, created_ns, path, deleting })
    }
}
