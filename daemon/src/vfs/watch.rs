//! What watching a bucket needs of the name space: pages and single names taken over as a policy says, and told what came of it.
//!
//! A directory in which nobody has looked takes no new names: whoever looks asks the store first. What was asked of it name by name is kept as
//! the store has it, and negative answers are forgotten.

use super::directory::Directory;
use super::import::ImportDir;
use super::{ImportPart, Inner, Unread, Vfs, metadata_error};
use crate::error::Result;
use crate::ids::Ino;
use crate::meta::{Accept, Change, ConflictKind, FileKind, Merged};
use crate::repository::Urgency;
use crate::repository::keymap::name_fault;
use std::sync::Arc;

/// Rows of the change log read at a time.
const PAGE: usize = 1000;

/// A file that was changed on both sides; it stays as it is here, and the object as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The object.
    pub key: String,
    /// The file.
    pub ino: Ino,
    /// What the store did.
    pub kind: ConflictKind,
}

/// What was taken over of what the store said.
#[derive(Clone, Debug, Default)]
pub struct TakenOver {
    /// Names that are new here.
    pub new: u64,
    /// Names that stand for another version now.
    pub changed: u64,
    /// Names that are gone.
    pub deleted: u64,
    /// What both sides changed.
    pub conflicts: Vec<Disagreement>,
    /// Prefixes that the store has nothing under any more, of directories that stay.
    pub bereft: Vec<String>,
}

impl TakenOver {
    fn add(&mut self, directory: &Directory, merged: Merged) {
        for change in &merged.changes {
            match change {
                Change::Added { .. } => self.new += 1,
                Change::Replaced { .. } => self.changed += 1,
                Change::Removed { .. } => self.deleted += 1,
            }
        }
        let key = |name: &[u8]| format!("{}{}", directory.prefix, String::from_utf8_lossy(name));
        let told = merged.conflicts.into_iter();
        self.conflicts.extend(told.map(|conflict| Disagreement {
            key: key(&conflict.name),
            ino: conflict.ino,
            kind: conflict.kind,
        }));
    }

    /// Whether anything changed here.
    pub fn is_anything(&self) -> bool {
        self.new + self.changed + self.deleted > 0
    }
}

/// A name of a directory that an event is about, and the directories above it, the watched one first.
#[derive(Clone)]
pub struct NamedPlace {
    above: Vec<(ImportDir, String)>,
    dir: ImportDir,
    name: String,
}

impl NamedPlace {
    /// A name of a directory, whatever becomes of the directory.
    pub fn in_dir(dir: &ImportDir, name: &str) -> Self {
        NamedPlace { above: Vec::new(), dir: dir.clone(), name: name.to_owned() }
    }

    /// Which name this is; places with the same need to be asked about once.
    pub fn identity(&self) -> (Ino, &str) {
        (self.dir.0.ino, &self.name)
    }

    /// The key of the name.
    pub fn key(&self) -> String {
        format!("{}{}", self.dir.prefix(), self.name)
    }
}

/// What is taken over in a directory: new names only where somebody has looked.
fn accept_in(directory: &Directory, accept: Accept) -> Accept {
    Accept { new: accept.new && directory.state().is_some(), ..accept }
}

impl Vfs {
    /// A directory that the store has something for, to be watched.
    pub fn watched_dir(&self, ino: Ino) -> Result<Option<ImportDir>> {
        let directory = self.0.directory(ino)?;
        Ok(directory.in_store.then_some(ImportDir(directory)))
    }

    /// Whether nothing is known of what is in a directory, so that nothing can be wrong with it either.
    pub fn is_unseen(&self, dir: &ImportDir) -> Result<bool> {
        let inner = &self.0;
        Ok(dir.0.state().is_none() && inner.meta.read_dir(dir.0.ino, None, 1).map_err(metadata_error)?.is_empty())
    }

    /// Whether somebody has listed a directory, or begun to.
    pub fn was_looked_into(&self, dir: &ImportDir) -> bool {
        dir.0.state().is_some()
    }

    /// Takes over what a listing said of directories that are all known already.
    pub async fn watch_merge(&self, mut parts: Vec<ImportPart>, accept: Accept) -> Result<TakenOver> {
        let inner = &self.0;
        for part in &mut parts {
            let directory = &part.dir.0;
            if directory.state().is_none() && accept.new {
                inner.forget_absent(directory, part);
            }
            // Otherwise the directory would pass for one that was listed, with names missing or left over.
            if directory.state().is_none() || !accept.is_all() {
                part.complete = None;
            }
        }
        let (mut markers, mut taken) = (Vec::new(), TakenOver::default());
        let (mut new, mut bereft) = (Vec::new(), Vec::new());
        let accept = |directory: &Directory| accept_in(directory, accept);
        let mut take = |directory: &Directory, mut merged: Merged| {
            new.extend(merged.changes.iter().cloned());
            bereft.append(&mut merged.bereft);
            taken.add(directory, merged);
        };
        inner.merge_alone(parts, &accept, &mut markers, &mut take).await?;
        inner.read_what_came(&new, markers);
        taken.bereft = inner.prefixes_of(&bereft);
        Ok(taken)
    }

    /// Which name here a key concerns; `None` if none does: it is not below the directory, cannot be shown, or is where nobody has looked.
    pub fn place_of_key(&self, root: &ImportDir, key: &str) -> Result<Option<NamedPlace>> {
        let Some(rest) = key.strip_prefix(root.prefix()).filter(|rest| !rest.is_empty()) else { return Ok(None) };
        let names: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
        if names.iter().any(|name| name_fault(name).is_some()) {
            return Ok(None);
        }
        let (mut dir, mut above) = (root.clone(), Vec::new());
        for (at, name) in names.iter().enumerate() {
            let is_known = self.0.meta.lookup(dir.0.ino, name.as_bytes()).map_err(metadata_error)?.is_some();
            if !is_known && dir.0.state().is_none() {
                self.0.forget_probed(&dir.0, name.as_bytes());
                return Ok(None);
            }
            let inner = if at + 1 < names.len() { self.import_dir(&dir, name)? } else { None };
            let Some(inner) = inner else {
                return Ok(Some(NamedPlace { above, dir, name: (*name).to_owned() }));
            };
            above.push((dir, (*name).to_owned()));
            dir = inner;
        }
        Ok(None)
    }

    /// Asks the store about a name and takes over what it says; where the name was the last of a directory, about that, too.
    pub async fn settle(&self, place: &NamedPlace, accept: Accept) -> Result<TakenOver> {
        let inner = &self.0;
        let (mut taken, mut new, mut bereft) = (TakenOver::default(), Vec::new(), Vec::new());
        let (mut dir, mut name) = (place.dir.clone(), place.name.clone());
        let mut above = place.above.clone();
        loop {
            let settled = inner.settle_name(&dir.0, &name, accept_in(&dir.0, accept), Urgency::Ahead).await?;
            let mut merged = settled.merged;
            new.extend(merged.changes.iter().cloned());
            bereft.append(&mut merged.bereft);
            taken.add(&dir.0, merged);
            if settled.is_there || !inner.may_be_empty(&dir.0)? {
                break;
            }
            let Some((outer, outer_name)) = above.pop() else { break };
            (dir, name) = (outer, outer_name);
        }
        inner.read_what_came(&new, Vec::new());
        taken.bereft = inner.prefixes_of(&bereft);
        Ok(taken)
    }

    /// Files changed here whose objects were below prefixes that the store has nothing under any more; at most so many.
    pub fn changed_below(&self, prefixes: &[String], limit: usize) -> Result<Vec<Disagreement>> {
        let (mut found, mut after) = (Vec::new(), None);
        if prefixes.is_empty() {
            return Ok(found);
        }
        loop {
            let page = self.0.meta.changes(after, PAGE).map_err(metadata_error)?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after = Some(*last);
            for (ino, _) in page {
                let Some(row) = self.0.meta.inode(ino).map_err(metadata_error)? else { continue };
                let Some(origin) = row.origin.filter(|_| row.kind != FileKind::Directory && !row.local && row.link.is_some())
                else {
                    continue;
                };
                if prefixes.iter().any(|prefix| origin.key.starts_with(prefix.as_str())) {
                    found.push(Disagreement { key: origin.key, ino, kind: ConflictKind::Deleted });
                }
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
    }

    /// Whether an inode has changes that the bucket does not have.
    pub fn has_changes(&self, ino: Ino) -> bool {
        // One that cannot be read is not said to be well.
        self.0.meta.change_of(ino).map_or(true, |change| change.is_some())
    }

    /// Makes what was taken over so far durable.
    pub async fn make_taken_over_durable(&self) -> Result<()> {
        self.0.make_durable().await
    }
}

impl Inner {
    /// Of a directory without a listing, names that were found not to be there and that a listing shows now.
    fn forget_absent(&self, directory: &Directory, part: &ImportPart) {
        let names = part.classified.segments.iter().flat_map(|segment| &segment.entries);
        for entry in names {
            if self.directories.probed_at(directory.ino, &entry.name).is_some() {
                let is_known = self.meta.lookup(directory.ino, &entry.name).is_ok_and(|found| found.is_some());
                if !is_known {
                    self.forget_probed(directory, &entry.name);
                }
            }
        }
    }

    fn forget_probed(&self, directory: &Directory, name: &[u8]) {
        if self.directories.probed_at(directory.ino, name).is_some() {
            self.directories.forget_probe(directory.ino, name);
            self.invalidator.entry(directory.ino, name);
        }
    }

    fn may_be_empty(&self, directory: &Directory) -> Result<bool> {
        let is_complete = directory.state().is_some_and(|state| state.complete);
        Ok(!is_complete || self.meta.read_dir(directory.ino, None, 1).map_err(metadata_error)?.is_empty())
    }

    /// Has the metadata of objects read where the mount reads it ahead of use.
    fn read_what_came(self: &Arc<Self>, changes: &[Change], markers: Vec<Unread>) {
        self.queue_heads(changes);
        for marker in markers {
            if let Unread::Marker(dir, marker) = marker {
                self.note_marker(dir.0.ino, marker);
            }
        }
    }

    fn prefixes_of(&self, dirs: &[Ino]) -> Vec<String> {
        dirs.iter().filter_map(|ino| Some(self.directory(*ino).ok()?.prefix.clone())).collect()
    }
}
