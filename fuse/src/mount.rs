//! Mounting, and what can stand in its way.
//!
//! As root the mount is made with `mount(2)` on `/dev/fuse`, without any helper; where the kernel refuses that (`EPERM`), with
//! `fusermount3`. A mount may go away under us at any time (`umount`, `fusermount3 -u`): its session then ends, and
//! [`MountHandle::wait`] returns.

use crate::dispatch::ForebayFs;
use crate::kernel_cache::{self, NotifyThread};
use crate::operations::Operations;
use crate::readahead;
use crate::unmount::Unmounter;
use forebay_daemon::vfs::Vfs;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What `df` and `/proc/self/mountinfo` show as the source: the repository's URL.
    pub source: String,
    /// Whether other users than the one who mounts may look.
    pub allow_other: bool,
    /// Whether the kernel refuses writes by itself.
    pub read_only: bool,
    /// Whether the kernel refuses to execute files from the mount.
    pub no_exec: bool,
}

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// No such directory.
    #[error("mount point '{p}' does not exist; create it with 'mkdir -p {p}'", p = .0.display())]
    Missing(PathBuf),
    /// A file, say.
    #[error("mount point '{}' is not a directory; name a directory", .0.display())]
    NotDirectory(PathBuf),
    /// The daemon of an earlier mount is gone, its mount is not.
    #[error("'{p}' is a dead mount; run 'forebay umount {p}' first", p = .0.display())]
    Dead(PathBuf),
    /// `stat` failed otherwise.
    #[error("mount point '{}' cannot be used: {source}", path.display())]
    Unreachable {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel has no FUSE.
    #[error("/dev/fuse is missing; load the kernel module with 'modprobe fuse', or give the container the device")]
    NoFuse,
    /// The device is closed to this user.
    #[error("/dev/fuse is closed to this user; open it with 'chmod 666 /dev/fuse', as most systems have it, or mount as root")]
    DeviceDenied,
    /// Not root, and no helper.
    #[error("mounting without root needs fusermount3; install the fuse3 package")]
    NoHelper,
    /// Not root, and not allowed to open the mount to others.
    #[error("--allow-other without root needs the line 'user_allow_other' in /etc/fuse.conf")]
    AllowOther,
    /// The kernel, fuser or fusermount3 refused.
    #[error("'{}' could not be mounted: {reason}", path.display())]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// Their words.
        reason: String,
    },
}

/// A mount that serves. Dropping it unmounts.
pub struct MountHandle {
    session: BackgroundSession,
    mountpoint: PathBuf,
    _notify: NotifyThread,
}

impl MountHandle {
    /// What unmounts this mount, from any thread.
    pub fn unmounter(&self) -> Unmounter {
        Unmounter::new(&self.mountpoint)
    }

    /// Where it is mounted, without symlinks.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Waits until the mount ends, whoever ends it.
    pub fn wait(self) -> io::Result<()> {
        // Joined before the notifier thread and the mount are dropped: the latter finds nothing left to unmount then, and does
        // not touch what may since have been mounted in the same place.
        self.session.join()
    }
}

/// Mounts a file system and returns when it serves. `runtime` runs what has to wait for the object store.
pub fn mount(vfs: &Vfs, runtime: &Handle, mountpoint: &Path, options: &MountOptions) -> Result<MountHandle, MountError> {
    mount_operations(Arc::new(vfs.clone()), runtime, mountpoint, options)
}

pub(crate) fn mount_operations<O: Operations>(
    ops: Arc<O>,
    runtime: &Handle,
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<MountHandle, MountError> {
    let mountpoint = check_mountpoint(mountpoint)?;
    let refused = |error: io::Error| explain(&mountpoint, error);
    let filesystem = ForebayFs::new(Arc::clone(&ops), runtime.clone());
    let session = Session::new(filesystem, &mountpoint, &session_config(options)).map_err(refused)?;
    let (kernel_cache, notify) = kernel_cache::start(session.notifier()).map_err(refused)?;
    ops.set_kernel_cache(kernel_cache);
    let session = session.spawn().map_err(refused)?;
    readahead::raise(&mountpoint);
    Ok(MountHandle { session, mountpoint, _notify: notify })
}

/// Checks that a mount point can take a mount, and resolves its symlinks. A directory with entries is fine, as for mount(8).
pub fn check_mountpoint(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let path = mountpoint.to_path_buf();
    match std::fs::metadata(mountpoint) {
        Ok(meta) if !meta.is_dir() => return Err(MountError::NotDirectory(path)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(MountError::Missing(path)),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(MountError::NotDirectory(path)),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => return Err(MountError::Dead(path)),
        Err(source) => return Err(MountError::Unreachable { path, source }),
    }
    check_device()?;
    mountpoint.canonicalize().map_err(|source| MountError::Unreachable { path, source })
}

fn check_device() -> Result<(), MountError> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    match accessat(CWD, "/dev/fuse", Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
        Err(rustix::io::Errno::NOENT) => Err(MountError::NoFuse),
        Err(rustix::io::Errno::ACCESS) => Err(MountError::DeviceDenied),
        // Anything else comes up again, with its words, when the device is opened.
        _ => Ok(()),
    }
}

fn session_config(options: &MountOptions) -> Config {
    let is_root = rustix::process::geteuid().is_root();
    let mut config = Config::default();
    config.mount_options = mount_options(options, is_root);
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    // One thread per core, each with its own queue, was fastest; two at least, so that one slow decode stalls nobody.
    config.n_threads = Some(std::thread::available_parallelism().map_or(2, |n| n.get().max(2)));
    config.clone_fd = true;
    config
}

fn mount_options(options: &MountOptions, is_root: bool) -> Vec<MountOption> {
    // `mount(2)` takes the source as it is; fusermount3 takes it in a comma-separated list and unescapes it.
    let source = if is_root { options.source.clone() } else { options.source.replace('\\', "\\\\").replace(',', "\\,") };
    let mut list = vec![
        MountOption::FSName(source),
        // Not `MountOption::Subtype`: fuser keeps that from the kernel when it mounts without the helper.
        MountOption::CUSTOM(format!("subtype={}", crate::SUBTYPE)),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    list.extend(options.read_only.then_some(MountOption::RO));
    list.extend(options.no_exec.then_some(MountOption::NoExec));
    list
}

/// Turns fuser's error into one that says what to do. Only fusermount3 is still looked for when `NotFound` comes up here.
fn explain(mountpoint: &Path, error: io::Error) -> MountError {
    let words = error.to_string();
    if words.contains("user_allow_other") {
        MountError::AllowOther
    } else if error.kind() == io::ErrorKind::NotFound {
        MountError::NoHelper
    } else {
        let words = if words.trim().is_empty() { "fusermount3 failed without a word" } else { words.trim() };
        MountError::Refused { path: mountpoint.to_path_buf(), reason: words.replace('\n', "; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_mount_point_says_how_to_make_it() {
        let error = check_mountpoint(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "mount point '/nowhere/at/all' does not exist; create it with 'mkdir -p /nowhere/at/all'");
    }

    #[test]
    fn a_file_is_no_mount_point() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(check_mountpoint(file.path()), Err(MountError::NotDirectory(_))));
        assert!(matches!(check_mountpoint(&file.path().join("below")), Err(MountError::NotDirectory(_))));
    }

    #[test]
    fn the_source_is_escaped_for_the_helper_only() {
        let options = MountOptions { source: "s3://a,b\\c".into(), allow_other: false, read_only: true, no_exec: false };
        assert!(mount_options(&options, true).contains(&MountOption::FSName("s3://a,b\\c".into())));
        assert!(mount_options(&options, false).contains(&MountOption::FSName("s3://a\\,b\\\\c".into())));
    }

    #[test]
    fn fusers_errors_say_what_to_do() {
        let path = Path::new("/mnt");
        let denied =
            io::Error::other("fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf");
        assert!(matches!(explain(path, denied), MountError::AllowOther));
        assert!(matches!(explain(path, io::ErrorKind::NotFound.into()), MountError::NoHelper));
        assert_eq!(explain(path, io::Error::other("a\nb\n")).to_string(), "'/mnt' could not be mounted: a; b");
    }
}
