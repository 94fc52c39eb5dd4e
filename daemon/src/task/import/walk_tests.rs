//! A walk, cut into spans anywhere, says what a listing of each directory says.

use super::*;
use crate::repository::keymap::{ListedName, NameNode, Segment};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn object(key: &str) -> ObjectSummary {
    ObjectSummary { key: key.into(), size: 1, etag: "e".into(), modified_ns: 0 }
}

type Names = BTreeMap<String, bool>;

/// What a bucket's directories have, by prefix: name, and whether it is a directory.
fn truth(keys: &BTreeSet<String>) -> BTreeMap<String, Names> {
    let mut dirs: BTreeMap<String, Names> = [(String::new(), Names::new())].into();
    for key in keys {
        let mut prefix = String::new();
        let mut parts = key.split('/').peekable();
        while let Some(part) = parts.next() {
            if name_fault(part).is_some() {
                break;
            }
            let is_dir = parts.peek().is_some();
            let entry = dirs.entry(prefix.clone()).or_default().entry(part.to_owned()).or_default();
            *entry |= is_dir;
            if is_dir {
                prefix = format!("{prefix}{part}/");
                dirs.entry(prefix.clone()).or_default();
            }
        }
    }
    dirs
}

/// Runs all spans between the cuts, in pages, and puts together what they say; checks that nothing is said twice.
fn run(keys: &BTreeSet<String>, cuts: &BTreeSet<String>, page: usize) -> BTreeMap<String, Vec<(Segment, bool)>> {
    let mut said: BTreeMap<String, Vec<(Segment, bool)>> = BTreeMap::new();
    let bounds: Vec<Option<String>> =
        std::iter::once(None).chain(cuts.iter().cloned().map(Some)).chain(std::iter::once(None)).collect();
    for span in bounds.windows(2) {
        let (start, end) = (span[0].as_deref(), span[1].as_deref());
        let mut walk = Walk::new("", start, 0);
        let inside: Vec<_> = keys
            .iter()
            .filter(|key| start.is_none_or(|start| key.as_str() > start) && end.is_none_or(|end| key.as_str() <= end))
            .map(|key| object(key))
            .collect();
        let mut pages: Vec<Vec<_>> = inside.chunks(page).map(<[_]>::to_vec).collect();
        if pages.is_empty() {
            pages.push(Vec::new());
        }
        let last = pages.len() - 1;
        for (i, objects) in pages.into_iter().enumerate() {
            for part in walk.page(objects, 0, end, i == last).parts {
                let all = said.entry(part.prefix).or_default();
                all.extend(part.classified.segments.into_iter().map(|segment| (segment, part.complete.is_some())));
            }
        }
    }
    said
}

fn check(keys: &BTreeSet<String>, cuts: &BTreeSet<String>, page: usize) {
    let truth = truth(keys);
    let said = run(keys, cuts, page);
    for (prefix, names) in &truth {
        let mut left_out = BTreeSet::new();
        let is_cut = cuts.iter().any(|cut| cut.starts_with(prefix.as_str()));
        cuts.iter().for_each(|cut| left_out.extend(astride(prefix, cut)));
        let segments = said.get(prefix).unwrap_or_else(|| panic!("nothing of '{prefix}'"));
        let covering = |name: &[u8]| {
            let covers = |(segment, _): &&(Segment, bool)| {
                segment.covers.0.as_deref().is_none_or(|from| name >= from)
                    && segment.covers.1.as_deref().is_none_or(|to| name < to)
            };
            segments.iter().filter(covers).count()
        };
        for name in names.keys().map(String::as_str).chain(["", "a", "a-", "b", "zz", "~"]).filter(|name| !name.is_empty()) {
            let expected = usize::from(!left_out.contains(name));
            assert_eq!(covering(name.as_bytes()), expected, "'{name}' in '{prefix}' of {keys:?} cut at {cuts:?}");
        }
        let listed: BTreeMap<String, bool> = segments
            .iter()
            .flat_map(|(segment, _)| &segment.entries)
            .map(|ListedName { name, node }| (String::from_utf8(name.clone()).unwrap(), *node == NameNode::Prefix))
            .collect();
        let expected: Names =
            names.iter().filter(|(name, _)| !left_out.contains(*name)).map(|(name, dir)| (name.clone(), *dir)).collect();
        assert_eq!(listed, expected, "'{prefix}' of {keys:?} cut at {cuts:?}");
        assert_eq!(segments.last().is_some_and(|(_, complete)| *complete), !is_cut, "'{prefix}' of {keys:?} cut at {cuts:?}");
    }
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn awkward_orders_at_every_cut_and_page_end() {
    let keys = set(&["a", "a-b", "a-b/c", "a.x", "a/", "a/b", "a/b-c", "a/b/d", "a0", "b//c", "b/./d", "b/e", "c"]);
    let cuts = keys.iter().cloned().chain(set(&["a-", "a/", "a/b/", "a/zz/y", "b/", "nothing", "0"]));
    for cut in cuts {
        for page in [1, 2, 100] {
            check(&keys, &[cut.clone()].into(), page);
            check(&keys, &set(&["a/b", &cut]), page);
        }
    }
}

#[test]
fn what_no_tree_can_hold_is_told() {
    let mut walk = Walk::new("", None, 0);
    let objects = ["a", "a/x", "b//c", "b//d", "c/../e", "f"].map(object).to_vec();
    let said = walk.page(objects, 0, None, true);
    let hidden: BTreeSet<_> = said.hidden.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(hidden, ["a", "b//c", "b//d", "c/../e"].into());
    let recorded: BTreeSet<_> =
        said.parts.iter().flat_map(|part| &part.classified.hidden).map(|hidden| hidden.key.as_str()).collect();
    assert_eq!(recorded, ["a", "b//", "c/../"].into(), "as a listing of each directory records it");
}

#[test]
fn names_astride_a_key() {
    assert_eq!(astride("", "part-00500"), set(&["part", "part-00500"]));
    assert_eq!(astride("", "a/b"), set(&["a"]));
    assert_eq!(astride("d/", "d/x.y-z/w"), set(&["x", "x.y", "x.y-z"]));
    assert_eq!(astride("d/", "d/"), set(&[]));
    assert_eq!(astride("d/", "e"), set(&[]));
    assert_eq!(above("d/", "d/e//f/g"), ["d/", "d/e/"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_bucket_cut_anywhere_is_told_whole(
        keys in btree_set("[ab](-|/|\\.|0|b|/b|//){0,4}", 0..14),
        cuts in btree_set("[ab](-|/|\\.|0|b|/b){0,4}", 0..4),
        page in 1usize..5,
    ) {
        check(&keys, &cuts, page);
    }

    #[test]
    fn a_segment_without_some_names_covers_all_others(names in btree_set("[a-c]{1,2}", 0..6), out in vec("[a-c]{1,2}", 0..4)) {
        let entries = names.iter().map(|name| ListedName { name: name.clone().into_bytes(), node: NameNode::Prefix }).collect();
        let out: BTreeSet<String> = out.into_iter().collect();
        let pieces = Segment { covers: (None, None), entries }.without(&out.iter().map(|name| name.clone().into_bytes()).collect());
        let left: BTreeSet<String> = pieces.iter().flat_map(|p| &p.entries).map(|e| String::from_utf8(e.name.clone()).unwrap()).collect();
        prop_assert_eq!(left, names.difference(&out).cloned().collect());
    }
}

#[test]
fn what_is_passed_over_is_not_spoken_of_again_also_where_a_cut_lies_in_it() {
    for end in [None, Some("a/5")] {
        let mut walk = Walk::new("", None, 0);
        let first = walk.page(vec![object("a/1"), object("a/2")], 0, None, false);
        assert!(first.parts.iter().any(|part| part.prefix == "a/"), "what came before");
        walk.pass_over("a/");
        let rest = if end.is_none() { vec![object("b/1")] } else { Vec::new() };
        let said = walk.page(rest, 0, end, true);
        assert!(said.parts.iter().all(|part| !part.prefix.starts_with("a/")), "{said:?}");
        let root = said.parts.iter().find(|part| part.prefix.is_empty()).expect("of the root");
        let of_root = first.parts.iter().chain([root]).filter(|part| part.prefix.is_empty());
        let entries = of_root.flat_map(|part| &part.classified.segments).flat_map(|segment| &segment.entries);
        let names: BTreeSet<String> = entries.map(|entry| String::from_utf8(entry.name.clone()).expect("text")).collect();
        if end.is_none() {
            assert_eq!((names, root.complete), (["a", "b"].map(str::to_owned).into(), Some(2)));
        }
    }
}
