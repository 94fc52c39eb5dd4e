//! Listing directories lazily, page by page, into rows; and probing single names.
//!
//! Which names a page settles is `repository::keymap`'s to say: key order is not name order, and no entry may be taken for
//! deleted because its page is still to come.

use super::directory::Directory;
use super::frozen::never_listed;
use super::{Inner, metadata_error};
use crate::config::PosixMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{Change, ListedEntry, ListedNode, ListingState, Origin};
use crate::repository::keymap::{Classified, ListedName, NameNode, PageClassifier};
use crate::repository::{ListPage, ListRequest, ObjectSummary, StoreError, Urgency};
use std::sync::Arc;

/// How much of a directory is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// One page: enough for most directories, and a cheap look at a huge one.
    FirstPage,
    /// All of it.
    Everything,
}

/// One way through a directory's keys.
struct Pass {
    started_ns: i64,
    /// The first listing of this directory: nothing can have been removed, and the kernel knows nothing.
    first: bool,
    start_after: Option<String>,
    token: Option<String>,
    classifier: PageClassifier,
    first_page: bool,
    entries: u64,
}

impl Inner {
    /// Lists a directory as far as wanted, unless a fresh listing says it already. Runs as a task of its own: a caller that
    /// gives up does not stop it for others.
    pub(super) async fn list(self: &Arc<Self>, directory: &Arc<Directory>, goal: Goal) -> Result<()> {
        if directory.ino.is_frozen() {
            return Err(never_listed(directory.ino));
        }
        let (inner, directory) = (Arc::clone(self), Arc::clone(directory));
        let task = self.runtime.spawn(async move { inner.list_alone(&directory, goal).await });
        task.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "the file system is shutting down")))
    }

    async fn list_alone(self: &Arc<Self>, directory: &Arc<Directory>, goal: Goal) -> Result<()> {
        let _alone = directory.flight.lock().await;
        if self.is_listed(directory, goal) {
            return Ok(());
        }
        let mut pass = self.begin_pass(directory);
        loop {
            let asked_ns = self.clock.wall_ns();
            let page = self.list_page(directory, &pass).await?;
            let last = page.next.is_none();
            pass.token.clone_from(&page.next);
            let (changes, state) = self.merge_page(directory, &mut pass, page, asked_ns)?;
            // Before the state is: what the kernel was told rests on what was known until now.
            self.announce(directory, &changes, pass.first);
            if state.is_some() {
                *directory.listing.write() = state;
            }
            self.queue_heads(&changes);
            if last || goal == Goal::FirstPage {
                return Ok(());
            }
        }
    }

    fn is_listed(&self, directory: &Directory, goal: Goal) -> bool {
        match (directory.state(), goal) {
            (None, _) => false,
            (Some(state), Goal::Everything) => state.complete && self.freshness(directory, b"").is_some(),
            (Some(state), Goal::FirstPage) => self.is_fresh(state.listed_at_ns),
        }
    }

    fn is_fresh(&self, at_ns: i64) -> bool {
        u128::try_from(self.clock.wall_ns() - at_ns).is_ok_and(|age| age < self.ttl().as_nanos())
    }

    /// A listing goes on where a fresh but unfinished one stopped, also after a restart; else it starts anew.
    fn begin_pass(&self, directory: &Directory) -> Pass {
        let state = directory.state();
        let unfinished = state.as_ref().filter(|state| !state.complete && self.is_fresh(state.listed_at_ns));
        if let Some((state, key)) = unfinished.and_then(|state| Some((state, state.last_key.as_deref()?))) {
            return Pass {
                started_ns: state.listed_at_ns,
                first: true,
                start_after: Some(key.to_owned()),
                token: None,
                classifier: PageClassifier::resume(&directory.prefix, key),
                first_page: true,
                entries: state.entries,
            };
        }
        Pass {
            started_ns: self.clock.wall_ns(),
            first: !state.is_some_and(|state| state.complete),
            start_after: None,
            token: None,
            classifier: PageClassifier::new(&directory.prefix),
            first_page: true,
            entries: 0,
        }
    }

    async fn list_page(&self, directory: &Directory, pass: &Pass) -> Result<ListPage> {
        let request = ListRequest {
            prefix: directory.prefix.clone(),
            delimited: true,
            token: pass.token.clone(),
            start_after: pass.start_after.clone().filter(|_| pass.token.is_none()),
            max_keys: None,
        };
        self.repository.list(request, Urgency::Demand).await.map_err(|error| listing_error(&directory.prefix, &error))
    }

    fn merge_page(
        self: &Arc<Self>,
        directory: &Directory,
        pass: &mut Pass,
        page: ListPage,
        asked_ns: i64,
    ) -> Result<(Vec<Change>, Option<ListingState>)> {
        let complete = page.next.is_none();
        let Classified { segments, hidden, marker } = pass.classifier.page(page);
        let hidden: Vec<_> = hidden.into_iter().map(|hidden| (hidden.key, hidden.reason.to_string())).collect();
        // The first page of a whole pass replaces all that was recorded, later ones add to it.
        let whole = pass.start_after.is_none() && std::mem::take(&mut pass.first_page);
        if whole || !hidden.is_empty() {
            let covers = if whole { (None, None) } else { (Some(""), Some("")) };
            self.meta.record_hidden(directory.ino, covers, &hidden).map_err(metadata_error)?;
        }
        pass.entries += segments.iter().map(|segment| segment.entries.len() as u64).sum::<u64>();
        let last_key = pass.classifier.resume_after();
        let state = ListingState { complete, last_key, listed_at_ns: pass.started_ns, entries: pass.entries };
        // A pass over a directory that is known leaves its old state in place until it is through: half a second listing
        // says less than a whole first one.
        let record = (pass.first || complete).then_some(&state);
        let mut changes = Vec::new();
        let last = segments.len().saturating_sub(1);
        for (i, segment) in segments.into_iter().enumerate() {
            let entries: Vec<_> = segment.entries.into_iter().map(as_entry).collect();
            let state = record.filter(|_| i == last);
            let now_ns = self.clock.wall_ns();
            let merged = self.meta.merge_listing_asked(directory.ino, segment.covers, &entries, state, asked_ns, now_ns);
            changes.extend(merged.map_err(metadata_error)?);
        }
        if let Some(marker) = marker {
            self.note_marker(directory.ino, marker);
        }
        let is_recorded = record.is_some();
        Ok((changes, is_recorded.then_some(state)))
    }

    /// Tells the kernel, and forgets what was derived from rows that are gone.
    pub(super) fn announce(&self, directory: &Directory, changes: &[Change], first: bool) {
        if !changes.is_empty() {
            self.names_changed(directory.ino);
        }
        for change in changes {
            match change {
                // Of a first listing the kernel can only know names it was told do not exist.
                Change::Added { name, .. } => {
                    let is_told = || directory.listed_at(name).is_some();
                    if !first || is_told() || self.directories.probed_at(directory.ino, name).is_some() {
                        self.directories.forget_probe(directory.ino, name);
                        self.invalidator.entry(directory.ino, name);
                    }
                }
                Change::Replaced { name, old, .. } | Change::Removed { name, old } => {
                    self.directories.forget(*old);
                    self.invalidator.entry(directory.ino, name);
                }
            }
        }
        if !first && !changes.is_empty() {
            self.invalidator.inode(directory.ino);
        }
    }

    pub(super) fn queue_heads(self: &Arc<Self>, changes: &[Change]) {
        if self.config.posix_metadata != PosixMetadata::Eager {
            return;
        }
        let new = |change: &Change| match change {
            Change::Added { ino, .. } | Change::Replaced { new: ino, .. } => Some(*ino),
            Change::Removed { .. } => None,
        };
        self.head_in_background(changes.iter().filter_map(new).collect());
    }

    /// Asks the store about one name: one LIST that shows it as an object and as a prefix, two where many names share it
    /// as a prefix of theirs.
    pub(super) async fn probe(self: &Arc<Self>, directory: &Arc<Directory>, name: &[u8]) -> Result<()> {
        if directory.ino.is_frozen() {
            return Err(never_listed(directory.ino));
        }
        let Ok(text) = std::str::from_utf8(name) else {
            // Keys are UTF-8: no object can have this name.
            self.directories.note_probe(directory.ino, name, self.clock.wall_ns());
            return Ok(());
        };
        let asked_ns = self.clock.wall_ns();
        let key = format!("{}{text}", directory.prefix);
        let (object, is_prefix) = self.ask_for_name(&key, Urgency::Demand).await?;
        let entry = match (is_prefix, object) {
            (true, _) => Some(ListedEntry { name: name.to_vec(), node: ListedNode::Directory }),
            (false, Some(object)) => Some(ListedEntry { name: name.to_vec(), node: file_node(object) }),
            (false, None) => None,
        };
        let covers = (Some(name.to_vec()), Some(after(name)));
        let entries: Vec<_> = entry.into_iter().collect();
        let merged = {
            let mut settled = self.settled.write();
            if !settled.note(directory.ino, name, asked_ns) {
                self.directories.note_probe(directory.ino, name, asked_ns);
                return Ok(());
            }
            self.meta.merge_listing_asked(directory.ino, covers, &entries, None, asked_ns, asked_ns)
        };
        let merged = merged.map_err(metadata_error)?;
        // The kernel's own negative entry for the name has expired, or the name would not be probed; its copy of the
        // directory's entries may still be valid.
        self.announce(directory, &merged, true);
        if !merged.is_empty() {
            self.invalidator.inode(directory.ino);
        }
        self.queue_heads(&merged);
        self.directories.note_probe(directory.ino, name, asked_ns);
        Ok(())
    }

    /// What the store has under a name's key: an object, and whether it is a prefix.
    pub(super) async fn ask_for_name(&self, key: &str, urgency: Urgency) -> Result<(Option<ObjectSummary>, bool)> {
        let mut found = self.probe_prefix(key, None, urgency).await?;
        if found.is_undecided(key) {
            found.prefix = self.probe_prefix(&format!("{key}/"), Some(1), urgency).await?.any;
        }
        Ok((found.object, found.prefix))
    }

    async fn probe_prefix(&self, key: &str, max_keys: Option<u32>, urgency: Urgency) -> Result<Probe> {
        let request = ListRequest { prefix: key.to_owned(), delimited: true, token: None, start_after: None, max_keys };
        let page = self.repository.list(request, urgency).await.map_err(|error| listing_error(key, &error))?;
        let any = !page.objects.is_empty() || !page.prefixes.is_empty();
        let prefix = page.prefixes.iter().any(|prefix| prefix.strip_suffix('/') == Some(key));
        let end = page.next.as_ref().and_then(|_| last_key(&page)).map(str::to_owned);
        Ok(Probe { object: page.objects.into_iter().find(|object| object.key == key), prefix, any, end })
    }
}

/// What a LIST at a name's key showed.
struct Probe {
    object: Option<ObjectSummary>,
    prefix: bool,
    any: bool,
    /// Where the page ended, if there is more.
    end: Option<String>,
}

impl Probe {
    fn is_undecided(&self, key: &str) -> bool {
        !self.prefix && self.end.as_ref().is_some_and(|end| end.as_str() < format!("{key}/").as_str())
    }
}

/// The smallest byte string after this one.
pub(super) fn after(name: &[u8]) -> Vec<u8> {
    [name, b"\0"].concat()
}

/// Where a page ends in key order.
fn last_key(page: &ListPage) -> Option<&str> {
    let object = page.objects.last().map(|object| object.key.as_str());
    object.max(page.prefixes.last().map(String::as_str))
}

pub(super) fn as_entry(listed: ListedName) -> ListedEntry {
    let node = match listed.node {
        NameNode::Prefix => ListedNode::Directory,
        NameNode::Object(object) => file_node(object),
    };
    ListedEntry { name: listed.name, node }
}

pub(super) fn file_node(object: ObjectSummary) -> ListedNode {
    let origin = Origin { key: object.key, etag: object.etag, version: None };
    ListedNode::File { size: object.size, modified_ns: object.modified_ns, origin }
}

fn listing_error(prefix: &str, error: &StoreError) -> Error {
    let kind = match error {
        StoreError::AccessDenied { .. } => ErrorKind::AccessDenied,
        StoreError::NoSuchBucket { .. } => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    tracing::warn!(prefix, %error, "listing failed");
    Error::new(kind, format!("'{prefix}' could not be listed: {error}"))
}
