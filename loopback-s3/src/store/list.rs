//! Listings: pages over the keys of a bucket.
//!
//! 1. A page holds at most `limit` entries; a common prefix counts as one.
//! 2. A common prefix is stepped over with one look-up, however many keys it holds.
//! 3. Pages joined by their markers give every entry once, in byte order, if nothing changes meanwhile.

use super::bucket::{Bucket, Keys, Slot};
use super::object::{Revision, VersionId};
use std::ops::Bound;
use std::sync::Arc;

/// Where a page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first key.
    #[default]
    First,
    /// With the first entry after this key or common prefix.
    After(String),
    /// With the versions of this key that are older than the one named.
    AfterVersion(String, String),
}

/// Which page is wanted.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Keys that begin with this.
    pub prefix: String,
    /// Keys are rolled up at the first occurrence of this after the prefix; never empty.
    pub delimiter: Option<String>,
    /// Where it begins.
    pub start: Start,
    /// At most this many entries.
    pub limit: usize,
}

/// A key in a listing, with one of its versions.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The version.
    pub revision: Arc<Revision>,
    /// Whether it is the key's latest.
    pub latest: bool,
}

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Keys in order; versions of one key newest first.
    pub keys: Vec<Listed>,
    /// Common prefixes in order.
    pub prefixes: Vec<String>,
    /// Whether more follows.
    pub truncated: bool,
    /// The last key or common prefix of the page.
    pub last: Option<String>,
    /// The last version of the page, if it ended with a key.
    pub last_version: Option<VersionId>,
}

impl Page {
    fn len(&self) -> usize {
        self.keys.len() + self.prefixes.len()
    }
}

impl Bucket {
    /// A page of the latest objects, without delete markers.
    pub fn page(&self, request: &PageRequest) -> Page {
        walk(&self.keys.read(), request, &|slot, _| match slot.latest.object {
            Some(_) => vec![slot.latest.clone()],
            None => Vec::new(),
        })
    }

    /// A page of all versions, delete markers among them.
    pub fn page_of_versions(&self, request: &PageRequest) -> Page {
        walk(&self.keys.read(), request, &|slot, older_than| {
            let all = slot.newest_first().cloned();
            match older_than {
                None => all.collect(),
                Some(marker) => all.skip_while(|r| r.version.to_string() != *marker).skip(1).collect(),
            }
        })
    }
}

/// The versions of a key to list, given the one to resume after.
type Choose<'a> = &'a dyn Fn(&Slot, Option<&str>) -> Vec<Arc<Revision>>;

fn walk(keys: &Keys, request: &PageRequest, choose: Choose<'_>) -> Page {
    let mut page = Page::default();
    if request.limit == 0 {
        return page;
    }
    let mut from = lower_bound(request);
    while let Some((key, slot)) = first_from(keys, &from).filter(|(key, _)| key.starts_with(&request.prefix)) {
        let resume = match &request.start {
            Start::AfterVersion(at, version) if at == key => Some(version.as_str()),
            _ => None,
        };
        let revisions = choose(slot, resume);
        let rolled = common_prefix(key, request);
        from = match rolled {
            Some(prefix) if !revisions.is_empty() => match past(prefix) {
                Some(next) => Bound::Included(next),
                None => Bound::Unbounded,
            },
            _ => Bound::Excluded(key.to_string()),
        };
        let full = match rolled {
            _ if revisions.is_empty() => false,
            Some(prefix) => add_prefix(&mut page, request.limit, prefix),
            None => add_versions(&mut page, request.limit, key, slot, revisions),
        };
        if full || from == Bound::Unbounded {
            page.truncated = full;
            break;
        }
    }
    page
}

/// Adds a prefix; `true` if the page was full already.
fn add_prefix(page: &mut Page, limit: usize, prefix: &str) -> bool {
    if page.len() == limit {
        return true;
    }
    page.prefixes.push(prefix.to_owned());
    page.last = Some(prefix.to_owned());
    page.last_version = None;
    false
}

/// Adds versions of a key; `true` if not all fitted.
fn add_versions(page: &mut Page, limit: usize, key: &str, slot: &Slot, revisions: Vec<Arc<Revision>>) -> bool {
    for revision in revisions {
        if page.len() == limit {
            return true;
        }
        page.last = Some(key.to_owned());
        page.last_version = Some(revision.version);
        page.keys.push(Listed { key: key.to_owned(), latest: Arc::ptr_eq(&revision, &slot.latest), revision });
    }
    false
}

fn first_from<'a>(keys: &'a Keys, from: &Bound<String>) -> Option<(&'a str, &'a Slot)> {
    let from = from.as_ref().map(String::as_str);
    keys.range::<str, _>((from, Bound::Unbounded)).next().map(|(key, slot)| (&**key, slot))
}

fn lower_bound(request: &PageRequest) -> Bound<String> {
    let first = match &request.start {
        Start::First => return Bound::Included(request.prefix.clone()),
        Start::AfterVersion(key, _) => Bound::Included(key.clone()),
        // A common prefix that ended the page before is not listed again, nor is anything in it.
        Start::After(key) if common_prefix(key, request) == Some(key) => past(key).map_or(Bound::Unbounded, Bound::Included),
        Start::After(key) => Bound::Excluded(key.clone()),
    };
    match first {
        Bound::Included(key) | Bound::Excluded(key) if key < request.prefix => Bound::Included(request.prefix.clone()),
        other => other,
    }
}

fn common_prefix<'a>(key: &'a str, request: &PageRequest) -> Option<&'a str> {
    let delimiter = request.delimiter.as_deref()?;
    let rest = key.strip_prefix(request.prefix.as_str())?;
    rest.find(delimiter).map(|at| &key[..request.prefix.len() + at + delimiter.len()])
}

/// The smallest string greater than every string that begins with `prefix`; `None` if there is none.
fn past(prefix: &str) -> Option<String> {
    let mut next = prefix.to_owned();
    while let Some(last) = next.pop() {
        // UTF-8 orders as code points do, so the next code point is the next byte string.
        if let Some(successor) = (last as u32 + 1..=char::MAX as u32).find_map(char::from_u32) {
            next.push(successor);
            return Some(next);
        }
    }
    None
}
