//! Access to the files beneath one directory, by key.

use super::attributes::Attributes;
use super::{etag, file_pin};
use crate::repository::{ObjectHead, ObjectHeaders, ObjectSummary, Pin};
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, fsync, mkdirat, open, openat2, statat, unlinkat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A directory that is held open; everything is resolved beneath it.
pub struct Tree {
    root: OwnedFd,
    names: Mutex<()>,
}

/// Names that begin so are ours: files being written, uploads. No key has such a part.
pub const HIDDEN: &str = ".forebay-tmp-";

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As it sorts among keys: a directory's ends in `/`.
    pub key_part: String,
    /// Whether it is a symlink (to a regular file).
    pub is_link: bool,
}

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

impl Tree {
    /// Opens a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Tree { root: open(path, OPEN.union(OFlags::DIRECTORY), Mode::empty())?, names: Mutex::new(()) })
    }

    /// Held while a name is looked at and changed, or directories are made and pruned.
    pub fn names_lock(&self) -> MutexGuard<'_, ()> {
        self.names.lock()
    }

    /// Opens the regular file of a key. `NotFound` for whatever is no object: directories, odd keys, links that lead out.
    pub fn open_file(&self, key: &str) -> io::Result<File> {
        if !key.split('/').all(is_plain) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (dir_path, name) = key.rsplit_once('/').unwrap_or(("", key));
        self.open_in(&self.open_dir(dir_path)?, dir_path, name)
    }

    /// Opens the directory of a key without its closing slash; the root for an empty one.
    pub fn open_dir(&self, key: &str) -> io::Result<OwnedFd> {
        if key.is_empty() {
            return self.root.try_clone();
        }
        if !key.split('/').all(is_plain) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.open_hidden_dir(key)
    }

    /// Opens a directory of ours.
    pub fn open_hidden_dir(&self, path: &str) -> io::Result<OwnedFd> {
        open_dir_in(&self.root, path).map_err(absent)
    }

    /// Makes sure of the directory of a plain path, durably, and opens it. Takes [`Tree::names_lock`] to be held.
    pub fn make_dir(&self, path: &str) -> io::Result<OwnedFd> {
        if path.is_empty() { self.root.try_clone() } else { self.make_hidden_dir(path) }
    }

    /// Makes sure of a directory of ours.
    pub fn make_hidden_dir(&self, path: &str) -> io::Result<OwnedFd> {
        let mut dir = self.root.try_clone()?;
        for name in path.split('/') {
            match mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => fsync(&dir)?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            dir = open_dir_in(&dir, name)?;
        }
        Ok(dir)
    }

    /// Removes a directory and those above it, as far as they are empty and no markers. Takes [`Tree::names_lock`] to be held.
    pub fn prune(&self, path: &str) -> io::Result<()> {
        let mut path = path;
        while !path.is_empty() && self.marker(path)?.is_none() {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            let Ok(dir) = self.open_dir(above) else { return Ok(()) };
            // Not empty, most likely, or somebody else's to remove.
            if unlinkat(&dir, name, AtFlags::REMOVEDIR).is_err() {
                return Ok(());
            }
            fsync(&dir)?;
            path = above;
        }
        Ok(())
    }

    /// The ETag of a key's file; `None` if there is none.
    pub fn etag_of(&self, key: &str) -> io::Result<Option<String>> {
        match self.open_file(key).and_then(|file| file_pin(&file)) {
            Ok(pin) => Ok(Some(pin.etag)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What makes a directory (its key without the slash) an object of its own; `None` if nothing does.
    pub fn marker(&self, path: &str) -> io::Result<Option<Attributes>> {
        match self.open_dir(path) {
            Ok(_) if path.is_empty() => Ok(None),
            Ok(dir) => Self::marker_of(&dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What makes this directory an object of its own.
    pub fn marker_of(dir: impl AsFd) -> io::Result<Option<Attributes>> {
        Ok(Attributes::read(dir)?.filter(|marker| marker.modified_ns.is_some()))
    }

    /// The marker object's headers.
    pub fn marker_head(&self, path: &str) -> io::Result<ObjectHead> {
        let marker = self.marker(path)?.ok_or(io::ErrorKind::NotFound)?;
        let (modified_ns, etag) = (marker.modified_ns.unwrap_or_default(), marker.etag.clone());
        let ObjectHeaders { system, user_metadata } = marker.headers(&etag);
        Ok(ObjectHead { size: 0, pin: Pin { etag, version: None }, modified_ns, user_metadata, system })
    }

    /// Opens a regular file of a directory, whose path from the root is `dir_path`.
    fn open_in(&self, dir: &OwnedFd, dir_path: &str, name: &str) -> io::Result<File> {
        let file = match openat2(dir, name, OPEN, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            // A link may lead to a sibling of its directory, so it is resolved beneath the root.
            Err(rustix::io::Errno::LOOP) => {
                let path = if dir_path.is_empty() { name.to_owned() } else { format!("{dir_path}/{name}") };
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                openat2(&self.root, path, OPEN, Mode::empty(), resolve)
            }
            other => other,
        };
        let file = file.map_err(absent)?;
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The names of a directory that can be part of a key, in key order; none if there is no such directory.
    pub fn names(&self, dir_key: &str) -> io::Result<Vec<Name>> {
        let path = dir_key.trim_end_matches('/');
        let dir = match self.open_dir(path) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir_key.is_empty() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if is_plain(name)
                && let Some(name) = self.classified(&dir, path, name, entry.file_type())
            {
                names.push(name);
            }
        }
        names.sort_unstable_by(|a, b| a.key_part.cmp(&b.key_part));
        Ok(names)
    }

    fn classified(&self, dir: &OwnedFd, dir_path: &str, name: &str, kind: FileType) -> Option<Name> {
        let kind = match kind {
            // Some file systems do not say.
            FileType::Unknown => FileType::from_raw_mode(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_mode),
            known => known,
        };
        match kind {
            FileType::Directory => Some(Name { key_part: format!("{name}/"), is_link: false }),
            FileType::RegularFile => Some(Name { key_part: name.to_owned(), is_link: false }),
            FileType::Symlink => {
                self.open_in(dir, dir_path, name).ok()?;
                Some(Name { key_part: name.to_owned(), is_link: true })
            }
            _ => None,
        }
    }

    /// The listing's entry of a file; `None` if it has gone.
    pub fn summary(&self, dir: &OwnedFd, dir_key: &str, name: &Name) -> io::Result<Option<ObjectSummary>> {
        let dir_path = dir_key.trim_end_matches('/');
        let stat = match name.is_link {
            true => self.open_in(dir, dir_path, &name.key_part).and_then(|file| Ok(fstat(&file)?)),
            false => statat(dir, &name.key_part, AtFlags::SYMLINK_NOFOLLOW).map_err(absent),
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let modified_ns = stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64);
        let size = stat.st_size as u64;
        let etag = etag(stat.st_ino, modified_ns, size);
        Ok(Some(ObjectSummary { key: format!("{dir_key}{}", name.key_part), size, etag, modified_ns }))
    }
}

/// Whether it can be a part of a key here.
pub fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('\0') && !name.starts_with(HIDDEN)
}

fn open_dir_in(dir: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(dir, path, OPEN | OFlags::DIRECTORY, Mode::empty(), resolve)
}

/// What cannot be reached beneath the root does not exist, as far as keys go.
fn absent(error: rustix::io::Errno) -> io::Error {
    use rustix::io::Errno;
    match error {
        Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG | Errno::NXIO => io::ErrorKind::NotFound.into(),
        other => other.into(),
    }
}
