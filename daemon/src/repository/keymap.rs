//! Keys and paths: how the keys of a bucket make a tree of names, and which of them cannot.
//!
//! A listing comes in *key* order, the tree is in *name* order, and they differ: as keys `a` < `a-b` < `a/`, as names
//! `a` < `a-b`, and whether `a` is a file or a directory is known only once the listing has passed `a/`, maybe pages
//! later. [`PageClassifier`] carries what is needed from page to page and says after each one which names are settled.
//!
//! Invariants:
//! 1. a name is settled once and belongs to exactly one [`Segment`]; all segments of a complete listing together cover
//!    every name;
//! 2. within a segment entries are sorted by name and are all there are in its interval;
//! 3. of an object and a directory of one name, the directory wins and the object is hidden;
//! 4. what is carried over is at most one object per character below `/` in the last key, however long the listing.

use super::{ListPage, ObjectSummary};
use crate::format::located::TAG;
use crate::format::manifest::OWN_NAME;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

/// The longest name a POSIX directory entry may have, in bytes.
pub const NAME_MAX: usize = 255;

/// Why a key cannot be seen in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HiddenReason {
    /// Two slashes in a row, or one at the start.
    EmptyName,
    /// A part that is `.` or `..`.
    DotName,
    /// A part over 255 bytes.
    NameTooLong,
    /// A part with a NUL byte.
    NulByte,
    /// A part that begins with U+10FFFF, which stands for nothing and marks keys here ([`crate::format::located`]).
    Reserved,
    /// `.forebay`, under which snapshots are kept in the bucket ([`crate::format::manifest`]).
    OwnName,
    /// There are keys below it, so that its name is a directory's.
    ShadowedByDirectory,
}

impl fmt::Display for HiddenReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HiddenReason::EmptyName => "a part of the key is empty",
            HiddenReason::DotName => "a part of the key is '.' or '..'",
            HiddenReason::NameTooLong => "a part of the key is longer than 255 bytes",
            HiddenReason::NulByte => "the key has a NUL byte",
            HiddenReason::Reserved => "a part of the key begins with U+10FFFF, which is no character",
            HiddenReason::OwnName => "'.forebay' holds snapshots that were exported",
            HiddenReason::ShadowedByDirectory => "a directory has the same name",
        })
    }
}

/// A key, or all keys below a prefix, that the tree does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenKey {
    /// The key; ends in `/` if it stands for all keys below it.
    pub key: String,
    /// Why.
    pub reason: HiddenReason,
}

/// What a listed name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameNode {
    /// An object.
    Object(ObjectSummary),
    /// A common prefix: a directory.
    Prefix,
}

/// A name of a directory, as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedName {
    /// 1 to 255 bytes, neither `.` nor `..`, no `/`, no NUL.
    pub name: Vec<u8>,
    /// What it stands for.
    pub node: NameNode,
}

/// A half-open interval of names of which everything is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// From this name on (from the first for `None`) up to but without the other (to the last for `None`).
    pub covers: (Option<Vec<u8>>, Option<Vec<u8>>),
    /// All names in it, sorted.
    pub entries: Vec<ListedName>,
}

impl Segment {
    /// The interval but for some names, in pieces.
    pub fn without(self, left_out: &BTreeSet<Vec<u8>>) -> Vec<Segment> {
        let Segment { covers: (mut from, to), entries } = self;
        let mut entries = entries.into_iter().peekable();
        let mut pieces = Vec::new();
        for name in left_out {
            let is_inside = from.as_ref().is_none_or(|from| name >= from) && to.as_ref().is_none_or(|to| name < to);
            if !is_inside {
                continue;
            }
            let before = std::iter::from_fn(|| entries.next_if(|entry| entry.name < *name)).collect();
            pieces.push(Segment { covers: (from, Some(name.clone())), entries: before });
            entries.next_if(|entry| entry.name == *name);
            from = Some([name, b"\0".as_slice()].concat());
        }
        pieces.push(Segment { covers: (from, to), entries: entries.collect() });
        let is_empty =
            |piece: &Segment| piece.covers.1.as_ref().is_some_and(|to| piece.covers.0.as_ref().is_some_and(|from| from >= to));
        pieces.retain(|piece| !is_empty(piece));
        pieces
    }
}

/// What a page settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classified {
    /// Disjoint intervals, ascending.
    pub segments: Vec<Segment>,
    /// Keys that cannot be shown, in no particular order.
    pub hidden: Vec<HiddenKey>,
    /// The directory's own marker object (`dir/`), which may carry its POSIX metadata.
    pub marker: Option<ObjectSummary>,
}

/// A name that is not UTF-8, which no key can have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name is not UTF-8, which object keys must be")]
pub struct NotAKey;

/// The prefix of everything under a mount of `given`: empty, or ending in `/`.
pub fn mount_prefix(given: &str) -> String {
    if given.is_empty() || given.ends_with('/') { given.to_owned() } else { format!("{given}/") }
}

/// The key of the file that these names lead to from a mount's root.
pub fn key_of<'n>(mount_prefix: &str, names: impl IntoIterator<Item = &'n [u8]>) -> Result<String, NotAKey> {
    let mut key = mount_prefix.to_owned();
    for (place, name) in names.into_iter().enumerate() {
        if place > 0 {
            key.push('/');
        }
        key.push_str(std::str::from_utf8(name).map_err(|_| NotAKey)?);
    }
    Ok(key)
}

/// The prefix of the keys in the directory that these names lead to.
pub fn dir_prefix_of<'n>(mount_prefix: &str, names: impl IntoIterator<Item = &'n [u8]>) -> Result<String, NotAKey> {
    let key = key_of(mount_prefix, names)?;
    Ok(if key == mount_prefix { key } else { key + "/" })
}

/// Why a name cannot stand in a directory.
pub fn name_fault(name: &str) -> Option<HiddenReason> {
    match name {
        "" => Some(HiddenReason::EmptyName),
        "." | ".." => Some(HiddenReason::DotName),
        _ if name.len() > NAME_MAX => Some(HiddenReason::NameTooLong),
        _ if name.contains('\0') => Some(HiddenReason::NulByte),
        _ if name.starts_with(TAG) => Some(HiddenReason::Reserved),
        OWN_NAME => Some(HiddenReason::OwnName),
        _ => None,
    }
}

/// Turns the pages of one directory's delimited listing, in order, into settled names.
#[derive(Debug)]
pub struct PageClassifier {
    dir_prefix: String,
    /// The last key or common prefix seen, without the directory's prefix.
    last: Option<String>,
    /// Objects whose names are not settled yet.
    held: BTreeMap<String, ObjectSummary>,
    done: bool,
}

/// How far a listing has settled names, given the last key seen.
#[derive(Default)]
struct Frontier {
    /// Names from here on are open.
    open_from: String,
    /// Names before it that are open all the same: `a` when the last key is `a-b`, since `a/` may come.
    open: BTreeSet<String>,
}

impl Frontier {
    /// `last` ends in `/` if it is a common prefix.
    fn after(last: &str) -> Self {
        let name = last.strip_suffix('/');
        // After `a/`, names such as `a-b` are settled too, since `a-b/` < `a/`. `0` is the character after `/`.
        let open_from = name.map_or_else(|| last.to_owned(), |name| format!("{name}0"));
        let name = name.unwrap_or(last);
        let before_slash = name.bytes().enumerate().skip(1).filter(|(_, byte)| *byte < b'/');
        let open = before_slash.map(|(at, _)| name[..at].to_owned()).collect();
        Frontier { open_from, open }
    }
}

impl PageClassifier {
    /// For a listing from its start.
    pub fn new(dir_prefix: &str) -> Self {
        PageClassifier { dir_prefix: dir_prefix.to_owned(), last: None, held: BTreeMap::new(), done: false }
    }

    /// For a listing that starts after a key that [`PageClassifier::resume_after`] gave.
    pub fn resume(dir_prefix: &str, start_after: &str) -> Self {
        let last = start_after.strip_prefix(dir_prefix).filter(|rest| !rest.is_empty()).map(str::to_owned);
        PageClassifier { last, ..Self::new(dir_prefix) }
    }

    /// The `start_after` to go on with after a restart, when this classifier is gone; `None`: from the start.
    pub fn resume_after(&self) -> Option<String> {
        let safe = match self.held.keys().next() {
            None => self.last.clone()?,
            Some(held) => just_before(held)?,
        };
        (!safe.is_empty()).then(|| format!("{}{safe}", self.dir_prefix))
    }

    /// Takes the next page.
    pub fn page(&mut self, page: ListPage) -> Classified {
        self.settle(page, None)
    }

    /// The same for a page after which nothing more comes up to a key, which need not exist. The page is not the last.
    pub fn page_until(&mut self, page: ListPage, until: &str) -> Classified {
        self.settle(page, Some(until))
    }

    fn settle(&mut self, page: ListPage, until: Option<&str>) -> Classified {
        debug_assert!(!self.done, "no page comes after the last");
        let mut classified = Classified::default();
        let before = self.last.as_deref().map(Frontier::after);
        let is_last = page.next.is_none();
        let mut names = self.take_names(page, &mut classified);
        if let Some(rest) = until.and_then(|until| until.strip_prefix(&self.dir_prefix)).filter(|rest| !rest.is_empty()) {
            // Within a common prefix a delimited listing is at that prefix.
            advance(&mut self.last, rest.split_inclusive('/').next().unwrap_or(rest));
        }
        let after = if is_last { None } else { Some(self.last.as_deref().map(Frontier::after).unwrap_or_default()) };
        for covers in intervals(before.as_ref(), after.as_ref()) {
            let range = (Bound::Included(covers.0.clone().unwrap_or_default()), upper(covers.1.as_ref()));
            let inside: Vec<String> = names.range(range).map(|(name, _)| name.clone()).collect();
            let entries = inside.into_iter().filter_map(|name| {
                let node = names.remove(&name)?;
                Some(ListedName { name: name.into_bytes(), node })
            });
            let entries = entries.collect();
            classified.segments.push(Segment { covers: (covers.0.map(into_bytes), covers.1.map(into_bytes)), entries });
        }
        self.held = names.into_iter().filter_map(|(name, node)| Some((name, object(node)?))).collect();
        self.done = is_last;
        classified
    }

    /// The page's names with those held, nodes decided as far as known; `last` moves on.
    fn take_names(&mut self, page: ListPage, classified: &mut Classified) -> BTreeMap<String, NameNode> {
        let held = std::mem::take(&mut self.held);
        let mut names: BTreeMap<String, NameNode> =
            held.into_iter().map(|(name, object)| (name, NameNode::Object(object))).collect();
        let skip = self.last.clone();
        let is_new = |rest: &str| skip.as_deref().is_none_or(|last| rest > last);
        for object in page.objects {
            let Some(rest) = object.key.strip_prefix(&self.dir_prefix).filter(|rest| is_new(rest)) else { continue };
            advance(&mut self.last, rest);
            if rest.is_empty() && !self.dir_prefix.is_empty() {
                classified.marker = Some(object);
            } else if let Some(reason) = name_fault(rest) {
                classified.hidden.push(HiddenKey { key: object.key, reason });
            } else {
                names.insert(rest.to_owned(), NameNode::Object(object));
            }
        }
        for prefix in page.prefixes {
            let Some(rest) = prefix.strip_prefix(&self.dir_prefix).filter(|rest| is_new(rest)) else { continue };
            advance(&mut self.last, rest);
            let name = rest.strip_suffix('/').unwrap_or(rest);
            if let Some(reason) = name_fault(name) {
                classified.hidden.push(HiddenKey { key: prefix, reason });
            } else if let Some(NameNode::Object(shadowed)) = names.insert(name.to_owned(), NameNode::Prefix) {
                classified.hidden.push(HiddenKey { key: shadowed.key, reason: HiddenReason::ShadowedByDirectory });
            }
        }
        names
    }
}

/// A string less than `name`, with hardly anything between the two. It must not be a key itself: what is settled of a name
/// that the new listing starts *after* would be taken back. No key has the last character of Unicode in it, which stands
/// for nothing.
fn just_before(name: &str) -> Option<String> {
    let mut chars = name.chars();
    let last = u32::from(chars.next_back()?);
    // Before U+E000 lie the surrogates, which are no characters.
    let before = last.checked_sub(1).and_then(char::from_u32).or((last > 0).then_some('\u{D7FF}'))?;
    Some(format!("{}{before}\u{10FFFF}", chars.as_str()))
}

fn advance(last: &mut Option<String>, to: &str) {
    if last.as_deref().is_none_or(|last| last < to) {
        *last = Some(to.to_owned());
    }
}

fn object(node: NameNode) -> Option<ObjectSummary> {
    match node {
        NameNode::Object(object) => Some(object),
        NameNode::Prefix => None,
    }
}

fn upper(end: Option<&String>) -> Bound<String> {
    end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.clone()))
}

fn into_bytes(name: String) -> Vec<u8> {
    name.into_bytes()
}

type Interval = (Option<String>, Option<String>);

/// What is settled after a page but was not before: ascending, disjoint, none empty.
fn intervals(before: Option<&Frontier>, after: Option<&Frontier>) -> Vec<Interval> {
    let none = BTreeSet::new();
    let still_open = after.map_or(&none, |frontier| &frontier.open);
    let was_open = before.map_or(&none, |frontier| &frontier.open);
    // The next name after `n` is `n` with a NUL.
    let mut found: Vec<Interval> =
        was_open.difference(still_open).map(|name| (Some(name.clone()), Some(format!("{name}\0")))).collect();
    let mut from = before.map(|frontier| frontier.open_from.clone());
    let inside = |name: &&String| from.as_ref().is_none_or(|from| *name >= from);
    let holes: Vec<&String> = still_open.iter().filter(inside).collect();
    for hole in holes {
        found.push((from, Some(hole.clone())));
        from = Some(format!("{hole}\0"));
    }
    found.push((from, after.map(|frontier| frontier.open_from.clone())));
    found.retain(|(from, to)| to.as_ref().is_none_or(|to| from.as_ref().map_or("", |from| from) < to.as_str()));
    found
}

#[cfg(test)]
#[path = "keymap_tests.rs"]
mod tests;
