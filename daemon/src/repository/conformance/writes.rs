//! Writes of whole objects: PUT, DELETE, copy, their preconditions, what they say about the object.

use super::*;
use crate::repository::testing::{collect, get, list_all, list_request, put_request};
use crate::repository::write::{CopyRequest, CopySource, DeleteRequest, PutRequest, SystemHeaders};
use crate::repository::{ObjectHeaders, Payload, Pin, Precondition, StoreError};
use bytes::Bytes;

conform! {
    memory: what_is_put_is_read puts_heed_their_preconditions deletes_heed_their_pins copies_keep_or_replace_metadata
        copies_heed_source_and_target metadata_of_any_text_survives keys_are_written_as_they_are directories_have_markers;
    directory: what_is_put_is_read puts_heed_their_preconditions deletes_heed_their_pins copies_keep_or_replace_metadata
        copies_heed_source_and_target metadata_of_any_text_survives keys_are_written_as_they_are directories_have_markers;
    s3: what_is_put_is_read puts_heed_their_preconditions deletes_heed_their_pins copies_keep_or_replace_metadata
        copies_heed_source_and_target metadata_of_any_text_survives keys_are_written_as_they_are directories_have_markers;
    s3_with_versions: what_is_put_is_read puts_heed_their_preconditions deletes_heed_their_pins copies_keep_or_replace_metadata
        copies_heed_source_and_target;
}

fn headers(owner: &str) -> ObjectHeaders {
    let system = SystemHeaders {
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        cache_control: Some("no-cache".into()),
        ..SystemHeaders::default()
    };
    ObjectHeaders { system, user_metadata: [("file-owner".to_owned(), owner.to_owned())].into() }
}

async fn content(store: &dyn ObjectStore, key: &str) -> Vec<u8> {
    collect(store.get(get(key)).await.unwrap_or_else(|error| panic!("{key:?}: {error}")).body).await.expect("read")
}

async fn what_is_put_is_read(subject: &impl Subject) {
    let store = subject.store();
    let large: Vec<u8> = (0..700_000u32).map(|i| (i % 251) as u8).collect();
    let pieces = vec![Bytes::copy_from_slice(&large[..10]), Bytes::new(), Bytes::copy_from_slice(&large[10..])];
    let mut pins = Vec::new();
    for (body, want) in [
        (Payload::default(), &[][..]),
        (Payload::from("x"), b"x"),
        (Payload::from(pieces), &large[..]),
        (Payload::from("xy"), b"xy"),
    ] {
        let request = PutRequest { key: "dir/key".into(), body, headers: headers("7"), precondition: Precondition::Any };
        let pin = store.put(request).await.expect("written");
        let head = store.head("dir/key").await.expect("there");
        assert_eq!((head.size, &head.pin, head.system), (want.len() as u64, &pin, headers("7").system));
        assert_eq!(head.user_metadata.get("file-owner").map(String::as_str), Some("7"));
        assert_eq!(content(store, "dir/key").await, want);
        pins.push(pin);
    }
    pins.dedup();
    assert_eq!(pins.len(), 4, "every write is a version: {pins:?}");
    assert_eq!(list_all(store, list_request("", false), None).await.0, ["dir/key"], "nothing else is listed");
    // A write that says nothing leaves nothing of the last one's metadata.
    store.put(put_request("dir/key", "z", Precondition::Any)).await.expect("written");
    let head = store.head("dir/key").await.expect("there");
    assert_eq!((head.user_metadata.len(), head.system), (0, SystemHeaders::default()));
}

async fn puts_heed_their_preconditions(subject: &impl Subject) {
    let store = subject.store();
    let put = |text, precondition| store.put(put_request("key", text, precondition));
    let stale = Pin { etag: "\"0123\"".into(), version: None };
    assert!(matches!(put("0", Precondition::Is(stale.clone())).await, Err(StoreError::NotFound { .. })));
    let first = put("1", Precondition::Absent).await.expect("absent");
    assert!(matches!(put("2", Precondition::Absent).await, Err(StoreError::Changed { .. })));
    assert!(matches!(put("3", Precondition::Is(stale)).await, Err(StoreError::Changed { .. })));
    assert_eq!(content(store, "key").await, b"1");
    let second = put("four", Precondition::Is(first.clone())).await.expect("unchanged");
    assert!(matches!(put("5", Precondition::Is(first)).await, Err(StoreError::Changed { .. })));
    assert_eq!(content(store, "key").await, b"four");
    let unquoted = Pin { etag: second.etag.trim_matches('"').to_owned(), version: None };
    put("six", Precondition::Is(unquoted)).await.expect("the same version, without quotes");
}

async fn deletes_heed_their_pins(subject: &impl Subject) {
    let store = subject.store();
    let delete = |key: &str, pin: Option<Pin>| store.delete(DeleteRequest { key: key.into(), pin });
    delete("never", None).await.expect("nothing to do");
    let first = store.put(put_request("deep/er/key", "1", Precondition::Any)).await.expect("written");
    let second = store.put(put_request("deep/er/key", "two", Precondition::Any)).await.expect("written");
    assert!(matches!(delete("deep/er/key", Some(first)).await, Err(StoreError::Changed { .. })));
    assert_eq!(content(store, "deep/er/key").await, b"two");
    delete("deep/er/key", Some(second.clone())).await.expect("unchanged");
    assert!(matches!(store.head("deep/er/key").await, Err(StoreError::NotFound { .. })));
    delete("deep/er/key", Some(second)).await.expect("gone already");
    delete("deep/er/key", None).await.expect("gone already");
    assert_eq!(list_all(store, list_request("", true), None).await, (vec![], vec![]), "no empty directory stays");
}

fn copy_request(source: &str, pin: &Pin, key: &str, headers: Option<ObjectHeaders>, precondition: Precondition) -> CopyRequest {
    CopyRequest { source: CopySource { key: source.into(), pin: pin.clone() }, key: key.into(), headers, precondition }
}

async fn copies_keep_or_replace_metadata(subject: &impl Subject) {
    let store = subject.store();
    let put = PutRequest { headers: headers("1"), ..put_request("from", "content", Precondition::Any) };
    let pin = store.put(put).await.expect("written");
    let kept = store.copy(copy_request("from", &pin, "to/kept", None, Precondition::Any)).await.expect("copied");
    let head = store.head("to/kept").await.expect("there");
    assert_eq!((head.pin, head.system), (kept, headers("1").system));
    assert_eq!(head.user_metadata, headers("1").user_metadata);
    let other = ObjectHeaders { user_metadata: [("x".to_owned(), "2".to_owned())].into(), ..ObjectHeaders::default() };
    store.copy(copy_request("from", &pin, "to/other", Some(other.clone()), Precondition::Any)).await.expect("copied");
    let head = store.head("to/other").await.expect("there");
    assert_eq!((head.user_metadata, head.system), (other.user_metadata.clone(), SystemHeaders::default()));
    assert_eq!(content(store, "to/other").await, b"content");
    let own = copy_request("from", &pin, "from", Some(other.clone()), Precondition::Is(pin.clone()));
    let changed = store.copy(own).await.expect("onto itself");
    let head = store.head("from").await.expect("there");
    assert_eq!((head.pin, head.user_metadata), (changed, other.user_metadata));
    assert_eq!(content(store, "from").await, b"content");
}

async fn copies_heed_source_and_target(subject: &impl Subject) {
    let store = subject.store();
    let old = store.put(put_request("from", "old", Precondition::Any)).await.expect("written");
    let new = store.put(put_request("from", "new!", Precondition::Any)).await.expect("written");
    let copy = |pin: &Pin, precondition| store.copy(copy_request("from", pin, "to", None, precondition));
    match copy(&old, Precondition::Any).await {
        Err(StoreError::Changed { .. }) => assert_eq!(old.version, None, "a version can still be copied"),
        Ok(_) => assert_eq!(content(store, "to").await, b"old"),
        Err(other) => panic!("{other}"),
    }
    store.delete(DeleteRequest { key: "to".into(), pin: None }).await.expect("deleted");
    assert!(matches!(copy(&new, Precondition::Is(new.clone())).await, Err(StoreError::NotFound { .. })));
    let made = copy(&new, Precondition::Absent).await.expect("absent");
    assert!(matches!(copy(&new, Precondition::Absent).await, Err(StoreError::Changed { .. })));
    let stale = Pin { etag: "\"0123\"".into(), version: None };
    assert!(matches!(copy(&new, Precondition::Is(stale.clone())).await, Err(StoreError::Changed { .. })));
    copy(&new, Precondition::Is(made)).await.expect("unchanged");
    assert_eq!(content(store, "to").await, b"new!");
    let missing = store.copy(copy_request("never", &stale, "to", None, Precondition::Any)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

async fn metadata_of_any_text_survives(subject: &impl Subject) {
    let store = subject.store();
    let long = "grün ".repeat(60);
    for value in ["plain", "", "ä", "two  blanks", "\u{10FFFF} =? \u{e000}", &long] {
        let user_metadata = [("a-name".to_owned(), value.to_owned()), ("file-owner".to_owned(), "7".to_owned())].into();
        let headers = ObjectHeaders { user_metadata, ..ObjectHeaders::default() };
        let put = PutRequest { headers: headers.clone(), ..put_request("key", "x", Precondition::Any) };
        store.put(put).await.unwrap_or_else(|error| panic!("{value:?}: {error}"));
        assert_eq!(store.head("key").await.expect("there").user_metadata, headers.user_metadata, "{value:?}");
    }
}

async fn keys_are_written_as_they_are(subject: &impl Subject) {
    let store = subject.store();
    let plain = ["a b", "100%", "%2e%2e", "ä/日本/\u{10FFFF}", "a+b&c=d?e#f", "-", "~", "a\u{1}\nb", "q\"uo'te<>"];
    let odd = ["a//b", "/lead", "x/../y", "./z", "w//"];
    let most = if subject.holds_odd_keys() { plain.iter().chain(&odd).copied().collect::<Vec<_>>() } else { plain.to_vec() };
    for key in &most {
        let pin = store.put(put_request(key, "x", Precondition::Absent)).await.unwrap_or_else(|error| panic!("{key:?}: {error}"));
        let copy = format!("copy/{key}");
        store
            .copy(copy_request(key, &pin, &copy, None, Precondition::Absent))
            .await
            .unwrap_or_else(|error| panic!("{key:?}: {error}"));
        assert_eq!(content(store, &copy).await, b"x", "{key:?}");
        store.delete(DeleteRequest { key: copy, pin: None }).await.expect("deleted");
    }
    let mut keys: Vec<_> = most.iter().map(|key| (*key).to_owned()).collect();
    keys.sort_unstable();
    assert_eq!(list_all(store, list_request("", false), Some(3)).await.0, keys);
    for key in &most {
        let pin = store.head(key).await.expect("there").pin;
        store
            .delete(DeleteRequest { key: (*key).into(), pin: Some(pin) })
            .await
            .unwrap_or_else(|error| panic!("{key:?}: {error}"));
    }
    assert!(list_all(store, list_request("", false), None).await.0.is_empty());
    if !subject.holds_odd_keys() {
        for key in odd {
            let put = store.put(put_request(key, "x", Precondition::Any)).await;
            assert!(matches!(put, Err(StoreError::Permanent { .. })), "{key}");
        }
    }
}

async fn directories_have_markers(subject: &impl Subject) {
    let store = subject.store();
    store.put(put_request("dir/file", "x", Precondition::Any)).await.expect("written");
    assert!(matches!(store.head("dir/").await, Err(StoreError::NotFound { .. })));
    let put = |owner| PutRequest { headers: headers(owner), ..put_request("dir/", "", Precondition::Any) };
    store.put(PutRequest { precondition: Precondition::Absent, ..put("1") }).await.expect("none so far");
    let again = store.put(PutRequest { precondition: Precondition::Absent, ..put("2") }).await;
    assert!(matches!(again, Err(StoreError::Changed { .. })));
    let pin = store.put(put("3")).await.expect("written");
    let head = store.head("dir/").await.expect("there");
    assert_eq!((head.size, &head.pin, head.user_metadata), (0, &pin, headers("3").user_metadata));
    assert!(content(store, "dir/").await.is_empty());
    store.put(put_request("dir/sub/deep", "x", Precondition::Any)).await.expect("written");
    for max_keys in [None, Some(1), Some(2)] {
        let all = list_all(store, list_request("", false), max_keys).await.0;
        assert_eq!(all, ["dir/", "dir/file", "dir/sub/deep"], "{max_keys:?}");
        let (objects, prefixes) = list_all(store, list_request("dir/", true), max_keys).await;
        assert_eq!(
            (objects, prefixes),
            (vec!["dir/".to_owned(), "dir/file".to_owned()], vec!["dir/sub/".to_owned()]),
            "{max_keys:?}"
        );
        assert_eq!(list_all(store, list_request("", true), max_keys).await, (vec![], vec!["dir/".to_owned()]));
    }
    for key in ["dir/file", "dir/sub/deep"] {
        store.delete(DeleteRequest { key: key.into(), pin: None }).await.expect("deleted");
    }
    assert_eq!(list_all(store, list_request("", false), None).await.0, ["dir/"], "the marker keeps its directory");
    let copied = store.copy(copy_request("dir/", &pin, "moved/", None, Precondition::Absent)).await.expect("copied");
    assert_eq!(store.head("moved/").await.expect("there").pin, copied);
    for key in ["dir/", "moved/"] {
        store.delete(DeleteRequest { key: key.into(), pin: None }).await.expect("deleted");
    }
    assert_eq!(list_all(store, list_request("", true), None).await, (vec![], vec![]));
}
