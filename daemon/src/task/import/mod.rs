//! Import: the names and attributes of all objects below a path, from the bucket into the metadata.
//!
//! Keys are listed flat (1,000 a request, however many directories they are in), several spans at once. A span that proves long
//! is cut in two where a guess says (`guess`); what keys say of directories is `walk`'s to tell. A name that a cut stands in the
//! middle of is asked for by itself, before the span after the cut is listed.
//!
//! What the bucket no longer has stays, unless option `prune` is `true`; what was made, moved or changed here stays in any case.

mod guess;
mod pace;
mod page;
mod spans;
mod walk;

use super::{Context, ErrorCode, Job, Step, TaskError, TaskKind, TaskRequest};
pub(in crate::task) use pace::Pace;
pub(in crate::task) use spans::Spans;

use crate::format::located;
use crate::format::rows::ImportCursor;
use crate::meta::Missing;
use crate::repository::{ListRequest, StoreError};
use crate::vfs::{ImportDir, ImportRoot, Unread, Vfs};
use async_trait::async_trait;
use guess::NextKey;
use pace::Asked;
use page::{Heads, Page, head_all};
use spans::Taken;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use walk::{Walk, above, astride};

/// Stands behind every key of a directory: no key has this character in it.
const BEHIND: char = '\u{10FFFF}';
/// How often a worker without a span looks for one to take or to cut.
const IDLE: Duration = Duration::from_millis(10);
/// The option that has names removed that the bucket no longer has.
pub const PRUNE: &str = "prune";

/// The import job.
pub struct Import {
    vfs: Vfs,
}

impl Import {
    /// Imports into a file system.
    pub fn new(vfs: Vfs) -> Self {
        Import { vfs }
    }
}

#[async_trait]
impl Job for Import {
    fn kind(&self) -> TaskKind {
        TaskKind::Import
    }

    fn check(&self, request: &TaskRequest) -> Result<(), TaskError> {
        if request.paths.is_empty() {
            return Err(TaskError::Invalid("import: no path is given".into()));
        }
        match request.options.iter().find(|(name, value)| *name != PRUNE || !["true", "false"].contains(&value.as_str())) {
            Some((name, value)) => Err(TaskError::Invalid(format!("import: option {name}={value} is not known"))),
            None => Ok(()),
        }
    }

    async fn run(&self, context: &Context) -> Result<(), TaskError> {
        let cursor = match context.cursor() {
            bytes if bytes.is_empty() => ImportCursor::default(),
            bytes => ImportCursor::decode(&bytes).map_err(|_| TaskError::Cursor)?,
        };
        let missing = if context.option(PRUNE).as_deref() == Some("true") { Missing::Remove } else { Missing::Keep };
        for (index, path) in (0u64..).zip(context.paths()).skip(cursor.path as usize) {
            let spans = Spans::of(index, &cursor);
            let pace = Asked { context: context.clone(), vfs: self.vfs.clone(), missing };
            let import = |root| Below::new(self.vfs.clone(), pace, root, spans);
            match self.vfs.import_root(&path).await? {
                ImportRoot::Directory(root) => Arc::new(import(root)).run().await?,
                ImportRoot::File(dir, name) => import(dir).file(&name).await?,
                ImportRoot::Local => {}
            }
        }
        Ok(())
    }
}

/// The walk over what is below one directory.
pub(in crate::task) struct Below<P> {
    vfs: Vfs,
    pace: P,
    root: ImportDir,
    spans: Spans,
}

impl<P: Pace> Below<P> {
    /// A walk that is to be run.
    pub(in crate::task) fn new(vfs: Vfs, pace: P, root: ImportDir, spans: Spans) -> Self {
        Below { vfs, pace, root, spans }
    }

    /// Walks to the end.
    pub(in crate::task) async fn run(self: Arc<Self>) -> Result<(), TaskError> {
        let mut workers = JoinSet::new();
        for _ in 0..self.pace.listings() {
            let import = Arc::clone(&self);
            workers.spawn(async move { import.work().await });
        }
        let mut outcome = Ok(());
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended.unwrap_or(Err(TaskError::Panicked)) {
                // The others may have units in flight: those end, and are recorded.
                self.spans.give_up();
                if outcome.is_ok() || matches!(outcome, Err(TaskError::Stopped)) {
                    outcome = Err(error);
                }
            }
        }
        outcome?;
        self.complete_what_was_cut().await
    }

    /// One file instead of a directory.
    async fn file(&self, name: &str) -> Result<(), TaskError> {
        let turn = self.pace.turn().await?;
        let unread = self.pace.settle(&self.root, name).await?;
        drop(turn);
        let heads = head_all(&self.vfs, &self.pace, unread).await?;
        let failed = heads.failures.len() as u64;
        self.pace.record(Step { found: 1, succeeded: 1 - failed.min(1), failures: heads.failures, ..Step::default() });
        Ok(())
    }

    /// Lists spans as long as there are any, or any to be cut.
    async fn work(&self) -> Result<(), TaskError> {
        loop {
            if let Some(span) = self.spans.take() {
                self.list_span(span).await?;
            } else if let Some(long) = self.spans.long() {
                let turn = self.pace.turn().await?;
                let keys = Keys { import: self, end: long.end.as_deref() };
                let at = guess::cut_after(self.root.prefix(), &long.listed, &keys).await?;
                drop(turn);
                if let Some(span) = self.spans.cut(&long, at) {
                    self.list_span(span).await?;
                }
            } else if self.spans.is_done() {
                return Ok(());
            } else if self.pace.is_stopped() || self.spans.is_given_up() {
                return Err(TaskError::Stopped);
            } else {
                tokio::time::sleep(IDLE).await;
            }
        }
    }

    async fn list_span(&self, span: Taken) -> Result<(), TaskError> {
        let mut dirs = HashMap::from([(self.root.prefix().to_owned(), Some(self.root.clone()))]);
        if let Some(start) = &span.start {
            self.settle_astride(start, &mut dirs).await?;
        }
        let mut walk = Walk::new(self.root.prefix(), span.start.as_deref(), self.vfs.now_ns());
        let (mut token, mut start_after) = (None, span.start.clone());
        let mut before: Option<Page> = None;
        loop {
            if self.spans.is_given_up() {
                return Err(TaskError::Stopped);
            }
            let turn = self.pace.turn().await?;
            let asked_ns = self.vfs.now_ns();
            let request = ListRequest {
                prefix: self.root.prefix().to_owned(),
                delimited: false,
                token: token.take(),
                start_after: start_after.take(),
                max_keys: None,
            };
            let mut listed = self.vfs.import_list(request).await?;
            let last = listed.objects.last().map(|object| object.key.clone());
            let end = self.spans.listed(span.id, last.as_deref());
            let whole = listed.objects.len();
            if let Some(end) = &end {
                listed.objects.truncate(listed.objects.partition_point(|object| object.key <= *end));
            }
            token = listed.next.take();
            let is_last = token.is_none() || listed.objects.len() < whole;
            let mut page = Page::begin(span.id, &listed.objects, is_last);
            let said = walk.page(listed.objects, asked_ns, end.as_deref(), is_last);
            page.merge(self, said, &mut dirs).await?;
            drop(turn);
            // The objects' metadata of a page is read while the next page is listed.
            if let Some(before) = before.take() {
                before.finish(self).await?;
            }
            page.start_heads(self);
            if is_last {
                return page.finish(self).await;
            }
            if let Some(prefix) = self.passed_over(page.last_key(), &mut dirs)? {
                // What is left of it is not listed at all.
                walk.pass_over(&prefix);
                (token, start_after) = (None, Some(format!("{prefix}{BEHIND}")));
            }
            before = Some(page);
        }
    }

    /// Settles the names that a cut stands in the middle of, from the root down.
    async fn settle_astride(&self, cut: &str, dirs: &mut HashMap<String, Option<ImportDir>>) -> Result<(), TaskError> {
        let mut heads = Heads::default();
        for prefix in above(self.root.prefix(), cut) {
            let Some(dir) = self.dir_of(&prefix, dirs)? else { break };
            for name in astride(&prefix, cut) {
                let turn = self.pace.turn().await?;
                let unread = self.pace.settle(&dir, &name).await?;
                drop(turn);
                heads.failures.extend(head_all(&self.vfs, &self.pace, unread).await?.failures);
            }
        }
        self.pace.record(Step { failures: heads.failures, ..Step::default() });
        Ok(())
    }

    /// The directory of a prefix, if the bucket's name for it leads there.
    fn dir_of(&self, prefix: &str, dirs: &mut HashMap<String, Option<ImportDir>>) -> Result<Option<ImportDir>, TaskError> {
        if let Some(known) = dirs.get(prefix) {
            return Ok(known.clone());
        }
        let inner = prefix.strip_suffix('/').unwrap_or(prefix);
        let at = located::parent_prefix(inner).len();
        let dir = match self.dir_of(&prefix[..at], dirs)? {
            Some(parent) => self.vfs.import_dir(&parent, &inner[at..])?,
            None => None,
        };
        dirs.insert(prefix.to_owned(), dir.clone());
        Ok(dir)
    }

    /// Asks the bucket for a directory that is not known.
    async fn ask_for_dir(&self, prefix: &str, dirs: &mut HashMap<String, Option<ImportDir>>) -> Result<Vec<Unread>, TaskError> {
        let inner = prefix.strip_suffix('/').unwrap_or(prefix);
        let at = located::parent_prefix(inner).len();
        let Some(parent) = self.dir_of(&prefix[..at], dirs)? else { return Ok(Vec::new()) };
        dirs.remove(prefix);
        self.pace.settle(&parent, &inner[at..]).await
    }

    /// The outermost directory that a key is in and that the walk has nothing to do in.
    fn passed_over(&self, key: Option<&str>, dirs: &mut HashMap<String, Option<ImportDir>>) -> Result<Option<String>, TaskError> {
        let Some(key) = key.filter(|_| self.pace.passes_over()) else { return Ok(None) };
        for prefix in above(self.root.prefix(), key) {
            let dir = self.dir_of(&prefix, dirs)?;
            if dir.is_none() {
                // It may be there with the next page.
                dirs.remove(&prefix);
            }
            let is_unseen = dir.map_or(Ok(true), |dir| self.vfs.is_unseen(&dir))?;
            if is_unseen {
                return Ok(Some(prefix));
            }
        }
        Ok(None)
    }

    /// Every directory that a cut was in is known to its end, now that all spans are listed.
    async fn complete_what_was_cut(&self) -> Result<(), TaskError> {
        let cuts = self.spans.cuts();
        let prefixes: BTreeSet<String> = cuts.iter().flat_map(|cut| above(self.root.prefix(), cut)).collect();
        let mut dirs = HashMap::from([(self.root.prefix().to_owned(), Some(self.root.clone()))]);
        for prefix in prefixes {
            if let Some(dir) = self.dir_of(&prefix, &mut dirs)?.filter(|dir| self.pace.completes(dir)) {
                self.vfs.import_complete(&dir, self.pace.started_ns()).await?;
            }
        }
        Ok(())
    }
}

/// The keys of a span, one at a time.
struct Keys<'a, P> {
    import: &'a Below<P>,
    end: Option<&'a str>,
}

impl<P: Pace> NextKey for Keys<'_, P> {
    type Error = StoreError;

    async fn after(&self, key: String) -> Result<Option<String>, StoreError> {
        let request = ListRequest {
            prefix: self.import.root.prefix().to_owned(),
            delimited: false,
            token: None,
            start_after: Some(key),
            max_keys: Some(1),
        };
        let page = self.import.vfs.import_list(request).await?;
        let found = page.objects.into_iter().next().map(|object| object.key);
        Ok(found.filter(|key| self.end.is_none_or(|end| key.as_str() <= end)))
    }
}

/// What a hidden key fails with.
const HIDDEN: ErrorCode = ErrorCode::S3ObjectPathNotPosixCompliant;
