//! Making one entry of a clone: rows that say the same as those of the snapshot, under numbers of their own.

use super::borrow;
use crate::format::rows::{CloneRow, Link, RowError, decode_number, encode_number, key};
use crate::ids::Ino;
use crate::meta::engine::{KeyRange, Table};
use crate::meta::inode::read_for_change;
use crate::meta::map::{decode_chunk, fill_in};
use crate::meta::names::{enter, give_name};
use crate::meta::rows::{Reading, Txn, damaged};
use crate::meta::{FileKind, Inode, MapChunk, MetaError};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

/// What a transaction copies.
pub(in crate::meta) struct Copying<'a> {
    /// The tree as it was.
    old: &'a Reading<'a>,
    /// The directory that the clone hangs from.
    root: Ino,
    now_ns: i64,
    /// Files with several names that this transaction has made: a transaction does not read what it writes.
    twins: HashMap<Ino, (Ino, Inode)>,
    /// Rows written so far, about.
    pub(super) rows: usize,
}

impl<'a> Copying<'a> {
    pub(in crate::meta) fn new(old: &'a Reading<'a>, root: Ino, now_ns: i64) -> Self {
        Copying { old, root, now_ns, twins: HashMap::new(), rows: 0 }
    }

    /// Enters a name for what an inode was, as an inode of this number. The caller writes the directory. Returns the new row.
    pub(in crate::meta) fn copy(
        &mut self,
        txn: &mut Txn<'_>,
        (dir, name): (Ino, &[u8]),
        (from, was): (Ino, Inode),
        ino: Ino,
    ) -> Result<Inode, MetaError> {
        self.rows += 3;
        let has_twins = was.kind != FileKind::Directory && was.nlink > 1;
        if has_twins && let Some((ino, mut row)) = self.twin_of(txn, from)? {
            give_name(txn, dir, name, ino, &mut row);
            row.nlink += 1;
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            self.twins.insert(from, (ino, row.clone()));
            return Ok(row);
        }
        let row = self.row(was, Link { parent: dir, name: name.to_vec() });
        match row.kind {
            FileKind::Directory => {
                let fill =
                    CloneRow { epoch: self.old.epoch, source: from, root: self.root, made_ns: self.now_ns, after: Vec::new() };
                txn.write_plain(Table::Clones, &key::ino(ino), fill.encode());
            }
            FileKind::File => self.copy_map(txn, from, ino)?,
            FileKind::Symlink => self.copy_rows(txn, Table::Symlinks, from, ino)?,
            _ => {}
        }
        self.copy_rows(txn, Table::Xattrs, from, ino)?;
        if let Some(origin) = row.origin.as_ref().filter(|_| row.borrowed) {
            borrow::enter(txn, &origin.key, ino);
        }
        enter(txn, dir, name, ino, row.kind);
        txn.write(Table::Inodes, &key::ino(ino), row.encode());
        if has_twins {
            txn.write_plain(Table::Twins, &key::twin(self.root, from), encode_number(ino.0));
            self.twins.insert(from, (ino, row.clone()));
        }
        Ok(row)
    }

    /// The row of a copy: made here, of content that may be another file's.
    fn row(&self, was: Inode, link: Link) -> Inode {
        let mut row = Inode { link: Some(link), local: true, ctime_ns: self.now_ns, norelease: false, ..was };
        match row.kind {
            // What is in it and below it is made here as well.
            FileKind::Directory => (row.origin, row.base, row.allocated) = (None, None, None),
            FileKind::File => (row.nlink, row.borrowed) = (1, row.origin.is_some()),
            // The target is in a row.
            _ => (row.nlink, row.origin, row.base) = (1, None, None),
        }
        row
    }

    fn twin_of(&mut self, txn: &mut Txn<'_>, from: Ino) -> Result<Option<(Ino, Inode)>, MetaError> {
        if let Some(twin) = self.twins.get(&from) {
            return Ok(Some(twin.clone()));
        }
        let Some(row) = txn.read_plain(Table::Twins, &key::twin(self.root, from))? else { return Ok(None) };
        let ino = Ino(decode_number(&row).map_err(damaged(Table::Twins))?);
        // Somebody may have removed all names that it had meanwhile.
        Ok(read_for_change(txn, ino)?.filter(|row| row.nlink > 0).map(|row| (ino, row)))
    }

    /// Copies a file's map, with what was cached of it since through the snapshot.
    fn copy_map(&mut self, txn: &mut Txn<'_>, from: Ino, ino: Ino) -> Result<(), MetaError> {
        let mut cached: BTreeMap<Vec<u8>, MapChunk> = BTreeMap::new();
        let seen = from.at(self.old.epoch);
        txn.reading().scan(Table::FileMap, &KeyRange::prefix(&key::ino(seen)), &mut |prefix, row| {
            cached.insert(rest_of(Table::FileMap, prefix)?.to_vec(), decode_chunk(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        self.copy_rows(txn, Table::FileMap, from, ino)?;
        for (rest, cached) in cached {
            let was = self.old.newest(Table::FileMap, &[&key::ino(from)[..], &rest].concat())?;
            let mut chunk = was.map(|row| decode_chunk(&row)).transpose()?.unwrap_or_default();
            fill_in(&mut chunk, &cached);
            txn.write(Table::FileMap, &[&key::ino(ino)[..], &rest].concat(), chunk.encode());
        }
        Ok(())
    }

    /// Copies an inode's rows of a table whose keys begin with its number.
    fn copy_rows(&mut self, txn: &mut Txn<'_>, table: Table, from: Ino, ino: Ino) -> Result<(), MetaError> {
        let mut count = 0;
        self.old.scan(table, &KeyRange::prefix(&key::ino(from)), &mut |prefix, row| {
            txn.write(table, &[&key::ino(ino), rest_of(table, prefix)?].concat(), row.to_vec());
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        self.rows += count;
        Ok(())
    }
}

/// What follows the inode's number in a key.
fn rest_of(table: Table, prefix: &[u8]) -> Result<&[u8], MetaError> {
    prefix.get(8..).ok_or_else(|| damaged(table)(RowError::Field("key")))
}
