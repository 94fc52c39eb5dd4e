//! The SQS client against a small server that knows the protocol, in front of a queue in memory; and against answers that make no sense.

use super::conformance::Subject;
use super::memory::MemoryQueue;
use super::{EventQueue, QueueError, SqsConfig, SqsQueue};
use crate::clock::SystemClock;
use crate::repository::s3::testing::Canned;
use crate::repository::s3::{Address, Credentials};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use object_store::aws::AwsCredential;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A server with one queue, `/1/q`.
pub(super) struct Server;

impl Server {
    pub(super) async fn start() -> Subject {
        let behind = Arc::new(MemoryQueue::new("memory://behind"));
        let router = axum::Router::new().fallback(answer).with_state(behind.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Subject { queue: Arc::new(client(&endpoint, "/1/q")), behind }
    }
}

fn client(endpoint: &str, path: &str) -> SqsQueue {
    let key = AwsCredential { key_id: "AKID".into(), secret_key: "secret".into(), token: Some("token".into()) };
    let config = SqsConfig {
        url: format!("{endpoint}{path}"),
        region: "eu-west-1".into(),
        address: Address::new(Some(endpoint), "eu-west-1", "", true).expect("a good endpoint"),
        credentials: Credentials::fixed(key),
    };
    SqsQueue::new(config, SystemClock::shared()).expect("no certificates needed")
}

async fn answer(State(queue): State<Arc<MemoryQueue>>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let scope = "/eu-west-1/sqs/aws4_request,SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target,";
    let is_signed = header("authorization").contains(scope) && header("content-type") == "application/x-amz-json-1.0";
    let request: Value = serde_json::from_str(&body).expect("JSON");
    let is_ours = request["QueueUrl"].as_str().is_some_and(|url| url.ends_with("/1/q"));
    if !is_signed || !is_ours {
        let code = if is_signed { "com.amazonaws.sqs#QueueDoesNotExist" } else { "InvalidSignature" };
        return (http::StatusCode::BAD_REQUEST, json!({"__type": code, "message": "no"}).to_string()).into_response();
    }
    let seconds = |name: &str| Duration::from_secs(request[name].as_u64().expect("a number"));
    match header("x-amz-target").as_str() {
        "AmazonSQS.ReceiveMessage" => {
            let got = queue.receive(seconds("WaitTimeSeconds"), seconds("VisibilityTimeout")).await.expect("received");
            let message = |message: super::Message| {
                let sent = message.sent_ns.unwrap_or_default() / 1_000_000;
                json!({"MessageId": "m", "ReceiptHandle": message.receipt, "Body": message.body, "MD5OfBody": "x",
                    "Attributes": {"SentTimestamp": sent.to_string(), "ApproximateReceiveCount": message.received.to_string()}})
            };
            let messages: Vec<Value> = got.into_iter().map(message).collect();
            // As Amazon does: no messages, no list.
            if messages.is_empty() { "{}".to_owned() } else { json!({"Messages": messages}).to_string() }.into_response()
        }
        "AmazonSQS.DeleteMessageBatch" => {
            let entries = request["Entries"].as_array().expect("entries");
            let receipts: Vec<String> =
                entries.iter().map(|entry| entry["ReceiptHandle"].as_str().expect("text").to_owned()).collect();
            queue.delete(&receipts).await.expect("deleted");
            let done: Vec<Value> = entries.iter().map(|entry| json!({"Id": entry["Id"]})).collect();
            json!({"Successful": done}).to_string().into_response()
        }
        "AmazonSQS.GetQueueAttributes" => {
            let backlog = queue.backlog().await.expect("counted");
            json!({"Attributes": {"ApproximateNumberOfMessages": backlog.waiting.to_string(),
                "ApproximateNumberOfMessagesNotVisible": backlog.in_flight.to_string()}})
            .to_string()
            .into_response()
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_told() {
    let subject = Server::start().await;
    let (endpoint, _) = subject.queue.url().split_once("/1/").expect("its URL");
    let missing = client(endpoint, "/1/other");
    let error = missing.receive(Duration::ZERO, Duration::from_secs(1)).await.expect_err("none there");
    assert!(matches!(error, QueueError::NoSuchQueue { .. }), "{error}");
}

fn canned(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn refusals_and_nonsense_are_told_apart() {
    let answers = [
        canned("403 Forbidden", r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not you"}"#),
        canned("400 Bad Request", r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slower"}"#),
        canned("500 Internal Server Error", "<html>"),
        canned("200 OK", "no JSON"),
        canned("200 OK", r#"{"Attributes":{"ApproximateNumberOfMessages":"many"}}"#),
        canned("200 OK", r#"{"Failed":[{"Id":"0","Code":"ReceiptHandleIsInvalid","SenderFault":true}],"Successful":[]}"#),
    ];
    let server = Canned::start(&answers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let queue = client(&server.endpoint, "/1/q");
    let receive = || queue.receive(Duration::ZERO, Duration::from_secs(1));
    let denied = receive().await.expect_err("denied");
    assert!(matches!(&denied, QueueError::AccessDenied { message, .. } if message.contains("not you")), "{denied}");
    for words in ["RequestThrottled", "status 500", "makes no sense"] {
        let failed = receive().await.expect_err("failed");
        assert!(matches!(&failed, QueueError::Failed { message, .. } if message.contains(words)), "{failed}");
    }
    let odd = queue.backlog().await.expect_err("no number");
    assert!(odd.to_string().contains("is no number"), "{odd}");
    let kept = queue.delete(&["r".to_owned()]).await.expect_err("kept");
    assert!(kept.to_string().contains("ReceiptHandleIsInvalid"), "{kept}");
}
