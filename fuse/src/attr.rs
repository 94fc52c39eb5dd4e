//! Attributes as FUSE has them.

use forebay_daemon::ids::Ino;
use forebay_daemon::meta::FileKind;
use forebay_daemon::vfs::{Attr, SetTime};
use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What `stat` shows as the preferred I/O size, in bytes: one block, so that `cp` and friends ask for whole blocks.
const PREFERRED_IO_BYTES: u32 = 128 << 10;

pub(crate) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// What the type bits of a mode ask `mknod` for; no type means a regular file.
pub(crate) fn kind_of_mode(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        libc::S_IFREG | 0 => Some(FileKind::File),
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

/// Permission bits of a mode.
pub(crate) fn perm_of_mode(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// A time as `setattr` gives it.
pub(crate) fn set_time(time: TimeOrNow) -> SetTime {
    let at = match time {
        TimeOrNow::Now => return SetTime::Now,
        TimeOrNow::SpecificTime(at) => at,
    };
    let ns = |distance: Duration| i64::try_from(distance.as_nanos()).unwrap_or(i64::MAX);
    SetTime::At(match at.duration_since(UNIX_EPOCH) {
        Ok(after) => ns(after),
        // fuser 0.18 takes both parts of the kernel's time away from the epoch: the seconds, which are negative, and the fraction, which is not.
        Err(before) => {
            let fraction = i64::from(before.duration().subsec_nanos());
            -ns(Duration::from_secs(before.duration().as_secs())) + fraction
        }
    })
}

fn system_time(ns: i64) -> SystemTime {
    let magnitude = Duration::from_nanos(ns.unsigned_abs());
    if ns >= 0 { UNIX_EPOCH + magnitude } else { UNIX_EPOCH - magnitude }
}

pub(crate) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.allocated.div_ceil(512),
        atime: system_time(attr.atime_ns),
        mtime: system_time(attr.mtime_ns),
        ctime: system_time(attr.ctime_ns),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: PREFERRED_IO_BYTES,
        flags: 0,
    }
}

/// The entry that tells the kernel "this name does not exist, and you may remember that": inode 0.
pub(crate) fn absent() -> FileAttr {
    let attr = Attr {
        ino: Ino(0),
        kind: FileKind::File,
        perm: 0,
        uid: 0,
        gid: 0,
        nlink: 0,
        size: 0,
        allocated: 0,
        atime_ns: 0,
        mtime_ns: 0,
        ctime_ns: 0,
        rdev: 0,
    };
    file_attr(&attr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_keep_their_nanoseconds() {
        assert_eq!(UNIX_EPOCH.duration_since(system_time(-1_500_000_001)).unwrap(), Duration::new(1, 500_000_001));
        assert_eq!(system_time(i64::MAX).duration_since(UNIX_EPOCH).unwrap().as_nanos(), i64::MAX as u128);
    }
}
