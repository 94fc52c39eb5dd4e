//! Who borrows an object: before it is replaced or deleted by this file system, they get their bytes.

use crate::format::rows::{encode_text, key};
use crate::ids::Ino;
use crate::meta::engine::{KeyRange, Order, Table};
use crate::meta::inode::read_inode;
use crate::meta::rows::Txn;
use crate::meta::{MetaError, MetaStore};
use std::ops::ControlFlow;

/// Borrowers looked at in one step.
const STEP: usize = 256;

/// Files that borrow an object, some at a time.
pub type Borrowers = Vec<Ino>;

pub(in crate::meta) fn enter(txn: &mut Txn<'_>, object_key: &str, ino: Ino) {
    txn.write_plain(Table::Borrowers, &key::borrower(object_key, ino), encode_text(b""));
}

impl MetaStore {
    /// Files that need an object which is not their own: not all of their bytes are here. At most some; who no longer borrows it is forgotten.
    pub fn borrowers_in_need(&self, object_key: &str) -> Result<Borrowers, MetaError> {
        let mut needy = Borrowers::new();
        let mut after = None;
        loop {
            let page = self.borrowers_after(object_key, after)?;
            let mut done = Vec::new();
            for &ino in &page {
                match self.borrows(ino, object_key)? {
                    true if !self.is_all_here(ino)? => needy.push(ino),
                    true => {}
                    false => done.push(ino),
                }
            }
            self.forget_borrowers(object_key, &done)?;
            after = page.last().copied();
            if page.len() < STEP || !needy.is_empty() {
                return Ok(needy);
            }
        }
    }

    fn borrowers_after(&self, object_key: &str, after: Option<Ino>) -> Result<Vec<Ino>, MetaError> {
        let mut found = Vec::new();
        let everybody = KeyRange::prefix(&key::borrowers(object_key));
        let start = after.map_or(everybody.start.clone(), |after| key::borrower(object_key, Ino(after.0 + 1)));
        self.engine().view().scan(Table::Borrowers, &KeyRange { start, ..everybody }, Order::Ascending, &mut |key, _| {
            found.extend(key::split_borrower(key, object_key));
            if found.len() < STEP { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(found)
    }

    fn borrows(&self, ino: Ino, object_key: &str) -> Result<bool, MetaError> {
        let row = read_inode(&self.reading(), ino)?.filter(|row| row.borrowed && row.nlink > 0);
        Ok(row.and_then(|row| row.origin).is_some_and(|origin| origin.key == object_key))
    }

    fn forget_borrowers(&self, object_key: &str, done: &[Ino]) -> Result<(), MetaError> {
        if done.is_empty() {
            return Ok(());
        }
        self.transact(|txn| {
            for ino in done {
                // What is no longer borrowed is not borrowed again.
                txn.remove_plain(Table::Borrowers, &key::borrower(object_key, *ino));
            }
            Ok(())
        })
    }
}
