//! Associations by number, and what is done to the rows below their directories.
//!
//! Invariants:
//! 1. The directory of an association other than the root's is `local` and has the association's prefix as its origin: its entries come from there, and no
//!    export of what is below looks for its key further up.
//! 2. A directory of an association is in no change log: it is not an object.

use super::changes::doomed_of;
use super::engine::{KeyRange, Order, Table};
use super::inode::read_for_change;
use super::rows::damaged;
use super::{AssociationRow, FileKind, MetaError, MetaStore, Origin, Refusal};
use crate::format::located::association_of;
use crate::format::rows::key::Space;
use crate::format::rows::{RowError, decode_number, encode_number, key};
use crate::ids::{AssociationId, Ino};
use std::ops::ControlFlow;

/// Rows removed in one transaction.
const STEP: usize = 1000;

fn next_key() -> Vec<u8> {
    key::setting(Space::Internal, "next-association")
}

impl MetaStore {
    /// Every association, in the order of their numbers.
    pub fn associations(&self) -> Result<Vec<(AssociationId, AssociationRow)>, MetaError> {
        let (mut found, mut failure) = (Vec::new(), None);
        let everything = KeyRange { start: Vec::new(), end: None };
        self.reading().view.scan(Table::Associations, &everything, Order::Ascending, &mut |key, row| {
            let id = key::split_association(key).ok_or(RowError::Field("key"));
            match id.and_then(|id| Ok((id, AssociationRow::decode(row)?))) {
                Ok(association) => found.push(association),
                Err(why) => failure = Some(why),
            }
            ControlFlow::Continue(())
        })?;
        failure.map_or(Ok(found), |why| Err(damaged(Table::Associations)(why)))
    }

    /// A number that no association had before.
    pub fn new_association(&self) -> Result<AssociationId, MetaError> {
        self.transact(|txn| {
            let next = txn.read_plain(Table::Settings, &next_key())?;
            let next = next.map_or(Ok(1), |row| decode_number(&row)).map_err(damaged(Table::Settings))?;
            let id = u32::try_from(next).ok().filter(|id| *id != AssociationId::NONE.0);
            let id = id.ok_or(Refusal::Invalid("there were too many associations"))?;
            txn.write_plain(Table::Settings, &next_key(), encode_number(next + 1));
            Ok(AssociationId(id))
        })
    }

    /// Records an association. Its directory becomes the head of what comes from `prefix`; the root's needs no mark.
    pub fn save_association(&self, id: AssociationId, row: &AssociationRow, prefix: &str) -> Result<(), MetaError> {
        self.transact(|txn| {
            txn.write_plain(Table::Associations, &key::association(id), row.encode());
            if row.root == Ino::ROOT {
                return Ok(());
            }
            let mut root =
                read_for_change(txn, row.root)?.filter(|root| root.kind == FileKind::Directory).ok_or(Refusal::NotDirectory)?;
            let origin = Some(Origin::prefix(prefix.to_owned()));
            if root.origin != origin || !root.local {
                (root.origin, root.local) = (origin, true);
                txn.says_what_the_bucket_says();
                txn.write(Table::Inodes, &key::ino(row.root), root.encode());
            }
            txn.remove_plain(Table::Changes, &key::ino(row.root));
            Ok(())
        })?;
        self.shared.association_roots.write().insert(row.root);
        Ok(())
    }

    /// Forgets an association, with all that is noted of its bucket's objects. Nothing below its directory may come from there any more.
    pub fn remove_association(&self, id: AssociationId, root: Ino) -> Result<(), MetaError> {
        while self.forget_objects(id)? {}
        while self.forget_removed_names(root)? {}
        self.transact(|txn| {
            if let Some(mut row) = read_for_change(txn, root)?.filter(|_| root != Ino::ROOT) {
                row.origin = None;
                txn.says_what_the_bucket_says();
                txn.write(Table::Inodes, &key::ino(root), row.encode());
            }
            if txn.read(Table::Listing, &key::ino(root))?.is_some() {
                txn.remove(Table::Listing, &key::ino(root))?;
            }
            txn.remove_plain(Table::Associations, &key::association(id));
            Ok(())
        })?;
        self.shared.association_roots.write().remove(&root);
        Ok(())
    }

    /// Removes some of what is noted of an association's objects; whether there is more.
    fn forget_objects(&self, id: AssociationId) -> Result<bool, MetaError> {
        let doomed = self.scan_keys(doomed_of(id), Table::Doomed)?;
        let uploads = self.uploads()?;
        let uploads: Vec<_> = uploads.into_iter().filter(|(_, key, _)| association_of(key) == id).take(STEP).collect();
        self.transact(|txn| {
            doomed.iter().for_each(|row| txn.remove_plain(Table::Doomed, row));
            uploads.iter().for_each(|(ino, object, _)| txn.remove_plain(Table::Uploads, &key::upload(*ino, object)));
            Ok(())
        })?;
        Ok(doomed.len() == STEP || uploads.len() == STEP)
    }

    fn scan_keys(&self, range: KeyRange, table: Table) -> Result<Vec<Vec<u8>>, MetaError> {
        let mut found = Vec::new();
        self.reading().view.scan(table, &range, Order::Ascending, &mut |key, _| {
            found.push(key.to_vec());
            if found.len() < STEP { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(found)
    }

    /// Removes some of what is noted of names that were removed in a directory here while the bucket has them; whether there is more.
    fn forget_removed_names(&self, dir: Ino) -> Result<bool, MetaError> {
        let mut names = Vec::new();
        self.reading().scan(Table::Whiteouts, &KeyRange::prefix(&key::ino(dir)), &mut |prefix, _| {
            names.push(prefix.to_vec());
            Ok(if names.len() < STEP { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        self.transact(|txn| names.iter().try_for_each(|name| txn.remove(Table::Whiteouts, name)))?;
        Ok(names.len() == STEP)
    }

    /// A file, symlink or directory whose bytes are all here, and whose entries are all known, comes from no bucket any more: it exists only here from now on.
    ///
    /// `false`: bytes of it are still only in the bucket.
    pub fn detach(&self, ino: Ino) -> Result<bool, MetaError> {
        if !self.is_all_here(ino)? && self.inode(ino)?.is_some_and(|row| row.kind == FileKind::File) {
            return Ok(false);
        }
        while self.forget_removed_names(ino)? {}
        self.transact(|txn| {
            let Some(mut row) = read_for_change(txn, ino)? else { return Ok(true) };
            let was = (row.origin.take(), row.local);
            row.local = true;
            if was == (None, true) {
                return Ok(true);
            }
            if row.kind == FileKind::File && row.size > 0 {
                row.base = Some(row.base.unwrap_or(row.size));
            }
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            if row.kind == FileKind::Directory && txn.read(Table::Listing, &key::ino(ino))?.is_some() {
                txn.remove(Table::Listing, &key::ino(ino))?;
            }
            Ok(true)
        })
    }
}
