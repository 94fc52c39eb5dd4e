//! Going through the files at and below an inode, in the order of their paths: for tasks, which remember how far they came.
//!
//! The order is that of the names in each directory, with what is below a directory in its place. It is the same each time, so a path says what was passed.

use super::listing::Goal;
use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode};
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries read at a time.
const PAGE: usize = 1000;

/// A file that was found.
#[derive(Clone, Debug)]
pub struct FoundFile {
    /// Its path below where the walk began; empty if it began at the file.
    pub below: Vec<u8>,
    /// Its inode.
    pub ino: Ino,
    /// Its row.
    pub row: Inode,
    /// Whether it comes before where the walk was to begin.
    pub is_passed: bool,
}

/// A directory that could not be gone through.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Its path below where the walk began.
    pub below: Vec<u8>,
    /// Why.
    pub error: Error,
}

struct Level {
    dir: Ino,
    below: Vec<u8>,
    after: Option<Vec<u8>>,
    page: VecDeque<(Vec<u8>, Ino, Inode)>,
}

/// A walk.
pub struct FileWalk {
    inner: Arc<Inner>,
    root: Option<Ino>,
    /// Whether directories are listed that are not known, or not freshly.
    lists: bool,
    /// What was passed before: not listed again.
    passed: Option<Vec<u8>>,
    levels: Vec<Level>,
}

/// Compares paths in the order of a walk.
fn compare(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}

/// Whether all that is below a directory comes before, or at, a path.
fn is_passed_whole(dir: &[u8], passed: &[u8]) -> bool {
    compare(dir, passed).is_lt() && !(passed.starts_with(dir) && passed.get(dir.len()) == Some(&b'/'))
}

impl Vfs {
    /// What is at a path below the root, with the store's help.
    pub async fn find(&self, path: &[u8]) -> Result<Ino> {
        self.0.walk(path).await
    }

    /// Begins to go through the files at and below an inode; `passed` is the path, below it, up to which that was done before.
    pub fn walk_files(&self, root: Ino, lists: bool, passed: Option<Vec<u8>>) -> FileWalk {
        FileWalk { inner: Arc::clone(&self.0), root: Some(root), lists, passed, levels: Vec::new() }
    }
}

impl FileWalk {
    /// The next file, or a directory that cannot be gone through; `None` at the end.
    pub async fn next(&mut self) -> Option<std::result::Result<FoundFile, Closed>> {
        if let Some(root) = self.root.take() {
            match self.inner.row(root) {
                Ok(row) if row.kind == FileKind::Directory => {
                    if let Err(error) = self.enter(root, Vec::new()).await {
                        return Some(Err(Closed { below: Vec::new(), error }));
                    }
                }
                Ok(row) => {
                    let found = FoundFile { below: Vec::new(), ino: root, row, is_passed: self.passed.is_some() };
                    return (found.row.kind == FileKind::File).then_some(Ok(found));
                }
                Err(error) => return Some(Err(Closed { below: Vec::new(), error })),
            }
        }
        while let Some(level) = self.levels.last_mut() {
            let Some((name, ino, row)) = level.page.pop_front() else {
                let read = self.inner.meta.read_dir(level.dir, level.after.as_deref(), PAGE).map_err(metadata_error);
                match read {
                    Ok(page) if page.is_empty() => drop(self.levels.pop()),
                    Ok(page) => {
                        level.after = page.last().map(|(name, ..)| name.clone());
                        level.page = page.into();
                    }
                    Err(error) => {
                        let below = std::mem::take(&mut level.below);
                        self.levels.pop();
                        return Some(Err(Closed { below, error }));
                    }
                }
                continue;
            };
            let below = if level.below.is_empty() { name } else { [level.below.as_slice(), &name].join(&b'/') };
            match row.kind {
                FileKind::Directory => {
                    if let Err(error) = self.enter(ino, below.clone()).await {
                        return Some(Err(Closed { below, error }));
                    }
                }
                FileKind::File => {
                    let is_passed = self.passed.as_ref().is_some_and(|passed| compare(&below, passed).is_le());
                    return Some(Ok(FoundFile { below, ino, row, is_passed }));
                }
                _ => {}
            }
        }
        None
    }

    async fn enter(&mut self, dir: Ino, below: Vec<u8>) -> Result<()> {
        let is_passed = self.passed.as_ref().is_some_and(|passed| !below.is_empty() && is_passed_whole(&below, passed));
        if self.lists && !is_passed && !self.inner.directory_ready(dir)? {
            let directory = self.inner.directory(dir)?;
            self.inner.list(&directory, Goal::Everything).await?;
        }
        self.levels.push(Level { dir, below, after: None, page: VecDeque::new() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn what_is_below_a_directory_stands_in_its_place() {
        assert_eq!(compare(b"a/z", b"a-b"), Ordering::Less, "'a' comes before 'a-b', and takes all below it along");
        assert_eq!(compare(b"a/b", b"a/b/c"), Ordering::Less);
        assert_eq!(compare(b"a/b", b"a/b"), Ordering::Equal);
        assert_eq!(compare(b"b", b"a/z"), Ordering::Greater);
    }

    #[test]
    fn a_directory_is_passed_once_all_below_it_is() {
        assert!(is_passed_whole(b"a", b"b/c"));
        assert!(!is_passed_whole(b"a", b"a/c"), "there may be more below it");
        assert!(!is_passed_whole(b"b", b"a/c"));
        assert!(is_passed_whole(b"a", b"a-b"), "a name that only begins alike");
    }
}
