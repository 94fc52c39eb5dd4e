//! Writes that were begun and never recorded: the process was killed, or the store did not answer in time.
//!
//! Each is in the metadata before it is sent. Where the inode still belongs under that key, its next export finds out what became of it. Otherwise it was
//! moved or removed since: an object that came into being all the same is nobody's, and goes.

use super::place::origin;
use super::{ExportResult, Inner};
use crate::ids::Ino;
use crate::meta::{UploadKind, UploadRow};
use crate::repository::write::{PendingUpload, Upload, UploadsRequest};
use crate::repository::{Pin, Urgency, WriteToken};
use crate::vfs::metadata_error;

/// The store's clock may be so far behind, in ns.
const CLOCK_SKEW_NS: i64 = 15 * 60 * 1_000_000_000;

impl Inner {
    /// Notes that an object is about to be written.
    pub(super) fn about_to_write(&self, ino: Ino, key: &str, token: WriteToken, kind: UploadKind) -> ExportResult<()> {
        let row = UploadRow { write: token.bits() as u64, begun_ns: self.clock.wall_ns(), kind };
        Ok(self.meta.begin_upload(ino, key, &row).map_err(metadata_error)?)
    }

    /// A token that no write of the inode had before.
    pub(super) fn new_token(&self, ino: Ino) -> WriteToken {
        self.exports.token(ino, WriteToken::random().bits() as u64)
    }

    /// What an earlier write of the same object came to that nobody was told the end of: the version it made, if that is there. A multipart upload is
    /// aborted.
    pub(super) async fn what_became_of(&self, ino: Ino, key: &str) -> ExportResult<Option<Pin>> {
        let Some(row) = self.meta.upload_of(ino, key).map_err(metadata_error)? else { return Ok(None) };
        self.abort_upload(key, &row).await?;
        Ok(self.repository.was_written(key, self.exports.token(ino, row.write), Urgency::Ahead).await?)
    }

    /// Aborts an upload. Where the store's answer to its begin never came, those are meant that were begun under the key since.
    async fn abort_upload(&self, key: &str, row: &UploadRow) -> ExportResult<()> {
        match &row.kind {
            UploadKind::Whole => {}
            UploadKind::Parts(id) => {
                self.repository.abort_multipart(&Upload { key: key.to_owned(), id: id.clone() }, Urgency::Ahead).await?;
            }
            UploadKind::Beginning => self.abort_begun(key, row.begun_ns, None).await?,
        }
        Ok(())
    }

    /// Aborts the uploads that were begun under a key since a time (wall, ns), all but one.
    pub(super) async fn abort_begun(&self, key: &str, since_ns: i64, but: Option<&str>) -> ExportResult<()> {
        let since_ns = since_ns.saturating_sub(CLOCK_SKEW_NS);
        let is_meant = |pending: &&PendingUpload| {
            pending.upload.key == key && pending.begun_ns >= since_ns && but != Some(pending.upload.id.as_str())
        };
        let mut request = UploadsRequest { prefix: key.to_owned(), ..UploadsRequest::default() };
        loop {
            let page = self.repository.list_multipart(request.clone(), Urgency::Ahead).await?;
            for pending in page.uploads.iter().filter(is_meant) {
                self.repository.abort_multipart(&pending.upload, Urgency::Ahead).await?;
            }
            match page.next {
                Some(next) => request.token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Finds out what became of writes that nobody waits for any more. What cannot be found out now stays noted.
    pub(super) async fn settle_strays(&self) {
        let uploads = match self.meta.uploads() {
            Ok(uploads) => uploads,
            Err(error) => return tracing::error!(%error, "the writes under way could not be read"),
        };
        for (ino, key, row) in uploads {
            if self.meta.is_exporting(ino) {
                continue;
            }
            if let Err(failure) = self.settle_stray(ino, &key, &row).await {
                tracing::warn!(key, %failure, "what became of a write is not known yet");
            }
        }
    }

    async fn settle_stray(&self, ino: Ino, key: &str, row: &UploadRow) -> ExportResult<()> {
        let Some(_key) = self.exports.lock(key) else { return Ok(()) };
        if self.meta.is_exporting(ino) || self.meta.upload_of(ino, key).map_err(metadata_error)?.as_ref() != Some(row) {
            return Ok(());
        }
        let token = self.exports.token(ino, row.write);
        if row.kind != UploadKind::Whole {
            self.abort_upload(key, row).await?;
            self.about_to_write(ino, key, token, UploadKind::Whole)?;
        }
        if self.belongs_at(ino, key)? {
            return Ok(());
        }
        match self.repository.was_written(key, token, Urgency::Ahead).await? {
            Some(pin) => {
                tracing::info!(key, "an object that was written for a file that was moved or removed meanwhile is to go");
                self.meta.doom_stray(&origin(key, pin), ino, self.clock.wall_ns()).map_err(metadata_error)?;
            }
            None => self.meta.end_upload(ino, key).map_err(metadata_error)?,
        }
        Ok(())
    }

    /// Whether an inode has a name that belongs under a key.
    fn belongs_at(&self, ino: Ino, key: &str) -> ExportResult<bool> {
        let Some(row) = self.meta.inode(ino).map_err(metadata_error)? else { return Ok(false) };
        let further = self.meta.further_names(ino).map_err(metadata_error)?;
        let links = row.link.into_iter().chain(further.into_iter().map(|(link, _)| link));
        let bare = key.trim_end_matches('/');
        Ok(links.into_iter().any(|link| self.place_of(&link).is_ok_and(|place| place.key == bare)))
    }
}
