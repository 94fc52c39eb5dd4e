//! The same operations as system calls on a real directory.

use super::operation::{Attributes, Bytes, EntryKind, Operation, Renaming, Reply, Setting};
use crate::exercise::content;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A directory, and the handles that are held on files below it.
pub struct System {
    root: PathBuf,
    held: Vec<OwnedFd>,
}

type Answer = Result<Reply, Errno>;

impl System {
    /// On a directory that is there.
    pub fn new(root: &Path) -> System {
        System { root: root.to_path_buf(), held: Vec::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::open(self.path(path), flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    fn slot(&self, slot: usize) -> Result<&OwnedFd, Errno> {
        self.held.get(slot).ok_or(Errno::BADF)
    }

    /// Does an operation, and says what it answers.
    pub fn apply(&mut self, operation: &Operation) -> Answer {
        let done = |()| Reply::Done;
        match operation {
            Operation::Create { path, mode } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::open(self.path(path), flags, Mode::from_raw_mode(*mode)).map(|_| Reply::Done)
            }
            Operation::Write { path, offset, bytes } => write(&self.open(path, OFlags::WRONLY)?, *offset, *bytes),
            Operation::Append { path, bytes } => append(&self.open(path, OFlags::WRONLY | OFlags::APPEND)?, *bytes),
            Operation::Truncate { path, size } => rustix::fs::ftruncate(self.open(path, OFlags::WRONLY)?, *size).map(done),
            Operation::Read { path, offset, length } => read(&self.open(path, OFlags::RDONLY)?, *offset, *length),
            Operation::Sync { path } => rustix::fs::fsync(self.open(path, OFlags::WRONLY)?).map(done),
            Operation::Rename { from, to, renaming } => {
                let flags = match renaming {
                    Renaming::Plain => RenameFlags::empty(),
                    Renaming::NoReplace => RenameFlags::NOREPLACE,
                    Renaming::Exchange => RenameFlags::EXCHANGE,
                };
                rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), flags).map(done)
            }
            Operation::Link { from, to } => rustix::fs::link(self.path(from), self.path(to)).map(done),
            Operation::Symlink { target, path } => rustix::fs::symlink(target.as_str(), self.path(path)).map(done),
            Operation::ReadLink { path } => {
                rustix::fs::readlink(self.path(path), Vec::new()).map(|target| Reply::Bytes(target.into_bytes()))
            }
            Operation::Unlink { path } => rustix::fs::unlink(self.path(path)).map(done),
            Operation::MakeDirectory { path, mode } => rustix::fs::mkdir(self.path(path), Mode::from_raw_mode(*mode)).map(done),
            Operation::RemoveDirectory { path } => rustix::fs::rmdir(self.path(path)).map(done),
            Operation::ChangeMode { path, mode } => rustix::fs::chmod(self.path(path), Mode::from_raw_mode(*mode)).map(done),
            Operation::SetTime { path, seconds, nanoseconds } => set_time(&self.path(path), *seconds, *nanoseconds).map(done),
            Operation::SetXattr { path, name, bytes, setting } => {
                let flags = match setting {
                    Setting::Either => XattrFlags::empty(),
                    Setting::Create => XattrFlags::CREATE,
                    Setting::Replace => XattrFlags::REPLACE,
                };
                let value = content::bytes(bytes.tag, 0, bytes.length);
                rustix::fs::lsetxattr(self.path(path), name.as_str(), &value, flags).map(done)
            }
            Operation::GetXattr { path, name } => xattr(&self.path(path), name).map(Reply::Bytes),
            Operation::RemoveXattr { path, name } => rustix::fs::lremovexattr(self.path(path), name.as_str()).map(done),
            Operation::List { path } => list(&self.path(path)).map(Reply::Entries),
            Operation::Stat { path } => stat(&self.path(path)).map(|(found, _)| Reply::Attributes(found)),
            Operation::Hold { path } => {
                let held = self.open(path, OFlags::RDWR)?;
                self.held.push(held);
                Ok(Reply::Done)
            }
            Operation::HeldWrite { slot, offset, bytes } => write(self.slot(*slot)?, *offset, *bytes),
            Operation::HeldRead { slot, offset, length } => read(self.slot(*slot)?, *offset, *length),
            Operation::HeldTruncate { slot, size } => rustix::fs::ftruncate(self.slot(*slot)?, *size).map(done),
            Operation::HeldStat { slot } => Ok(Reply::Attributes(attributes(&rustix::fs::fstat(self.slot(*slot)?)?)?)),
            Operation::Release { slot } => {
                self.slot(*slot)?;
                drop(self.held.remove(*slot));
                Ok(Reply::Done)
            }
        }
    }
}

/// One call, or in pieces if the file system takes it so.
fn write(file: &OwnedFd, offset: u64, bytes: Bytes) -> Answer {
    let bytes = content::bytes(bytes.tag, offset, bytes.length);
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(file, &bytes[done..], offset + done as u64)? {
            0 => return Err(Errno::IO),
            some => done += some,
        }
    }
    Ok(Reply::Done)
}

/// The bytes depend on where they land, and only this thread changes the file.
fn append(file: &OwnedFd, bytes: Bytes) -> Answer {
    let end = rustix::fs::fstat(file)?.st_size as u64;
    let bytes = content::bytes(bytes.tag, end, bytes.length);
    let written = rustix::io::write(file, &bytes)?;
    if written == bytes.len() { Ok(Reply::Done) } else { Err(Errno::IO) }
}

fn read(file: &OwnedFd, offset: u64, length: usize) -> Answer {
    let mut buffer = vec![0; length];
    let mut done = 0;
    while done < length {
        match rustix::io::pread(file, &mut buffer[done..], offset + done as u64)? {
            0 => break,
            some => done += some,
        }
    }
    buffer.truncate(done);
    Ok(Reply::Bytes(buffer))
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// The value of an extended attribute.
pub fn xattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 64 * 1024];
    let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
    value.truncate(length);
    Ok(value)
}

/// The names of the extended attributes that users may set.
pub fn xattr_names(path: &Path) -> Result<BTreeSet<String>, Errno> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice())?;
    let names = names[..length].split(|&byte| byte == 0).map(|name| String::from_utf8_lossy(name).into_owned());
    Ok(names.filter(|name| name.starts_with("user.")).collect())
}

fn kind_of(file_type: FileType) -> Result<EntryKind, Errno> {
    match file_type {
        FileType::RegularFile => Ok(EntryKind::File),
        FileType::Directory => Ok(EntryKind::Directory),
        FileType::Symlink => Ok(EntryKind::Symlink),
        _ => Err(Errno::NOSYS),
    }
}

fn attributes(stat: &Stat) -> Result<Attributes, Errno> {
    Ok(Attributes {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode))?,
        mode: stat.st_mode & 0o7777,
        links: stat.st_nlink,
        size: stat.st_size as u64,
        mtime: Some((stat.st_mtime, stat.st_mtime_nsec as i64)),
    })
}

/// What `lstat` says, and the inode number.
pub fn stat(path: &Path) -> Result<(Attributes, u64), Errno> {
    let stat = rustix::fs::lstat(path)?;
    Ok((attributes(&stat)?, stat.st_ino))
}

/// The entries of a directory, with the kind that the listing itself tells.
pub fn list(path: &Path) -> Result<BTreeMap<String, EntryKind>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let mut entries = BTreeMap::new();
    for entry in rustix::fs::Dir::new(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => stat(&path.join(&name))?.0.kind,
            known => kind_of(known)?,
        };
        // A name that is listed twice is as wrong as one that is missing.
        if entries.insert(name, kind).is_some() {
            return Err(Errno::NOTUNIQ);
        }
    }
    Ok(entries)
}
