//! Checking a whole store against the invariants of its rows; for fsck and the tests.

use super::allocated::recount;
use super::dir::{decode_dirent, lookup};
use super::engine::{KeyRange, Order, Table};
use super::inode::{decode_inode, read_inode};
use super::references::local_blocks;
use super::rows::{Reading, damaged};
use super::{FileKind, MetaError, MetaStore, PUBLISHED_SETTING};
use crate::format::rows::{InodeRow, Link, RowError, decode_number, key};
use crate::ids::Ino;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Invariant 1: a name without an inode.
    #[error("{parent} names {ino}, which has no row")]
    DanglingName {
        /// The directory.
        parent: Ino,
        /// What it names.
        ino: Ino,
    },
    /// Invariant 1: an inode that believes to hang elsewhere.
    #[error("{parent} names {ino}, which says it has another name")]
    WrongLink {
        /// The directory.
        parent: Ino,
        /// What it names.
        ino: Ino,
    },
    /// Invariant 2: an inode that nothing names and nobody will free.
    #[error("{0} has no name and is not an orphan")]
    Lost(Ino),
    /// A file's count of what it allocates is not what its map comes to.
    #[error("{ino} is said to allocate {found} bytes and allocates {expected}")]
    WrongAllocated {
        /// The file.
        ino: Ino,
        /// What its row says.
        found: u64,
        /// What its map comes to.
        expected: u64,
    },
    /// An inode that is not what the bucket has, and is not in the log of changes.
    #[error("{0} was changed and is not in the log")]
    Unlogged(Ino),
    /// A file that is pinned and not in the table of pins, or the other way round.
    #[error("{0} is pinned in one place and not in the other")]
    WrongPin(Ino),
    /// A count of references that is not what the maps come to.
    #[error("block {fingerprint:016x} is said to be referred to {found} times and is {expected} times")]
    WrongReferences {
        /// The block's fingerprint.
        fingerprint: u64,
        /// What its row says.
        found: u64,
        /// What the maps of all epochs come to.
        expected: u64,
    },
    /// Rows of an inode that is gone.
    #[error("{ino} has rows in {table} and none of its own")]
    Leftover {
        /// The inode.
        ino: Ino,
        /// Where rows are left.
        table: &'static str,
    },
}

impl MetaStore {
    /// Checks every row of the current tree; what is wrong with it. Reads everything.
    pub fn check(&self) -> Result<Vec<Violation>, MetaError> {
        let reading = self.reading();
        // Nothing of a published snapshot's tree goes to a bucket.
        let is_published = self.setting(PUBLISHED_SETTING)?.is_some();
        let mut violations = Vec::new();
        let mut pins: std::collections::BTreeSet<Ino> = self.pins()?.into_iter().collect();
        each(&reading, Table::Dirents, &mut |prefix, row| {
            let (parent, ino) = (key::leading_ino(prefix).unwrap_or(Ino(0)), decode_dirent(row)?.ino);
            let link = key::dirent_name(prefix).map(|name| Link { parent, name: name.to_vec() });
            match read_inode(&reading, ino)? {
                None => violations.push(Violation::DanglingName { parent, ino }),
                Some(inode) if inode.link != link && !has_further_name(&reading, ino, prefix)? => {
                    violations.push(Violation::WrongLink { parent, ino })
                }
                Some(_) => {}
            }
            Ok(())
        })?;
        each(&reading, Table::Inodes, &mut |prefix, row| {
            let ino = key::leading_ino(prefix).unwrap_or(Ino(0));
            let row = decode_inode(row)?;
            if !is_held(&reading, ino, &row)? {
                violations.push(Violation::Lost(ino));
            }
            if pins.remove(&ino) != row.norelease {
                violations.push(Violation::WrongPin(ino));
            }
            if !is_published && super::changes::must_be_logged(&row) && self.change_of(ino)?.is_none() {
                violations.push(Violation::Unlogged(ino));
            }
            if let Some(found) = row.allocated.filter(|_| row.kind == FileKind::File) {
                let expected = recount(&reading, ino, &row)?;
                if found != expected {
                    violations.push(Violation::WrongAllocated { ino, found, expected });
                }
            }
            Ok(())
        })?;
        for table in
            [Table::Dirents, Table::FileMap, Table::Listing, Table::Symlinks, Table::Xattrs, Table::Whiteouts, Table::Links]
        {
            let mut last_seen = Ino::ROOT;
            each(&reading, table, &mut |prefix, _| {
                let ino = key::leading_ino(prefix).unwrap_or(Ino(0));
                // What is cached of a snapshot's files is in maps of their own.
                if ino != last_seen && !ino.is_frozen() && read_inode(&reading, ino)?.is_none() {
                    violations.push(Violation::Leftover { ino, table: table.name() });
                }
                last_seen = ino;
                Ok(())
            })?;
        }
        check_references(&reading, &mut violations)?;
        violations.extend(pins.into_iter().map(Violation::WrongPin));
        for (ino, _) in self.changes(None, usize::MAX)? {
            if read_inode(&reading, ino)?.is_none() {
                violations.push(Violation::Leftover { ino, table: Table::Changes.name() });
            }
        }
        for log in self.intents()? {
            if read_inode(&reading, log.ino)?.is_none() {
                violations.push(Violation::Leftover { ino: log.ino, table: Table::Intents.name() });
            }
        }
        Ok(violations)
    }
}

/// Counts what the maps of all epochs refer to.
fn check_references(reading: &Reading<'_>, violations: &mut Vec<Violation>) -> Result<(), MetaError> {
    let everything = KeyRange { start: Vec::new(), end: None };
    let (mut counts, mut failure): (BTreeMap<u64, (u64, u64)>, _) = (BTreeMap::new(), None);
    reading.view.scan(Table::FileMap, &everything, Order::Ascending, &mut |_, row| {
        match local_blocks(row) {
            Ok(blocks) => blocks.for_each(|fingerprint| counts.entry(fingerprint).or_default().0 += 1),
            Err(error) => failure = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    reading.view.scan(Table::Refs, &everything, Order::Ascending, &mut |key, row| {
        let found = decode_number(row).ok().zip(key::referenced(key));
        match found {
            Some((count, fingerprint)) => counts.entry(fingerprint).or_default().1 = count,
            None => failure = Some(damaged(Table::Refs)(RowError::Field("count"))),
        }
        ControlFlow::Continue(())
    })?;
    let wrong = counts.into_iter().filter(|(_, (expected, found))| expected != found);
    violations.extend(wrong.map(|(fingerprint, (expected, found))| Violation::WrongReferences { fingerprint, found, expected }));
    failure.map_or(Ok(()), Err)
}

/// Whether an entry (its key's prefix) is one of an inode's further names.
fn has_further_name(reading: &Reading<'_>, ino: Ino, entry: &[u8]) -> Result<bool, MetaError> {
    let (Some(parent), Some(name)) = (key::leading_ino(entry), key::dirent_name(entry)) else { return Ok(false) };
    Ok(reading.newest(Table::Links, &key::further_name(ino, parent, name))?.is_some())
}

type Row<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), MetaError> + 'a;

fn each(reading: &Reading<'_>, table: Table, visit: &mut Row<'_>) -> Result<(), MetaError> {
    reading.scan(table, &KeyRange { start: Vec::new(), end: None }, &mut |prefix, row| {
        visit(prefix, row)?;
        Ok(ControlFlow::Continue(()))
    })
}

/// Whether something leads to an inode: the root, a name, or its orphan row.
fn is_held(reading: &Reading<'_>, ino: Ino, row: &InodeRow) -> Result<bool, MetaError> {
    if ino == Ino::ROOT || reading.view.get(Table::Orphans, &key::ino(ino))?.is_some() {
        return Ok(true);
    }
    let Some(link) = &row.link else { return Ok(false) };
    Ok(lookup(reading, link.parent, &link.name)?.is_some_and(|dirent| dirent.ino == ino))
}
