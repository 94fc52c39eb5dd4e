//! The writes of GCS and Azure.

use super::{GenericStore, Vendor, failed, path};
use crate::repository::posix;
use crate::repository::write::{
    BeginRequest, CompleteRequest, CopyRequest, DeleteRequest, Part, PartRequest, PutRequest, Upload, WriteKind, same_etag,
};
use crate::repository::{ObjectHeaders, ObjectStore, Payload, Pin, Precondition, StoreError, header_text};
use object_store::list::PaginatedListStore;
use object_store::multipart::{MultipartStore, PartId};
use object_store::{
    Attribute, Attributes, CopyMode, CopyOptions, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, UpdateVersion,
};

/// Names of metadata that Forebay reads, which Azure has with `_` for `-`.
const POSIX_NAMES: [&str; 6] = [posix::PERMISSIONS, posix::OWNER, posix::GROUP, posix::ATIME, posix::MTIME, posix::AGENT];

/// Whether the store makes sure of a precondition by itself.
pub fn decides(vendor: Vendor, kind: WriteKind, precondition: &Precondition) -> bool {
    match (kind, precondition) {
        (_, Precondition::Any) => true,
        (WriteKind::Put | WriteKind::Copy, Precondition::Absent) => true,
        // A pin from a listing has no generation.
        (WriteKind::Put, Precondition::Is(pin)) => vendor == Vendor::Azure || pin.version.is_some(),
        _ => false,
    }
}

pub fn unsupported(what: &str, message: &str) -> StoreError {
    StoreError::Unsupported { what: what.to_owned(), message: message.to_owned() }
}

/// `object_store`'s name of a header that [`crate::repository::write::SystemHeaders`] has.
pub fn attribute(header: &str) -> Option<Attribute> {
    Some(match header {
        "content-type" => Attribute::ContentType,
        "content-encoding" => Attribute::ContentEncoding,
        "content-language" => Attribute::ContentLanguage,
        "content-disposition" => Attribute::ContentDisposition,
        "cache-control" => Attribute::CacheControl,
        _ => return None,
    })
}

/// The name of metadata as Forebay knows it.
pub fn told_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let hyphened = name.replace('_', "-");
    if POSIX_NAMES.contains(&hyphened.as_str()) { hyphened } else { name }
}

fn sent_name(vendor: Vendor, name: &str) -> String {
    match vendor {
        Vendor::Gcs => name.to_owned(),
        Vendor::Azure => name.replace(['-', '.'], "_"),
    }
}

fn attributes(vendor: Vendor, headers: &ObjectHeaders) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, value) in headers.system.pairs() {
        if let Some(name) = attribute(name) {
            attributes.insert(name, value.to_owned().into());
        }
    }
    for (name, value) in &headers.user_metadata {
        let name = Attribute::Metadata(sent_name(vendor, name).into());
        attributes.insert(name, header_text::encode(value).into_owned().into());
    }
    attributes
}

fn payload(body: &Payload) -> PutPayload {
    body.pieces().iter().cloned().collect()
}

fn mode(vendor: Vendor, precondition: Precondition) -> PutMode {
    match precondition {
        Precondition::Absent => PutMode::Create,
        Precondition::Is(pin) if decides(vendor, WriteKind::Put, &Precondition::Is(pin.clone())) => {
            PutMode::Update(UpdateVersion { e_tag: Some(pin.etag), version: pin.version })
        }
        Precondition::Any | Precondition::Is(_) => PutMode::Overwrite,
    }
}

fn pin_of(key: &str, result: PutResult) -> Result<Pin, StoreError> {
    let message = "the answer to a write has no ETag".to_owned();
    let etag = result.e_tag.filter(|etag| !etag.is_empty());
    let etag = etag.ok_or_else(|| StoreError::Transient { what: key.to_owned(), message })?;
    Ok(Pin { etag, version: result.version })
}

/// The error of a request about an upload, which `object_store` does not tell from one about a key.
fn upload_failed(key: &str, error: &object_store::Error) -> StoreError {
    match failed(key, error) {
        StoreError::NotFound { key } => StoreError::NoSuchUpload { key },
        other => other,
    }
}

impl<S: object_store::ObjectStore + PaginatedListStore + MultipartStore> GenericStore<S> {
    pub(super) async fn put_object(&self, request: PutRequest) -> Result<Pin, StoreError> {
        let PutRequest { key, body, headers, precondition } = request;
        let attributes = attributes(self.vendor, &headers);
        let options = PutOptions { mode: mode(self.vendor, precondition), attributes, ..PutOptions::default() };
        let result = self.store.put_opts(&path(&key)?, payload(&body), options).await.map_err(|error| failed(&key, &error))?;
        pin_of(&key, result)
    }

    pub(super) async fn delete_object(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let key = &request.key;
        match self.store.delete(&path(key)?).await.map_err(|error| failed(key, &error)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Three requests, since there is no copy of a version, and a copy is answered without one: who writes the source right after the first, or
    /// the target right before the third, is not noticed.
    pub(super) async fn copy_object(&self, request: CopyRequest) -> Result<Pin, StoreError> {
        let CopyRequest { source, key, headers, precondition } = request;
        if headers.is_some() {
            return Err(unsupported(&key, "this store's client cannot replace metadata in a copy"));
        }
        if !same_etag(&self.head(&source.key).await?.pin.etag, &source.pin.etag) {
            return Err(StoreError::Changed { key: source.key });
        }
        let mode = if precondition == Precondition::Absent { CopyMode::Create } else { CopyMode::Overwrite };
        let options = CopyOptions { mode, ..CopyOptions::default() };
        let copied = self.store.copy_opts(&path(&source.key)?, &path(&key)?, options).await;
        copied.map_err(|error| failed(&key, &error))?;
        Ok(self.head(&key).await?.pin)
    }

    pub(super) async fn begin_upload(&self, request: BeginRequest) -> Result<Upload, StoreError> {
        let BeginRequest { key, headers } = request;
        let attributes = attributes(self.vendor, &headers);
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let id = self.store.create_multipart_opts(&path(&key)?, options).await.map_err(|error| failed(&key, &error))?;
        Ok(Upload { key, id })
    }

    pub(super) async fn upload_part(&self, request: PartRequest) -> Result<Part, StoreError> {
        let PartRequest { upload, number, body } = request;
        let index = number as usize - 1;
        let put = self.store.put_part(&path(&upload.key)?, &upload.id, index, payload(&body)).await;
        let part = put.map_err(|error| upload_failed(&upload.key, &error))?;
        Ok(Part { number, etag: part.content_id, crc32c: None })
    }

    /// `object_store` numbers the parts anew, by their place in the list: numbers with gaps would name other parts.
    pub(super) async fn complete_upload(&self, request: CompleteRequest) -> Result<Pin, StoreError> {
        let CompleteRequest { upload, parts, .. } = request;
        if !parts.iter().zip(1..).all(|(part, place)| part.number == place) {
            return Err(unsupported(&upload.key, "this store's client wants parts numbered without gaps"));
        }
        let ids = parts.into_iter().map(|part| PartId { content_id: part.etag }).collect();
        let done = self.store.complete_multipart(&path(&upload.key)?, &upload.id, ids).await;
        pin_of(&upload.key, done.map_err(|error| upload_failed(&upload.key, &error))?)
    }

    pub(super) async fn abort_upload(&self, upload: &Upload) -> Result<(), StoreError> {
        let done = self.store.abort_multipart(&path(&upload.key)?, &upload.id).await;
        done.map_err(|error| upload_failed(&upload.key, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_has_no_hyphens_in_names() {
        assert_eq!(sent_name(Vendor::Azure, "file-permissions"), "file_permissions");
        assert_eq!(sent_name(Vendor::Gcs, "file-permissions"), "file-permissions");
        assert_eq!(told_name("File_Permissions"), "file-permissions");
        assert_eq!(told_name("my_own"), "my_own");
    }

    #[test]
    fn what_cannot_be_decided_is_said() {
        let listed = Precondition::Is(Pin { etag: "e".into(), version: None });
        let known = Precondition::Is(Pin { etag: "e".into(), version: Some("7".into()) });
        assert!(decides(Vendor::Gcs, WriteKind::Put, &known) && !decides(Vendor::Gcs, WriteKind::Put, &listed));
        assert!(decides(Vendor::Azure, WriteKind::Put, &listed));
        assert!(decides(Vendor::Gcs, WriteKind::Copy, &Precondition::Absent));
        for kind in [WriteKind::Delete, WriteKind::Copy, WriteKind::Complete] {
            assert!(!decides(Vendor::Azure, kind, &known), "{kind:?}");
        }
        assert!(!decides(Vendor::Gcs, WriteKind::Complete, &Precondition::Absent));
        assert_eq!(mode(Vendor::Gcs, listed), PutMode::Overwrite);
    }
}
