//! ListObjects (both versions of the call) and ListObjectVersions.

use super::convert::{etag, timestamp};
use super::{Backend, Reply, reply};
use crate::store::{Listed, Object as StoredObject, Page, PageRequest, Start};
use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

const MOST_KEYS: i32 = 1000;

/// Keys and prefixes in replies: as they are, or percent-encoded when the client asked for it.
#[derive(Clone, Copy)]
pub(super) struct Names {
    encode: bool,
}

impl Names {
    pub(super) fn new(encoding: Option<&EncodingType>) -> S3Result<Names> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Names { encode: false }),
            Some(EncodingType::URL) => Ok(Names { encode: true }),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    pub(super) fn show(self, name: &str) -> String {
        match self.encode {
            true => percent_encode(name),
            false => name.to_owned(),
        }
    }

    fn prefixes(self, page: &Page) -> Option<Vec<CommonPrefix>> {
        let all: Vec<_> = page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(self.show(prefix)) }).collect();
        (!all.is_empty()).then_some(all)
    }
}

fn percent_encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn limit(max_keys: Option<i32>) -> S3Result<usize> {
    let wanted = max_keys.unwrap_or(MOST_KEYS).min(MOST_KEYS);
    usize::try_from(wanted)
        .map_err(|_| s3_error!(InvalidArgument, "Argument max-keys must be an integer between 0 and 2147483647"))
}

fn page_request(prefix: Option<&String>, delimiter: Option<&String>, start: Start, limit: usize) -> PageRequest {
    PageRequest {
        prefix: prefix.cloned().unwrap_or_default(),
        delimiter: delimiter.filter(|delimiter| !delimiter.is_empty()).cloned(),
        start,
        limit,
    }
}

/// Continuation tokens are the last entry in hexadecimal: opaque to the client, and never in need of escaping.
fn token(last: &str) -> String {
    last.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_token(token: &str) -> S3Result<String> {
    let nibbles = token.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or("-"), 16));
    let bytes: Option<Vec<u8>> = nibbles.map(Result::ok).collect();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

fn describe(listed: &Listed, object: &StoredObject, names: Names) -> Object {
    Object {
        key: Some(names.show(&listed.key)),
        e_tag: Some(etag(&object.etag)),
        size: Some(object.body.len() as i64),
        last_modified: Some(timestamp(listed.revision.modified)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Default::default()
    }
}

fn contents(page: &Page, names: Names) -> Vec<Object> {
    let objects = page.keys.iter().filter_map(|listed| Some((listed, listed.revision.object.as_ref()?)));
    objects.map(|(listed, object)| describe(listed, object, names)).collect()
}

pub(super) async fn v2(backend: &Backend, request: S3Request<ListObjectsV2Input>) -> Reply<ListObjectsV2Output> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let names = Names::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let start = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => Start::After(parse_token(token)?),
        (None, Some(key)) if !key.is_empty() => Start::After(key.clone()),
        _ => Start::First,
    };
    let page = bucket.page(&page_request(input.prefix.as_ref(), input.delimiter.as_ref(), start, limit));
    reply(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(names.show(&input.prefix.unwrap_or_default())),
        delimiter: input.delimiter.map(|delimiter| names.show(&delimiter)),
        start_after: input.start_after.map(|key| names.show(&key)),
        max_keys: Some(limit as i32),
        key_count: Some((page.keys.len() + page.prefixes.len()) as i32),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.truncated),
        next_continuation_token: page.last.as_deref().filter(|_| page.truncated).map(token),
        contents: Some(contents(&page, names)),
        common_prefixes: names.prefixes(&page),
        encoding_type: input.encoding_type,
        ..Default::default()
    })
}

pub(super) async fn v1(backend: &Backend, request: S3Request<ListObjectsInput>) -> Reply<ListObjectsOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let names = Names::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let marker = input.marker.unwrap_or_default();
    let start = if marker.is_empty() { Start::First } else { Start::After(marker.clone()) };
    let page = bucket.page(&page_request(input.prefix.as_ref(), input.delimiter.as_ref(), start, limit));
    reply(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(names.show(&input.prefix.unwrap_or_default())),
        marker: Some(names.show(&marker)),
        max_keys: Some(limit as i32),
        is_truncated: Some(page.truncated),
        next_marker: page.last.as_deref().filter(|_| page.truncated && input.delimiter.is_some()).map(|last| names.show(last)),
        delimiter: input.delimiter.map(|delimiter| names.show(&delimiter)),
        contents: Some(contents(&page, names)),
        common_prefixes: names.prefixes(&page),
        encoding_type: input.encoding_type,
        ..Default::default()
    })
}

pub(super) async fn versions(backend: &Backend, request: S3Request<ListObjectVersionsInput>) -> Reply<ListObjectVersionsOutput> {
    let input = request.input;
    let bucket = backend.store.bucket(&input.bucket)?;
    let names = Names::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let start = match (&input.key_marker, &input.version_id_marker) {
        (Some(key), Some(version)) if !key.is_empty() && !version.is_empty() => Start::AfterVersion(key.clone(), version.clone()),
        (Some(key), _) if !key.is_empty() => Start::After(key.clone()),
        _ => Start::First,
    };
    let page = bucket.page_of_versions(&page_request(input.prefix.as_ref(), input.delimiter.as_ref(), start, limit));
    let last = page.last.as_deref().filter(|_| page.truncated);
    reply(ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(names.show(&input.prefix.unwrap_or_default())),
        key_marker: input.key_marker.map(|key| names.show(&key)),
        version_id_marker: input.version_id_marker,
        max_keys: Some(limit as i32),
        is_truncated: Some(page.truncated),
        next_key_marker: last.map(|last| names.show(last)),
        next_version_id_marker: page.last_version.filter(|_| page.truncated).map(|version| version.to_string()),
        delimiter: input.delimiter.map(|delimiter| names.show(&delimiter)),
        versions: Some(object_versions(&page, names)),
        delete_markers: Some(delete_markers(&page, names)),
        common_prefixes: names.prefixes(&page),
        encoding_type: input.encoding_type,
        ..Default::default()
    })
}

fn object_versions(page: &Page, names: Names) -> Vec<ObjectVersion> {
    let objects = page.keys.iter().filter_map(|listed| Some((listed, listed.revision.object.as_ref()?)));
    let describe = |(listed, object): (&Listed, &StoredObject)| ObjectVersion {
        key: Some(names.show(&listed.key)),
        version_id: Some(listed.revision.version.to_string()),
        is_latest: Some(listed.latest),
        e_tag: Some(etag(&object.etag)),
        size: Some(object.body.len() as i64),
        last_modified: Some(timestamp(listed.revision.modified)),
        storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
        ..Default::default()
    };
    objects.map(describe).collect()
}

fn delete_markers(page: &Page, names: Names) -> Vec<DeleteMarkerEntry> {
    let markers = page.keys.iter().filter(|listed| listed.revision.object.is_none());
    let describe = |listed: &Listed| DeleteMarkerEntry {
        key: Some(names.show(&listed.key)),
        version_id: Some(listed.revision.version.to_string()),
        is_latest: Some(listed.latest),
        last_modified: Some(timestamp(listed.revision.modified)),
        ..Default::default()
    };
    markers.map(describe).collect()
}
