//! One page of keys: merged, then the objects' metadata read, then recorded.

use super::walk::Said;
use super::{Below, HIDDEN, Pace};
use crate::format::manifest::OWN_NAME;
use crate::repository::ObjectSummary;
use crate::task::{ErrorCode, Failure, Step, TaskError};
use crate::vfs::{HeadFailure, ImportDir, ImportPart, Unread, Vfs};
use futures::StreamExt;
use std::collections::HashMap;
use tokio::task::JoinHandle;

/// HEADs under way at once, of one page. Of all pages, the turns say.
const HEADS_AT_ONCE: usize = 128;

/// What reading metadata came to.
#[derive(Default)]
pub(super) struct Heads {
    pub(super) failures: Vec<Failure>,
}

/// A page on its way.
pub(super) struct Page {
    span: u64,
    found: u64,
    bytes: u64,
    last_key: Option<String>,
    is_last: bool,
    failures: Vec<Failure>,
    unread: Vec<Unread>,
    heads: Option<JoinHandle<Result<Heads, TaskError>>>,
}

impl Page {
    pub(super) fn begin(span: u64, objects: &[ObjectSummary], is_last: bool) -> Self {
        // What exported snapshots keep is nobody's to import.
        let counted = || objects.iter().filter(|object| !object.key.split('/').any(|name| name == OWN_NAME));
        Page {
            span,
            found: counted().count() as u64,
            bytes: counted().map(|object| object.size).sum(),
            last_key: objects.last().map(|object| object.key.clone()),
            is_last,
            failures: Vec::new(),
            unread: Vec::new(),
            heads: None,
        }
    }

    /// The last of its keys.
    pub(super) fn last_key(&self) -> Option<&str> {
        self.last_key.as_deref()
    }

    /// Merges what the page said, outer directories before inner ones: a directory has to be there before its entries.
    pub(super) async fn merge<P: Pace>(
        &mut self,
        import: &Below<P>,
        said: Said,
        dirs: &mut HashMap<String, Option<ImportDir>>,
    ) -> Result<(), TaskError> {
        for (key, reason) in said.hidden {
            let path = import.vfs.path_of_key(&key);
            self.failures.push(Failure { path, code: HIDDEN, why: reason.to_string() });
        }
        let depth_of = |prefix: &str| prefix.bytes().filter(|byte| *byte == b'/').count();
        let mut parts = said.parts.into_iter().peekable();
        while let Some(depth) = parts.peek().map(|part| depth_of(&part.prefix)) {
            let mut level = Vec::new();
            while let Some(part) = parts.next_if(|part| depth_of(&part.prefix) == depth) {
                let mut known = import.dir_of(&part.prefix, dirs)?;
                if known.is_none() && part.is_cut {
                    // Its name stands astride the cut, and the span after the cut has not asked for it yet.
                    self.unread.extend(import.ask_for_dir(&part.prefix, dirs).await?);
                    known = import.dir_of(&part.prefix, dirs)?;
                }
                let Some(dir) = known else { continue };
                let is_first = part.is_first;
                level.push(ImportPart {
                    dir,
                    classified: part.classified,
                    asked_ns: part.asked_ns,
                    is_first,
                    complete: part.complete,
                });
            }
            self.unread.extend(import.pace.merge(level).await?);
        }
        // Directories that are through need not be remembered, nor those that were not there: they may be with the next page.
        let last = self.last_key.as_deref().unwrap_or_default();
        dirs.retain(|prefix, dir| dir.is_some() && (last.starts_with(prefix.as_str()) || *prefix == import.root.prefix()));
        Ok(())
    }

    /// Begins to read the objects' metadata.
    pub(super) fn start_heads<P: Pace>(&mut self, import: &Below<P>) {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() || !import.vfs.reads_posix_metadata() {
            return;
        }
        let (vfs, pace) = (import.vfs.clone(), import.pace.clone());
        self.heads = Some(tokio::spawn(async move { head_all(&vfs, &pace, unread).await }));
    }

    /// Waits for them, and records the page.
    pub(super) async fn finish<P: Pace>(mut self, import: &Below<P>) -> Result<(), TaskError> {
        if let Some(heads) = self.heads.take() {
            self.failures.extend(heads.await.unwrap_or(Err(TaskError::Panicked))?.failures);
        }
        let succeeded = self.found.saturating_sub(self.failures.len() as u64);
        let step = Step { found: self.found, succeeded, bytes: self.bytes, failures: self.failures, cursor: None };
        let record = |cursor| import.pace.record(Step { cursor: Some(cursor), ..step });
        import.spans.done(self.span, self.last_key, self.is_last, record);
        Ok(())
    }
}

/// Reads the metadata of objects, each in a turn of its own.
pub(super) async fn head_all<P: Pace>(vfs: &Vfs, pace: &P, unread: Vec<Unread>) -> Result<Heads, TaskError> {
    if !vfs.reads_posix_metadata() {
        return Ok(Heads::default());
    }
    let head = |unread: Unread| async move {
        let turn = pace.turn().await?;
        let outcome = vfs.import_head(&unread).await;
        drop(turn);
        Ok(outcome.err().map(|failure| as_failure(vfs, &unread, failure)))
    };
    let mut heads = Heads::default();
    let mut outcomes = futures::stream::iter(unread).map(head).buffer_unordered(HEADS_AT_ONCE);
    let mut stopped = Ok(());
    // Those in flight end by themselves, also once others are stopped.
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(failure) => heads.failures.extend(failure),
            Err(error) => stopped = Err(error),
        }
    }
    stopped.map(|()| heads)
}

fn as_failure(vfs: &Vfs, unread: &Unread, failure: HeadFailure) -> Failure {
    let why = failure.to_string();
    let (key, code) = match (failure, unread) {
        (HeadFailure::Store { key, error }, _) => (key, ErrorCode::from(&error)),
        (HeadFailure::Here(error), Unread::Marker(_, marker)) => (marker.key.clone(), ErrorCode::from(error.kind)),
        (HeadFailure::Here(error), Unread::File(ino)) => (vfs.key_of_ino(*ino).unwrap_or_default(), ErrorCode::from(error.kind)),
    };
    Failure { path: vfs.path_of_key(&key), code, why }
}
