//! Read-ahead across the files of a directory: what `cache::DirectoryAhead` asks for, found in the name space.

use super::directory::Directory;
use super::{Inner, metadata_error};
use crate::cache::{Ahead, CachedFile, NEAR, OnOpen};
use crate::error::Result;
use crate::ids::Ino;
use crate::meta::FileKind;
use std::sync::Arc;

/// Files up to this size are fetched whole before they are asked for; larger ones have read-ahead of their own.
const SMALL_FILE: u64 = 4 << 20;

impl Inner {
    /// A file was opened: fetches the next ones if files of its directory are being read in order.
    pub(super) fn read_ahead_across_files(self: &Arc<Self>, parent: Ino, name: &[u8], file: &Arc<CachedFile>) {
        if file.size() > SMALL_FILE {
            return;
        }
        let Ok(directory) = self.directory(parent) else { return };
        let on_open = directory.ahead.lock().on_open(name);
        match on_open {
            OnOpen::Fetch(ahead) => {
                let inner = Arc::clone(self);
                let directory = Arc::clone(&directory);
                self.runtime.spawn(async move { inner.fetch_files(&directory, &ahead) });
            }
            OnOpen::Stray if !self.cache.is_local(file) => match self.meta.read_dir(parent, Some(name), NEAR) {
                Ok(next) => directory.ahead.lock().on_miss(next.into_iter().map(|(name, _, _)| name).collect()),
                Err(error) => drop(metadata_error(error)),
            },
            OnOpen::Stray | OnOpen::Enough => {}
        }
    }

    fn fetch_files(self: &Arc<Self>, directory: &Directory, ahead: &Ahead) {
        let names = self.start_fetches(directory, ahead).unwrap_or_else(|error| {
            tracing::debug!(%error, "read-ahead along a directory stopped");
            Vec::new()
        });
        directory.ahead.lock().planned(&ahead.after, &names);
    }

    /// Starts fetching the files after a name and returns their names; fewer than asked when memory runs short.
    fn start_fetches(self: &Arc<Self>, directory: &Directory, ahead: &Ahead) -> Result<Vec<Vec<u8>>> {
        let next = self.meta.read_dir(directory.ino, Some(&ahead.after), ahead.count).map_err(metadata_error)?;
        let mut names = Vec::with_capacity(next.len());
        for (name, ino, row) in next {
            if row.kind == FileKind::File && row.origin.is_some() && row.base.is_none() && (1..=SMALL_FILE).contains(&row.size) {
                let file = self.cached_file(ino, directory.layout)?;
                if !file.is_changed() && !self.cache.fetch_absent(&file, 0..row.size, false) {
                    break;
                }
            }
            names.push(name);
        }
        Ok(names)
    }
}
