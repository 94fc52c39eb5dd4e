use super::*;
use crate::repository::testing::tokio_clock;
use futures::FutureExt;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;

fn limiter(start: u32) -> Limiter {
    Limiter::new(PacingConfig { start, ..PacingConfig::default() }, tokio_clock())
}

type Waiting = Pin<Box<dyn Future<Output = Permit> + Send>>;

/// Polls once, so that the waiter is in the queue.
fn queue(limiter: &Limiter, urgency: Urgency) -> Waiting {
    let limiter = limiter.clone();
    let mut waiting: Waiting = Box::pin(async move { limiter.acquire(urgency).await });
    assert!(waiting.as_mut().now_or_never().is_none(), "there was a permit");
    waiting
}

fn try_take(limiter: &Limiter, urgency: Urgency) -> Option<Permit> {
    let limiter = limiter.clone();
    let mut waiting: Waiting = Box::pin(async move { limiter.acquire(urgency).await });
    match waiting.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(permit) => Some(permit),
        std::task::Poll::Pending => None,
    }
}

fn take_all(limiter: &Limiter, urgency: Urgency) -> Vec<Permit> {
    std::iter::from_fn(|| try_take(limiter, urgency)).collect()
}

#[tokio::test(start_paused = true)]
async fn ahead_leaves_the_last_quarter_to_demand() {
    let limiter = limiter(32);
    let ahead = take_all(&limiter, Urgency::Ahead);
    assert_eq!(ahead.len(), 24);
    let demand = take_all(&limiter, Urgency::Demand);
    assert_eq!(demand.len(), 8);
    limiter.check();
}

#[tokio::test(start_paused = true)]
async fn demand_goes_before_ahead_that_came_first() {
    let limiter = limiter(4);
    let mut held = take_all(&limiter, Urgency::Demand);
    let ahead = queue(&limiter, Urgency::Ahead);
    let demand = queue(&limiter, Urgency::Demand);
    held.truncate(2);
    assert!(demand.now_or_never().is_some());
    assert!(ahead.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn ahead_gets_a_turn_under_endless_demand() {
    let limiter = limiter(4);
    let mut held: VecDeque<Permit> = take_all(&limiter, Urgency::Demand).into();
    let mut ahead = queue(&limiter, Urgency::Ahead);
    let mut demand: VecDeque<Waiting> = (0..2 * AHEAD_TURN).map(|_| queue(&limiter, Urgency::Demand)).collect();
    for served in 0..=AHEAD_TURN {
        held.pop_front();
        if let Some(permit) = ahead.as_mut().now_or_never() {
            assert_eq!(served, AHEAD_TURN, "not before its turn");
            drop(permit);
            return;
        }
        held.push_back(demand.pop_front().expect("more").now_or_never().expect("a permit was free"));
    }
    panic!("ahead starved");
}

#[tokio::test(start_paused = true)]
async fn waiters_of_one_urgency_are_served_in_order() {
    let limiter = limiter(4);
    let mut held = take_all(&limiter, Urgency::Demand);
    let first = queue(&limiter, Urgency::Demand);
    let second = queue(&limiter, Urgency::Demand);
    held.pop();
    assert!(second.now_or_never().is_none());
    assert!(first.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gave_up_costs_no_permit() {
    let limiter = limiter(4);
    let mut held = take_all(&limiter, Urgency::Demand);
    drop(queue(&limiter, Urgency::Demand));
    let next = queue(&limiter, Urgency::Demand);
    held.pop();
    assert!(next.now_or_never().is_some());
    drop(held);
    assert_eq!(limiter.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_granted_permit_that_nobody_took_comes_back() {
    let limiter = limiter(4);
    let mut held = take_all(&limiter, Urgency::Demand);
    let waiting = queue(&limiter, Urgency::Demand);
    held.pop();
    assert_eq!(limiter.in_use(), 4);
    drop(waiting);
    assert_eq!(limiter.in_use(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_limit_doubles_then_halves_then_creeps() {
    let limiter = limiter(8);
    for _ in 0..2 {
        let held = take_all(&limiter, Urgency::Demand);
        held.iter().for_each(|_| limiter.answered(Some(Duration::from_millis(10))));
    }
    assert_eq!(limiter.limit(), 32);
    limiter.slow_down(None);
    assert_eq!(limiter.limit(), 16);
    limiter.slow_down(None);
    assert_eq!(limiter.limit(), 16, "one event");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let held = take_all(&limiter, Urgency::Demand);
    held.iter().for_each(|_| limiter.answered(Some(Duration::from_millis(10))));
    assert_eq!(limiter.limit(), 16);
    limiter.answered(Some(Duration::from_millis(10)));
    limiter.answered(Some(Duration::from_millis(10)));
    assert_eq!(limiter.limit(), 17);
}

#[tokio::test(start_paused = true)]
async fn the_limit_stays_while_answers_get_slower() {
    let limiter = limiter(8);
    let held = take_all(&limiter, Urgency::Demand);
    limiter.answered(Some(Duration::from_millis(10)));
    let before = limiter.limit();
    for _ in 0..100 {
        limiter.answered(Some(Duration::from_millis(500)));
    }
    assert!(limiter.limit() <= before + 8, "{} after {before}", limiter.limit());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn an_idle_limit_does_not_grow() {
    let limiter = limiter(64);
    let _one = try_take(&limiter, Urgency::Demand).expect("free");
    for _ in 0..100 {
        limiter.answered(Some(Duration::from_millis(1)));
    }
    assert_eq!(limiter.limit(), 64);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_during_a_pause_and_all_is_after_it() {
    let limiter = limiter(8);
    limiter.slow_down(Some(Duration::from_secs(3)));
    let began = tokio::time::Instant::now();
    let waiting = queue(&limiter, Urgency::Demand);
    waiting.await;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_secs(4), "{waited:?}");
    let burst: Vec<Waiting> = (0..4).map(|_| queue_any(&limiter)).collect();
    futures::future::join_all(burst).await;
}

fn queue_any(limiter: &Limiter) -> Waiting {
    let limiter = limiter.clone();
    Box::pin(async move { limiter.acquire(Urgency::Demand).await })
}

#[tokio::test(start_paused = true)]
async fn after_a_slow_down_requests_go_at_half_the_rate_that_was_too_much() {
    let limiter = limiter(64);
    for _ in 0..400 {
        drop(limiter.acquire(Urgency::Demand).await);
    }
    limiter.slow_down(None);
    let began = tokio::time::Instant::now();
    for _ in 0..200 {
        drop(limiter.acquire(Urgency::Demand).await);
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn permits_may_be_dropped_outside_the_runtime() {
    let limiter = limiter(4);
    let mut held = take_all(&limiter, Urgency::Demand);
    let waiting = queue(&limiter, Urgency::Demand);
    let one = held.pop().expect("held");
    std::thread::spawn(move || drop(one)).join().expect("no panic");
    assert!(waiting.now_or_never().is_some());
}
