//! What hangs below a directory that the store no longer lists.

use super::dir::{dangling, read_dirents, whole_directory};
use super::engine::Table;
use super::inode::read_for_change;
use super::rows::Txn;
use super::{FileKind, MetaError};
use crate::format::rows::key;
use crate::ids::Ino;

/// Entries looked at: all of them are preconditions of the transaction.
const ENTRIES_MAX: usize = 20_000;

/// Whether a directory has anything below it that exists only here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// All of it was the store's.
    Nothing,
    /// Something was made, moved or written here.
    Ours,
    /// It is too much to look at in one transaction.
    TooMuch,
}

/// Looks at all that is known below a directory. The transaction fails if any of it changes meanwhile.
pub(super) fn holds_ours(txn: &mut Txn<'_>, dir: Ino) -> Result<Holds, MetaError> {
    let (mut below, mut seen) = (vec![dir], 0);
    while let Some(dir) = below.pop() {
        // Whoever enters something into it writes its row.
        txn.depend(Table::Inodes, &key::ino(dir))?;
        let entries = read_dirents(txn.reading(), &whole_directory(dir), ENTRIES_MAX + 1 - seen)?;
        seen += entries.len();
        if seen > ENTRIES_MAX {
            return Ok(Holds::TooMuch);
        }
        for (name, dirent) in entries {
            let row = read_for_change(txn, dirent.ino)?.ok_or_else(|| dangling(dir, dirent.ino))?;
            let is_own_name = row.link.as_ref().is_some_and(|link| link.parent == dir && link.name == name);
            if row.local || row.base.is_some() || !is_own_name {
                return Ok(Holds::Ours);
            }
            if row.kind == FileKind::Directory {
                below.push(dirent.ino);
            }
        }
    }
    Ok(Holds::Nothing)
}
