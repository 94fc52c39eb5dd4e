//! Data sets: named objects of known sizes, whose bytes follow from their keys alone, so that they can be made twice (in
//! the store, on the plain disk) and checked without being kept. Incompressible: neither compression nor dedup helps.

use super::error::{At, Error, Result};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

/// The chunk in which bytes are made and checked. Generation restarts at no other place.
pub const CHUNK: usize = 1 << 20;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key, which is also its path below a mount.
    pub key: String,
    /// Its size.
    pub bytes: u64,
}

/// Objects that live in one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The bucket, named after the shape: equal shapes share one bucket.
    pub bucket: String,
    /// The objects, in key order.
    pub objects: Vec<Object>,
}

impl Dataset {
    /// A few large objects in one directory.
    pub fn large(count: usize, bytes: u64) -> Self {
        let objects = (0..count).map(|n| Object { key: format!("data/shard-{n:04}.bin"), bytes }).collect();
        Dataset { bucket: format!("large-{count}x{}k", bytes >> 10), objects }
    }

    /// Many small objects, a thousand to a directory.
    pub fn small(count: usize, bytes: u64) -> Self {
        let key = |n: usize| format!("class-{:03}/item-{n:06}.bin", n / 1000);
        Dataset {
            bucket: format!("small-{count}x{}k", bytes >> 10),
            objects: (0..count).map(|n| Object { key: key(n), bytes }).collect(),
        }
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).sum()
    }

    /// The directories that hold objects.
    pub fn directories(&self) -> usize {
        let mut parents: Vec<&str> = self.objects.iter().filter_map(|o| Some(o.key.rsplit_once('/')?.0)).collect();
        parents.dedup();
        parents.len()
    }

    /// In words, for the configuration of a figure.
    pub fn describe(&self) -> String {
        let each = self.objects.first().map_or(0, |object| object.bytes);
        let size = if each >= 1 << 20 { format!("{} MiB", each >> 20) } else { format!("{} KiB", each >> 10) };
        format!("{} × {size} in {} directories", self.objects.len(), self.directories())
    }

    /// Writes every object as a file below a directory, on several threads.
    pub fn write_below(&self, root: &Path) -> Result<()> {
        for_each_parallel(&self.objects, 4, |object| {
            let path = root.join(&object.key);
            let parent = path.parent().unwrap_or(root);
            fs::create_dir_all(parent).at(parent.display())?;
            let mut file = File::create(&path).at(path.display())?;
            object.each_chunk(|chunk| file.write_all(chunk).at(path.display()))
        })
    }

    /// Reads every file below a directory and compares it with what its key says, on several threads.
    pub fn verify_below(&self, root: &Path) -> Result<()> {
        for_each_parallel(&self.objects, 4, |object| object.verify(&root.join(&object.key)))
    }
}

impl Object {
    /// Makes the bytes, a chunk at a time.
    pub fn each_chunk(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut source = SmallRng::seed_from_u64(seed(&self.key));
        let mut chunk = vec![0; CHUNK.min(self.bytes as usize)];
        let mut left = self.bytes;
        while left > 0 {
            let now = left.min(CHUNK as u64) as usize;
            source.fill_bytes(&mut chunk[..now]);
            each(&chunk[..now])?;
            left -= now as u64;
        }
        Ok(())
    }

    /// Compares a file with what the key says.
    fn verify(&self, path: &Path) -> Result<()> {
        let mut file = File::open(path).at(path.display())?;
        let mut found = vec![0; CHUNK];
        let mut offset = 0;
        let wrong = |offset| Error::WrongData { file: path.display().to_string(), offset };
        self.each_chunk(|expected| {
            let found = &mut found[..expected.len()];
            file.read_exact(found).at(path.display())?;
            if found != expected {
                return Err(wrong(offset));
            }
            offset += expected.len() as u64;
            Ok(())
        })?;
        match file.read(&mut found).at(path.display())? {
            0 => Ok(()),
            _ => Err(wrong(offset)),
        }
    }
}

/// FNV-1a: the same seed on every run and machine.
fn seed(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Works through items on several threads; the first failure stops all and is returned.
pub fn for_each_parallel<I: Sync>(items: &[I], threads: usize, work: impl Fn(&I) -> Result<()> + Sync) -> Result<()> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker panics on nothing but a bug"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_verifies_and_a_changed_byte_does_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let set = Dataset::large(2, CHUNK as u64 + 4097);
        set.write_below(dir.path()).expect("write");
        set.verify_below(dir.path()).expect("verify");

        let path = dir.path().join(&set.objects[1].key);
        let mut bytes = fs::read(&path).expect("read");
        bytes[CHUNK + 1] ^= 1;
        fs::write(&path, &bytes).expect("write");
        let error = set.verify_below(dir.path()).expect_err("one byte differs");
        assert!(matches!(error, Error::WrongData { offset, .. } if offset == CHUNK as u64), "{error}");
    }

    #[test]
    fn a_file_that_is_too_long_does_not_verify() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let set = Dataset::small(1, 5000);
        set.write_below(dir.path()).expect("write");
        let path = dir.path().join(&set.objects[0].key);
        let mut bytes = fs::read(&path).expect("read");
        bytes.push(0);
        fs::write(&path, &bytes).expect("write");
        assert!(matches!(set.verify_below(dir.path()), Err(Error::WrongData { offset: 5000, .. })));
    }

    #[test]
    fn small_sets_hold_a_thousand_to_a_directory() {
        let set = Dataset::small(2500, 100 << 10);
        assert_eq!(set.directories(), 3);
        assert_eq!(set.describe(), "2500 × 100 KiB in 3 directories");
    }
}
