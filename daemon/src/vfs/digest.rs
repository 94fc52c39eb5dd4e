//! The digest of a snapshot: all of its content read through the cache, in parallel over files, each file in order.
//!
//! Definition: [`crate::format::digest`]. Memory is bounded by the files read at once and by the depth of the tree: names are hashed as they come, in the
//! order of the rows, which is that of the definition.

use super::frozen::never_listed;
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::format::digest::{Digest, DirectoryHasher, FileHasher};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode};
use bytes::Bytes;
use futures::StreamExt;
use futures::channel::oneshot;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files read at once: enough to hide the latency of a store behind small objects.
const FILES_AT_ONCE: usize = 32;
/// Bytes read at a time of a file; another such piece is on its way while one is hashed.
const PIECE: u64 = 512 << 10;
/// Entries of a directory read at a time.
const PAGE: usize = 1000;

/// How far a digest is.
#[derive(Debug, Default)]
pub struct DigestProgress {
    /// Names hashed.
    pub entries: AtomicU64,
    /// Bytes hashed.
    pub bytes: AtomicU64,
}

/// A digest, and what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeDigest {
    /// The digest.
    pub digest: Digest,
    /// Names in the tree.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Vfs {
    /// The digest of a snapshot.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name; with the path in the message, `Stale` if something of it is not to be had any more.
    pub async fn digest_snapshot(&self, name: &[u8], progress: Arc<DigestProgress>) -> Result<TreeDigest> {
        let row = self.0.snapshot_row(name)?;
        let digest = self.0.digest_tree(row.root.at(row.epoch), &progress).await?;
        let (entries, bytes) = (progress.entries.load(Ordering::Relaxed), progress.bytes.load(Ordering::Relaxed));
        Ok(TreeDigest { digest, entries, bytes })
    }
}

/// Something that is no directory.
struct Leaf {
    name: Vec<u8>,
    path: Vec<u8>,
    ino: Ino,
    row: Inode,
}

/// A step of going through a tree.
enum Step {
    Leaf(Box<Leaf>),
    /// What follows is in this directory, until the `Leave` that belongs to it.
    Enter {
        name: Vec<u8>,
        perm: u16,
    },
    Leave,
}

/// The same with the digest of a leaf.
enum Hashed {
    Leaf { name: Vec<u8>, kind: FileKind, perm: u16, digest: Digest },
    Enter { name: Vec<u8>, perm: u16 },
    Leave,
}

struct Level {
    dir: Ino,
    path: Vec<u8>,
    after: Option<Vec<u8>>,
    page: VecDeque<(Vec<u8>, Ino, Inode)>,
}

/// Goes through a tree, in byte order of the names in each directory.
struct Steps {
    inner: Arc<Inner>,
    levels: Vec<Level>,
}

impl Steps {
    fn begin(inner: Arc<Inner>, root: Ino) -> Result<Self> {
        let mut steps = Steps { inner, levels: Vec::new() };
        steps.enter(root, Vec::new())?;
        Ok(steps)
    }

    fn enter(&mut self, dir: Ino, path: Vec<u8>) -> Result<()> {
        let is_ready = self.inner.directory_ready(dir).map_err(|error| at(&path, error))?;
        if !is_ready {
            return Err(at(&path, never_listed(dir)));
        }
        self.levels.push(Level { dir, path, after: None, page: VecDeque::new() });
        Ok(())
    }

    /// The next step; `None` after the root was left.
    fn next(&mut self) -> Result<Option<Step>> {
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        if level.page.is_empty() {
            let page = self.inner.meta.read_dir(level.dir, level.after.as_deref(), PAGE);
            level.page = page.map_err(|error| at(&level.path, metadata_error(error)))?.into();
        }
        let Some((name, ino, row)) = level.page.pop_front() else {
            self.levels.pop();
            return Ok((!self.levels.is_empty()).then_some(Step::Leave));
        };
        level.after = Some(name.clone());
        let path = if level.path.is_empty() { name.clone() } else { [level.path.as_slice(), &name].join(&b'/') };
        if row.kind == FileKind::Directory {
            self.enter(ino, path)?;
            return Ok(Some(Step::Enter { name, perm: row.perm }));
        }
        Ok(Some(Step::Leaf(Box::new(Leaf { name, path, ino, row }))))
    }
}

/// An error with the path it is about.
fn at(path: &[u8], error: Error) -> Error {
    let path = if path.is_empty() { "/".into() } else { String::from_utf8_lossy(path) };
    Error::new(error.kind, format!("'{path}': {}", error.message))
}

/// A task that ends with whoever waits for it.
struct Work<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inner {
    async fn digest_tree(self: &Arc<Self>, root: Ino, progress: &Arc<DigestProgress>) -> Result<Digest> {
        let steps = Steps::begin(Arc::clone(self), root)?;
        let steps = futures::stream::unfold(Some(steps), |steps| async move {
            let mut steps: Steps = steps?;
            match steps.next() {
                Ok(step) => step.map(|step| (Ok(step), Some(steps))),
                Err(error) => Some((Err(error), None)),
            }
        });
        let hashed = steps.map(|step| {
            let (inner, progress) = (Arc::clone(self), Arc::clone(progress));
            async move { inner.hash(step?, progress).await }
        });
        let mut hashed = Box::pin(hashed.buffered(FILES_AT_ONCE));
        let mut open = vec![(Vec::new(), 0, DirectoryHasher::default())];
        while let Some(step) = hashed.next().await {
            match step? {
                Hashed::Enter { name, perm } => open.push((name, perm, DirectoryHasher::default())),
                Hashed::Leaf { name, kind, perm, digest } => {
                    let (.., directory) = open.last_mut().expect("leaves come before the root is left");
                    directory.entry(kind, perm, &name, &digest);
                }
                Hashed::Leave => {
                    let (name, perm, done) = open.pop().expect("a directory that is left was entered");
                    let (.., directory) = open.last_mut().expect("the root is not left by a step");
                    directory.entry(FileKind::Directory, perm, &name, &done.finish());
                }
            }
        }
        let (.., root) = open.pop().expect("the root is left last");
        Ok(root.finish())
    }

    async fn hash(self: Arc<Self>, step: Step, progress: Arc<DigestProgress>) -> Result<Hashed> {
        let leaf = match step {
            Step::Enter { name, perm } => {
                progress.entries.fetch_add(1, Ordering::Relaxed);
                return Ok(Hashed::Enter { name, perm });
            }
            Step::Leave => return Ok(Hashed::Leave),
            Step::Leaf(leaf) => leaf,
        };
        let Leaf { name, path, ino, row } = *leaf;
        let (kind, perm) = (row.kind, row.perm);
        let digest = match kind {
            FileKind::File => {
                let (inner, progress) = (Arc::clone(&self), Arc::clone(&progress));
                // A task of its own: all that is hashed in this one is hashed one after the other.
                let mut work = Work(self.runtime.spawn(async move { inner.hash_file(ino, &row, &progress).await }));
                let lost = |error| Error::new(ErrorKind::Io, format!("it could not be read: {error}"));
                (&mut work.0).await.map_err(lost).and_then(|outcome| outcome)
            }
            FileKind::Symlink => self.link_target_of(ino).map(|target| Digest::of(&target)),
            FileKind::CharDevice | FileKind::BlockDevice => {
                let (major, minor) = (libc::major(row.rdev.into()), libc::minor(row.rdev.into()));
                Ok(Digest::of_device(major, minor))
            }
            FileKind::Fifo | FileKind::Socket => Ok(Digest::of(b"")),
            FileKind::Directory => unreachable!("directories are entered"),
        };
        let digest = digest.map_err(|error| at(&path, error))?;
        progress.entries.fetch_add(1, Ordering::Relaxed);
        Ok(Hashed::Leaf { name, kind, perm, digest })
    }

    fn link_target_of(&self, ino: Ino) -> Result<Vec<u8>> {
        let target = self.meta.symlink_target(ino).map_err(metadata_error)?;
        target.ok_or_else(|| Error::new(ErrorKind::Stale, "its target is not known"))
    }

    async fn hash_file(self: Arc<Self>, ino: Ino, row: &Inode, progress: &DigestProgress) -> Result<Digest> {
        let file = self.file_of(ino, row)?;
        if file.is_changed() {
            return Err(Error::new(ErrorKind::Stale, format!("object '{}' was replaced in the bucket", file.key())));
        }
        let reader = self.cache.reader(file, false);
        let read = |offset: u64| {
            let (done, piece) = oneshot::channel();
            let len = PIECE.min(row.size - offset) as u32;
            self.cache.read(&reader, offset, len, Box::new(move |bytes| drop(done.send(bytes))));
            piece
        };
        let (mut hasher, mut reached) = (FileHasher::default(), 0);
        let mut next = (row.size > 0).then(|| read(0));
        while let Some(piece) = next.take() {
            let piece: Bytes =
                piece.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the file system is being unmounted")))?;
            if piece.is_empty() {
                return Err(Error::new(ErrorKind::Io, format!("it ends after {reached} of {} bytes", row.size)));
            }
            reached += piece.len() as u64;
            // Under way while this piece is hashed.
            next = (reached < row.size).then(|| read(reached));
            hasher.update(&piece);
            progress.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(hasher.finish())
    }
}
