//! Who runs the command, where the daemons' sockets are, and which mount a path is in.

use crate::error::CliError;
use crate::settings::User;
use forebay_daemon::control::{Client, SocketDir};
use forebay_fuse::mountinfo::{self, MountEntry};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Who runs the command, and from where.
pub(crate) fn user() -> Result<User, CliError> {
    Ok(User {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        home: std::env::home_dir().filter(|home| home.is_absolute()),
        cwd: std::env::current_dir().map_err(|error| CliError::words(format!("the working directory is gone: {error}")))?,
    })
}

/// The control sockets of this user's daemons.
pub(crate) fn socket_dir() -> SocketDir {
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    SocketDir::of_user(rustix::process::geteuid().as_raw(), xdg.as_deref())
}

/// A mount point as its daemon knows it. Does not look into it: it may be dead.
pub(crate) fn mountpoint(path: &Path) -> Result<PathBuf, CliError> {
    mountinfo::resolve(path).map_err(|error| CliError::words(format!("'{}' cannot be found: {error}", path.display())))
}

/// A mount point that can take a mount, without symlinks: a live directory that no daemon of this user serves yet. Other mounts
/// there are covered, as mount(8) does it; two of ours in one place would be two daemons with one name.
pub(crate) fn free_mountpoint(path: &Path) -> Result<PathBuf, CliError> {
    let path = forebay_fuse::check_mountpoint(path).map_err(CliError::failed)?;
    match Client::of_mountpoint(&socket_dir(), &path) {
        Err(_) => Ok(path),
        Ok(_) => Err(CliError::words(format!("'{p}' is mounted already; run 'forebay umount {p}' first", p = path.display()))),
    }
}

/// All mounts of the machine.
pub(crate) fn mounts() -> Result<Vec<MountEntry>, CliError> {
    mountinfo::read().map_err(|error| CliError::words(format!("/proc/self/mountinfo cannot be read: {error}; mount /proc")))
}

/// A path in a Forebay mount: the daemon, and the path below the mount's root.
pub(crate) fn daemon_of(path: &Path) -> Result<(Client, Vec<u8>), CliError> {
    let path = mountpoint(path)?;
    let mounts = mounts()?;
    let mount = mountinfo::holding(&mounts, &path).filter(|mount| mount.is_forebay());
    let Some(mount) = mount else {
        let path = path.display();
        return Err(CliError::words(format!("'{path}' is not in a forebay mount; 'forebay status' lists the mounts")));
    };
    let below = path.strip_prefix(&mount.mountpoint).expect("the mount holds the path");
    let client = Client::of_mountpoint(&socket_dir(), &mount.mountpoint).map_err(CliError::failed)?;
    Ok((client, below.as_os_str().as_bytes().to_vec()))
}
