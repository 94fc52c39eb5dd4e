use super::*;
use crate::repository::memory::MemoryStore;
use crate::repository::{ListRequest, ObjectStore};
use futures::FutureExt;
use proptest::prelude::*;

fn summary(key: &str) -> ObjectSummary {
    ObjectSummary { key: key.into(), size: 1, etag: "e".into(), modified_ns: 0 }
}

fn page(objects: &[&str], prefixes: &[&str], more: bool) -> ListPage {
    ListPage {
        objects: objects.iter().map(|key| summary(key)).collect(),
        prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
        next: more.then(|| "t".to_owned()),
    }
}

/// Names of all segments, directories with a slash.
fn shown(classified: &Classified) -> Vec<String> {
    let entries = classified.segments.iter().flat_map(|segment| &segment.entries);
    entries
        .map(|entry| {
            let slash = if entry.node == NameNode::Prefix { "/" } else { "" };
            String::from_utf8(entry.name.clone()).expect("keys are UTF-8") + slash
        })
        .collect()
}

#[test]
fn a_prefix_without_a_slash_gets_one() {
    assert_eq!(mount_prefix(""), "");
    assert_eq!(mount_prefix("a/b"), "a/b/");
    assert_eq!(mount_prefix("a/b/"), "a/b/");
}

#[test]
fn names_become_keys() {
    assert_eq!(key_of("p/", [b"a".as_slice(), b"b"]), Ok("p/a/b".into()));
    assert_eq!(key_of("", []), Ok(String::new()));
    assert_eq!(key_of("", [b"\xff".as_slice()]), Err(NotAKey));
    assert_eq!(dir_prefix_of("p/", [b"a".as_slice()]), Ok("p/a/".into()));
    assert_eq!(dir_prefix_of("p/", []), Ok("p/".into()));
}

#[test]
fn one_page_settles_everything_sorted_by_name() {
    let mut classifier = PageClassifier::new("p/");
    let got = classifier.page(page(&["p/", "p/a-b", "p/z"], &["p/a/", "p/m/"], false));
    assert_eq!(shown(&got), ["a/", "a-b", "m/", "z"]);
    assert_eq!(got.segments.len(), 1);
    assert_eq!(got.segments[0].covers, (None, None));
    assert_eq!(got.marker.map(|marker| marker.key).as_deref(), Some("p/"));
    assert!(got.hidden.is_empty());
}

#[test]
fn keys_that_no_tree_can_hold_are_hidden_with_their_reason() {
    let long = format!("p/{}", "x".repeat(256));
    let long_dir = format!("p/{}/", "y".repeat(256));
    let fits = format!("p/{}", "x".repeat(255));
    let got = PageClassifier::new("p/").page(page(&["p/.", "p/a\0", &fits, &long], &["p//", "p/../", "p/./", &long_dir], false));
    let mut hidden: Vec<_> = got.hidden.iter().map(|hidden| (hidden.key.clone(), hidden.reason)).collect();
    hidden.sort();
    let mut want = vec![
        ("p/.".to_owned(), HiddenReason::DotName),
        ("p/./".to_owned(), HiddenReason::DotName),
        ("p/../".to_owned(), HiddenReason::DotName),
        ("p//".to_owned(), HiddenReason::EmptyName),
        ("p/a\0".to_owned(), HiddenReason::NulByte),
        (long, HiddenReason::NameTooLong),
        (long_dir, HiddenReason::NameTooLong),
    ];
    want.sort();
    assert_eq!(hidden, want);
    assert_eq!(shown(&got), [fits.strip_prefix("p/").expect("under p/")]);
}

#[test]
fn a_directory_hides_the_object_of_its_name_on_the_same_page() {
    let got = PageClassifier::new("").page(page(&["a", "a-b"], &["a/"], false));
    assert_eq!(shown(&got), ["a/", "a-b"]);
    assert_eq!(got.hidden, [HiddenKey { key: "a".into(), reason: HiddenReason::ShadowedByDirectory }]);
}

#[test]
fn a_directory_hides_the_object_of_its_name_pages_later() {
    let mut classifier = PageClassifier::new("");
    let first = classifier.page(page(&["a", "a-b"], &[], true));
    assert!(shown(&first).is_empty(), "neither a nor a-b is settled: {first:?}");
    let second = classifier.page(page(&["a-c", "a.d"], &[], true));
    assert_eq!(shown(&second), ["a-b", "a-c"]);
    let third = classifier.page(page(&["b"], &["a/"], false));
    assert_eq!(shown(&third), ["a/", "a.d", "b"]);
    assert_eq!(third.hidden, [HiddenKey { key: "a".into(), reason: HiddenReason::ShadowedByDirectory }]);
}

#[test]
fn numbered_files_are_settled_page_by_page() {
    let keys: Vec<String> = (0..1000).map(|n| format!("shard-{n:04}.tar")).collect();
    let mut classifier = PageClassifier::new("");
    let refs: Vec<&str> = keys.iter().map(String::as_str).collect();
    let first = classifier.page(page(&refs[..500], &[], true));
    assert_eq!(shown(&first).len(), 499);
    assert_eq!(classifier.held.len(), 1);
    let second = classifier.page(page(&refs[500..], &[], false));
    assert_eq!(shown(&second).len(), 501);
    let settles_shard = |segment: &Segment| segment.covers == (Some(b"shard".to_vec()), Some(b"shard\0".to_vec()));
    assert!(!first.segments.iter().any(settles_shard) && second.segments.iter().any(settles_shard));
}

#[test]
fn an_empty_page_settles_all_names_as_absent() {
    let got = PageClassifier::new("p/").page(page(&[], &[], false));
    assert_eq!(got.segments, [Segment { covers: (None, None), entries: vec![] }]);
}

/// Lists a directory of a store page by page, restarting where told, and checks the invariants as it goes.
fn listed(
    store: &MemoryStore,
    prefix: &str,
    page_size: u32,
    restart: impl Fn(usize) -> bool,
) -> (Vec<ListedName>, Vec<HiddenKey>) {
    let mut classifier = PageClassifier::new(prefix);
    let (mut token, mut start_after) = (None, None);
    let (mut entries, mut hidden) = (BTreeMap::new(), BTreeMap::new());
    for pages in 0.. {
        let max_keys = Some(page_size);
        let request = ListRequest { prefix: prefix.into(), delimited: true, token: token.take(), start_after, max_keys };
        let page = store.list(request).now_or_never().expect("in memory").expect("no faults");
        (token, start_after) = (page.next.clone(), None);
        let got = classifier.page(page);
        let mut end: Option<Vec<u8>> = Some(vec![]);
        for segment in &got.segments {
            let (from, to) = &segment.covers;
            let from = from.clone().unwrap_or_default();
            assert!(end.is_some_and(|end| end <= from), "segments ascend");
            assert!(to.as_ref().is_none_or(|to| from < *to), "none is empty");
            assert!(segment.entries.is_sorted_by(|a, b| a.name < b.name), "invariant 2");
            let covered = |name: &Vec<u8>| *name >= from && to.as_ref().is_none_or(|to| name < to);
            assert!(segment.entries.iter().all(|entry| covered(&entry.name)));
            // What a segment covers replaces what was known of it, as the metadata's merge does.
            entries.retain(|name, _| !covered(name));
            entries.extend(segment.entries.iter().map(|entry| (entry.name.clone(), entry.clone())));
            end = to.clone();
        }
        hidden.extend(got.hidden.into_iter().map(|hidden| (hidden.key.clone(), hidden)));
        if token.is_none() {
            assert_eq!(got.segments.last().expect("the rest").covers.1, None, "invariant 1");
            break;
        }
        if restart(pages) {
            start_after = classifier.resume_after();
            token = None;
            classifier =
                start_after.as_deref().map_or_else(|| PageClassifier::new(prefix), |s| PageClassifier::resume(prefix, s));
        }
    }
    (entries.into_values().collect(), hidden.into_values().collect())
}

fn store_of(keys: &BTreeSet<String>) -> MemoryStore {
    let store = MemoryStore::new();
    keys.iter().for_each(|key| drop(store.put(key, vec![0])));
    store
}

#[test]
fn a_restart_takes_back_no_settled_name() {
    // After the first page 0 is settled (`0/` < `00`), and 00 is not.
    let keys = ["p/0", "p/00", "p/0a"].map(str::to_owned).into();
    let (entries, _) = listed(&store_of(&keys), "p/", 2, |pages| pages == 0);
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_slice()).collect();
    assert_eq!(names, [b"0".as_slice(), b"00", b"0a"]);
}

#[test]
fn a_listing_resumes_before_what_is_not_settled() {
    let mut classifier = PageClassifier::new("p/");
    classifier.page(page(&["p/a", "p/b"], &[], true));
    assert_eq!(classifier.resume_after().as_deref(), Some("p/a\u{10FFFF}"));
    classifier.page(page(&[], &["p/c/"], true));
    assert_eq!(classifier.resume_after().as_deref(), Some("p/c/"));
    assert_eq!(PageClassifier::new("p/").resume_after(), None);
}

proptest! {
    #[test]
    fn however_it_is_paged_a_listing_means_the_same(
        keys in proptest::collection::btree_set("p/[a-b.0/-]{0,5}", 0..40),
        page_size in 1u32..8,
    ) {
        let store = store_of(&keys);
        let whole = listed(&store, "p/", 1000, |_| false);
        let paged = listed(&store, "p/", page_size, |_| false);
        prop_assert_eq!(&paged, &whole);
    }

    #[test]
    fn a_listing_survives_restarts(
        keys in proptest::collection::btree_set("p/[a-b.0/-]{0,5}", 0..40),
        page_size in 4u32..12,
        at in 0usize..6,
    ) {
        let store = store_of(&keys);
        let whole = listed(&store, "p/", 1000, |_| false);
        let resumed = listed(&store, "p/", page_size, |pages| pages == at);
        prop_assert_eq!(resumed, whole);
    }

    #[test]
    fn every_key_is_shown_or_hidden_or_below_a_directory(keys in proptest::collection::btree_set("[a-b./\0-]{1,5}", 0..40)) {
        let (entries, hidden) = listed(&store_of(&keys), "", 3, |_| false);
        for key in &keys {
            let is_shown = entries.iter().any(|entry| match &entry.node {
                NameNode::Object(object) => object.key == *key,
                NameNode::Prefix => key.as_bytes().starts_with(&[entry.name.as_slice(), b"/"].concat()),
            });
            let is_hidden = hidden.iter().any(|hidden| hidden.key == *key || (hidden.key.ends_with('/') && key.starts_with(&hidden.key)));
            prop_assert!(is_shown != is_hidden, "{:?}: shown {} hidden {}", key, is_shown, is_hidden);
        }
    }
}
