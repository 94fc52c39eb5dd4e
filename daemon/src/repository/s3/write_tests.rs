//! Writes to a server in this process that fails as told, and to one that answers word for word.

use super::testing::{Canned, S3Subject, client};
use super::*;
use crate::clock::SystemClock;
use crate::repository::testing::put_request;
use crate::repository::write::{CompleteRequest, CopyRequest, CopySource, PartRequest};
use crate::repository::{ObjectHeaders, Repository, RepositoryConfig, Urgency, WriteToken};
use forebay_loopback_s3::{Fault, Op, Rule};
use std::sync::Arc;
use std::time::Duration;

fn repository(subject: &S3Subject) -> Repository {
    Repository::new(Arc::new(client(&subject.server, "lake", |_| {})), RepositoryConfig::default(), SystemClock::shared())
}

fn passing_faults() -> [Fault; 5] {
    [Fault::SlowDown { retry_after_s: None }, Fault::InternalError, Fault::Conflict, Fault::ResetBeforeReply, Fault::ReplyLost]
}

#[tokio::test]
async fn every_passing_fault_of_the_wire_is_outlasted_by_every_write() {
    for fault in passing_faults() {
        let subject = S3Subject::start(false).await;
        let repository = repository(&subject);
        let faults = subject.server.faults();
        for op in [Op::PutObject, Op::CopyObject, Op::DeleteObject, Op::CreateUpload, Op::UploadPart, Op::CompleteUpload] {
            faults.add(Rule::new(fault.clone()).on(op).times(2));
        }
        let token = WriteToken::random();
        let put = put_request("a", "content", Precondition::Absent);
        let a = repository.put(put, token, Urgency::Ahead).await.expect("outlasted");
        assert_eq!(repository.was_written("a", token, Urgency::Ahead).await.expect("asked"), Some(a.clone()), "{fault:?}");
        let source = CopySource { key: "a".into(), pin: a.clone() };
        let headers = Some(ObjectHeaders::default());
        let copy = CopyRequest { source, key: "b".into(), headers, precondition: Precondition::Absent };
        let b = repository.copy(copy, WriteToken::random(), Urgency::Ahead).await.expect("outlasted");
        let delete = DeleteRequest { key: "a".into(), pin: Some(a) };
        repository.delete(delete, Urgency::Ahead).await.expect("outlasted");
        let begin = BeginRequest { key: "b".into(), ..BeginRequest::default() };
        let upload = repository.begin_multipart(begin, token, Urgency::Ahead).await.expect("outlasted").upload;
        let part = PartRequest { upload: upload.clone(), number: 1, body: "in parts".into() };
        let parts = vec![repository.put_part(part, Urgency::Ahead).await.expect("outlasted")];
        let complete = CompleteRequest { upload, parts, precondition: Precondition::Is(b) };
        let done = repository.complete_multipart(complete, token, Urgency::Ahead).await.expect("outlasted");
        assert_eq!(subject.store.head("b").await.expect("there").pin, done, "{fault:?}");
        assert_eq!(subject.bucket.bytes("b").expect("there"), "in parts");
        assert_eq!(subject.bucket.keys(), ["b"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_storm_of_503_is_outlasted_by_many_writes() {
    let subject = S3Subject::start(false).await;
    subject.server.faults().seed(3);
    subject.server.faults().add(Rule::new(Fault::InternalError).share(0.2));
    subject.server.faults().add(Rule::new(Fault::SlowDown { retry_after_s: None }).share(0.01));
    subject.server.faults().add(Rule::new(Fault::ReplyLost).share(0.1));
    let repository = repository(&subject);
    let writes = (0..200).map(|number| {
        let request = put_request(&format!("k{number:03}"), "content", Precondition::Absent);
        repository.put(request, WriteToken::random(), Urgency::Ahead)
    });
    let pins = futures::future::try_join_all(writes).await.expect("all of them");
    assert_eq!((pins.len(), subject.bucket.keys().len()), (200, 200));
    assert!(repository.counters().retries > 20);
}

#[tokio::test]
async fn a_success_that_turns_out_an_error_is_one() {
    let subject = S3Subject::start(false).await;
    let repository = repository(&subject);
    let pin = subject.store.put(put_request("from", "content", Precondition::Any)).await.expect("written");
    let upload =
        subject.store.begin_multipart(BeginRequest { key: "parts".into(), ..BeginRequest::default() }).await.expect("begun");
    let source = CopySource { key: "from".into(), pin };
    let copy_part = CopyPartRequest { upload: upload.clone(), number: 1, source: source.clone(), range: 0..7 };
    let copy = CopyRequest { source, key: "to".into(), headers: None, precondition: Precondition::Any };
    let faults = subject.server.faults();
    faults.add(Rule::new(Fault::ErrorInBody).on(Op::UploadPart).times(2));
    faults.add(Rule::new(Fault::ErrorInBody).on(Op::CopyObject).times(2));
    faults.add(Rule::new(Fault::ErrorInBody).on(Op::CompleteUpload).times(2));
    assert!(matches!(subject.store.copy(copy.clone()).await, Err(StoreError::Transient { .. })));
    assert!(matches!(subject.store.copy_part(copy_part.clone()).await, Err(StoreError::Transient { .. })));
    repository.copy(copy, WriteToken::random(), Urgency::Ahead).await.expect("by another try");
    let parts = vec![repository.copy_part(copy_part, Urgency::Ahead).await.expect("by another try")];
    let complete = CompleteRequest { upload, parts, precondition: Precondition::Any };
    assert!(matches!(subject.store.complete_multipart(complete.clone()).await, Err(StoreError::Transient { .. })));
    assert_eq!(subject.bucket.keys(), ["from", "to"]);
    repository.complete_multipart(complete, WriteToken::random(), Urgency::Ahead).await.expect("by another try");
    assert_eq!(subject.bucket.bytes("parts").expect("there"), "content");
}

#[tokio::test]
async fn a_store_without_crc32c_gets_md5() {
    let subject = S3Subject::start(false).await;
    subject.server.faults().add(Rule::new(Fault::NotImplemented).on(Op::PutObject).times(1));
    subject.store.put(put_request("key", "content", Precondition::Any)).await.expect("with another checksum");
    assert_eq!(subject.server.requests().count(Op::PutObject), 2);
    let mut call = subject.store.call(Method::PUT, "/lake/key".into(), Subject::Object { key: "key" });
    (call.body, call.checked) = ("123456789".into(), call::Checked::Body);
    let request = subject.store.signed(&call).await.expect("formed");
    assert_eq!(request.headers().get("content-md5").map(|value| value.as_bytes()), Some(b"JfnnlDI7RTiF9RgfG2JNCw==".as_slice()));
    assert!(request.headers().get("x-amz-checksum-crc32c").is_none());
    // Uploads begun from now on know no CRC-32C either.
    let upload =
        subject.store.begin_multipart(BeginRequest { key: "parts".into(), ..BeginRequest::default() }).await.expect("begun");
    let part = PartRequest { upload: upload.clone(), number: 1, body: "x".into() };
    let parts = vec![subject.store.put_part(part).await.expect("kept")];
    assert_eq!(parts[0].crc32c, None);
    let complete = CompleteRequest { upload, parts, precondition: Precondition::Any };
    subject.store.complete_multipart(complete).await.expect("made");
}

#[tokio::test]
async fn a_store_without_preconditions_is_looked_at_first() {
    let subject = S3Subject::start(false).await;
    let faults = subject.server.faults();
    faults.add(Rule::new(Fault::NotImplemented).on(Op::PutObject).times(2));
    let repository = repository(&subject);
    repository.put(put_request("key", "1", Precondition::Absent), WriteToken::random(), Urgency::Ahead).await.expect("absent");
    assert_eq!(subject.server.requests().count(Op::HeadObject), 1);
    let again = repository.put(put_request("key", "2", Precondition::Absent), WriteToken::random(), Urgency::Ahead).await;
    assert!(matches!(again, Err(StoreError::Changed { .. })));
    assert_eq!((subject.server.requests().count(Op::PutObject), subject.bucket.bytes("key").expect("there")), (3, "1".into()));
}

#[tokio::test]
async fn writes_say_who_pays_and_who_encrypts() {
    let subject = S3Subject::start(false).await;
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7u8; 32]);
    let heads = |encryption: Encryption| async {
        let etag = "HTTP/1.1 200 X\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n";
        let copied = "<CopyObjectResult><ETag>e</ETag></CopyObjectResult>";
        let copied = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{copied}", copied.len());
        let server = Canned::start(&[etag, &copied, etag]).await;
        let store = server.client_with(|config| (config.encryption, config.requester_pays) = (encryption, true));
        store.put(put_request("a b", "x", Precondition::Absent)).await.expect("written");
        let source = CopySource { key: "a b/ü?".into(), pin: Pin { etag: "e".into(), version: Some("v+1".into()) } };
        let copy = CopyRequest { source, key: "k".into(), headers: None, precondition: Precondition::Any };
        store.copy(copy).await.expect("copied");
        let upload = Upload { key: "k".into(), id: "u".into() };
        store.put_part(PartRequest { upload, number: 1, body: "x".into() }).await.expect("kept");
        server.requests().iter().map(|head| head.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let kms = heads(Encryption::Store { algorithm: "aws:kms", key_id: Some("arn:key".into()) }).await;
    assert!(kms.iter().all(|head| head.contains("x-amz-request-payer: requester\r\n")), "{kms:?}");
    for head in &kms[..2] {
        assert!(head.contains("x-amz-server-side-encryption: aws:kms\r\n"), "{head}");
        assert!(head.contains("x-amz-server-side-encryption-aws-kms-key-id: arn:key\r\n"), "{head}");
    }
    assert!(!kms[2].contains("x-amz-server-side-encryption"), "{}", kms[2]);
    assert!(kms[0].starts_with("put /lake/a%20b http/1.1\r\n") && kms[0].contains("if-none-match: *\r\n"), "{}", kms[0]);
    assert!(kms[0].contains("x-amz-checksum-crc32c: ") && kms[0].contains("content-length: 1\r\n"), "{}", kms[0]);
    assert!(kms[1].contains("x-amz-copy-source: lake/a%20b/%c3%bc%3f?versionid=v%2b1\r\n"), "{}", kms[1]);
    assert!(kms[1].contains("x-amz-copy-source-if-match: \"e\"\r\n"), "{}", kms[1]);
    assert!(kms[2].starts_with("put /lake/k?partnumber=1&uploadid=u http/1.1\r\n"), "{}", kms[2]);
    let customer = heads(CustomerKey::from_base64(&key).map(Encryption::Customer).expect("32 bytes")).await;
    for head in &customer {
        assert!(head.contains("x-amz-server-side-encryption-customer-key-md5: "), "{head}");
    }
    assert!(customer[1].contains("x-amz-copy-source-server-side-encryption-customer-key-md5: "), "{}", customer[1]);
    drop(subject);
}

#[tokio::test]
async fn expired_keys_are_read_again_and_the_body_sent_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("credentials");
    let keys = |id: &str| format!("[p]\naws_access_key_id={id}\naws_secret_access_key=s\naws_session_token=t\n");
    std::fs::write(&path, keys("OLD")).expect("written");
    let file = ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), path.display().to_string());
    let environment = crate::repository::Environment::from_pairs([file]);
    let credentials = Credentials::resolve(&environment, Some("p"), "us-east-1").expect("resolves");
    std::fs::write(&path, keys("NEW")).expect("written");
    let document = "<Error><Code>ExpiredToken</Code><Message>no</Message></Error>";
    let refusal = format!("HTTP/1.1 400 X\r\nContent-Length: {}\r\n\r\n{document}", document.len());
    let server = Canned::start(&[&refusal, "HTTP/1.1 200 X\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n"]).await;
    let pin = server.client(credentials).put(put_request("key", "the body", Precondition::Any)).await.expect("repeated");
    assert_eq!(pin.etag, "\"e\"");
    let (requests, bodies) = (server.requests(), server.bodies());
    assert!(requests[0].contains("Credential=OLD/") && requests[1].contains("Credential=NEW/"), "{requests:?}");
    assert_eq!(bodies, ["the body", "the body"]);
}

#[tokio::test]
async fn answers_that_say_nothing_are_no_success() {
    for answer in [
        "HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 X\r\nContent-Length: 36\r\n\r\n<CopyObjectResult></CopyObjectResult",
        "HTTP/1.1 200 X\r\nContent-Length: 37\r\n\r\n<CopyObjectResult></CopyObjectResult>",
        "HTTP/1.1 200 X\r\nContent-Length: 90\r\n\r\n<CopyObjectResult>",
    ] {
        let server = Canned::start(&[answer, answer]).await;
        let store = server.client_with(|config| config.limits.silence = Duration::from_millis(100));
        let source = CopySource { key: "k".into(), pin: Pin { etag: "e".into(), version: None } };
        let copy = CopyRequest { source, key: "k".into(), headers: None, precondition: Precondition::Any };
        assert!(matches!(store.copy(copy).await, Err(StoreError::Transient { .. })), "{answer}");
    }
    let server = Canned::start(&["HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n"]).await;
    let put = server.client(Credentials::unsigned()).put(put_request("k", "x", Precondition::Any)).await;
    assert!(matches!(put, Err(StoreError::Transient { .. })), "no ETag");
}

#[tokio::test]
async fn a_store_that_takes_no_bytes_is_noticed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let config = S3Config {
        bucket: "lake".into(),
        region: "us-east-1".into(),
        address: Address::new(Some(&endpoint), "us-east-1", "lake", true).expect("good"),
        credentials: Credentials::unsigned(),
        requester_pays: false,
        encryption: Encryption::AsBucket,
        limits: Limits { first_byte: Duration::from_millis(100), ..Limits::default() },
    };
    let store = S3Store::new(config, SystemClock::shared()).expect("no certificates needed");
    let body = vec![0; 64 << 20].into();
    let put =
        tokio::time::timeout(Duration::from_secs(10), store.put(PutRequest { body, ..put_request("k", "", Precondition::Any) }));
    let error = put.await.expect("noticed").expect_err("no answer");
    assert!(error.to_string().contains("no answer within"), "{error}");
}
