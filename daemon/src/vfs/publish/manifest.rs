//! Writing a manifest as its lines come: whole if it is small, else in parts, so that no more than a part is in memory.

use crate::repository::limits::USUAL_PART;
use crate::repository::write::{
    BeginRequest, CompleteRequest, Part, PartRequest, PutRequest, SystemHeaders, Upload, UploadsRequest,
};
use crate::repository::{ObjectHeaders, Precondition, Repository, StoreError, Urgency, WriteToken};
use std::sync::Arc;

const URGENCY: Urgency = Urgency::Ahead;
/// What a manifest is, for whoever looks at the bucket.
const CONTENT_TYPE: &str = "application/x-ndjson";

/// A manifest on its way. Nobody sees it before [`ManifestWriter::finish`].
pub(super) struct ManifestWriter {
    repository: Arc<Repository>,
    key: String,
    token: WriteToken,
    /// What is not sent yet; lines are added at its end.
    pub(super) buffer: Vec<u8>,
    upload: Option<Upload>,
    parts: Vec<Part>,
}

fn headers() -> ObjectHeaders {
    let system = SystemHeaders { content_type: Some(CONTENT_TYPE.to_owned()), ..SystemHeaders::default() };
    ObjectHeaders { system, ..ObjectHeaders::default() }
}

impl ManifestWriter {
    pub(super) fn new(repository: &Arc<Repository>, key: String, token: WriteToken) -> Self {
        let repository = Arc::clone(repository);
        ManifestWriter { repository, key, token, buffer: Vec::new(), upload: None, parts: Vec::new() }
    }

    /// Sends the parts that are full: all of one size, as some stores want them.
    pub(super) async fn send_full_parts(&mut self) -> Result<(), StoreError> {
        while self.buffer.len() as u64 > USUAL_PART {
            let rest = self.buffer.split_off(USUAL_PART as usize);
            let part = std::mem::replace(&mut self.buffer, rest);
            self.send_part(part).await?;
        }
        Ok(())
    }

    async fn send_part(&mut self, body: Vec<u8>) -> Result<(), StoreError> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                let begin = BeginRequest { key: self.key.clone(), headers: headers() };
                let begun = self.repository.begin_multipart(begin, self.token, URGENCY).await?;
                if begun.may_be_one_of_several {
                    abort_uploads(&self.repository, &self.key, Some(&begun.upload.id)).await?;
                }
                self.upload.insert(begun.upload).clone()
            }
        };
        let number = self.parts.len() as u32 + 1;
        let part = self.repository.put_part(PartRequest { upload, number, body: body.into() }, URGENCY).await?;
        self.parts.push(part);
        Ok(())
    }

    /// Makes it an object, where there is none.
    pub(super) async fn finish(&mut self) -> Result<(), StoreError> {
        self.send_full_parts().await?;
        let last = std::mem::take(&mut self.buffer);
        let precondition = Precondition::Absent;
        if self.upload.is_none() {
            let request = PutRequest { key: self.key.clone(), body: last.into(), headers: headers(), precondition };
            return self.repository.put(request, self.token, URGENCY).await.map(drop);
        }
        self.send_part(last).await?;
        let Some(upload) = self.upload.clone() else { return Ok(()) };
        let request = CompleteRequest { upload, parts: std::mem::take(&mut self.parts), precondition };
        self.repository.complete_multipart(request, self.token, URGENCY).await?;
        self.upload = None;
        Ok(())
    }

    /// Nothing comes of it.
    pub(super) async fn abort(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        if let Err(error) = self.repository.abort_multipart(&upload, URGENCY).await {
            // The next export of this snapshot to this place drops it.
            tracing::warn!(key = self.key, %error, "an unfinished upload could not be aborted");
        }
    }
}

/// Drops the uploads below a prefix that were never finished, but for one.
pub(super) async fn abort_uploads(repository: &Repository, prefix: &str, except: Option<&str>) -> Result<(), StoreError> {
    let mut token = None;
    loop {
        let request = UploadsRequest { prefix: prefix.to_owned(), token, max_uploads: None };
        let page = match repository.list_multipart(request, URGENCY).await {
            // A store without them.
            Err(StoreError::Unsupported { .. }) => return Ok(()),
            page => page?,
        };
        for pending in page.uploads.iter().filter(|pending| except != Some(pending.upload.id.as_str())) {
            repository.abort_multipart(&pending.upload, URGENCY).await?;
        }
        token = page.next;
        if token.is_none() {
            return Ok(());
        }
    }
}
