//! Directory entries: `version kind ino`.

use super::RowError;
use super::inode::FileKind;
use super::wire::{Reader, Writer};
use crate::ids::Ino;

/// A directory entry's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent {
    /// What the name refers to.
    pub ino: Ino,
    /// Its kind, for `d_type`.
    pub kind: FileKind,
}

impl Dirent {
    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Writer::row(8);
        row.byte(self.kind.code());
        row.number(self.ino.0);
        row.done()
    }

    /// The row in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let mut row = Reader::row(bytes)?;
        let kind = FileKind::from_code(row.byte()?)?;
        let ino = Ino(row.number("ino")?);
        row.end()?;
        Ok(Dirent { ino, kind })
    }
}
