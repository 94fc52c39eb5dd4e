//! Takes the body of a PUT: to memory, or to a file once it is large; hashed on the way.

use super::Backend;
use crate::config::EtagKind;
use crate::store::{Body, Etag, SpillWriter};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use md5::{Digest, Md5};
use s3s::dto::StreamingBlob;
use s3s::stream::ByteStream;
use s3s::{S3Error, S3Result, s3_error};

/// What arrived.
pub(super) struct Received {
    pub(super) body: Body,
    pub(super) etag: Etag,
}

/// What the client said about the body.
#[derive(Default)]
pub(super) struct Claim {
    pub(super) length: Option<i64>,
    /// Base64.
    pub(super) md5: Option<String>,
}

enum Sink {
    Memory(BytesMut),
    File(SpillWriter),
}

pub(super) async fn receive(backend: &Backend, blob: Option<StreamingBlob>, claim: Claim) -> S3Result<Received> {
    let mut sink = Sink::Memory(BytesMut::new());
    let wants_md5 = backend.store.etags == EtagKind::Md5 || claim.md5.is_some();
    let mut digest = wants_md5.then(Md5::new);
    if let Some(mut blob) = blob {
        reserve(&mut sink, &blob, backend);
        while let Some(piece) = blob.next().await {
            let piece = piece.map_err(|error| S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error))?;
            if let Some(digest) = &mut digest {
                digest.update(&piece);
            }
            sink = sink.take(piece, backend)?;
        }
    }
    let body = sink.finish();
    check_length(&body, claim.length)?;
    let md5: Option<[u8; 16]> = digest.map(|digest| digest.finalize().into());
    check_md5(claim.md5.as_deref(), md5)?;
    let etag = match (backend.store.etags, md5) {
        (EtagKind::Md5, Some(md5)) => Etag::whole(md5),
        _ => Etag::opaque(),
    };
    Ok(Received { body, etag })
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
