//! Journal records: one per commit of the metadata store, until the tree holds it.
//!
//! ```text
//! payload length:4  crc32c of the rest:4  sequence number:8  payload     (little-endian)
//! payload:  writes (number)  then each write: table:1  key (counted)  00 | 01 value (counted)
//! ```
//! Sequence numbers have no gaps. A journal ends at the first record that is cut short, fails its checksum (zeros do), or has another
//! number than expected: what a power cut leaves is a prefix of what was written. A file may have zeros after its last record.

use super::RowError;
use super::wire::{Reader, Writer};

/// Bytes before the payload.
const HEADER: usize = 16;
const REMOVED: u8 = 0;
const WRITTEN: u8 = 1;

/// A write in a record, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalWrite<'a> {
    /// The table's number.
    pub table: u8,
    /// The row's key.
    pub key: &'a [u8],
    /// The row; `None` where it was removed.
    pub value: Option<&'a [u8]>,
}

/// A record, borrowed from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord<'a> {
    /// The commit's number.
    pub sequence: u64,
    /// What it wrote, in order.
    pub writes: Vec<JournalWrite<'a>>,
    /// Bytes the record takes.
    pub len: usize,
}

/// A record's bytes.
pub fn encode_record<'a>(sequence: u64, count: usize, writes: impl Iterator<Item = JournalWrite<'a>>) -> Vec<u8> {
    let mut record = Writer::bare(HEADER + 128 * count);
    record.raw(&[0; HEADER]);
    record.number(count as u64);
    for write in writes {
        record.byte(write.table);
        record.counted(write.key);
        match write.value {
            None => record.byte(REMOVED),
            Some(value) => {
                record.byte(WRITTEN);
                record.counted(value);
            }
        }
    }
    let mut bytes = record.done();
    let payload = u32::try_from(bytes.len() - HEADER).expect("a commit is far below 4 GiB");
    bytes[8..HEADER].copy_from_slice(&sequence.to_le_bytes());
    bytes[..4].copy_from_slice(&payload.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The record at the head of `bytes`; an error where the journal ends.
pub fn decode_record(bytes: &[u8]) -> Result<JournalRecord<'_>, RowError> {
    let mut header = Reader::bare(bytes);
    let payload = header.le32()? as usize;
    let checksum = header.le32()?;
    let checked = bytes.get(8..HEADER + payload).ok_or(RowError::Short)?;
    if crc32c::crc32c(checked) != checksum {
        return Err(RowError::Field("checksum"));
    }
    let sequence = header.i64()? as u64;
    let mut reader = Reader::bare(header.raw(payload)?);
    let count = reader.small::<usize>("writes")?;
    // Each write takes three bytes or more, so a wrong count cannot ask for much memory.
    let mut writes = Vec::with_capacity(count.min(payload / 3));
    for _ in 0..count {
        let (table, key) = (reader.byte()?, reader.counted("key")?);
        let value = match reader.byte()? {
            REMOVED => None,
            WRITTEN => Some(reader.counted("value")?),
            _ => return Err(RowError::Field("value")),
        };
        writes.push(JournalWrite { table, key, value });
    }
    reader.end()?;
    Ok(JournalRecord { sequence, writes, len: HEADER + payload })
}
