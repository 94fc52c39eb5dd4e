//! The sample data set of `forebay quickstart`: what a small training bucket looks like, made from a seed.
//!
//! All of it is generated while it is read, so a set of any size costs next to no memory and no disk.
//!
//! ```text
//! README.txt                        what this is
//! images/train/0001.jpg …           incompressible, about 100 KiB each
//! shards/train-000.tar …            tar files of incompressible samples; `tar t` reads them
//! shards/latest.tar                 a symlink to the last shard
//! text/part-000.jsonl …             JSON lines; LZ4 about halves them
//! checkpoints/                      a directory marker, empty
//! ```

use crate::store::{Body, BucketHandle, Etag, Object, ObjectHeaders, Texture, UnixMs, mix};
use bytes::Bytes;
use md5::{Digest, Md5};
use std::collections::BTreeMap;

/// One sample in a shard, in bytes.
const SAMPLE_BYTES: u64 = 128 << 10;
/// The unit that tar files are made of, in bytes.
const TAR_BLOCK: usize = 512;
/// 2026-01-01T00:00:00Z: a fixed time, so that the set is the same every day.
const WRITTEN: UnixMs = UnixMs(1_767_225_600_000);

/// How large a sample data set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleSpec {
    /// Everything follows from it.
    pub seed: u64,
    /// Number of images.
    pub images: u32,
    /// Number of shards.
    pub shards: u32,
    /// Size of all shards together, in bytes.
    pub shards_bytes: u64,
    /// Number of text files.
    pub texts: u32,
    /// Size of each text file, in bytes.
    pub text_bytes: u64,
}

impl Default for SampleSpec {
    fn default() -> Self {
        SampleSpec { seed: 1, images: 400, shards: 4, shards_bytes: 256 << 20, texts: 8, text_bytes: 4 << 20 }
    }
}

/// What was put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleSummary {
    /// Number of objects.
    pub objects: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

/// Puts the data set into a bucket, under `prefix` (empty, or ending in `/`).
pub fn populate(bucket: &BucketHandle, prefix: &str, spec: &SampleSpec) -> SampleSummary {
    let mut set = Set { bucket, prefix, summary: SampleSummary::default() };
    set.put_text("README.txt", README, posix(0o100_644));
    set.put_images(spec);
    set.put_shards(spec);
    set.put_texts(spec);
    set.put_text("checkpoints/", "", posix(0o040_755));
    set.summary
}

const README: &str = "This bucket is generated: it lives in the memory of `forebay quickstart` and is gone when that ends.\n\
    \n\
    images/train/   a few hundred small files of random bytes (no real pictures)\n\
    shards/         a few large tar files; try: tar tvf shards/latest.tar | head\n\
    text/           JSON lines, which compress\n\
    checkpoints/    empty\n";

struct Set<'a> {
    bucket: &'a BucketHandle,
    prefix: &'a str,
    summary: SampleSummary,
}

impl Set<'_> {
    fn put(&mut self, name: &str, body: Body, etag: Etag, headers: ObjectHeaders) {
        self.summary.objects += 1;
        self.summary.bytes += body.len();
        let object = Object { body, etag, headers: headers.boxed() };
        self.bucket.put_object(&format!("{}{name}", self.prefix), object, WRITTEN);
    }

    fn put_text(&mut self, name: &str, content: &'static str, headers: ObjectHeaders) {
        let etag = Etag::whole(Md5::digest(content).into());
        self.put(name, Body::Stored(Bytes::from_static(content.as_bytes())), etag, headers);
    }

    fn put_generated(&mut self, name: &str, body: Body, seed: u64, headers: ObjectHeaders) {
        self.put(name, body, Etag::seeded(seed), headers);
    }

    fn put_images(&mut self, spec: &SampleSpec) {
        for number in 1..=spec.images {
            let seed = mix(spec.seed ^ mix(1 << 32 | u64::from(number)));
            let len = (80 << 10) + seed % (40 << 10);
            let body = Body::Synthetic { seed, offset: 0, len, texture: Texture::Noise };
            // Without POSIX metadata, as most objects in most buckets are.
            self.put_generated(&format!("images/train/{number:04}.jpg"), body, seed, ObjectHeaders::default());
        }
    }

    fn put_shards(&mut self, spec: &SampleSpec) {
        for number in 0..spec.shards {
            let seed = mix(spec.seed ^ mix(2 << 32 | u64::from(number)));
            let body = tar(seed, number, spec.shards_bytes / u64::from(spec.shards));
            self.put_generated(&format!("shards/train-{number:03}.tar"), body, seed, posix(0o100_644));
        }
        if let Some(last) = spec.shards.checked_sub(1) {
            let target = format!("train-{last:03}.tar");
            let etag = Etag::whole(Md5::digest(&target).into());
            self.put("shards/latest.tar", Body::Stored(target.into()), etag, posix(0o120_777));
        }
    }

    fn put_texts(&mut self, spec: &SampleSpec) {
        for number in 0..spec.texts {
            let seed = mix(spec.seed ^ mix(3 << 32 | u64::from(number)));
            let body = Body::Synthetic { seed, offset: 0, len: spec.text_bytes, texture: Texture::JsonLines };
            self.put_generated(&format!("text/part-{number:03}.jsonl"), body, seed, posix(0o100_640));
        }
    }
}

/// The POSIX attributes as FSx for Lustre keeps them with objects.
fn posix(mode: u32) -> ObjectHeaders {
    let time = format!("{}000000ns", WRITTEN.0);
    let user = [
        ("file-permissions", format!("0{mode:o}")),
        ("file-owner", "1000".to_owned()),
        ("file-group", "1000".to_owned()),
        ("file-mtime", time.clone()),
        ("file-atime", time),
        ("user-agent", "forebay".to_owned()),
    ];
    let user = user.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>();
    ObjectHeaders { user, ..ObjectHeaders::default() }
}

/// A tar file of about `bytes` bytes (less by up to one sample; never without a sample).
fn tar(seed: u64, shard: u32, bytes: u64) -> Body {
    let trailer = 2 * TAR_BLOCK as u64;
    let samples = (bytes.saturating_sub(trailer) / (SAMPLE_BYTES + TAR_BLOCK as u64)).max(1);
    let mut pieces = Vec::with_capacity(2 * samples as usize + 1);
    for number in 0..samples {
        let name = format!("train-{shard:03}/{number:06}.bin");
        pieces.push(Body::Stored(Bytes::copy_from_slice(&tar_header(&name, SAMPLE_BYTES))));
        let seed = mix(seed ^ mix(number));
        pieces.push(Body::Synthetic { seed, offset: 0, len: SAMPLE_BYTES, texture: Texture::Noise });
    }
    pieces.push(Body::Stored(Bytes::from_static(&[0; 2 * TAR_BLOCK])));
    Body::join(pieces)
}

/// A ustar header: name, mode, owner, size, time in octal, and the sum of its bytes.
fn tar_header(name: &str, size: u64) -> [u8; TAR_BLOCK] {
    let mut header = [0; TAR_BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0001750\0");
    put(116, "0001750\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{:011o}\0", WRITTEN.0 / 1000));
    // The sum is taken with its own field blank.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_header_carries_its_own_checksum() {
        let header = tar_header("a/b.bin", 131_072);
        let mut blank = header;
        blank[148..156].fill(b' ');
        let sum: u32 = blank.iter().map(|byte| u32::from(*byte)).sum();
        let written = std::str::from_utf8(&header[148..154]).expect("octal digits");
        assert_eq!(u32::from_str_radix(written, 8), Ok(sum));
    }

    #[test]
    fn a_shard_has_about_the_size_asked_for() {
        let len = tar(1, 0, 8 << 20).len();
        assert!(len <= 8 << 20 && len > (8 << 20) - 2 * SAMPLE_BYTES, "{len}");
        assert_eq!(len % TAR_BLOCK as u64, 0);
    }
}
