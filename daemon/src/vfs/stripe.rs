//! Stripe layouts of paths.

use super::frozen::must_be_now;
use super::types::{Answer, Lookup};
use super::{Inner, Vfs, metadata_error};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::FileKind;
use crate::stripe::Layout;
use futures::FutureExt;
use std::sync::Arc;

impl Vfs {
    /// The stripe layout in force for a path below the root, and whether it is set there (false: inherited).
    pub fn stripe(&self, path: &[u8]) -> Answer<(Layout, bool)> {
        let (inner, path) = (Arc::clone(&self.0), path.to_vec());
        Answer::Pending(async move { inner.layout_of(inner.walk(&path).await?) }.boxed())
    }

    /// Sets the stripe layout of a file not yet cached, or of a directory for what is cached below it from now on.
    pub fn set_stripe(&self, path: &[u8], layout: Layout) -> Answer<()> {
        let (inner, path) = (Arc::clone(&self.0), path.to_vec());
        Answer::Pending(async move { inner.set_layout(inner.walk(&path).await?, layout) }.boxed())
    }
}

impl Inner {
    pub(super) async fn walk(self: &Arc<Self>, path: &[u8]) -> Result<Ino> {
        let mut ino = Ino::ROOT;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
            match self.resolve(ino, name).await? {
                Lookup::Found(entry) => ino = entry.attr.ino,
                Lookup::Absent { .. } => {
                    let path = String::from_utf8_lossy(path);
                    return Err(Error::new(ErrorKind::NotFound, format!("'{path}' does not exist")));
                }
            }
        }
        Ok(ino)
    }

    fn layout_of(&self, ino: Ino) -> Result<(Layout, bool)> {
        let row = self.inode(ino)?;
        if let Some(layout) = row.layout {
            return Ok((layout, true));
        }
        let inherited = match self.meta.parent_of(ino).map_err(metadata_error)? {
            Some((parent, _)) => self.directory(parent)?.layout,
            None => self.config.layout,
        };
        Ok((inherited, false))
    }

    fn set_layout(&self, ino: Ino, layout: Layout) -> Result<()> {
        layout.validate(Settings::BLOCK_SIZE).map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        must_be_now(ino)?;
        let row = self.inode(ino)?;
        if row.kind == FileKind::File && self.meta.map_chunk(ino, 0).map_err(metadata_error)?.is_some() {
            let message = "the file already has cached data, whose places are fixed; set the layout before its first read";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.meta.update_inode_quietly(ino, &|row| row.layout = Some(layout)).map_err(metadata_error)?;
        // Directories below inherit it, and they are remembered with what they inherited before.
        self.directories.forget_all();
        Ok(())
    }
}
