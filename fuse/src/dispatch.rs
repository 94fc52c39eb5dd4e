//! Kernel requests to `vfs` calls. Nothing here blocks or decides: decode, call, answer.
//!
//! Inodes are never reused and rows outlive the kernel's references, so `forget` has nothing to do and the generation is 0.

use crate::attr::{absent, file_attr, kind_of_mode, perm_of_mode, set_time};
use crate::errno::report;
use crate::groups::{belongs, keeps_set_ids};
use crate::init;
use crate::listing;
use crate::operations::{Operations, finish};
use forebay_daemon::error::Error;
use forebay_daemon::ids::Ino;
use forebay_daemon::meta::{RenameMode, SetMode};
use forebay_daemon::vfs::{Answer, Caller, Entry, HandleId, Lookup, OpenedFile, ReadReply, Seek, SetAttr, WriteReply};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
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

    /// Answers an operation that made something.
    fn made(&self, made: Answer<Entry>, operation: &'static str, reply: ReplyEntry) {
        finish(&self.runtime, made, move |result| match result {
            Ok(entry) => reply.entry(&entry.ttl, &file_attr(&entry.attr), Generation(0)),
            Err(error) => reply.error(report(operation, &error)),
        });
    }

    fn done(&self, done: Answer<()>, operation: &'static str, reply: ReplyEmpty) {
        finish(&self.runtime, done, move |result| answer(result, operation, reply));
    }
}

fn caller(req: &Request, umask: u32) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), umask: perm_of_mode(umask) }
}

/// How the kernel is to treat an open file. Closing one that was not written needs no FLUSH.
fn open_flags(opened: &OpenedFile, flags: OpenFlags) -> FopenFlags {
    let keep = if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
    let read_only = flags.acc_mode() == OpenAccMode::O_RDONLY;
    keep | if read_only { FopenFlags::FOPEN_NOFLUSH } else { FopenFlags::empty() }
}

/// Answers an operation that gives nothing back.
fn answer(result: Result<(), Error>, operation: &'static str, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(report(operation, &error)),
    }
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
        finish(&self.runtime, self.ops.open(Ino(ino.0), flags.0), move |result| match result {
            Ok(opened) => reply.opened(FileHandle(opened.handle.0), open_flags(&opened, flags)),
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

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let s = self.ops.statfs(Ino(ino.0));
        reply.statfs(s.blocks, s.blocks_free, s.blocks_free, s.files, 0, s.block_size, NAME_MAX, s.block_size);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
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

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // Reached only without `default_permissions`, which every mount of ours has: the kernel decides by mode bits.
        reply.ok();
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // With `HANDLE_KILLPRIV_V2` the kernel leaves set-ID bits to us. A change of nothing comes before a write, an allocation or a copy of a file
        // that has them, or file capabilities: then they go unless the caller may keep them. Fuser does not pass on the flag that says so
        // where the size changes.
        let changes_nothing = [mode.is_some(), uid.is_some(), gid.is_some(), size.is_some(), atime.is_some(), mtime.is_some()]
            .into_iter()
            .all(|given| !given)
            && ctime.is_none();
        let owner_alone = (uid.is_some() || gid.is_some()) && mode.is_none();
        let change = SetAttr {
            perm: mode.map(perm_of_mode),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            drops_ids: owner_alone || ((changes_nothing || size.is_some()) && !keeps_set_ids(req)),
        };
        finish(&self.runtime, self.ops.setattr(Ino(ino.0), change, caller(req, 0)), |result| match result {
            Ok(entry) => reply.attr(&entry.ttl, &file_attr(&entry.attr)),
            Err(error) => reply.error(report("setattr", &error)),
        });
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let Some(kind) = kind_of_mode(mode) else { return reply.error(Errno::EINVAL) };
        let perm = perm_of_mode(mode);
        self.made(self.ops.mknod(Ino(parent.0), name.as_bytes(), kind, perm, rdev, caller(req, umask)), "mknod", reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.made(self.ops.mkdir(Ino(parent.0), name.as_bytes(), perm_of_mode(mode), caller(req, umask)), "mkdir", reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes();
        self.made(self.ops.symlink(Ino(parent.0), name.as_bytes(), target, caller(req, 0)), "symlink", reply);
    }

    fn link(&self, _req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.made(self.ops.link(Ino(ino.0), Ino(parent.0), name.as_bytes()), "link", reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(self.ops.unlink(Ino(parent.0), name.as_bytes()), "unlink", reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(self.ops.rmdir(Ino(parent.0), name.as_bytes()), "rmdir", reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            none if none.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        let (from, to) = (Ino(parent.0), Ino(newparent.0));
        self.done(self.ops.rename(from, name.as_bytes(), to, newname.as_bytes(), mode), "rename", reply);
    }

    fn create(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32, reply: ReplyCreate) {
        let answer = self.ops.create(Ino(parent.0), name.as_bytes(), perm_of_mode(mode), flags, caller(req, umask));
        finish(&self.runtime, answer, move |result| match result {
            Ok((entry, opened)) => {
                let (attr, handle) = (file_attr(&entry.attr), FileHandle(opened.handle.0));
                reply.created(&entry.ttl, &attr, Generation(0), handle, open_flags(&opened, OpenFlags(flags)));
            }
            Err(error) => reply.error(report("create", &error)),
        });
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let len = data.len() as u32;
        let written: WriteReply = Box::new(move |result| match result {
            Ok(()) => reply.written(len),
            Err(error) => reply.error(report("write", &error)),
        });
        let caller = (!write_flags.contains(WriteFlags::FUSE_WRITE_CACHE)).then(|| caller(req, 0));
        let drops_ids = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        self.ops.write(HandleId(fh.0), offset, data, caller, drops_ids, written);
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        answer(self.ops.flush(HandleId(fh.0)), "flush", reply);
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.ops.fsync(HandleId(fh.0), Box::new(move |result| answer(result, "fsync", reply)));
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.ops.fsyncdir(Box::new(move |result| answer(result, "fsyncdir", reply)));
    }

    fn setxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, _position: u32, reply: ReplyEmpty) {
        let mode = match flags {
            libc::XATTR_CREATE => SetMode::Create,
            libc::XATTR_REPLACE => SetMode::Replace,
            _ => SetMode::Either,
        };
        let in_group = |gid| belongs(req, gid);
        self.done(self.ops.setxattr(Ino(ino.0), name.as_bytes(), value, mode, &in_group), "setxattr", reply);
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(self.ops.removexattr(Ino(ino.0), name.as_bytes()), "removexattr", reply);
    }

    fn fallocate(&self, req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, len: u64, mode: i32, reply: ReplyEmpty) {
        let done: WriteReply = Box::new(move |result| answer(result, "fallocate", reply));
        self.ops.fallocate(HandleId(fh.0), offset, len, mode, caller(req, 0), done);
    }

    fn copy_file_range(
        &self,
        req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((HandleId(fh_in.0), offset_in), (HandleId(fh_out.0), offset_out));
        finish(&self.runtime, self.ops.copy_range(from, to, len, caller(req, 0)), |result| match result {
            Ok(copied) => reply.written(u32::try_from(copied).expect("a copy is answered in parts far below 4 GiB")),
            Err(error) => reply.error(report("copy_file_range", &error)),
        });
    }

    fn lseek(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        finish(&self.runtime, self.ops.lseek(HandleId(fh.0), offset, what), |result| match result {
            Ok(found) => reply.offset(found as i64),
            Err(error) => reply.error(report("lseek", &error)),
        });
    }
}
