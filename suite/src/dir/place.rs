//! Where a bench is at home: checks of the directory it was given, and one directory of its own inside, which is all it ever writes to and
//! which goes with it.

use crate::error::{At, Error, Result};
use crate::system::{self, Mounted, Room};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How the bench's own directory is called, with six letters behind it.
pub(super) const PREFIX: &str = ".forebay-bench-";
/// Space that is left to others, besides what the files take: a tenth of that.
const MARGIN: u64 = 10;

pub(super) struct Place {
    root: PathBuf,
    mounted: Option<Mounted>,
    work: Option<TempDir>,
    /// Whether the file system says how much room there is.
    knows_room: bool,
}

impl Place {
    /// Looks at a directory, changing nothing.
    pub(super) fn look(path: &Path) -> Result<Self> {
        let refuse = |cause: String, way_out| Err(Error::Place { path: path.to_owned(), cause, way_out });
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return refuse("does not exist".into(), "name a directory that does, or s3://bucket/prefix for a store");
            }
            Err(error) => {
                return refuse(format!("cannot be looked at: {error}"), "check the path, and that what is mounted there lives");
            }
        };
        if !metadata.is_dir() {
            return refuse("is not a directory".into(), "name the directory it is in; --read-from reads files that are there");
        }
        let root = path.canonicalize().at("find", path)?;
        let mounted = system::mount_of(&root);
        Ok(Place { root, mounted, work: None, knows_room: true })
    }

    /// Makes the bench's own directory, if there is room for its files.
    pub(super) fn settle(&mut self, needed: u64) -> Result<()> {
        let room = Room::of(&self.root).at("look at the space of", &self.root)?;
        if room.is_read_only {
            return self.refuse("is on a read-only file system", "name a directory that can be written; of a read-only one, '--only existing --read-from PATH' measures data that is there");
        }
        self.knows_room = room.free.is_some();
        if let Some((needed, free)) = room.lacks(needed, MARGIN) {
            return Err(Error::Space { path: self.root.clone(), needed, free });
        }
        match tempfile::Builder::new().prefix(PREFIX).tempdir_in(&self.root) {
            Ok(work) => self.work = Some(work),
            Err(error) => {
                let cause = format!("cannot be written: {}", error.kind());
                return self.refuse(&cause, "check its permissions, or name another directory");
            }
        }
        Ok(())
    }

    fn refuse(&self, cause: &str, way_out: &'static str) -> Result<()> {
        Err(Error::Place { path: self.root.clone(), cause: cause.to_owned(), way_out })
    }

    /// The directory that was given.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The bench's own.
    pub(super) fn work(&self) -> &Path {
        self.work.as_ref().expect("a group that makes files has settled").path()
    }

    pub(super) fn has_work(&self) -> bool {
        self.work.is_some()
    }

    pub(super) fn file_system(&self) -> Option<String> {
        self.mounted.as_ref().map(|mounted| format!("{} ({})", mounted.kind, mounted.source))
    }

    pub(super) fn is_in_memory(&self) -> bool {
        self.mounted.as_ref().is_some_and(|mounted| matches!(mounted.kind.as_str(), "tmpfs" | "ramfs"))
    }

    pub(super) fn note(&self) -> Option<String> {
        (!self.knows_room).then(|| "the file system does not say how much room it has: that was not checked".to_owned())
    }

    /// Removes the bench's own directory.
    pub(super) fn leave(&mut self) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let left = work.path().display().to_string();
        work.close().map_err(|error| Error::Left { left, cause: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<impl Sized>) -> String {
        result.err().expect("refused").to_string()
    }

    #[test]
    fn what_is_no_directory_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("writes");
        assert!(message(Place::look(&file)).contains("file' is not a directory; "));
        assert!(message(Place::look(&dir.path().join("none"))).contains("none' does not exist; "));
    }

    #[test]
    fn a_disk_that_is_too_small_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut place = Place::look(dir.path()).expect("a directory");
        let said = message(place.settle(1 << 50));
        assert!(said.contains(" free, and the bench wants 1126 TiB; make room, or give it less with --size"), "{said}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0);
    }

    #[test]
    fn a_file_system_for_reading_only_is_refused() {
        let mut place = Place::look(Path::new("/sys/kernel")).expect("a directory");
        assert!(place.settle(1).is_err());
    }

    #[test]
    fn it_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut place = Place::look(dir.path()).expect("a directory");
        place.settle(1).expect("settles");
        std::fs::create_dir(place.work().join("d")).expect("makes");
        std::fs::write(place.work().join("d/x"), "x").expect("writes");
        assert!(place.work().file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
        place.leave().expect("leaves");
        assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0);
        place.settle(1).expect("settles");
        drop(place);
        assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0, "also when nobody says goodbye");
    }
}
