//! What the bucket does not know yet: inodes that changed, objects whose names were taken away here, uploads under way.
//!
//! ```text
//! change   version  generation: number  since: le64
//! doomed   version  heir: number  since: le64  etag: counted  flags:1  [version id: counted]
//! upload   version  generation: number  key: counted  upload id: counted
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

/// A multipart upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    /// The generation of the inode that is sent.
    pub generation: u64,
    /// The object's key.
    pub key: String,
    /// The store's name for the upload.
    pub id: String,
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
        let mut row = Writer::row(24 + self.key.len() + self.id.len());
        row.number(self.generation);
        row.counted(self.key.as_bytes());
        row.counted(self.id.as_bytes());
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let upload = UploadRow { generation: row.number("generation")?, key: row.text("key")?, id: row.text("upload")? };
        row.end()?;
        Ok(upload)
    }
}
