//! ListObjectsV2 and ListObjects.

use crate::client::{Client, Reply, start};
use forebay_loopback_s3::{Op, UnixMs};

async fn list(client: &Client, query: &str) -> Reply {
    let reply = client.get(&format!("/data?list-type=2&{query}"), &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

/// All entries over all pages: keys, and common prefixes.
async fn list_all(client: &Client, query: &str) -> (Vec<String>, Vec<String>, usize) {
    let (mut keys, mut prefixes, mut pages, mut token) = (vec![], vec![], 0, None::<String>);
    loop {
        let more = token.map(|token| format!("&continuation-token={token}")).unwrap_or_default();
        let page = list(client, &format!("{query}{more}")).await;
        keys.extend(page.elements("Key").iter().map(|key| (*key).to_owned()));
        prefixes.extend(common_prefixes(&page));
        pages += 1;
        if page.element("IsTruncated") == "false" {
            return (keys, prefixes, pages);
        }
        token = Some(page.element("NextContinuationToken").to_owned());
    }
}

fn common_prefixes(page: &Reply) -> Vec<String> {
    let inside = page.elements("CommonPrefixes").into_iter();
    inside.map(|text| text.trim_start_matches("<Prefix>").trim_end_matches("</Prefix>").to_owned()).collect()
}

#[tokio::test]
async fn an_entry_says_size_etag_and_time_in_milliseconds() {
    let (server, client) = start().await;
    let bucket = server.bucket("data");
    let object = bucket.put("k", "hello", []).object.clone().expect("an object");
    bucket.put_object("k", object, UnixMs(1_767_355_200_789));
    let page = list(&client, "").await;
    assert_eq!(page.element("Key"), "k");
    assert_eq!(page.element("Size"), "5");
    assert_eq!(page.element("ETag").replace("&quot;", "\""), "\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(page.element("LastModified"), "2026-01-02T12:00:00.789Z");
    assert_eq!(page.element("KeyCount"), "1");
}

#[tokio::test]
async fn pages_hold_a_thousand_keys_in_byte_order() {
    let (server, client) = start().await;
    let bucket = server.bucket("data");
    bucket.insert_synthetic(2500, |number| format!("{:x}-{number}", number * 7919 % 2500), 10);
    let (keys, _, pages) = list_all(&client, "").await;
    assert_eq!(keys, bucket.keys());
    assert!(keys.is_sorted());
    assert_eq!((keys.len(), pages), (2500, 3));
    assert_eq!(server.requests().count(Op::ListObjects), 3);
}

#[tokio::test]
async fn order_is_by_utf8_bytes() {
    let (server, client) = start().await;
    // In UTF-16 the emoji (a surrogate pair) would come before U+FF5E.
    for key in ["z", "é", "A", "\u{ff5e}", "😀", "a/b", "a-b", "a"] {
        server.bucket("data").put(key, "", []);
    }
    let (keys, ..) = list_all(&client, "").await;
    assert_eq!(keys, ["A", "a", "a-b", "a/b", "z", "é", "\u{ff5e}", "😀"]);
}

#[tokio::test]
async fn a_delimiter_rolls_keys_up() {
    let (server, client) = start().await;
    for key in ["a", "d/1", "d/2", "d/e/3", "d0", "e/", "p/d/1", "p/x"] {
        server.bucket("data").put(key, "", []);
    }
    assert_eq!(list_all(&client, "delimiter=/").await.0, ["a", "d0"]);
    assert_eq!(list_all(&client, "delimiter=/").await.1, ["d/", "e/", "p/"]);
    let (keys, prefixes, _) = list_all(&client, "delimiter=/&prefix=d/").await;
    assert_eq!((keys, prefixes), (vec!["d/1".into(), "d/2".into()], vec!["d/e/".to_owned()]));
    let (keys, prefixes, _) = list_all(&client, "delimiter=/&prefix=p").await;
    assert_eq!((keys, prefixes), (vec![], vec!["p/".to_owned()]));
    assert_eq!(list_all(&client, "delimiter=/&prefix=e/").await.0, ["e/"]);
}

#[tokio::test]
async fn common_prefixes_count_as_entries() {
    let (server, client) = start().await;
    for key in ["a", "b/1", "b/2", "b/3", "c", "d/1", "e"] {
        server.bucket("data").put(key, "", []);
    }
    let first = list(&client, "delimiter=/&max-keys=2").await;
    assert_eq!((first.elements("Key"), common_prefixes(&first)), (vec!["a"], vec!["b/".to_owned()]));
    assert_eq!((first.element("KeyCount"), first.element("IsTruncated")), ("2", "true"));
    let (keys, prefixes, pages) = list_all(&client, "delimiter=/&max-keys=2").await;
    assert_eq!(keys, ["a", "c", "e"]);
    assert_eq!(prefixes, ["b/", "d/"]);
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn any_page_size_gives_every_entry_once() {
    let (server, client) = start().await;
    for key in ["a", "b/1", "b/2", "b//3", "b0", "c/", "c/x/y", "d", "😀/1", "😀/2"] {
        server.bucket("data").put(key, "", []);
    }
    let (keys, prefixes, _) = list_all(&client, "delimiter=/").await;
    for size in 1..=6 {
        let (some, rolled, _) = list_all(&client, &format!("delimiter=/&max-keys={size}")).await;
        assert_eq!((&some, &rolled), (&keys, &prefixes), "pages of {size}");
    }
}

#[tokio::test]
async fn start_after_is_exclusive() {
    let (server, client) = start().await;
    for key in ["a", "b", "b/1", "b/2", "c"] {
        server.bucket("data").put(key, "", []);
    }
    assert_eq!(list_all(&client, "start-after=b").await.0, ["b/1", "b/2", "c"]);
    assert_eq!(list_all(&client, "start-after=aa").await.0, ["b", "b/1", "b/2", "c"]);
    assert_eq!(list_all(&client, "start-after=b/1&prefix=b/").await.0, ["b/2"]);
    assert_eq!(list_all(&client, "start-after=a&prefix=b/").await.0, ["b/1", "b/2"]);
    assert_eq!(list_all(&client, "start-after=z").await.0, Vec::<String>::new());
}

#[tokio::test]
async fn start_after_a_common_prefix_goes_past_it() {
    let (server, client) = start().await;
    for key in ["b/1", "b/2", "c"] {
        server.bucket("data").put(key, "", []);
    }
    let (keys, prefixes, _) = list_all(&client, "delimiter=/&start-after=b/").await;
    assert_eq!((keys, prefixes), (vec!["c".to_owned()], vec![]));
    let (_, prefixes, _) = list_all(&client, "delimiter=/&start-after=b/1").await;
    assert_eq!(prefixes, ["b/"], "keys after the start are still rolled up");
}

#[tokio::test]
async fn max_keys_has_its_limits() {
    let (server, client) = start().await;
    server.bucket("data").insert_synthetic(1001, |number| format!("{number:04}"), 0);
    assert_eq!(list(&client, "max-keys=5000").await.elements("Key").len(), 1000);
    let none = list(&client, "max-keys=0").await;
    assert_eq!((none.elements("Key").len(), none.element("IsTruncated")), (0, "false"));
    client.get("/data?list-type=2&max-keys=-1", &[]).await.is_error(400, "InvalidArgument");
}

#[tokio::test]
async fn an_exactly_full_last_page_is_not_truncated() {
    let (server, client) = start().await;
    server.bucket("data").insert_synthetic(2000, |number| format!("{number:04}"), 0);
    assert_eq!(list_all(&client, "").await.2, 2);
}

#[tokio::test]
async fn a_token_nobody_gave_out_is_refused() {
    let (_server, client) = start().await;
    client.get("/data?list-type=2&continuation-token=nonsense", &[]).await.is_error(400, "InvalidArgument");
}

#[tokio::test]
async fn the_first_version_of_the_call_pages_by_marker() {
    let (server, client) = start().await;
    for key in ["a", "b/1", "b/2", "c", "d"] {
        server.bucket("data").put(key, "", []);
    }
    let first = client.get("/data?delimiter=/&max-keys=2", &[]).await;
    assert_eq!((first.elements("Key"), first.element("NextMarker")), (vec!["a"], "b/"));
    let second = client.get("/data?delimiter=/&max-keys=2&marker=b/", &[]).await;
    assert_eq!((second.elements("Key"), second.element("IsTruncated")), (vec!["c", "d"], "false"));
}

#[tokio::test]
async fn a_common_prefix_of_many_keys_costs_one_step() {
    let (server, client) = start().await;
    let bucket = server.bucket("data");
    bucket.insert_synthetic(50_000, |number| format!("big/{number}"), 0);
    bucket.put("z", "", []);
    let page = list(&client, "delimiter=/").await;
    assert_eq!((page.elements("Key"), common_prefixes(&page)), (vec!["z"], vec!["big/".to_owned()]));
}
