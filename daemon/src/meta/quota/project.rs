//! Which project a directory is in: that of the nearest directory at or above it that has project limits.

use super::Quotas;
use crate::format::rows::{FileKind, InodeRow};
use crate::ids::Ino;
use crate::meta::dir::{read_dirents, whole_directory};
use crate::meta::rows::Txn;
use crate::meta::{MetaError, Refusal};

/// Inodes looked at to move a directory from one project to another in one transaction; beyond, it has to be copied.
pub(in crate::meta) const MOVED_AT_ONCE: usize = 10_000;

/// The project of something that is in the tree, or that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) enum Found {
    Is(Option<Ino>),
    /// It has lost its place in the tree.
    Nowhere,
}

/// Reads the row of a directory.
pub(in crate::meta) type RowOf<'a> = dyn FnMut(Ino) -> Result<Option<InodeRow>, MetaError> + 'a;

/// Finds projects.
pub(in crate::meta) struct Projects<'a> {
    pub quotas: &'a Quotas,
    /// Whether answers may come from memory, and be kept there: not while directories move, and not without the gate.
    pub remember: bool,
}

impl Quotas {
    /// Has everything below a directory counted again that is in the same project as the directory. What lies below another project's
    /// directory stays there.
    pub fn recount_below(&self, txn: &mut Txn<'_>, dir: Ino) -> Result<(), MetaError> {
        let (mut directories, mut seen) = (vec![dir], 0);
        while let Some(dir) = directories.pop() {
            if self.is_root(dir) {
                continue;
            }
            let entries = read_dirents(txn.reading(), &whole_directory(dir), MOVED_AT_ONCE + 1 - seen)?;
            seen += entries.len();
            if seen > MOVED_AT_ONCE {
                return Err(Refusal::CrossesProjects.into());
            }
            for (_, entry) in entries {
                txn.recount(entry.ino);
                if entry.kind == FileKind::Directory {
                    directories.push(entry.ino);
                }
            }
        }
        Ok(())
    }
}

impl Projects<'_> {
    /// The project of an inode.
    pub fn of(&self, ino: Ino, row: &InodeRow, row_of: &mut RowOf<'_>) -> Result<Found, MetaError> {
        if !self.quotas.has_roots() {
            return Ok(Found::Is(None));
        }
        match &row.link {
            _ if row.kind == FileKind::Directory && self.quotas.is_root(ino) => Ok(Found::Is(Some(ino))),
            Some(link) => self.of_directory(link.parent, row_of),
            None => Ok(if ino == Ino::ROOT { Found::Is(None) } else { Found::Nowhere }),
        }
    }

    /// The project of what is in a directory.
    pub fn of_directory(&self, dir: Ino, row_of: &mut RowOf<'_>) -> Result<Found, MetaError> {
        let (mut at, mut passed) = (dir, Vec::new());
        let project = loop {
            if self.quotas.is_root(at) {
                break Some(at);
            }
            if self.remember
                && let Some(known) = self.quotas.remembered(at)
            {
                break known;
            }
            passed.push(at);
            if at == Ino::ROOT {
                break None;
            }
            match row_of(at)?.and_then(|row| row.link) {
                Some(link) => at = link.parent,
                None => return Ok(Found::Nowhere),
            }
        };
        if self.remember && !passed.is_empty() {
            self.quotas.remember(&passed, project);
        }
        Ok(Found::Is(project))
    }
}
