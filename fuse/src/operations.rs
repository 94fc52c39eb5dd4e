//! What the dispatcher needs of a file system. [`Vfs`] is the one there is; tests put a small fake in its place, so that a real
//! mount can be driven into every answer without a bucket behind it.

use forebay_daemon::error::Result;
use forebay_daemon::ids::Ino;
use forebay_daemon::meta::{FileKind, RenameMode, SetMode};
use forebay_daemon::vfs::{
    Answer, Caller, DirBatch, DoneReply, Entry, FsStats, HandleId, KernelCache, Lookup, OpenedDir, OpenedFile, ReadReply, Seek,
    SetAttr, Vfs, WriteReply,
};
use std::sync::Arc;

macro_rules! operations {
    ($( fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?; )*) => {
        /// The file system's operations; see [`Vfs`] for what each promises.
        pub(crate) trait Operations: Send + Sync + 'static {
            $( fn $name(&self $(, $arg: $ty)*) $(-> $ret)?; )*
        }

        impl Operations for Vfs {
            $( fn $name(&self $(, $arg: $ty)*) $(-> $ret)? { Vfs::$name(self $(, $arg)*) } )*
        }
    };
}

operations! {
    fn set_kernel_cache(&self, kernel: Arc<dyn KernelCache>);
    fn lookup(&self, parent: Ino, name: &[u8]) -> Answer<Lookup>;
    fn getattr(&self, ino: Ino) -> Answer<Entry>;
    fn readlink(&self, ino: Ino) -> Answer<Vec<u8>>;
    fn open(&self, ino: Ino, flags: i32) -> Answer<OpenedFile>;
    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: ReadReply);
    fn release(&self, handle: HandleId);
    fn opendir(&self, ino: Ino) -> Answer<OpenedDir>;
    fn readdir(&self, handle: HandleId, offset: u64, limit: usize) -> Answer<DirBatch>;
    fn releasedir(&self, handle: HandleId);
    fn statfs(&self, ino: Ino) -> FsStats;
    fn getxattr(&self, ino: Ino, name: &[u8]) -> Answer<Vec<u8>>;
    fn listxattr(&self, ino: Ino) -> Answer<Vec<Vec<u8>>>;
    fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: SetMode, in_group: &dyn Fn(u32) -> bool) -> Answer<()>;
    fn removexattr(&self, ino: Ino, name: &[u8]) -> Answer<()>;
    fn setattr(&self, ino: Ino, change: SetAttr, caller: Caller) -> Answer<Entry>;
    fn mknod(&self, parent: Ino, name: &[u8], kind: FileKind, perm: u16, rdev: u32, caller: Caller) -> Answer<Entry>;
    fn mkdir(&self, parent: Ino, name: &[u8], perm: u16, caller: Caller) -> Answer<Entry>;
    fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], caller: Caller) -> Answer<Entry>;
    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Answer<Entry>;
    fn unlink(&self, parent: Ino, name: &[u8]) -> Answer<()>;
    fn rmdir(&self, parent: Ino, name: &[u8]) -> Answer<()>;
    fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Answer<()>;
    fn create(&self, parent: Ino, name: &[u8], perm: u16, flags: i32, caller: Caller) -> Answer<(Entry, OpenedFile)>;
    fn write(&self, handle: HandleId, offset: u64, data: &[u8], caller: Option<Caller>, drops_ids: bool, reply: WriteReply);
    fn fsync(&self, handle: HandleId, reply: DoneReply);
    fn fsyncdir(&self, reply: DoneReply);
    fn flush(&self, handle: HandleId) -> Result<()>;
    fn fallocate(&self, handle: HandleId, offset: u64, len: u64, mode: i32, caller: Caller, reply: DoneReply);
    fn copy_range(&self, from: (HandleId, u64), to: (HandleId, u64), len: u64, caller: Caller) -> Answer<u64>;
    fn lseek(&self, handle: HandleId, offset: u64, what: Seek) -> Answer<u64>;
}

/// Runs an answer to its end: at once, or on the runtime when the object store has to be asked first. A future that panics drops
/// its reply, which answers `EIO`.
pub(crate) fn finish<T: Send + 'static>(
    runtime: &tokio::runtime::Handle,
    answer: Answer<T>,
    done: impl FnOnce(Result<T>) + Send + 'static,
) {
    match answer {
        Answer::Ready(result) => done(result),
        Answer::Pending(future) => {
            runtime.spawn(async move { done(future.await) });
        }
    }
}
