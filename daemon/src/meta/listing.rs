//! Merging listing pages into the tree: a pure plan (a merge-join of what is there with what the page says), then its writes.

use super::changes::{is_anything_doomed, is_doomed};
use super::dir::{dangling, read_dirents, read_inodes};
use super::engine::{KeyRange, Table};
use super::import::{Accept, Conflict, ConflictKind, ListedPart, Merged, Missing};
use super::inode::{decode_inode, read_for_change};
use super::names::{count_links, links_of};
use super::rows::{Txn, damaged};
use super::subtree::{Holds, holds_ours};
use super::{Change, DefaultAttrs, Dirent, FileKind, ListedEntry, ListedNode, ListingState, MetaError, MetaStore};
use crate::format::rows::{InodeRow, Link, decode_text, key};
use crate::ids::Ino;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Names from the first (inclusive) to the second (exclusive).
type Covers = (Option<Vec<u8>>, Option<Vec<u8>>);

/// An entry that is in the directory already.
struct Existing {
    name: Vec<u8>,
    dirent: Dirent,
    inode: InodeRow,
    /// It was sent to the store while this was asked: what is known here is newer.
    was_sent: bool,
}

/// What has to happen to one name.
enum Step<'a> {
    Add(&'a ListedEntry),
    Replace(&'a ListedEntry, Dirent),
    Remove(Vec<u8>, Dirent),
    /// What was exported is what the store has: from now on listings are about it.
    Adopt(Ino),
    /// The store no longer has this directory, and something below it exists only here: from now on it does, too.
    Keep(Ino),
    /// A directory that is too large to be judged now: what is below it goes when somebody looks inside, and it at the next listing.
    Leave,
    /// An unchanged file whose object's metadata is not known yet.
    Unread(Ino),
    /// Changed on both sides.
    Disagree(Conflict),
    /// A directory that stayed when the store lost it, and that the store still lacks.
    Bereft(Ino),
}

impl Step<'_> {
    /// By how much it changes the number of subdirectories.
    fn links(&self) -> i32 {
        let listed = |entry: &ListedEntry| i32::from(entry.node == ListedNode::Directory);
        match self {
            Step::Add(entry) => listed(entry),
            Step::Replace(entry, old) => listed(entry) - links_of(old.kind),
            Step::Remove(_, old) => -links_of(old.kind),
            Step::Keep(_) | Step::Adopt(_) | Step::Leave | Step::Unread(_) | Step::Disagree(_) | Step::Bereft(_) => 0,
        }
    }
}

impl Existing {
    /// Whether this entry is what the store had under this name, and nothing more: what was made, moved or written here is never
    /// touched by a listing.
    fn is_from_store(&self) -> bool {
        let own = self.inode.link.as_ref().is_some_and(|link| link.name == self.name);
        own && !self.was_sent && !self.inode.local && self.inode.base.is_none()
    }

    fn is_unread(&self) -> bool {
        self.inode.kind == FileKind::File && !self.inode.posix_known
    }

    /// Whether a file that listings had nothing to say of, being exported below a directory that was moved, is what the store has.
    fn is_as_exported(&self, node: &ListedNode) -> bool {
        let own = self.inode.link.as_ref().is_some_and(|link| link.name == self.name);
        let is_ours = self.inode.base.is_some() || self.inode.attrs_changed || self.was_sent;
        own && self.inode.local && !is_ours && self.inode.kind != FileKind::Directory && self.is_still(node)
    }

    /// How what was made or changed here under this name contradicts what the store has there, if it does.
    fn conflict(&self, listed: Option<&ListedNode>) -> Option<ConflictKind> {
        let row = &self.inode;
        let is_ours = row.local || row.base.is_some();
        let own = row.link.as_ref().is_some_and(|link| link.name == self.name);
        if !is_ours || !own || self.was_sent {
            return None;
        }
        let is_directory = row.kind == FileKind::Directory;
        match listed {
            // What was made here, or moved here, was never there.
            None => (!is_directory && !row.local && row.origin.is_some()).then_some(ConflictKind::Deleted),
            Some(ListedNode::Directory) => (!is_directory).then_some(ConflictKind::Changed),
            Some(ListedNode::File { origin, .. }) => {
                let is_known = row.origin.as_ref().is_some_and(|known| known.etag == origin.etag && known.key == origin.key);
                (is_directory || !is_known).then_some(ConflictKind::Changed)
            }
        }
    }

    fn disagrees<'a>(&self, listed: Option<&ListedNode>) -> Option<Step<'a>> {
        let kind = self.conflict(listed)?;
        Some(Step::Disagree(Conflict { name: self.name.clone(), ino: self.dirent.ino, kind }))
    }

    /// Whether this is a directory that listings were about until something below it was made or changed here.
    fn was_in_store(&self) -> bool {
        let row = &self.inode;
        row.kind == FileKind::Directory && row.base.is_some() && (!row.local || row.origin.is_some())
    }

    fn is_still(&self, node: &ListedNode) -> bool {
        match (self.inode.kind, node) {
            (FileKind::Directory, ListedNode::Directory) => true,
            // A symlink is listed as the object that holds its target.
            (FileKind::File | FileKind::Symlink, ListedNode::File { size, origin, .. }) => {
                self.inode.size == *size
                    && self.inode.origin.as_ref().is_some_and(|o| o.etag == origin.etag && o.key == origin.key)
            }
            _ => false,
        }
    }
}

/// Joins two lists that are sorted by name.
fn plan<'a>(existing: Vec<Existing>, entries: &[&'a ListedEntry], accept: Accept) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    let mut existing = existing.into_iter().peekable();
    let mut entries = entries.iter().copied().peekable();
    loop {
        let order = match (existing.peek(), entries.peek()) {
            (None, None) => return steps,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.name.cmp(&new.name),
        };
        let old = if order.is_le() { existing.next() } else { None };
        let new = if order.is_ge() { entries.next() } else { None };
        match (old, new) {
            (None, Some(new)) if accept.new => steps.push(Step::Add(new)),
            (Some(old), None) if old.is_from_store() => {
                if accept.deleted {
                    steps.push(Step::Remove(old.name, old.dirent));
                }
            }
            (Some(old), None) if old.was_in_store() => steps.push(Step::Bereft(old.dirent.ino)),
            (Some(old), None) => steps.extend(old.disagrees(None)),
            (Some(old), Some(new)) if old.is_as_exported(&new.node) => steps.push(Step::Adopt(old.dirent.ino)),
            (Some(old), Some(new)) if old.is_from_store() && !old.is_still(&new.node) => {
                if accept.changed {
                    steps.push(Step::Replace(new, old.dirent));
                }
            }
            (Some(old), Some(_)) if old.is_from_store() && old.is_unread() => steps.push(Step::Unread(old.dirent.ino)),
            (Some(old), Some(new)) => steps.extend(old.disagrees(Some(&new.node))),
            (None, _) => {}
        }
    }
}

/// Keeps directories that are to go or to be replaced, but have something below them that exists only here.
fn spare_ours<'a>(txn: &mut Txn<'_>, steps: Vec<Step<'a>>) -> Result<Vec<Step<'a>>, MetaError> {
    let spare = |step: Step<'a>| match &step {
        Step::Remove(_, old) | Step::Replace(_, old) if old.kind == FileKind::Directory => Ok(match holds_ours(txn, old.ino)? {
            Holds::Nothing => step,
            Holds::Ours => Step::Keep(old.ino),
            Holds::TooMuch => Step::Leave,
        }),
        _ => Ok(step),
    };
    steps.into_iter().map(spare).collect()
}

/// Refuses pages that would break the order of the directory.
fn check_page(covers: &Covers, entries: &[ListedEntry]) -> Result<(), MetaError> {
    let bad = |why| Err(MetaError::BadListing { why });
    if !entries.iter().all(|entry| key::is_name(&entry.name)) {
        return bad("a name is empty, too long, or holds '/' or NUL");
    }
    if !entries.is_sorted_by(|a, b| a.name < b.name) {
        return bad("names are not in ascending order");
    }
    let below = entries.first().zip(covers.0.as_ref()).is_some_and(|(first, from)| first.name < *from);
    let above = entries.last().zip(covers.1.as_ref()).is_some_and(|(last, to)| last.name >= *to);
    if below || above { bad("a name lies outside of what the page covers") } else { Ok(()) }
}

fn covered(parent: Ino, covers: &Covers) -> KeyRange {
    let whole = KeyRange::prefix(&key::ino(parent));
    KeyRange {
        start: covers.0.as_ref().map_or(whole.start, |from| key::dirents_from(parent, from)),
        end: covers.1.as_ref().map_or(whole.end, |to| Some(key::dirents_from(parent, to))),
    }
}

fn existing(txn: &Txn<'_>, parent: Ino, covers: &Covers, was_sent: &dyn Fn(Ino) -> bool) -> Result<Vec<Existing>, MetaError> {
    let entries = read_dirents(txn.reading(), &covered(parent, covers), usize::MAX)?;
    let inodes = read_inodes(txn.reading(), entries.iter().map(|(_, dirent)| dirent.ino))?;
    let join = |((name, dirent), inode): ((Vec<u8>, Dirent), Option<InodeRow>)| {
        let inode = inode.ok_or_else(|| dangling(parent, dirent.ino))?;
        Ok(Existing { name, inode, was_sent: was_sent(dirent.ino), dirent })
    };
    entries.into_iter().zip(inodes).map(join).collect()
}

/// The entries that no whiteout hides; whiteouts of what the store no longer has are removed.
fn settle_whiteouts<'a>(
    txn: &mut Txn<'_>,
    parent: Ino,
    covers: &Covers,
    entries: &'a [ListedEntry],
) -> Result<Vec<&'a ListedEntry>, MetaError> {
    let mut hidden = BTreeMap::new();
    txn.reading().scan(Table::Whiteouts, &covered(parent, covers), &mut |prefix, row| {
        let version = decode_text(row).map_err(damaged(Table::Whiteouts))?;
        hidden.insert(key::dirent_name(prefix).unwrap_or_default().to_vec(), version.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    let any_doomed = is_anything_doomed(txn)?;
    let mut shown = Vec::with_capacity(entries.len());
    for entry in entries {
        let version = match &entry.node {
            ListedNode::File { origin, .. } => origin.etag.as_bytes(),
            ListedNode::Directory => b"",
        };
        let lost_its_name = match &entry.node {
            ListedNode::File { origin, .. } if any_doomed => is_doomed(txn, origin)?,
            _ => false,
        };
        if lost_its_name {
            continue;
        }
        if hidden.get(&entry.name).is_some_and(|removed| removed == version) {
            hidden.remove(&entry.name);
        } else {
            shown.push(entry);
        }
    }
    for name in hidden.keys() {
        let at = key::dirent(parent, name);
        txn.depend(Table::Whiteouts, &at)?;
        txn.remove(Table::Whiteouts, &at)?;
    }
    Ok(shown)
}

/// The inode of an entry seen for the first time, or replaced.
fn new_inode(parent: Ino, entry: &ListedEntry, defaults: &DefaultAttrs, now_ns: i64) -> InodeRow {
    let link = Some(Link { parent, name: entry.name.clone() });
    let owner = (defaults.uid, defaults.gid);
    match &entry.node {
        ListedNode::File { size, modified_ns, origin } => {
            let row = InodeRow::new(FileKind::File, defaults.file_perm, owner, *modified_ns, link);
            InodeRow { size: *size, origin: Some(origin.clone()), ..row }
        }
        // Two links (its name and its own `.`); those of subdirectories come as they are listed.
        ListedNode::Directory => InodeRow::new(FileKind::Directory, defaults.dir_perm, owner, now_ns, link),
    }
}

impl MetaStore {
    /// Merges one page of a listing, in one transaction with the directory's new state.
    ///
    /// `entries` are sorted by name and complete for names in the half-open interval `covers` (`None` = unbounded):
    /// a name in it that the page lacks and that came from the store is removed, unless it is a directory below which something exists only
    /// here. A file whose ETag (or kind) differs gets a *new* inode, so that
    /// old and new bytes never share a page cache; an unchanged one keeps its inode and attributes, and is not rewritten.
    /// Inodes that lost their last name are kept while `in_use` says so, and freed by [`MetaStore::free_orphans`].
    /// A directory that is gone takes no entries: nothing changes.
    pub fn merge_listing(
        &self,
        parent: Ino,
        covers: (Option<Vec<u8>>, Option<Vec<u8>>),
        entries: &[ListedEntry],
        state: Option<&ListingState>,
        now_ns: i64,
    ) -> Result<Vec<Change>, MetaError> {
        self.merge_listing_asked(parent, covers, entries, state, now_ns, now_ns)
    }

    /// The same for a page that was asked for at `asked_ns`: about what was exported since it says nothing.
    pub fn merge_listing_asked(
        &self,
        parent: Ino,
        covers: (Option<Vec<u8>>, Option<Vec<u8>>),
        entries: &[ListedEntry],
        state: Option<&ListingState>,
        asked_ns: i64,
        now_ns: i64,
    ) -> Result<Vec<Change>, MetaError> {
        let part = ListedPart { parent, segments: vec![(covers, entries)], state, asked_ns };
        let merged = self.merge_parts(&[part], Missing::Remove, now_ns)?;
        Ok(merged.into_iter().flat_map(|merged| merged.changes).collect())
    }

    /// The same for several directories at once, each of which was there before; `missing` says what becomes of names that the store no
    /// longer has. One [`Merged`] for each.
    pub fn merge_parts(&self, parts: &[ListedPart<'_>], missing: Missing, now_ns: i64) -> Result<Vec<Merged>, MetaError> {
        self.merge_accepted(parts, &vec![missing.into(); parts.len()], now_ns)
    }

    /// The same, with what is taken over said for each part.
    pub fn merge_accepted(&self, parts: &[ListedPart<'_>], accept: &[Accept], now_ns: i64) -> Result<Vec<Merged>, MetaError> {
        assert_eq!(parts.len(), accept.len(), "each part says what is taken over");
        for (covers, entries) in parts.iter().flat_map(|part| &part.segments) {
            check_page(covers, entries)?;
        }
        for part in parts {
            self.finish_directory(part.parent)?;
        }
        self.transact(|txn| {
            txn.says_what_the_bucket_says();
            parts.iter().zip(accept).map(|(part, accept)| self.merge_part(txn, part, *accept, now_ns)).collect()
        })
    }

    fn merge_part(&self, txn: &mut Txn<'_>, part: &ListedPart<'_>, accept: Accept, now_ns: i64) -> Result<Merged, MetaError> {
        let parent = part.parent;
        let Some(mut directory) = read_for_change(txn, parent)?.filter(|row| row.kind == FileKind::Directory) else {
            return Ok(Merged::default());
        };
        let mut steps = Vec::new();
        for (covers, entries) in &part.segments {
            let shown = settle_whiteouts(txn, parent, covers, entries)?;
            steps.extend(plan(
                existing(txn, parent, covers, &|ino| self.was_exported_since(ino, part.asked_ns))?,
                &shown,
                accept,
            ));
        }
        let steps = spare_ours(txn, steps)?;
        let links: i32 = steps.iter().map(Step::links).sum();
        if links != 0 {
            count_links(&mut directory, links);
            txn.write(Table::Inodes, &key::ino(parent), directory.encode());
        }
        if let Some(state) = part.state {
            txn.write(Table::Listing, &key::ino(parent), state.encode());
        }
        self.apply(txn, parent, steps, now_ns)
    }

    fn apply(&self, txn: &mut Txn<'_>, parent: Ino, steps: Vec<Step<'_>>, now_ns: i64) -> Result<Merged, MetaError> {
        let fresh = steps.iter().filter(|step| matches!(step, Step::Add(_) | Step::Replace(..))).count();
        let mut numbers = self.take_inos(fresh as u64)?;
        let mut create = |txn: &mut Txn<'_>, entry: &ListedEntry, is_pinned: bool| {
            let ino = Ino(numbers.next().expect("one number was taken for each new inode"));
            let mut row = new_inode(parent, entry, self.defaults(), now_ns);
            if is_pinned && row.kind == FileKind::File {
                row.norelease = true;
                super::hsm::note_pin(txn, ino, &row);
            }
            let dirent = Dirent { ino, kind: row.kind };
            txn.write(Table::Inodes, &key::ino(ino), row.encode());
            txn.write(Table::Dirents, &key::dirent(parent, &entry.name), dirent.encode());
            ino
        };
        let mut merged = Merged { changes: Vec::with_capacity(steps.len()), ..Merged::default() };
        for step in steps {
            let listed = match &step {
                Step::Add(entry) | Step::Replace(entry, _) => matches!(entry.node, ListedNode::File { .. }),
                _ => false,
            };
            let change = match step {
                Step::Add(entry) => {
                    txn.depend_absent(Table::Dirents, &key::dirent(parent, &entry.name))?;
                    Change::Added { name: entry.name.clone(), ino: create(txn, entry, false) }
                }
                Step::Replace(entry, Dirent { ino: old, .. }) => {
                    txn.depend(Table::Dirents, &key::dirent(parent, &entry.name))?;
                    txn.orphan(old);
                    // Who pinned the file pinned what has its name, whatever the version.
                    let is_pinned = read_for_change(txn, old)?.is_some_and(|row| row.norelease);
                    Change::Replaced { name: entry.name.clone(), old, new: create(txn, entry, is_pinned) }
                }
                Step::Remove(name, Dirent { ino: old, .. }) => {
                    let at = key::dirent(parent, &name);
                    txn.depend(Table::Dirents, &at)?;
                    txn.remove(Table::Dirents, &at)?;
                    txn.orphan(old);
                    Change::Removed { name, old }
                }
                Step::Adopt(ino) => {
                    if let Some(mut row) = read_for_change(txn, ino)? {
                        row.local = false;
                        txn.write(Table::Inodes, &key::ino(ino), row.encode());
                    }
                    continue;
                }
                Step::Keep(dir) => {
                    if let Some(mut row) = read_for_change(txn, dir)? {
                        // As a file that was written: ours, with what the store has below it.
                        row.base = Some(0);
                        txn.write(Table::Inodes, &key::ino(dir), row.encode());
                    }
                    merged.bereft.push(dir);
                    continue;
                }
                Step::Bereft(dir) => {
                    merged.bereft.push(dir);
                    continue;
                }
                Step::Disagree(conflict) => {
                    merged.conflicts.push(conflict);
                    continue;
                }
                Step::Leave => {
                    merged.is_partial = true;
                    continue;
                }
                Step::Unread(ino) => {
                    merged.unread.push(ino);
                    continue;
                }
            };
            if let (true, Change::Added { ino, .. } | Change::Replaced { new: ino, .. }) = (listed, &change) {
                merged.unread.push(*ino);
            }
            merged.changes.push(change);
        }
        Ok(merged)
    }
}

/// The kind of an orphan that is about to be freed; `None` if its row is gone already.
pub(super) fn kind_of(row: Option<&[u8]>) -> Result<Option<FileKind>, MetaError> {
    row.map(|row| decode_inode(row).map(|row| row.kind)).transpose()
}
