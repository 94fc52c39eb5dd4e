use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn entry(name: &[u8]) -> (Vec<u8>, ListedEntry) {
    (name.to_vec(), ListedEntry { name: name.to_vec(), node: ListedNode::Directory })
}

#[test]
fn undecided_names_are_prefixes_that_go_on_below_the_slash() {
    assert_eq!(undecided(b"a-b"), vec![b"a".to_vec(), b"a-b".to_vec()]);
    assert_eq!(undecided(b"ab"), vec![b"ab".to_vec()]);
    assert_eq!(undecided(b"ab/\xf4"), Vec::<Vec<u8>>::new());
    assert_eq!(undecided(b"img-1.jpg"), vec![b"img".to_vec(), b"img-1".to_vec(), b"img-1.jpg".to_vec()]);
}

/// The merges of a whole pass over `keys` (relative, sorted) in pages of `page`, applied to a set of names that starts as `before`.
fn replay(keys: &BTreeSet<Vec<u8>>, page: usize, before: &BTreeSet<Vec<u8>>) -> (BTreeSet<Vec<u8>>, Vec<Vec<u8>>) {
    let mut names = before.clone();
    let mut removed = Vec::new();
    let rolled: BTreeSet<Vec<u8>> = keys
        .iter()
        .map(|key| match key.iter().position(|b| *b == b'/') {
            Some(slash) => key[..=slash].to_vec(),
            None => key.clone(),
        })
        .collect();
    let rolled: Vec<_> = rolled.into_iter().collect();
    let pages: Vec<_> = if rolled.is_empty() { vec![&rolled[..]] } else { rolled.chunks(page).collect() };
    let (mut begin, mut carried) = (None::<Vec<u8>>, BTreeMap::new());
    for (i, keys) in pages.iter().enumerate() {
        let end = (i + 1 < pages.len()).then(|| {
            let last = keys.last().unwrap();
            if last.ends_with(b"/") { [last, char::MAX.to_string().as_bytes()].concat() } else { last.clone() }
        });
        let entries = keys.iter().map(|key| entry(key.strip_suffix(b"/").unwrap_or(key))).collect();
        for step in plan_merge(begin.as_deref(), end.as_deref(), &mut carried, entries) {
            let inside = |name: &Vec<u8>| {
                step.from.as_ref().is_none_or(|from| name >= from) && step.to.as_ref().is_none_or(|to| name < to)
            };
            for listed in &step.entries {
                assert!(inside(&listed.name), "{:?} outside of its step", listed.name);
            }
            let kept: BTreeSet<_> = step.entries.iter().map(|listed| listed.name.clone()).collect();
            let gone: Vec<_> = names.iter().filter(|name| inside(name) && !kept.contains(*name)).cloned().collect();
            for name in gone {
                names.remove(&name);
                removed.push(name);
            }
            names.extend(kept);
        }
        begin = end;
    }
    (names, removed)
}

fn names_of(keys: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
    keys.iter().map(|key| key.split(|b| *b == b'/').next().unwrap().to_vec()).collect()
}

proptest! {
    #[test]
    fn a_pass_ends_with_exactly_the_names_listed_and_removes_none_of_them(
        keys in prop::collection::btree_set("[a-b][-.0/ab]{0,4}", 0..40),
        before in prop::collection::btree_set("[a-b][-.0ab]{0,3}", 0..20),
        page in 1usize..7,
    ) {
        let keys: BTreeSet<Vec<u8>> = keys.into_iter().map(String::into_bytes).collect();
        let before = before.into_iter().map(String::into_bytes).collect();
        let (names, removed) = replay(&keys, page, &before);
        let expected = names_of(&keys);
        prop_assert_eq!(&names, &expected);
        prop_assert!(removed.iter().all(|name| !expected.contains(name)), "a listed name was removed on the way: {:?}", removed);
    }
}
