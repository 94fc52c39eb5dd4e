//! Kernel requests to `vfs` calls. Nothing here blocks or decides: decode, call, answer.
//!
//! Inodes are never reused and rows outlive the kernel's references, so `forget` has nothing to do and the generation is 0.

use crate::attr::{absent, file_attr};
use crate::errno::report;
use crate::init;
use crate::listing;
use crate::operations::{Operations, finish};
use forebay_daemon::ids::Ino;
use forebay_daemon::vfs::{HandleId, Lookup, ReadReply};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::runtime::Handle;

/// Longest name, in bytes.
const NAME_MAX: u32 = 255;

/// A file system as fuser drives it.
pub(crate) struct ForebayFs<O> {
    ops: Arc<O>,
    runtime: Handle,
}

impl<O: Operations> ForebayFs<O> {
    pub(crate) fn new(ops: Arc<O>, runtime: Handle) -> Self {
        ForebayFs { ops, runtime }
    }
}

fn wants_to_write(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & libc::O_TRUNC != 0
}

/// Answers a request for an attribute value or list: its size if none was given, the bytes if they fit.
fn reply_sized(reply: ReplyXattr, size: u32, data: &[u8]) {
    if size == 0 {
        reply.size(data.len() as u32);
    } else if data.len() > size as usize {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(data);
    }
}

#[allow(clippy::too_many_arguments, reason = "fuser's signatures")]
impl<O: Operations> Filesystem for ForebayFs<O> {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        init::negotiate(config);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        finish(&self.runtime, self.ops.lookup(Ino(parent.0), name.as_bytes()), |result| match result {
            Ok(Lookup::Found(entry)) => reply.entry(&entry.ttl, &file_attr(&entry.attr), Generation(0)),
            // A TTL of zero would be remembered for no time at all: say ENOENT, which costs the kernel no dentry.
            Ok(Lookup::Absent { ttl }) if ttl.is_zero() => reply.error(Errno::ENOENT),
            Ok(Lookup::Absent { ttl }) => reply.entry(&ttl, &absent(), Generation(0)),
            Err(error) => reply.error(report("lookup", &error)),
        });
    }

    fn forget(&self, _req: &Request, _ino: INodeNo, _nlookup: u64) {}

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        finish(&self.runtime, self.ops.getattr(Ino(ino.0)), |result| match result {
            Ok(entry) => reply.attr(&entry.ttl, &file_attr(&entry.attr)),
            Err(error) => reply.error(report("getattr", &error)),
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        finish(&self.runtime, self.ops.readlink(Ino(ino.0)), |result| match result {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(report("readlink", &error)),
        });
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if wants_to_write(flags) {
            return reply.error(Errno::EROFS);
        }
        finish(&self.runtime, self.ops.open(Ino(ino.0), flags.0), |result| match result {
            Ok(opened) => {
                // Nothing is ever written through a handle, so closing it needs no FLUSH.
                let keep = if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
                reply.opened(FileHandle(opened.handle.0), keep | FopenFlags::FOPEN_NOFLUSH);
            }
            Err(error) => reply.error(report("open", &error)),
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let done: ReadReply = Box::new(move |result| match result {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(report("read", &error)),
        });
        self.ops.read(HandleId(fh.0), offset, size, done);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.ops.release(HandleId(fh.0));
        reply.ok();
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        finish(&self.runtime, self.ops.opendir(Ino(ino.0)), |result| match result {
            Ok(opened) => {
                let keep = if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
                reply.opened(FileHandle(opened.handle.0), keep | FopenFlags::FOPEN_CACHE_DIR);
            }
            Err(error) => reply.error(report("opendir", &error)),
        });
    }

    fn readdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        listing::fill(&self.ops, &self.runtime, HandleId(fh.0), offset, reply);
    }

    fn readdirplus(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        listing::fill(&self.ops, &self.runtime, HandleId(fh.0), offset, reply);
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.ops.releasedir(HandleId(fh.0));
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let s = self.ops.statfs();
        reply.statfs(s.blocks, s.blocks_free, s.blocks_free, s.files, 0, s.block_size, NAME_MAX, s.block_size);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        // The kernel and `ls` ask for capabilities, labels and ACLs of every file; Forebay has `user.` attributes only.
        if !name.as_bytes().starts_with(b"user.") {
            return reply.error(Errno::ENODATA);
        }
        finish(&self.runtime, self.ops.getxattr(Ino(ino.0), name.as_bytes()), move |result| match result {
            Ok(value) => reply_sized(reply, size, &value),
            Err(error) => reply.error(report("getxattr", &error)),
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        finish(&self.runtime, self.ops.listxattr(Ino(ino.0)), move |result| match result {
            Ok(names) => {
                let list: Vec<u8> = names.into_iter().flat_map(|name| name.into_iter().chain([0])).collect();
                reply_sized(reply, size, &list);
            }
            Err(error) => reply.error(report("listxattr", &error)),
        });
    }

    fn access(&self, _req: &Request, _ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        // Reached only without `default_permissions`, which every mount of ours has; then the kernel decides by mode bits.
        if mask.contains(AccessFlags::W_OK) { reply.error(Errno::EROFS) } else { reply.ok() }
    }

    // What changes the file system. A read-only mount has the kernel refuse all of it before it gets here.

    fn setattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(&self, _: &Request, _: INodeNo, _: &OsStr, _: INodeNo, _: &OsStr, _: RenameFlags, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }
}
