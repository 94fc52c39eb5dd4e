//! The writes of a directory, each a few steps on the file system. All of them block.

use super::attributes::Attributes;
use super::draft::{Draft, Refused, place};
use super::tree::Tree;
use super::{file_pin, head_with_attributes};
use crate::repository::write::{CopyRequest, CopySource, DeleteRequest, PutRequest, same_etag};
use crate::repository::{ObjectHead, ObjectHeaders, Pin, Precondition, StoreError};
use rustix::fs::{AtFlags, unlinkat};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes a file, or the marker of a directory.
pub fn put(tree: &Tree, request: &PutRequest) -> Result<Pin, Refused> {
    let PutRequest { key, body, headers, precondition } = request;
    if let Some(dir_path) = key.strip_suffix('/') {
        let is_empty = body.is_empty();
        return put_marker(tree, key, dir_path, is_empty, headers, precondition);
    }
    let mut draft = Draft::begin(tree, key)?;
    for piece in body.pieces() {
        draft.file().write_all(piece)?;
    }
    draft.publish(headers, precondition)
}

fn put_marker(
    tree: &Tree,
    key: &str,
    dir_path: &str,
    is_empty: bool,
    headers: &ObjectHeaders,
    precondition: &Precondition,
) -> Result<Pin, Refused> {
    place(dir_path)?;
    if !is_empty {
        let message = "a directory's marker has no bytes".to_owned();
        return Err(StoreError::Permanent { what: key.to_owned(), message }.into());
    }
    let _names = tree.names_lock();
    precondition.check(key, tree.marker(dir_path)?.map(|there| there.etag).as_deref())?;
    let dir = tree.make_dir(dir_path)?;
    let pin = Pin { etag: format!("\"{}\"", uuid::Uuid::new_v4().simple()), version: None };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Attributes::new(&pin.etag, i64::try_from(since.as_nanos()).ok(), headers).write(&dir)?;
    rustix::fs::fsync(&dir)?;
    Ok(pin)
}

/// Deletes a file, or a directory's marker; then the directories above that have nothing left in them, as a bucket has no empty ones.
pub fn delete(tree: &Tree, request: &DeleteRequest) -> Result<(), Refused> {
    let key = request.key.as_str();
    let precondition = request.pin.clone().map_or(Precondition::Any, Precondition::Is);
    let (dir_path, name) = match place(key.strip_suffix('/').unwrap_or(key)) {
        Ok(place) => place,
        // What no path can be is not there.
        Err(_) => return Ok(()),
    };
    let _names = tree.names_lock();
    if let Some(marked) = key.strip_suffix('/') {
        if let Some(there) = tree.marker(marked)? {
            precondition.check(key, Some(&there.etag))?;
            Attributes::remove(tree.open_dir(marked)?)?;
        }
        return Ok(tree.prune(marked)?);
    }
    let Some(there) = tree.etag_of(key)? else { return Ok(()) };
    precondition.check(key, Some(&there))?;
    let dir = tree.open_dir(dir_path)?;
    unlinkat(&dir, name, AtFlags::empty())?;
    rustix::fs::fsync(&dir)?;
    Ok(tree.prune(dir_path)?)
}

/// The file and the headers of a pinned source; no file for a marker.
fn open_source(tree: &Tree, source: &CopySource) -> Result<(Option<File>, ObjectHead), Refused> {
    let CopySource { key, pin } = source;
    let (file, head) = match key.strip_suffix('/') {
        Some(dir_path) => (None, tree.marker_head(dir_path)?),
        None => {
            let file = tree.open_file(key)?;
            let head = head_with_attributes(&file)?;
            (Some(file), head)
        }
    };
    match same_etag(&pin.etag, &head.pin.etag) {
        true => Ok((file, head)),
        false => Err(StoreError::Changed { key: key.clone() }.into()),
    }
}

/// Copies a range of a pinned source; the kernel moves the bytes, or shares them where the file system can.
pub fn copy_range(tree: &Tree, source: &CopySource, range: Range<u64>, to: &mut File) -> Result<(), Refused> {
    let (file, head) = open_source(tree, source)?;
    let what = || source.key.clone();
    if range.start > range.end || range.end > head.size {
        let message = format!("bytes {}..{} cannot be had of {}", range.start, range.end, head.size);
        return Err(StoreError::Permanent { what: what(), message }.into());
    }
    let Some(mut file) = file else { return Ok(()) };
    file.seek(SeekFrom::Start(range.start))?;
    let wanted = range.end - range.start;
    let copied = io::copy(&mut (&file).take(wanted), to)?;
    // Changed in place meanwhile: what was copied is neither version.
    if copied != wanted || file_pin(&file)?.etag != head.pin.etag {
        return Err(StoreError::Changed { key: what() }.into());
    }
    Ok(())
}

/// Copies a file.
pub fn copy(tree: &Tree, request: &CopyRequest) -> Result<Pin, Refused> {
    let CopyRequest { source, key, headers, precondition } = request;
    let (_, head) = open_source(tree, source)?;
    let kept = ObjectHeaders { system: head.system, user_metadata: head.user_metadata };
    let headers = headers.as_ref().unwrap_or(&kept);
    if let Some(dir_path) = key.strip_suffix('/') {
        return put_marker(tree, key, dir_path, head.size == 0, headers, precondition);
    }
    let mut draft = Draft::begin(tree, key)?;
    copy_range(tree, source, 0..head.size, draft.file())?;
    draft.publish(headers, precondition)
}
