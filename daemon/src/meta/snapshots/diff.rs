//! What differs between two trees: of two snapshots, or of a snapshot and now.
//!
//! The log of rows that were written over says where to look, so the cost follows what changed between the two and not what there is. A row in it need not
//! have changed anything that can be seen (blocks that were cached, files that were exported): each is looked at in both trees.
//!
//! Invariants:
//! 1. Whatever differs is told: names, kinds, contents, and of attributes the mode, the owner, the time of modification (not of directories) and extended
//!    attributes. Where the rows cannot tell whether contents are the same, they are told to differ.
//! 2. A name that is in one tree only is told once: as added, as removed, as one end of a renaming, or, where the other tree has something else of its kind in
//!    its place, as changed or not at all.
//! 3. What is below a renamed directory has the path that follows from the renaming, unless it is told of by itself; what is below an added or removed
//!    directory is told of by itself.

mod compare;
mod content;
mod matching;
mod side;

use super::SnapshotRow;
use crate::format::rows::{RowError, key};
use crate::ids::{Epoch, Ino};
use crate::meta::engine::{KeyRange, Order, Table, View};
use crate::meta::rows::{damaged, epoch_of};
use crate::meta::{FileKind, MetaError, MetaStore, Refusal};
use compare::{Touched, compare, compare_others};
use matching::match_names;
use side::{Entry, Side};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

/// How one thing differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Differs {
    /// Only the first tree has it.
    Removed,
    /// Only the second tree has it.
    Added,
    /// It has another name, or is in another directory.
    Renamed {
        /// Its path in the first tree.
        from: Vec<u8>,
    },
    /// The content is another, or may be; of a symlink the target.
    Content,
    /// The content is the same, attributes are not.
    Attributes,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where it is in the second tree, below the directory that the snapshots are of; of what was removed, where it was in the first.
    pub path: Vec<u8>,
    /// What it is in that tree.
    pub kind: FileKind,
    /// How it differs.
    pub differs: Differs,
}

/// What the log says may differ.
#[derive(Default)]
pub(super) struct Candidates {
    names: BTreeSet<(Ino, Vec<u8>)>,
    inodes: BTreeMap<Ino, Touched>,
}

impl MetaStore {
    /// What differs between a snapshot and another one (older or younger), or the tree as it is recorded now; in byte order of the paths.
    ///
    /// # Errors
    /// `NotFound` if one of them was deleted, `Invalid` if they are of different directories, `NotDirectory` if their directory is no more.
    pub fn diff(&self, one: &SnapshotRow, other: Option<&SnapshotRow>) -> Result<Vec<Difference>, MetaError> {
        let view = self.engine().view();
        // After the view: what is deleted from here on is still in it.
        if [Some(one), other].into_iter().flatten().any(|snapshot| !self.is_kept(snapshot.epoch)) {
            return Err(Refusal::NotFound.into());
        }
        if other.is_some_and(|other| other.root != one.root) {
            return Err(Refusal::Invalid("the snapshots are of different directories").into());
        }
        let now = epoch_of(&*view)?.unwrap_or(Epoch::FIRST);
        let (first, second) = (one.epoch, other.map_or(now, |other| other.epoch));
        let mut from = Side::new(&*view, first, one.root);
        let mut to = Side::new(&*view, second, one.root);
        if !to.is_rooted()? {
            return Err(Refusal::NotDirectory.into());
        }
        let candidates = candidates(&*view, first.min(second), first.max(second))?;
        let mut found = differences(&candidates, &mut from, &mut to)?;
        found.sort_unstable_by(|a, b| (&a.path, &a.differs).cmp(&(&b.path, &b.differs)));
        Ok(found)
    }
}

impl Candidates {
    /// The names, and the inodes.
    pub(super) fn into_places(self) -> (BTreeSet<(Ino, Vec<u8>)>, BTreeSet<Ino>) {
        (self.names, self.inodes.into_keys().collect())
    }
}

/// What was written after one epoch ended and until another did.
pub(super) fn candidates(view: &dyn View, after: Epoch, until: Epoch) -> Result<Candidates, MetaError> {
    let bound = |epoch: Epoch| key::rewritten(Epoch(epoch.0 + 1), 0, &[]);
    let range = KeyRange { start: bound(after), end: Some(bound(until)) };
    let (mut found, mut is_damaged) = (Candidates::default(), false);
    view.scan(Table::Rewritten, &range, Order::Ascending, &mut |row, _| {
        is_damaged |= note(&mut found, row).is_none();
        ControlFlow::Continue(())
    })?;
    if is_damaged { Err(damaged(Table::Rewritten)(RowError::Field("key"))) } else { Ok(found) }
}

fn note(found: &mut Candidates, row: &[u8]) -> Option<()> {
    let (_, table, prefix) = key::split_rewritten(row)?;
    let ino = key::leading_ino(prefix)?;
    match Table::from_number(table)? {
        Table::Dirents => {
            found.names.insert((ino, key::dirent_name(prefix)?.to_vec()));
        }
        Table::Inodes | Table::Symlinks => {
            found.inodes.entry(ino).or_default();
        }
        Table::Xattrs => found.inodes.entry(ino).or_default().xattrs = true,
        Table::FileMap => {
            let chunk = key::leading_ino(prefix.get(8..)?)?.0;
            found.inodes.entry(ino).or_default().chunks.insert(chunk);
        }
        // What is known of the bucket; further names of files have an entry each besides.
        _ => {}
    }
    Some(())
}

fn differences(candidates: &Candidates, from: &mut Side<'_>, to: &mut Side<'_>) -> Result<Vec<Difference>, MetaError> {
    let (lost, gained) = changed_names(&candidates.names, from, to)?;
    let names = match_names(lost, gained, from, to)?;
    let mut found = Vec::new();
    // Places of which all was said.
    let mut told: HashSet<(Ino, Vec<u8>)> = HashSet::new();
    for (was, is) in names.renamed {
        found.push(Difference { path: to.path(&is)?, kind: is.kind, differs: Differs::Renamed { from: from.path(&was)? } });
    }
    for entry in names.removed {
        found.push(Difference { path: from.path(&entry)?, kind: entry.kind, differs: Differs::Removed });
    }
    for entry in names.added {
        found.push(Difference { path: to.path(&entry)?, kind: entry.kind, differs: Differs::Added });
        told.insert((entry.parent, entry.name));
    }
    for (was, is) in names.replaced {
        if let Some(differs) = compare_others((&*from, was.ino), (&*to, is.ino))? {
            found.push(Difference { path: to.path(&is)?, kind: is.kind, differs });
        }
        told.insert((is.parent, is.name));
    }
    for (ino, touched) in &candidates.inodes {
        let Some(differs) = compare(from, to, *ino, touched)? else { continue };
        if from.names(*ino)?.is_empty() {
            continue;
        }
        for name in to.names(*ino)?.into_iter().filter(|name| !told.contains(&(name.parent, name.name.clone()))) {
            found.push(Difference { path: to.path(&name)?, kind: name.kind, differs: differs.clone() });
        }
    }
    Ok(found)
}

/// The names that only the first tree has, and those that only the second one has.
fn changed_names(
    names: &BTreeSet<(Ino, Vec<u8>)>,
    from: &mut Side<'_>,
    to: &mut Side<'_>,
) -> Result<(Vec<Entry>, Vec<Entry>), MetaError> {
    let (mut lost, mut gained) = (Vec::new(), Vec::new());
    for (parent, name) in names {
        let (was, is) = (from.lookup(*parent, name)?, to.lookup(*parent, name)?);
        let is_same = was.as_ref().map(|entry| entry.ino) == is.as_ref().map(|entry| entry.ino);
        // What is in a directory that only one tree has is found below the name that the other lacks.
        if is_same || !from.has_directory(*parent)? || !to.has_directory(*parent)? {
            continue;
        }
        if let Some(entry) = was {
            all_below(entry, from, to, &mut lost)?;
        }
        if let Some(entry) = is {
            all_below(entry, to, from, &mut gained)?;
        }
    }
    Ok((lost, gained))
}

/// A name that only one tree has, with all those in directories below it that only this tree has.
fn all_below(top: Entry, here: &Side<'_>, there: &mut Side<'_>, found: &mut Vec<Entry>) -> Result<(), MetaError> {
    let mut left = vec![top];
    while let Some(entry) = left.pop() {
        if entry.kind == FileKind::Directory && !there.has_directory(entry.ino)? {
            left.extend(here.entries(entry.ino)?);
        }
        found.push(entry);
    }
    Ok(())
}
