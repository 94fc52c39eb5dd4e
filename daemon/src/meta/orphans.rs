//! Freeing inodes that have lost their name.
//!
//! Orphans are rows of their own, written in the transaction that took the name away, so a restart finds them. A directory
//! that went with its prefix passes its entries on as orphans, a bounded number per transaction, before it goes itself; so
//! a tree of any size is freed in small steps, and stopping anywhere in between loses nothing.

use super::dir::{read_dirents, whole_directory};
use super::engine::{KeyRange, Order, Table};
use super::listing::kind_of;
use super::quota::Spending;
use super::rows::{Txn, damaged};
use super::{FileKind, MetaError, MetaStore};
use crate::format::rows::{RowError, key};
use crate::ids::Ino;
use std::ops::ControlFlow;

/// Rows removed in one transaction, at most (one more for each of a few single rows).
const ROWS_PER_STEP: usize = 1000;

/// How far a transaction came with one orphan.
#[derive(PartialEq, Eq)]
enum Progress {
    /// There is more to remove.
    More,
    /// It is gone; whether its inode existed until now.
    Gone(bool),
}

impl MetaStore {
    /// Frees inodes without a name (their rows and file maps) that `in_use` does not hold on to. `release` gets the fingerprints of
    /// blocks that nothing refers to any more.
    pub fn free_orphans(&self, in_use: &dyn Fn(Ino) -> bool, release: &mut dyn FnMut(Vec<u64>)) -> Result<u64, MetaError> {
        let mut freed = 0;
        let mut after = None;
        // Entries of a freed directory can have smaller numbers than it has: pass again until a pass frees nothing.
        let mut freed_in_pass = 0;
        loop {
            let Some(ino) = self.next_orphan(after)? else {
                if freed_in_pass == 0 {
                    return Ok(freed);
                }
                (after, freed_in_pass) = (None, 0);
                continue;
            };
            after = Some(ino);
            if in_use(ino) {
                continue;
            }
            freed_in_pass += 1;
            freed += u64::from(self.free(ino, release)?);
        }
    }

    fn next_orphan(&self, after: Option<Ino>) -> Result<Option<Ino>, MetaError> {
        let start = after.map_or(Vec::new(), |ino| key::ino(Ino(ino.0 + 1)).to_vec());
        let mut found = None;
        self.reading().view.scan(Table::Orphans, &KeyRange { start, end: None }, Order::Ascending, &mut |key, _| {
            found = Some(key::leading_ino(key).ok_or_else(|| damaged(Table::Orphans)(RowError::Field("key"))));
            ControlFlow::Break(())
        })?;
        found.transpose()
    }

    fn free(&self, ino: Ino, release: &mut dyn FnMut(Vec<u64>)) -> Result<bool, MetaError> {
        loop {
            let (progress, released) = self.transact_releasing(&Spending::default(), |txn| free_step(txn, ino))?;
            if !released.is_empty() {
                release(released);
            }
            if let Progress::Gone(existed) = progress {
                return Ok(existed);
            }
        }
    }
}

fn free_step(txn: &mut Txn<'_>, ino: Ino) -> Result<Progress, MetaError> {
    let at = key::ino(ino);
    let kind = kind_of(txn.read(Table::Inodes, &at)?.as_deref())?;
    let more = match kind {
        Some(FileKind::Directory) => {
            if txn.read_plain(Table::Clones, &at)?.is_some() {
                txn.remove_plain(Table::Clones, &at);
            }
            orphan_entries(txn, ino)?
        }
        Some(_) => remove_rows(txn, Table::FileMap, ino)?,
        None => false,
    };
    let more = more || remove_rows(txn, Table::Xattrs, ino)? || remove_rows(txn, Table::Whiteouts, ino)?;
    if more {
        return Ok(Progress::More);
    }
    match kind {
        Some(FileKind::Directory) => {
            txn.remove(Table::Listing, &at)?;
            super::hidden::replace(txn, ino, (None, None), &[])?;
        }
        Some(FileKind::Symlink) => txn.remove(Table::Symlinks, &at)?,
        Some(_) | None => {}
    }
    super::intent::remove_all(txn, ino)?;
    txn.remove(Table::Inodes, &at)?;
    txn.remove_plain(Table::Pins, &at);
    txn.remove_plain(Table::Orphans, &at);
    Ok(Progress::Gone(kind.is_some()))
}

/// Turns entries of a directory into orphans; whether there may be more.
fn orphan_entries(txn: &mut Txn<'_>, dir: Ino) -> Result<bool, MetaError> {
    let entries = read_dirents(txn.reading(), &whole_directory(dir), ROWS_PER_STEP)?;
    for (name, dirent) in &entries {
        let at = key::dirent(dir, name);
        txn.depend(Table::Dirents, &at)?;
        txn.remove(Table::Dirents, &at)?;
        txn.orphan(dirent.ino);
    }
    Ok(entries.len() == ROWS_PER_STEP)
}

/// Removes rows of an inode from a table; whether there may be more.
pub(super) fn remove_rows(txn: &mut Txn<'_>, table: Table, ino: Ino) -> Result<bool, MetaError> {
    let mut prefixes = Vec::new();
    txn.reading().scan(table, &KeyRange::prefix(&key::ino(ino)), &mut |prefix, _| {
        prefixes.push(prefix.to_vec());
        Ok(if prefixes.len() < ROWS_PER_STEP { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    for prefix in &prefixes {
        // Somebody may still be adding to the map: then this is done again.
        txn.depend(table, prefix)?;
        txn.remove(table, prefix)?;
    }
    Ok(prefixes.len() == ROWS_PER_STEP)
}
