//! What a file says about itself as an object: headers and user metadata in the extended attribute `user.forebay.meta`, as JSON.
//!
//! It names the ETag it was written for. A file that somebody changed in place since is another version: its metadata still holds, but
//! nobody's [`crate::repository::WriteToken`] does. Of a directory the attribute makes a marker object (`dir/`), whose ETag and time it has.

use crate::repository::ObjectHeaders;
use crate::repository::posix::AGENT;
use crate::repository::write::SystemHeaders;
use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

const NAME: &str = "user.forebay.meta";
/// S3's 2 KiB of metadata, escaped at worst, with room for headers. File systems hold 4 KiB or more.
const MOST: usize = 64 << 10;

/// The attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// The version it was written for; of a marker: the version.
    pub etag: String,
    /// Of a marker: when it was written, ns since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl Attributes {
    /// What this version should say.
    pub fn new(etag: &str, modified_ns: Option<i64>, headers: &ObjectHeaders) -> Self {
        let system = headers.system.pairs().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Attributes { etag: etag.to_owned(), modified_ns, headers: system.collect(), metadata: headers.user_metadata.clone() }
    }

    /// Reads them; `None` if there are none, or none that make sense.
    pub fn read(file: impl AsFd) -> io::Result<Option<Self>> {
        let mut value = vec![0; 1 << 10];
        loop {
            match fgetxattr(&file, NAME, value.as_mut_slice()) {
                Ok(length) => return Ok(serde_json::from_slice(&value[..length]).ok()),
                Err(Errno::RANGE) if value.len() < MOST => value.resize(value.len() * 4, 0),
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes them.
    pub fn write(&self, file: impl AsFd) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        Ok(fsetxattr(file, NAME, &text, XattrFlags::empty())?)
    }

    /// Takes them away.
    pub fn remove(file: impl AsFd) -> io::Result<()> {
        match fremovexattr(file, NAME) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The headers of the version `etag`.
    pub fn headers(mut self, etag: &str) -> ObjectHeaders {
        if self.etag != etag {
            self.metadata.remove(AGENT);
        }
        let system = SystemHeaders::pick(|name| self.headers.remove(name));
        ObjectHeaders { system, user_metadata: self.metadata }
    }
}
