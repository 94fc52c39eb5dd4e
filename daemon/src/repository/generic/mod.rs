//! Google Cloud Storage and Azure Blob Storage, through `object_store`.
//!
//! Its `Path` cannot name keys with empty parts (`a//b`), `.` or `..` parts, or control characters, nor tell `dir/` from
//! `dir`: such a key fails the listing page that holds it, and a marker object of a directory is neither listed nor written.
//!
//! What its client cannot do on a write ([`StoreError::Unsupported`]): metadata replaced without the content, ranges copied as parts, uploads
//! under way listed; on Azure, metadata of what is written in parts. Bodies carry no checksum of ours.

mod write;

use super::body::pieces;
use super::range::clamp;
use super::time::since_epoch;
use super::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, DeleteRequest, Part, PartRequest, PutRequest, SystemHeaders,
    Upload, UploadsPage, UploadsRequest, WriteKind, same_etag,
};
use super::{
    GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectStore, ObjectSummary, Pin, Precondition, StoreError,
    header_text,
};
use async_trait::async_trait;
use futures::StreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Attribute, Attributes, Error, GetOptions, GetRange, ObjectMeta};
use std::collections::BTreeMap;

/// Whose bucket it is, as far as their ways differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Google Cloud Storage: versions are told by their generation.
    Gcs,
    /// Azure Blob Storage: versions are told by their ETag; names of metadata have no `-`.
    Azure,
}

/// A bucket that `object_store` speaks to.
pub struct GenericStore<S> {
    name: String,
    store: S,
    vendor: Vendor,
}

impl<S> GenericStore<S> {
    /// `name` is for people, such as `gs://bucket`.
    pub fn new(name: String, store: S, vendor: Vendor) -> Self {
        GenericStore { name, store, vendor }
    }
}

fn path(key: &str) -> Result<Path, StoreError> {
    let parsed = Path::parse(key).ok().filter(|path| path.as_ref() == key);
    let message = "this store's client cannot name such a key".to_owned();
    parsed.ok_or_else(|| StoreError::Permanent { what: key.to_owned(), message })
}

/// `object_store` hides the status of what it does not sort itself, so a throttled request is told by its words.
fn failed(what: &str, error: &Error) -> StoreError {
    let what = what.to_owned();
    let message = error.to_string();
    match error {
        Error::NotFound { .. } => StoreError::NotFound { key: what },
        Error::Precondition { .. } | Error::NotModified { .. } => StoreError::Changed { key: what },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::AccessDenied { what, message },
        // What a write says that insists on absence.
        Error::AlreadyExists { .. } => StoreError::Changed { key: what },
        Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreError::Unsupported { what, message },
        Error::InvalidPath { .. } => StoreError::Permanent { what, message },
        _ if ["429 Too Many", "503 Service", "ServerBusy"].iter().any(|words| message.contains(words)) => {
            StoreError::SlowDown { retry_after: None }
        }
        _ if ["error sending request", "error trying to connect", "dns error", "Connection refused"]
            .iter()
            .any(|words| message.contains(words)) =>
        {
            StoreError::Unreachable { endpoint: what, message: innermost(error) }
        }
        _ => StoreError::Transient { what, message },
    }
}

fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn head_of(key: &str, meta: ObjectMeta, attributes: &Attributes) -> Result<ObjectHead, StoreError> {
    let no_etag = || StoreError::Permanent { what: key.to_owned(), message: "the store gives no ETag".to_owned() };
    let pin = Pin { etag: meta.e_tag.filter(|etag| !etag.is_empty()).ok_or_else(no_etag)?, version: meta.version };
    let user_metadata: BTreeMap<String, String> = attributes
        .iter()
        .filter_map(|(name, value)| match name {
            Attribute::Metadata(name) => Some((write::told_name(name), header_text::decode(value.as_ref()))),
            _ => None,
        })
        .collect();
    let modified_ns = since_epoch(meta.last_modified.into()).unwrap_or_default();
    let system = SystemHeaders::pick(|name| attributes.get(&write::attribute(name)?).map(|value| value.as_ref().to_owned()));
    Ok(ObjectHead { size: meta.size, pin, modified_ns, user_metadata, system })
}

fn summary(name: &str, meta: ObjectMeta) -> Result<ObjectSummary, StoreError> {
    let key = meta.location.to_string();
    let head = head_of(name, meta, &Attributes::new())?;
    Ok(ObjectSummary { key, size: head.size, etag: head.pin.etag, modified_ns: head.modified_ns })
}

#[async_trait]
impl<S: object_store::ObjectStore + PaginatedListStore + MultipartStore> ObjectStore for GenericStore<S> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, request: GetRequest) -> Result<GetResponse, StoreError> {
        let GetRequest { key, range, pin } = request;
        let mut options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
        if let Some(pin) = &pin {
            options.if_match = Some(pin.etag.clone());
            options.version = pin.version.clone();
        }
        let result = self.store.get_opts(&path(&key)?, options).await.map_err(|error| failed(&key, &error))?;
        let head = head_of(&key, result.meta.clone(), &result.attributes)?;
        if pin.is_some_and(|pin| !same_etag(&pin.etag, &head.pin.etag)) {
            return Err(StoreError::Changed { key });
        }
        let got = result.range.clone();
        if got != clamp(&key, range.clone(), head.size)? {
            let message = format!("asked for bytes {range:?}, the answer has {got:?}");
            return Err(StoreError::Permanent { what: key, message });
        }
        let body = result.into_stream().map(move |piece| piece.map_err(|error| failed(&key, &error))).boxed();
        Ok(GetResponse { head, range: got, body: pieces(body) })
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, StoreError> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let result = self.store.get_opts(&path(key)?, options).await.map_err(|error| failed(key, &error))?;
        head_of(key, result.meta, &result.attributes)
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let options = PaginatedListOptions {
            offset: request.start_after.clone().filter(|_| request.token.is_none()),
            delimiter: request.delimited.then_some("/".into()),
            max_keys: request.max_keys.map(|most| most as usize),
            page_token: request.token,
            ..PaginatedListOptions::default()
        };
        let prefix = Some(request.prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let listed = self.store.list_paginated(prefix, options).await.map_err(|error| match failed(&self.name, &error) {
            StoreError::NotFound { .. } => StoreError::NoSuchBucket { bucket: self.name.clone() },
            other => other,
        })?;
        let mut page = ListPage { next: listed.page_token.filter(|token| !token.is_empty()), ..ListPage::default() };
        let is_new =
            |key: &String| key.starts_with(&request.prefix) && request.start_after.as_ref().is_none_or(|after| key > after);
        let prefixes = listed.result.common_prefixes.iter().map(|prefix| format!("{prefix}/"));
        page.prefixes = prefixes.filter(is_new).collect();
        for meta in listed.result.objects {
            page.objects.extend(Some(summary(&self.name, meta)?).filter(|object| is_new(&object.key)));
        }
        page.prefixes.sort_unstable();
        page.objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(page)
    }

    fn decides(&self, kind: WriteKind, precondition: &Precondition) -> bool {
        write::decides(self.vendor, kind, precondition)
    }

    async fn put(&self, request: PutRequest) -> Result<Pin, StoreError> {
        self.put_object(request).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        self.delete_object(request).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Pin, StoreError> {
        self.copy_object(request).await
    }

    async fn begin_multipart(&self, request: BeginRequest) -> Result<Upload, StoreError> {
        self.begin_upload(request).await
    }

    async fn put_part(&self, request: PartRequest) -> Result<Part, StoreError> {
        self.upload_part(request).await
    }

    async fn copy_part(&self, request: CopyPartRequest) -> Result<Part, StoreError> {
        Err(write::unsupported(&request.source.key, "this store's client cannot copy ranges"))
    }

    async fn complete_multipart(&self, request: CompleteRequest) -> Result<Pin, StoreError> {
        self.complete_upload(request).await
    }

    async fn abort_multipart(&self, upload: &Upload) -> Result<(), StoreError> {
        self.abort_upload(upload).await
    }

    async fn list_multipart(&self, request: UploadsRequest) -> Result<UploadsPage, StoreError> {
        Err(write::unsupported(&request.prefix, "this store's client cannot list uploads"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_become_others_are_refused() {
        for key in ["a//b", "/a", "a/", "a/../b", "", "a\n"] {
            assert!(path(key).is_err() || key.is_empty(), "{key:?}");
        }
        assert_eq!(path("a b/ä%20.txt").map(|path| path.to_string()).ok().as_deref(), Some("a b/ä%20.txt"));
    }
}
