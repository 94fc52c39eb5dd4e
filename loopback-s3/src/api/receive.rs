//! Takes the body of a PUT: to memory, or to a file once it is large; hashed on the way.

use super::Backend;
use crate::config::EtagKind;
use crate::store::{Body, Etag, SpillWriter};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, StreamingBlob};
use s3s::stream::ByteStream;
use s3s::{S3Error, S3Result, s3_error};

/// What arrived.
pub(super) struct Received {
    pub(super) body: Body,
    pub(super) etag: Etag,
    /// Those that were claimed, and hold.
    pub(super) checksums: Checksum,
}

/// What the client said about the body.
#[derive(Default)]
pub(super) struct Claim {
    pub(super) length: Option<i64>,
    /// Base64.
    pub(super) md5: Option<String>,
    /// `x-amz-checksum-*`, base64.
    pub(super) checksums: Checksum,
}

/// The claim of an input that has the fields for it: `s3s` has a type for each operation.
macro_rules! claim {
    ($input:expr) => {
        $crate::api::receive::Claim {
            length: $input.content_length,
            md5: $input.content_md5.clone(),
            checksums: s3s::dto::Checksum {
                checksum_crc32: $input.checksum_crc32.clone(),
                checksum_crc32c: $input.checksum_crc32c.clone(),
                checksum_crc64nvme: $input.checksum_crc64nvme.clone(),
                checksum_sha1: $input.checksum_sha1.clone(),
                checksum_sha256: $input.checksum_sha256.clone(),
                checksum_type: None,
            },
        }
    };
}
pub(super) use claim;

enum Sink {
    Memory(BytesMut),
    File(SpillWriter),
}

pub(super) async fn receive(backend: &Backend, blob: Option<StreamingBlob>, claim: Claim) -> S3Result<Received> {
    let mut sink = Sink::Memory(BytesMut::new());
    let wants_md5 = backend.store.etags == EtagKind::Md5 || claim.md5.is_some();
    let mut digest = wants_md5.then(Md5::new);
    let mut hasher = hasher_for(&claim.checksums);
    if let Some(mut blob) = blob {
        reserve(&mut sink, &blob, backend);
        while let Some(piece) = blob.next().await {
            let piece = piece.map_err(|error| S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error))?;
            if let Some(digest) = &mut digest {
                digest.update(&piece);
            }
            hasher.update(&piece);
            sink = sink.take(piece, backend)?;
        }
    }
    let body = sink.finish();
    check_length(&body, claim.length)?;
    let md5: Option<[u8; 16]> = digest.map(|digest| digest.finalize().into());
    check_md5(claim.md5.as_deref(), md5)?;
    let checksums = hasher.finalize();
    if checksums != claim.checksums {
        return Err(s3_error!(BadDigest, "The checksum you specified did not match what we received."));
    }
    let etag = match (backend.store.etags, md5) {
        (EtagKind::Md5, Some(md5)) => Etag::whole(md5),
        _ => Etag::opaque(),
    };
    Ok(Received { body, etag, checksums })
}

fn hasher_for(claimed: &Checksum) -> ChecksumHasher {
    ChecksumHasher {
        crc32: claimed.checksum_crc32.as_ref().map(|_| Default::default()),
        crc32c: claimed.checksum_crc32c.as_ref().map(|_| Default::default()),
        sha1: claimed.checksum_sha1.as_ref().map(|_| Default::default()),
        sha256: claimed.checksum_sha256.as_ref().map(|_| Default::default()),
        crc64nvme: claimed.checksum_crc64nvme.as_ref().map(|_| Default::default()),
    }
}

/// The CRC-32C of a body, base64. Panics if a spill file cannot be read.
pub(super) fn crc32c(body: &Body) -> String {
    let bytes = body.to_bytes().expect("spill files stay readable while the server runs");
    let mut hasher = ChecksumHasher { crc32c: Some(Default::default()), ..ChecksumHasher::default() };
    hasher.update(&bytes);
    hasher.finalize().checksum_crc32c.unwrap_or_default()
}

fn reserve(sink: &mut Sink, blob: &StreamingBlob, backend: &Backend) {
    if let (Sink::Memory(buffer), Some(length)) = (sink, blob.remaining_length().exact()) {
        // A client may announce anything; memory for more than this comes as the bytes do.
        const MOST_AHEAD: u64 = 64 << 20;
        buffer.reserve((length as u64).min(backend.store.spill_threshold()).min(MOST_AHEAD) as usize);
    }
}

impl Sink {
    fn take(self, piece: Bytes, backend: &Backend) -> S3Result<Sink> {
        match self {
            Sink::Memory(mut buffer) if ((buffer.len() + piece.len()) as u64) < backend.store.spill_threshold() => {
                buffer.extend_from_slice(&piece);
                Ok(Sink::Memory(buffer))
            }
            Sink::Memory(buffer) => {
                let mut writer = backend.store.spill_writer().map_err(S3Error::internal_error)?;
                writer.write(&buffer).map_err(S3Error::internal_error)?;
                writer.write(&piece).map_err(S3Error::internal_error)?;
                Ok(Sink::File(writer))
            }
            Sink::File(mut writer) => {
                writer.write(&piece).map_err(S3Error::internal_error)?;
                Ok(Sink::File(writer))
            }
        }
    }

    fn finish(self) -> Body {
        match self {
            Sink::Memory(buffer) => Body::Stored(buffer.freeze()),
            Sink::File(writer) => writer.finish(),
        }
    }
}

fn check_length(body: &Body, claimed: Option<i64>) -> S3Result<()> {
    match claimed {
        Some(length) if length as u64 != body.len() => {
            Err(s3_error!(IncompleteBody, "You did not provide the number of bytes specified by the Content-Length HTTP header"))
        }
        _ => Ok(()),
    }
}

fn check_md5(claimed: Option<&str>, actual: Option<[u8; 16]>) -> S3Result<()> {
    let (Some(claimed), Some(actual)) = (claimed, actual) else { return Ok(()) };
    let claimed = base64_simd::STANDARD.decode_to_vec(claimed).map_err(|_| s3_error!(InvalidDigest))?;
    match claimed == actual {
        true => Ok(()),
        false => Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received.")),
    }
}
