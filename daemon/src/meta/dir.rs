//! Looking names up and reading directories.

use super::engine::{KeyRange, Table};
use super::inode::decode_inode;
use super::rows::{Reading, damaged};
use super::snapshots::{beside, shown};
use super::{Dirent, Inode, ListingState, MetaError, MetaStore};
use crate::format::rows::{InodeRow, RowError, key};
use crate::ids::Ino;
use std::ops::ControlFlow;

/// Inodes whose numbers lie at most this far apart are read in one scan: passing over a row costs far less than a lookup.
const SCAN_GAP: u64 = 8;

pub(super) fn decode_dirent(row: &[u8]) -> Result<Dirent, MetaError> {
    Dirent::decode(row).map_err(damaged(Table::Dirents))
}

/// Directory entries of a key range, in order of names, at most `limit`.
pub(super) fn read_dirents(reading: &Reading<'_>, range: &KeyRange, limit: usize) -> Result<Vec<(Vec<u8>, Dirent)>, MetaError> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    reading.scan(Table::Dirents, range, &mut |prefix, row| {
        let name = key::dirent_name(prefix).ok_or_else(|| damaged(Table::Dirents)(RowError::Field("name")))?;
        found.push((name.to_vec(), decode_dirent(row)?));
        Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(found)
}

/// The rows of many inodes, in the order asked for. Entries of one directory were mostly numbered in a row, so neighbours are read
/// in one scan.
pub(super) fn read_inodes(reading: &Reading<'_>, inos: impl Iterator<Item = Ino>) -> Result<Vec<Option<InodeRow>>, MetaError> {
    let mut wanted: Vec<(Ino, usize)> = inos.zip(0..).collect();
    wanted.sort_unstable();
    let mut found = vec![None; wanted.len()];
    for run in wanted.chunk_by(|(a, _), (b, _)| b.0 - a.0 <= SCAN_GAP) {
        read_run(reading, run, &mut found)?;
    }
    Ok(found)
}

fn read_run(reading: &Reading<'_>, run: &[(Ino, usize)], found: &mut [Option<InodeRow>]) -> Result<(), MetaError> {
    let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return Ok(()) };
    if run.len() <= 2 {
        for &(ino, place) in run {
            found[place] = super::inode::read_inode(reading, ino)?;
        }
        return Ok(());
    }
    let range = KeyRange { start: key::ino(*first).to_vec(), end: key::after_prefix(&key::ino(*last)) };
    let mut wanted = run.iter().peekable();
    reading.scan(Table::Inodes, &range, &mut |prefix, row| {
        let ino = key::leading_ino(prefix).ok_or_else(|| damaged(Table::Inodes)(RowError::Field("key")))?;
        while wanted.next_if(|(next, _)| *next < ino).is_some() {}
        while let Some((_, place)) = wanted.next_if(|(next, _)| *next == ino) {
            found[*place] = Some(decode_inode(row)?);
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// The error for a name without an inode.
pub(super) fn dangling(parent: Ino, ino: Ino) -> MetaError {
    MetaError::Damaged { table: Table::Dirents.name(), why: format!("{parent} names {ino}, which has no row") }
}

/// All entries of a directory.
pub(super) fn whole_directory(parent: Ino) -> KeyRange {
    KeyRange::prefix(&key::ino(parent))
}

/// Resolves a name.
pub(super) fn lookup(reading: &Reading<'_>, parent: Ino, name: &[u8]) -> Result<Option<Dirent>, MetaError> {
    if !key::is_name(name) {
        return Ok(None);
    }
    reading.newest(Table::Dirents, &key::dirent(parent, name))?.map(|row| decode_dirent(&row)).transpose()
}

/// Entries after a name with their inodes.
pub(super) fn read_dir(
    reading: &Reading<'_>,
    parent: Ino,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Ino, Inode)>, MetaError> {
    let mut range = whole_directory(parent);
    if let Some(after) = after {
        range.start = key::dirents_after(parent, after);
    }
    let entries = read_dirents(reading, &range, limit)?;
    let inodes = read_inodes(reading, entries.iter().map(|(_, dirent)| dirent.ino))?;
    let join = |((name, dirent), row): ((Vec<u8>, Dirent), Option<InodeRow>)| {
        let row = row.ok_or_else(|| dangling(parent, dirent.ino))?;
        Ok((name, dirent.ino, row))
    };
    entries.into_iter().zip(inodes).map(join).collect()
}

impl MetaStore {
    /// Resolves a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Dirent>, MetaError> {
        let (reading, own) = self.reading_of(parent)?;
        let mut found = lookup(&reading, own, name)?;
        if found.is_none() && self.ensure_entry(parent, name)? {
            found = lookup(&self.reading(), own, name)?;
        }
        Ok(found.map(|dirent| Dirent { ino: beside(parent, dirent.ino), ..dirent }))
    }

    /// Entries after a name (from the start for `None`), in byte order of names, with their inodes, at most `limit`.
    pub fn read_dir(&self, parent: Ino, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Ino, Inode)>, MetaError> {
        let entries = loop {
            // First what is still to be made: what is made meanwhile is in the entries.
            let clone = self.unfinished(parent)?;
            let (reading, own) = self.reading_of(parent)?;
            let entries = read_dir(&reading, own, after, limit)?;
            let last = entries.last().filter(|_| entries.len() == limit);
            match clone {
                Some(clone) if last.is_none_or(|(name, ..)| *name > clone.after) && limit > 0 => self.fill_step(parent)?,
                _ => break entries,
            }
        };
        if !parent.is_frozen() {
            return Ok(entries);
        }
        let seen = |(name, ino, row)| {
            let ino = beside(parent, ino);
            (name, ino, shown(ino, row))
        };
        Ok(entries.into_iter().map(seen).collect())
    }

    /// A directory's listing state; `None` if nobody looked inside yet.
    pub fn listing_state(&self, dir: Ino) -> Result<Option<ListingState>, MetaError> {
        let (reading, own) = self.reading_of(dir)?;
        let row = reading.newest(Table::Listing, &key::ino(own))?;
        row.map(|row| ListingState::decode(&row).map_err(damaged(Table::Listing))).transpose()
    }
}
