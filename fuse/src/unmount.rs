//! Unmounting: as root with `umount2`, otherwise with `fusermount3`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::UnmountFlags;

/// Why a mount point is still mounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Files are open below it, or it is somebody's working directory.
    #[error("'{}' is busy", mountpoint.display())]
    Busy {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// Nothing is mounted there.
    #[error("'{}' is not mounted", mountpoint.display())]
    NotMounted {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// The kernel or fusermount3 refused.
    #[error("'{}' could not be unmounted: {reason}", mountpoint.display())]
    Refused {
        /// The mount point.
        mountpoint: PathBuf,
        /// Their words.
        reason: String,
    },
}

/// Unmounts one mount point.
#[derive(Clone, Debug)]
pub struct Unmounter {
    mountpoint: PathBuf,
}

impl Unmounter {
    /// An unmounter for a mount point (absolute, without symlinks).
    pub fn new(mountpoint: impl Into<PathBuf>) -> Self {
        Unmounter { mountpoint: mountpoint.into() }
    }

    /// Unmounts, if nobody uses the mount.
    pub fn unmount(&self) -> Result<(), UnmountError> {
        self.run(UnmountFlags::NOFOLLOW, &["-u"])
    }

    /// Takes the mount out of the tree at once; it ends when its last user does (lazy unmount).
    pub fn detach(&self) -> Result<(), UnmountError> {
        self.run(UnmountFlags::NOFOLLOW | UnmountFlags::DETACH, &["-u", "-z"])
    }

    fn run(&self, flags: UnmountFlags, helper_args: &[&str]) -> Result<(), UnmountError> {
        match rustix::mount::unmount(&self.mountpoint, flags) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::PERM) => self.run_helper(helper_args),
            Err(rustix::io::Errno::BUSY) => Err(self.busy()),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Err(self.not_mounted()),
            Err(errno) => Err(self.refused(io::Error::from(errno).to_string())),
        }
    }

    /// What a user without the right to unmount has: the set-uid helper that also mounted.
    fn run_helper(&self, args: &[&str]) -> Result<(), UnmountError> {
        let output = Command::new("fusermount3")
            .args(args)
            .arg("--")
            .arg(&self.mountpoint)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.refused(format!("fusermount3 could not be run ({error}); install the fuse3 package")))?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.explain(&String::from_utf8_lossy(&output.stderr)))
    }

    /// Turns fusermount3's words into an error.
    fn explain(&self, stderr: &str) -> UnmountError {
        if stderr.contains("busy") {
            self.busy()
        } else if stderr.contains("not found in") || stderr.contains("not mounted") {
            self.not_mounted()
        } else {
            self.refused(stderr.trim().replace('\n', "; "))
        }
    }

    fn busy(&self) -> UnmountError {
        UnmountError::Busy { mountpoint: self.mountpoint.clone() }
    }

    fn not_mounted(&self) -> UnmountError {
        UnmountError::NotMounted { mountpoint: self.mountpoint.clone() }
    }

    fn refused(&self, reason: String) -> UnmountError {
        UnmountError::Refused { mountpoint: self.mountpoint.clone(), reason }
    }

    /// The mount point.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_directory_is_not_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let error = Unmounter::new(dir.path()).unmount().unwrap_err();
        // Without root the helper says so instead, in its words.
        assert!(matches!(error, UnmountError::NotMounted { .. } | UnmountError::Refused { .. }), "{error}");
    }

    #[test]
    fn the_helpers_words_are_understood() {
        let unmounter = Unmounter::new("/mnt");
        let busy = unmounter.explain("fusermount3: failed to unmount /mnt: Device or resource busy\n");
        assert!(matches!(busy, UnmountError::Busy { .. }), "{busy}");
        let absent = unmounter.explain("fusermount3: entry for /mnt not found in /etc/mtab\n");
        assert!(matches!(absent, UnmountError::NotMounted { .. }), "{absent}");
        let other = unmounter.explain("fusermount3: bad\nluck\n");
        assert_eq!(other.to_string(), "'/mnt' could not be unmounted: fusermount3: bad; luck");
    }
}
