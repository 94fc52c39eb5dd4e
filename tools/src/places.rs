//! Who runs the command, where the daemons' sockets are, and which mount a path is in.

use crate::error::CliError;
use crate::settings::User;
use forebay_daemon::control::dra::AssociationInfo;
use forebay_daemon::control::task::decode_path;
use forebay_daemon::control::types::Status;
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

/// The daemon of a path that may not exist yet, and the path below the mount's root.
pub(crate) fn daemon_of_new(path: &Path) -> Result<(Client, Vec<u8>), CliError> {
    let absolute = std::path::absolute(path).map_err(|error| CliError::words(format!("'{}': {error}", path.display())))?;
    let there = absolute.ancestors().find(|dir| dir.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let missing = absolute.strip_prefix(there).unwrap_or(Path::new(""));
    let (client, mut below) = daemon_of(there)?;
    for name in missing.components() {
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(name.as_os_str().as_encoded_bytes());
    }
    Ok((client, below))
}

/// Every daemon of this user with the URL that it has mounted and where.
pub(crate) fn daemons() -> Result<Vec<(Client, Status)>, CliError> {
    // A daemon that is just ending is not a failure of the command.
    let clients = Client::all(&socket_dir()).map_err(CliError::failed)?;
    Ok(clients.into_iter().filter_map(|client| client.status().ok().map(|status| (client, status))).collect())
}

/// The daemon that has a bucket's path mounted, and the path below the mount's root.
pub(crate) fn daemon_of_url(url: &str) -> Result<(Client, Vec<u8>), CliError> {
    let mut found: Vec<_> = daemons()?
        .into_iter()
        .filter_map(|(client, status)| Some((client, below_root(&status, url)?, status.mountpoint)))
        .collect();
    match (found.pop(), found.pop()) {
        (Some((client, below, _)), None) => Ok((client, below)),
        (Some((_, _, one)), Some((_, _, other))) => {
            Err(CliError::words(format!("'{url}' is mounted at '{one}' and at '{other}'; give a path in one of them")))
        }
        (None, _) => {
            Err(CliError::words(format!("'{url}' is not mounted, nor anything above it; 'forebay status' lists the mounts")))
        }
    }
}

/// The path below a mount's root of what a URL names, if it is mounted there or linked to a directory there.
fn below_root(status: &Status, url: &str) -> Option<Vec<u8>> {
    let linked = |association: &AssociationInfo| {
        let below = below(&association.url, url)?;
        let path = decode_path(association.path.trim_matches('/'));
        Some([path.as_slice(), below.as_bytes()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/'))
    };
    status.associations.iter().find_map(linked)
}

/// What is left of a URL below a mounted one.
fn below<'u>(mounted: &str, url: &'u str) -> Option<&'u str> {
    let rest = url.strip_prefix(mounted.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/').map(|rest| rest.trim_end_matches('/')) }
}

/// The daemon of a path in a mount, or the only one there is.
pub(crate) fn daemon_of_maybe(path: Option<&Path>) -> Result<Client, CliError> {
    if let Some(path) = path {
        return daemon_of(path).map(|(client, _)| client);
    }
    let mut all = daemons()?;
    match (all.pop(), all.pop()) {
        (Some((client, _)), None) => Ok(client),
        (None, _) => Err(CliError::words("nothing is mounted")),
        (Some((_, one)), Some((_, other))) => Err(CliError::words(format!(
            "several file systems are mounted; say which with --mount, such as --mount {} or --mount {}",
            other.mountpoint, one.mountpoint
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn urls_are_found_below_what_is_mounted() {
        assert_eq!(below("s3://bucket", "s3://bucket"), Some(""));
        assert_eq!(below("s3://bucket", "s3://bucket/a/b/"), Some("a/b"));
        assert_eq!(below("s3://bucket/a/", "s3://bucket/a/b"), Some("b"));
        assert_eq!(below("s3://bucket/a", "s3://bucket/ab"), None);
        assert_eq!(below("s3://bucket/a", "s3://bucket"), None);
    }
}
