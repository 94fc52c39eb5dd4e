//! Put, get, head, delete, copy; ranges; buckets.

use crate::client::{pattern, start, start_with};
use forebay_loopback_s3::{EtagKind, LoopbackConfig, LoopbackS3, Refusal, Spill, Texture};
use http::Method;

#[tokio::test]
async fn what_is_put_is_got() {
    let (_server, client) = start().await;
    let put = client.put("/data/a/b.bin", &[], pattern(100_000)).await;
    assert_eq!(put.status, 200);
    let got = client.get("/data/a/b.bin", &[]).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.body, pattern(100_000));
    assert_eq!(got.header("content-length"), "100000");
    assert_eq!(got.header("accept-ranges"), "bytes");
    assert_eq!(got.header("etag"), put.header("etag"));
}

#[tokio::test]
async fn the_etag_is_the_md5_in_quotes() {
    let (_server, client) = start().await;
    let put = client.put("/data/k", &[], "hello").await;
    assert_eq!(put.header("etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
}

#[tokio::test]
async fn opaque_etags_differ_for_equal_content() {
    let (_server, client) = start_with(LoopbackConfig { etags: EtagKind::Opaque, ..LoopbackConfig::default() }).await;
    let first = client.put("/data/k", &[], "hello").await.header("etag").to_owned();
    let second = client.put("/data/k", &[], "hello").await;
    assert_ne!(first, second.header("etag"));
    assert_eq!(client.get("/data/k", &[]).await.header("etag"), second.header("etag"));
}

#[tokio::test]
async fn a_wrong_content_md5_is_refused_and_nothing_is_stored() {
    let (server, client) = start().await;
    let reply = client.put("/data/k", &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], "hello").await;
    reply.is_error(400, "BadDigest");
    assert_eq!(server.bucket("data").keys().len(), 0);
}

#[tokio::test]
async fn headers_come_back_with_the_object() {
    let (_server, client) = start().await;
    let headers = [
        ("x-amz-meta-file-permissions", "0100644"),
        ("x-amz-meta-Camel", "Kept"),
        ("content-type", "text/plain"),
        ("cache-control", "no-cache"),
        ("content-encoding", "gzip"),
        ("content-disposition", "inline"),
        ("content-language", "en"),
    ];
    client.put("/data/k", &headers, "x").await;
    for reply in [client.get("/data/k", &[]).await, client.head("/data/k", &[]).await] {
        for (name, value) in headers {
            assert_eq!(reply.header(name), value, "{name}");
        }
    }
}

#[tokio::test]
async fn head_says_what_get_says_without_the_body() {
    let (_server, client) = start().await;
    client.put("/data/k", &[], pattern(1000)).await;
    let (head, get) = (client.head("/data/k", &[]).await, client.get("/data/k", &[]).await);
    assert!(head.body.is_empty());
    for name in ["content-length", "etag", "last-modified", "content-type", "accept-ranges"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

#[tokio::test]
async fn last_modified_is_an_http_date() {
    let (_server, client) = start().await;
    client.put("/data/k", &[], "x").await;
    let head = client.head("/data/k", &[]).await;
    let date = head.header("last-modified");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
}

#[tokio::test]
async fn every_form_of_range() {
    let (_server, client) = start().await;
    client.put("/data/k", &[], pattern(1000)).await;
    let whole = pattern(1000);
    let cases = [
        ("bytes=0-0", 0..1),
        ("bytes=10-19", 10..20),
        ("bytes=990-", 990..1000),
        ("bytes=990-5000", 990..1000),
        ("bytes=-10", 990..1000),
        ("bytes=-5000", 0..1000),
        ("bytes=0-999", 0..1000),
    ];
    for (range, expected) in cases {
        let got = client.get("/data/k", &[("range", range)]).await;
        assert_eq!(got.status, 206, "{range}");
        assert_eq!(got.body, whole.slice(expected.clone()), "{range}");
        assert_eq!(got.header("content-range"), format!("bytes {}-{}/1000", expected.start, expected.end - 1));
        assert_eq!(got.header("content-length"), expected.len().to_string());
    }
}

#[tokio::test]
async fn ranges_outside_the_object_are_416() {
    let (_server, client) = start().await;
    client.put("/data/k", &[], pattern(1000)).await;
    client.put("/data/empty", &[], "").await;
    for (key, range) in
        [("k", "bytes=1000-"), ("k", "bytes=1000-2000"), ("k", "bytes=-0"), ("empty", "bytes=0-9"), ("empty", "bytes=-5")]
    {
        let got = client.get(&format!("/data/{key}"), &[("range", range)]).await;
        got.is_error(416, "InvalidRange");
        assert_eq!(got.header("content-range"), if key == "k" { "bytes */1000" } else { "bytes */0" }, "{range}");
    }
}

#[tokio::test]
async fn a_range_that_cannot_be_read_is_ignored() {
    let (_server, client) = start().await;
    client.put("/data/k", &[], pattern(100)).await;
    for range in ["bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=x-y", "bytes=-"] {
        let got = client.get("/data/k", &[("range", range)]).await;
        assert_eq!((got.status.as_u16(), got.body.len()), (200, 100), "{range}");
    }
}

#[tokio::test]
async fn spilled_bodies_read_like_those_in_memory() {
    let spill = Some(Spill { threshold_bytes: 1 << 20, directory: None });
    let (_server, client) = start_with(LoopbackConfig { spill, ..LoopbackConfig::default() }).await;
    let whole = pattern(3_000_001);
    client.put("/data/k", &[], whole.clone()).await;
    assert_eq!(client.get("/data/k", &[]).await.body, whole);
    let got = client.get("/data/k", &[("range", "bytes=262143-1048577")]).await;
    assert_eq!(got.body, whole.slice(262_143..1_048_578));
}

#[tokio::test]
async fn spill_files_go_with_their_objects_and_the_directory_with_the_server() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let spill = Some(Spill { threshold_bytes: 1, directory: Some(parent.path().to_owned()) });
    let (server, client) = start_with(LoopbackConfig { spill, ..LoopbackConfig::default() }).await;
    let count = |dir: &std::path::Path| std::fs::read_dir(dir).expect("a directory").count();
    client.put("/data/k", &[], "some bytes").await;
    let dir = std::fs::read_dir(parent.path()).expect("a directory").next().expect("the server's").expect("readable").path();
    assert_eq!(count(&dir), 1);
    client.delete("/data/k", &[]).await;
    assert_eq!(count(&dir), 0);
    drop(client);
    server.shutdown();
    // The accept task lets go of the store when it is next polled.
    for _ in 0..1000 {
        if count(parent.path()) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the spill directory outlived its server");
}

#[tokio::test]
async fn synthetic_objects_read_the_same_in_any_pieces() {
    let (server, client) = start().await;
    let bucket = server.bucket("data");
    bucket.put_synthetic("noise", 42, 700_001, Texture::Noise);
    let whole = client.get("/data/noise", &[]).await.body;
    assert_eq!(whole.len(), 700_001);
    assert_eq!(bucket.bytes("noise").expect("the object"), whole);
    let got = client.get("/data/noise", &[("range", "bytes=262141-600000")]).await;
    assert_eq!(got.body, whole.slice(262_141..600_001));
}

#[tokio::test]
async fn a_deleted_key_is_gone_and_deleting_again_is_no_error() {
    let (_server, client) = start().await;
    client.put("/data/k", &[], "x").await;
    assert_eq!(client.delete("/data/k", &[]).await.status, 204);
    client.get("/data/k", &[]).await.is_error(404, "NoSuchKey");
    assert_eq!(client.delete("/data/k", &[]).await.status, 204);
}

#[tokio::test]
async fn a_head_of_nothing_is_404_without_a_body() {
    let (_server, client) = start().await;
    let head = client.head("/data/none", &[]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (404, 0));
}

#[tokio::test]
async fn many_keys_are_deleted_at_once() {
    let (server, client) = start().await;
    let bucket = server.bucket("data");
    for key in ["a", "b", "c & d"] {
        bucket.put(key, "x", []);
    }
    let xml =
        "<Delete><Object><Key>a</Key></Object><Object><Key>c &amp; d</Key></Object><Object><Key>none</Key></Object></Delete>";
    let reply = client.post("/data?delete", &[], xml).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.elements("Deleted").len(), 3);
    assert_eq!(bucket.keys(), ["b"]);
}

#[tokio::test]
async fn buckets_are_made_found_and_deleted_when_empty() {
    let (_server, client) = start().await;
    assert_eq!(client.put("/fresh", &[], "").await.status, 200);
    assert_eq!(client.head("/fresh", &[]).await.status, 200);
    client.put("/fresh/k", &[], "x").await;
    client.delete("/fresh", &[]).await.is_error(409, "BucketNotEmpty");
    client.delete("/fresh/k", &[]).await;
    assert_eq!(client.delete("/fresh", &[]).await.status, 204);
    assert_eq!(client.head("/fresh", &[]).await.status, 404);
}

#[tokio::test]
async fn without_its_bucket_everything_is_no_such_bucket() {
    let (_server, client) = start().await;
    client.get("/none/k", &[]).await.is_error(404, "NoSuchBucket");
    client.put("/none/k", &[], "x").await.is_error(404, "NoSuchBucket");
    client.get("/none?list-type=2", &[]).await.is_error(404, "NoSuchBucket");
}

#[tokio::test]
async fn a_copy_keeps_or_replaces_metadata() {
    let (server, client) = start().await;
    client.put("/data/from", &[("x-amz-meta-a", "1")], "content").await;
    let copied = client.put("/data/kept", &[("x-amz-copy-source", "/data/from")], "").await;
    assert_eq!(copied.status, 200, "{}", copied.text());
    let headers = [("x-amz-copy-source", "data/from"), ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-b", "2")];
    client.put("/data/replaced", &headers, "").await;
    let metadata =
        |key: &str| server.bucket("data").get(key).expect("the copy").object.as_ref().expect("no marker").user_metadata();
    assert_eq!(metadata("kept"), [("a".to_owned(), "1".to_owned())].into());
    assert_eq!(metadata("replaced"), [("b".to_owned(), "2".to_owned())].into());
    assert_eq!(client.get("/data/replaced", &[]).await.body, "content");
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let (_server, client) = start().await;
    client.put("/data/k", &[], "x").await;
    client.put("/data/k", &[("x-amz-copy-source", "/data/k")], "").await.is_error(400, "InvalidRequest");
}

#[tokio::test]
async fn a_second_bucket_of_one_name_is_refused() {
    let (server, _client) = start().await;
    assert_eq!(server.create_bucket("data").expect_err("it exists"), Refusal::BucketExists);
}

#[test]
fn a_blocking_server_runs_without_a_runtime() {
    let server = LoopbackS3::start_blocking(LoopbackConfig::default(), 1).expect("a port on loopback");
    server.bucket("data").put("k", "x", []);
    let mut stream = std::net::TcpStream::connect(server.address()).expect("the server listens");
    let request = "GET /data/k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("a request");
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut stream, &mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\nx"), "{reply}");
}

#[tokio::test]
async fn after_shutdown_nobody_listens() {
    let (server, client) = start().await;
    let address = server.address();
    let mut kept = client.connect().await;
    server.shutdown();
    let broken = kept.try_send(Method::GET, "/data?list-type=2", &[], "".into()).await;
    assert!(broken.is_err(), "an open connection went on: {broken:?}");
    for _ in 0..1000 {
        if tokio::net::TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the port is still open");
}
