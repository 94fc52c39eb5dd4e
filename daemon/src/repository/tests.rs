//! [`Repository`] before a store that fails as told, on paused time.

use super::faulty::{Fault, FaultyStore, Op};
use super::memory::MemoryStore;
use super::pacing::PacingConfig;
use super::testing::{collect, get, get_range, list_request, tokio_clock};
use super::{GetRequest, Repository, RepositoryConfig, StoreError, Urgency};
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const SIZE: usize = 300_000;

struct Fixture {
    memory: Arc<MemoryStore>,
    faulty: Arc<FaultyStore>,
    repository: Repository,
}

fn data() -> Vec<u8> {
    (0..SIZE as u32).map(|i| (i % 251) as u8).collect()
}

fn fixture() -> Fixture {
    fixture_with(RepositoryConfig::default())
}

fn fixture_with(config: RepositoryConfig) -> Fixture {
    let memory = Arc::new(MemoryStore::new());
    memory.put("key", data());
    let faulty = Arc::new(FaultyStore::new(memory.clone()));
    let repository = Repository::new(faulty.clone(), config, tokio_clock());
    Fixture { memory, faulty, repository }
}

impl Fixture {
    async fn read(&self, request: GetRequest) -> Result<Vec<u8>, StoreError> {
        collect(self.repository.fetch(request, Urgency::Demand).await?.body).await
    }
}

#[tokio::test(start_paused = true)]
async fn passing_faults_are_outlasted() {
    for fault in
        [Fault::Unavailable, Fault::SlowDown(None), Fault::Unreachable, Fault::ReplyLost, Fault::Timeout(Duration::from_secs(2))]
    {
        let fixture = fixture();
        for op in [Op::Get, Op::Head, Op::List] {
            fixture.faulty.next_of(op, fault.clone(), 3);
        }
        assert_eq!(fixture.read(get_range("key", 5..9)).await.expect("outlasted"), data()[5..9], "{fault:?}");
        assert_eq!(fixture.repository.head("key", Urgency::Demand).await.expect("outlasted").size, SIZE as u64);
        assert_eq!(fixture.repository.list(list_request("", true), Urgency::Ahead).await.expect("outlasted").objects.len(), 1);
        let counts = fixture.repository.counters();
        assert_eq!((counts.get, counts.head, counts.list, counts.retries, counts.bytes), (4, 4, 4, 9, 4), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_try_will_not_mend_is_told_at_once() {
    let fixture = fixture();
    fixture.faulty.next(Fault::Denied);
    assert!(matches!(fixture.read(get("key")).await, Err(StoreError::AccessDenied { .. })));
    assert!(matches!(fixture.read(get("other")).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(fixture.read(get_range("key", SIZE as u64..SIZE as u64 + 1)).await, Err(StoreError::Permanent { .. })));
    assert_eq!((fixture.repository.counters().get, fixture.repository.counters().retries), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_is_given_up_at_the_deadline() {
    let fixture = fixture();
    fixture.faulty.always(Some(Fault::Unavailable));
    let began = Instant::now();
    let error = fixture.read(get("key")).await.expect_err("down");
    assert!(matches!(&error, StoreError::Deadline { last, .. } if matches!(**last, StoreError::Transient { .. })), "{error}");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(50) && took <= Duration::from_secs(60), "{took:?}");
    assert_eq!(fixture.repository.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up_at_the_deadline() {
    let fixture = fixture();
    fixture.faulty.always(Some(Fault::Timeout(Duration::from_secs(3600))));
    let began = Instant::now();
    assert!(matches!(fixture.repository.head("key", Urgency::Demand).await, Err(StoreError::Deadline { .. })));
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn the_store_is_given_the_time_it_asks_for() {
    let fixture = fixture();
    fixture.faulty.next(Fault::SlowDown(Some(Duration::from_secs(7))));
    let began = Instant::now();
    fixture.read(get_range("key", 0..1)).await.expect("after a while");
    assert!(began.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_broken_body_goes_on_where_it_broke_pinned_to_its_version() {
    for fault in [
        Fault::Reset { after: 100_000 },
        Fault::Truncated { after: 100_000 },
        Fault::Stall { after: 100_000, for_time: Duration::from_secs(15) },
    ] {
        let fixture = fixture();
        fixture.faulty.next_of(Op::Get, fault.clone(), 2);
        assert_eq!(fixture.read(get_range("key", 10..290_000)).await.expect("resumed"), data()[10..290_000], "{fault:?}");
        let gets = fixture.faulty.gets();
        let ranges: Vec<_> = gets.iter().map(|get| get.range.clone().expect("a range")).collect();
        assert_eq!(ranges, [10..290_000, 100_010..290_000, 200_010..290_000], "{fault:?}");
        assert!(gets[0].pin.is_none());
        assert!(gets[1..].iter().all(|get| get.pin == fixture.memory.pin("key")));
        assert_eq!(fixture.repository.counters().bytes, 289_990);
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_object_is_resumed_too() {
    let fixture = fixture();
    fixture.faulty.next(Fault::Truncated { after: 0 });
    fixture.faulty.next(Fault::Overlong);
    assert_eq!(fixture.read(get("key")).await.expect("resumed"), data());
}

#[tokio::test(start_paused = true)]
async fn surplus_bytes_are_never_content() {
    let fixture = fixture();
    fixture.memory.put("small", "tiny");
    fixture.faulty.next(Fault::Overlong);
    assert_eq!(fixture.read(get("small")).await.expect("read"), b"tiny");
}

#[tokio::test(start_paused = true)]
async fn an_object_replaced_while_its_body_is_broken_is_never_mixed() {
    let fixture = fixture();
    fixture.faulty.next(Fault::Reset { after: 100_000 });
    let mut response = fixture.repository.fetch(get("key"), Urgency::Demand).await.expect("there");
    let first = response.body.try_next().await.expect("a piece").expect("a piece");
    fixture.memory.put("key", vec![7; SIZE]);
    let rest = collect(response.body).await;
    // The old version can still be had by its id; a store without versions would say that it changed.
    assert_eq!([first.to_vec(), rest.expect("the old version")].concat(), data());
}

#[tokio::test(start_paused = true)]
async fn an_object_replaced_in_a_store_without_versions_ends_the_body() {
    let inner = Arc::new(MemoryStore::without_versions());
    inner.put("key", data());
    let faulty = Arc::new(FaultyStore::new(inner.clone()));
    faulty.next(Fault::Reset { after: 100_000 });
    let repository = Repository::new(faulty, RepositoryConfig::default(), tokio_clock());
    let mut body = repository.fetch(get("key"), Urgency::Demand).await.expect("there").body;
    body.try_next().await.expect("a piece");
    inner.put("key", vec![7; SIZE]);
    assert!(matches!(collect(body).await, Err(StoreError::Changed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_makes_no_progress_is_given_up_at_the_deadline() {
    let fixture = fixture();
    let response = fixture.repository.fetch(get("key"), Urgency::Demand);
    fixture.faulty.always(Some(Fault::Truncated { after: 0 }));
    let body = response.await.expect("headers").body;
    let began = Instant::now();
    assert!(matches!(collect(body).await, Err(StoreError::Deadline { .. })));
    assert!(began.elapsed() <= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_that_makes_progress_is_not_given_up() {
    let fixture = fixture();
    fixture.faulty.always(Some(Fault::Stall { after: 20_000, for_time: Duration::from_secs(15) }));
    let began = Instant::now();
    assert_eq!(fixture.read(get("key")).await.expect("at last"), data());
    assert!(began.elapsed() > Duration::from_secs(120));
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_midway_gives_its_permit_back() {
    let fixture = fixture();
    let mut body = fixture.repository.fetch(get("key"), Urgency::Ahead).await.expect("there").body;
    body.next().await.expect("a piece").expect("a piece");
    assert_eq!(fixture.repository.in_flight(), 1);
    drop(body);
    assert_eq!(fixture.repository.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_read_to_its_end_gives_its_permit_back() {
    let fixture = fixture();
    let mut response = fixture.repository.fetch(get("key"), Urgency::Demand).await.expect("there");
    while response.body.next().await.is_some() {}
    assert_eq!(fixture.repository.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_than_allowed_are_under_way() {
    let pacing = PacingConfig { start: 4, least: 4, most: 4 };
    let fixture = fixture_with(RepositoryConfig { pacing, ..RepositoryConfig::default() });
    fixture.faulty.always(Some(Fault::Slow(Duration::from_secs(1))));
    let began = Instant::now();
    let reads = (0..20).map(|_| fixture.read(get_range("key", 0..10)));
    futures::future::try_join_all(reads).await.expect("all read");
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn waits_differ_by_seed() {
    let mut times = Vec::new();
    for seed in [1, 2] {
        let fixture = fixture_with(RepositoryConfig { seed, ..RepositoryConfig::default() });
        fixture.faulty.next_of(Op::Get, Fault::Unavailable, 6);
        let began = Instant::now();
        fixture.read(get("key")).await.expect("read");
        times.push(began.elapsed());
    }
    assert_ne!(times[0], times[1]);
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let after = 0u64..SIZE as u64 + 1000;
    prop_oneof![
        Just(Fault::Unavailable),
        Just(Fault::SlowDown(None)),
        Just(Fault::Timeout(Duration::from_secs(1))),
        Just(Fault::ReplyLost),
        Just(Fault::Overlong),
        after.clone().prop_map(|after| Fault::Reset { after }),
        after.clone().prop_map(|after| Fault::Truncated { after }),
        after.prop_map(|after| Fault::Stall { after, for_time: Duration::from_secs(1) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_goes_wrong_the_bytes_are_right(
        faults in proptest::collection::vec(any_fault(), 0..8),
        start in 0u64..SIZE as u64,
        length in 1u64..SIZE as u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let fixture = fixture();
            faults.iter().for_each(|fault| fixture.faulty.next(fault.clone()));
            let got = fixture.read(get_range("key", start..start + length)).await.expect("all of them pass");
            let end = (start + length).min(SIZE as u64);
            assert_eq!(got, data()[start as usize..end as usize]);
            assert_eq!(fixture.repository.in_flight(), 0);
        });
    }
}
