//! Reads.

use super::*;
use crate::repository::GetRequest;
use crate::repository::StoreError;
use crate::repository::testing::{collect, get, get_range, list_all, list_request};

conform! {
    memory: ranges_are_exact empty_objects_have_no_bytes missing_keys_are_not_found pins_hold listings_are_complete_however_paged
        listings_and_heads_agree delimited_listings_roll_up start_after_is_exclusive odd_keys_survive prefixes_may_end_in_a_name;
    directory: ranges_are_exact empty_objects_have_no_bytes missing_keys_are_not_found pins_hold
        listings_are_complete_however_paged listings_and_heads_agree delimited_listings_roll_up start_after_is_exclusive
        odd_keys_survive prefixes_may_end_in_a_name;
    s3: ranges_are_exact empty_objects_have_no_bytes missing_keys_are_not_found pins_hold listings_are_complete_however_paged
        listings_and_heads_agree delimited_listings_roll_up start_after_is_exclusive odd_keys_survive prefixes_may_end_in_a_name;
    s3_with_versions: ranges_are_exact pins_hold missing_keys_are_not_found;
}

async fn ranges_are_exact(subject: &impl Subject) {
    let data: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    subject.put("dir/data", &data);
    let store = subject.store();
    for (range, want) in [
        (None, 0..300_000),
        (Some(0..300_000), 0..300_000),
        (Some(7..70_007), 7..70_007),
        (Some(299_990..400_000), 299_990..300_000),
    ] {
        let response = store.get(GetRequest { range, ..get("dir/data") }).await.expect("a range of it");
        assert_eq!((response.range.clone(), response.head.size), (want.start as u64..want.end as u64, 300_000));
        assert_eq!(collect(response.body).await.expect("read"), data[want]);
    }
    assert!(matches!(store.get(get_range("dir/data", 300_000..300_001)).await, Err(StoreError::Permanent { .. })));
    #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake meant")]
    for empty in [5..5, 6..5] {
        assert!(matches!(store.get(get_range("dir/data", empty)).await, Err(StoreError::Permanent { .. })));
    }
}

async fn empty_objects_have_no_bytes(subject: &impl Subject) {
    subject.put("empty", b"");
    for request in [get("empty"), get_range("empty", 0..10)] {
        let response = subject.store().get(request).await.expect("an empty object");
        assert_eq!((response.head.size, response.range.clone()), (0, 0..0));
        assert!(collect(response.body).await.expect("read").is_empty());
    }
    assert_eq!(subject.store().head("empty").await.expect("there").size, 0);
}

async fn missing_keys_are_not_found(subject: &impl Subject) {
    subject.put("here/x", b"1");
    subject.put("gone", b"1");
    subject.delete("gone");
    for key in ["gone", "here", "here/", "here/y", "here/x/z"] {
        assert!(matches!(subject.store().get(get(key)).await, Err(StoreError::NotFound { .. })), "GET {key}");
        assert!(matches!(subject.store().head(key).await, Err(StoreError::NotFound { .. })), "HEAD {key}");
    }
}

async fn pins_hold(subject: &impl Subject) {
    subject.put("key", b"old bytes");
    let store = subject.store();
    let pin = store.head("key").await.expect("there").pin;
    let pinned = GetRequest { pin: Some(pin.clone()), ..get_range("key", 0..3) };
    let response = store.get(pinned.clone()).await.expect("unchanged");
    assert_eq!((response.head.pin.clone(), collect(response.body).await.expect("read")), (pin.clone(), b"old".to_vec()));
    subject.put("key", b"new bytes");
    match store.get(pinned).await {
        Err(StoreError::Changed { .. }) => assert_eq!(pin.version, None, "a version can still be read"),
        Ok(response) => assert_eq!(collect(response.body).await.expect("read"), b"old"),
        Err(other) => panic!("{other}"),
    }
    assert_ne!(store.head("key").await.expect("there").pin.etag, pin.etag);
}

const KEYS: [&str; 9] = ["a", "a-b", "a.c/x", "b/1", "b/2", "b/c/3", "bä c+%25&=?#/ü", "c", "z"];

fn fill(subject: &impl Subject) {
    KEYS.iter().for_each(|key| subject.put(key, key.as_bytes()));
}

async fn listings_are_complete_however_paged(subject: &impl Subject) {
    fill(subject);
    for max_keys in [None, Some(1), Some(2), Some(3), Some(100)] {
        let (objects, prefixes) = list_all(subject.store(), list_request("", false), max_keys).await;
        assert_eq!(objects, KEYS, "{max_keys:?}");
        assert!(prefixes.is_empty());
    }
}

async fn delimited_listings_roll_up(subject: &impl Subject) {
    fill(subject);
    for max_keys in [None, Some(1), Some(2), Some(3)] {
        let (objects, prefixes) = list_all(subject.store(), list_request("", true), max_keys).await;
        assert_eq!(objects, ["a", "a-b", "c", "z"], "{max_keys:?}");
        assert_eq!(prefixes, ["a.c/", "b/", "bä c+%25&=?#/"], "{max_keys:?}");
        let (objects, prefixes) = list_all(subject.store(), list_request("b/", true), max_keys).await;
        assert_eq!((objects, prefixes), (vec!["b/1".to_owned(), "b/2".to_owned()], vec!["b/c/".to_owned()]));
    }
    assert_eq!(list_all(subject.store(), list_request("nothing/", true), None).await, (vec![], vec![]));
}

async fn prefixes_may_end_in_a_name(subject: &impl Subject) {
    fill(subject);
    let (objects, prefixes) = list_all(subject.store(), list_request("a", true), Some(2)).await;
    assert_eq!((objects, prefixes), (vec!["a".to_owned(), "a-b".to_owned()], vec!["a.c/".to_owned()]));
    let (objects, _) = list_all(subject.store(), list_request("b/c", false), None).await;
    assert_eq!(objects, ["b/c/3"]);
}

async fn start_after_is_exclusive(subject: &impl Subject) {
    fill(subject);
    for (at, key) in KEYS.iter().enumerate() {
        let mut request = list_request("", false);
        request.start_after = Some((*key).to_owned());
        assert_eq!(list_all(subject.store(), request, Some(2)).await.0, KEYS[at + 1..], "{key}");
    }
}

async fn listings_and_heads_agree(subject: &impl Subject) {
    fill(subject);
    let page = subject.store().list(list_request("", false)).await.expect("listed");
    assert_eq!(page.objects.len(), KEYS.len());
    for object in page.objects {
        let head = subject.store().head(&object.key).await.expect("there");
        assert_eq!((head.size, head.pin.etag.as_str()), (object.size, object.etag.as_str()), "{}", object.key);
        assert_eq!(head.modified_ns / 1_000_000_000, object.modified_ns / 1_000_000_000, "{}", object.key);
        let response = subject.store().get(get(&object.key)).await.expect("there");
        assert_eq!(collect(response.body).await.expect("read"), object.key.as_bytes());
    }
}

async fn odd_keys_survive(subject: &impl Subject) {
    if !subject.holds_odd_keys() {
        let odd = subject.store().get(get("a//b")).await;
        assert!(matches!(odd, Err(StoreError::NotFound { .. } | StoreError::Permanent { .. })));
        return;
    }
    let mut keys = ["/lead", "a//b", "a/", "a/../b", "a/./b", "..", "x\u{1}\ny", "\u{10FFFF}", "a b+c", "%2e%2e/x", "?q#f"];
    keys.sort_unstable();
    keys.iter().for_each(|key| subject.put(key, key.as_bytes()));
    let (objects, _) = list_all(subject.store(), list_request("", false), Some(3)).await;
    assert_eq!(objects, keys);
    for key in keys {
        let response = subject.store().get(get(key)).await.unwrap_or_else(|error| panic!("{key:?}: {error}"));
        assert_eq!(collect(response.body).await.expect("read"), key.as_bytes());
    }
}
