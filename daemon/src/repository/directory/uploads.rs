//! Multipart uploads of a directory: each a directory of its own under a name at the root that no listing shows. In it `about`, which says what
//! it will become, and a file for each part. They survive a restart, as in a bucket.

use super::attributes::Attributes;
use super::draft::{Draft, Refused, hidden_name};
use super::file_pin;
use super::tree::{HIDDEN, Tree};
use super::write::copy_range;
use crate::repository::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, Part, PartRequest, PendingUpload, Upload, UploadsPage, UploadsRequest,
    UploadsToken,
};
use crate::repository::{Pin, StoreError};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

const ABOUT: &str = "about";
/// Uploads a page holds at most, as in S3.
const PAGE: usize = 1000;

#[derive(Serialize, Deserialize)]
struct About {
    key: String,
    attributes: Attributes,
}

fn home() -> String {
    format!("{HIDDEN}uploads")
}

fn no_upload(upload: &Upload) -> StoreError {
    StoreError::NoSuchUpload { key: upload.key.clone() }
}

fn create(dir: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::from_raw_mode(0o666))?.into())
}

fn read_about(dir: &OwnedFd) -> io::Result<(About, i64)> {
    let mut file: File = openat(dir, ABOUT, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into();
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let stat = file.metadata()?;
    let begun_ns = stat.mtime().saturating_mul(1_000_000_000).saturating_add(stat.mtime_nsec());
    Ok((serde_json::from_slice(&text).map_err(io::Error::other)?, begun_ns))
}

fn open(tree: &Tree, upload: &Upload) -> Result<(OwnedFd, About), Refused> {
    let is_ours = upload.id.len() == 32 && upload.id.bytes().all(|c| c.is_ascii_hexdigit());
    let found = is_ours.then(|| tree.open_hidden_dir(&format!("{}/{}", home(), upload.id)));
    let dir = match found {
        Some(Ok(dir)) => dir,
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => return Err(no_upload(upload).into()),
    };
    let (about, _) = read_about(&dir)?;
    if about.key == upload.key { Ok((dir, about)) } else { Err(no_upload(upload).into()) }
}

/// Begins an upload.
pub fn begin(tree: &Tree, request: BeginRequest) -> Result<Upload, Refused> {
    let BeginRequest { key, headers } = request;
    super::draft::place(&key)?;
    let upload = Upload { key, id: uuid::Uuid::new_v4().simple().to_string() };
    let _names = tree.names_lock();
    let dir = tree.make_hidden_dir(&format!("{}/{}", home(), upload.id))?;
    let about = About { key: upload.key.clone(), attributes: Attributes::new("", None, &headers) };
    // Under another name first: an upload without it would be no upload.
    let hidden = hidden_name();
    let mut file = create(&dir, &hidden)?;
    file.write_all(&serde_json::to_vec(&about).map_err(io::Error::other)?)?;
    file.sync_all()?;
    renameat(&dir, &hidden, &dir, ABOUT)?;
    rustix::fs::fsync(&dir)?;
    Ok(upload)
}

fn part(tree: &Tree, upload: &Upload, number: u32, fill: impl FnOnce(&mut File) -> Result<(), Refused>) -> Result<Part, Refused> {
    let (dir, _) = open(tree, upload)?;
    let hidden = hidden_name();
    let mut file = create(&dir, &hidden)?;
    let filled = fill(&mut file).and_then(|()| Ok(renameat(&dir, &hidden, &dir, number.to_string())?));
    if filled.is_err() {
        // Goes with the upload otherwise.
        let _ = unlinkat(&dir, &hidden, AtFlags::empty());
    }
    filled?;
    Ok(Part { number, etag: file_pin(&file)?.etag, crc32c: None })
}

/// Keeps a part.
pub fn put_part(tree: &Tree, request: &PartRequest) -> Result<Part, Refused> {
    part(tree, &request.upload, request.number, |file| {
        request.body.pieces().iter().try_for_each(|piece| file.write_all(piece))?;
        Ok(())
    })
}

/// Copies a part.
pub fn copy_part(tree: &Tree, request: &CopyPartRequest) -> Result<Part, Refused> {
    part(tree, &request.upload, request.number, |file| copy_range(tree, &request.source, request.range.clone(), file))
}

/// Makes the file of its parts.
pub fn complete(tree: &Tree, request: &CompleteRequest) -> Result<Pin, Refused> {
    let CompleteRequest { upload, parts, precondition } = request;
    let (dir, about) = open(tree, upload)?;
    let mut draft = Draft::begin(tree, &upload.key)?;
    for wanted in parts {
        let message = || format!("part {} was not uploaded, or with another ETag", wanted.number);
        let amiss = || StoreError::Permanent { what: upload.key.clone(), message: message() };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut file: File = openat(&dir, wanted.number.to_string(), flags, Mode::empty()).map_err(|_| amiss())?.into();
        if file_pin(&file)?.etag != wanted.etag {
            return Err(amiss().into());
        }
        io::copy(&mut file, draft.file())?;
    }
    let pin = draft.publish(&about.attributes.headers(""), precondition)?;
    remove(tree, &upload.id, &dir)?;
    Ok(pin)
}

/// Drops an upload.
pub fn abort(tree: &Tree, upload: &Upload) -> Result<(), Refused> {
    let (dir, _) = open(tree, upload)?;
    Ok(remove(tree, &upload.id, &dir)?)
}

fn remove(tree: &Tree, id: &str, dir: &OwnedFd) -> io::Result<()> {
    let home = tree.open_hidden_dir(&home())?;
    // The description first: whatever is left after a crash is no upload.
    unlinkat(dir, ABOUT, AtFlags::empty())?;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            unlinkat(dir, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(unlinkat(&home, id, AtFlags::REMOVEDIR)?)
}

/// One page of the uploads.
pub fn list(tree: &Tree, request: &UploadsRequest) -> Result<UploadsPage, Refused> {
    let mut uploads = all(tree)?;
    uploads.retain(|pending| pending.upload.key.starts_with(&request.prefix));
    uploads.sort_by(|a, b| (&a.upload.key, &a.upload.id).cmp(&(&b.upload.key, &b.upload.id)));
    if let Some(after) = &request.token {
        uploads.retain(|pending| (&pending.upload.key, &pending.upload.id) > (&after.key, &after.id));
    }
    let most = request.max_uploads.map_or(PAGE, |most| (most as usize).min(PAGE));
    let is_last = uploads.len() <= most;
    uploads.truncate(most);
    let last = uploads.last().filter(|_| !is_last);
    let next = last.map(|last| UploadsToken { key: last.upload.key.clone(), id: last.upload.id.clone() });
    Ok(UploadsPage { uploads, next })
}

fn all(tree: &Tree) -> io::Result<Vec<PendingUpload>> {
    let home = match tree.open_hidden_dir(&home()) {
        Ok(home) => home,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut uploads = Vec::new();
    for entry in Dir::read_from(&home)? {
        let entry = entry?;
        let Ok(id) = entry.file_name().to_str() else { continue };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if matches!(id, "." | "..") {
            continue;
        }
        let Ok(dir) = openat(&home, id, flags, Mode::empty()) else { continue };
        let Ok((about, begun_ns)) = read_about(&dir) else { continue };
        uploads.push(PendingUpload { upload: Upload { key: about.key, id: id.to_owned() }, begun_ns });
    }
    Ok(uploads)
}
