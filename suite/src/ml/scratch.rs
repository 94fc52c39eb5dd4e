//! The one directory that a run writes to. It is new, below the directory given, and gone when this is dropped.

use super::error::{At, MlError};
use crate::system::Room;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;

/// Free space that is left alone, of what the files take: 1/20, for metadata and the file system's own reserves.
const RESERVE: u64 = 20;

/// A directory that goes away again, unless it is told to stay.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    stays: bool,
}

impl Scratch {
    /// Makes a new directory below `dir`, unless there is too little space for `bytes`.
    pub(super) fn create(dir: &Path, name: &str, bytes: u64) -> Result<Self, MlError> {
        if let Some((needed, free)) = Room::of(dir).at("look at", dir)?.lacks(bytes, RESERVE) {
            return Err(MlError::Space { path: dir.to_owned(), needed, free });
        }
        for number in 0.. {
            let path = dir.join(format!("forebay-ml-{name}-{}-{number}", process::id()));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                made => made.at("create", &path)?,
            }
            return Ok(Scratch { path, stays: false });
        }
        unreachable!("there are more numbers than directories")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it stays. Told when the files are complete: the remains of a run that was cut short are of no use to anybody.
    pub(super) fn stay(&mut self) {
        self.stays = true;
    }

    /// Removes it now, to hear whether that worked; returns where it is if it stays.
    pub(super) fn finish(mut self) -> Result<Option<PathBuf>, MlError> {
        if self.stays {
            return Ok(Some(self.path.clone()));
        }
        self.stays = true;
        fs::remove_dir_all(&self.path).at("remove", &self.path)?;
        Ok(None)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.stays {
            // There is an error on its way already, which says more.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).expect("list").count()
    }

    #[test]
    fn it_is_gone_when_dropped_or_finished_and_there_when_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let make = || Scratch::create(dir.path(), "x", 1).expect("create");
        let (first, second) = (make(), make());
        assert_ne!(first.path(), second.path(), "two runs at once do not meet");
        fs::write(first.path().join("f"), "x").expect("write");
        drop(first);
        assert_eq!(second.finish().expect("remove"), None);
        assert_eq!(names(dir.path()), 0);
        let mut kept = make();
        kept.stay();
        assert!(kept.finish().expect("keep").expect("a path").is_dir());
    }

    #[test]
    fn too_little_space_is_told_before_anything_is_made() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(Scratch::create(dir.path(), "x", 1 << 60), Err(MlError::Space { .. })));
        assert_eq!(names(dir.path()), 0);
    }
}
