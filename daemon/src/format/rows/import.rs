//! How far an import has come: what is left of the path it is at.
//!
//! ```text
//! version  path: number  left: number, then each: flags:1 [start: counted] [end: counted]  cuts: number, then each: counted
//! ```

use super::RowError;
use super::wire::{Reader, Writer};

const START: u8 = 1;
const END: u8 = 2;

/// Keys after `start`, up to and with `end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySpan {
    /// `None`: from the first on.
    pub start: Option<String>,
    /// `None`: to the last.
    pub end: Option<String>,
}

/// The cursor of an import task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportCursor {
    /// The path it is at, counted from 0.
    pub path: u64,
    /// The keys below it that are still to be listed, in spans; none: not begun.
    pub left: Vec<KeySpan>,
    /// The keys at which spans ever ended or began.
    pub cuts: Vec<String>,
}

impl ImportCursor {
    /// The cursor's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(64);
        row.number(self.path);
        row.number(self.left.len() as u64);
        for KeySpan { start, end } in &self.left {
            row.byte(u8::from(start.is_some()) * START + u8::from(end.is_some()) * END);
            [start, end].into_iter().flatten().for_each(|key| row.counted(key.as_bytes()));
        }
        row.number(self.cuts.len() as u64);
        self.cuts.iter().for_each(|cut| row.counted(cut.as_bytes()));
        row.done()
    }

    /// The cursor in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let mut cursor = ImportCursor { path: row.number("path")?, ..ImportCursor::default() };
        for _ in 0..row.number("left")? {
            let flags = row.byte()?;
            if flags > START + END {
                return Err(RowError::Field("flags"));
            }
            let start = (flags & START != 0).then(|| row.text("start")).transpose()?;
            let end = (flags & END != 0).then(|| row.text("end")).transpose()?;
            cursor.left.push(KeySpan { start, end });
        }
        for _ in 0..row.number("cuts")? {
            cursor.cuts.push(row.text("cut")?);
        }
        row.end()?;
        Ok(cursor)
    }
}
