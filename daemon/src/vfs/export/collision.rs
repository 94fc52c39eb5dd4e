//! Something of another type in the way of a new object: objects below `KEY/` where `KEY` is to be a file, or an object `KEY` where `KEY/…` is to be a directory.
//!
//! A store takes both, and says nothing; but no tree can show both. So it is looked for before something new is written. What was seen is remembered for
//! a moment, so that a directory of thousands of new files costs a LIST for each thousand keys that the bucket has there, and a new directory one HEAD. Between that look and the
//! write somebody else may still write: then the object is there and hidden, and no byte is lost.

use super::aside::Aside;
use super::{ErrorCode, ExportFailure, ExportResult, Inner, OnConflict};
use crate::format::located;
use crate::ids::Ino;
use crate::meta::Link;
use crate::repository::write::{DeleteRequest, same_etag};
use crate::repository::{ListPage, ListRequest, StoreError, Urgency};
use crate::vfs::metadata_error;
use moka::sync::Cache;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long what was seen holds.
const HOLDS: Duration = Duration::from_secs(10);
/// Directories remembered.
const DIRECTORIES: u64 = 4096;
/// Pages looked at to find something that is not ours to be deleted.
const PAGES: usize = 10;

/// What was seen of the bucket.
pub(super) struct Sights {
    /// By prefix of a directory: its own prefixes from one key to another.
    below: Cache<String, Arc<tokio::sync::Mutex<Option<Stretch>>>>,
    /// Keys under which there was no object.
    absent: Cache<String, ()>,
}

/// The prefixes below a directory, from one key (exclusive) to another (inclusive).
struct Stretch {
    from: String,
    /// `None`: to the end.
    to: Option<String>,
    prefixes: HashSet<String>,
}

impl Default for Sights {
    fn default() -> Self {
        let below = Cache::builder().max_capacity(DIRECTORIES).time_to_live(HOLDS).build();
        let absent = Cache::builder().max_capacity(DIRECTORIES).time_to_live(HOLDS).build();
        Sights { below, absent }
    }
}

impl Stretch {
    fn of(from: &str, page: ListPage) -> Self {
        let last = page.objects.last().map(|object| object.key.clone()).max(page.prefixes.last().cloned());
        let to = page.next.is_some().then(|| last.unwrap_or_else(|| from.to_owned()));
        Stretch { from: from.to_owned(), to, prefixes: page.prefixes.into_iter().collect() }
    }

    /// Whether there is a prefix, if this stretch says.
    fn has(&self, prefix: &str) -> Option<bool> {
        let is_within = prefix > self.from.as_str() && self.to.as_ref().is_none_or(|to| prefix <= to.as_str());
        is_within.then(|| self.prefixes.contains(prefix))
    }
}

/// What is to be done about the way of something new.
pub(super) enum Clear {
    Free,
    PassOver,
    MakeWay(Aside),
}

/// What is in the way.
struct InTheWay {
    /// What is here.
    ours: Aside,
    /// The object, or the prefix.
    theirs: String,
}

impl Inner {
    /// Whether the way is free for a new object under `key`, which is to be that of `ino` under `link`. `anew`: what was seen before is not good enough.
    pub(super) async fn clear_for(
        self: &Arc<Self>,
        ino: Ino,
        link: &Link,
        key: &str,
        on_conflict: OnConflict,
        anew: bool,
        urgency: Urgency,
    ) -> ExportResult<Clear> {
        let above = self.clear_above(link.parent, on_conflict, urgency).await?;
        if !matches!(above, Clear::Free) {
            return Ok(above);
        }
        let below = format!("{key}/");
        if !self.is_prefix(key, &below, anew, urgency).await? || self.is_all_to_go(&below, urgency).await? {
            return Ok(Clear::Free);
        }
        let what = InTheWay { ours: Aside { ino, link: link.clone() }, theirs: below };
        // A whole directory of others is not deleted for one file's sake.
        what.decide(on_conflict)
    }

    /// Whether nothing of another type has the name of a directory that the bucket does not have yet, or of one above it.
    pub(super) async fn clear_above(
        self: &Arc<Self>,
        mut dir: Ino,
        on_conflict: OnConflict,
        urgency: Urgency,
    ) -> ExportResult<Clear> {
        while dir != Ino::ROOT {
            let Some(row) = self.meta.inode(dir).map_err(metadata_error)? else { return Ok(Clear::Free) };
            // The bucket had it, and as far as is known it has it.
            let is_known = row.base.is_none() && !(row.local && row.origin.is_none());
            let Some(link) = row.link.filter(|_| !is_known) else { return Ok(Clear::Free) };
            let key = self.directory(dir)?.target.trim_end_matches('/').to_owned();
            let parent = link.parent;
            if let Some(pin) = self.object_at(&key, urgency).await? {
                if on_conflict == OnConflict::Overwrite {
                    let request = DeleteRequest { key: key.clone(), pin: Some(pin) };
                    self.repository.delete(request, urgency).await?;
                } else {
                    return InTheWay { ours: Aside { ino: dir, link }, theirs: key }.decide(on_conflict);
                }
            }
            self.exports.sights.absent.insert(key, ());
            dir = parent;
        }
        Ok(Clear::Free)
    }

    /// Somebody else's object under a key.
    async fn object_at(&self, key: &str, urgency: Urgency) -> ExportResult<Option<crate::repository::Pin>> {
        if self.exports.sights.absent.contains_key(key) {
            return Ok(None);
        }
        let head = match self.repository.head(key, urgency).await {
            Ok(head) => head,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let doomed = self.meta.doomed_at(key).map_err(metadata_error)?;
        Ok((!doomed.is_some_and(|doomed| same_etag(&doomed.etag, &head.pin.etag))).then_some(head.pin))
    }

    async fn is_prefix(&self, key: &str, prefix: &str, anew: bool, urgency: Urgency) -> ExportResult<bool> {
        let dir = located::parent_prefix(key);
        let sight = self.exports.sights.below.get_with_by_ref(dir, Arc::default);
        // One asks, and all others that are in that stretch learn it from the answer.
        let mut sight = sight.lock().await;
        if let Some(known) = sight.as_ref().filter(|_| !anew).and_then(|stretch| stretch.has(prefix)) {
            return Ok(known);
        }
        let start_after = Some(key.to_owned());
        let mut request = ListRequest { prefix: dir.to_owned(), delimited: true, start_after, ..ListRequest::default() };
        let page = loop {
            let page = self.repository.list(request.clone(), urgency).await?;
            // A page of nothing that is not the last says nothing.
            if page.next.is_none() || !page.objects.is_empty() || !page.prefixes.is_empty() {
                break page;
            }
            request = ListRequest { token: page.next, start_after: None, ..request };
        };
        let stretch = Stretch::of(key, page);
        let has = stretch.has(prefix).unwrap_or(false);
        *sight = Some(stretch);
        Ok(has)
    }

    /// Whether everything below a prefix is what lost its name here, or is to be moved: it is on its way out.
    async fn is_all_to_go(&self, prefix: &str, urgency: Urgency) -> ExportResult<bool> {
        let mut request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        for _ in 0..PAGES {
            let page = self.repository.list(request.clone(), urgency).await?;
            for object in &page.objects {
                let is_doomed = self.meta.doomed_at(&object.key).map_err(metadata_error)?.is_some();
                if !is_doomed && !self.is_of_moved_directory(&object.key)? {
                    return Ok(false);
                }
            }
            let Some(next) = page.next else { return Ok(true) };
            request.token = Some(next);
        }
        Ok(true)
    }
}

impl InTheWay {
    fn decide(self, on_conflict: OnConflict) -> ExportResult<Clear> {
        match on_conflict {
            OnConflict::Skip => Ok(Clear::PassOver),
            OnConflict::KeepBoth => Ok(Clear::MakeWay(self.ours)),
            OnConflict::Fail | OnConflict::Overwrite => {
                let theirs = &self.theirs;
                let (here, there) = if theirs.ends_with('/') { ("a file", "a directory") } else { ("a directory", "an object") };
                let message = format!(
                    "'{}' is {here} here and {there} in the bucket; rename one of the two, or export with --on-conflict keep-both",
                    theirs.trim_end_matches('/')
                );
                Err(ExportFailure::new(ErrorCode::S3ObjectTypeMismatch, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::ObjectSummary;

    fn page(objects: &[&str], prefixes: &[&str], more: bool) -> ListPage {
        let summary = |key: &&str| ObjectSummary { key: (*key).to_owned(), size: 0, etag: "e".to_owned(), modified_ns: 0 };
        ListPage {
            objects: objects.iter().map(summary).collect(),
            prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
            next: more.then(|| "more".to_owned()),
        }
    }

    #[test]
    fn a_stretch_says_what_lies_within_it_and_nothing_else() {
        let stretch = Stretch::of("d/b", page(&["d/c", "d/m"], &["d/b/", "d/k/"], true));
        assert_eq!(stretch.has("d/b/"), Some(true));
        assert_eq!(stretch.has("d/c/"), Some(false));
        assert_eq!(stretch.has("d/k/"), Some(true));
        assert_eq!(stretch.has("d/a/"), None, "before");
        assert_eq!(stretch.has("d/m/"), None, "behind: the page may have ended within");
        assert_eq!(Stretch::of("d/b", page(&["d/c"], &[], false)).has("d/z/"), Some(false), "to the end");
        assert_eq!(Stretch::of("d/b", page(&[], &[], true)).has("d/b/"), None, "an empty page that is not the last");
    }
}
