//! Writes of a [`Repository`] before a store that fails as told, on paused time.

use super::faulty::{Fault, FaultyStore, Op};
use super::limits::{LimitError, MOST_METADATA};
use super::memory::MemoryStore;
use super::pacing::PacingConfig;
use super::testing::{put_request, tokio_clock};
use super::write::{
    BeginRequest, CompleteRequest, CopyPartRequest, CopyRequest, CopySource, DeleteRequest, Part, PartRequest, PutRequest,
    Upload, UploadsRequest,
};
use super::{ObjectHeaders, Pin, Precondition, Repository, RepositoryConfig, StoreError, Urgency, WriteToken};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

struct Fixture {
    memory: Arc<MemoryStore>,
    faulty: Arc<FaultyStore>,
    repository: Repository,
}

const TOKEN: fn() -> WriteToken = || WriteToken::from_bits(7);

fn fixture() -> Fixture {
    fixture_with(RepositoryConfig::default())
}

fn fixture_with(config: RepositoryConfig) -> Fixture {
    let memory = Arc::new(MemoryStore::new());
    let faulty = Arc::new(FaultyStore::new(memory.clone()));
    let repository = Repository::new(faulty.clone(), config, tokio_clock());
    Fixture { memory, faulty, repository }
}

impl Fixture {
    async fn put(&self, text: &'static str, precondition: Precondition) -> Result<Pin, StoreError> {
        self.repository.put(put_request("key", text, precondition), TOKEN(), Urgency::Ahead).await
    }

    async fn delete(&self, pin: Option<Pin>) -> Result<(), StoreError> {
        self.repository.delete(DeleteRequest { key: "key".into(), pin }, Urgency::Ahead).await
    }

    async fn begin(&self) -> (Upload, Part) {
        let request = BeginRequest { key: "key".into(), ..BeginRequest::default() };
        let upload = self.repository.begin_multipart(request, TOKEN(), Urgency::Ahead).await.expect("begun").upload;
        let request = PartRequest { upload: upload.clone(), number: 1, body: "in parts".into() };
        let part = self.repository.put_part(request, Urgency::Ahead).await.expect("kept");
        (upload, part)
    }

    async fn complete(&self, (upload, part): &(Upload, Part), precondition: Precondition) -> Result<Pin, StoreError> {
        let request = CompleteRequest { upload: upload.clone(), parts: vec![part.clone()], precondition };
        self.repository.complete_multipart(request, TOKEN(), Urgency::Ahead).await
    }

    async fn copy(&self, pin: &Pin, headers: Option<ObjectHeaders>, precondition: Precondition) -> Result<Pin, StoreError> {
        let source = CopySource { key: "from".into(), pin: pin.clone() };
        let request = CopyRequest { source, key: "key".into(), headers, precondition };
        self.repository.copy(request, TOKEN(), Urgency::Ahead).await
    }
}

fn passing_faults() -> [Fault; 5] {
    [Fault::Unavailable, Fault::SlowDown(None), Fault::Unreachable, Fault::ReplyLost, Fault::Timeout(Duration::from_secs(2))]
}

#[tokio::test(start_paused = true)]
async fn passing_faults_are_outlasted_by_every_write() {
    for fault in passing_faults() {
        let fixture = fixture();
        let from = fixture.memory.put("from", "copied");
        for op in [Op::Put, Op::Delete, Op::Copy, Op::Begin, Op::Part, Op::Complete, Op::Abort, Op::Uploads] {
            fixture.faulty.next_of(op, fault.clone(), 2);
        }
        let pin = fixture.put("put", Precondition::Absent).await.expect("outlasted");
        assert_eq!(fixture.memory.pin("key"), Some(pin.clone()), "{fault:?}");
        fixture.delete(Some(pin)).await.expect("outlasted");
        assert_eq!(fixture.memory.pin("key"), None, "{fault:?}");
        let pin = fixture.copy(&from, Some(ObjectHeaders::default()), Precondition::Absent).await.expect("outlasted");
        let upload = fixture.begin().await;
        let pin = fixture.complete(&upload, Precondition::Is(pin)).await.expect("outlasted");
        assert_eq!(fixture.memory.pin("key"), Some(pin), "{fault:?}");
        let upload = fixture.begin().await.0;
        fixture.repository.abort_multipart(&upload, Urgency::Ahead).await.expect("outlasted");
        let page = fixture.repository.list_multipart(UploadsRequest::default(), Urgency::Ahead).await.expect("outlasted");
        // A begin whose reply was lost leaves an upload that nobody knows.
        assert_eq!(page.uploads.is_empty(), fault != Fault::ReplyLost, "{fault:?}");
        let counts = fixture.repository.counters();
        assert!(counts.put >= 2 && counts.delete == 3 && counts.copy >= 2 && counts.retries >= 8, "{counts:?}");
        assert_eq!((counts.sent_bytes, fixture.repository.in_flight()), (3 + 8 + 8, 0), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_reply_was_lost_knows_its_own_work() {
    let fixture = fixture();
    fixture.faulty.next_of(Op::Put, Fault::ReplyLost, 1);
    let pin = fixture.put("1", Precondition::Absent).await.expect("it was ours");
    assert_eq!(fixture.memory.pin("key"), Some(pin.clone()));
    let counts = fixture.faulty.counts();
    assert_eq!((counts.write, counts.head), (2, 1), "one PUT, one refused, one look");

    fixture.faulty.next_of(Op::Put, Fault::ReplyLost, 1);
    let request = put_request("key", "2", Precondition::Is(pin));
    let second = fixture.repository.put(request, WriteToken::from_bits(8), Urgency::Ahead).await.expect("it was ours");
    assert_eq!(fixture.memory.pin("key"), Some(second.clone()));
    let token = |bits| fixture.repository.was_written("key", WriteToken::from_bits(bits), Urgency::Ahead);
    assert_eq!(token(8).await.expect("asked"), Some(second));
    assert_eq!(token(7).await.expect("asked"), None, "replaced by somebody, if only by us");
    let nothing = fixture.repository.was_written("other", TOKEN(), Urgency::Ahead).await;
    assert_eq!(nothing.expect("asked"), None);
}

#[tokio::test(start_paused = true)]
async fn completions_and_copies_know_their_own_work() {
    let fixture = fixture();
    let upload = fixture.begin().await;
    fixture.faulty.next_of(Op::Complete, Fault::ReplyLost, 1);
    let pin = fixture.complete(&upload, Precondition::Absent).await.expect("it was ours: the upload is gone");
    assert_eq!(fixture.memory.pin("key"), Some(pin.clone()));

    let from = fixture.memory.put("from", "copied");
    fixture.faulty.next_of(Op::Copy, Fault::ReplyLost, 1);
    let pin = fixture.copy(&from, Some(ObjectHeaders::default()), Precondition::Is(pin)).await.expect("it was ours");
    assert_eq!(fixture.memory.pin("key"), Some(pin.clone()));

    fixture.faulty.next_of(Op::Delete, Fault::ReplyLost, 1);
    fixture.delete(Some(pin)).await.expect("gone");
    assert_eq!(fixture.memory.pin("key"), None);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_write_is_never_taken_for_ours() {
    let fixture = fixture();
    let theirs = fixture.memory.put("key", "theirs");
    for lost in [false, true] {
        if lost {
            // The first try is answered by nobody; somebody else's version is what the second finds.
            fixture.faulty.next_of(Op::Put, Fault::Unavailable, 1);
        }
        assert!(matches!(fixture.put("ours", Precondition::Absent).await, Err(StoreError::Changed { .. })));
    }
    let stale = Pin { etag: "\"stale\"".into(), version: None };
    assert!(matches!(fixture.put("ours", Precondition::Is(stale.clone())).await, Err(StoreError::Changed { .. })));
    assert!(matches!(fixture.delete(Some(stale.clone())).await, Err(StoreError::Changed { .. })));
    let upload = fixture.begin().await;
    assert!(matches!(fixture.complete(&upload, Precondition::Absent).await, Err(StoreError::Changed { .. })));
    fixture.repository.abort_multipart(&upload.0, Urgency::Ahead).await.expect("dropped");
    assert!(matches!(fixture.complete(&upload, Precondition::Any).await, Err(StoreError::NoSuchUpload { .. })));
    let from = fixture.memory.put("from", "copied");
    assert!(matches!(fixture.copy(&stale, None, Precondition::Any).await, Err(StoreError::Changed { .. })));
    assert!(matches!(fixture.copy(&from, None, Precondition::Absent).await, Err(StoreError::Changed { .. })));
    assert_eq!(fixture.memory.pin("key"), Some(theirs));
    assert_eq!(fixture.repository.counters().retries, 1);
}

#[tokio::test(start_paused = true)]
async fn where_the_store_decides_nothing_we_look_first() {
    let fixture = fixture();
    fixture.faulty.ignore_preconditions();
    let first = fixture.put("1", Precondition::Absent).await.expect("absent");
    let other = WriteToken::from_bits(8);
    let again = |precondition| fixture.repository.put(put_request("key", "2", precondition), other, Urgency::Ahead);
    assert!(matches!(again(Precondition::Absent).await, Err(StoreError::Changed { .. })));
    let stale = Pin { etag: "\"stale\"".into(), version: None };
    assert!(matches!(again(Precondition::Is(stale.clone())).await, Err(StoreError::Changed { .. })));
    assert!(matches!(fixture.delete(Some(stale.clone())).await, Err(StoreError::Changed { .. })));
    assert_eq!(fixture.memory.pin("key"), Some(first.clone()));
    // Tried again after a lost reply it looks again, and finds its own work.
    fixture.faulty.next_of(Op::Put, Fault::ReplyLost, 1);
    let second = again(Precondition::Is(first)).await.expect("it was ours");
    assert_eq!(fixture.memory.pin("key"), Some(second.clone()));
    fixture.delete(Some(second)).await.expect("unchanged");
    let missing = fixture.put("3", Precondition::Is(stale)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_is_given_up_at_the_deadline() {
    for fault in [Fault::Unavailable, Fault::SlowDown(None), Fault::Timeout(Duration::from_secs(3600))] {
        let fixture = fixture();
        fixture.faulty.always(Some(fault.clone()));
        let began = Instant::now();
        let error = fixture.put("x", Precondition::Any).await.expect_err("down");
        assert!(matches!(error, StoreError::Deadline { .. }), "{error}");
        let took = began.elapsed();
        assert!(took > Duration::from_secs(45) && took <= Duration::from_secs(60), "{fault:?}: {took:?}");
        assert_eq!(fixture.repository.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_body_has_longer() {
    let fixture = fixture();
    fixture.faulty.always(Some(Fault::Timeout(Duration::from_secs(3600))));
    let began = Instant::now();
    let body = vec![0; 25 << 20].into();
    let request = PutRequest { body, ..put_request("key", "", Precondition::Any) };
    fixture.repository.put(request, TOKEN(), Urgency::Ahead).await.expect_err("down");
    assert_eq!(began.elapsed().as_secs(), 160);
}

#[tokio::test(start_paused = true)]
async fn what_another_try_will_not_mend_is_told_at_once() {
    let fixture = fixture();
    fixture.faulty.next_of(Op::Put, Fault::Denied, 1);
    assert!(matches!(fixture.put("x", Precondition::Any).await, Err(StoreError::AccessDenied { .. })));
    assert_eq!(fixture.repository.counters().put, 1);
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_writes_as_it_does_reads() {
    let fixture = fixture();
    let before = fixture.repository.concurrency();
    fixture.faulty.next_of(Op::Put, Fault::SlowDown(Some(Duration::from_secs(7))), 1);
    let began = Instant::now();
    fixture.put("x", Precondition::Any).await.expect("after a while");
    assert!(began.elapsed() >= Duration::from_secs(7));
    assert!(fixture.repository.concurrency() <= before / 2 + 1);
}

#[tokio::test(start_paused = true)]
async fn writes_count_as_requests_under_way() {
    let pacing = PacingConfig { start: 4, least: 4, most: 4 };
    let fixture = fixture_with(RepositoryConfig { pacing, ..RepositoryConfig::default() });
    fixture.faulty.always(Some(Fault::Slow(Duration::from_secs(1))));
    let began = Instant::now();
    let writes = (0..20).map(|number| {
        let request = put_request(&format!("key{number}"), "x", Precondition::Any);
        fixture.repository.put(request, WriteToken::random(), Urgency::Demand)
    });
    futures::future::try_join_all(writes).await.expect("all written");
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_no_store_can_hold_is_never_sent() {
    let fixture = fixture();
    let repository = &fixture.repository;
    let limit = |result: Result<Pin, StoreError>| match result {
        Err(StoreError::Limit(limit)) => limit,
        other => panic!("{other:?}"),
    };
    let put = |key: &str, headers| {
        let request = PutRequest { headers, ..put_request(key, "x", Precondition::Any) };
        repository.put(request, TOKEN(), Urgency::Ahead)
    };
    assert!(matches!(limit(put(&"k".repeat(1025), ObjectHeaders::default()).await), LimitError::Key { .. }));
    let headers = |name: &str, value: String| ObjectHeaders {
        user_metadata: [(name.to_owned(), value)].into(),
        ..ObjectHeaders::default()
    };
    assert!(matches!(limit(put("k", headers("x", "v".repeat(MOST_METADATA))).await), LimitError::Metadata { .. }));
    assert!(matches!(limit(put("k", headers("no name", String::new())).await), LimitError::MetadataName { .. }));
    let upload = Upload { key: "k".into(), id: "u".into() };
    for number in [0, 10_001] {
        let request = PartRequest { upload: upload.clone(), number, body: "x".into() };
        assert!(matches!(repository.put_part(request, Urgency::Ahead).await, Err(StoreError::Limit(LimitError::Parts))));
    }
    let source = CopySource { key: "k".into(), pin: Pin { etag: "e".into(), version: None } };
    let request = CopyPartRequest { upload: upload.clone(), number: 1, source, range: 0..(5 << 30) + 1 };
    assert!(matches!(repository.copy_part(request, Urgency::Ahead).await, Err(StoreError::Limit(LimitError::Single { .. }))));
    let request = CompleteRequest { upload, parts: vec![], precondition: Precondition::Any };
    assert!(matches!(limit(repository.complete_multipart(request, TOKEN(), Urgency::Ahead).await), LimitError::Parts));
    assert_eq!(fixture.faulty.counts().write, 0);
}
