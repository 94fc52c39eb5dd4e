//! Conditional reads and writes.

use crate::client::{Client, start};
use forebay_loopback_s3::{Etag, Object, UnixMs};

/// Puts `/data/k` as written at noon, 2026-01-02, plus 700 ms; gives its ETag.
async fn put_at_noon(server: &forebay_loopback_s3::Server) -> String {
    let bucket = server.bucket("data");
    let revision = bucket.put("k", "content", []);
    let object: Object = revision.object.clone().expect("an object");
    let etag: Etag = object.etag;
    bucket.put_object("k", object, UnixMs(1_767_355_200_700));
    format!("\"{etag}\"")
}

const NOON: &str = "Fri, 02 Jan 2026 12:00:00 GMT";
const BEFORE: &str = "Fri, 02 Jan 2026 11:59:59 GMT";

async fn status(client: &Client, headers: &[(&str, &str)]) -> u16 {
    let (get, head) = (client.get("/data/k", headers).await, client.head("/data/k", headers).await);
    assert_eq!(get.status, head.status, "GET and HEAD agree on {headers:?}");
    get.status.as_u16()
}

#[tokio::test]
async fn reads_follow_etag_conditions() {
    let (server, client) = start().await;
    let etag = put_at_noon(&server).await;
    assert_eq!(status(&client, &[("if-match", &etag)]).await, 200);
    assert_eq!(status(&client, &[("if-match", "*")]).await, 200);
    assert_eq!(status(&client, &[("if-match", &format!("\"other\", {etag}"))]).await, 200);
    assert_eq!(status(&client, &[("if-match", "\"other\"")]).await, 412);
    assert_eq!(status(&client, &[("if-none-match", "\"other\"")]).await, 200);
    assert_eq!(status(&client, &[("if-none-match", &etag)]).await, 304);
}

#[tokio::test]
async fn reads_follow_date_conditions_in_whole_seconds() {
    let (server, client) = start().await;
    put_at_noon(&server).await;
    assert_eq!(client.get("/data/k", &[]).await.header("last-modified"), NOON);
    assert_eq!(status(&client, &[("if-modified-since", BEFORE)]).await, 200);
    assert_eq!(status(&client, &[("if-modified-since", NOON)]).await, 304);
    assert_eq!(status(&client, &[("if-unmodified-since", NOON)]).await, 200);
    assert_eq!(status(&client, &[("if-unmodified-since", BEFORE)]).await, 412);
}

#[tokio::test]
async fn an_etag_condition_voids_the_date_condition() {
    let (server, client) = start().await;
    let etag = put_at_noon(&server).await;
    assert_eq!(status(&client, &[("if-match", &etag), ("if-unmodified-since", BEFORE)]).await, 200);
    assert_eq!(status(&client, &[("if-none-match", "\"other\""), ("if-modified-since", NOON)]).await, 200);
}

#[tokio::test]
async fn a_304_names_the_etag_and_has_no_body() {
    let (server, client) = start().await;
    let etag = put_at_noon(&server).await;
    let reply = client.get("/data/k", &[("if-none-match", &etag)]).await;
    assert_eq!(reply.header("etag"), etag);
    assert!(reply.body.is_empty());
}

#[tokio::test]
async fn a_failed_condition_is_said_in_xml() {
    let (server, client) = start().await;
    put_at_noon(&server).await;
    client.get("/data/k", &[("if-match", "\"other\"")]).await.is_error(412, "PreconditionFailed");
}

#[tokio::test]
async fn a_put_can_insist_on_absence_or_on_an_etag() {
    let (_server, client) = start().await;
    let first = client.put("/data/k", &[("if-none-match", "*")], "1").await;
    assert_eq!(first.status, 200);
    client.put("/data/k", &[("if-none-match", "*")], "2").await.is_error(412, "PreconditionFailed");
    client.put("/data/k", &[("if-match", "\"other\"")], "3").await.is_error(412, "PreconditionFailed");
    assert_eq!(client.put("/data/k", &[("if-match", first.header("etag"))], "4").await.status, 200);
    client.put("/data/none", &[("if-match", "*")], "5").await.is_error(404, "NoSuchKey");
    assert_eq!(client.get("/data/k", &[]).await.body, "4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_conditional_puts_at_once_one_wins() {
    let (server, client) = start().await;
    for round in 0..10 {
        let target = format!("/data/k{round}");
        let put = |n: u32| {
            let target = target.clone();
            tokio::spawn(async move { client.put(&target, &[("if-none-match", "*")], n.to_string()).await.status.as_u16() })
        };
        let statuses = futures::future::join_all((0..16).map(put)).await;
        let won = statuses.into_iter().filter(|status| *status.as_ref().expect("no panic") == 200).count();
        assert_eq!(won, 1);
    }
    assert_eq!(server.bucket("data").keys().len(), 10);
}

#[tokio::test]
async fn a_copy_can_insist_on_its_source() {
    let (server, client) = start().await;
    let etag = put_at_noon(&server).await;
    let copy = |name: &'static str, value: String| async move {
        client.put("/data/copy", &[("x-amz-copy-source", "/data/k"), (name, &value)], "").await.status.as_u16()
    };
    assert_eq!(copy("x-amz-copy-source-if-match", etag.clone()).await, 200);
    assert_eq!(copy("x-amz-copy-source-if-match", "\"other\"".to_owned()).await, 412);
    assert_eq!(copy("x-amz-copy-source-if-none-match", etag).await, 412);
}

#[tokio::test]
async fn a_delete_can_insist_on_an_etag() {
    let (server, client) = start().await;
    let etag = put_at_noon(&server).await;
    let delete = |tag: String| async move { client.send(http::Method::DELETE, "/data/k", &[("if-match", &tag)], "").await };
    delete("\"other\"".to_owned()).await.is_error(412, "PreconditionFailed");
    assert_eq!(delete(etag.clone()).await.status, 204);
    delete(etag).await.is_error(404, "NoSuchKey");
}

#[tokio::test]
async fn a_copy_can_insist_on_its_target() {
    let (server, client) = start().await;
    put_at_noon(&server).await;
    let copy = |name: &'static str, value: String| async move {
        client.put("/data/copy", &[("x-amz-copy-source", "/data/k"), (name, &value)], "").await
    };
    copy("if-match", "\"x\"".to_owned()).await.is_error(404, "NoSuchKey");
    let made = copy("if-none-match", "*".to_owned()).await;
    assert_eq!(made.status, 200);
    copy("if-none-match", "*".to_owned()).await.is_error(412, "PreconditionFailed");
    let etag = made.element("ETag").replace("&quot;", "\"");
    assert_eq!(copy("if-match", etag).await.status, 200);
}

#[tokio::test]
async fn a_put_is_held_to_its_checksum() {
    let (server, client) = start().await;
    client.put("/data/k", &[("x-amz-checksum-crc32c", "AAAAAA==")], "123456789").await.is_error(400, "BadDigest");
    assert!(server.bucket("data").keys().is_empty());
    let put = client.put("/data/k", &[("x-amz-checksum-crc32c", "4waSgw==")], "123456789").await;
    assert_eq!((put.status.as_u16(), put.header("x-amz-checksum-crc32c")), (200, "4waSgw=="));
}
