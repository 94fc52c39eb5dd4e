//! From keys in their order to directories: what a flat listing of a span of keys says of each directory it passes.
//!
//! Keys come in key order, so at any moment only the directories above the last key are open: one classifier each, as if each had been
//! listed by itself. A directory is closed when a key comes that is not in it.
//!
//! Invariants:
//! 1. Of a directory that lies whole within the span, the parts are what a listing of it would say, the last with its number of entries.
//! 2. Of a directory that an end of the span lies in, the parts say nothing of the names that the end stands in the middle of
//!    ([`astride`]), and of all others what is true of the whole bucket.
//! 3. Memory follows the depth of the tree and the length of a page.

use crate::repository::keymap::{Classified, HiddenReason, PageClassifier, name_fault};
use crate::repository::{ListPage, ObjectSummary};
use std::collections::BTreeSet;

/// The way through one span of keys below a directory.
pub(super) struct Walk {
    root: String,
    /// The directories above the last key, outermost first.
    open: Vec<Open>,
    /// Names that the span's start stands in the middle of are left out of what directories say, by directory.
    start: Option<String>,
    /// The directory passed over last: nothing is said of it, nor of what is below it.
    passed_over: Option<String>,
}

struct Open {
    prefix: String,
    classifier: PageClassifier,
    pending: ListPage,
    /// An end of a span lies in it.
    is_cut: bool,
    is_first: bool,
    asked_ns: i64,
    entries: u64,
}

/// What keys said of a directory.
#[derive(Debug)]
pub(super) struct Part {
    /// The directory.
    pub prefix: String,
    /// What they said.
    pub classified: Classified,
    /// When the first of its keys was asked for (wall time, ns).
    pub asked_ns: i64,
    /// Whether an end of the span lies in it: then the name of it is asked for by itself, maybe later than this.
    pub is_cut: bool,
    /// Whether nothing was said of it before, nor will be by another span.
    pub is_first: bool,
    /// The number of entries, if this is the last, and all of it.
    pub complete: Option<u64>,
}

/// What a page of keys said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Of which directories, outer before inner.
    pub parts: Vec<Part>,
    /// Keys that no tree can hold.
    pub hidden: Vec<(String, HiddenReason)>,
}

/// The names in a directory that a key stands in the middle of: some of what belongs to them comes before or at the key, some after it.
pub(super) fn astride(dir_prefix: &str, key: &str) -> BTreeSet<String> {
    let Some(rest) = key.strip_prefix(dir_prefix) else { return BTreeSet::new() };
    let name = rest.split('/').next().unwrap_or_default();
    // `a` and `a/x` have `a-b` between them.
    let shorter = name.bytes().enumerate().skip(1).filter(|(_, byte)| *byte < b'/').map(|(at, _)| name[..at].to_owned());
    let mut names: BTreeSet<String> = shorter.chain([name.to_owned()]).collect();
    names.retain(|name| name_fault(name).is_none());
    names
}

/// The directories below `root` that a key is in, `root` first.
pub(super) fn above(root: &str, key: &str) -> Vec<String> {
    let Some(rest) = key.strip_prefix(root) else { return Vec::new() };
    let mut found = vec![root.to_owned()];
    for name in rest.split_inclusive('/') {
        let Some(bare) = name.strip_suffix('/').filter(|bare| name_fault(bare).is_none()) else { break };
        let last = found.last().map_or("", String::as_str);
        found.push(format!("{last}{bare}/"));
    }
    found
}

impl Walk {
    /// From after `start` on, or from the first key below `root`.
    pub(super) fn new(root: &str, start: Option<&str>, asked_ns: i64) -> Self {
        let open = match start {
            None => vec![Open::new(root.to_owned(), asked_ns)],
            Some(start) => above(root, start).into_iter().map(|prefix| Open::cut(prefix, start, asked_ns)).collect(),
        };
        Walk { root: root.to_owned(), open, start: start.map(str::to_owned), passed_over: None }
    }

    /// The rest of a directory that the last key is in is not listed: nothing more is said of it.
    pub(super) fn pass_over(&mut self, prefix: &str) {
        self.open.retain(|open| !open.prefix.starts_with(prefix));
        self.passed_over = Some(prefix.to_owned());
    }

    /// Takes the next keys. `end` is the last key of the span, as known now; `is_last` says that all keys up to it are here.
    pub(super) fn page(&mut self, objects: Vec<ObjectSummary>, asked_ns: i64, end: Option<&str>, is_last: bool) -> Said {
        let mut said = Said::default();
        for object in objects {
            self.take(object, asked_ns, end, &mut said);
        }
        if is_last {
            self.reach(end, asked_ns, &mut said);
        }
        for open in &mut self.open {
            open.say(self.start.as_deref(), end, None, &mut said);
        }
        if let Some(passed_over) = &self.passed_over {
            // A cut may lie in it.
            said.parts.retain(|part| !part.prefix.starts_with(passed_over.as_str()));
        }
        said.parts.sort_by_key(|part| part.prefix.bytes().filter(|byte| *byte == b'/').count());
        said
    }

    /// No more keys come up to the end of the span.
    fn reach(&mut self, end: Option<&str>, asked_ns: i64, said: &mut Said) {
        let start = self.start.as_deref();
        while let Some(mut top) = self.open.pop_if(|top| !end.is_some_and(|end| end.starts_with(&top.prefix))) {
            top.close(start, said);
        }
        let Some(end) = end else { return };
        // Also the directories that the end is in and no key was: what is before the end in them is nothing.
        let known = self.open.len();
        self.open.extend(above(&self.root, end).into_iter().skip(known).map(|prefix| Open::new(prefix, asked_ns)));
        for mut open in std::mem::take(&mut self.open) {
            open.say(start, Some(end), Some(end), said);
        }
    }

    fn take(&mut self, object: ObjectSummary, asked_ns: i64, end: Option<&str>, said: &mut Said) {
        if !object.key.starts_with(&self.root) {
            return;
        }
        while let Some(mut top) = self.open.pop_if(|top| !object.key.starts_with(&top.prefix)) {
            // A span's end that lies in it would be behind the key.
            debug_assert!(!end.is_some_and(|end| end.starts_with(&top.prefix)), "a key beyond the end");
            top.close(self.start.as_deref(), said);
        }
        loop {
            let Some(top) = self.open.last_mut() else { return };
            let rest = &object.key[top.prefix.len()..];
            let Some((name, _)) = rest.split_once('/') else { break };
            let prefix = format!("{}{name}/", top.prefix);
            if top.pending.prefixes.last() != Some(&prefix) {
                top.pending.prefixes.push(prefix.clone());
            }
            match name_fault(name) {
                // What Forebay keeps there was not to be imported: no failure, and among the hidden keys once, as the directory's listing says.
                Some(HiddenReason::OwnName) => return,
                Some(reason) => return said.hidden.push((object.key, reason)),
                None => {}
            }
            self.open.push(Open::new(prefix, asked_ns));
        }
        if let Some(top) = self.open.last_mut() {
            let rest = &object.key[top.prefix.len()..];
            if let Some(reason) = name_fault(rest).filter(|_| !rest.is_empty()) {
                said.hidden.push((object.key.clone(), reason));
            }
            top.pending.objects.push(object);
        }
    }
}

impl Open {
    fn new(prefix: String, asked_ns: i64) -> Self {
        let classifier = PageClassifier::new(&prefix);
        Open { prefix, classifier, pending: ListPage::default(), is_cut: false, is_first: true, asked_ns, entries: 0 }
    }

    fn cut(prefix: String, start: &str, asked_ns: i64) -> Self {
        let rest = start.strip_prefix(&prefix).unwrap_or_default();
        let last = rest.split_inclusive('/').next().unwrap_or_default();
        let classifier = PageClassifier::resume(&prefix, &format!("{prefix}{last}"));
        Open { classifier, is_cut: true, is_first: false, ..Open::new(prefix, asked_ns) }
    }

    /// Says what is settled so far; `until`: that nothing more comes up to that key.
    fn say(&mut self, start: Option<&str>, end: Option<&str>, until: Option<&str>, said: &mut Said) {
        self.is_cut |= end.is_some_and(|end| end.starts_with(&self.prefix));
        if self.pending.objects.is_empty() && self.pending.prefixes.is_empty() && until.is_none() {
            return;
        }
        let page = ListPage { next: Some(String::new()), ..std::mem::take(&mut self.pending) };
        let classified = match until {
            Some(until) => self.classifier.page_until(page, until),
            None => self.classifier.page(page),
        };
        self.emit(classified, start, end, false, said);
    }

    fn close(&mut self, start: Option<&str>, said: &mut Said) {
        let classified = self.classifier.page(std::mem::take(&mut self.pending));
        self.emit(classified, start, None, true, said);
    }

    fn emit(&mut self, mut classified: Classified, start: Option<&str>, end: Option<&str>, is_last: bool, said: &mut Said) {
        if self.is_cut {
            let mut left_out = BTreeSet::new();
            let names = |key| astride(&self.prefix, key).into_iter().map(String::into_bytes);
            [start, end].into_iter().flatten().for_each(|key| left_out.extend(names(key)));
            classified.segments = classified.segments.into_iter().flat_map(|segment| segment.without(&left_out)).collect();
        }
        let shadowed = classified.hidden.iter().filter(|hidden| hidden.reason == HiddenReason::ShadowedByDirectory);
        said.hidden.extend(shadowed.map(|hidden| (hidden.key.clone(), hidden.reason)));
        self.entries += classified.segments.iter().map(|segment| segment.entries.len() as u64).sum::<u64>();
        let is_first = std::mem::take(&mut self.is_first) && !self.is_cut;
        let complete = Some(self.entries).filter(|_| is_last && !self.is_cut);
        said.parts.push(Part {
            prefix: self.prefix.clone(),
            classified,
            asked_ns: self.asked_ns,
            is_cut: self.is_cut,
            is_first,
            complete,
        });
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
