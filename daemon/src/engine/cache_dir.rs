//! Cache directories: one per device, each locked by the process that uses it.
//!
//! ```text
//! DIR/lock        held (flock) while in use; contains the holder's pid
//! DIR/segments    the device: superblock and segment log
//! DIR/metadata/   the metadata engine (first directory only)
//! DIR/tasks/      reports of tasks that run (first directory only)
//! DIR/unclean     exists while a scratch file system is mounted (first directory only)
//! ```

use super::StartError;
use crate::units::{ByteCount, MIB};
use rustix::fs::{FlockOperation, flock, statvfs};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The least a device may offer.
const MIN_DEVICE: u64 = 64 * MIB;
/// Share of the file system below that is left free by default, in percent.
const LEFT_FREE_PERCENT: u64 = 5;

/// A locked cache directory.
pub(super) struct CacheDir {
    path: PathBuf,
    _lock: File,
}

impl CacheDir {
    /// Creates the directory where needed and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, StartError> {
        let unusable = |what: &str, error: &std::io::Error| {
            StartError(format!("cache directory {}: {what}: {error}; give another --cache", path.display()))
        };
        fs::create_dir_all(path).map_err(|error| unusable("cannot be created", &error))?;
        let name = path.join("lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name);
        let mut lock = opened.map_err(|error| unusable("cannot be written", &error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            return Err(StartError(format!(
                "cache directory {} is in use by another forebay (pid {}); unmount that one, or give this mount its own --cache",
                path.display(),
                holder.trim()
            )));
        }
        lock.set_len(0).map_err(|error| unusable("cannot be written", &error))?;
        lock.write_all(std::process::id().to_string().as_bytes()).map_err(|error| unusable("cannot be written", &error))?;
        Ok(CacheDir { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn segments(&self) -> PathBuf {
        self.path.join("segments")
    }

    pub(super) fn metadata(&self) -> PathBuf {
        self.path.join("metadata")
    }

    pub(super) fn tasks(&self) -> PathBuf {
        self.path.join("tasks")
    }

    fn unclean(&self) -> PathBuf {
        self.path.join("unclean")
    }

    /// Bytes this device may use: as formatted, as asked for, or all but 5 % of the file system it is on.
    pub(super) fn capacity(&self, asked: Option<ByteCount>) -> Result<u64, StartError> {
        let formatted = fs::metadata(self.segments()).map(|file| file.len()).unwrap_or(0);
        if formatted > 0 {
            if let Some(asked) = asked.filter(|asked| asked.0 / MIB != formatted / MIB) {
                return Err(StartError(format!(
                    "cache directory {} was formatted with {}; mount it with that --cache-size (asked: {asked}), or empty it to start anew",
                    self.path.display(),
                    ByteCount(formatted)
                )));
            }
            return Ok(formatted);
        }
        let space =
            statvfs(&self.path).map_err(|error| StartError(format!("cache directory {}: {error}", self.path.display())))?;
        let (total, free) = (space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize);
        let usable = free.saturating_sub(total / 100 * LEFT_FREE_PERCENT);
        let bytes = asked.map_or(usable, |asked| asked.0);
        if bytes > free || bytes < MIN_DEVICE {
            let (wanted, free) = (ByteCount(bytes.max(MIN_DEVICE)), ByteCount(free));
            let dir = self.path.display();
            return Err(StartError(format!(
                "cache directory {dir} has {free} free, needed are {wanted}; free space or change --cache-size"
            )));
        }
        Ok(bytes / MIB * MIB)
    }

    /// For scratch: empties the directory if the last mount did not end cleanly; says whether it did.
    pub(super) fn begin_scratch(&self, all: &[CacheDir]) -> Result<bool, StartError> {
        let unclean = self.unclean().exists();
        if unclean {
            for dir in all {
                dir.wipe().map_err(|error| StartError(format!("cache directory {}: {error}", dir.path.display())))?;
            }
        }
        File::create(self.unclean()).map_err(|error| StartError(format!("cache directory {}: {error}", self.path.display())))?;
        Ok(unclean)
    }

    /// Notes that the file system stopped cleanly.
    pub(super) fn end_scratch(&self) {
        let _ = fs::remove_file(self.unclean());
    }

    /// Removes the metadata, for it to begin anew.
    pub(super) fn forget_metadata(&self) -> Result<(), StartError> {
        let removed = fs::remove_dir_all(self.metadata());
        removed.map_err(|error| StartError(format!("cache directory {}: {error}", self.path.display())))
    }

    fn wipe(&self) -> std::io::Result<()> {
        let absent_is_fine = |result: std::io::Result<()>| match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        };
        absent_is_fine(fs::remove_file(self.segments()))?;
        absent_is_fine(fs::remove_dir_all(self.tasks()))?;
        absent_is_fine(fs::remove_dir_all(self.metadata()))
    }
}
