//! One version or an error: objects that change while they are read.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::config::MetadataTtl;
use forebay_loopback_s3::{Texture, Versioning};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const LEN: u64 = 3 << 20;

/// An object too large to be fetched whole by the read of its beginning.
const LARGE: u64 = 64 << 20;

fn content(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    Texture::Noise.fill(seed, 0, &mut bytes);
    bytes
}

fn version(seed: u64) -> Vec<u8> {
    content(seed, LEN)
}

/// Mounts [`LARGE`] bytes of seed 1, reads the first of them, and replaces them with those of seed 2 while the file is open.
fn replaced_while_open(site: &Site) -> (Mounted, File) {
    site.bucket().put_synthetic("f", 1, LARGE, Texture::Noise);
    let mount = site.mount(&Options::default());
    let file = File::open(mount.path("f")).unwrap();
    let mut start = vec![0; 4096];
    file.read_exact_at(&mut start, 0).unwrap();
    site.bucket().put_synthetic("f", 2, LARGE, Texture::Noise);
    (mount, file)
}

#[test]
fn an_open_file_gives_old_bytes_or_estale_and_a_reopen_the_new_version() {
    let site = Site::new();
    let (mount, file) = replaced_while_open(&site);
    let old = content(1, LARGE);
    let mut stale = 0;
    for offset in (0..LARGE).step_by(1 << 20) {
        let mut buffer = vec![0; 4096];
        match file.read_exact_at(&mut buffer, offset) {
            Ok(()) => assert!(buffer == old[offset as usize..offset as usize + 4096], "other bytes at {offset}"),
            Err(error) => {
                // The page cache turns what a read-ahead failed with into EIO or ESTALE, as the kernel sees fit.
                assert!(matches!(error.raw_os_error(), Some(libc::ESTALE | libc::EIO)), "{error}");
                stale += 1;
            }
        }
    }
    assert!(stale > 0, "most of the old version was never fetched and is gone");
    let new = content(2, LARGE);
    eventually("a reopen finds the new version", || mount.read("f").is_ok_and(|bytes| bytes == new));
}

#[test]
fn with_versions_an_open_file_reads_its_own_version_to_the_end() {
    let site = Site::new();
    site.bucket().set_versioning(Versioning::Enabled);
    let (_mount, file) = replaced_while_open(&site);
    let mut all = vec![0; LARGE as usize];
    file.read_exact_at(&mut all, 0).unwrap();
    assert!(all == content(1, LARGE));
}

/// Readers against a writer that replaces and deletes: whatever a whole read returns is one of the versions ever written.
#[test]
fn no_read_ever_mixes_versions() {
    let site = Site::new();
    let bucket = site.bucket();
    bucket.put_synthetic("f", 0, LEN, Texture::Noise);
    let mount = site.mount(&Options { ttl: MetadataTtl::For(Duration::from_millis(50)), ..Options::default() });
    let newest = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let whole_reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(bytes) = mount.read("f") else { continue };
                    let seeds = 0..=newest.load(Ordering::SeqCst) + 1;
                    let matches = |seed: u64| {
                        let mut head = [0; 32];
                        Texture::Noise.fill(seed, 0, &mut head);
                        bytes.starts_with(&head)
                    };
                    let seed = seeds.into_iter().find(|seed| matches(*seed)).expect("starts like a version ever written");
                    assert!(bytes == version(seed), "a mixture that starts like version {seed}");
                    whole_reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for seed in 1..60 {
            newest.store(seed, Ordering::SeqCst);
            if seed % 7 == 0 {
                bucket.delete("f");
                std::thread::sleep(Duration::from_millis(30));
            }
            bucket.put_synthetic("f", seed, LEN, Texture::Noise);
            std::thread::sleep(Duration::from_millis(40));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(whole_reads.load(Ordering::Relaxed) > 20, "the readers got to read: {whole_reads:?}");
}
