//! Where an inode belongs in the bucket, and what is expected there.

use super::{ErrorCode, ExportFailure, ExportResult, Inner, OnConflict};
use crate::error::ErrorKind;
use crate::format::located;
use crate::ids::Ino;
use crate::meta::{FileKind, Inode, Link, Origin};
use crate::repository::limits::MOST_KEY;
use crate::repository::{Pin, Precondition, StoreError, Urgency};
use crate::vfs::metadata_error;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows of the log read at a time.
const PAGE: usize = 1000;

/// A key and how it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The object's key.
    pub(super) key: String,
    /// The path below the root.
    pub(super) path: Vec<u8>,
    /// Whether listings of the directory, as it stands, show what is at that key.
    pub(super) is_listed: bool,
}

impl Inner {
    /// Where something with this name belongs.
    pub(super) fn place_of(&self, link: &Link) -> ExportResult<Place> {
        let directory = self.directory(link.parent)?;
        let name = std::str::from_utf8(&link.name).map_err(|_| {
            let name = String::from_utf8_lossy(&link.name);
            ExportFailure::new(ErrorCode::S3ObjectPathNotPosixCompliant, format!("'{name}' is not UTF-8, and keys are"))
        })?;
        let key = format!("{}{name}", directory.target);
        let in_bucket = located::bare(&key);
        if in_bucket.len() > MOST_KEY {
            let message = format!("the key would have {} bytes, and {MOST_KEY} is the most", in_bucket.len());
            return Err(ExportFailure::new(ErrorCode::PathSizeTooLong, message));
        }
        if name.starts_with(located::TAG) {
            let message = "a name that begins with U+10FFFF, which is no character, is not exported".to_owned();
            return Err(ExportFailure::new(ErrorCode::S3ObjectPathNotPosixCompliant, message));
        }
        let unlinked = || ExportFailure::new(ErrorCode::S3ObjectNotFound, "it is in no directory that is linked to a bucket");
        let path = self.path_of_key(&key).ok_or_else(unlinked)?;
        Ok(Place { key, path, is_listed: directory.prefix == directory.target })
    }

    /// What has to be at a key for an inode to take its place: its own last version, one that had this name before and is to go, or nothing.
    pub(super) fn expected_at(&self, key: &str, known: Option<&Origin>) -> ExportResult<Precondition> {
        if let Some(own) = known.filter(|origin| origin.key == key) {
            return Ok(Precondition::Is(Pin { etag: own.etag.clone(), version: own.version.clone() }));
        }
        let doomed = self.meta.doomed_at(key).map_err(metadata_error)?;
        Ok(doomed.map_or(Precondition::Absent, |doomed| Precondition::Is(Pin { etag: doomed.etag, version: doomed.version })))
    }

    /// The inode whose bytes come from the object at a key, though the name there was taken from it, if they are not all here.
    pub(super) fn in_need_of(&self, key: &str) -> ExportResult<Option<Ino>> {
        let Some(doomed) = self.meta.doomed_at(key).map_err(metadata_error)? else { return Ok(None) };
        let Some(row) = self.meta.inode(doomed.heir).map_err(metadata_error)? else { return Ok(None) };
        if row.link.is_none() && !self.cache.in_use(doomed.heir) {
            return Ok(None);
        }
        let comes_from_there = row.origin.as_ref().is_some_and(|origin| origin.key == key);
        let is_needed = comes_from_there && !self.meta.is_all_here(doomed.heir).map_err(metadata_error)?;
        Ok(is_needed.then_some(doomed.heir))
    }

    /// Before the object at a key goes or is overwritten: clones that have their bytes from it get them. What cannot be had any more is lost either way.
    pub(super) async fn rescue_borrowers(self: &Arc<Self>, key: &str, except: Ino) -> ExportResult<()> {
        self.finish_clones().await?;
        let mut seen = HashSet::from([except]);
        loop {
            let mut needy = self.meta.borrowers_in_need(key).map_err(metadata_error)?;
            needy.retain(|ino| seen.insert(*ino));
            if needy.is_empty() {
                return if seen.len() > 1 { self.durable().await } else { Ok(()) };
            }
            for ino in needy {
                let Some(row) = self.meta.inode(ino).map_err(metadata_error)? else { continue };
                let file = self.file_of(ino, &row)?;
                match self.cache.bring_here(&file).await {
                    Err(error) if error.kind == ErrorKind::Stale => {
                        tracing::error!(key, %ino, "what a clone has of an object was not here, and the object was replaced in the bucket");
                    }
                    brought => brought?,
                }
            }
        }
    }

    /// Before the object at a key is overwritten: whoever's bytes come from it gets them.
    pub(super) async fn rescue(self: &Arc<Self>, key: &str, except: Ino) -> ExportResult<()> {
        self.rescue_borrowers(key, except).await?;
        let Some(heir) = self.in_need_of(key)?.filter(|heir| *heir != except) else { return Ok(()) };
        let Some(row) = self.meta.inode(heir).map_err(metadata_error)? else { return Ok(()) };
        tracing::info!(key, ino = %heir, "the bytes of a moved file are fetched: another file takes the place of its object");
        let file = self.file_of(heir, &row)?;
        self.cache.bring_here(&file).await?;
        if self.in_need_of(key)?.is_some() {
            return Err(ExportFailure::passing(
                ErrorCode::ResourceBusy,
                format!("what was moved from '{key}' could not be brought here"),
            ));
        }
        self.durable().await
    }

    /// Whether a key is below the prefix of a directory that was moved away and not exported since: the object may be the only place of what is there now.
    pub(super) fn is_of_moved_directory(&self, key: &str) -> ExportResult<bool> {
        Ok(self.moved_from()?.iter().any(|prefix| key.starts_with(prefix) && key.len() > prefix.len()))
    }

    fn moved_from(&self) -> ExportResult<Arc<Vec<String>>> {
        loop {
            let moves = self.exports.moves.load(Ordering::Acquire);
            if let Some((_, known)) = self.exports.moved_from.lock().as_ref().filter(|(as_of, _)| *as_of == moves) {
                return Ok(Arc::clone(known));
            }
            let found = Arc::new(self.find_moved()?);
            if self.exports.moves.load(Ordering::Acquire) == moves {
                *self.exports.moved_from.lock() = Some((moves, Arc::clone(&found)));
                return Ok(found);
            }
        }
    }

    fn find_moved(&self) -> ExportResult<Vec<String>> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.meta.changes(after, PAGE).map_err(metadata_error)?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after = Some(*last);
            for (ino, _) in page {
                let row = self.meta.inode(ino).map_err(metadata_error)?;
                let prefix =
                    row.filter(|row| row.kind == FileKind::Directory).and_then(|row| row.origin).map(|origin| origin.key);
                if let Some(prefix) = prefix
                    && self.directory(ino).is_ok_and(|dir| dir.target != prefix)
                {
                    found.push(prefix);
                }
            }
        }
    }

    /// What to do where the bucket has something else at a key than was expected.
    pub(super) async fn after_conflict(&self, key: &str, on_conflict: OnConflict, urgency: Urgency) -> ExportResult<Next> {
        if self.is_of_moved_directory(key)? {
            let message = format!("'{key}' is of a directory that was moved, and goes first");
            return Err(ExportFailure::passing(ErrorCode::ResourceBusy, message));
        }
        let now = match self.repository.head(key, urgency).await {
            Ok(head) => Some(head),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match on_conflict {
            OnConflict::Overwrite => {}
            OnConflict::Skip => return Ok(Next::PassOver),
            // What was deleted there and changed here is what was changed.
            OnConflict::KeepBoth if now.is_none() => {}
            OnConflict::KeepBoth => return Ok(Next::MakeWay),
            OnConflict::Fail => {
                let what = if now.is_some() { "was changed in the bucket" } else { "was deleted in the bucket" };
                return Err(ExportFailure::new(ErrorCode::S3Conflict, format!("'{key}' {what} and here")));
            }
        }
        Ok(Next::Expect(now.map_or(Precondition::Absent, |head| Precondition::Is(head.pin))))
    }
}

/// What to do after a conflict.
pub(super) enum Next {
    /// Try again, with this there.
    Expect(Precondition),
    /// Pass the file over.
    PassOver,
    /// Give ours another name.
    MakeWay,
}

/// What the metadata keeps of a version in the bucket.
pub(super) fn origin(key: &str, pin: Pin) -> Origin {
    Origin { key: key.to_owned(), etag: pin.etag, version: pin.version }
}

/// The version that an inode's bytes come from.
pub(super) fn pin_of(origin: &Origin) -> Pin {
    Pin { etag: origin.etag.clone(), version: origin.version.clone() }
}

/// The own name of an inode that has one.
pub(super) fn own_link(row: &Inode) -> ExportResult<Link> {
    row.link.clone().ok_or_else(|| ExportFailure::passing(ErrorCode::InternalError, "the name went away"))
}
