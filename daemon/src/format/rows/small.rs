//! Rows of one field: a number (`version number`), or text and other bytes to the end of the row (`version bytes`).

use super::RowError;
use super::wire::{Reader, Writer};

/// A number's row.
pub fn encode_number(value: u64) -> Vec<u8> {
    let mut row = Writer::row(11);
    row.number(value);
    row.done()
}

/// The number in a row.
pub fn decode_number(bytes: &[u8]) -> Result<u64, RowError> {
    let mut row = Reader::row(bytes)?;
    let value = row.number("number")?;
    row.end()?;
    Ok(value)
}

/// A row of plain bytes: a symlink's target, a setting, the reason a key is hidden.
pub fn encode_text(text: &[u8]) -> Vec<u8> {
    let mut row = Writer::row(1 + text.len());
    row.raw(text);
    row.done()
}

/// The bytes in a row.
pub fn decode_text(bytes: &[u8]) -> Result<&[u8], RowError> {
    Ok(Reader::row(bytes)?.rest())
}
