//! How far a preload has come: the piece of a file up to which everything is in the cache, in the order of the walk.
//!
//! ```text
//! version  path: number  below: counted  offset: number
//! ```

use super::RowError;
use super::wire::{Reader, Writer};

/// The cursor of a preload task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreloadCursor {
    /// The path it is at, counted from 0.
    pub path: u64,
    /// The last file dealt with, below that path; empty for none, or where the path is a file.
    pub below: Vec<u8>,
    /// Bytes of that file that are dealt with; `u64::MAX` for all of it.
    pub offset: u64,
}

impl PreloadCursor {
    /// The cursor's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(16 + self.below.len());
        row.number(self.path);
        row.counted(&self.below);
        row.number(self.offset);
        row.done()
    }

    /// The cursor in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let cursor =
            PreloadCursor { path: row.number("path")?, below: row.counted("below")?.to_vec(), offset: row.number("offset")? };
        row.end()?;
        Ok(cursor)
    }
}
