//! Figures of data: how much there is, how much of it is here, and what that takes once equal blocks are stored once and compressed.
//!
//! `docs/semantics.md` defines them. They are counted when somebody asks: names and file maps are gone through, and the block store's index is asked about each
//! block. What changes meanwhile may be in or out.

mod distinct;

use super::{Inner, Vfs, metadata_error};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, SnapshotRow};
use distinct::{AT_ONCE, Pass};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// Entries of a directory read at a time.
const PAGE: usize = 1000;
/// Counting the whole file system for whoever asks takes at most one part in this many of the time: in between the last figures are given again.
const SELDOM: u32 = 20;

/// Figures of some files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Figures {
    /// Files, each once however many names it has.
    pub files: u64,
    /// Their sizes.
    pub logical_bytes: u64,
    /// Plain bytes of the blocks that are here, for each place that a file has them in.
    pub referenced_bytes: u64,
    /// Plain bytes of these blocks, each once.
    pub unique_bytes: u64,
    /// What these take on devices, one copy of each.
    pub stored_bytes: u64,
    /// What second copies take.
    pub copy_bytes: u64,
    /// Directories whose names are not all known: what is only in the bucket there is not counted. Of the whole file system it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted_directories: Option<u64>,
}

/// Figures of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFigures {
    /// Of what is seen in it.
    pub seen: Figures,
    /// Device bytes that are held for it alone, all copies: what its deletion lets go of.
    pub frees_bytes: u64,
}

/// The whole file system as it was counted last.
#[derive(Default)]
pub(super) struct LastCount(Mutex<Option<Counted>>);

struct Counted {
    figures: Figures,
    next: Instant,
}

impl Vfs {
    /// Figures of all files of the present, and of all blocks that they and snapshots have, counted now.
    pub async fn figures(&self) -> Result<Figures> {
        let inner = Arc::clone(&self.0);
        self.blocking(move || inner.figures_of_all()).await
    }

    /// The same, for whoever asks often: as old as twenty times what a count takes, at most.
    pub async fn recent_figures(&self) -> Result<Figures> {
        let inner = Arc::clone(&self.0);
        self.blocking(move || inner.recent_figures()).await
    }

    /// Figures of what is at and below a path (from the root of the file system; it may lead into a snapshot), counted now.
    pub async fn figures_of(&self, path: &[u8]) -> Result<Figures> {
        let root = self.find(path).await?;
        if root == Ino::SNAPSHOTS {
            return Err(Error::new(ErrorKind::Invalid, "'.snapshots' has every snapshot; give the path of one"));
        }
        let inner = Arc::clone(&self.0);
        self.blocking(move || inner.figures_below(root)).await
    }

    /// Figures of a snapshot, counted now.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name.
    pub async fn snapshot_figures(&self, name: &[u8]) -> Result<SnapshotFigures> {
        let (inner, row) = (Arc::clone(&self.0), self.0.snapshot_named(name)?);
        let count = move || {
            let seen = inner.figures_below(row.root.at(row.epoch))?;
            Ok(SnapshotFigures { seen, frees_bytes: inner.freed_by_deleting(&row)? })
        };
        self.blocking(count).await
    }

    pub(super) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let done = self.0.runtime.spawn_blocking(work).await;
        done.unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")))
    }
}

/// What going through names has come to.
#[derive(Default)]
struct Seen {
    files: u64,
    bytes: u64,
    unlisted: u64,
}

impl Inner {
    /// One count at a time: whoever asks meanwhile gets its outcome.
    fn recent_figures(&self) -> Result<Figures> {
        let mut last = self.last_count.0.lock();
        let now = Instant::now();
        if let Some(counted) = last.as_ref().filter(|counted| now < counted.next) {
            return Ok(counted.figures);
        }
        let figures = self.figures_of_all()?;
        *last = Some(Counted { figures, next: Instant::now() + now.elapsed() * (SELDOM - 1) });
        Ok(figures)
    }

    fn figures_of_all(&self) -> Result<Figures> {
        self.cache.record_maps();
        let moment = self.meta.moment();
        let mut seen = Seen::default();
        moment.files(&mut |ino, row| self.count_file(ino, row, &mut seen)).map_err(metadata_error)?;
        let blocks = self.count_blocks(&mut |visit| moment.blocks(visit).map_err(metadata_error))?;
        Ok(Figures { files: seen.files, logical_bytes: seen.bytes, ..blocks })
    }

    fn figures_below(&self, root: Ino) -> Result<Figures> {
        self.cache.record_maps();
        let mut seen = Seen::default();
        let blocks = self.count_blocks(&mut |visit| {
            seen = Seen::default();
            self.visit_below(root, &mut seen, visit)
        })?;
        Ok(Figures { files: seen.files, logical_bytes: seen.bytes, unlisted_directories: Some(seen.unlisted), ..blocks })
    }

    fn count_file(&self, ino: Ino, row: &Inode, seen: &mut Seen) {
        seen.files += 1;
        seen.bytes += self.cache.unflushed(ino).map_or(row.size, |unflushed| unflushed.size);
    }

    /// Counts the blocks that are here of those that `each` visits, as often as it is called.
    fn count_blocks(&self, each: &mut Each<'_>) -> Result<Figures> {
        let mut figures = Figures::default();
        in_passes(each, &mut |fingerprint, count| {
            if let Some(sizes) = self.store.sizes(fingerprint) {
                figures.referenced_bytes += sizes.plain_bytes * count;
                figures.unique_bytes += sizes.plain_bytes;
                figures.stored_bytes += sizes.stored_bytes;
                figures.copy_bytes += sizes.copy_bytes;
            }
            Ok(())
        })?;
        Ok(figures)
    }

    fn visit_below(&self, root: Ino, seen: &mut Seen, visit: &mut dyn FnMut(u64)) -> Result<()> {
        let row = self.row(root)?;
        if row.kind != FileKind::Directory {
            return self.visit_file(root, &row, seen, visit);
        }
        let (mut left, mut linked) = (vec![root], HashSet::new());
        while let Some(dir) = left.pop() {
            match self.is_known(dir) {
                Ok(is_known) => seen.unlisted += u64::from(!is_known),
                // Removed meanwhile.
                Err(error) if error.kind == ErrorKind::Stale && !dir.is_frozen() => continue,
                Err(error) => return Err(error),
            }
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = self.meta.read_dir(dir, after.as_deref(), PAGE).map_err(metadata_error)?;
                let Some((last, ..)) = page.last() else { break };
                after = Some(last.clone());
                for (_, ino, row) in &page {
                    match row.kind {
                        FileKind::Directory => left.push(*ino),
                        // Of several names one counts.
                        _ if row.nlink > 1 && !linked.insert(*ino) => {}
                        _ => self.visit_file(*ino, row, seen, visit)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn visit_file(&self, ino: Ino, row: &Inode, seen: &mut Seen, visit: &mut dyn FnMut(u64)) -> Result<()> {
        if row.kind != FileKind::File {
            return Ok(());
        }
        self.count_file(ino, row, seen);
        self.meta.blocks_of(ino, visit).map_err(metadata_error)
    }

    /// Whether all names of a directory are known, if not freshly.
    pub(super) fn is_known(&self, dir: Ino) -> Result<bool> {
        let directory = self.directory(dir)?;
        Ok(!directory.in_store || directory.state().is_some_and(|state| state.complete))
    }

    fn freed_by_deleting(&self, row: &SnapshotRow) -> Result<u64> {
        let leaving = self.meta.leaving(row.epoch).map_err(metadata_error)?;
        let mut bytes = 0;
        in_passes(&mut |visit| leaving.references(visit).map_err(metadata_error), &mut |fingerprint, going| {
            if leaving.count(fingerprint).map_err(metadata_error)? == going {
                bytes += self.store.sizes(fingerprint).map_or(0, |sizes| sizes.stored_bytes + sizes.copy_bytes);
            }
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// Has the fingerprints of blocks visited.
type Each<'a> = dyn FnMut(&mut dyn FnMut(u64)) -> Result<()> + 'a;

/// Has `each` visit blocks until all are counted, and tells `take` of every block how often it came.
fn in_passes(each: &mut Each<'_>, take: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let mut next = Some(0);
    while let Some(first) = next {
        let mut pass = Pass::new(first, AT_ONCE);
        each(&mut |fingerprint| pass.add(fingerprint))?;
        let (found, then) = pass.end();
        found.into_iter().try_for_each(|(fingerprint, count)| take(fingerprint, count))?;
        next = then;
    }
    Ok(())
}
