//! Intents: small writes made durable before their blocks are.
//!
//! ```text
//! version  flags:1  size: number  ctime: le64  [mtime: le64]  pieces: number  then each piece: offset: number  bytes: counted
//! ```

use super::RowError;
use super::wire::{Reader, Writer};

/// The modification time follows.
const HAS_MTIME: u8 = 1;

/// What was written to a file since the last round or intent, small enough to be logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// The file's size in bytes, after it.
    pub size: u64,
    /// When it was last written, unless times were set since.
    pub mtime_ns: Option<i64>,
    /// When it was last changed.
    pub ctime_ns: i64,
    /// Bytes and their offsets, in the order of the file.
    pub pieces: Vec<(u64, Vec<u8>)>,
}

impl Intent {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let bytes: usize = self.pieces.iter().map(|(_, bytes)| bytes.len() + 16).sum();
        let mut row = Writer::row(40 + bytes);
        row.byte(if self.mtime_ns.is_some() { HAS_MTIME } else { 0 });
        row.number(self.size);
        row.i64(self.ctime_ns);
        if let Some(mtime_ns) = self.mtime_ns {
            row.i64(mtime_ns);
        }
        row.number(self.pieces.len() as u64);
        for (offset, bytes) in &self.pieces {
            row.number(*offset);
            row.counted(bytes);
        }
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let flags = row.byte()?;
        if flags & !HAS_MTIME != 0 {
            return Err(RowError::Field("flags"));
        }
        let (size, ctime_ns) = (row.number("size")?, row.i64()?);
        let mtime_ns = (flags & HAS_MTIME != 0).then(|| row.i64()).transpose()?;
        let count = row.small::<usize>("pieces")?;
        // Each takes two bytes or more, so a wrong count cannot ask for much memory.
        let mut pieces = Vec::with_capacity(count.min(bytes.len() / 2));
        for _ in 0..count {
            let offset = row.number("offset")?;
            pieces.push((offset, row.counted("bytes")?.to_vec()));
        }
        row.end()?;
        Ok(Intent { size, mtime_ns, ctime_ns, pieces })
    }
}
