//! Counters and log.

use crate::client::{start, start_with};
use forebay_loopback_s3::{LoopbackConfig, Op, RequestRecord};
use http::Method;

#[tokio::test]
async fn every_operation_is_told_apart() {
    use Op::*;
    let (server, client) = start().await;
    let cases = [
        (Method::GET, "/", ListBuckets),
        (Method::PUT, "/other", CreateBucket),
        (Method::HEAD, "/data", HeadBucket),
        (Method::GET, "/data?list-type=2&prefix=a%2Fb", ListObjects),
        (Method::GET, "/data/?prefix=a/b", ListObjects),
        (Method::GET, "/data?versions", ListObjectVersions),
        (Method::GET, "/data?uploads", ListUploads),
        (Method::POST, "/data?delete", DeleteObjects),
        (Method::PUT, "/data/k", PutObject),
        (Method::GET, "/data/k", GetObject),
        (Method::GET, "/data/k?versionId=null", GetObject),
        (Method::HEAD, "/data/k", HeadObject),
        (Method::DELETE, "/data/k", DeleteObject),
        (Method::POST, "/data/k?uploads", CreateUpload),
        (Method::PUT, "/data/k?partNumber=1&uploadId=u", UploadPart),
        (Method::GET, "/data/k?uploadId=u", ListParts),
        (Method::POST, "/data/k?uploadId=u", CompleteUpload),
        (Method::DELETE, "/data/k?uploadId=u", AbortUpload),
        (Method::DELETE, "/other", DeleteBucket),
    ];
    for (method, target, op) in cases {
        server.requests().reset();
        client.send(method.clone(), target, &[], "").await;
        assert_eq!(server.requests().counts(), [(op, 1)].into(), "{method} {target}");
    }
    server.requests().reset();
    client.put("/data/copy", &[("x-amz-copy-source", "/data/k")], "").await;
    assert_eq!(server.requests().count(CopyObject), 1);
}

#[tokio::test]
async fn the_log_says_key_and_range() {
    let (server, client) = start().await;
    client.get("/data/a%20b", &[("range", "bytes=0-9")]).await;
    client.get("/data?list-type=2&prefix=p%2Fq+r", &[]).await;
    let record = |op, key: &str, range: Option<&str>| RequestRecord {
        op,
        bucket: "data".to_owned(),
        key: key.to_owned(),
        range: range.map(str::to_owned),
    };
    let expected = [record(Op::GetObject, "a b", Some("bytes=0-9")), record(Op::ListObjects, "p/q r", None)];
    assert_eq!(server.requests().log(), expected);
    assert_eq!(server.requests().gets_of("a b").len(), 1);
}

#[tokio::test]
async fn the_log_is_bounded_and_the_counters_are_not() {
    let (server, client) = start_with(LoopbackConfig { request_log_len: 2, ..LoopbackConfig::default() }).await;
    for key in ["1", "2", "3"] {
        client.get(&format!("/data/{key}"), &[]).await;
    }
    let keys: Vec<_> = server.requests().log().into_iter().map(|record| record.key).collect();
    assert_eq!(keys, ["2", "3"]);
    assert_eq!(server.requests().count(Op::GetObject), 3);
}
