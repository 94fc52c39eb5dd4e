//! The store against plain references.

use super::bucket::{Bucket, Versioning, WriteCondition};
use super::list::{Page, PageRequest, Start};
use super::object::{Etag, Object, UnixMs};
use super::{Body, Texture};
use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn object(content: &[u8]) -> Object {
    Object { body: Body::Stored(Bytes::copy_from_slice(content)), etag: Etag::opaque(), headers: None }
}

fn bucket_of(keys: &BTreeSet<String>) -> Bucket {
    let bucket = Bucket::new("b");
    for key in keys {
        bucket.write(key, object(b""), UnixMs(0), &WriteCondition::None).expect("no condition");
    }
    bucket
}

/// Keys that share prefixes and delimiters a lot.
fn key() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just("a"), Just("b"), Just("/"), Just("é"), Just("\u{d7ff}"), Just("\u{10ffff}")], 1..5)
        .prop_map(|symbols| symbols.concat())
}

/// Every entry of a listing, rolled up the slow way.
fn entries(keys: &BTreeSet<String>, prefix: &str, delimiter: Option<&str>) -> Vec<String> {
    let mut all = BTreeSet::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        let cut = delimiter.and_then(|d| Some(prefix.len() + key[prefix.len()..].find(d)? + d.len()));
        all.insert(key[..cut.unwrap_or(key.len())].to_owned());
    }
    all.into_iter().collect()
}

/// The names in a page, in order (keys and prefixes never are the same).
fn names(page: &Page) -> Vec<String> {
    let keys = page.keys.iter().map(|listed| listed.key.clone());
    let all: BTreeSet<_> = keys.chain(page.prefixes.iter().cloned()).collect();
    all.into_iter().collect()
}

proptest! {
    #[test]
    fn pages_join_to_the_plain_listing(
        keys in btree_set(key(), 0..30),
        prefix in prop_oneof![Just(String::new()), key()],
        delimiter in prop_oneof![Just(None), Just(Some("/")), Just(Some("b/")), Just(Some("\u{10ffff}"))],
        limit in 1usize..5,
    ) {
        let bucket = bucket_of(&keys);
        let mut request =
            PageRequest { prefix: prefix.clone(), delimiter: delimiter.map(str::to_owned), start: Start::First, limit };
        let mut all = vec![];
        loop {
            let page = bucket.page(&request);
            prop_assert!(page.keys.len() + page.prefixes.len() <= limit);
            all.extend(names(&page));
            if !page.truncated {
                break;
            }
            request.start = Start::After(page.last.expect("a full page has a last entry"));
        }
        prop_assert_eq!(all, entries(&keys, &prefix, delimiter));
    }

    #[test]
    fn start_after_leaves_out_what_is_not_after(keys in btree_set(key(), 0..30), after in key()) {
        let request = PageRequest { start: Start::After(after.clone()), limit: 100, ..PageRequest::default() };
        let expected: Vec<_> = keys.iter().filter(|key| **key > after).cloned().collect();
        prop_assert_eq!(names(&bucket_of(&keys).page(&request)), expected);
    }

    #[test]
    fn any_slice_of_any_body_is_that_slice_of_its_bytes(
        pieces in vec((1u64..50, any::<bool>()), 1..8),
        cut in (0.0f64..1.0, 0.0f64..1.0),
    ) {
        let body = Body::join(pieces.iter().enumerate().map(|(number, (len, stored))| match stored {
            true => Body::Stored(vec![number as u8; *len as usize].into()),
            false => Body::Synthetic { seed: number as u64, offset: 3, len: *len, texture: Texture::Noise },
        }).collect());
        let at = |share: f64| (share * body.len() as f64) as u64;
        let (start, end) = (at(cut.0.min(cut.1)), at(cut.0.max(cut.1)));
        let whole = body.to_bytes().expect("no files");
        prop_assert_eq!(body.slice(start..end).to_bytes().expect("no files"), whole.slice(start as usize..end as usize));
    }

    /// Writes, deletes and changes of versioning against a list of versions kept by hand.
    #[test]
    fn histories_follow_the_rules_of_versioning(steps in vec((0u8..6, 0usize..4), 1..40)) {
        let bucket = Bucket::new("b");
        let mut model = History::default();
        for (number, (step, pick)) in steps.into_iter().enumerate() {
            model.step(&bucket, number, step, pick);
            prop_assert_eq!(model.shown(), shown(&bucket));
            prop_assert!(model.versions.iter().filter(|(id, _)| id == "null").count() <= 1);
        }
    }
}

/// The versions of one key, newest first, as (id, content); no content means a delete marker.
#[derive(Default)]
struct History {
    versions: Vec<(String, Option<String>)>,
    versioning: Versioning,
}

impl History {
    fn step(&mut self, bucket: &Bucket, number: usize, step: u8, pick: usize) {
        match step {
            0 => {
                self.versioning = if pick.is_multiple_of(2) { Versioning::Enabled } else { Versioning::Suspended };
                bucket.set_versioning(self.versioning);
            }
            1 | 2 => {
                let content = number.to_string();
                let written = bucket.write("k", object(content.as_bytes()), UnixMs(0), &WriteCondition::None);
                self.push(written.expect("no condition").version.to_string(), Some(content));
            }
            3 => {
                let deleted = bucket.remove("k", None, &WriteCondition::None).expect("no condition");
                match deleted.version {
                    Some(marker) => self.push(marker.to_string(), None),
                    None => self.versions.clear(),
                }
            }
            _ => {
                let Some((id, _)) = self.versions.get(pick).cloned() else { return };
                bucket.remove("k", Some(&id), &WriteCondition::None).expect("no condition");
                self.versions.remove(pick);
            }
        }
    }

    fn push(&mut self, id: String, content: Option<String>) {
        assert_eq!(id == "null", self.versioning != Versioning::Enabled, "which writes are null versions");
        if id == "null" {
            self.versions.retain(|(old, _)| old != "null");
        }
        self.versions.insert(0, (id, content));
    }

    fn shown(&self) -> BTreeMap<usize, (String, Option<String>)> {
        self.versions.iter().cloned().enumerate().collect()
    }
}

fn shown(bucket: &Bucket) -> BTreeMap<usize, (String, Option<String>)> {
    let page = bucket.page_of_versions(&PageRequest { limit: 1000, ..PageRequest::default() });
    let describe = |revision: &super::Revision| {
        let bytes = revision.object.as_ref().map(|object| object.body.to_bytes().expect("no files"));
        (revision.version.to_string(), bytes.map(|bytes| String::from_utf8(bytes.into()).expect("digits")))
    };
    page.keys.iter().map(|listed| describe(&listed.revision)).enumerate().collect()
}
