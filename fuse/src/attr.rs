//! Attributes as FUSE has them.

use forebay_daemon::ids::Ino;
use forebay_daemon::meta::FileKind;
use forebay_daemon::vfs::Attr;
use fuser::{FileAttr, FileType, INodeNo};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What `stat` shows as the preferred I/O size, in bytes: one block, so that `cp` and friends ask for whole blocks.
const PREFERRED_IO_BYTES: u32 = 128 << 10;

pub(crate) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
    }
}

fn system_time(ns: i64) -> SystemTime {
    let magnitude = Duration::from_nanos(ns.unsigned_abs());
    if ns >= 0 { UNIX_EPOCH + magnitude } else { UNIX_EPOCH - magnitude }
}

pub(crate) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: system_time(attr.atime_ns),
        mtime: system_time(attr.mtime_ns),
        ctime: system_time(attr.ctime_ns),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
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
        atime_ns: 0,
        mtime_ns: 0,
        ctime_ns: 0,
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
