//! What changes of names have in common: directories that take and lose entries, names given to inodes and taken away.
//!
//! Invariants:
//! 1. An inode that is not `local` is what the store lists under the name in its own row, and under no other. Losing that name leaves a
//!    whiteout there, so that no listing brings it back.
//! 2. A whiteout hides the one version it was made for (a directory: the prefix); a listing that no longer shows that removes it.

use super::changes::doom;
use super::dir::decode_dirent;
use super::engine::{KeyRange, Table};
use super::inode::read_for_change;
use super::rows::{Txn, damaged};
use super::{Dirent, FileKind, MetaError, Origin, Refusal};
use crate::format::rows::{InodeRow, Link, RowError, decode_text, encode_text, key};
use crate::ids::Ino;
use std::ops::ControlFlow;

/// What stands in a whiteout for a prefix; an object's ETag is never empty.
const PREFIX: &str = "";

/// A directory that is in the tree.
pub(super) fn live_directory(txn: &mut Txn<'_>, dir: Ino) -> Result<InodeRow, MetaError> {
    let row = read_for_change(txn, dir)?.ok_or(Refusal::NotFound)?;
    if row.kind != FileKind::Directory {
        return Err(Refusal::NotDirectory.into());
    }
    if txn.read_plain(Table::Orphans, &key::ino(dir))?.is_some() {
        return Err(Refusal::NotFound.into());
    }
    Ok(row)
}

/// How many links a directory has of one entry: the `..` of a subdirectory.
pub(super) fn links_of(kind: FileKind) -> i32 {
    i32::from(kind == FileKind::Directory)
}

/// Changes the number of subdirectories that a directory's link count tells of.
pub(super) fn count_links(row: &mut InodeRow, change: i32) {
    row.nlink = row.nlink.saturating_add_signed(change).max(2);
}

/// Writes a directory's row with the times of a change to its entries, and with so many more subdirectories.
pub(super) fn touch_directory(txn: &mut Txn<'_>, dir: Ino, mut row: InodeRow, links: i32, now_ns: i64) {
    (row.mtime_ns, row.ctime_ns) = (now_ns, now_ns);
    count_links(&mut row, links);
    txn.write(Table::Inodes, &key::ino(dir), row.encode());
}

/// The entry of a name; the transaction depends on it, also on its absence.
pub(super) fn entry(txn: &mut Txn<'_>, parent: Ino, name: &[u8]) -> Result<Option<Dirent>, MetaError> {
    if !key::is_name(name) {
        return Err(Refusal::Invalid("not a name").into());
    }
    txn.read(Table::Dirents, &key::dirent(parent, name))?.map(|row| decode_dirent(&row)).transpose()
}

/// The row of an inode that an entry names.
pub(super) fn named_inode(txn: &mut Txn<'_>, parent: Ino, ino: Ino) -> Result<InodeRow, MetaError> {
    read_for_change(txn, ino)?.ok_or_else(|| super::dir::dangling(parent, ino))
}

/// Enters a name.
pub(super) fn enter(txn: &mut Txn<'_>, parent: Ino, name: &[u8], ino: Ino, kind: FileKind) {
    txn.write(Table::Dirents, &key::dirent(parent, name), Dirent { ino, kind }.encode());
}

/// Takes a name from an inode: its entry, and what the row says of it. The caller writes the row.
pub(super) fn take_name(
    txn: &mut Txn<'_>,
    (parent, name): (Ino, &[u8]),
    ino: Ino,
    row: &mut InodeRow,
    now_ns: i64,
) -> Result<(), MetaError> {
    txn.remove(Table::Dirents, &key::dirent(parent, name))?;
    let own = row.link.as_ref().is_some_and(|link| link.parent == parent && link.name == name);
    if !own {
        if let Some(origin) = further_origin(txn, ino, parent, name)? {
            doom(txn, &origin, ino, now_ns)?;
        }
        return txn.remove(Table::Links, &key::further_name(ino, parent, name));
    }
    // Of a directory it is the marker; one that was made here and never exported has none.
    if let Some(origin) = row.own_origin().filter(|_| !row.local || row.kind != FileKind::Directory) {
        doom(txn, origin, ino, now_ns)?;
    }
    if !row.local {
        let version = row.origin.as_ref().filter(|_| row.kind != FileKind::Directory).map_or(PREFIX, |origin| &origin.etag);
        txn.write(Table::Whiteouts, &key::dirent(parent, name), encode_text(version.as_bytes()));
        row.local = true;
    }
    row.link = further_name(txn, ino)?;
    if let Some(link) = &row.link {
        // What its object was is what is expected there when it is exported as the file's own.
        if let Some(origin) = further_origin(txn, ino, link.parent, &link.name)? {
            doom(txn, &origin, ino, now_ns)?;
        }
        txn.remove(Table::Links, &key::further_name(ino, link.parent, &link.name))?;
    }
    Ok(())
}

/// Gives an inode a name. The caller writes the row.
pub(super) fn give_name(txn: &mut Txn<'_>, parent: Ino, name: &[u8], ino: Ino, row: &mut InodeRow) {
    enter(txn, parent, name, ino, row.kind);
    if row.link.is_none() {
        row.link = Some(Link { parent, name: name.to_vec() });
    } else {
        txn.write(Table::Links, &key::further_name(ino, parent, name), encode_text(b""));
    }
}

/// The object of a further name, if it was exported.
fn further_origin(txn: &mut Txn<'_>, ino: Ino, parent: Ino, name: &[u8]) -> Result<Option<Origin>, MetaError> {
    let row = txn.read(Table::Links, &key::further_name(ino, parent, name))?;
    row.map_or(Ok(None), |row| decode_further(&row))
}

/// What is in the row of a further name: the ETag and the key of its object, if it was exported.
pub(super) fn decode_further(row: &[u8]) -> Result<Option<Origin>, MetaError> {
    let text = decode_text(row).map_err(damaged(Table::Links))?;
    let text = std::str::from_utf8(text).map_err(|_| damaged(Table::Links)(RowError::Text("object")))?;
    Ok(text.split_once('\0').map(|(etag, key)| Origin { key: key.to_owned(), etag: etag.to_owned(), version: None }))
}

/// The row of a further name whose object is this.
pub(super) fn encode_further(origin: &Origin) -> Vec<u8> {
    encode_text(format!("{}\0{}", origin.etag, origin.key).as_bytes())
}

/// One of the names an inode has beyond its own.
fn further_name(txn: &mut Txn<'_>, ino: Ino) -> Result<Option<Link>, MetaError> {
    let mut found = None;
    txn.reading().scan(Table::Links, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, _| {
        found = key::split_further_name(prefix).map(|(parent, name)| Link { parent, name: name.to_vec() });
        Ok(ControlFlow::Break(()))
    })?;
    if let Some(link) = &found {
        txn.depend(Table::Links, &key::further_name(ino, link.parent, &link.name))?;
    }
    Ok(found)
}

/// An inode lost a name: one link less, and an orphan once it has none.
pub(super) fn unlinked(txn: &mut Txn<'_>, ino: Ino, mut row: InodeRow, now_ns: i64) -> InodeRow {
    row.ctime_ns = now_ns;
    row.nlink = if row.kind == FileKind::Directory { 0 } else { row.nlink.saturating_sub(1) };
    if row.nlink == 0 {
        txn.orphan(ino);
    }
    txn.write(Table::Inodes, &key::ino(ino), row.encode());
    row
}
