//! Answers that a good server would not give, word for word.

use super::testing::Canned;
use super::*;
use crate::repository::testing::{collect, get, get_range, list_request};

const DATE: &str = "Last-Modified: Mon, 12 Oct 2009 17:50:30 GMT\r\n";

fn part(range: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 206 Partial\r\nETag: \"e\"\r\n{DATE}Content-Range: bytes {range}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn refusal(status: u16, headers: &str, code: &str) -> String {
    let document = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{document}", document.len())
}

async fn get_once(answer: &str, request: GetRequest) -> Result<Vec<u8>, StoreError> {
    let server = Canned::start(&[answer]).await;
    let response = server.client(Credentials::unsigned()).get(request).await?;
    collect(response.body).await
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let answers: Vec<String> = (0..20).map(|_| part("0-3/10", "abcd")).collect();
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let server = Canned::start(&answers).await;
    let store = server.client(Credentials::unsigned());
    for _ in 0..20 {
        let response = store.get(get_range("key", 0..4)).await.expect("answered");
        assert_eq!(collect(response.body).await.expect("read"), b"abcd");
    }
    assert_eq!(server.requests().len(), 20);
    assert_eq!(server.connections(), 1, "it is given back with the last byte");
}

/// Two GETs of "abcd" in a row, from a server with these answers; the connections it took.
async fn two_gets(answers: &[&str]) -> Result<usize, StoreError> {
    let server = Canned::start(answers).await;
    let store = server.client(Credentials::unsigned());
    for _ in 0..2 {
        let response = store.get(get_range("key", 0..4)).await?;
        assert_eq!(collect(response.body).await?, b"abcd");
    }
    assert_eq!(server.requests().len(), answers.len(), "every answer was asked for");
    Ok(server.connections())
}

#[tokio::test]
async fn a_connection_that_closed_while_it_idled_is_replaced_and_no_other() {
    let good = part("0-3/10", "abcd");
    assert_eq!(two_gets(&[&good, "", &good]).await.expect("asked again on a new one"), 2);
    assert!(matches!(two_gets(&["", &good]).await, Err(StoreError::Transient { .. })), "a new one that closes is an error");
    let broken = &good[..20];
    assert!(matches!(get_once(broken, get_range("key", 0..4)).await, Err(StoreError::Transient { .. })), "so is half a head");
}

#[tokio::test]
async fn a_connection_is_used_again_only_behind_exactly_one_answer() {
    let good = part("0-3/10", "abcd");
    let closing = good.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    assert_eq!(two_gets(&[&closing, &good]).await.expect("answered"), 2);
    let longer = format!("{good}HTTP/1.1 200 OK\r\n");
    assert_eq!(two_gets(&[&longer, &good]).await.expect("answered"), 2);
    let endless = good.replacen("Content-Length: 4\r\n", "", 1);
    let short = get_once(&endless[..endless.len() - 1], get_range("key", 0..4));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), short).await.is_err(), "it ends with the connection");
}

#[tokio::test]
async fn a_body_that_nobody_reads_to_its_end_takes_its_connection_along() {
    let good = part("0-3/10", "abcd");
    let server = Canned::start(&[&good, &good]).await;
    let store = server.client(Credentials::unsigned());
    drop(store.get(get_range("key", 0..4)).await.expect("answered"));
    let response = store.get(get_range("key", 0..4)).await.expect("answered");
    assert_eq!(collect(response.body).await.expect("read"), b"abcd");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_idled_long_is_not_used_again() {
    let good = part("0-3/10", "abcd");
    let server = Canned::start(&[&good, &good]).await;
    let store = server.client(Credentials::unsigned());
    collect(store.get(get_range("key", 0..4)).await.expect("answered").body).await.expect("read");
    tokio::time::pause();
    tokio::time::advance(super::wire::IDLE_TIME).await;
    tokio::time::resume();
    collect(store.get(get_range("key", 0..4)).await.expect("answered").body).await.expect("read");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn bytes_go_where_they_are_wanted_and_no_further() {
    let server = Canned::start(&[&part("0-9/10", "0123456789")]).await;
    let mut body = server.client(Credentials::unsigned()).get(get_range("key", 0..10)).await.expect("answered").body;
    let mut memory = [b'-'; 6];
    let mut into = tokio::io::ReadBuf::new(&mut memory);
    into.put_slice(b"ab");
    while into.remaining() > 0 {
        crate::repository::read_into(&mut body, &mut into).await.expect("read");
    }
    assert_eq!(into.filled(), b"ab0123");
    assert_eq!(collect(body).await.expect("the rest"), b"456789");
}

#[tokio::test]
async fn an_error_document_is_never_content() {
    let document = "<Error><Code>InternalError</Code></Error>";
    let as_whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{document}", document.len());
    assert!(get_once(&as_whole, get("key")).await.is_err());
    assert!(get_once(&as_whole, get_range("key", 0..document.len() as u64)).await.is_err());
    let as_part = format!("HTTP/1.1 206 X\r\nETag: \"e\"\r\n{DATE}Content-Length: {}\r\n\r\n{document}", document.len());
    assert!(get_once(&as_part, get_range("key", 0..document.len() as u64)).await.is_err());
}

#[tokio::test]
async fn a_chunked_body_is_held_to_its_range() {
    let chunked = |body: &str| {
        let head =
            format!("HTTP/1.1 206 X\r\nETag: \"e\"\r\n{DATE}Content-Range: bytes 0-3/10\r\nTransfer-Encoding: chunked\r\n\r\n");
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    assert_eq!(get_once(&chunked("abcd"), get_range("key", 0..4)).await.expect("exact"), b"abcd");
    for wrong in ["abc", "abcde"] {
        assert!(matches!(get_once(&chunked(wrong), get_range("key", 0..4)).await, Err(StoreError::Transient { .. })), "{wrong}");
    }
}

#[tokio::test]
async fn a_store_that_ignores_if_match_is_caught() {
    let pin = Some(Pin { etag: "\"other\"".into(), version: None });
    let request = GetRequest { pin, ..get_range("key", 0..4) };
    assert!(matches!(get_once(&part("0-3/10", "abcd"), request).await, Err(StoreError::Changed { .. })));
}

#[tokio::test]
async fn a_wrong_region_names_the_right_one() {
    let server = Canned::start(&[&refusal(301, "x-amz-bucket-region: eu-west-1\r\n", "PermanentRedirect")]).await;
    let error = server.client(Credentials::unsigned()).list(list_request("", true)).await.expect_err("redirected");
    assert!(error.to_string().contains("--region eu-west-1"), "{error}");
}

#[tokio::test]
async fn expired_keys_are_read_again_and_the_request_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("credentials");
    let keys = |id: &str| format!("[p]\naws_access_key_id={id}\naws_secret_access_key=s\naws_session_token=t\n");
    std::fs::write(&path, keys("OLD")).expect("written");
    let file = ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), path.display().to_string());
    let environment = crate::repository::Environment::from_pairs([file]);
    let credentials = Credentials::resolve(&environment, Some("p"), "us-east-1").expect("resolves");
    std::fs::write(&path, keys("NEW")).expect("written");
    let server = Canned::start(&[&refusal(400, "", "ExpiredToken"), &part("0-3/10", "abcd")]).await;
    let response = server.client(credentials).get(get_range("key", 0..4)).await.expect("repeated");
    assert_eq!(collect(response.body).await.expect("read"), b"abcd");
    let requests = server.requests();
    assert!(requests[0].contains("Credential=OLD/") && requests[1].contains("Credential=NEW/"), "{requests:?}");
    assert!(requests[0].to_ascii_lowercase().contains("x-amz-security-token: t"), "{requests:?}");
}

#[tokio::test]
async fn the_request_line_has_the_key_as_it_is() {
    let server = Canned::start(&[&part("0-3/10", "abcd")]).await;
    server.client(Credentials::unsigned()).get(get_range("/a//../b c/", 0..4)).await.expect("answered");
    let requests = server.requests();
    assert!(requests[0].starts_with("GET /lake//a//../b%20c/ HTTP/1.1\r\n"), "{requests:?}");
    assert!(!requests[0].to_ascii_lowercase().contains("authorization"), "{requests:?}");
}
