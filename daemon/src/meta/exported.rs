//! What was sent to the bucket becomes what the bucket has.
//!
//! Recording an export takes one transaction, or for large files several, each of which leaves a file that is right: first its origin is the new object, with
//! blocks over it that are still held; then they are let go of, some at a time; at last nothing is left that the bucket does not have.

use super::allocated::{Change, Extent};
use super::changes::{doom, note, path_of, read_change};
use super::dir::{read_dirents, whole_directory};
use super::engine::{KeyRange, Table};
use super::inode::read_for_change;
use super::map::decode_chunk;
use super::names::{decode_further, encode_further};
use super::quota::{BLOCK, Spending};
use super::rows::{Txn, damaged};
use super::{BLOCKS_PER_CHUNK, FileKind, HOLE, Inode, MetaError, MetaStore, Origin};
use crate::format::rows::{Link, RowError, decode_text, key};
use crate::ids::Ino;
use std::ops::ControlFlow;

/// File-map rows let go of in one transaction.
const STEP_ROWS: usize = 256;

/// What was sent of an inode.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The inode.
    pub ino: Ino,
    /// The generation that its row in the change log had then.
    pub generation: u64,
    /// The name that it was sent under.
    pub link: Link,
    /// The object as it is now; of a directory the prefix, whose marker it is.
    pub origin: Origin,
    /// The path of that name below the root.
    pub path: Vec<u8>,
    /// Further names that it was sent under, with the objects.
    pub further: Vec<(Link, Origin)>,
    /// Whether listings of its directory show it: not so in a directory that was moved and is not exported yet.
    pub is_listed: bool,
    /// Whether nothing of it is dirty in memory.
    pub is_clean: bool,
}

/// How an inode stands after what was sent of it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is what the bucket has.
    Exported,
    /// So it will be: blocks are still to be let go of. Record it again.
    Unfinished,
    /// It was changed, renamed or removed meanwhile: what was sent is where it comes from, and there is more to send.
    Changed,
}

impl MetaStore {
    /// A moved directory's entries come from another prefix from now on, which has all that the one they came from had; `path` is where it was found below the root. Its
    /// marker is still to be written there, and the old one goes. `false`: it was moved again.
    pub fn settle_moved(&self, dir: Ino, from: &str, to: &str, path: &[u8], now_ns: i64) -> Result<bool, MetaError> {
        self.transact(|txn| {
            txn.says_what_the_bucket_says();
            let Some(mut row) = read_for_change(txn, dir)? else { return Ok(false) };
            let Some(link) = row.link.clone() else { return Ok(false) };
            if path_of(txn, &link)?.as_deref() != Some(path) {
                return Ok(false);
            }
            let is_empty = read_dirents(txn.reading(), &whole_directory(dir), 1)?.is_empty();
            if from != to && (row.posix_known || row.origin.is_some()) {
                doom(txn, &Origin::prefix(from.to_owned()), dir, now_ns)?;
            }
            if row.posix_known || row.local || is_empty {
                note(txn, dir, now_ns)?;
            }
            row.origin = Some(Origin::prefix(to.to_owned()));
            txn.write(Table::Inodes, &key::ino(dir), row.encode());
            if txn.read(Table::Listing, &key::ino(dir))?.is_some() {
                txn.remove(Table::Listing, &key::ino(dir))?;
            }
            Ok(true)
        })
    }

    /// Whether nothing of a file has to come from its origin: each of its blocks was written here, or is a hole.
    pub fn is_all_here(&self, ino: Ino) -> Result<bool, MetaError> {
        let reading = self.reading();
        let Some(row) = super::inode::read_inode(&reading, ino)? else { return Ok(true) };
        if row.kind == FileKind::Symlink {
            return Ok(true);
        }
        let mut missing = row.base.unwrap_or(row.size).div_ceil(BLOCK);
        let blocks = missing;
        reading.scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
            let number = prefix.get(8..).and_then(key::leading_ino).map_or(0, |number| number.0);
            let chunk = decode_chunk(row)?;
            let counts = |slot: &usize| chunk.is_local(*slot) && number * BLOCKS_PER_CHUNK + (*slot as u64) < blocks;
            missing -= (0..chunk.blocks.len()).filter(counts).count() as u64;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(missing == 0)
    }

    /// The names of a file beyond its own, each with its object, if it has one.
    pub fn further_names(&self, ino: Ino) -> Result<Vec<(Link, Option<Origin>)>, MetaError> {
        let mut found = Vec::new();
        self.reading().scan(Table::Links, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
            if let Some((parent, name)) = key::split_further_name(prefix) {
                found.push((Link { parent, name: name.to_vec() }, decode_further(row)?));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Records what was sent of an inode. Returns how it stands, and the fingerprints of blocks that nothing refers to any more.
    pub fn exported(&self, sent: &Sent) -> Result<(Standing, Vec<u64>), MetaError> {
        self.transact_releasing(&Spending::default(), |txn| {
            txn.says_what_the_bucket_says();
            // Of these writes the end is known now; others under other keys may still have happened.
            for origin in sent.further.iter().map(|(_, origin)| origin).chain([&sent.origin]) {
                txn.remove_plain(Table::Uploads, &key::upload(sent.ino, &origin.key));
            }
            let Some(mut row) = read_for_change(txn, sent.ino)? else {
                // The object came into being after its name was taken away.
                doom(txn, &sent.origin, sent.ino, 0)?;
                return Ok(Standing::Changed);
            };
            // Also where a directory above was moved meanwhile.
            let is_at_its_place =
                row.link.as_ref() == Some(&sent.link) && path_of(txn, &sent.link)?.as_deref() == Some(sent.path.as_slice());
            if is_at_its_place {
                mark_ancestors(txn, sent)?;
            }
            if is_at_its_place {
                txn.remove_plain(Table::Doomed, &key::doomed(&sent.origin.key));
            } else {
                doom(txn, &sent.origin, sent.ino, 0)?;
            }
            for (link, origin) in &sent.further {
                let at = key::further_name(sent.ino, link.parent, &link.name);
                if txn.read(Table::Links, &at)?.is_some() {
                    txn.write(Table::Links, &at, encode_further(origin));
                } else {
                    doom(txn, origin, sent.ino, 0)?;
                }
            }
            let is_unchanged = read_change(txn, sent.ino)?.is_none_or(|change| change.generation == sent.generation);
            let is_done = is_at_its_place && is_unchanged && sent.is_clean;
            let standing = match row.kind {
                FileKind::File => record_file(txn, sent, &mut row, is_done)?,
                _ if is_done => Standing::Exported,
                _ => Standing::Changed,
            };
            if row.kind == FileKind::Symlink {
                leave_behind(txn, sent, &row)?;
                row.origin = Some(sent.origin.clone());
            }
            if row.kind == FileKind::Directory && is_at_its_place && row.local && row.origin.is_none() {
                // Its marker is there: should it be moved or removed, that is to go.
                row.origin = Some(sent.origin.clone());
            }
            if standing == Standing::Exported {
                settle(txn, sent, &mut row)?;
            }
            txn.write(Table::Inodes, &key::ino(sent.ino), row.encode());
            Ok(standing)
        })
    }
}

/// Directories that were made here and not exported yet have something in the bucket now: should they be moved, that is to move with them.
fn mark_ancestors(txn: &mut Txn<'_>, sent: &Sent) -> Result<(), MetaError> {
    let (mut dir, mut key) = (sent.link.parent, sent.origin.key.as_str());
    while let Some(mut row) = super::inode::read_inode(txn.reading(), dir)? {
        let Some(end) = key.trim_end_matches('/').rfind('/') else { return Ok(()) };
        key = &key[..=end];
        let Some(link) = row.link.clone().filter(|_| row.local && row.origin.is_none()) else { return Ok(()) };
        txn.depend(Table::Inodes, &key::ino(dir))?;
        row.origin = Some(Origin::prefix(key.to_owned()));
        txn.write(Table::Inodes, &key::ino(dir), row.encode());
        dir = link.parent;
    }
    Ok(())
}

/// The object that an inode came from before is to go, if its name was another.
fn leave_behind(txn: &mut Txn<'_>, sent: &Sent, row: &Inode) -> Result<(), MetaError> {
    match row.own_origin().filter(|old| old.key != sent.origin.key) {
        Some(old) => doom(txn, old, sent.ino, row.ctime_ns),
        None => Ok(()),
    }
}

/// The inode is what the bucket has.
fn settle(txn: &mut Txn<'_>, sent: &Sent, row: &mut Inode) -> Result<(), MetaError> {
    (row.attrs_changed, row.posix_known, row.base, row.allocated) = (false, true, None, None);
    let whiteout = key::dirent(sent.link.parent, &sent.link.name);
    let hidden = txn.read(Table::Whiteouts, &whiteout)?;
    // A file in the place of a directory of the bucket whose objects are still to go: a listing would take it for that.
    let hides_prefix =
        hidden.as_ref().is_some_and(|row| decode_text(row).is_ok_and(<[u8]>::is_empty)) && row.kind != FileKind::Directory;
    row.local = !sent.is_listed || hides_prefix;
    if row.kind == FileKind::Directory {
        row.origin = (!sent.is_listed).then(|| Origin::prefix(sent.origin.key.clone()));
    }
    if sent.is_listed && hidden.is_some() && !hides_prefix {
        // It hid a version that had this name before; should the object be the same again, it would hide that.
        txn.remove(Table::Whiteouts, &whiteout)?;
    }
    txn.remove_plain(Table::Changes, &key::ino(sent.ino));
    Ok(())
}

/// The object is where the file's bytes come from where the map names no block: as far as they did before, the same bytes.
fn record_file(txn: &mut Txn<'_>, sent: &Sent, row: &mut Inode, is_done: bool) -> Result<Standing, MetaError> {
    leave_behind(txn, sent, row)?;
    (row.origin, row.borrowed) = (Some(sent.origin.clone()), false);
    if !is_done {
        return Ok(Standing::Changed);
    }
    // All of it now comes from the origin where the map names no block.
    let was = Extent::of(row);
    let mut change = Change::new(was, Extent { size: row.size, base: row.size });
    let more = let_go(txn, sent.ino, &mut change)?;
    if !more {
        return Ok(Standing::Exported);
    }
    row.allocated =
        Some(if was.base == row.size { change.after(txn, sent.ino, row)? } else { change.anew(txn.reading(), sent.ino)? });
    row.base = Some(row.size);
    Ok(Standing::Unfinished)
}

/// Makes blocks that exist only here the cached blocks of the origin that they now are; whether there are more.
fn let_go(txn: &mut Txn<'_>, ino: Ino, change: &mut Change) -> Result<bool, MetaError> {
    let mut local = Vec::new();
    txn.reading().scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
        let number = prefix.get(8..).and_then(key::leading_ino).ok_or_else(|| damaged(Table::FileMap)(RowError::Field("key")))?;
        let chunk = decode_chunk(row)?;
        if chunk.local != 0 {
            local.push((number.0, chunk));
        }
        Ok(if local.len() <= STEP_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    let more = local.len() > STEP_ROWS;
    local.truncate(STEP_ROWS);
    for (number, mut chunk) in local {
        let at = key::chunk(ino, number);
        txn.depend(Table::FileMap, &at)?;
        change.leaves(number, &chunk);
        for slot in 0..chunk.blocks.len() {
            if chunk.is_local(slot) {
                chunk.blocks[slot] = chunk.blocks[slot].filter(|id| *id != HOLE);
            }
        }
        chunk.local = 0;
        change.becomes(number, &chunk);
        if chunk.blocks.iter().any(Option::is_some) {
            txn.write(Table::FileMap, &at, chunk.encode());
        } else {
            txn.remove(Table::FileMap, &at)?;
        }
    }
    Ok(more)
}
