//! Multipart uploads.

use crate::client::{Client, Reply, pattern, start};
use bytes::Bytes;

const PART_BYTES: usize = 5 << 20;

async fn create(client: &Client) -> String {
    client.post("/data/k?uploads", &[("x-amz-meta-a", "1")], "").await.element("UploadId").to_owned()
}

async fn upload(client: &Client, id: &str, number: u32, content: Bytes) -> String {
    let reply = client.put(&format!("/data/k?partNumber={number}&uploadId={id}"), &[], content).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("etag").to_owned()
}

async fn complete(client: &Client, id: &str, parts: &[(u32, &str)], headers: &[(&str, &str)]) -> Reply {
    let parts: String =
        parts.iter().map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")).collect();
    let xml = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    client.post(&format!("/data/k?uploadId={id}"), headers, xml).await
}

#[tokio::test]
async fn parts_become_one_object() {
    let (server, client) = start().await;
    let whole = pattern(2 * PART_BYTES + 1000);
    let id = create(&client).await;
    // In another order than theirs.
    let third = upload(&client, &id, 7, whole.slice(2 * PART_BYTES..)).await;
    let first = upload(&client, &id, 1, whole.slice(..PART_BYTES)).await;
    let second = upload(&client, &id, 2, whole.slice(PART_BYTES..2 * PART_BYTES)).await;
    assert!(server.bucket("data").keys().is_empty(), "nothing shows before completion");
    let done = complete(&client, &id, &[(1, &first), (2, &second), (7, &third)], &[]).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let got = client.get("/data/k", &[]).await;
    assert_eq!(got.body, whole);
    assert_eq!(got.header("x-amz-meta-a"), "1");
    assert!(got.header("etag").ends_with("-3\""), "{}", got.header("etag"));
    assert!(server.bucket("data").uploads().is_empty());
    let across = client.get("/data/k", &[("range", "bytes=5242870-5242889")]).await;
    assert_eq!(across.body, whole.slice(5_242_870..5_242_890));
    let part = client.get("/data/k?partNumber=3", &[]).await;
    assert_eq!((part.status.as_u16(), part.body.len(), part.header("x-amz-mp-parts-count")), (206, 1000, "3"));
}

#[tokio::test]
async fn the_etag_is_the_md5_of_the_parts_md5s() {
    let (_server, client) = start().await;
    let id = create(&client).await;
    let part = upload(&client, &id, 1, "hello".into()).await;
    let done = complete(&client, &id, &[(1, &part)], &[]).await;
    // md5 of the 16 bytes 5d41402abc4b2a76b9719d911017c592.
    assert_eq!(done.element("ETag").trim_matches('"'), "62109206880d38a4010a98e11243924a-1");
}

#[tokio::test]
async fn wrong_lists_of_parts_are_refused() {
    let (_server, client) = start().await;
    let id = create(&client).await;
    let small = upload(&client, &id, 1, "small".into()).await;
    let other = upload(&client, &id, 2, "other".into()).await;
    complete(&client, &id, &[(1, &small), (2, &other)], &[]).await.is_error(400, "EntityTooSmall");
    complete(&client, &id, &[(2, &other), (1, &small)], &[]).await.is_error(400, "InvalidPartOrder");
    complete(&client, &id, &[(1, &other)], &[]).await.is_error(400, "InvalidPart");
    complete(&client, &id, &[(3, &other)], &[]).await.is_error(400, "InvalidPart");
    assert_eq!(complete(&client, &id, &[(1, &small)], &[]).await.status, 200);
    complete(&client, &id, &[(1, &small)], &[]).await.is_error(404, "NoSuchUpload");
}

#[tokio::test]
async fn a_part_uploaded_again_replaces_the_first() {
    let (_server, client) = start().await;
    let id = create(&client).await;
    upload(&client, &id, 1, "first".into()).await;
    let second = upload(&client, &id, 1, "second".into()).await;
    complete(&client, &id, &[(1, &second)], &[]).await;
    assert_eq!(client.get("/data/k", &[]).await.body, "second");
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let (server, client) = start().await;
    let id = create(&client).await;
    let part = upload(&client, &id, 1, "x".into()).await;
    assert_eq!(client.delete(&format!("/data/k?uploadId={id}"), &[]).await.status, 204);
    complete(&client, &id, &[(1, &part)], &[]).await.is_error(404, "NoSuchUpload");
    client.put(&format!("/data/k?partNumber=1&uploadId={id}"), &[], "x").await.is_error(404, "NoSuchUpload");
    assert!(server.bucket("data").uploads().is_empty());
}

#[tokio::test]
async fn completion_can_be_conditional() {
    let (server, client) = start().await;
    let id = create(&client).await;
    let part = upload(&client, &id, 1, "mine".into()).await;
    server.bucket("data").put("k", "theirs", []);
    complete(&client, &id, &[(1, &part)], &[("if-none-match", "*")]).await.is_error(412, "PreconditionFailed");
    assert_eq!(client.get("/data/k", &[]).await.body, "theirs");
}

#[tokio::test]
async fn parts_and_uploads_are_listed() {
    let (_server, client) = start().await;
    let id = create(&client).await;
    for number in [1, 2, 5] {
        upload(&client, &id, number, "x".into()).await;
    }
    let page = client.get(&format!("/data/k?uploadId={id}&max-parts=2"), &[]).await;
    assert_eq!((page.elements("PartNumber"), page.element("NextPartNumberMarker")), (vec!["1", "2"], "2"));
    let rest = client.get(&format!("/data/k?uploadId={id}&part-number-marker=2"), &[]).await;
    assert_eq!((rest.elements("PartNumber"), rest.element("IsTruncated")), (vec!["5"], "false"));
    assert_eq!(client.get("/data?uploads", &[]).await.element("UploadId"), id);
}

#[tokio::test]
async fn a_part_can_be_copied() {
    let (server, client) = start().await;
    server.bucket("data").put("from", pattern(1000), []);
    let id = create(&client).await;
    let target = format!("/data/k?partNumber=1&uploadId={id}");
    let headers = [("x-amz-copy-source", "/data/from"), ("x-amz-copy-source-range", "bytes=10-19")];
    let copied = client.put(&target, &headers, "").await;
    let etag = copied.element("ETag").replace("&quot;", "\"");
    complete(&client, &id, &[(1, &etag)], &[]).await;
    assert_eq!(client.get("/data/k", &[]).await.body, pattern(1000).slice(10..20));
    let outside = [("x-amz-copy-source", "/data/from"), ("x-amz-copy-source-range", "bytes=990-1000")];
    client.put(&target, &outside, "").await.is_error(416, "InvalidRange");
}

/// The CRC-32C of "123456789" (its check value) in base64.
const CRC_OF_DIGITS: &str = "4waSgw==";

#[tokio::test]
async fn uploads_with_checksums_hold_every_part_to_its_own() {
    let (_server, client) = start().await;
    let begun = client.post("/data/k?uploads", &[("x-amz-checksum-algorithm", "CRC32C")], "").await;
    let id = begun.element("UploadId").to_owned();
    let target = format!("/data/k?partNumber=1&uploadId={id}");
    client.put(&target, &[("x-amz-checksum-crc32c", "AAAAAA==")], "123456789").await.is_error(400, "BadDigest");
    let part = client.put(&target, &[("x-amz-checksum-crc32c", CRC_OF_DIGITS)], "123456789").await;
    assert_eq!(part.header("x-amz-checksum-crc32c"), CRC_OF_DIGITS);
    let etag = part.header("etag");
    complete(&client, &id, &[(1, etag)], &[]).await.is_error(400, "InvalidRequest");
    let with = |crc: &str| {
        let part = format!("<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag><ChecksumCRC32C>{crc}</ChecksumCRC32C></Part>");
        format!("<CompleteMultipartUpload>{part}</CompleteMultipartUpload>")
    };
    let target = format!("/data/k?uploadId={id}");
    client.post(&target, &[], with("AAAAAA==")).await.is_error(400, "InvalidPart");
    assert_eq!(client.post(&target, &[], with(CRC_OF_DIGITS)).await.status, 200);
}

#[tokio::test]
async fn a_copied_part_has_a_checksum_where_the_upload_has() {
    let (server, client) = start().await;
    server.bucket("data").put("from", "0123456789", []);
    let begun = client.post("/data/k?uploads", &[("x-amz-checksum-algorithm", "CRC32C")], "").await;
    let target = format!("/data/k?partNumber=1&uploadId={}", begun.element("UploadId"));
    let headers = [("x-amz-copy-source", "/data/from"), ("x-amz-copy-source-range", "bytes=1-9")];
    assert_eq!(client.put(&target, &headers, "").await.element("ChecksumCRC32C"), CRC_OF_DIGITS);
}

#[tokio::test]
async fn a_part_with_a_checksum_needs_an_upload_with_checksums() {
    let (_server, client) = start().await;
    let id = create(&client).await;
    let target = format!("/data/k?partNumber=1&uploadId={id}");
    client.put(&target, &[("x-amz-checksum-crc32c", CRC_OF_DIGITS)], "123456789").await.is_error(400, "InvalidRequest");
}

#[tokio::test]
async fn uploads_are_listed_a_thousand_at_a_time() {
    let (_server, client) = start().await;
    for number in 0..1001 {
        client.post(&format!("/data/many/{number:04}%20x?uploads"), &[], "").await;
    }
    let page = client.get("/data?uploads&prefix=many/&encoding-type=url", &[]).await;
    assert_eq!((page.elements("UploadId").len(), page.element("IsTruncated")), (1000, "true"));
    assert_eq!(page.element("NextKeyMarker"), "many/0999%20x");
    let marker = page.element("NextUploadIdMarker");
    let rest = client.get(&format!("/data?uploads&key-marker=many/0999%20x&upload-id-marker={marker}"), &[]).await;
    assert_eq!((rest.elements("Key"), rest.element("IsTruncated")), (vec!["many/1000 x"], "false"));
}
