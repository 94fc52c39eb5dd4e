//! The objects that a snapshot's files have their bytes in: those that are in the bucket, as far as they are still what they were; a copy of them; or what is read here and sent.

use super::{Found, Publishing, count};
use crate::cache::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::format::located::bare;
use crate::format::manifest::data_prefix;
use crate::format::text;
use crate::meta::{FileKind, Origin};
use crate::repository::limits::{self, MOST_SINGLE};
use crate::repository::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, CopySource, Part, PartRequest, PutRequest, Upload, same_etag,
};
use crate::repository::{GetRequest, ObjectHeaders, Pin, Precondition, StoreError, Urgency, WriteToken};
use crate::vfs::export::{COPY_PART, PARTS_AT_ONCE, WHOLE_UP_TO, parts_of};
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use std::ops::Range;

const URGENCY: Urgency = Urgency::Ahead;

/// Why content did not become an object.
enum Unsent {
    /// The bucket's doing.
    Store(StoreError),
    /// It could not be read here.
    Here(Error),
}

type Sent<T> = std::result::Result<T, Unsent>;

impl From<StoreError> for Unsent {
    fn from(error: StoreError) -> Self {
        Unsent::Store(error)
    }
}

impl From<Error> for Unsent {
    fn from(error: Error) -> Self {
        Unsent::Here(error)
    }
}

impl Publishing {
    /// The object that has a file's bytes when this returns; `None` if it has none, or is no file.
    pub(super) async fn object_of(&self, found: &Found) -> Result<Option<Origin>> {
        let row = &found.row;
        if row.kind != FileKind::File || row.size == 0 {
            return Ok(None);
        }
        let own = row.origin.as_ref().filter(|origin| row.base.is_none() && self.target.has(&origin.key));
        let there = match own {
            Some(origin) => self.still_there(origin).await?.map(|pin| (bare(&origin.key), pin)),
            None => None,
        };
        match there {
            Some((key, pin)) if !self.copy => {
                count(&self.progress.referenced, 1);
                Ok(Some(Origin { key: key.to_owned(), etag: pin.etag, version: pin.version }))
            }
            there => self.bring_about(found, there).await.map(Some),
        }
    }

    /// The version of the bucket that an object is, if it is still to be had.
    async fn still_there(&self, origin: &Origin) -> Result<Option<Pin>> {
        match self.inner.repository.head(&origin.key, URGENCY).await {
            Ok(head) if same_etag(&head.pin.etag, &origin.etag) => return Ok(Some(head.pin)),
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(self.failed(&error)),
        }
        if origin.version.is_none() {
            return Ok(None);
        }
        // It was replaced, or deleted; a bucket with versions may have it all the same.
        let pin = Pin { etag: origin.etag.clone(), version: origin.version.clone() };
        let request = GetRequest { key: origin.key.clone(), range: Some(0..1), pin: Some(pin.clone()) };
        match self.inner.repository.fetch(request, URGENCY).await {
            Ok(_) => Ok(Some(pin)),
            Err(StoreError::NotFound { .. } | StoreError::Changed { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Has an object of the snapshot's own hold a file's bytes.
    async fn bring_about(&self, found: &Found, there: Option<(&str, Pin)>) -> Result<Origin> {
        let key = data_prefix(&self.target.prefix, &self.name) + &text::encode(&found.path);
        limits::check_key(&key).map_err(|error| Error::new(ErrorKind::NameTooLong, error.to_string()))?;
        let located = self.target.locate(&key);
        let token = self.token(&[b"data", &found.ino.0.to_be_bytes()]);
        let pin = match self.is_kept(&located, token).await? {
            Some(pin) => pin,
            None => match self.copy_at_server(found, &located, token, there).await? {
                Some(pin) => pin,
                None => self.send(found, &located, token).await?,
            },
        };
        Ok(Origin { key, etag: pin.etag, version: pin.version })
    }

    /// The object, if it is there since an earlier publication of this snapshot.
    async fn is_kept(&self, located: &str, token: WriteToken) -> Result<Option<Pin>> {
        if !self.goes_on {
            return Ok(None);
        }
        let kept = self.inner.repository.was_written(located, token, URGENCY).await.map_err(|error| self.failed(&error))?;
        count(&self.progress.kept, u64::from(kept.is_some()));
        Ok(kept)
    }

    /// Copies an object within the bucket; `None` if there is nothing to be copied any more, or the store cannot.
    async fn copy_at_server(
        &self,
        found: &Found,
        located: &str,
        token: WriteToken,
        there: Option<(&str, Pin)>,
    ) -> Result<Option<Pin>> {
        let Some((key, pin)) = there else { return Ok(None) };
        let source = CopySource { key: self.target.locate(key), pin };
        let copied = match found.row.size {
            size if size > MOST_SINGLE => self.copy_in_parts(size, source, located, token).await,
            _ => {
                let request = CopyRequest {
                    source,
                    key: located.to_owned(),
                    // Headers of its own, so that the token is among them.
                    headers: Some(ObjectHeaders::default()),
                    precondition: Precondition::Absent,
                };
                self.inner.repository.copy(request, token, URGENCY).await.map_err(Unsent::Store)
            }
        };
        match copied {
            Ok(pin) => {
                count(&self.progress.copied, 1);
                Ok(Some(pin))
            }
            // The source, or what was not to be there: sending says which.
            Err(Unsent::Store(StoreError::Changed { .. } | StoreError::NotFound { .. } | StoreError::Unsupported { .. })) => {
                Ok(None)
            }
            Err(Unsent::Store(error)) => Err(self.failed(&error)),
            Err(Unsent::Here(error)) => Err(error),
        }
    }

    async fn copy_in_parts(&self, size: u64, source: CopySource, located: &str, token: WriteToken) -> Sent<Pin> {
        self.in_parts(located, token, |upload| async move {
            let copy = |(number, range): (u32, Range<u64>)| {
                let request = CopyPartRequest { upload: upload.clone(), number, source: source.clone(), range };
                self.inner.repository.copy_part(request, URGENCY).map_err(Unsent::Store)
            };
            futures::stream::iter(parts_of(size, COPY_PART)).map(copy).buffered(PARTS_AT_ONCE).try_collect().await
        })
        .await
    }

    /// Reads a file through the cache and sends it.
    async fn send(&self, found: &Found, located: &str, token: WriteToken) -> Result<Pin> {
        let size = found.row.size;
        let reader = self.inner.cache.reader(self.inner.file_of(found.ino, &found.row)?, false);
        let sent = match size {
            ..=WHOLE_UP_TO => self.send_whole(&reader, size, located, token).await,
            _ => self.send_in_parts(&reader, size, located, token).await,
        };
        let pin = sent.map_err(|unsent| match unsent {
            Unsent::Here(error) => error,
            Unsent::Store(StoreError::Changed { .. }) => self.in_the_way(located),
            Unsent::Store(error) => self.failed(&error),
        })?;
        count(&self.progress.sent, 1);
        count(&self.progress.sent_bytes, size);
        Ok(pin)
    }

    async fn send_whole(&self, reader: &Reader, size: u64, located: &str, token: WriteToken) -> Sent<Pin> {
        let _memory = self.inner.memory_for(size).await;
        let body = self.inner.read_part(reader, 0..size).await?;
        let (key, headers, precondition) = (located.to_owned(), ObjectHeaders::default(), Precondition::Absent);
        Ok(self.inner.repository.put(PutRequest { key, body, headers, precondition }, token, URGENCY).await?)
    }

    async fn send_in_parts(&self, reader: &Reader, size: u64, located: &str, token: WriteToken) -> Sent<Pin> {
        let part = limits::part_size_for(size).map_err(StoreError::Limit)?;
        self.in_parts(located, token, |upload| async move {
            let send = |(number, range): (u32, Range<u64>)| {
                let upload = upload.clone();
                async move {
                    let _memory = self.inner.memory_for(range.end - range.start).await;
                    let body = self.inner.read_part(reader, range).await?;
                    Ok(self.inner.repository.put_part(PartRequest { upload, number, body }, URGENCY).await?)
                }
            };
            futures::stream::iter(parts_of(size, part)).map(send).buffered(PARTS_AT_ONCE).try_collect().await
        })
        .await
    }

    fn in_the_way(&self, located: &str) -> Error {
        let key = bare(located);
        let message = format!(
            "the bucket has another object '{key}', of another snapshot perhaps whose export was interrupted: remove it, or name another prefix"
        );
        Error::new(ErrorKind::Exists, message)
    }

    /// An object made of parts, where there is none.
    async fn in_parts<F>(&self, located: &str, token: WriteToken, send: impl FnOnce(Upload) -> F) -> Sent<Pin>
    where
        F: Future<Output = Sent<Vec<Part>>>,
    {
        let repository = &self.inner.repository;
        let begin = BeginRequest { key: located.to_owned(), headers: ObjectHeaders::default() };
        let upload = repository.begin_multipart(begin, token, URGENCY).await?.upload;
        let done = async {
            let parts = send(upload.clone()).await?;
            let complete = CompleteRequest { upload: upload.clone(), parts, precondition: Precondition::Absent };
            Ok(repository.complete_multipart(complete, token, URGENCY).await?)
        };
        let done = done.await;
        if done.is_err()
            && let Err(error) = repository.abort_multipart(&upload, URGENCY).await
        {
            // The next export of this snapshot to this place drops it.
            tracing::warn!(key = located, %error, "an unfinished upload could not be aborted");
        }
        done
    }
}
