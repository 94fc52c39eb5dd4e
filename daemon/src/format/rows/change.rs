//! What the bucket does not know yet: inodes that changed, objects whose names were taken away here, uploads under way.
//!
//! ```text
//! change   version  generation: number  since: le64
//! doomed   version  heir: number  since: le64  etag: counted  flags:1  [version id: counted]
//! upload   version  write: number  begun: le64  kind:1 (0 whole, 1 in parts, 2 in parts with)  [upload id to the end]
//! ```

use super::RowError;
use super::wire::{Reader, Writer};
use crate::ids::Ino;

/// That an inode is not what the bucket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    /// Grows with each change.
    pub generation: u64,
    /// When the first of them was, ns since the Unix epoch.
    pub since_ns: i64,
}

/// An object that the bucket still has under a name that was taken away here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoomedRow {
    /// The inode that had the name, and may still need the object's bytes.
    pub heir: Ino,
    /// When the name was taken away, ns since the Unix epoch.
    pub since_ns: i64,
    /// The version that was seen last; empty for a directory's marker.
    pub etag: String,
    /// Its version id, where known.
    pub version: Option<String>,
}

/// How an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadKind {
    /// By one request.
    Whole,
    /// In parts; the store was asked to begin.
    Beginning,
    /// In parts, under this id.
    Parts(String),
}

/// A write to the bucket that was begun, and may have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    /// Names the write: the end of its token.
    pub write: u64,
    /// When, ns since the Unix epoch.
    pub begun_ns: i64,
    /// How.
    pub kind: UploadKind,
}

/// The version id follows.
const HAS_VERSION: u8 = 1;

impl ChangeRow {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(20);
        row.number(self.generation);
        row.i64(self.since_ns);
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let change = ChangeRow { generation: row.number("generation")?, since_ns: row.i64()? };
        row.end()?;
        Ok(change)
    }
}

impl DoomedRow {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(64);
        row.number(self.heir.0);
        row.i64(self.since_ns);
        row.counted(self.etag.as_bytes());
        row.byte(if self.version.is_some() { HAS_VERSION } else { 0 });
        if let Some(version) = &self.version {
            row.counted(version.as_bytes());
        }
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let (heir, since_ns, etag) = (Ino(row.number("heir")?), row.i64()?, row.text("etag")?);
        let flags = row.byte()?;
        if flags & !HAS_VERSION != 0 {
            return Err(RowError::Field("flags"));
        }
        let version = (flags & HAS_VERSION != 0).then(|| row.text("version")).transpose()?;
        row.end()?;
        Ok(DoomedRow { heir, since_ns, etag, version })
    }
}

impl UploadRow {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(64);
        row.number(self.write);
        row.i64(self.begun_ns);
        match &self.kind {
            UploadKind::Whole => row.byte(0),
            UploadKind::Beginning => row.byte(1),
            UploadKind::Parts(id) => {
                row.byte(2);
                row.raw(id.as_bytes());
            }
        }
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let (write, begun_ns, code) = (row.number("write")?, row.i64()?, row.byte()?);
        let kind = match code {
            0 | 1 => {
                row.end()?;
                if code == 0 { UploadKind::Whole } else { UploadKind::Beginning }
            }
            2 => UploadKind::Parts(std::str::from_utf8(row.rest()).map_err(|_| RowError::Text("upload"))?.to_owned()),
            _ => return Err(RowError::Field("kind")),
        };
        Ok(UploadRow { write, begun_ns, kind })
    }
}
