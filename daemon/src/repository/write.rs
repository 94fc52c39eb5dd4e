//! The vocabulary of writes: what is sent, what it says about the object, and what must hold for it to happen.

use super::{Pin, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a write: pieces sent in order, not joined. Cheap to clone, so that a retry sends them again.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pieces: Arc<[Bytes]>,
    length: u64,
}

impl Payload {
    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces, none of them empty.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// CRC-32C (Castagnoli) of all bytes.
    pub fn crc32c(&self) -> u32 {
        self.pieces.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece))
    }

    /// All bytes in one piece; a copy if there are several.
    pub fn joined(&self) -> Bytes {
        match &*self.pieces {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Payload { pieces: pieces.into(), length }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        vec![bytes].into()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

/// What must hold of the key for a write to happen; otherwise it is [`StoreError::Changed`], and nothing is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Whatever is there is replaced.
    #[default]
    Any,
    /// Nothing may be there (`If-None-Match: *`).
    Absent,
    /// This version must be there (`If-Match`: its ETag; a version id says nothing here). If the key is gone, S3 says
    /// [`StoreError::NotFound`].
    Is(Pin),
}

/// The kinds of writes that can be conditional, for [`super::ObjectStore::decides`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// A PUT.
    Put,
    /// A DELETE.
    Delete,
    /// A copy at the server (the precondition on its target; the source's pin is not meant).
    Copy,
    /// The end of a multipart upload.
    Complete,
}

/// What HTTP says about an object's content, kept by the store beside the user metadata. Whoever replaces metadata by a copy must state these anew,
/// or they are lost: [`super::ObjectHead::system`] has them. `None` is the store's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemHeaders {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `x-amz-storage-class`; a copy without it goes to STANDARD.
    pub storage_class: Option<String>,
}

impl SystemHeaders {
    /// The headers that are set, names in lower case.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("content-type", &self.content_type),
            ("content-encoding", &self.content_encoding),
            ("content-language", &self.content_language),
            ("content-disposition", &self.content_disposition),
            ("cache-control", &self.cache_control),
            ("x-amz-storage-class", &self.storage_class),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// Picks them from wherever headers are.
    pub fn pick(mut header: impl FnMut(&str) -> Option<String>) -> Self {
        SystemHeaders {
            // What S3 answers where nobody said anything.
            content_type: header("content-type").filter(|value| value != "binary/octet-stream"),
            content_encoding: header("content-encoding"),
            content_language: header("content-language"),
            content_disposition: header("content-disposition"),
            cache_control: header("cache-control"),
            storage_class: header("x-amz-storage-class").filter(|value| value != "STANDARD"),
        }
    }
}

/// What a write says about its object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// What HTTP says; nothing by default.
    pub system: SystemHeaders,
    /// User metadata, names in lower case without the `x-amz-meta-` prefix. [`super::Repository`] adds `user-agent`, which it owns.
    pub user_metadata: BTreeMap<String, String>,
}

/// A PUT of a whole object.
#[derive(Clone, Debug, Default)]
pub struct PutRequest {
    /// The full object key.
    pub key: String,
    /// The object's bytes.
    pub body: Payload,
    /// What is said about it.
    pub headers: ObjectHeaders,
    /// What must hold of the key.
    pub precondition: Precondition,
}

/// A DELETE. In a bucket with versions it adds a delete marker; no version is ever destroyed.
#[derive(Clone, Debug, Default)]
pub struct DeleteRequest {
    /// The full object key.
    pub key: String,
    /// The version that must be there; `None` deletes whatever is.
    pub pin: Option<Pin>,
}

/// One version of an object of the same bucket, to copy from.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// The full object key.
    pub key: String,
    /// The version; the copy fails with [`StoreError::Changed`] if its ETag is another by now.
    pub pin: Pin,
}

/// A copy at the server, of up to 5 GiB; onto the source's own key it changes the metadata.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// What is copied.
    pub source: CopySource,
    /// The key it becomes.
    pub key: String,
    /// New headers and metadata, all of them; `None` keeps those of the source.
    pub headers: Option<ObjectHeaders>,
    /// What must hold of `key`.
    pub precondition: Precondition,
}

/// The begin of a multipart upload.
#[derive(Clone, Debug, Default)]
pub struct BeginRequest {
    /// The full object key.
    pub key: String,
    /// What is said about the object.
    pub headers: ObjectHeaders,
}

/// A multipart upload under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The key it will become.
    pub key: String,
    /// The store's id.
    pub id: String,
}

/// A multipart upload that was just begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The upload.
    pub upload: Upload,
    /// Whether a try before may have begun another one, whose reply was lost: that is nobody's.
    pub may_be_one_of_several: bool,
}

/// Bytes of a multipart upload.
#[derive(Clone, Debug)]
pub struct PartRequest {
    /// The upload.
    pub upload: Upload,
    /// From 1 to 10,000; the object is made of its parts in the order of their numbers.
    pub number: u32,
    /// The bytes, at least 5 MiB unless it is the last part.
    pub body: Payload,
}

/// A range of an object as a part of a multipart upload.
#[derive(Clone, Debug)]
pub struct CopyPartRequest {
    /// The upload.
    pub upload: Upload,
    /// As [`PartRequest::number`].
    pub number: u32,
    /// What is copied.
    pub source: CopySource,
    /// Which bytes of it; must lie within it, not empty.
    pub range: Range<u64>,
}

/// A part as the store acknowledged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: u32,
    /// Its ETag.
    pub etag: String,
    /// Its CRC-32C in base64, where the store keeps one.
    pub crc32c: Option<String>,
}

/// The end of a multipart upload.
#[derive(Clone, Debug)]
pub struct CompleteRequest {
    /// The upload.
    pub upload: Upload,
    /// All parts, in ascending order of their numbers.
    pub parts: Vec<Part>,
    /// What must hold of the key.
    pub precondition: Precondition,
}

/// One page of the multipart uploads under way.
#[derive(Clone, Debug, Default)]
pub struct UploadsRequest {
    /// Keys starting with this.
    pub prefix: String,
    /// Where the page before this one ended.
    pub token: Option<UploadsToken>,
    /// At most so many; `None` takes the store's page size (S3: 1,000).
    pub max_uploads: Option<u32>,
}

/// Where a page of uploads ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadsToken {
    /// The last key.
    pub key: String,
    /// The last upload's id.
    pub id: String,
}

/// A multipart upload that was neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpload {
    /// The upload.
    pub upload: Upload,
    /// When it began, nanoseconds since the Unix epoch.
    pub begun_ns: i64,
}

/// One page of uploads, in order of their keys.
#[derive(Clone, Debug, Default)]
pub struct UploadsPage {
    /// The uploads.
    pub uploads: Vec<PendingUpload>,
    /// How to ask for the next page; `None` on the last.
    pub next: Option<UploadsToken>,
}

impl Precondition {
    /// Whether it holds of what is there: the ETag of the key's object, `None` if there is none.
    pub fn check(&self, key: &str, there: Option<&str>) -> Result<(), StoreError> {
        let key = || key.to_owned();
        match (self, there) {
            (Precondition::Any, _) | (Precondition::Absent, None) => Ok(()),
            (Precondition::Absent, Some(_)) => Err(StoreError::Changed { key: key() }),
            (Precondition::Is(_), None) => Err(StoreError::NotFound { key: key() }),
            (Precondition::Is(pin), Some(etag)) if same_etag(&pin.etag, etag) => Ok(()),
            (Precondition::Is(_), Some(_)) => Err(StoreError::Changed { key: key() }),
        }
    }
}

/// Whether two ETags name the same version. Some stores quote them in headers and not in listings.
pub fn same_etag(a: &str, b: &str) -> bool {
    !a.is_empty() && a.trim_matches('"') == b.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_body() {
        let payload = Payload::from(vec![Bytes::from_static(b"1234"), Bytes::new(), Bytes::from_static(b"56789")]);
        assert_eq!((payload.len(), payload.pieces().len(), payload.joined().as_ref()), (9, 2, b"123456789".as_slice()));
        // The check value of CRC-32C.
        assert_eq!(payload.crc32c(), 0xE306_9283);
        assert_eq!((Payload::default().crc32c(), Payload::from("").is_empty()), (0, true));
    }

    #[test]
    fn preconditions_hold_or_not() {
        let is = Precondition::Is(Pin { etag: "\"e\"".into(), version: Some("v".into()) });
        assert!(Precondition::Any.check("k", None).is_ok() && Precondition::Any.check("k", Some("e")).is_ok());
        assert!(Precondition::Absent.check("k", None).is_ok());
        assert!(matches!(Precondition::Absent.check("k", Some("e")), Err(StoreError::Changed { .. })));
        assert!(is.check("k", Some("e")).is_ok());
        assert!(matches!(is.check("k", Some("\"f\"")), Err(StoreError::Changed { .. })));
        assert!(matches!(is.check("k", None), Err(StoreError::NotFound { .. })));
    }
}
