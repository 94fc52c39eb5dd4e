//! Keys that a careless server would change.

use crate::client::{Reply, start};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

fn odd_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a//b",
        "/leading",
        "//",
        "trailing/",
        "dir//",
        ".",
        "..",
        "./a",
        "../../etc/passwd",
        "a/./b",
        "a/../b",
        "with space",
        "plus+plus",
        "100%",
        "%41",
        "a%2Fb",
        "q?x=1&y=2",
        "hash#tag",
        "tab\there",
        "new\nline",
        "return\rhere",
        "control\u{1}\u{1f}",
        "del\u{7f}",
        "ümläut/ß",
        "漢字/かな",
        "emoji😀",
        "e\u{301} and é",
        "\u{feff}bom",
        "\u{fffd}",
        "<xml>&\"'",
        "a\\b",
        "a:b*c|d",
        " ",
        "~",
        "=",
        "a\u{0}b",
    ]
    .map(str::to_owned)
    .into();
    keys.push("k".repeat(1024));
    keys.push("é".repeat(512));
    keys
}

fn target(key: &str) -> String {
    format!("/data/{}", utf8_percent_encode(key, PATH))
}

#[tokio::test]
async fn odd_keys_are_kept_byte_for_byte() {
    let (server, client) = start().await;
    for (number, key) in odd_keys().into_iter().enumerate() {
        let put = client.put(&target(&key), &[], number.to_string()).await;
        assert_eq!(put.status, 200, "put {key:?}: {}", put.text());
        assert_eq!(client.get(&target(&key), &[]).await.body, number.to_string(), "get {key:?}");
    }
    let mut expected = odd_keys();
    expected.sort();
    assert_eq!(server.bucket("data").keys(), expected);
}

#[tokio::test]
async fn odd_keys_are_listed_url_encoded() {
    let (server, client) = start().await;
    for key in odd_keys() {
        server.bucket("data").put(&key, "", []);
    }
    let page = client.get("/data?list-type=2&encoding-type=url", &[]).await;
    let listed: Vec<_> =
        page.elements("Key").iter().map(|key| percent_decode_str(key).decode_utf8().expect("UTF-8").into_owned()).collect();
    assert_eq!(listed, server.bucket("data").keys());
}

#[tokio::test]
async fn markup_in_keys_is_escaped() {
    let (server, client) = start().await;
    server.bucket("data").put("<a>&\"'", "", []);
    let page: Reply = client.get("/data?list-type=2", &[]).await;
    let key = page.element("Key").replace("&quot;", "\"").replace("&apos;", "'");
    assert_eq!(key.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"), "<a>&\"'");
}

#[tokio::test]
async fn a_carriage_return_in_a_key_survives_xml() {
    let (server, client) = start().await;
    server.bucket("data").put("a\rb", "", []);
    // XML parsers read a bare carriage return as a line feed.
    assert_eq!(client.get("/data?list-type=2", &[]).await.element("Key"), "a&#13;b");
}

#[tokio::test]
async fn a_key_of_1025_bytes_is_too_long() {
    let (_server, client) = start().await;
    client.put(&target(&"k".repeat(1025)), &[], "x").await.is_error(400, "KeyTooLongError");
}
