//! Listing states: `version flags listed_at:8 entries [last_key]`.

use super::RowError;
use super::wire::{Reader, Writer};

/// How far the listing of a directory has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingState {
    /// Every key has been seen, up to the end.
    pub complete: bool,
    /// The last key seen, to resume after.
    pub last_key: Option<String>,
    /// When the newest complete listing began, ns since the Unix epoch.
    pub listed_at_ns: i64,
    /// Entries seen.
    pub entries: u64,
}

const COMPLETE: u8 = 1;
const LAST_KEY: u8 = 2;

impl ListingState {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(32);
        row.byte(u8::from(self.complete) * COMPLETE + u8::from(self.last_key.is_some()) * LAST_KEY);
        row.i64(self.listed_at_ns);
        row.number(self.entries);
        if let Some(key) = &self.last_key {
            row.counted(key.as_bytes());
        }
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let flags = row.byte()?;
        if flags > COMPLETE + LAST_KEY {
            return Err(RowError::Field("flags"));
        }
        let listed_at_ns = row.i64()?;
        let entries = row.number("entries")?;
        let last_key = if flags & LAST_KEY != 0 { Some(row.text("last_key")?) } else { None };
        row.end()?;
        Ok(ListingState { complete: flags & COMPLETE != 0, last_key, listed_at_ns, entries })
    }
}
