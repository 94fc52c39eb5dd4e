//! A directory of a clone whose entries are not all made yet.
//!
//! ```text
//! clone     version  epoch source root: numbers  made: le64  after: counted
//! ```

use super::RowError;
use super::wire::{Reader, Writer};
use crate::ids::{Epoch, Ino};

/// Where the entries of a clone's directory come from, and how many of them are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneRow {
    /// The epoch that is cloned.
    pub epoch: Epoch,
    /// The directory whose entries are to be made.
    pub source: Ino,
    /// The directory that the whole clone hangs from.
    pub root: Ino,
    /// When the clone was begun, ns since the Unix epoch.
    pub made_ns: i64,
    /// All entries up to this name are made; empty: none.
    pub after: Vec<u8>,
}

impl CloneRow {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::row(32 + self.after.len());
        out.number(self.epoch.0);
        out.number(self.source.0);
        out.number(self.root.0);
        out.i64(self.made_ns);
        out.counted(&self.after);
        out.done()
    }

    /// The row in these bytes.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let mut input = Reader::row(row)?;
        let epoch = Epoch(input.number("epoch")?);
        if epoch < Epoch::FIRST || epoch > Ino::LAST_EPOCH {
            return Err(RowError::Field("epoch"));
        }
        let (source, root) = (Ino(input.number("source")?), Ino(input.number("root")?));
        let made_ns = input.i64()?;
        let after = input.counted("after")?.to_vec();
        input.end()?;
        Ok(CloneRow { epoch, source, root, made_ns, after })
    }
}
