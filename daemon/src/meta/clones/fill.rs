//! Making the entries of clones: those that somebody asks for, and the rest in the background.

use super::copy::Copying;
use super::{decode_clone, first_unfinished, read_clone};
use crate::format::rows::{CloneRow, key};
use crate::ids::Ino;
use crate::meta::engine::{KeyRange, Order, Table};
use crate::meta::names::entry;
use crate::meta::{FileKind, MetaError, MetaStore, dir};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

/// Entries made in one transaction.
const STEP: usize = 256;
/// Rows after which a transaction takes no further entry.
const ROWS: usize = 8192;

impl MetaStore {
    /// Has a name be there that a clone's directory is to have.
    pub(in crate::meta) fn ensure_entry(&self, parent: Ino, name: &[u8]) -> Result<bool, MetaError> {
        let Some(clone) = self.unfinished(parent)?.filter(|clone| name > clone.after.as_slice()) else { return Ok(false) };
        let old = self.as_it_was(clone.epoch);
        let Some(dirent) = dir::lookup(&old, clone.source, name)? else { return Ok(false) };
        let number = Ino(self.take_inos(1)?.start);
        self.transact(|txn| {
            // All of them may have been made meanwhile, and this one have been removed since.
            let Some(clone) = read_clone(txn, parent)?.filter(|clone| name > clone.after.as_slice()) else { return Ok(()) };
            if entry(txn, parent, name)?.is_some() {
                return Ok(());
            }
            let row = crate::meta::inode::read_inode(&old, dirent.ino)?.ok_or_else(|| dir::dangling(clone.source, dirent.ino))?;
            Copying::new(&old, clone.root, clone.made_ns).copy(txn, (parent, name), (dirent.ino, row), number)?;
            Ok(())
        })?;
        Ok(true)
    }

    /// Has a directory be as it is to be before a name is taken from it, and know whether what has the name is empty.
    pub(in crate::meta) fn before_removal(&self, parent: Ino, name: &[u8]) -> Result<(), MetaError> {
        if !self.shared.clones.any() {
            return Ok(());
        }
        self.finish_directory(parent)?;
        self.before_replacement(parent, name)
    }

    /// The same where the name stays and what has it goes.
    pub(in crate::meta) fn before_replacement(&self, parent: Ino, name: &[u8]) -> Result<(), MetaError> {
        if !self.shared.clones.any() {
            return Ok(());
        }
        self.ensure_entry(parent, name)?;
        let found = dir::lookup(&self.reading(), parent, name)?;
        if let Some(dirent) = found.filter(|dirent| dirent.kind == FileKind::Directory) {
            while self.unfinished(dirent.ino)?.is_some() && dir::read_dir(&self.reading(), dirent.ino, None, 1)?.is_empty() {
                self.fill_step(dirent.ino)?;
            }
        }
        Ok(())
    }

    /// Makes all entries of a directory.
    pub(in crate::meta) fn finish_directory(&self, dir: Ino) -> Result<(), MetaError> {
        while self.unfinished(dir)?.is_some() {
            self.fill_step(dir)?;
        }
        Ok(())
    }

    /// A directory's row if it has entries still to be made.
    pub(in crate::meta) fn unfinished(&self, dir: Ino) -> Result<Option<CloneRow>, MetaError> {
        if !self.shared.clones.any() || dir.is_frozen() {
            return Ok(None);
        }
        self.engine().view().get(Table::Clones, &key::ino(dir))?.map(|row| decode_clone(&row)).transpose()
    }

    /// Makes entries of unfinished clones until all are made or `stop` says so; whether all are.
    pub fn finish_clones(&self, stop: &dyn Fn() -> bool) -> Result<bool, MetaError> {
        while self.shared.clones.any() {
            if stop() {
                return Ok(false);
            }
            match first_unfinished(&*self.engine().view())? {
                Some(dir) => self.fill_step(dir)?,
                None => self.end_clones()?,
            }
        }
        Ok(true)
    }

    /// Nothing is left to be made: what only the making needed goes.
    fn end_clones(&self) -> Result<(), MetaError> {
        let _alone = self.shared.clones.beginning.write();
        let view = self.engine().view();
        if first_unfinished(&*view)?.is_some() {
            return Ok(());
        }
        let mut twins = Vec::new();
        view.scan(Table::Twins, &KeyRange { start: Vec::new(), end: None }, Order::Ascending, &mut |key, _| {
            twins.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        drop(view);
        for some in twins.chunks(ROWS) {
            self.transact(|txn| {
                some.iter().for_each(|key| txn.remove_plain(Table::Twins, key));
                Ok(())
            })?;
        }
        self.shared.clones.may_be_unfinished.store(false, Ordering::Release);
        Ok(())
    }

    /// Makes some more entries of a directory, in the order of names.
    pub(in crate::meta) fn fill_step(&self, dir: Ino) -> Result<(), MetaError> {
        let numbers = self.take_inos(STEP as u64)?;
        self.transact(|txn| {
            let Some(mut clone) = read_clone(txn, dir)? else { return Ok(()) };
            let old = self.as_it_was(clone.epoch);
            let after = Some(clone.after.as_slice()).filter(|after| !after.is_empty());
            let entries = dir::read_dir(&old, clone.source, after, STEP)?;
            let (found, mut done) = (entries.len(), 0);
            let mut copying = Copying::new(&old, clone.root, clone.made_ns);
            for ((name, from, row), number) in entries.into_iter().zip(numbers.clone()) {
                if copying.rows > ROWS {
                    break;
                }
                // What was asked for by name is there, and what was made here under a name that nobody had stays.
                if entry(txn, dir, &name)?.is_none() {
                    copying.copy(txn, (dir, &name), (from, row), Ino(number))?;
                }
                (done, clone.after) = (done + 1, name);
            }
            if done == found && found < STEP {
                txn.remove_plain(Table::Clones, &key::ino(dir));
            } else {
                txn.write_plain(Table::Clones, &key::ino(dir), clone.encode());
            }
            Ok(())
        })
    }
}
