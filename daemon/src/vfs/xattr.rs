//! Extended attributes: those that people set, and those that show where a file comes from (`user.forebay.*`, read-only).

use super::frozen::must_be_now;
use super::types::Answer;
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::format::acl::{Acl, AclError};
use crate::ids::Ino;
use crate::meta::{AclKind, FileKind, SetMode};

const ETAG: &[u8] = b"user.forebay.etag";
const KEY: &[u8] = b"user.forebay.key";
const VERSION: &[u8] = b"user.forebay.version";
const OURS: &[u8] = b"user.forebay.";
/// `XATTR_SIZE_MAX` of Linux.
const VALUE_MAX: usize = 64 << 10;

impl Vfs {
    /// An extended attribute.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        let find = || {
            let found = if name.starts_with(OURS) {
                self.0.shown(ino)?.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
            } else {
                self.0.meta.xattr(ino, name).map_err(metadata_error)?
            };
            found.ok_or_else(|| Error::new(ErrorKind::NoData, "no such attribute"))
        };
        Answer::Ready(find())
    }

    /// Names of the extended attributes.
    pub fn listxattr(&self, ino: Ino) -> Answer<Vec<Vec<u8>>> {
        let list = || {
            let mut names = self.0.meta.xattr_names(ino).map_err(metadata_error)?;
            names.extend(self.0.shown(ino)?.into_iter().map(|(name, _)| name.to_vec()));
            Ok(names)
        };
        Answer::Ready(list())
    }

    /// Sets an extended attribute. `in_group` says whether the caller belongs to a group: who sets an access control list and does not belong
    /// to the file's takes set-group-ID away.
    ///
    /// # Errors
    /// `Range` for a value over 64 KiB; `Exists` and `NoData` as the mode says; `NotPermitted` for Forebay's own; `Invalid` for an access
    /// control list that is none.
    pub fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: SetMode, in_group: &dyn Fn(u32) -> bool) -> Answer<()> {
        let set = || {
            may_set(name)?;
            must_be_now(ino)?;
            if let Some(kind) = AclKind::of(name) {
                let acl = Acl::decode(value).map_err(acl_error)?;
                let set = self.0.meta.set_acl(ino, kind, acl.as_ref(), in_group, self.0.clock.wall_ns());
                set.map_err(metadata_error)?;
                self.0.note_set_ids(ino, &self.0.inode(ino)?);
                return Ok(());
            }
            if value.len() > VALUE_MAX {
                return Err(Error::new(ErrorKind::Range, format!("an attribute of {} bytes", value.len())));
            }
            self.0.meta.set_xattr(ino, name, value, mode, self.0.clock.wall_ns()).map_err(metadata_error)
        };
        Answer::Ready(set())
    }

    /// Removes an extended attribute.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Answer<()> {
        let remove = || {
            may_set(name)?;
            must_be_now(ino)?;
            if let Some(kind) = AclKind::of(name) {
                // Taking away a list that is not there is no error on Linux.
                return self.0.meta.set_acl(ino, kind, None, &|_| true, self.0.clock.wall_ns()).map_err(metadata_error);
            }
            self.0.meta.remove_xattr(ino, name, self.0.clock.wall_ns()).map_err(metadata_error)
        };
        Answer::Ready(remove())
    }
}

fn acl_error(error: AclError) -> Error {
    let kind = match error {
        AclError::Version(_) => ErrorKind::Unsupported,
        AclError::Invalid(_) => ErrorKind::Invalid,
    };
    Error::new(kind, error.to_string())
}

fn may_set(name: &[u8]) -> Result<()> {
    if name.starts_with(OURS) {
        return Err(Error::new(ErrorKind::NotPermitted, "'user.forebay.' attributes show where a file comes from"));
    }
    Ok(())
}

impl Inner {
    fn shown(&self, ino: Ino) -> Result<Vec<(&'static [u8], Vec<u8>)>> {
        let row = self.inode(ino)?;
        let Some(origin) = row.origin.filter(|_| row.kind != FileKind::Directory && row.base.is_none()) else {
            return Ok(Vec::new());
        };
        let mut all = vec![(ETAG, origin.etag.into_bytes()), (KEY, origin.key.into_bytes())];
        all.extend(origin.version.map(|version| (VERSION, version.into_bytes())));
        Ok(all)
    }
}
