//! Having all of a snapshot here, for a task: what its files had only in the bucket is fetched and held, so that no change of the bucket can take it away.

use super::{FileWalk, Inner, Vfs, metadata_error};
use crate::cache::{CachedFile, Holding, PreloadError};
use crate::config::Settings;
use crate::error::Result;
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, SnapshotRow};
use std::ops::Range;
use std::sync::Arc;

/// Entries of a directory read at a time.
const PAGE: usize = 1000;

/// A snapshot that is being had here.
pub struct Materializing {
    vfs: Vfs,
    name: Vec<u8>,
    row: SnapshotRow,
    holding: Arc<Holding>,
}

/// A file of it.
#[derive(Clone)]
pub struct MaterializedFile(Arc<CachedFile>);

impl Vfs {
    /// Begins to have all of a snapshot here.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name.
    pub fn begin_materialize(&self, name: &[u8]) -> Result<Materializing> {
        let row = self.0.snapshot_named(name)?;
        let holding = Arc::new(self.0.cache.begin_holding());
        Ok(Materializing { vfs: self.clone(), name: name.to_vec(), row, holding })
    }
}

impl Materializing {
    /// Its files, from behind a path below it on. A directory that nobody had listed is one that cannot be gone through.
    pub fn walk(&self, passed: Option<Vec<u8>>) -> FileWalk {
        self.vfs.walk_files(self.row.root.at(self.row.epoch), true, passed)
    }

    /// A file of it.
    pub fn file(&self, ino: Ino, row: &Inode) -> Result<MaterializedFile> {
        self.vfs.0.file_of(ino, row).map(MaterializedFile)
    }

    /// Brings a part of a file, one of [`super::preload_parts`]. It is held, and found held after a crash once [`Materializing::record`] has returned.
    pub async fn part(&self, file: &MaterializedFile, part: Range<u64>) -> std::result::Result<(), PreloadError> {
        self.holding.claim(&file.0, part).await
    }

    /// Records what was brought so far.
    pub async fn record(&self) -> Result<()> {
        let holding = Arc::clone(&self.holding);
        self.vfs.blocking(move || holding.record()).await
    }

    /// Looks at every file whether all of it is held, and says so of the snapshot if it is; else the first path where something is lacking.
    pub async fn finish(&self) -> Result<Option<Vec<u8>>> {
        let (inner, name, row) = (Arc::clone(&self.vfs.0), self.name.clone(), self.row.clone());
        let finish = move || {
            let lacking = inner.lacking_below(row.root.at(row.epoch))?;
            if lacking.is_none() {
                inner.meta.set_materialized(&name, row.epoch).map_err(metadata_error)?;
            }
            Ok(lacking)
        };
        self.vfs.blocking(finish).await
    }
}

impl Inner {
    /// The first path below a directory in a snapshot at which something is not here for good.
    fn lacking_below(&self, root: Ino) -> Result<Option<Vec<u8>>> {
        let mut left = vec![(Vec::new(), root)];
        while let Some((path, dir)) = left.pop() {
            if !self.is_known(dir)? {
                return Ok(Some(path));
            }
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = self.meta.read_dir(dir, after.as_deref(), PAGE).map_err(metadata_error)?;
                let Some((last, ..)) = page.last() else { break };
                after = Some(last.clone());
                for (name, ino, row) in page {
                    let path = if path.is_empty() { name } else { [path.as_slice(), &name].join(&b'/') };
                    match row.kind {
                        FileKind::Directory => left.push((path, ino)),
                        FileKind::File if !self.is_held(ino, &row)? => return Ok(Some(path)),
                        _ => {}
                    }
                }
            }
        }
        Ok(None)
    }

    fn is_held(&self, ino: Ino, row: &Inode) -> Result<bool> {
        let from_object = if row.origin.is_some() { row.base.unwrap_or(row.size).min(row.size) } else { 0 };
        let blocks = from_object.div_ceil(u64::from(Settings::BLOCK_SIZE));
        self.meta.is_held_whole(ino, blocks).map_err(metadata_error)
    }
}
