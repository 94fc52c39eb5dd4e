//! Sending a file's content: whole in one PUT, or in parts.

use super::file::{Refused, Task, headers_of_upload};
use super::{ErrorCode, ExportFailure, Inner};
use crate::cache::Reader;
use crate::error::{self, Error, ErrorKind};
use crate::meta::UploadKind;
use crate::repository::limits::{self, MOST_OBJECT, USUAL_PART};
use crate::repository::write::{
    BeginRequest, Begun, CompleteRequest, CopyPartRequest, CopySource, Part, PartRequest, PutRequest, Upload,
};
use crate::repository::{ObjectHeaders, Payload, Pin, Precondition};
use bytes::Bytes;
use futures::channel::oneshot;
use futures::{StreamExt, TryStreamExt};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes read at a time.
const READ: u64 = 1 << 20;
/// Parts of one file under way at once.
pub(in crate::vfs) const PARTS_AT_ONCE: usize = 16;
/// Larger files go out in parts, in bytes.
pub(in crate::vfs) const WHOLE_UP_TO: u64 = 2 * USUAL_PART;
/// Bytes of a part that is copied at the server.
pub(in crate::vfs) const COPY_PART: u64 = 1 << 30;

impl Inner {
    /// Sends a file's content.
    pub(super) async fn upload(self: &Arc<Self>, task: &Task<'_>, expected: Precondition) -> Result<Pin, Refused> {
        let size = task.sending.row.size;
        if size > MOST_OBJECT {
            let message = format!("{size} bytes, and an object has at most {MOST_OBJECT}");
            return Err(Refused::Failed(ExportFailure::new(ErrorCode::FileSizeTooLarge, message)));
        }
        let reader = self.cache.reader(Arc::clone(task.sending.file()), false);
        let headers = headers_of_upload(&task.sending.row, &task.link.name);
        if size > WHOLE_UP_TO {
            let part = limits::part_size_for(size).map_err(|error| failed(ErrorCode::FileSizeTooLarge, &error))?;
            return self.in_parts(task, headers, expected, |upload| self.send_parts(task, &reader, upload, part)).await;
        }
        let _memory = self.memory_for(size).await;
        let body = self.read_part(&reader, 0..size).await.map_err(refused)?;
        self.must_be_as_it_was(task)?;
        let request = PutRequest { key: task.key.to_owned(), body, headers, precondition: expected };
        task.sending.may_be_seen(true);
        Ok(self.repository.put(request, task.token, task.urgency).await?)
    }

    /// Copies a large object at the server.
    pub(super) async fn copy_in_parts(
        self: &Arc<Self>,
        task: &Task<'_>,
        source: CopySource,
        headers: ObjectHeaders,
        expected: Precondition,
    ) -> Result<Pin, Refused> {
        let size = task.sending.row.size;
        self.in_parts(task, headers, expected, |upload| async move {
            let copy = |(number, range): (u32, Range<u64>)| {
                let request = CopyPartRequest { upload: upload.clone(), number, source: source.clone(), range };
                self.repository.copy_part(request, task.urgency)
            };
            let parts = futures::stream::iter(parts_of(size, COPY_PART)).map(copy).buffered(PARTS_AT_ONCE).try_collect().await;
            Ok(parts?)
        })
        .await
    }

    /// A multipart upload, whose parts come from `send`; aborted if anything fails.
    async fn in_parts<F>(
        &self,
        task: &Task<'_>,
        headers: ObjectHeaders,
        precondition: Precondition,
        send: impl FnOnce(Upload) -> F,
    ) -> Result<Pin, Refused>
    where
        F: Future<Output = Result<Vec<Part>, Refused>>,
    {
        let begin = BeginRequest { key: task.key.to_owned(), headers };
        let note = |kind| self.about_to_write(task.ino, task.key, task.token, kind).map_err(Refused::Failed);
        note(UploadKind::Beginning)?;
        let since_ns = self.clock.wall_ns();
        let Begun { upload, may_be_one_of_several } = self.repository.begin_multipart(begin, task.token, task.urgency).await?;
        if may_be_one_of_several {
            // Before the row names this one alone: otherwise nobody would look for the other.
            self.abort_begun(task.key, since_ns, Some(&upload.id)).await.map_err(Refused::Failed)?;
        }
        let noted = note(UploadKind::Parts(upload.id.clone()));
        let done = async {
            noted?;
            let parts = send(upload.clone()).await?;
            self.must_be_as_it_was(task)?;
            let complete = CompleteRequest { upload: upload.clone(), parts, precondition };
            task.sending.may_be_seen(true);
            Ok(self.repository.complete_multipart(complete, task.token, task.urgency).await?)
        };
        let done = done.await;
        if done.is_err()
            && let Err(error) = self.repository.abort_multipart(&upload, task.urgency).await
        {
            // Its row stays, and it is tried again (`stray`).
            tracing::warn!(key = task.key, %error, "an unfinished upload could not be aborted");
        }
        done
    }

    async fn send_parts(&self, task: &Task<'_>, reader: &Reader, upload: Upload, part: u64) -> Result<Vec<Part>, Refused> {
        let send = |(number, range): (u32, Range<u64>)| {
            let upload = upload.clone();
            async move {
                let _memory = self.memory_for(range.end - range.start).await;
                let body = self.read_part(reader, range).await.map_err(refused)?;
                // No use in going on with what will not be one version.
                self.must_be_as_it_was(task)?;
                Ok::<_, Refused>(self.repository.put_part(PartRequest { upload, number, body }, task.urgency).await?)
            }
        };
        futures::stream::iter(parts_of(task.sending.row.size, part)).map(send).buffered(PARTS_AT_ONCE).try_collect().await
    }

    /// Whatever was read so far is of one version, or this fails.
    fn must_be_as_it_was(&self, task: &Task<'_>) -> Result<(), Refused> {
        match self.cache.is_as_it_was(task.sending) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = format!("'{}' was written to while it was sent", task.key);
                Err(Refused::Failed(ExportFailure::passing(ErrorCode::ResourceBusy, message)))
            }
            Err(error) => Err(Refused::Failed(error.into())),
        }
    }

    /// Memory for a body on its way, for as long as what is returned is kept.
    pub(in crate::vfs) async fn memory_for(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX).clamp(1, self.exports.memory_kib);
        // The semaphore is never closed.
        Arc::clone(&self.exports.memory).acquire_many_owned(kib).await.ok()
    }

    /// Bytes of a file, for whoever sends them.
    pub(in crate::vfs) async fn read_part(&self, reader: &Reader, range: Range<u64>) -> error::Result<Payload> {
        let mut pieces = Vec::with_capacity((range.end - range.start).div_ceil(READ) as usize);
        let mut at = range.start;
        while at < range.end {
            let piece = self.read_piece(reader, at, READ.min(range.end - at)).await?;
            if piece.is_empty() {
                let message = format!("'{}' became shorter while it was sent", reader.file().key());
                return Err(Error::new(ErrorKind::Busy, message));
            }
            at += piece.len() as u64;
            pieces.push(piece);
        }
        Ok(pieces.into())
    }

    async fn read_piece(&self, reader: &Reader, at: u64, len: u64) -> error::Result<Bytes> {
        let (read, outcome) = oneshot::channel();
        self.cache.read(reader, at, len as u32, Box::new(move |bytes| drop(read.send(bytes))));
        outcome.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")))
    }
}

/// Numbers and ranges of parts.
pub(in crate::vfs) fn parts_of(size: u64, part: u64) -> impl Iterator<Item = (u32, Range<u64>)> {
    (1..).zip((0..size.div_ceil(part)).map(move |nth| nth * part..((nth + 1) * part).min(size)))
}

fn refused(error: Error) -> Refused {
    Refused::Failed(error.into())
}

fn failed(code: ErrorCode, error: &impl std::fmt::Display) -> Refused {
    Refused::Failed(ExportFailure::new(code, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::parts_of;

    #[test]
    fn parts_cover_the_file_in_order() {
        let parts: Vec<_> = parts_of(25, 10).collect();
        assert_eq!(parts, [(1, 0..10), (2, 10..20), (3, 20..25)]);
        assert_eq!(parts_of(20, 10).count(), 2);
    }
}
