//! Listing directories lazily, page by page, into rows; and probing single names.
//!
//! Key order is not name order: the keys `a-b` and `a/x` come in this order, the names `a` and `a-b` in the other. After a page
//! that ends at key K, a name n is *decided* when both forms it can take, `n` and `n/`, sort at or before K. The only
//! undecided names before K are the prefixes of K that K continues with a byte below `/`; they are carried to the page that
//! decides them, so that no entry is ever taken for deleted because its page is still to come.

use super::directory::Directory;
use super::{Inner, metadata_error};
use crate::config::PosixMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Ino;
use crate::meta::{Change, ListedEntry, ListedNode, ListingState, Origin};
use crate::repository::keymap::{ListedName, NameNode, PageClassifier};
use crate::repository::{ListPage, ListRequest, ObjectSummary, StoreError, Urgency};
use std::collections::BTreeMap;
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
    /// Where the last page ended, relative to the directory's prefix.
    end: Option<Vec<u8>>,
    /// Names that pages so far left undecided, and whether they were seen as objects.
    carried: BTreeMap<Vec<u8>, bool>,
    entries: u64,
}

impl Inner {
    /// Lists a directory as far as wanted, unless a fresh listing says it already. Runs as a task of its own: a caller that
    /// gives up does not stop it for others.
    pub(super) async fn list(self: &Arc<Self>, directory: &Arc<Directory>, goal: Goal) -> Result<()> {
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
        let mut classifier = PageClassifier::new(&directory.prefix);
        loop {
            let page = self.list_page(directory, &pass).await?;
            let last = page.next.is_none();
            let changes = self.merge_page(directory, &mut pass, &mut classifier, &page)?;
            self.announce(directory, &changes, pass.first);
            self.queue_heads(&changes);
            pass.token = page.next;
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
        let now = self.clock.wall_ns();
        let new = Pass {
            started_ns: now,
            first: true,
            start_after: None,
            token: None,
            end: None,
            carried: BTreeMap::new(),
            entries: 0,
        };
        match directory.state() {
            None => new,
            Some(state) if !state.complete && state.last_key.is_some() && self.is_fresh(state.listed_at_ns) => {
                let end = state.last_key.as_ref().and_then(|key| key.as_bytes().strip_prefix(directory.prefix.as_bytes()));
                Pass {
                    started_ns: state.listed_at_ns,
                    end: end.map(<[u8]>::to_vec),
                    // Which of them were seen as objects is not remembered; claiming they were only delays a removal.
                    carried: end.map(undecided).unwrap_or_default().into_iter().map(|name| (name, true)).collect(),
                    start_after: state.last_key,
                    entries: state.entries,
                    ..new
                }
            }
            Some(_) => Pass { first: false, ..new },
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
        &self,
        directory: &Directory,
        pass: &mut Pass,
        classifier: &mut PageClassifier,
        page: &ListPage,
    ) -> Result<Vec<Change>> {
        let classified = classifier.classify(page);
        if !classified.hidden.is_empty() {
            let hidden: Vec<_> = classified.hidden.into_iter().map(|(key, reason)| (key, reason.to_string())).collect();
            self.meta.record_hidden(directory.ino, &hidden).map_err(metadata_error)?;
        }
        let entries: BTreeMap<_, _> =
            classified.names.into_iter().map(|listed| (listed.name.clone(), as_entry(listed))).collect();
        pass.entries += entries.len() as u64;
        let last_key = last_key(page);
        let state = ListingState {
            complete: page.next.is_none(),
            last_key: last_key.clone(),
            listed_at_ns: pass.started_ns,
            entries: pass.entries,
        };
        let end = last_key
            .as_ref()
            .filter(|_| page.next.is_some())
            .and_then(|key| key.as_bytes().strip_prefix(directory.prefix.as_bytes()));
        let steps = plan_merge(pass.end.as_deref(), end, &mut pass.carried, entries);
        // A pass over a directory that is already known leaves its old state in place until it is through: half a second
        // listing says less than a whole first one.
        let record = (pass.first || state.complete).then_some(&state);
        let mut changes = Vec::new();
        let count = steps.len();
        for (i, step) in steps.into_iter().enumerate() {
            let state = record.filter(|_| i + 1 == count);
            let covers = (step.from, step.to);
            let merged = self.meta.merge_listing(directory.ino, covers, &step.entries, state, self.clock.wall_ns());
            changes.extend(merged.map_err(metadata_error)?);
        }
        if let Some(state) = record {
            *directory.listing.write() = Some(state.clone());
        }
        pass.end = end.map(<[u8]>::to_vec);
        Ok(changes)
    }

    /// Tells the kernel, and forgets what was derived from rows that are gone.
    fn announce(&self, directory: &Directory, changes: &[Change], first: bool) {
        for change in changes {
            match change {
                // Of a first listing the kernel can only know names it was told do not exist.
                Change::Added { name, .. } => {
                    if !first || self.directories.probed_at(directory.ino, name).is_some() {
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

    fn queue_heads(self: &Arc<Self>, changes: &[Change]) {
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
        let Ok(text) = std::str::from_utf8(name) else {
            // Keys are UTF-8: no object can have this name.
            self.directories.note_probe(directory.ino, name, self.clock.wall_ns());
            return Ok(());
        };
        let asked_ns = self.clock.wall_ns();
        let key = format!("{}{text}", directory.prefix);
        let mut found = self.probe_prefix(&key, None).await?;
        if found.is_undecided(&key) {
            found.prefix = self.probe_prefix(&format!("{key}/"), Some(1)).await?.any;
        }
        let entry = match (found.prefix, found.object) {
            (true, _) => Some(ListedEntry { name: name.to_vec(), node: ListedNode::Directory }),
            (false, Some(object)) => Some(ListedEntry { name: name.to_vec(), node: file_node(object) }),
            (false, None) => None,
        };
        let covers = (Some(name.to_vec()), Some(after(name)));
        let entries: Vec<_> = entry.into_iter().collect();
        let merged = self.meta.merge_listing(directory.ino, covers, &entries, None, asked_ns).map_err(metadata_error)?;
        self.announce(directory, &merged, false);
        self.queue_heads(&merged);
        self.directories.note_probe(directory.ino, name, asked_ns);
        Ok(())
    }

    async fn probe_prefix(&self, key: &str, max_keys: Option<u32>) -> Result<Probe> {
        let request = ListRequest { prefix: key.to_owned(), delimited: true, token: None, start_after: None, max_keys };
        let page = self.repository.list(request, Urgency::Demand).await.map_err(|error| listing_error(key, &error))?;
        let any = !page.objects.is_empty() || !page.prefixes.is_empty();
        let prefix = page.prefixes.iter().any(|prefix| prefix.strip_suffix('/') == Some(key));
        let end = page.next.as_ref().and_then(|_| last_key(&page));
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

/// One call of `merge_listing`: the names `from..to` and all entries in it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    entries: Vec<ListedEntry>,
}

/// Cuts a page into merges that cover exactly the names it decides. `begin` and `end` are relative keys (`None`: the start
/// and the end of the directory); `carried` is brought up to date.
fn plan_merge(
    begin: Option<&[u8]>,
    end: Option<&[u8]>,
    carried: &mut BTreeMap<Vec<u8>, bool>,
    mut entries: BTreeMap<Vec<u8>, ListedEntry>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let open = end.map(undecided).unwrap_or_default();
    // Names left open by earlier pages: decided here unless this page leaves them open as well.
    for (name, seen) in std::mem::take(carried) {
        let entry = entries.remove(&name);
        let still_open = open.contains(&name);
        let seen = seen || entry.is_some();
        if entry.is_some() || !(seen || still_open) {
            steps.push(point(&name, entry));
        }
        if still_open {
            carried.insert(name, seen);
        }
    }
    let mut from = begin.map(after);
    for name in open.iter().filter(|name| from.as_ref().is_none_or(|from| *name >= from)) {
        let entry = entries.remove(name);
        carried.insert(name.clone(), entry.is_some());
        let later = entries.split_off(name);
        steps.push(Step { from: from.clone(), to: Some(name.clone()), entries: take_values(&mut entries) });
        steps.extend(entry.map(|entry| point(name, Some(entry))));
        entries = later;
        from = Some(after(name));
    }
    steps.push(Step { from, to: end.map(after), entries: take_values(&mut entries) });
    steps
}

fn point(name: &[u8], entry: Option<ListedEntry>) -> Step {
    Step { from: Some(name.to_vec()), to: Some(after(name)), entries: entry.into_iter().collect() }
}

fn take_values(entries: &mut BTreeMap<Vec<u8>, ListedEntry>) -> Vec<ListedEntry> {
    std::mem::take(entries).into_values().collect()
}

/// The names at or before relative key `end` whose prefix form `name/` sorts after it, in order.
fn undecided(end: &[u8]) -> Vec<Vec<u8>> {
    let name = end.split(|byte| *byte == b'/').next().unwrap_or_default();
    let continues = |len: &usize| end.get(*len).is_none_or(|next| *next < b'/');
    (1..=name.len()).filter(continues).map(|len| name[..len].to_vec()).collect()
}

/// The smallest byte string after this one.
fn after(name: &[u8]) -> Vec<u8> {
    [name, b"\0"].concat()
}

/// Where a page ends in key order. A common prefix stands for all keys below it, so a resumed listing goes on behind them.
fn last_key(page: &ListPage) -> Option<String> {
    let object = page.objects.last().map(|object| object.key.clone());
    let prefix = page.prefixes.last().map(|prefix| format!("{prefix}{}", char::MAX));
    object.max(prefix)
}

fn as_entry(listed: ListedName) -> ListedEntry {
    let node = match listed.node {
        NameNode::Prefix => ListedNode::Directory,
        NameNode::Object(object) => file_node(object),
    };
    ListedEntry { name: listed.name, node }
}

fn file_node(object: ObjectSummary) -> ListedNode {
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

#[cfg(test)]
mod tests;
