//! Putting right what [`super::check`] finds.
//!
//! Invariants:
//! 1. A repair is one transaction (the removal of many rows several), decided on by what is in the store at that moment, not by what the check saw: what was changed or
//!    repaired meanwhile is left alone, and stopping between two repairs, or in one, leaves nothing worse than it was.
//! 2. Nothing that can be reached is dropped. What cannot be reached and has content that may be nowhere else gets a name: its own where that is free, else one in `lost+found` in the
//!    root. A file whose row is lost and whose map is not is made anew from the map: its name where it has one, its blocks, and a length of whole blocks.
//! 3. Counts of references are put right first ([`MetaStore::repair_references`]): every other repair counts from them.

use super::allocated::recount;
use super::check::Violation;
use super::dir::read_dirents;
use super::engine::{KeyRange, Table};
use super::inode::read_for_change;
use super::map::decode_chunk;
use super::names::{count_links, enter, entry, links_of, live_directory, touch_directory};
use super::orphans::remove_rows;
use super::quota::BLOCK;
use super::references::{count_of, count_slots};
use super::rows::{Reading, Txn, damaged};
use super::{BLOCKS_PER_CHUNK, FileKind, HOLE, Inode, MetaError, MetaStore, Refusal};
use crate::format::rows::{Link, decode_text, encode_number, encode_text, key};
use crate::ids::Ino;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Where what has no name is put.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";
/// What is found again is its owner's to look at first.
const FOUND_FILE: u16 = 0o600;
const FOUND_DIRECTORY: u16 = 0o700;

/// What a repair came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Blocks that nothing refers to any more.
    pub released: Vec<u64>,
    /// Blocks that are referred to, which was not said.
    pub referred: Vec<u64>,
    /// Names that appeared or went: directory and name.
    pub names: Vec<(Ino, Vec<u8>)>,
}

/// What a repair needs to make inodes.
struct Maker {
    /// For `lost+found`, if it has to be made.
    fresh: Ino,
    owner: (u32, u32),
    now_ns: i64,
}

impl MetaStore {
    /// Repairs one violation, if it still is one and can be.
    ///
    /// # Errors
    /// `Invalid` if something other than a directory is called `lost+found`.
    pub fn repair(&self, violation: &Violation, now_ns: i64) -> Result<Repaired, MetaError> {
        if let Violation::WrongReferences { fingerprint, .. } = violation {
            return self.repair_references(&[*fingerprint]);
        }
        let owner = (self.defaults().uid, self.defaults().gid);
        let maker = Maker { fresh: Ino(self.take_inos(1)?.start), owner, now_ns };
        let mut repaired = Repaired::default();
        loop {
            let ((more, names), released) = self.transact_releasing(&super::quota::Spending::default(), |txn| {
                let mut names = Vec::new();
                Ok((repair_in(txn, violation, &maker, &mut names)?, names))
            })?;
            repaired.released.extend(released);
            repaired.names.extend(names);
            if !more {
                return Ok(repaired);
            }
        }
    }

    /// Makes counts of references what the maps come to, in one transaction that looks at all maps once.
    pub fn repair_references(&self, fingerprints: &[u64]) -> Result<Repaired, MetaError> {
        self.transact(|txn| {
            let mut counts: BTreeMap<u64, u64> = fingerprints.iter().map(|fingerprint| (*fingerprint, 0)).collect();
            count_slots(&*txn.reading().view, &|| true, &mut |fingerprint| {
                if let Some(count) = counts.get_mut(&fingerprint) {
                    *count += 1;
                }
            })?;
            let mut repaired = Repaired::default();
            for (fingerprint, count) in counts {
                let at = key::reference(fingerprint);
                // Whoever changes a map that names the block changes this row as well: then all of this is done again.
                let said = txn.read_plain(Table::Refs, &at)?.map(|row| count_of(&at, &row).map(|(_, count)| count));
                match (said.transpose().unwrap_or(Some(u64::MAX)), count) {
                    (None, 0) => {}
                    (Some(said), count) if said == count => {}
                    (Some(_), 0) => {
                        txn.remove_plain(Table::Refs, &at);
                        repaired.released.push(fingerprint);
                    }
                    (said, count) => {
                        txn.write_plain(Table::Refs, &at, encode_number(count));
                        repaired.referred.extend(said.is_none().then_some(fingerprint));
                    }
                }
            }
            Ok(repaired)
        })
    }
}

type Names = Vec<(Ino, Vec<u8>)>;

/// Whether there is more of it to do.
fn repair_in(txn: &mut Txn<'_>, violation: &Violation, maker: &Maker, names: &mut Names) -> Result<bool, MetaError> {
    match violation {
        Violation::DanglingName { parent, name, ino } => dangling(txn, (*parent, name), *ino, maker, names)?,
        Violation::WrongLink { parent, name, ino } => wrong_link(txn, (*parent, name), *ino, maker, names)?,
        Violation::Lost(ino) => lost(txn, *ino, maker, names)?,
        Violation::WrongAllocated { ino, .. } => {
            txn.says_what_the_bucket_says();
            if let Some(mut row) = read_for_change(txn, *ino)?.filter(|row| row.allocated.is_some()) {
                row.allocated = Some(recount(txn.reading(), *ino, &row)?);
                txn.write(Table::Inodes, &key::ino(*ino), row.encode());
            }
        }
        Violation::Unlogged(ino) => {
            let row = read_for_change(txn, *ino)?.filter(super::changes::must_be_logged);
            if let Some(row) = row.filter(|_| *ino != Ino::ROOT) {
                super::changes::note(txn, *ino, row.ctime_ns)?;
            }
        }
        Violation::WrongPin(ino) => match read_for_change(txn, *ino)? {
            Some(row) => super::hsm::note_pin(txn, *ino, &row),
            None => txn.remove_plain(Table::Pins, &key::ino(*ino)),
        },
        Violation::Leftover { ino, table } => return leftover(txn, *ino, *table, maker, names),
        // Counts have a way of their own; what does not decode says nothing of what it was, and the past does not change.
        Violation::WrongReferences { .. } | Violation::DamagedRow { .. } | Violation::DanglingInSnapshot { .. } => {}
    }
    Ok(false)
}

/// A name without an inode: the inode is made anew from what else there is of it, or the name goes. (If the bucket has the object, the next listing brings it.)
fn dangling(
    txn: &mut Txn<'_>,
    (parent, name): (Ino, &[u8]),
    ino: Ino,
    maker: &Maker,
    names: &mut Names,
) -> Result<(), MetaError> {
    let Some(dirent) = entry(txn, parent, name)?.filter(|dirent| dirent.ino == ino) else { return Ok(()) };
    if read_for_change(txn, ino)?.is_some() {
        return Ok(());
    }
    names.push((parent, name.to_vec()));
    if let Some(mut row) = made_anew(txn, ino, dirent.kind, maker)? {
        row.link = Some(Link { parent, name: name.to_vec() });
        txn.write(Table::Inodes, &key::ino(ino), row.encode());
        return Ok(());
    }
    txn.remove(Table::Dirents, &key::dirent(parent, name))?;
    one_entry_less(txn, parent, dirent.kind, maker)
}

fn one_entry_less(txn: &mut Txn<'_>, parent: Ino, kind: FileKind, maker: &Maker) -> Result<(), MetaError> {
    if let Some(row) = read_for_change(txn, parent)? {
        touch_directory(txn, parent, row, -links_of(kind), maker.now_ns);
    }
    Ok(())
}

/// An entry that leads to an inode which says to be elsewhere: one more of its names, or, if it is not elsewhere, its own.
fn wrong_link(
    txn: &mut Txn<'_>,
    (parent, name): (Ino, &[u8]),
    ino: Ino,
    maker: &Maker,
    names: &mut Names,
) -> Result<(), MetaError> {
    if entry(txn, parent, name)?.is_none_or(|dirent| dirent.ino != ino) {
        return Ok(());
    }
    let Some(mut row) = read_for_change(txn, ino)? else { return Ok(()) };
    let this = Link { parent, name: name.to_vec() };
    let further = key::further_name(ino, parent, name);
    if row.link.as_ref() == Some(&this) || txn.read(Table::Links, &further)?.is_some() {
        return Ok(());
    }
    let is_elsewhere = match &row.link {
        Some(own) => entry(txn, own.parent, &own.name)?.is_some_and(|dirent| dirent.ino == ino),
        None => false,
    };
    if is_elsewhere && row.kind == FileKind::Directory {
        // A directory has one name.
        names.push((parent, name.to_vec()));
        txn.remove(Table::Dirents, &key::dirent(parent, name))?;
        return one_entry_less(txn, parent, row.kind, maker);
    }
    let others = further_names(txn.reading(), ino)?;
    if is_elsewhere {
        txn.write(Table::Links, &further, encode_text(b""));
        row.nlink = others + 2;
    } else {
        (row.link, row.local) = (Some(this), true);
        row.nlink = if row.kind == FileKind::Directory { row.nlink.max(2) } else { others + 1 };
    }
    if txn.read_plain(Table::Orphans, &key::ino(ino))?.is_some() {
        txn.remove_plain(Table::Orphans, &key::ino(ino));
    }
    txn.write(Table::Inodes, &key::ino(ino), row.encode());
    Ok(())
}

fn further_names(reading: &Reading<'_>, ino: Ino) -> Result<u32, MetaError> {
    let mut count = 0;
    reading.scan(Table::Links, &KeyRange::prefix(&key::ino(ino)), &mut |_, _| {
        count += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

/// An inode that nothing leads to: back to its name, or to `lost+found`, or, if it has nothing that is only here, freed.
fn lost(txn: &mut Txn<'_>, ino: Ino, maker: &Maker, names: &mut Names) -> Result<(), MetaError> {
    let Some(mut row) = read_for_change(txn, ino)? else { return Ok(()) };
    if ino == Ino::ROOT || txn.read_plain(Table::Orphans, &key::ino(ino))?.is_some() {
        return Ok(());
    }
    if let Some(Link { parent, name }) = row.link.clone() {
        match entry(txn, parent, &name)? {
            Some(dirent) if dirent.ino == ino => return Ok(()),
            Some(_) => {}
            None => match live_directory(txn, parent) {
                Ok(directory) => {
                    enter(txn, parent, &name, ino, row.kind);
                    touch_directory(txn, parent, directory, links_of(row.kind), maker.now_ns);
                    names.push((parent, name));
                    return Ok(());
                }
                // The directory is gone.
                Err(MetaError::Refused(_)) => {}
                Err(other) => return Err(other),
            },
        }
    }
    if has_content(txn, ino, &row)? {
        return rescue(txn, ino, row, maker, names);
    }
    (row.link, row.nlink) = (None, 0);
    txn.orphan(ino);
    txn.write(Table::Inodes, &key::ino(ino), row.encode());
    Ok(())
}

/// Whether an inode has something that may be nowhere else.
fn has_content(txn: &Txn<'_>, ino: Ino, row: &Inode) -> Result<bool, MetaError> {
    Ok(match row.kind {
        FileKind::File => row.size > 0 && (row.base.is_some() || row.origin.is_none()),
        FileKind::Directory => !read_dirents(txn.reading(), &super::dir::whole_directory(ino), 1)?.is_empty(),
        FileKind::Symlink => row.local,
        _ => true,
    })
}

/// Rows of an inode that has none of its own; whether there may be more.
fn leftover(txn: &mut Txn<'_>, ino: Ino, table: Table, maker: &Maker, names: &mut Names) -> Result<bool, MetaError> {
    if read_for_change(txn, ino)?.is_some() {
        return Ok(false);
    }
    let kind = match table {
        Table::FileMap => Some(FileKind::File),
        Table::Dirents => Some(FileKind::Directory),
        Table::Symlinks => Some(FileKind::Symlink),
        _ => None,
    };
    if let Some(kind) = kind
        && let Some(row) = made_anew(txn, ino, kind, maker)?
    {
        rescue(txn, ino, row, maker, names)?;
        return Ok(false);
    }
    match table {
        Table::Changes => txn.remove_plain(table, &key::ino(ino)),
        Table::Intents => super::intent::remove_all(txn, ino)?,
        _ => return remove_rows(txn, table, ino),
    }
    Ok(false)
}

/// Gives an inode a name in `lost+found`, which is made if it is not there.
fn rescue(txn: &mut Txn<'_>, ino: Ino, mut row: Inode, maker: &Maker, names: &mut Names) -> Result<(), MetaError> {
    let (found, directory) = match entry(txn, Ino::ROOT, LOST_AND_FOUND)? {
        Some(dirent) if dirent.kind == FileKind::Directory => (dirent.ino, live_directory(txn, dirent.ino)?),
        Some(_) => return Err(Refusal::Invalid("'lost+found' in the root is not a directory; rename it").into()),
        None => {
            let root = live_directory(txn, Ino::ROOT)?;
            let link = Link { parent: Ino::ROOT, name: LOST_AND_FOUND.to_vec() };
            let mut made = Inode::new(FileKind::Directory, FOUND_DIRECTORY, maker.owner, maker.now_ns, Some(link));
            made.local = true;
            enter(txn, Ino::ROOT, LOST_AND_FOUND, maker.fresh, FileKind::Directory);
            touch_directory(txn, Ino::ROOT, root, 1, maker.now_ns);
            names.push((Ino::ROOT, LOST_AND_FOUND.to_vec()));
            (maker.fresh, made)
        }
    };
    let name = format!("inode-{}", ino.0).into_bytes();
    touch_directory(txn, found, directory, links_of(row.kind), maker.now_ns);
    enter(txn, found, &name, ino, row.kind);
    row.nlink = row.nlink.max(if row.kind == FileKind::Directory { 2 } else { 1 });
    (row.link, row.local) = (Some(Link { parent: found, name: name.clone() }), true);
    txn.write(Table::Inodes, &key::ino(ino), row.encode());
    names.push((found, name));
    Ok(())
}

/// The row of an inode that has lost it, as far as its other rows tell; `None` if there is nothing in them.
fn made_anew(txn: &mut Txn<'_>, ino: Ino, kind: FileKind, maker: &Maker) -> Result<Option<Inode>, MetaError> {
    let perm = if kind == FileKind::Directory { FOUND_DIRECTORY } else { FOUND_FILE };
    let mut row = Inode::new(kind, perm, maker.owner, maker.now_ns, None);
    row.local = true;
    match kind {
        FileKind::File => {
            let Some(last) = last_block(txn.reading(), ino)? else { return Ok(None) };
            (row.size, row.base) = ((last + 1) * BLOCK, Some(0));
            row.allocated = Some(recount(txn.reading(), ino, &row)?);
        }
        FileKind::Directory => {
            let entries = read_dirents(txn.reading(), &super::dir::whole_directory(ino), usize::MAX)?;
            if entries.is_empty() {
                return Ok(None);
            }
            count_links(&mut row, entries.iter().map(|(_, dirent)| links_of(dirent.kind)).sum());
        }
        FileKind::Symlink => {
            let Some(target) = txn.read(Table::Symlinks, &key::ino(ino))? else { return Ok(None) };
            row.size = decode_text(&target).map_err(damaged(Table::Symlinks))?.len() as u64;
        }
        _ => return Ok(None),
    }
    Ok(Some(row))
}

/// The number of the last block that was written here, if any was.
fn last_block(reading: &Reading<'_>, ino: Ino) -> Result<Option<u64>, MetaError> {
    let mut last = None;
    reading.scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
        let number = prefix.get(8..).and_then(key::leading_ino).map_or(0, |number| number.0);
        let chunk = decode_chunk(row)?;
        let is_written = |slot: &usize| chunk.is_local(*slot) && chunk.blocks[*slot].is_some_and(|id| id != HOLE);
        if let Some(slot) = (0..chunk.blocks.len()).rev().find(is_written) {
            last = Some(number * BLOCKS_PER_CHUNK + slot as u64);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(last)
}
