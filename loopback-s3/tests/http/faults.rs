//! Faults, on real sockets.

use crate::client::{Broken, Client, Reply, pattern, start};
use bytes::Bytes;
use forebay_loopback_s3::{Fault, Op, Rule, Server};
use http::Method;
use std::time::{Duration, Instant};

const LEN: usize = 1_000_000;

/// A server with one object of `LEN` bytes at `/data/k`, and a fault for its GETs.
async fn start_faulty(fault: Fault) -> (Server, Client) {
    let (server, client) = start().await;
    server.bucket("data").put("k", pattern(LEN), []);
    server.faults().add(Rule::new(fault).on(Op::GetObject));
    (server, client)
}

async fn get(client: &Client, headers: &[(&str, &str)]) -> Result<Reply, Broken> {
    client.try_send(Method::GET, "/data/k", headers, Bytes::new()).await
}

#[tokio::test]
async fn slow_down() {
    let (server, client) = start_faulty(Fault::SlowDown { retry_after_s: Some(7) }).await;
    let reply = client.get("/data/k", &[]).await;
    reply.is_error(503, "SlowDown");
    assert_eq!(reply.header("retry-after"), "7");
    assert_eq!(server.faults().injected(), 1);
}

#[tokio::test]
async fn internal_error_and_denied_access() {
    let (_server, client) = start_faulty(Fault::InternalError).await;
    client.get("/data/k", &[]).await.is_error(500, "InternalError");
    let (_server, client) = start_faulty(Fault::AccessDenied).await;
    client.get("/data/k", &[]).await.is_error(403, "AccessDenied");
}

#[tokio::test]
async fn the_connection_lives_on_after_an_error_reply() {
    let (server, client) = start().await;
    server.faults().add(Rule::new(Fault::InternalError).on(Op::PutObject).times(1));
    let mut connection = client.connect().await;
    assert_eq!(put_on(&mut connection, pattern(LEN)).await.status, 500);
    assert!(server.bucket("data").keys().is_empty(), "a refused PUT is not applied");
    assert_eq!(put_on(&mut connection, pattern(LEN)).await.status, 200);
}

async fn put_on(connection: &mut crate::client::Connection, body: Bytes) -> Reply {
    connection.try_send(Method::PUT, "/data/k", &[], body).await.expect("a whole reply")
}

#[tokio::test]
async fn reset_before_the_reply() {
    let (server, client) = start().await;
    server.faults().add(Rule::new(Fault::ResetBeforeReply).on(Op::PutObject));
    let broken = client.try_send(Method::PUT, "/data/k", &[], "x".into()).await.expect_err("no reply");
    assert!(broken.status.is_none() && broken.reset, "{broken:?}");
    assert!(server.bucket("data").keys().is_empty(), "not applied");
}

#[tokio::test]
async fn applied_but_the_reply_is_lost() {
    let (server, client) = start().await;
    server.faults().add(Rule::new(Fault::ReplyLost).on(Op::PutObject).on(Op::DeleteObject));
    let broken = client.try_send(Method::PUT, "/data/k", &[], "x".into()).await.expect_err("no reply");
    assert!(broken.status.is_none() && broken.reset, "{broken:?}");
    assert_eq!(server.bucket("data").keys(), ["k"], "applied");
    client.try_send(Method::DELETE, "/data/k", &[], Bytes::new()).await.expect_err("no reply");
    assert!(server.bucket("data").keys().is_empty(), "applied");
}

#[tokio::test]
async fn reset_mid_body() {
    let (_server, client) = start_faulty(Fault::ResetMidBody { after_bytes: 300_000 }).await;
    let broken = get(&client, &[]).await.expect_err("half a body");
    assert!(broken.status.is_some_and(|status| status == 200) && broken.reset, "{broken:?}");
    assert!(broken.received <= 300_000, "{broken:?}");
}

#[tokio::test]
async fn truncated_body() {
    let (_server, client) = start_faulty(Fault::TruncateBody { after_bytes: 300_000 }).await;
    let broken = get(&client, &[]).await.expect_err("half a body");
    assert!(!broken.reset, "{broken:?}");
    assert_eq!(broken.received, 300_000);
}

#[tokio::test]
async fn truncated_after_the_head() {
    let (_server, client) = start_faulty(Fault::TruncateBody { after_bytes: 0 }).await;
    let broken = get(&client, &[]).await.expect_err("no body");
    assert!(broken.status.is_some(), "the head arrives: {broken:?}");
    assert_eq!(broken.received, 0);
}

#[tokio::test]
async fn a_body_longer_or_shorter_than_its_range() {
    for (by, expected) in [(-5, 95), (5, 105)] {
        let (_server, client) = start_faulty(Fault::ResizeBody { by }).await;
        let reply = get(&client, &[("range", "bytes=100-199")]).await.expect("well-formed HTTP");
        assert_eq!(reply.header("content-range"), format!("bytes 100-199/{LEN}"));
        assert_eq!(reply.header("content-length"), expected.to_string());
        assert_eq!(reply.body.len(), expected);
        let genuine = expected.min(100);
        assert_eq!(reply.body[..genuine], pattern(LEN)[100..100 + genuine]);
    }
}

#[tokio::test]
async fn a_wrong_content_range() {
    let (_server, client) = start_faulty(Fault::ShiftContentRange { by: 10 }).await;
    let reply = get(&client, &[("range", "bytes=100-199")]).await.expect("well-formed HTTP");
    assert_eq!(reply.header("content-range"), format!("bytes 110-209/{LEN}"));
    assert_eq!(reply.body, pattern(LEN).slice(100..200));
}

#[tokio::test]
async fn a_stall_lasts_as_long_as_said_and_the_body_is_whole() {
    let pause = Duration::from_millis(200);
    let (_server, client) = start_faulty(Fault::Stall { after_bytes: 1000, pause }).await;
    let begun = Instant::now();
    let reply = get(&client, &[]).await.expect("a whole reply");
    assert!(begun.elapsed() >= pause);
    assert_eq!(reply.body, pattern(LEN));
}

#[tokio::test]
async fn latency_and_delay_hold_replies_back() {
    let (server, client) = start_faulty(Fault::Delay(Duration::from_millis(100))).await;
    server.faults().set_latency(Duration::from_millis(50));
    let begun = Instant::now();
    client.head("/data/k", &[]).await;
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let begun = Instant::now();
    client.get("/data/k", &[]).await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn bandwidth_paces_a_body() {
    let (server, client) = start().await;
    server.bucket("data").put("k", pattern(LEN), []);
    server.faults().set_bandwidth(Some(5_000_000));
    let begun = Instant::now();
    assert_eq!(client.get("/data/k", &[]).await.body, pattern(LEN));
    // 1 MB at 5 MB/s, less the last piece, which is not waited for.
    assert!(begun.elapsed() >= Duration::from_millis(180), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn cleared_faults_are_gone() {
    let (server, client) = start_faulty(Fault::InternalError).await;
    server.faults().clear();
    assert_eq!(client.get("/data/k", &[]).await.body, pattern(LEN));
}

#[tokio::test]
async fn writes_fail_as_s3_lets_them_fail() {
    let (server, client) = start().await;
    server.bucket("data").put("from", "x", []);
    for (fault, op, status, code) in [
        (Fault::Conflict, Op::PutObject, 409, "ConditionalRequestConflict"),
        (Fault::NotImplemented, Op::PutObject, 501, "NotImplemented"),
        (Fault::ErrorInBody, Op::CopyObject, 200, "InternalError"),
    ] {
        server.faults().add(Rule::new(fault).on(op).times(1));
        let copy: &[(&str, &str)] = if op == Op::CopyObject { &[("x-amz-copy-source", "/data/from")] } else { &[] };
        client.put("/data/k", copy, "").await.is_error(status, code);
        assert_eq!(server.bucket("data").keys(), ["from"], "not applied");
    }
}

#[tokio::test]
async fn a_completion_whose_reply_is_lost_is_applied() {
    let (server, client) = start().await;
    let id = client.post("/data/k?uploads", &[], "").await.element("UploadId").to_owned();
    let part = client.put(&format!("/data/k?partNumber=1&uploadId={id}"), &[], "x").await;
    server.faults().add(Rule::new(Fault::ReplyLost).on(Op::CompleteUpload).times(1));
    let etag = part.header("etag");
    let xml =
        format!("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>");
    let target = format!("/data/k?uploadId={id}");
    client.try_send(Method::POST, &target, &[], xml.clone().into()).await.expect_err("no reply");
    assert_eq!(client.get("/data/k", &[]).await.body, "x");
    client.post(&target, &[], xml).await.is_error(404, "NoSuchUpload");
}
