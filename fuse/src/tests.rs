//! Real mounts over a small fake file system that can be driven into every answer.

use crate::mount::{MountError, MountHandle, MountOptions, check_mountpoint, mount_operations};
use crate::operations::Operations;
use crate::unmount::UnmountError;
use bytes::Bytes;
use forebay_daemon::error::{Error, ErrorKind, Result};
use forebay_daemon::ids::Ino;
use forebay_daemon::meta::{FileKind, RenameMode, SetMode};
use forebay_daemon::vfs::{
    Answer, Attr, Caller, DirBatch, DirEntry, DoneReply, Entry, FsStats, HandleId, KernelCache, Lookup, OpenedDir, OpenedFile,
    ReadReply, Seek, SetAttr, WriteReply,
};
use std::io::{ErrorKind as IoKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

const FILE: Ino = Ino(2);
const LINK: Ino = Ino(3);
const DIR: Ino = Ino(4);
const BROKEN: Ino = Ino(5);
/// Inodes of the files in `dir` start here.
const MEMBERS: u64 = 1000;
const MEMBER_COUNT: u64 = 1500;
const TTL: Duration = Duration::from_secs(3600);

/// `/file` (content set by the test), `/link` -> `file`, `/dir` with many members, `/broken` which fails. Everything but reads
/// is answered from a future, as if the store had to be asked.
#[derive(Default)]
struct FakeFs {
    content: Mutex<Vec<u8>>,
    kernel: OnceLock<Arc<dyn KernelCache>>,
    lookups: AtomicU64,
    reads: AtomicU64,
    released: AtomicU64,
}

fn later<T: Send + 'static>(result: Result<T>) -> Answer<T> {
    Answer::Pending(Box::pin(async move {
        tokio::task::yield_now().await;
        result
    }))
}

fn no<T>(kind: ErrorKind) -> Result<T> {
    Err(Error::new(kind, "as the test wants it"))
}

impl FakeFs {
    fn entry(&self, ino: Ino) -> Result<Entry> {
        let (kind, perm, size) = match ino {
            Ino::ROOT | DIR => (FileKind::Directory, 0o755, 0),
            LINK => (FileKind::Symlink, 0o777, 4),
            FILE => (FileKind::File, 0o644, self.content.lock().unwrap().len() as u64),
            BROKEN => (FileKind::File, 0o644, 10),
            Ino(n) if n >= MEMBERS => (FileKind::File, 0o600, n),
            _ => return no(ErrorKind::Stale),
        };
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let times = (1_500_000_000_000_000_001, 1_600_000_000_000_000_002, -5);
        let attr = Attr {
            ino,
            kind,
            perm,
            uid,
            gid,
            nlink: 1,
            size,
            allocated: size,
            atime_ns: times.0,
            mtime_ns: times.1,
            ctime_ns: times.2,
            rdev: 0,
        };
        Ok(Entry { attr, ttl: TTL })
    }
}

impl Operations for FakeFs {
    fn set_kernel_cache(&self, kernel: Arc<dyn KernelCache>) {
        assert!(self.kernel.set(kernel).is_ok());
    }
    fn lookup(&self, parent: Ino, name: &[u8]) -> Answer<Lookup> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let ino = match (parent, name) {
            (Ino::ROOT, b"file") => FILE,
            (Ino::ROOT, b"link") => LINK,
            (Ino::ROOT, b"dir") => DIR,
            (Ino::ROOT, b"broken") => BROKEN,
            (Ino::ROOT, b"denied") => return later(no(ErrorKind::AccessDenied)),
            _ => return later(Ok(Lookup::Absent { ttl: TTL })),
        };
        later(self.entry(ino).map(Lookup::Found))
    }
    fn getattr(&self, ino: Ino) -> Answer<Entry> {
        later(self.entry(ino))
    }
    fn readlink(&self, _ino: Ino) -> Answer<Vec<u8>> {
        later(Ok(b"file".to_vec()))
    }
    fn open(&self, ino: Ino, _: i32) -> Answer<OpenedFile> {
        later(Ok(OpenedFile { handle: HandleId(ino.0), keep_cache: true }))
    }
    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: ReadReply) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if handle.0 == BROKEN.0 {
            return reply(no(ErrorKind::Io));
        }
        let content = self.content.lock().unwrap();
        let from = content.len().min(offset as usize);
        let to = content.len().min(from + len as usize);
        let bytes = Bytes::copy_from_slice(&content[from..to]);
        // From another thread, as a device would.
        std::thread::spawn(move || reply(Ok(bytes)));
    }
    fn release(&self, _handle: HandleId) {
        self.released.fetch_add(1, Ordering::Relaxed);
    }
    fn opendir(&self, ino: Ino) -> Answer<OpenedDir> {
        later(Ok(OpenedDir { handle: HandleId(ino.0), keep_cache: false }))
    }
    fn readdir(&self, handle: HandleId, offset: u64, limit: usize) -> Answer<DirBatch> {
        let names = [(".", handle.0), ("..", 1)].map(|(name, ino)| (name.to_string(), Ino(ino)));
        let members = (0..MEMBER_COUNT).map(|n| (format!("member-{n:05}"), Ino(MEMBERS + n)));
        let all = names.into_iter().chain(members).enumerate().skip(offset as usize).take(limit);
        let batch = all
            .map(|(place, (name, ino))| {
                Ok(DirEntry { name: name.into_bytes(), next_offset: place as u64 + 1, entry: self.entry(ino)? })
            })
            .collect();
        // Some batches at once, some later.
        if (offset / 100).is_multiple_of(2) { Answer::Ready(batch) } else { later(batch) }
    }
    fn releasedir(&self, _handle: HandleId) {}
    fn statfs(&self, _: Ino) -> FsStats {
        FsStats { block_size: 4096, blocks: 1000, blocks_free: 250, files: 7 }
    }
    fn getxattr(&self, _ino: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        later(if name == b"user.forebay.etag" { Ok(b"\"abc\"".to_vec()) } else { no(ErrorKind::NoData) })
    }
    fn listxattr(&self, _ino: Ino) -> Answer<Vec<Vec<u8>>> {
        later(Ok(vec![b"user.forebay.etag".to_vec(), b"user.forebay.key".to_vec()]))
    }
    fn setxattr(&self, _: Ino, _: &[u8], _: &[u8], _: SetMode, _: &dyn Fn(u32) -> bool) -> Answer<()> {
        later(no(ErrorKind::NotPermitted))
    }
    fn removexattr(&self, _: Ino, _: &[u8]) -> Answer<()> {
        later(no(ErrorKind::NoData))
    }
    fn setattr(&self, _: Ino, _: SetAttr, _: Caller) -> Answer<Entry> {
        later(no(ErrorKind::ReadOnly))
    }
    fn mknod(&self, _: Ino, _: &[u8], _: FileKind, _: u16, _: u32, _: Caller) -> Answer<Entry> {
        later(no(ErrorKind::Exists))
    }
    fn mkdir(&self, _: Ino, _: &[u8], _: u16, _: Caller) -> Answer<Entry> {
        later(no(ErrorKind::NoSpace))
    }
    fn symlink(&self, _: Ino, _: &[u8], _: &[u8], _: Caller) -> Answer<Entry> {
        later(no(ErrorKind::NotPermitted))
    }
    fn link(&self, _: Ino, _: Ino, _: &[u8]) -> Answer<Entry> {
        later(no(ErrorKind::TooManyLinks))
    }
    fn unlink(&self, _: Ino, _: &[u8]) -> Answer<()> {
        later(no(ErrorKind::NotPermitted))
    }
    fn rmdir(&self, _: Ino, _: &[u8]) -> Answer<()> {
        later(no(ErrorKind::NotEmpty))
    }
    fn rename(&self, _: Ino, _: &[u8], _: Ino, _: &[u8], _: RenameMode) -> Answer<()> {
        later(no(ErrorKind::Exists))
    }
    fn create(&self, _: Ino, _: &[u8], _: u16, _: i32, _: Caller) -> Answer<(Entry, OpenedFile)> {
        later(no(ErrorKind::ReadOnly))
    }
    fn write(&self, _: HandleId, _: u64, _: &[u8], _: Option<Caller>, _: bool, reply: WriteReply) {
        reply(no(ErrorKind::TooLarge));
    }
    fn fsync(&self, _: HandleId, reply: DoneReply) {
        reply(no(ErrorKind::Io));
    }
    fn fsyncdir(&self, reply: DoneReply) {
        reply(Ok(()));
    }
    fn flush(&self, _: HandleId) -> Result<()> {
        Ok(())
    }
    fn fallocate(&self, _: HandleId, _: u64, _: u64, _: i32, _: Caller, reply: DoneReply) {
        reply(no(ErrorKind::Unsupported));
    }
    fn copy_range(&self, _: (HandleId, u64), _: (HandleId, u64), _: u64, _: Caller) -> Answer<u64> {
        later(no(ErrorKind::Invalid))
    }
    fn lseek(&self, _: HandleId, _: u64, _: Seek) -> Answer<u64> {
        later(no(ErrorKind::NoSuchData))
    }
}

struct Fixture {
    fs: Arc<FakeFs>,
    dir: tempfile::TempDir,
    handle: Option<MountHandle>,
    _runtime: tokio::runtime::Runtime,
}

impl Fixture {
    fn mount(content: &[u8]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let fs = Arc::new(FakeFs { content: Mutex::new(content.to_vec()), ..FakeFs::default() });
        let options = MountOptions { source: "s3://fake/a b".into(), allow_other: false, read_only: true, no_exec: true };
        let handle = mount_operations(Arc::clone(&fs), runtime.handle(), dir.path(), &options).unwrap();
        Fixture { fs, dir, handle: Some(handle), _runtime: runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn handle(&self) -> &MountHandle {
        self.handle.as_ref().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let _ = handle.unmounter().detach();
            let _ = handle.wait();
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
fn attributes_and_content_come_through() {
    let content = pattern(3 * (1 << 20) + 17);
    let mount = Fixture::mount(&content);
    let meta = std::fs::metadata(mount.path("file")).unwrap();
    assert_eq!((meta.len(), meta.ino(), meta.mode() & 0o7777, meta.mtime_nsec()), (content.len() as u64, 2, 0o644, 2));
    assert_eq!((meta.ctime(), meta.ctime_nsec()), (-1, 999_999_995));
    assert!(std::fs::read(mount.path("file")).unwrap() == content);
    assert_eq!(std::fs::read_link(mount.path("link")).unwrap(), Path::new("file"));
}

#[test]
fn a_directory_larger_than_any_buffer_is_listed_whole_with_attributes() {
    let mount = Fixture::mount(b"");
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(mount.path("dir")).unwrap() {
        names.push(entry.unwrap().file_name().into_string().unwrap());
    }
    let expected: Vec<String> = (0..MEMBER_COUNT).map(|n| format!("member-{n:05}")).collect();
    assert_eq!(names, expected);
}

#[test]
fn a_missing_name_is_asked_for_once_until_it_is_invalidated() {
    let mount = Fixture::mount(b"");
    let exists = || mount.path("absent").try_exists().unwrap();
    assert!(!exists() && !exists());
    assert_eq!(mount.fs.lookups.load(Ordering::Relaxed), 1);

    mount.fs.kernel.get().unwrap().forget_entry(Ino::ROOT, b"absent");
    wait_for(|| {
        exists();
        mount.fs.lookups.load(Ordering::Relaxed) > 1
    });
}

#[test]
fn an_invalidated_inode_shows_its_new_size_and_content() {
    let mount = Fixture::mount(b"old");
    assert_eq!(std::fs::read(mount.path("file")).unwrap(), b"old");
    let reads = mount.fs.reads.load(Ordering::Relaxed);
    assert_eq!(std::fs::read(mount.path("file")).unwrap(), b"old");
    assert_eq!(mount.fs.reads.load(Ordering::Relaxed), reads, "kept pages are used again");

    *mount.fs.content.lock().unwrap() = b"newer".to_vec();
    mount.fs.kernel.get().unwrap().forget_inode(FILE);
    wait_for(|| std::fs::read(mount.path("file")).unwrap() == b"newer");
}

/// The notifying thread and the kernel take a moment; a wrong result stays wrong until the test's time is up.
fn wait_for(mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("did not happen within ten seconds");
}

#[test]
fn failures_have_their_errno() {
    let mount = Fixture::mount(b"x");
    let os_error = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
    assert_eq!(os_error(std::fs::metadata(mount.path("denied")).map(drop)), Some(libc::EACCES));
    let mut broken = std::fs::File::open(mount.path("broken")).unwrap();
    assert_eq!(os_error(broken.read_to_end(&mut Vec::new()).map(drop)), Some(libc::EIO));
    assert_eq!(std::fs::metadata(mount.path("dir/none")).unwrap_err().kind(), IoKind::NotFound);
}

#[test]
fn nothing_can_be_changed() {
    let mount = Fixture::mount(b"x");
    let failures = [
        std::fs::write(mount.path("new"), b"y"),
        std::fs::write(mount.path("file"), b"y"),
        std::fs::create_dir(mount.path("new")),
        std::fs::remove_file(mount.path("file")),
        std::fs::rename(mount.path("file"), mount.path("other")),
        std::os::unix::fs::symlink("a", mount.path("new")),
    ];
    for failure in failures {
        assert_eq!(failure.unwrap_err().kind(), IoKind::ReadOnlyFilesystem);
    }
}

#[test]
fn extended_attributes_and_statfs() {
    let mount = Fixture::mount(b"x");
    let mut value = [0u8; 64];
    let file = mount.path("file");
    let len = rustix::fs::getxattr(&file, "user.forebay.etag", &mut value[..]).unwrap();
    assert_eq!(&value[..len], b"\"abc\"");
    assert_eq!(rustix::fs::getxattr(&file, "user.forebay.etag", &mut value[..2]), Err(rustix::io::Errno::RANGE));
    assert_eq!(rustix::fs::getxattr(&file, "security.capability", &mut value[..]), Err(rustix::io::Errno::NODATA));
    let len = rustix::fs::listxattr(&file, &mut value[..]).unwrap();
    assert_eq!(&value[..len], b"user.forebay.etag\0user.forebay.key\0");
    let stats = rustix::fs::statvfs(mount.dir.path()).unwrap();
    assert_eq!((stats.f_bsize, stats.f_blocks, stats.f_bfree, stats.f_namemax), (4096, 1000, 250, 255));
}

#[test]
fn handles_are_released() {
    let mount = Fixture::mount(&pattern(100));
    let file = std::fs::File::open(mount.path("file")).unwrap();
    let mut middle = [0u8; 10];
    file.read_exact_at(&mut middle, 40).unwrap();
    assert_eq!(middle, pattern(100)[40..50]);
    drop(file);
    wait_for(|| mount.fs.released.load(Ordering::Relaxed) == 1);
}

#[test]
fn the_mount_names_its_source_and_type_and_reads_far_ahead() {
    let mount = Fixture::mount(b"");
    let mounts = crate::mountinfo::read().unwrap();
    let entry = crate::mountinfo::at(&mounts, mount.handle().mountpoint()).unwrap();
    assert_eq!((entry.source.as_str(), entry.is_forebay()), ("s3://fake/a b", true));
    if rustix::process::geteuid().is_root() {
        let (major, minor) = entry.device;
        let kib = std::fs::read_to_string(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb")).unwrap();
        assert_eq!(kib.trim(), "4096");
    }
}

#[test]
fn a_busy_mount_stays_and_an_idle_one_goes() {
    let mut mount = Fixture::mount(b"x");
    let unmounter = mount.handle().unmounter();
    let open = std::fs::File::open(mount.path("file")).unwrap();
    let error = unmounter.unmount().unwrap_err();
    assert!(matches!(error, UnmountError::Busy { .. }), "{error}");
    assert!(mount.path("file").exists());
    drop(open);
    // The release is asynchronous: the kernel may hold the mount for another moment.
    wait_for(|| unmounter.unmount().is_ok());
    mount.handle.take().unwrap().wait().unwrap();
    assert!(!mount.path("file").exists());
}

#[test]
fn an_external_unmount_ends_the_session() {
    let mut mount = Fixture::mount(b"x");
    let status = std::process::Command::new("umount").arg(mount.dir.path()).status().unwrap();
    assert!(status.success());
    mount.handle.take().unwrap().wait().unwrap();
}

#[test]
fn a_dead_mount_is_recognised() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A mount whose /dev/fuse is closed again: what a killed daemon leaves behind.
    let dir = tempfile::tempdir().unwrap();
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&device);
    let data = std::ffi::CString::new(format!("fd={fd},rootmode=40000,user_id=0,group_id=0")).unwrap();
    rustix::mount::mount("dead", dir.path(), "fuse", rustix::mount::MountFlags::NODEV, Some(data.as_c_str())).unwrap();
    drop(device);

    let error = check_mountpoint(dir.path()).unwrap_err();
    crate::Unmounter::new(dir.path()).detach().unwrap();
    assert!(matches!(error, MountError::Dead(_)), "{error}");
    check_mountpoint(dir.path()).unwrap();
}
