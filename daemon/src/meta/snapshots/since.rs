//! What changed since a snapshot, and rows as they were then, for those who want to have that again.

use super::diff::candidates;
use crate::format::rows::{RowError, key};
use crate::ids::{BlockId, Epoch, Ino};
use crate::meta::clones::{Copying, note_begun};
use crate::meta::engine::{KeyRange, Table};
use crate::meta::inode::{read_for_change, read_inode};
use crate::meta::map::decode_chunk;
use crate::meta::names::{entry, links_of, live_directory, touch_directory};
use crate::meta::rows::{Reading, Txn, damaged, epoch_of};
use crate::meta::{BLOCKS_PER_CHUNK, Dirent, FileKind, Inode, MetaError, MetaStore, Refusal, dir};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// What was written over since an epoch ended. It may be again what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Entries of directories, by directory and name.
    pub names: BTreeSet<(Ino, Vec<u8>)>,
    /// Inodes: their attributes, extended attributes, or content.
    pub inodes: BTreeSet<Ino>,
}

/// The rows of an inode's extended attributes, by what follows its number in their keys.
type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

impl MetaStore {
    /// What was written over since a kept epoch ended. Takes as long as that is much.
    pub fn changed_since(&self, epoch: Epoch) -> Result<Since, MetaError> {
        let view = self.engine().view();
        let now = epoch_of(&*view)?.unwrap_or(Epoch::FIRST);
        let (names, inodes) = candidates(&*view, epoch, now)?.into_places();
        Ok(Since { names, inodes })
    }

    /// An entry as it was.
    pub fn entry_then(&self, epoch: Epoch, parent: Ino, name: &[u8]) -> Result<Option<Dirent>, MetaError> {
        dir::lookup(&self.as_it_was(epoch), parent, name)
    }

    /// Whether the content of a file, or the target of a symlink, is what that of one (the same, or another) was then, as far as that is known without reading it.
    pub fn has_same_content(&self, ino: Ino, then_ino: Ino, epoch: Epoch) -> Result<bool, MetaError> {
        let (then, now) = (self.as_it_was(epoch), self.reading());
        let (Some(was), Some(is)) = (read_inode(&then, then_ino)?, read_inode(&now, ino)?) else { return Ok(false) };
        if was.kind != is.kind || was.size != is.size {
            return Ok(false);
        }
        if was.kind != FileKind::File {
            let target = |reading: &Reading<'_>, ino| reading.newest(Table::Symlinks, &key::ino(ino));
            return Ok(was.rdev == is.rdev && target(&then, then_ino)? == target(&now, ino)?);
        }
        let (before, after) = (Blocks::of(&then, then_ino, &was)?, Blocks::of(&now, ino, &is)?);
        let is_one_object = was.origin == is.origin;
        let mut indexes: BTreeSet<u64> = before.known.keys().chain(after.known.keys()).copied().collect();
        if !is_one_object {
            // What is known of neither has to be the same object's.
            indexes.extend(0..was.size.div_ceil(BLOCK));
        }
        if is_one_object && before.base == after.base && before.local == after.local {
            return Ok(true);
        }
        let is_same = |index| match (before.at(index), after.at(index)) {
            (Held::Known(one), Held::Known(other)) => one == other,
            (Held::Origin, Held::Origin) => is_one_object,
            _ => false,
        };
        Ok(indexes.into_iter().all(is_same))
    }

    /// Gives a name, which must be free, to what an inode was in a snapshot, as an inode of its own. What is below a directory is made in the background.
    pub fn copy_from_snapshot(&self, name: &[u8], from: Ino, to: (Ino, &[u8]), now_ns: i64) -> Result<Ino, MetaError> {
        let ino = Ino(self.take_inos(1)?.start);
        self.ensure_entry(to.0, to.1)?;
        let _beginning = self.shared.clones.begin();
        self.transact(|txn| {
            let snapshot = super::read_snapshot(txn, name)?;
            let directory = live_directory(txn, to.0)?;
            if entry(txn, to.0, to.1)?.is_some() {
                return Err(Refusal::Exists.into());
            }
            let old = self.as_it_was(snapshot.epoch);
            let row = read_inode(&old, from)?.ok_or(Refusal::NotFound)?;
            // Its other names are given to it one by one.
            let row = Inode { nlink: if row.kind == FileKind::Directory { row.nlink } else { 1 }, ..row };
            let row = Copying::new(&old, ino, now_ns).copy(txn, to, (from, row), ino)?;
            touch_directory(txn, to.0, directory, links_of(row.kind), now_ns);
            note_begun(txn)?;
            Ok(ino)
        })
    }

    /// Gives an inode the attributes, and extended attributes, that one (the same, or another) had then; whether any were others.
    pub fn restore_attributes(&self, ino: Ino, then_ino: Ino, epoch: Epoch, now_ns: i64) -> Result<bool, MetaError> {
        self.transact(|txn| {
            let then = self.as_it_was(epoch);
            let (Some(was), Some(is)) = (read_inode(&then, then_ino)?, read_for_change(txn, ino)?) else { return Ok(false) };
            let mut row = Inode { perm: was.perm, uid: was.uid, gid: was.gid, layout: was.layout, ..is.clone() };
            (row.atime_ns, row.mtime_ns) = (was.atime_ns, was.mtime_ns);
            let (before, now) = (attributes(&then, then_ino)?, attributes(txn.reading(), ino)?);
            if row == is && before == now {
                return Ok(false);
            }
            replace_attributes(txn, ino, &now, &before)?;
            row.attrs_changed |= was.perm != is.perm || (was.uid, was.gid, was.mtime_ns) != (is.uid, is.gid, is.mtime_ns);
            row.ctime_ns = now_ns;
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            Ok(true)
        })
    }
}

fn attributes(reading: &Reading<'_>, ino: Ino) -> Result<Attributes, MetaError> {
    let mut found = Attributes::new();
    reading.scan(Table::Xattrs, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
        let name = prefix.get(8..).ok_or_else(|| damaged(Table::Xattrs)(RowError::Field("key")))?;
        found.insert(name.to_vec(), row.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn replace_attributes(txn: &mut Txn<'_>, ino: Ino, now: &Attributes, then: &Attributes) -> Result<(), MetaError> {
    let at = |name: &[u8]| [&key::ino(ino), name].concat();
    for name in now.keys().filter(|name| !then.contains_key(*name)) {
        txn.depend(Table::Xattrs, &at(name))?;
        txn.remove(Table::Xattrs, &at(name))?;
    }
    for (name, row) in then.iter().filter(|(name, row)| now.get(*name) != Some(*row)) {
        txn.depend(Table::Xattrs, &at(name))?;
        txn.write(Table::Xattrs, &at(name), row.clone());
    }
    Ok(())
}

/// Bytes of a block.
const BLOCK: u64 = crate::config::Settings::BLOCK_SIZE as u64;

/// What is in a block of a file.
#[derive(PartialEq, Eq)]
enum Held {
    /// A block of this content; `None`: zeros.
    Known(Option<BlockId>),
    /// What the origin has there.
    Origin,
}

/// What is known of a file's blocks.
struct Blocks {
    /// Bytes that come from the origin where nothing is known.
    base: u64,
    known: BTreeMap<u64, Option<BlockId>>,
    /// The same of what was written here only.
    local: BTreeMap<u64, Option<BlockId>>,
}

impl Blocks {
    fn of(reading: &Reading<'_>, ino: Ino, row: &Inode) -> Result<Self, MetaError> {
        let base = if row.origin.is_some() { row.base.unwrap_or(row.size) } else { 0 };
        let mut blocks = Blocks { base, known: BTreeMap::new(), local: BTreeMap::new() };
        reading.scan(Table::FileMap, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, row| {
            let number = prefix.get(8..).and_then(key::leading_ino);
            let number = number.ok_or_else(|| damaged(Table::FileMap)(RowError::Field("key")))?;
            let chunk = decode_chunk(row)?;
            for (slot, id) in chunk.blocks.iter().enumerate().filter_map(|(slot, id)| Some((slot, (*id)?))) {
                let (index, id) = (number.0 * BLOCKS_PER_CHUNK + slot as u64, Some(id).filter(|id| *id != crate::meta::HOLE));
                blocks.known.insert(index, id);
                if chunk.is_local(slot) {
                    blocks.local.insert(index, id);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(blocks)
    }

    fn at(&self, index: u64) -> Held {
        match self.known.get(&index) {
            Some(id) => Held::Known(*id),
            None if index * BLOCK < self.base => Held::Origin,
            None => Held::Known(None),
        }
    }
}
