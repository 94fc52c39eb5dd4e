//! Checking a whole store against the invariants of its rows; for fsck and the tests. What it finds, [`super::repair`] can put right.
//!
//! Invariants:
//! 1. Everything is read from one view, so that a transaction under way is either seen whole or not at all: a store that is in use and sound has no violation.
//! 2. Memory is bounded: counts of references are made in passes over the maps where there are many.

use super::allocated::recount;
use super::dir::{decode_dirent, lookup};
use super::engine::{KeyRange, Order, Table, View};
use super::inode::{decode_inode, read_inode};
use super::references::{count_of, count_slots};
use super::rows::Reading;
use super::{AssociationRow, FileKind, MetaError, MetaStore, PUBLISHED_SETTING};
use crate::format::rows::{InodeRow, Link, SnapshotRow, key};
use crate::ids::{Epoch, Ino};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, RangeInclusive};

/// Counts of references kept in memory at a time, at about 64 bytes each.
const COUNTS_PER_PASS: u64 = 1 << 20;
/// The tables in which an inode has rows beside its own.
const OF_INODES: [Table; 7] =
    [Table::Dirents, Table::FileMap, Table::Listing, Table::Symlinks, Table::Xattrs, Table::Whiteouts, Table::Links];

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Invariant 1: a name without an inode.
    #[error("{parent} names {ino} '{}', which has no row", String::from_utf8_lossy(.name))]
    DanglingName {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Vec<u8>,
        /// What it names.
        ino: Ino,
    },
    /// Invariant 1: an inode that believes to hang elsewhere.
    #[error("{parent} names {ino} '{}', which says it has another name", String::from_utf8_lossy(.name))]
    WrongLink {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Vec<u8>,
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
    #[error("{ino} has rows in {} and none of its own", .table.name())]
    Leftover {
        /// The inode.
        ino: Ino,
        /// Where rows are left.
        table: Table,
    },
    /// Invariant 1, in the tree of a snapshot.
    #[error("in the snapshot of epoch {}, {parent} names {ino}, which has no row", .epoch.0)]
    DanglingInSnapshot {
        /// The snapshot.
        epoch: Epoch,
        /// The directory.
        parent: Ino,
        /// What it names.
        ino: Ino,
    },
    /// A row that does not decode.
    #[error("a row in {table} is damaged: {why}")]
    DamagedRow {
        /// Where it is.
        table: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl MetaStore {
    /// Checks every row of the current tree, the names in the trees of snapshots, and the references of all; what is wrong. Reads everything.
    pub fn check(&self) -> Result<Vec<Violation>, MetaError> {
        self.check_while(&|| true)
    }

    /// The same as long as `go_on` says so; what was found by then.
    pub fn check_while(&self, go_on: &dyn Fn() -> bool) -> Result<Vec<Violation>, MetaError> {
        let check = Check { reading: self.reading(), go_on };
        let mut found = Vec::new();
        let facts = check.facts(&mut found)?;
        check.names(&mut found)?;
        check.inodes(&facts, &mut found)?;
        check.leftovers(&mut found)?;
        check_references(&*check.reading.view, go_on, &mut found)?;
        for epoch in facts.snapshots {
            let mut dangling = Vec::new();
            let of = Check { reading: Reading { view: self.engine().view(), epoch }, go_on };
            of.names_at(epoch, &mut dangling)?;
            // Of one that was deleted meanwhile, rows have gone.
            if self.is_kept(epoch) {
                found.append(&mut dangling);
            }
        }
        Ok(found)
    }
}

/// What is looked up often.
struct Facts {
    pins: BTreeSet<Ino>,
    association_roots: BTreeSet<Ino>,
    snapshots: Vec<Epoch>,
    /// It is the tree of a published snapshot, of which nothing goes to a bucket.
    is_published: bool,
}

struct Check<'a> {
    reading: Reading<'a>,
    go_on: &'a dyn Fn() -> bool,
}

type Found<'f> = &'f mut Vec<Violation>;
type Row<'a> = dyn FnMut(&mut Vec<Violation>, &[u8], &[u8]) -> Result<(), MetaError> + 'a;

impl Check<'_> {
    /// Visits the newest rows of a table; a row that does not decode is a violation and passed over.
    fn each(&self, table: Table, found: Found<'_>, visit: &mut Row<'_>) -> Result<(), MetaError> {
        self.reading.scan(table, &everything(), &mut |prefix, row| {
            note_damage(found, |found| visit(found, prefix, row))?;
            Ok(if (self.go_on)() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
    }

    /// Visits the rows of a table without versions, in the same way.
    fn each_plain(&self, table: Table, found: Found<'_>, visit: &mut Row<'_>) -> Result<(), MetaError> {
        let mut failure = None;
        self.reading.view.scan(table, &everything(), Order::Ascending, &mut |key, row| {
            failure = note_damage(found, |found| visit(found, key, row)).err();
            if failure.is_none() && (self.go_on)() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn exists(&self, ino: Ino) -> Result<bool, MetaError> {
        Ok(self.reading.newest(Table::Inodes, &key::ino(ino))?.is_some())
    }

    fn facts(&self, found: Found<'_>) -> Result<Facts, MetaError> {
        let published = self.reading.view.get(Table::Settings, &key::setting(key::Space::User, PUBLISHED_SETTING))?;
        let mut facts = Facts {
            pins: BTreeSet::new(),
            association_roots: BTreeSet::new(),
            snapshots: Vec::new(),
            is_published: published.is_some(),
        };
        self.each_plain(Table::Pins, found, &mut |_, key, _| {
            facts.pins.extend(key::leading_ino(key));
            Ok(())
        })?;
        self.each_plain(Table::Associations, found, &mut |_, _, row| {
            let row = AssociationRow::decode(row).map_err(super::rows::damaged(Table::Associations))?;
            facts.association_roots.insert(row.root);
            Ok(())
        })?;
        self.each_plain(Table::Snapshots, found, &mut |_, _, row| {
            let row = SnapshotRow::decode(row).map_err(super::rows::damaged(Table::Snapshots))?;
            facts.snapshots.extend((!row.deleting).then_some(row.epoch));
            Ok(())
        })?;
        Ok(facts)
    }

    fn names(&self, found: Found<'_>) -> Result<(), MetaError> {
        self.each(Table::Dirents, found, &mut |found, prefix, row| {
            let (parent, ino) = (key::leading_ino(prefix).unwrap_or(Ino(0)), decode_dirent(row)?.ino);
            let name = key::dirent_name(prefix).unwrap_or_default().to_vec();
            let link = Some(Link { parent, name: name.clone() });
            match read_inode(&self.reading, ino)? {
                None => found.push(Violation::DanglingName { parent, name, ino }),
                Some(inode) if inode.link != link && !has_further_name(&self.reading, ino, prefix)? => {
                    found.push(Violation::WrongLink { parent, name, ino })
                }
                Some(_) => {}
            }
            Ok(())
        })
    }

    fn names_at(&self, epoch: Epoch, found: Found<'_>) -> Result<(), MetaError> {
        self.each(Table::Dirents, found, &mut |found, prefix, row| {
            let (parent, ino) = (key::leading_ino(prefix).unwrap_or(Ino(0)), decode_dirent(row)?.ino);
            if !self.exists(ino)? {
                found.push(Violation::DanglingInSnapshot { epoch, parent, ino });
            }
            Ok(())
        })
    }

    fn inodes(&self, facts: &Facts, found: Found<'_>) -> Result<(), MetaError> {
        let mut pins = facts.pins.clone();
        self.each(Table::Inodes, found, &mut |found, prefix, row| {
            let ino = key::leading_ino(prefix).unwrap_or(Ino(0));
            let row = decode_inode(row)?;
            if !is_held(&self.reading, ino, &row)? {
                found.push(Violation::Lost(ino));
            }
            if pins.remove(&ino) != row.norelease {
                found.push(Violation::WrongPin(ino));
            }
            let is_object = ino != Ino::ROOT && !facts.association_roots.contains(&ino);
            let is_logged = || self.reading.view.get(Table::Changes, &key::ino(ino)).map(|row| row.is_some());
            if is_object && !facts.is_published && super::changes::must_be_logged(&row) && !is_logged()? {
                found.push(Violation::Unlogged(ino));
            }
            if let Some(counted) = row.allocated.filter(|_| row.kind == FileKind::File) {
                let expected = recount(&self.reading, ino, &row)?;
                if counted != expected {
                    found.push(Violation::WrongAllocated { ino, found: counted, expected });
                }
            }
            Ok(())
        })?;
        if (self.go_on)() {
            found.extend(pins.into_iter().map(Violation::WrongPin));
        }
        Ok(())
    }

    fn leftovers(&self, found: Found<'_>) -> Result<(), MetaError> {
        let of_table = |table: Table| {
            let mut last_seen = Ino::ROOT;
            move |found: &mut Vec<Violation>, prefix: &[u8], _: &[u8]| {
                let ino = key::leading_ino(prefix).unwrap_or(Ino(0));
                // What is cached of a snapshot's files is in maps of their own.
                if ino != last_seen && !ino.is_frozen() && !self.exists(ino)? {
                    found.push(Violation::Leftover { ino, table });
                }
                last_seen = ino;
                Ok::<_, MetaError>(())
            }
        };
        for table in OF_INODES {
            self.each(table, found, &mut of_table(table))?;
        }
        self.each_plain(Table::Changes, found, &mut of_table(Table::Changes))?;
        self.each_plain(Table::Intents, found, &mut of_table(Table::Intents))
    }
}

fn everything() -> KeyRange {
    KeyRange { start: Vec::new(), end: None }
}

/// Makes a row that does not decode a violation.
fn note_damage(found: Found<'_>, visit: impl FnOnce(&mut Vec<Violation>) -> Result<(), MetaError>) -> Result<(), MetaError> {
    match visit(found) {
        Err(MetaError::Damaged { table, why }) => {
            found.push(Violation::DamagedRow { table, why });
            Ok(())
        }
        other => other,
    }
}

/// Compares the counts with what the maps of all epochs come to. With a map that does not decode, nothing can be said of any count.
fn check_references(view: &dyn View, go_on: &dyn Fn() -> bool, found: Found<'_>) -> Result<(), MetaError> {
    let mut rows = 0;
    view.scan(Table::Refs, &everything(), Order::Ascending, &mut |_, _| {
        rows += 1;
        ControlFlow::Continue(())
    })?;
    let passes = rows / COUNTS_PER_PASS + 1;
    for pass in (0..passes).take_while(|_| go_on()) {
        note_damage(found, |found| check_share(view, &share(pass, passes), go_on, found))?;
    }
    Ok(())
}

/// One of so many equal parts of all fingerprints.
fn share(pass: u64, passes: u64) -> RangeInclusive<u64> {
    let edge = |at: u64| (u128::from(at) << 64) / u128::from(passes);
    edge(pass) as u64..=(edge(pass + 1) - 1) as u64
}

fn check_share(
    view: &dyn View,
    share: &RangeInclusive<u64>,
    go_on: &dyn Fn() -> bool,
    found: Found<'_>,
) -> Result<(), MetaError> {
    // What the maps come to, and what is said.
    let mut counts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let whole = count_slots(view, go_on, &mut |fingerprint| {
        if share.contains(&fingerprint) {
            counts.entry(fingerprint).or_default().0 += 1;
        }
    })?;
    if !whole {
        return Ok(());
    }
    let range = KeyRange {
        start: key::reference(*share.start()).to_vec(),
        end: share.end().checked_add(1).map(|end| key::reference(end).to_vec()),
    };
    let mut failure = None;
    view.scan(Table::Refs, &range, Order::Ascending, &mut |key, row| {
        match count_of(key, row) {
            Ok((fingerprint, count)) => counts.entry(fingerprint).or_default().1 = count,
            Err(error) => failure = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    let wrong = counts.into_iter().filter(|(_, (expected, said))| expected != said);
    found.extend(wrong.map(|(fingerprint, (expected, found))| Violation::WrongReferences { fingerprint, found, expected }));
    failure.map_or(Ok(()), Err)
}

/// Whether an entry (its key's prefix) is one of an inode's further names.
fn has_further_name(reading: &Reading<'_>, ino: Ino, entry: &[u8]) -> Result<bool, MetaError> {
    let (Some(parent), Some(name)) = (key::leading_ino(entry), key::dirent_name(entry)) else { return Ok(false) };
    Ok(reading.newest(Table::Links, &key::further_name(ino, parent, name))?.is_some())
}

/// Whether something leads to an inode: the root, a name, or its orphan row.
fn is_held(reading: &Reading<'_>, ino: Ino, row: &InodeRow) -> Result<bool, MetaError> {
    if ino == Ino::ROOT || reading.view.get(Table::Orphans, &key::ino(ino))?.is_some() {
        return Ok(true);
    }
    let Some(link) = &row.link else { return Ok(false) };
    Ok(lookup(reading, link.parent, &link.name)?.is_some_and(|dirent| dirent.ino == ino))
}
