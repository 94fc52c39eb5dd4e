//! The kernel's memory of files: dropped, filled, and looked at, so that a row says where its data really was.

use super::Directory;
use super::file::{self, Access};
use crate::error::{At, Result};
use crate::meter::{Sample, Worker, for_each, measure};
use crate::plan::DropPages;
use crate::row::{Recorder, RowId};
use crate::system;
use crate::units;
use std::fs::File;
use std::path::{Path, PathBuf};

/// How many of many files are looked at.
const LOOKED_AT: usize = 16;
/// Shares of a file that count as none and as all of it: the kernel holds and drops pages in batches.
const NONE: f64 = 0.02;
const ALL: f64 = 0.98;

/// How caches are dropped here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    wished: DropPages,
    drop: DropPages,
}

impl Pages {
    pub(super) fn new(wished: DropPages) -> Self {
        let drop = match wished {
            DropPages::Machine if !system::may_drop_caches() => DropPages::Files,
            other => other,
        };
        Pages { wished, drop }
    }

    /// Whether names and inodes can be dropped, which only root can.
    pub(super) fn drops_names(self) -> bool {
        self.drop == DropPages::Machine
    }

    /// What could not be done as wished.
    pub(super) fn note(self) -> Option<String> {
        match (self.wished, self.drop) {
            (DropPages::Machine, DropPages::Files) => Some("the machine's caches cannot be dropped (that takes root): the pages of the bench's files were dropped by posix_fadvise, names and inodes stayed in memory, and so may what a file system in user space keeps".into()),
            (_, DropPages::Files) => Some("only pages of the bench's files were dropped (--drop-caches files): names and inodes stayed in memory".into()),
            (_, DropPages::Never) => Some("no caches were dropped (--drop-caches never): only O_DIRECT reads come from the device".into()),
            _ => None,
        }
    }

    /// Drops what is kept of files, all of it synced before; how, in words.
    fn drop(self, files: &[PathBuf], names: bool) -> Result<&'static str> {
        match self.drop {
            DropPages::Never => Ok("caches not dropped"),
            DropPages::Files => {
                files.iter().try_for_each(|path| forget(path))?;
                Ok("its pages dropped")
            }
            DropPages::Machine => {
                // Of a file system in user space too, which may keep pages of its own files.
                system::drop_caches(names).at("drop caches by", Path::new("/proc/sys/vm/drop_caches"))?;
                Ok(if names { "all caches dropped" } else { "page cache dropped" })
            }
        }
    }
}

fn forget(path: &Path) -> Result<()> {
    let file = File::open(path).at("open", path)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).at("drop the pages of", path)
}

/// The share of some files' pages that is in memory; `None` where the kernel does not say.
pub(super) fn resident(files: &[PathBuf]) -> Option<f64> {
    let step = files.len().div_ceil(LOOKED_AT).max(1);
    let all = files.iter().step_by(step).map(|path| resident_pages(path)).collect::<Option<Vec<_>>>()?;
    let (held, pages) = all.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (pages > 0).then(|| held as f64 / pages as f64)
}

fn resident_pages(path: &Path) -> Option<(usize, usize)> {
    // Of files that one may not write the kernel says that all of it is in memory, whatever is.
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).ok()?;
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.len() == 0 {
        return Some((0, 0));
    }
    // SAFETY: the mapping is asked about and never read, so that it does not matter who changes the file.
    let map = unsafe { memmap2::Mmap::map(&file) }.ok()?;
    let mut pages = vec![0_u8; map.len().div_ceil(rustix::param::page_size())];
    // SAFETY: the range is that of the mapping, and there is a byte for each of its pages.
    let status = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), map.len(), pages.as_mut_ptr()) };
    (status == 0).then(|| (pages.iter().filter(|page| *page & 1 == 1).count(), pages.len()))
}

/// What a row is about: files, and whether their names count too.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) files: &'a [PathBuf],
    pub(super) names: bool,
}

impl<'a> About<'a> {
    pub(super) fn data(files: &'a [PathBuf]) -> Self {
        About { files, names: false }
    }

    pub(super) fn names(files: &'a [PathBuf]) -> Self {
        About { files, names: true }
    }
}

impl Directory {
    /// A row that reads what the kernel no longer has.
    pub(super) fn device_row<W: Worker>(
        &self,
        to: &mut Recorder<'_>,
        id: RowId,
        about: About<'_>,
        access: Access,
        workers: impl FnOnce() -> Result<Vec<W>>,
    ) -> Result<()> {
        if access == Access::Buffered && self.pages.drop == DropPages::Never {
            to.skip(id, "caches are not dropped (--drop-caches never)");
            return Ok(());
        }
        let (stop, limit) = (to.stop(), self.plan.limit);
        to.row(id, || {
            let workers = workers()?;
            let dropped = self.pages.drop(about.files, about.names)?;
            let stayed = match access {
                Access::Buffered => resident(about.files).filter(|share| *share > NONE),
                Access::Direct => None,
            };
            let stayed = stayed.map_or(String::new(), |share| format!(", but {:.0}% stayed", share * 100.0));
            Ok((measure(workers, limit, stop)?, format!("{}, {dropped}{stayed}", access.words())))
        })
    }

    /// A row that reads what was read just before.
    pub(super) fn memory_row<W: Worker>(
        &self,
        to: &mut Recorder<'_>,
        id: RowId,
        files: &[PathBuf],
        workers: impl FnOnce() -> Result<Vec<W>>,
    ) -> Result<()> {
        let bytes: u64 = files.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum();
        if let Some(available) = system::available_memory().filter(|available| bytes > *available) {
            to.skip(id, format!("{} are more than the {} of memory that are free", units::size(bytes), units::size(available)));
            return Ok(());
        }
        let (stop, limit) = (to.stop(), self.plan.limit);
        to.row(id, || {
            for_each(files, self.plan.threads, stop, |path| file::read_through(path, u64::MAX, stop).map(drop))?;
            let sample = measure(workers()?, limit, stop)?;
            let lacking = resident(files).filter(|share| *share < ALL);
            let lacking = lacking.map_or(String::new(), |share| format!(", but the kernel had only {:.0}% of it", share * 100.0));
            Ok((sample, format!("buffered, read before{lacking}")))
        })
    }

    /// A row that makes or changes something, or that asks for names.
    pub(super) fn plain_row<W: Worker>(
        &self,
        to: &mut Recorder<'_>,
        id: RowId,
        how: &str,
        workers: impl FnOnce() -> Result<Vec<W>>,
    ) -> Result<Sample> {
        let (stop, limit) = (to.stop(), self.plan.limit);
        let mut seen = Sample::default();
        to.row(id, || {
            let sample = measure(workers()?, limit, stop)?;
            seen = sample.clone();
            Ok((sample, how.to_owned()))
        })?;
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_in_memory() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        std::fs::write(&path, vec![7; 1 << 20]).expect("writes");
        assert_eq!(resident(std::slice::from_ref(&path)), Some(1.0));
        std::fs::write(&path, "").expect("writes");
        assert_eq!(resident(&[path]), None, "of nothing there is no share");
    }

    #[test]
    fn what_is_not_dropped_is_said() {
        assert_eq!(Pages { wished: DropPages::Machine, drop: DropPages::Machine }.note(), None);
        let note = |wished, drop| Pages { wished, drop }.note().expect("a note");
        assert!(note(DropPages::Machine, DropPages::Files).contains("takes root"));
        assert!(note(DropPages::Files, DropPages::Files).contains("--drop-caches files"));
        assert!(note(DropPages::Never, DropPages::Never).contains("O_DIRECT"));
    }
}
