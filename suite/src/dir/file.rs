//! Files of the bench: opened with or without O_DIRECT, read and written at places, each failure with its path.

use crate::data::{ALIGN, Aligned, Source};
use crate::error::{At, Result};
use crate::stop::Stop;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What files that are laid out off the clock are written with.
pub(super) const LAYOUT_BLOCK: usize = 1 << 20;
/// Of what a row may take, how much longer laying out a file may: on a slow file system the file is then shorter.
const LAYOUT_PATIENCE: u32 = 20;

/// Through the page cache or past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Direct,
    Buffered,
}

impl Access {
    pub(super) fn words(self) -> &'static str {
        match self {
            Access::Direct => "O_DIRECT",
            Access::Buffered => "buffered",
        }
    }

    fn flags(self) -> i32 {
        match self {
            Access::Direct => libc::O_DIRECT,
            Access::Buffered => 0,
        }
    }
}

/// An open file that knows its path.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Opened {
    pub(super) fn read(path: &Path, access: Access) -> Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(access.flags()).open(path).at("open", path)?;
        Ok(Opened { file, path: path.to_owned() })
    }

    pub(super) fn create(path: &Path, access: Access) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).custom_flags(access.flags()).open(path).at("create", path)?;
        Ok(Opened { file, path: path.to_owned() })
    }

    pub(super) fn write(path: &Path, access: Access) -> Result<Self> {
        let file = OpenOptions::new().write(true).custom_flags(access.flags()).open(path).at("open", path)?;
        Ok(Opened { file, path: path.to_owned() })
    }

    pub(super) fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().at("look at", &self.path)?.len())
    }

    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(into, offset).at("read", &self.path)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).at("write", &self.path)
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().at("sync", &self.path)
    }

    pub(super) fn sync_data(&self) -> Result<()> {
        self.file.sync_data().at("sync", &self.path)
    }
}

/// Makes a directory; what was left at its place goes.
pub(super) fn make_directory(path: &Path) -> Result<PathBuf> {
    remove_directory(path)?;
    std::fs::create_dir(path).at("make", path)?;
    Ok(path.to_owned())
}

/// Removes a directory and what is in it, if it is there.
pub(super) fn remove_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Whether a file can be written and read past the page cache here: tried, because opening alone says little.
pub(super) fn takes_direct(dir: &Path) -> bool {
    let path = dir.join("direct");
    let tried = || -> Result<()> {
        let mut block = Aligned::new(ALIGN);
        Opened::create(&path, Access::Direct)?.write_at(&block, 0)?;
        Opened::read(&path, Access::Direct)?.read_at(&mut block, 0)?;
        Ok(())
    };
    let taken = tried().is_ok();
    let _ = std::fs::remove_file(&path);
    taken
}

/// Writes a file off the clock, and syncs it.
pub(super) fn lay_out(path: &Path, bytes: u64, limit: Duration, mut source: Source, stop: &Stop) -> Result<()> {
    let (file, began) = (Opened::create(path, Access::Buffered)?, Instant::now());
    let mut at = 0;
    while at < bytes && (at == 0 || began.elapsed() < limit * LAYOUT_PATIENCE) {
        stop.check()?;
        let len = (bytes - at).min(LAYOUT_BLOCK as u64);
        source.advance(len as usize);
        file.write_at(source.piece(), at)?;
        at += len;
    }
    file.sync()
}

/// Reads a file through the page cache to its end, or to so many bytes.
pub(super) fn read_through(path: &Path, at_most: u64, stop: &Stop) -> Result<u64> {
    let file = Opened::read(path, Access::Buffered)?;
    let mut buffer = vec![0; LAYOUT_BLOCK];
    let mut at = 0;
    while at < at_most {
        stop.check()?;
        let wanted = (at_most - at).min(LAYOUT_BLOCK as u64) as usize;
        match file.read_at(&mut buffer[..wanted], at)? {
            0 => break,
            read => at += read as u64,
        }
    }
    Ok(at)
}

/// The length of a file that has at least a block.
pub(super) fn blocks_in(path: &Path, block: u64) -> Result<u64> {
    let bytes = std::fs::metadata(path).at("look at", path)?.len();
    match bytes / block {
        0 => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it is shorter than a block")).at("measure", path),
        blocks => Ok(blocks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Texture;

    #[test]
    fn a_file_is_laid_out_to_its_size_and_read_through() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        let (bytes, stop) = ((2 << 20) + 4096, Stop::default());
        let source = Source::new(Texture::Random, 1, LAYOUT_BLOCK);
        lay_out(&path, bytes, Duration::from_secs(60), source, &stop).expect("laid out");
        assert_eq!(read_through(&path, u64::MAX, &stop).expect("read"), bytes);
        assert_eq!(read_through(&path, 5000, &stop).expect("read"), 5000);
        assert_eq!(blocks_in(&path, 64 << 10).expect("long enough"), 32);
        assert!(blocks_in(&path, 1 << 30).is_err());
    }

    #[test]
    fn trying_direct_io_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        takes_direct(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0);
    }
}
