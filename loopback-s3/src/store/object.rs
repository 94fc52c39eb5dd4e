//! One version of an object: content, ETag, time, headers.

use super::body::Body;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An ETag, without its quotes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Etag {
    digest: [u8; 16],
    /// Number of parts; 0 for an object that was put whole.
    parts: u32,
}

impl Etag {
    /// Of an object put whole.
    pub(crate) fn whole(digest: [u8; 16]) -> Etag {
        Etag { digest, parts: 0 }
    }

    /// Of a multipart object.
    pub(crate) fn multipart(digest: [u8; 16], parts: u32) -> Etag {
        Etag { digest, parts }
    }

    /// A digest of nothing in particular: what S3 gives encrypted objects.
    pub(crate) fn opaque() -> Etag {
        Etag::whole(*uuid::Uuid::new_v4().as_bytes())
    }

    /// One that follows from a seed, for content that does as well.
    pub(crate) fn seeded(seed: u64) -> Etag {
        let (high, low) = (super::synthetic::mix(seed), super::synthetic::mix(!seed));
        Etag::whole(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    /// The 16 bytes written in hexadecimal.
    pub(crate) fn digest(&self) -> [u8; 16] {
        self.digest
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.digest))?;
        match self.parts {
            0 => Ok(()),
            parts => write!(f, "-{parts}"),
        }
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Names one version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionId(pub(crate) u64);

impl VersionId {
    /// The version of a bucket that has (or had, when it was written) no versions.
    pub const NULL: VersionId = VersionId(0);

    /// Whether this is the `null` version.
    pub fn is_null(self) -> bool {
        self == VersionId::NULL
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("null"),
            // Mixed, so that nobody takes version ids for an order: S3's have none.
            n => write!(f, "{:016x}{n:016x}", super::synthetic::mix(n)),
        }
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The present.
    pub fn now() -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixMs(since.as_millis() as i64)
    }

    /// Cut to whole seconds, as HTTP headers carry it.
    pub(crate) fn whole_seconds(self) -> UnixMs {
        UnixMs(self.0.div_euclid(1000) * 1000)
    }

    pub(crate) fn system_time(self) -> SystemTime {
        match u64::try_from(self.0) {
            Ok(ms) => UNIX_EPOCH + Duration::from_millis(ms),
            Err(_) => UNIX_EPOCH - Duration::from_millis(self.0.unsigned_abs()),
        }
    }
}

/// Headers that S3 keeps with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// `x-amz-meta-*`, names without the prefix, in lower case.
    pub user: BTreeMap<String, String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
}

impl ObjectHeaders {
    /// `None` if nothing is set: a million plain objects should not carry a million empty maps.
    pub(crate) fn boxed(self) -> Option<Box<ObjectHeaders>> {
        (self != ObjectHeaders::default()).then(|| Box::new(self))
    }
}

/// An object as it was put.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content.
    pub body: Body,
    /// Its ETag.
    pub etag: Etag,
    /// Its headers, if any were given.
    pub headers: Option<Box<ObjectHeaders>>,
}

impl Object {
    /// The parts of a multipart object; `None` for one that was put whole.
    pub(crate) fn parts(&self) -> Option<&[Body]> {
        match &self.body {
            Body::Joined { parts, .. } if self.etag.parts > 0 => Some(parts),
            _ => None,
        }
    }

    /// User metadata by name.
    pub fn user_metadata(&self) -> BTreeMap<String, String> {
        self.headers.as_ref().map(|headers| headers.user.clone()).unwrap_or_default()
    }
}

/// One entry in the history of a key.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Its version.
    pub version: VersionId,
    /// When it was written.
    pub modified: UnixMs,
    /// The object; `None` for a delete marker.
    pub object: Option<Object>,
}
