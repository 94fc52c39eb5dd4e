//! The states of a file's data, as Lustre's HSM names them. Most follow from what is known anyway; two are kept, because people set them.
//!
//! | state | what it means here |
//! | --- | --- |
//! | exists | the bucket has an object for the file, this version of it or another |
//! | archived | the object has the file's content |
//! | dirty | the file was changed here (content, attributes, name) and the object not yet |
//! | released | the object has the content, and nothing of it is here |
//! | norelease, noarchive | kept: the data is to stay here, or not to go to the bucket |
//! | lost | the version that the file stands for was found gone from the bucket; until its directory is listed again, which gives the name what is there by then |

use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Wishes};

/// The states of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "seven states that are there or not, as Lustre has them")]
pub struct HsmState {
    /// The bucket has an object for it.
    pub exists: bool,
    /// It was changed here and the object not yet.
    pub dirty: bool,
    /// Nothing of it is here.
    pub released: bool,
    /// The object has its content.
    pub archived: bool,
    /// It is to stay here.
    pub norelease: bool,
    /// It is not to go to the bucket.
    pub noarchive: bool,
    /// The bucket lost it.
    pub lost: bool,
}

/// What is being done with a file's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HsmAction {
    /// Nothing.
    Nothing,
    /// It is being sent to the bucket.
    Archive,
    /// It is being brought here; bytes that have come.
    Restore(u64),
}

impl Vfs {
    /// The states of what is at a path. Directories and the like have none.
    pub async fn hsm_state(&self, path: &[u8]) -> Result<HsmState> {
        let ino = self.0.walk(path).await?;
        self.0.hsm_state(ino)
    }

    /// What is being done with the data of what is at a path.
    pub async fn hsm_action(&self, path: &[u8]) -> Result<HsmAction> {
        let ino = self.0.walk(path).await?;
        if let Some(bytes) = self.0.restoring.bytes(ino) {
            return Ok(HsmAction::Restore(bytes));
        }
        Ok(if self.0.meta.is_exporting(ino) { HsmAction::Archive } else { HsmAction::Nothing })
    }

    /// Sets and clears what people ask for the data of a file.
    pub async fn set_wishes(&self, path: &[u8], wishes: Wishes) -> Result<HsmState> {
        let inner = &self.0;
        let ino = inner.walk(path).await?;
        let row = inner.meta.set_wishes(ino, wishes).map_err(|error| match metadata_error(error) {
            Error { kind: ErrorKind::Invalid, .. } => {
                let path = String::from_utf8_lossy(path);
                Error::new(ErrorKind::Invalid, format!("'{path}' is not a regular file: only files have states that can be set"))
            }
            other => other,
        })?;
        let row = row.ok_or_else(|| Error::new(ErrorKind::Stale, format!("{ino} no longer exists")))?;
        if wishes.norelease.is_some() {
            inner.cache.pin_file(ino, row.norelease).map_err(metadata_error)?;
        }
        // What was said holds when this returns.
        inner.cache.make_durable().map_err(metadata_error)?;
        inner.hsm_state(ino)
    }
}

impl Inner {
    fn hsm_state(&self, ino: Ino) -> Result<HsmState> {
        // First, so that what is written meanwhile makes it dirty rather than archived.
        let row = self.row(ino)?;
        if row.kind != FileKind::File {
            return Ok(HsmState::default());
        }
        let is_unflushed = self.cache.unflushed(ino).is_some();
        let exists = row.own_origin().is_some();
        let archived = exists && row.base.is_none() && !is_unflushed;
        let is_changed = is_unflushed || self.meta.change_of(ino).map_err(metadata_error)?.is_some();
        let released = archived && row.size > 0 && !self.cache.has_any(&*self.file_of(ino, &row)?)?;
        let lost = self.cache.file_in_use(ino).is_some_and(|file| file.is_changed());
        let (norelease, noarchive) = (row.norelease, row.noarchive);
        Ok(HsmState { exists, dirty: exists && (is_changed || !archived), released, archived, norelease, noarchive, lost })
    }
}
