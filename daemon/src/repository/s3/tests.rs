use super::testing::{S3Subject, client};
use super::*;
use crate::clock::SystemClock;
use crate::repository::conformance::Subject as _;
use crate::repository::testing::{collect, get, get_range, list_request};
use crate::repository::{AccessError, Repository, RepositoryConfig, Urgency};
use base64::Engine as _;
use forebay_loopback_s3::{Fault, Op, Rule};
use object_store::aws::AwsCredential;
use std::sync::Arc;
use std::time::Duration;

const SIZE: usize = 400_000;

fn data() -> Vec<u8> {
    (0..SIZE as u32).map(|i| (i % 251) as u8).collect()
}

async fn subject() -> S3Subject {
    let subject = S3Subject::start(false).await;
    subject.put("key", &data());
    subject
}

fn repository(subject: &S3Subject) -> Repository {
    let store = client(&subject.server, "lake", |_| {});
    Repository::new(Arc::new(store), RepositoryConfig::default(), SystemClock::shared())
}

async fn read(store: &S3Store, request: GetRequest) -> Result<Vec<u8>, StoreError> {
    collect(store.get(request).await?.body).await
}

fn kind(error: &StoreError) -> String {
    format!("{error:?}").split([' ', '{']).next().expect("a name").to_owned()
}

#[tokio::test]
async fn every_fault_of_the_wire_is_an_error_never_content() {
    for (fault, want) in [
        (Fault::SlowDown { retry_after_s: Some(1) }, "SlowDown"),
        (Fault::InternalError, "Transient"),
        (Fault::AccessDenied, "AccessDenied"),
        (Fault::ResetBeforeReply, "Transient"),
        (Fault::ReplyLost, "Transient"),
        (Fault::ResetMidBody { after_bytes: 1000 }, "Transient"),
        (Fault::TruncateBody { after_bytes: 1000 }, "Transient"),
        (Fault::ResizeBody { by: 10 }, "Transient"),
        (Fault::ResizeBody { by: -10 }, "Transient"),
        (Fault::ShiftContentRange { by: 5 }, "Transient"),
        (Fault::Stall { after_bytes: 1000, pause: Duration::from_secs(5) }, "Transient"),
    ] {
        let subject = subject().await;
        subject.server.faults().add(Rule::new(fault.clone()).on(Op::GetObject));
        let error = read(&subject.store, get_range("key", 10..300_000)).await.expect_err("a fault");
        assert_eq!(kind(&error), want, "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn every_passing_fault_of_the_wire_is_outlasted() {
    for fault in [
        Fault::SlowDown { retry_after_s: None },
        Fault::InternalError,
        Fault::ResetBeforeReply,
        Fault::ReplyLost,
        Fault::ResetMidBody { after_bytes: 100_000 },
        Fault::TruncateBody { after_bytes: 100_000 },
        Fault::ResizeBody { by: 10 },
        Fault::ResizeBody { by: -10 },
        Fault::ShiftContentRange { by: -5 },
        Fault::Stall { after_bytes: 100_000, pause: Duration::from_secs(5) },
    ] {
        let subject = subject().await;
        subject.server.faults().add(Rule::new(fault.clone()).on(Op::GetObject).times(2));
        let response = repository(&subject).fetch(get_range("key", 10..390_000), Urgency::Demand).await.expect("outlasted");
        assert_eq!(collect(response.body).await.expect("outlasted"), data()[10..390_000], "{fault:?}");
    }
}

#[tokio::test]
async fn listings_and_heads_outlast_faults_too() {
    let subject = subject().await;
    for fault in [Fault::InternalError, Fault::ResetBeforeReply, Fault::TruncateBody { after_bytes: 100 }] {
        subject.server.faults().add(Rule::new(fault.clone()).on(Op::ListObjects).times(1));
    }
    subject.server.faults().add(Rule::new(Fault::InternalError).on(Op::HeadObject).times(2));
    let repository = repository(&subject);
    assert_eq!(repository.list(list_request("", true), Urgency::Demand).await.expect("listed").objects.len(), 1);
    assert_eq!(repository.head("key", Urgency::Demand).await.expect("there").size, SIZE as u64);
    assert_eq!(repository.counters().retries, 5);
}

#[tokio::test]
async fn user_metadata_comes_with_gets_and_heads() {
    let subject = subject().await;
    subject.bucket.put("meta", "x", [("file-owner", "7"), ("file-permissions", "0100644")]);
    let head = subject.store.head("meta").await.expect("there");
    assert_eq!(head.user_metadata.get("file-owner").map(String::as_str), Some("7"));
    assert_eq!(subject.store.get(get("meta")).await.expect("there").head, head);
}

#[tokio::test]
async fn wrong_keys_are_denied() {
    let subject = subject().await;
    let wrong = AwsCredential { key_id: "nobody".into(), secret_key: "x".into(), token: None };
    let store = client(&subject.server, "lake", |config| config.credentials = Credentials::fixed(wrong));
    assert!(matches!(store.list(list_request("", true)).await, Err(StoreError::AccessDenied { .. })));
    let unsigned = client(&subject.server, "lake", |config| config.credentials = Credentials::unsigned());
    assert!(matches!(unsigned.get(get("key")).await, Err(StoreError::AccessDenied { .. })));
}

fn access(store: S3Store) -> Repository {
    Repository::new(Arc::new(store), RepositoryConfig::default(), SystemClock::shared())
}

#[tokio::test]
async fn a_mount_is_told_what_is_wrong() {
    let subject = subject().await;
    assert_eq!(access(client(&subject.server, "lake", |_| {})).check_access("p/").await, Ok(()));
    let missing = access(client(&subject.server, "nolake", |_| {})).check_access("").await;
    assert_eq!(missing, Err(AccessError::NoSuchBucket("s3://nolake".into())));
    let denied = client(&subject.server, "lake", |config| config.credentials = Credentials::unsigned());
    assert!(matches!(access(denied).check_access("").await, Err(AccessError::Denied { .. })));
    // A port that was just free, and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let nobody = Address::new(Some(&format!("http://127.0.0.1:{port}")), "us-east-1", "lake", true).expect("good");
    let unreachable = access(client(&subject.server, "lake", |config| config.address = nobody)).check_access("").await;
    let words = unreachable.expect_err("nobody listens").to_string();
    assert!(words.contains("cannot reach http://127.0.0.1") && words.contains("refused"), "{words}");
}

#[tokio::test]
async fn a_page_has_a_thousand_keys_and_they_all_come() {
    let subject = S3Subject::start(false).await;
    subject.bucket.insert_synthetic(2500, |n| format!("d/{n:05}"), 10);
    let mut request = list_request("d/", true);
    let mut sizes = Vec::new();
    loop {
        let page = subject.store.list(request.clone()).await.expect("listed");
        sizes.push(page.objects.len());
        request.token = page.next;
        if request.token.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [1000, 1000, 500]);
}

#[tokio::test]
async fn requests_say_who_pays_and_which_key_encrypts() {
    let subject = subject().await;
    let key = base64::engine::general_purpose::STANDARD.encode([7u8; 32]);
    let store = client(&subject.server, "lake", |config| {
        config.requester_pays = true;
        config.encryption = CustomerKey::from_base64(&key).map(Encryption::Customer).expect("32 bytes");
    });
    let pin = Pin { etag: "abc".into(), version: Some("v 1".into()) };
    let request = store.signed(&store.read_call(Method::GET, "a//b", Some(&pin))).await.expect("formed");
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    assert_eq!(request.uri().path_and_query().map(|p| p.as_str()), Some("/lake/a//b?versionId=v%201"));
    assert_eq!(header("if-match"), "\"abc\"");
    assert_eq!(header("x-amz-request-payer"), "requester");
    assert_eq!(header("x-amz-server-side-encryption-customer-key"), key);
    assert_eq!(header("x-amz-server-side-encryption-customer-key-md5").len(), 24);
    let signed = header("authorization");
    assert!(signed.contains("x-amz-request-payer;x-amz-server-side-encryption-customer-algorithm"), "{signed}");
}

#[test]
fn only_whole_keys_encrypt() {
    for text in ["", "c2hvcnQ=", "not base64!"] {
        assert!(CustomerKey::from_base64(text).is_none(), "{text}");
    }
}
