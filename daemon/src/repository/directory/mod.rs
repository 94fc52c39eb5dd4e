//! `file://`: a directory as an object store. Files are objects, directories are prefixes.
//!
//! An ETag is inode, modification time and size; it is looked at again after every piece of a body, so that a file changed
//! in place while it is read ends the body with an error instead of mixing two versions. Paths are resolved beneath the
//! directory by the kernel (`openat2`, `RESOLVE_BENEATH`): no key and no symlink leads out of it. Symlinks to files
//! inside it are those files; symlinks to directories are not followed, since they could make a loop. Names that are not
//! UTF-8 and files that are neither regular nor directories are not listed.

mod list;
mod tree;

use self::list::Listings;
use self::tree::Tree;
use super::range::clamp;
use super::{GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectStore, Pin, StoreError};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// Bodies come in pieces of this many bytes.
const PIECE: u64 = 1 << 20;

/// A directory as an object store.
pub struct DirectoryStore {
    name: String,
    tree: Arc<Tree>,
    listings: Arc<Listings>,
}

impl DirectoryStore {
    /// Opens the directory, which must exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        let tree = Arc::new(Tree::open(path)?);
        Ok(DirectoryStore { name: format!("file://{}", path.display()), tree, listings: Arc::default() })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&Tree) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tree = self.tree.clone();
        let done = tokio::task::spawn_blocking(move || work(&tree)).await;
        done.map_err(io::Error::other).flatten().map_err(|error| failed(what, &error))
    }

    async fn open_object(&self, key: &str) -> Result<(File, ObjectHead), StoreError> {
        let owned = key.to_owned();
        let found = self.blocking(key, move |tree| {
            let file = tree.open_file(&owned)?;
            let head = head_of(&file)?;
            Ok((file, head))
        });
        found.await
    }
}

/// The store's error for one of the file system's.
fn failed(what: &str, error: &io::Error) -> StoreError {
    let what = what.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { key: what },
        io::ErrorKind::PermissionDenied => StoreError::AccessDenied { what, message: error.to_string() },
        _ => StoreError::Transient { what, message: error.to_string() },
    }
}

fn head_of(file: &File) -> io::Result<ObjectHead> {
    let stat = file.metadata()?;
    let modified_ns = stat.mtime().saturating_mul(1_000_000_000).saturating_add(stat.mtime_nsec());
    let pin = Pin { etag: etag(stat.ino(), modified_ns, stat.size()), version: None };
    Ok(ObjectHead { size: stat.size(), pin, modified_ns, user_metadata: BTreeMap::new() })
}

fn etag(ino: u64, modified_ns: i64, size: u64) -> String {
    format!("\"{ino:x}-{modified_ns:x}-{size:x}\"")
}

/// Reads a piece and makes sure that the file is still what it was.
fn read_piece(file: &File, at: Range<u64>, version: &str) -> io::Result<Option<Bytes>> {
    let mut piece = BytesMut::zeroed((at.end - at.start) as usize);
    match file.read_exact_at(&mut piece, at.start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    Ok((head_of(file)?.pin.etag == version).then(|| piece.freeze()))
}

fn body(file: File, key: String, range: Range<u64>, version: String) -> BoxStream<'static, Result<Bytes, StoreError>> {
    let file = Arc::new(file);
    let pieces = range.clone().step_by(PIECE as usize).map(move |start| start..range.end.min(start + PIECE));
    let read = futures::stream::iter(pieces).then(move |at| {
        let (file, key, version) = (file.clone(), key.clone(), version.clone());
        async move {
            let done = tokio::task::spawn_blocking(move || read_piece(&file, at, &version)).await;
            match done.map_err(io::Error::other).flatten() {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => Err(StoreError::Changed { key }),
                Err(error) => Err(failed(&key, &error)),
            }
        }
    });
    read.boxed()
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, request: GetRequest) -> Result<GetResponse, StoreError> {
        let GetRequest { key, range, pin } = request;
        let (file, head) = self.open_object(&key).await?;
        if pin.is_some_and(|pin| pin.etag.trim_matches('"') != head.pin.etag.trim_matches('"')) {
            return Err(StoreError::Changed { key });
        }
        let range = clamp(&key, range, head.size)?;
        let body = body(file, key, range.clone(), head.pin.etag.clone());
        Ok(GetResponse { head, range, body })
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, StoreError> {
        self.open_object(key).await.map(|(_, head)| head)
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let listings = self.listings.clone();
        let name = self.name.clone();
        self.blocking(&name, move |tree| listings.page(tree, &request)).await
    }
}

#[cfg(test)]
mod tests;
