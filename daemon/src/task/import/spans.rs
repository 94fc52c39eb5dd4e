//! The spans of keys of one path: who lists which, and what is left.
//!
//! Invariants:
//! 1. The spans that are left hold every key that is not done, and no two hold the same.
//! 2. Every key at which a span ever began or ended is a cut, save the ends of all keys.

use crate::format::rows::{ImportCursor, KeySpan};
use parking_lot::Mutex;

/// Cuts of one task at most: each costs a few requests, and more listings at once than there are workers gain nothing.
const CUTS_MAX: usize = 1_000;
/// A span is cut when it proved longer than this.
const PAGES_BEFORE_CUT: u64 = 2;

/// A span that is being listed or waits for it.
#[derive(Clone, Debug)]
struct Span {
    id: u64,
    /// Done up to here.
    done: Option<String>,
    /// Listed up to here.
    listed: Option<String>,
    end: Option<String>,
    is_taken: bool,
    is_being_cut: bool,
    pages: u64,
    /// Pages listed when it was last cut, or tried to be.
    pages_at_cut: u64,
}

struct State {
    spans: Vec<Span>,
    cuts: Vec<String>,
    next_id: u64,
    is_given_up: bool,
}

/// The spans of one path.
pub(in crate::task) struct Spans {
    path: u64,
    pages_before_cut: u64,
    state: Mutex<State>,
}

/// A span to list.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) id: u64,
    /// After this key.
    pub(super) start: Option<String>,
}

/// A span to be cut.
pub(super) struct Long {
    id: u64,
    /// It is listed up to here.
    pub(super) listed: String,
    /// It ends here.
    pub(super) end: Option<String>,
}

impl Spans {
    /// What is left according to a cursor; all keys if it is not of this path.
    pub(in crate::task) fn of(path: u64, cursor: &ImportCursor) -> Self {
        let left = if cursor.path == path && !cursor.left.is_empty() { cursor.left.clone() } else { vec![KeySpan::default()] };
        let mut cuts = if cursor.path == path { cursor.cuts.clone() } else { Vec::new() };
        // Where a span was when the task was stopped, it begins anew.
        for start in left.iter().filter_map(|span| span.start.as_ref().filter(|start| !start.is_empty())) {
            if !cuts.contains(start) {
                cuts.push(start.clone());
            }
        }
        let mut state = State { spans: Vec::new(), cuts, next_id: 0, is_given_up: false };
        let left = left.into_iter().filter(|span| span.start.is_none() || span.start != span.end);
        left.for_each(|KeySpan { start, end }| {
            state.add(start, end, false);
        });
        Spans { path, pages_before_cut: PAGES_BEFORE_CUT, state: Mutex::new(state) }
    }

    /// All keys, in spans that are cut when they prove longer than so many pages: where requests count for more than time.
    pub(in crate::task) fn cut_after(pages: u64) -> Self {
        Spans { pages_before_cut: pages, ..Self::of(0, &ImportCursor::default()) }
    }

    /// A span that nobody lists.
    pub(super) fn take(&self) -> Option<Taken> {
        let mut state = self.state.lock();
        let span = state.spans.iter_mut().find(|span| !span.is_taken)?;
        span.is_taken = true;
        Some(Taken { id: span.id, start: span.done.clone() })
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.state.lock().spans.is_empty()
    }

    /// Has everybody stop: something failed that another span would fail with, too.
    pub(super) fn give_up(&self) {
        self.state.lock().is_given_up = true;
    }

    /// Whether everybody is to stop.
    pub(super) fn is_given_up(&self) -> bool {
        self.state.lock().is_given_up
    }

    /// The longest span that is worth cutting; whoever gets it cuts it, or gives up.
    pub(super) fn long(&self) -> Option<Long> {
        let mut state = self.state.lock();
        if state.cuts.len() >= CUTS_MAX {
            return None;
        }
        let is_long = |span: &&mut Span| {
            span.is_taken
                && !span.is_being_cut
                && span.listed.is_some()
                && span.pages >= span.pages_at_cut + self.pages_before_cut
        };
        let span = state.spans.iter_mut().filter(is_long).max_by_key(|span| span.pages - span.pages_at_cut)?;
        (span.is_being_cut, span.pages_at_cut) = (true, span.pages);
        Some(Long { id: span.id, listed: span.listed.clone()?, end: span.end.clone() })
    }

    /// Cuts a span: what comes after `at` is another's, who asked for it. `None` if the span is beyond it already.
    pub(super) fn cut(&self, long: &Long, at: Option<String>) -> Option<Taken> {
        let mut state = self.state.lock();
        let span = state.spans.iter_mut().find(|span| span.id == long.id)?;
        span.is_being_cut = false;
        let at = at.filter(|at| span.listed.as_ref().is_none_or(|listed| at > listed))?;
        let end = span.end.replace(at.clone());
        state.cuts.push(at.clone());
        let id = state.add(Some(at.clone()), end, true);
        Some(Taken { id, start: Some(at) })
    }

    /// A page came that ends at `last`; returns where the span ends now.
    pub(super) fn listed(&self, id: u64, last: Option<&str>) -> Option<String> {
        let mut state = self.state.lock();
        let span = state.spans.iter_mut().find(|span| span.id == id)?;
        span.pages += 1;
        let end = span.end.clone();
        let last = [last, end.as_deref()].into_iter().flatten().min();
        if let Some(last) = last {
            span.listed = Some(last.to_owned());
        }
        end
    }

    /// A page is done: calls `record` with the cursor that says so, before any other can be made.
    pub(super) fn done(&self, id: u64, up_to: Option<String>, is_last: bool, record: impl FnOnce(Vec<u8>)) {
        let mut state = self.state.lock();
        if is_last {
            state.spans.retain(|span| span.id != id);
        } else if let Some(span) = state.spans.iter_mut().find(|span| span.id == id) {
            span.done = up_to.or(span.done.take());
        }
        record(state.cursor(self.path).encode());
    }

    /// Every cut.
    pub(super) fn cuts(&self) -> Vec<String> {
        self.state.lock().cuts.clone()
    }
}

impl State {
    fn add(&mut self, start: Option<String>, end: Option<String>, is_taken: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let listed = start.clone();
        self.spans.push(Span { id, done: start, listed, end, is_taken, is_being_cut: false, pages: 0, pages_at_cut: 0 });
        id
    }

    fn cursor(&self, path: u64) -> ImportCursor {
        let left: Vec<_> = self.spans.iter().map(|span| KeySpan { start: span.done.clone(), end: span.end.clone() }).collect();
        // Nothing left of this path, but to complete the directories that were cut: an empty span, which is not the same as none.
        let nothing = KeySpan { start: Some(String::new()), end: Some(String::new()) };
        ImportCursor { path, left: if left.is_empty() { vec![nothing] } else { left }, cuts: self.cuts.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor_of(spans: &Spans) -> ImportCursor {
        spans.state.lock().cursor(spans.path)
    }

    #[test]
    fn what_is_left_after_a_cut_is_all_that_was() {
        let spans = Spans::of(0, &ImportCursor::default());
        let first = spans.take().expect("all keys");
        assert!(spans.take().is_none() && spans.long().is_none());
        spans.listed(first.id, Some("b"));
        spans.listed(first.id, Some("d"));
        let long = spans.long().expect("two pages");
        assert!(spans.long().is_none(), "one cuts it");
        let second = spans.cut(&long, Some("m".into())).expect("cut");
        assert_eq!(spans.listed(first.id, Some("x")).as_deref(), Some("m"), "ends before what came");
        spans.done(first.id, Some("d".into()), false, |_| ());
        let span = |start: &str, end: Option<&str>| KeySpan { start: Some(start.into()), end: end.map(str::to_owned) };
        let left = cursor_of(&spans);
        assert_eq!((left.left.clone(), left.cuts.clone()), (vec![span("d", Some("m")), span("m", None)], vec!["m".into()]));
        let again = Spans::of(0, &left);
        assert_eq!(again.cuts(), ["m", "d"]);
        spans.done(first.id, None, true, |_| ());
        spans.done(second.id, None, true, |_| ());
        assert!(spans.is_done());
        let through = Spans::of(0, &cursor_of(&spans));
        assert!(through.is_done() && through.take().is_none());
        assert_eq!(through.cuts(), ["m"]);
    }

    #[test]
    fn a_span_that_is_beyond_the_cut_is_not_cut() {
        let spans = Spans::of(0, &ImportCursor::default());
        let first = spans.take().expect("all keys");
        (0..2).for_each(|_| drop(spans.listed(first.id, Some("b"))));
        let long = spans.long().expect("two pages");
        spans.listed(first.id, Some("n"));
        assert!(spans.cut(&long, Some("m".into())).is_none());
        assert_eq!(cursor_of(&spans).cuts, [""; 0]);
    }

    #[test]
    fn a_cursor_of_another_path_is_no_beginning() {
        let cursor = ImportCursor { path: 1, left: vec![KeySpan { start: Some("x".into()), end: None }], cuts: vec!["x".into()] };
        assert_eq!(Spans::of(2, &cursor).take().expect("all keys").start, None);
        assert_eq!(Spans::of(1, &cursor).take().expect("the rest").start.as_deref(), Some("x"));
    }
}
