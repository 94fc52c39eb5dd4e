//! `file://`: a directory as an object store. Files are objects, directories are prefixes.
//!
//! An ETag is inode, modification time and size; it is looked at again after every piece of a body, so that a file changed
//! in place while it is read ends the body with an error instead of mixing two versions. Paths are resolved beneath the
//! directory by the kernel (`openat2`, `RESOLVE_BENEATH`): no key and no symlink leads out of it. Symlinks to files
//! inside it are those files; symlinks to directories are not followed, since they could make a loop. Names that are not
//! UTF-8 and files that are neither regular nor directories are not listed.
//!
//! A file is written under a name that no listing shows and gets its own when it is durable; metadata goes into an extended attribute. A key
//! that ends in `/` is a directory with such an attribute. Deleting the last file of a directory removes the directory, as a bucket has no empty
//! ones. Preconditions are atomic within one process (`draft`).

mod attributes;
mod draft;
mod list;
mod tree;
mod uploads;
mod write;

use self::attributes::Attributes;
use self::draft::Refused;
use self::list::Listings;
use self::tree::Tree;
use super::body::pieces;
use super::range::clamp;
use super::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, DeleteRequest, Part, PartRequest, PutRequest, Upload,
    UploadsPage, UploadsRequest, WriteKind, same_etag,
};
use super::{
    GetRequest, GetResponse, ListPage, ListRequest, ObjectHead, ObjectHeaders, ObjectStore, Pin, Precondition, StoreError,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
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

    /// As [`DirectoryStore::blocking`], for what may refuse by itself.
    async fn writing<T: Send + 'static>(
        &self,
        what: String,
        work: impl FnOnce(&Tree) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tree = self.tree.clone();
        let done = tokio::task::spawn_blocking(move || work(&tree)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error).into())).map_err(|refused| refused.into_error(&what))
    }

    /// The object of a key; a marker has no file.
    async fn open_object(&self, key: &str) -> Result<(Option<File>, ObjectHead), StoreError> {
        let owned = key.to_owned();
        let found = self.blocking(key, move |tree| match owned.strip_suffix('/') {
            Some(dir_path) => Ok((None, tree.marker_head(dir_path)?)),
            None => {
                let file = tree.open_file(&owned)?;
                let head = head_with_attributes(&file)?;
                Ok((Some(file), head))
            }
        });
        found.await
    }
}

/// The store's error for one of the file system's.
fn failed(what: &str, error: &io::Error) -> StoreError {
    let what = what.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { key: what },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::AccessDenied { what, message: error.to_string() }
        }
        // A file stands where a directory should be, or the other way round; a name is too long; no extended attributes.
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::Unsupported => StoreError::Permanent { what, message: error.to_string() },
        _ => StoreError::Transient { what, message: error.to_string() },
    }
}

fn modified_ns(stat: &std::fs::Metadata) -> i64 {
    stat.mtime().saturating_mul(1_000_000_000).saturating_add(stat.mtime_nsec())
}

fn file_pin(file: &File) -> io::Result<Pin> {
    let stat = file.metadata()?;
    Ok(Pin { etag: etag(stat.ino(), modified_ns(&stat), stat.size()), version: None })
}

fn head_with_attributes(file: &File) -> io::Result<ObjectHead> {
    let (stat, pin) = (file.metadata()?, file_pin(file)?);
    let attributes = Attributes::read(file)?.unwrap_or_default();
    let ObjectHeaders { system, user_metadata } = attributes.headers(&pin.etag);
    Ok(ObjectHead { size: stat.size(), pin, modified_ns: modified_ns(&stat), user_metadata, system })
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
    Ok((file_pin(file)?.etag == version).then(|| piece.freeze()))
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
        if pin.is_some_and(|pin| !same_etag(&pin.etag, &head.pin.etag)) {
            return Err(StoreError::Changed { key });
        }
        let range = clamp(&key, range, head.size)?;
        let body = match file {
            Some(file) => body(file, key, range.clone(), head.pin.etag.clone()),
            None => futures::stream::empty().boxed(),
        };
        Ok(GetResponse { head, range, body: pieces(body) })
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, StoreError> {
        self.open_object(key).await.map(|(_, head)| head)
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let listings = self.listings.clone();
        let name = self.name.clone();
        self.blocking(&name, move |tree| listings.page(tree, &request)).await
    }

    fn decides(&self, _: WriteKind, _: &Precondition) -> bool {
        true
    }

    async fn put(&self, request: PutRequest) -> Result<Pin, StoreError> {
        self.writing(request.key.clone(), move |tree| write::put(tree, &request)).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        self.writing(request.key.clone(), move |tree| write::delete(tree, &request)).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Pin, StoreError> {
        self.writing(request.source.key.clone(), move |tree| write::copy(tree, &request)).await
    }

    async fn begin_multipart(&self, request: BeginRequest) -> Result<Upload, StoreError> {
        self.writing(request.key.clone(), move |tree| uploads::begin(tree, request)).await
    }

    async fn put_part(&self, request: PartRequest) -> Result<Part, StoreError> {
        self.writing(request.upload.key.clone(), move |tree| uploads::put_part(tree, &request)).await
    }

    async fn copy_part(&self, request: CopyPartRequest) -> Result<Part, StoreError> {
        self.writing(request.source.key.clone(), move |tree| uploads::copy_part(tree, &request)).await
    }

    async fn complete_multipart(&self, request: CompleteRequest) -> Result<Pin, StoreError> {
        self.writing(request.upload.key.clone(), move |tree| uploads::complete(tree, &request)).await
    }

    async fn abort_multipart(&self, upload: &Upload) -> Result<(), StoreError> {
        let upload = upload.clone();
        self.writing(upload.key.clone(), move |tree| uploads::abort(tree, &upload)).await
    }

    async fn list_multipart(&self, request: UploadsRequest) -> Result<UploadsPage, StoreError> {
        self.writing(self.name.clone(), move |tree| uploads::list(tree, &request)).await
    }
}

#[cfg(test)]
mod tests;
