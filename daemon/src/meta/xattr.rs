//! Extended attributes.

use super::engine::{KeyRange, Table};
use super::inode::read_for_change;
use super::rows::damaged;
use super::{MetaError, MetaStore, Refusal};
use crate::format::rows::{RowError, decode_text, encode_text, key};
use crate::ids::Ino;
use std::ops::ControlFlow;

/// What `setxattr` may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// The attribute or nothing.
    Either,
    /// Nothing (`XATTR_CREATE`).
    Create,
    /// The attribute (`XATTR_REPLACE`).
    Replace,
}

impl MetaStore {
    /// An attribute's value.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>, MetaError> {
        let (reading, own) = self.reading_of(ino)?;
        let row = reading.newest(Table::Xattrs, &key::xattr(own, name))?;
        row.map(|row| decode_text(&row).map(<[u8]>::to_vec).map_err(damaged(Table::Xattrs))).transpose()
    }

    /// The names of an inode's attributes.
    pub fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>, MetaError> {
        let mut names = Vec::new();
        let (reading, own) = self.reading_of(ino)?;
        reading.scan(Table::Xattrs, &KeyRange::prefix(&key::ino(own)), &mut |prefix, _| {
            let name = key::xattr_name(prefix).ok_or_else(|| damaged(Table::Xattrs)(RowError::Field("name")))?;
            names.push(name.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(names)
    }

    /// Sets an attribute.
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: SetMode, now_ns: i64) -> Result<(), MetaError> {
        if !key::is_attribute(name) {
            return Err(Refusal::Invalid("not an attribute's name").into());
        }
        self.transact(|txn| {
            let mut row = read_for_change(txn, ino)?.ok_or(Refusal::NotFound)?;
            let at = key::xattr(ino, name);
            match (mode, txn.read(Table::Xattrs, &at)?) {
                (SetMode::Create, Some(_)) => return Err(Refusal::Exists.into()),
                (SetMode::Replace, None) => return Err(Refusal::NoAttribute.into()),
                _ => {}
            }
            row.ctime_ns = now_ns;
            txn.write(Table::Xattrs, &at, encode_text(value));
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            Ok(())
        })
    }

    /// Removes an attribute.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8], now_ns: i64) -> Result<(), MetaError> {
        self.transact(|txn| {
            let mut row = read_for_change(txn, ino)?.ok_or(Refusal::NotFound)?;
            let at = key::xattr(ino, name);
            if txn.read(Table::Xattrs, &at)?.is_none() {
                return Err(Refusal::NoAttribute.into());
            }
            row.ctime_ns = now_ns;
            txn.remove(Table::Xattrs, &at)?;
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            Ok(())
        })
    }
}
