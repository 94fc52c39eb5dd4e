//! Writers: ordinary threads with ordinary calls, in a directory of their own that goes when they are done.

use crate::harness::error::{At, Result};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The size of each `write` call of a stream.
pub const BUFFER: usize = 1 << 20;

/// An emptied directory below a mount.
pub fn directory(root: &Path) -> Result<PathBuf> {
    let path = root.join("bench-write");
    if path.exists() {
        fs::remove_dir_all(&path).at(path.display())?;
    }
    fs::create_dir(&path).at(path.display())?;
    Ok(path)
}

/// Writes a file of bytes that neither compress nor repeat, and syncs it.
pub fn stream(path: &Path, bytes: u64) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut noise = SmallRng::seed_from_u64(bytes);
    noise.fill_bytes(&mut buffer);
    let mut file = File::create(path).at(path.display())?;
    let mut left = bytes;
    while left > 0 {
        // New bytes for every block of any size down to 4 KiB, without a generator that costs as much as the write.
        let mark = left.to_le_bytes();
        buffer.chunks_mut(4096).for_each(|page| page[..8].iter_mut().zip(mark).for_each(|(byte, mark)| *byte ^= mark));
        let part = left.min(BUFFER as u64) as usize;
        file.write_all(&buffer[..part]).at(path.display())?;
        left -= part as u64;
    }
    file.sync_all().at(path.display())
}

/// Calls `each` with the paths of so many small files.
pub fn for_each(dir: &Path, files: usize, mut each: impl FnMut(&Path) -> std::io::Result<()>) -> Result<()> {
    (0..files).try_for_each(|number| {
        let path = dir.join(format!("f{number:06}"));
        each(&path).at(path.display())
    })
}

/// Appends and syncs so many times; the seconds each sync took, in no order.
pub fn sync_times(path: &Path, times: usize, bytes: usize) -> Result<Vec<f64>> {
    let mut file = OpenOptions::new().create(true).append(true).open(path).at(path.display())?;
    let mut noise = SmallRng::seed_from_u64(7);
    let mut buffer = vec![0; bytes];
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        noise.fill_bytes(&mut buffer);
        file.write_all(&buffer).at(path.display())?;
        let start = Instant::now();
        file.sync_all().at(path.display())?;
        took.push(start.elapsed().as_secs_f64());
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_as_long_as_asked_and_no_page_is_there_twice() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = directory(home.path()).expect("made").join("stream");
        stream(&path, 3 * BUFFER as u64 + 5).expect("written");
        let bytes = fs::read(&path).expect("read");
        assert_eq!(bytes.len(), 3 * BUFFER + 5);
        let pages: std::collections::HashSet<&[u8]> = bytes.chunks(4096).collect();
        assert_eq!(pages.len(), bytes.len().div_ceil(4096));
        assert_eq!(directory(home.path()).expect("made again").read_dir().expect("read").count(), 0);
    }

    #[test]
    fn every_sync_is_timed() {
        let home = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(sync_times(&home.path().join("f"), 5, 4096).expect("synced").len(), 5);
        assert_eq!(fs::metadata(home.path().join("f")).expect("there").len(), 5 * 4096);
    }
}
