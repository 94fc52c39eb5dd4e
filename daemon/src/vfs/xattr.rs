//! Extended attributes that show where a file comes from.

use super::types::Answer;
use super::{Inner, Vfs};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;

const ETAG: &[u8] = b"user.forebay.etag";
const KEY: &[u8] = b"user.forebay.key";
const VERSION: &[u8] = b"user.forebay.version";

impl Vfs {
    /// An extended attribute (`user.forebay.etag`, `user.forebay.key`, `user.forebay.version`).
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        let find = || {
            let attributes = self.0.xattrs(ino)?;
            let found = attributes.into_iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value).ok_or_else(|| Error::new(ErrorKind::NoData, "no such attribute"))
        };
        Answer::Ready(find())
    }

    /// Names of the extended attributes.
    pub fn listxattr(&self, ino: Ino) -> Answer<Vec<Vec<u8>>> {
        Answer::Ready(self.0.xattrs(ino).map(|all| all.into_iter().map(|(name, _)| name.to_vec()).collect()))
    }
}

impl Inner {
    fn xattrs(&self, ino: Ino) -> Result<Vec<(&'static [u8], Vec<u8>)>> {
        let Some(origin) = self.inode(ino)?.origin else { return Ok(Vec::new()) };
        let mut all = vec![(ETAG, origin.etag.into_bytes()), (KEY, origin.key.into_bytes())];
        all.extend(origin.version.map(|version| (VERSION, version.into_bytes())));
        Ok(all)
    }
}
