//! Multipart uploads under way.

use super::body::Body;
use super::error::Refusal;
use super::object::{Etag, ObjectHeaders, UnixMs};
use md5::{Digest, Md5};
use std::collections::BTreeMap;

/// The least size of a part that is not the last, in bytes.
const LEAST_PART_BYTES: u64 = 5 << 20;

/// A part.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) body: Body,
    pub(crate) etag: Etag,
    pub(crate) modified: UnixMs,
    /// Its CRC-32C in base64, if it was sent with one.
    pub(crate) crc32c: Option<String>,
}

/// A part, as the request that completes the upload names it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedPart {
    pub(crate) number: i32,
    pub(crate) etag: Option<String>,
    pub(crate) crc32c: Option<String>,
}

/// An upload.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) headers: ObjectHeaders,
    pub(crate) initiated: UnixMs,
    /// Whether it was begun with `x-amz-checksum-algorithm: CRC32C`: parts then have theirs, and completion names them.
    pub(crate) has_crc32c: bool,
    pub(crate) parts: BTreeMap<i32, Part>,
}

/// The uploads of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    by_id: BTreeMap<String, Upload>,
}

impl Uploads {
    pub(crate) fn create(&mut self, key: &str, headers: ObjectHeaders, has_crc32c: bool) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let upload = Upload { key: key.to_owned(), headers, initiated: UnixMs::now(), has_crc32c, parts: BTreeMap::new() };
        self.by_id.insert(id.clone(), upload);
        id
    }

    pub(crate) fn get(&mut self, key: &str, id: &str) -> Result<&mut Upload, Refusal> {
        self.by_id.get_mut(id).filter(|upload| upload.key == key).ok_or(Refusal::NoSuchUpload)
    }

    pub(crate) fn remove(&mut self, key: &str, id: &str) -> Result<Upload, Refusal> {
        self.get(key, id)?;
        self.by_id.remove(id).ok_or(Refusal::NoSuchUpload)
    }

    /// All uploads, by key and then by id, as S3 lists them.
    pub(crate) fn sorted(&self) -> Vec<(&str, &Upload)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(id, upload)| (id.as_str(), upload)).collect();
        all.sort_by_key(|(id, upload)| (upload.key.as_str(), *id));
        all
    }
}

impl Upload {
    /// The body and ETag of the parts named, which must be in ascending order and as they were uploaded.
    pub(crate) fn assemble(&self, wanted: &[WantedPart]) -> Result<(Body, Etag), Refusal> {
        if wanted.is_empty() {
            return Err(Refusal::InvalidPart { number: 0 });
        }
        if !wanted.is_sorted_by(|a, b| a.number < b.number) {
            return Err(Refusal::InvalidPartOrder);
        }
        let mut digest = Md5::new();
        let mut bodies = Vec::with_capacity(wanted.len());
        for (index, WantedPart { number, etag, crc32c }) in wanted.iter().enumerate() {
            let number = *number;
            let part = self.parts.get(&number).ok_or(Refusal::InvalidPart { number })?;
            if etag.as_ref().is_some_and(|etag| *etag != part.etag.to_string()) {
                return Err(Refusal::InvalidPart { number });
            }
            if self.has_crc32c && crc32c.is_none() {
                return Err(Refusal::ChecksumMissing { number });
            }
            if crc32c.is_some() && *crc32c != part.crc32c {
                return Err(Refusal::InvalidPart { number });
            }
            if index + 1 < wanted.len() && part.body.len() < LEAST_PART_BYTES {
                return Err(Refusal::PartTooSmall { number });
            }
            digest.update(part.etag.digest());
            bodies.push(part.body.clone());
        }
        let etag = Etag::multipart(digest.finalize().into(), wanted.len() as u32);
        Ok((Body::join(bodies), etag))
    }
}
