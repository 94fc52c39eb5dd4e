//! Where the control sockets are: one directory per user, one socket per mount point, named by a hash of it.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Hex digits of the mount point's hash in a socket's name. A socket's path may have 107 bytes, and 64 bits are plenty to tell
/// the mounts of one machine apart.
const HASH_DIGITS: usize = 16;

/// The directory that the control sockets of one user are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketDir {
    path: PathBuf,
    owner: u32,
}

/// Why the directory cannot be trusted or made.
#[derive(Debug, thiserror::Error)]
pub enum SocketDirError {
    /// It cannot be made or looked at.
    #[error("control directory '{}' cannot be used: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else's, or open to others.
    #[error("control directory '{}' {why}; remove it, or set XDG_RUNTIME_DIR to a directory of yours", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl SocketDir {
    /// `/run/forebay` for root; `$XDG_RUNTIME_DIR/forebay`, or `/tmp/forebay-<uid>` without one, for everybody else.
    pub fn of_user(uid: u32, xdg_runtime_dir: Option<&Path>) -> Self {
        let path = match xdg_runtime_dir.filter(|dir| dir.is_absolute()) {
            _ if uid == 0 => PathBuf::from("/run/forebay"),
            Some(dir) => dir.join("forebay"),
            None => PathBuf::from(format!("/tmp/forebay-{uid}")),
        };
        SocketDir { path, owner: uid }
    }

    /// A directory of the caller's choice, for a user; tests use it.
    pub fn at(path: impl Into<PathBuf>, owner: u32) -> Self {
        SocketDir { path: path.into(), owner }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, closed to others, if it is not there; checks it in any case.
    pub fn ensure(&self) -> Result<(), SocketDirError> {
        match std::fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => Err(self.io(source)),
            _ => self.check(),
        }
    }

    /// Checks that the directory is the user's own and closed to others: whoever can put a socket there can answer as a daemon.
    pub fn check(&self) -> Result<(), SocketDirError> {
        let meta = std::fs::symlink_metadata(&self.path).map_err(|source| self.io(source))?;
        let why = if !meta.is_dir() {
            "is not a directory".to_owned()
        } else if meta.uid() != self.owner {
            format!("belongs to user {}", meta.uid())
        } else if meta.mode() & 0o077 != 0 {
            format!("is open to others (mode {:o})", meta.mode() & 0o7777)
        } else {
            return Ok(());
        };
        Err(SocketDirError::Unsafe { path: self.path.clone(), why })
    }

    /// The socket of a mount point (absolute, without symlinks).
    pub fn socket(&self, mountpoint: &Path) -> PathBuf {
        let hash = blake3::hash(mountpoint.as_os_str().as_bytes()).to_hex();
        self.path.join(format!("{}.sock", &hash[..HASH_DIGITS]))
    }

    /// All sockets, dead ones included. Empty if the directory does not exist.
    pub fn sockets(&self) -> Result<Vec<PathBuf>, SocketDirError> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.io(source)),
        };
        self.check()?;
        let mut sockets: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "sock")).collect();
        sockets.sort();
        Ok(sockets)
    }

    fn io(&self, source: std::io::Error) -> SocketDirError {
        SocketDirError::Io { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_user_has_a_place() {
        let xdg = Some(Path::new("/run/user/7"));
        assert_eq!(SocketDir::of_user(0, xdg).path(), Path::new("/run/forebay"));
        assert_eq!(SocketDir::of_user(7, xdg).path(), Path::new("/run/user/7/forebay"));
        assert_eq!(SocketDir::of_user(7, None).path(), Path::new("/tmp/forebay-7"));
        assert_eq!(SocketDir::of_user(7, Some(Path::new("relative"))).path(), Path::new("/tmp/forebay-7"));
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let uid = parent.path().metadata().unwrap().uid();
        let dir = SocketDir::at(parent.path().join("forebay"), uid);
        dir.ensure().unwrap();
        dir.ensure().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = dir.ensure().unwrap_err().to_string();
        assert!(error.contains("is open to others (mode 755)"), "{error}");
    }

    #[test]
    fn a_strangers_directory_and_a_symlink_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let uid = parent.path().metadata().unwrap().uid();
        assert!(matches!(SocketDir::at(parent.path(), uid + 1).ensure(), Err(SocketDirError::Unsafe { .. })));
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        assert!(matches!(SocketDir::at(link, uid).ensure(), Err(SocketDirError::Unsafe { .. })));
    }

    #[test]
    fn mount_points_have_sockets_of_their_own() {
        let dir = SocketDir::at("/run/forebay", 0);
        assert_ne!(dir.socket(Path::new("/mnt/a")), dir.socket(Path::new("/mnt/b")));
        assert_eq!(dir.socket(Path::new("/mnt/a")), dir.socket(Path::new("/mnt/a")));
        assert!(SocketDir::at("/nowhere/at/all", 0).sockets().unwrap().is_empty());
    }
}
