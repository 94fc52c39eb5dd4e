//! What an import needs of the name space: directories of the bucket, what a flat listing says of them merged into their rows, and the
//! metadata of objects.
//!
//! An import tells of a directory as it was when it asked for the first keys in it. A listing of the directory that began later says
//! more, so what the import has is passed over then; and while one is under way, the import waits for it (`flight`).

use super::directory::Directory;
use super::frozen::must_be_now;
use super::listing::{after, as_entry, file_node};
use super::posix::HeadFailure;
use super::settled::{Settled, SettledName};
use super::{Inner, Vfs, metadata_error};
use crate::config::PosixMetadata;
use crate::error::Result;
use crate::format::located::bare;
use crate::ids::Ino;
use crate::meta::{Accept, FileKind, ListedEntry, ListedNode, ListedPart, ListingState, Merged, MetaError, Missing};
use crate::repository::keymap::{Classified, HiddenReason};
use crate::repository::{ListPage, ListRequest, ObjectSummary, StoreError, Urgency};
use std::sync::Arc;

/// Entries counted of a directory that was listed in parts: more than the lookup of a name would ever list again for its sake.
const COUNTED: usize = 5_001;
/// How much clocks may differ between here and the store, in ns.
const SKEW_NS: i64 = 300_000_000_000;

/// A directory of the bucket, under the name that the bucket gives it.
#[derive(Clone)]
pub struct ImportDir(pub(super) Arc<Directory>);

impl ImportDir {
    /// What the keys of its objects start with.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }
}

/// What is at a path.
pub enum ImportRoot {
    /// A directory that the bucket may have something in.
    Directory(ImportDir),
    /// A file in one.
    File(ImportDir, String),
    /// Something that exists only here.
    Local,
}

/// What a listing said of a directory.
pub struct ImportPart {
    /// The directory.
    pub dir: ImportDir,
    /// What it said.
    pub classified: Classified,
    /// When it was asked (wall time, ns).
    pub asked_ns: i64,
    /// Whether nothing was said of the directory before.
    pub is_first: bool,
    /// The number of its entries, if this is the last of it and nothing is left out.
    pub complete: Option<u64>,
}

/// An object whose metadata is to be read.
#[derive(Clone)]
pub enum Unread {
    /// A file's.
    File(Ino),
    /// A directory's marker.
    Marker(ImportDir, ObjectSummary),
}

/// Names from the first (inclusive) to the second (exclusive), and all that the store has between them.
type PreparedSegment = ((Option<Vec<u8>>, Option<Vec<u8>>), Vec<ListedEntry>);

/// A part as it is merged.
struct Prepared {
    part: ImportPart,
    segments: Vec<PreparedSegment>,
    state: Option<ListingState>,
    accept: Accept,
}

/// Takes what merging a part came to.
pub(super) type Taker<'t> = dyn FnMut(&Directory, Merged) + Send + 't;

impl Vfs {
    /// What is at a path below the root, with the store's help.
    pub async fn import_root(&self, path: &[u8]) -> Result<ImportRoot> {
        let inner = &self.0;
        let ino = inner.walk(path).await?;
        must_be_now(ino)?;
        if inner.row(ino)?.kind == FileKind::Directory {
            let directory = inner.directory(ino)?;
            return Ok(if directory.in_store { ImportRoot::Directory(ImportDir(directory)) } else { ImportRoot::Local });
        }
        let Some((parent, name)) = inner.meta.parent_of(ino).map_err(metadata_error)? else { return Ok(ImportRoot::Local) };
        let parent = inner.directory(parent)?;
        Ok(match String::from_utf8(name) {
            Ok(name) if parent.in_store => ImportRoot::File(ImportDir(parent), name),
            _ => ImportRoot::Local,
        })
    }

    /// A key's path below the root.
    pub fn path_of_key(&self, key: &str) -> Vec<u8> {
        self.0.path_of_key(key).unwrap_or_else(|| bare(key).as_bytes().to_vec())
    }

    /// The key of the object behind an inode.
    pub fn key_of_ino(&self, ino: Ino) -> Option<String> {
        Some(self.0.row(ino).ok()?.origin?.key)
    }

    /// A directory that is in another under the name the bucket gives it; `None` if nothing is, or something made or moved here.
    pub fn import_dir(&self, parent: &ImportDir, name: &str) -> Result<Option<ImportDir>> {
        let dirent = self.0.meta.lookup(parent.0.ino, name.as_bytes()).map_err(metadata_error)?;
        let Some(dirent) = dirent.filter(|dirent| dirent.kind == FileKind::Directory) else { return Ok(None) };
        let directory = self.0.directory(dirent.ino)?;
        let is_its_own = directory.prefix.strip_prefix(parent.prefix()).and_then(|rest| rest.strip_suffix('/')) == Some(name);
        Ok((directory.in_store && is_its_own).then_some(ImportDir(directory)))
    }

    /// One page of a listing, for a task.
    pub async fn import_list(&self, request: ListRequest) -> std::result::Result<ListPage, StoreError> {
        self.0.repository.list(request, Urgency::Ahead).await
    }

    /// The time (wall, ns).
    pub fn now_ns(&self) -> i64 {
        self.0.clock.wall_ns()
    }

    /// Merges what a listing said into directories that are all known already. Returns the objects whose metadata is not known.
    pub async fn import_merge(&self, parts: Vec<ImportPart>, missing: Missing) -> Result<Vec<Unread>> {
        let (mut markers, mut unread) = (Vec::new(), Vec::new());
        let mut take = |_: &Directory, merged: Merged| unread.extend(merged.unread.into_iter().map(Unread::File));
        self.0.merge_alone(parts, &|_| missing.into(), &mut markers, &mut take).await?;
        unread.extend(markers);
        Ok(unread)
    }

    /// Settles one name of a directory by asking for it.
    pub async fn import_name(&self, dir: &ImportDir, name: &str, missing: Missing) -> Result<Vec<Unread>> {
        let merged = self.0.settle_name(&dir.0, name, missing.into(), Urgency::Demand).await?.merged;
        Ok(merged.unread.into_iter().map(Unread::File).collect())
    }

    /// Notes that all there is of a directory was merged, in whatever parts, as of a time (wall, ns).
    pub async fn import_complete(&self, dir: &ImportDir, listed_at_ns: i64) -> Result<()> {
        let (inner, directory) = (&self.0, &dir.0);
        let _alone = directory.flight.lock().await;
        if directory.state().is_some_and(|state| state.complete && state.listed_at_ns >= listed_at_ns) {
            return Ok(());
        }
        let entries = inner.meta.read_dir(directory.ino, None, COUNTED).map_err(metadata_error)?.len() as u64;
        let state = ListingState { complete: true, last_key: None, listed_at_ns, entries };
        let part = ListedPart { parent: directory.ino, segments: Vec::new(), asked_ns: listed_at_ns, state: Some(&state) };
        inner.meta.merge_parts(&[part], Missing::Keep, listed_at_ns).map_err(metadata_error)?;
        *directory.listing.write() = Some(state);
        Ok(())
    }

    /// Whether objects' metadata counts at all.
    pub fn reads_posix_metadata(&self) -> bool {
        self.0.config.posix_metadata != PosixMetadata::Off
    }

    /// Reads an object's metadata and takes over what it says. A failure names the key.
    pub async fn import_head(&self, unread: &Unread) -> std::result::Result<(), HeadFailure> {
        match unread {
            Unread::File(ino) => self.0.head_typed(*ino, Urgency::Ahead).await,
            Unread::Marker(dir, marker) => self.0.read_marker(dir.0.ino, &marker.key, Urgency::Ahead).await,
        }
    }
}

impl Inner {
    fn was_listed(&self, directory: &Directory) -> bool {
        directory.state().is_some_and(|state| state.complete)
    }

    /// Merges parts of directories, each while nobody else lists it. Markers that are to be read are added to `markers`.
    pub(super) async fn merge_alone(
        self: &Arc<Self>,
        parts: Vec<ImportPart>,
        accept: &(dyn Fn(&Directory) -> Accept + Sync),
        markers: &mut Vec<Unread>,
        take: &mut Taker<'_>,
    ) -> Result<()> {
        let flights: Vec<_> = parts.iter().map(|part| Arc::clone(&part.dir.0)).collect();
        let mut later = Vec::new();
        {
            let (mut now, mut alone) = (Vec::new(), Vec::new());
            for (part, directory) in parts.into_iter().zip(&flights) {
                // Who lists a directory now may do so for long, and must not hold up the others, nor those who wait for them.
                match directory.flight.try_lock() {
                    Ok(guard) => {
                        alone.push(guard);
                        now.push(part);
                    }
                    Err(_) => later.push(part),
                }
            }
            self.merge_import(now, accept, markers, take)?;
        }
        for part in later {
            let directory = Arc::clone(&part.dir.0);
            let _alone = directory.flight.lock().await;
            self.merge_import(vec![part], accept, markers, take)?;
        }
        Ok(())
    }

    /// Asks the store for one name and takes over what it says, unless somebody has asked later and has it already.
    pub(super) async fn settle_name(
        self: &Arc<Self>,
        directory: &Directory,
        name: &str,
        accept: Accept,
        urgency: Urgency,
    ) -> Result<SettledName> {
        let asked_ns = self.clock.wall_ns();
        let entry = self.listed_name(directory, name, urgency).await?;
        let (from, to) = (name.as_bytes().to_vec(), after(name.as_bytes()));
        let is_there = entry.is_some();
        let entries: Vec<_> = entry.into_iter().collect();
        let part = ListedPart {
            parent: directory.ino,
            segments: vec![((Some(from), Some(to)), entries.as_slice())],
            asked_ns,
            state: None,
        };
        let mut settled = self.settled.write();
        if !settled.note(directory.ino, name.as_bytes(), asked_ns) {
            return Ok(SettledName { is_there, merged: Merged::default() });
        }
        let merged = self.meta.merge_accepted(&[part], &[accept], self.clock.wall_ns()).map_err(metadata_error)?;
        drop(settled);
        let merged = merged.into_iter().next().unwrap_or_default();
        self.announce(directory, &merged.changes, !self.was_listed(directory));
        Ok(SettledName { is_there, merged })
    }

    /// Merges parts of directories that nobody else lists now.
    fn merge_import(
        self: &Arc<Self>,
        parts: Vec<ImportPart>,
        accept: &(dyn Fn(&Directory) -> Accept + Sync),
        markers: &mut Vec<Unread>,
        take: &mut Taker<'_>,
    ) -> Result<()> {
        // Held until the merge: whoever settles a name meanwhile has asked later, and must come later.
        let settled = self.settled.read();
        let mut prepared: Vec<Prepared> = Vec::with_capacity(parts.len());
        for part in parts {
            let state = part.dir.0.state();
            if state.as_ref().is_some_and(|state| state.complete && state.listed_at_ns >= part.asked_ns) {
                continue;
            }
            let accept = accept(&part.dir.0);
            prepared.push(self.prepare(part, state.map(|state| state.listed_at_ns), accept, &settled, markers)?);
        }
        let listed: Vec<ListedPart<'_>> = prepared.iter().map(as_listed).collect();
        let accepts: Vec<Accept> = prepared.iter().map(|prepared| prepared.accept).collect();
        let now_ns = self.clock.wall_ns();
        let merged = match self.meta.merge_accepted(&listed, &accepts, now_ns) {
            // Somebody changes one of the directories all the time: at least the others need not be tried again for it.
            Err(MetaError::Conflict) => {
                let one = |(part, accept): (&ListedPart<'_>, &Accept)| {
                    self.meta.merge_accepted(std::slice::from_ref(part), std::slice::from_ref(accept), now_ns)
                };
                let all = listed.iter().zip(&accepts).map(one).collect::<std::result::Result<Vec<_>, _>>();
                all.map(|all| all.into_iter().flatten().collect())
            }
            merged => merged,
        };
        let merged = merged.map_err(metadata_error)?;
        drop(settled);
        for (prepared, merged) in prepared.into_iter().zip(merged) {
            let directory = &prepared.part.dir.0;
            self.announce(directory, &merged.changes, !self.was_listed(directory));
            take(directory, merged);
            if prepared.state.is_some() {
                *directory.listing.write() = prepared.state;
            }
        }
        Ok(())
    }

    fn prepare(
        &self,
        mut part: ImportPart,
        listed_at_ns: Option<i64>,
        accept: Accept,
        settled: &Settled,
        markers: &mut Vec<Unread>,
    ) -> Result<Prepared> {
        let directory = &part.dir.0;
        let hidden: Vec<_> =
            part.classified.hidden.iter().map(|hidden| (hidden.key.clone(), hidden.reason.to_string())).collect();
        // All that was recorded of a directory goes when it is listed anew from its start, as it does in a listing.
        let replaces = part.is_first && self.meta.hidden_keys(0).map_err(metadata_error)?.1 > 0;
        if replaces || !hidden.is_empty() {
            let covers = if part.is_first { (None, None) } else { (Some(""), Some("")) };
            self.meta.record_hidden(directory.ino, covers, &hidden).map_err(metadata_error)?;
        }
        if let Some(marker) = part.classified.marker.take() {
            let row = self.row(directory.ino)?;
            let is_known = row.posix_known && listed_at_ns.is_some_and(|at| marker.modified_ns < at - SKEW_NS);
            if !is_known {
                markers.push(Unread::Marker(part.dir.clone(), marker));
            }
        }
        let later = settled.since(directory.ino, part.asked_ns);
        let segments = std::mem::take(&mut part.classified.segments).into_iter().flat_map(|segment| segment.without(&later));
        let segments = segments.map(|segment| (segment.covers, segment.entries.into_iter().map(as_entry).collect())).collect();
        let listed_at_ns = part.asked_ns;
        let is_whole = accept.new && accept.changed;
        let state = part.complete.filter(|_| is_whole);
        let state = state.map(|entries| ListingState { complete: true, last_key: None, listed_at_ns, entries });
        Ok(Prepared { part, segments, state, accept })
    }

    /// One name as the store has it: one LIST, or two.
    async fn listed_name(self: &Arc<Self>, directory: &Directory, name: &str, urgency: Urgency) -> Result<Option<ListedEntry>> {
        let key = format!("{}{name}", directory.prefix);
        let (object, is_prefix) = self.ask_for_name(&key, urgency).await?;
        let node = match (is_prefix, object) {
            (true, object) => {
                if let Some(object) = object {
                    let shadowed = (object.key, HiddenReason::ShadowedByDirectory.to_string());
                    self.meta.record_hidden(directory.ino, (Some(""), Some("")), &[shadowed]).map_err(metadata_error)?;
                }
                ListedNode::Directory
            }
            (false, Some(object)) => file_node(object),
            (false, None) => return Ok(None),
        };
        Ok(Some(ListedEntry { name: name.as_bytes().to_vec(), node }))
    }
}

fn as_listed(prepared: &Prepared) -> ListedPart<'_> {
    let segments = prepared.segments.iter().map(|(covers, entries)| (covers.clone(), entries.as_slice())).collect();
    let Prepared { part, state, .. } = prepared;
    ListedPart { parent: part.dir.0.ino, segments, asked_ns: part.asked_ns, state: state.as_ref() }
}
