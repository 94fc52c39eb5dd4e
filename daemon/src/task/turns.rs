//! Turns: who may do the next unit of work.
//!
//! Invariants:
//! 1. At most so many turns are out as there are.
//! 2. Nobody waits while a turn is free.
//! 3. A free turn goes to a task that has the fewest; of several to the one whose last turn is longest ago.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

/// One task's part.
#[derive(Default)]
struct Share {
    out: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// When it was last served, counted in grants.
    served: u64,
}

struct State {
    free: usize,
    grants: u64,
    shares: BTreeMap<u64, Share>,
}

/// The turns of all tasks. Clones share them.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

/// Leave to do one unit of work; it ends when this is dropped.
pub struct Turn {
    turns: Turns,
    task: u64,
}

impl Turns {
    /// So many at once.
    pub(super) fn new(count: usize) -> Self {
        Turns(Arc::new(Mutex::new(State { free: count, grants: 0, shares: BTreeMap::new() })))
    }

    /// Waits for a turn of a task.
    pub(super) async fn acquire(&self, task: u64) -> Turn {
        let (sender, granted) = oneshot::channel();
        self.0.lock().shares.entry(task).or_default().waiting.push_back(sender);
        self.dispatch();
        granted.await.expect("a waiter is granted a turn or stays in the queue")
    }

    /// Grants what is free. A grant that nobody takes any more comes back through [`Turn::drop`], so not with the lock held.
    fn dispatch(&self) {
        while let Some((task, waiter)) = self.next() {
            drop(waiter.send(Turn { turns: self.clone(), task }));
        }
    }

    fn next(&self) -> Option<(u64, oneshot::Sender<Turn>)> {
        let mut state = self.0.lock();
        for share in state.shares.values_mut() {
            while share.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                share.waiting.pop_front();
            }
        }
        state.shares.retain(|_, share| share.out > 0 || !share.waiting.is_empty());
        if state.free == 0 {
            return None;
        }
        let waiting = state.shares.iter().filter(|(_, share)| !share.waiting.is_empty());
        let task = *waiting.min_by_key(|(_, share)| (share.out, share.served))?.0;
        (state.free, state.grants) = (state.free - 1, state.grants + 1);
        let grants = state.grants;
        let share = state.shares.get_mut(&task)?;
        (share.out, share.served) = (share.out + 1, grants);
        Some((task, share.waiting.pop_front()?))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.turns.0.lock();
            state.free += 1;
            if let Some(share) = state.shares.get_mut(&self.task) {
                share.out -= 1;
            }
        }
        self.turns.dispatch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_free_turn_goes_to_whoever_has_the_fewest() {
        let turns = Turns::new(2);
        let mut huge: Vec<_> = (0..10).map(|_| Box::pin(turns.acquire(1))).collect();
        let first: Vec<_> = huge.iter_mut().filter_map(|turn| turn.now_or_never()).collect();
        assert_eq!(first.len(), 2);
        let mut small = Box::pin(turns.acquire(2));
        assert!((&mut small).now_or_never().is_none());
        drop(first.into_iter().next());
        let turn = small.now_or_never().expect("before the eight that came earlier");
        assert_eq!(turn.task, 2);
    }

    #[tokio::test]
    async fn tasks_with_equally_many_take_turns() {
        let turns = Turns::new(1);
        let held = turns.acquire(0).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiters = (0..9).map(|i| {
            let (turns, order) = (turns.clone(), order.clone());
            async move {
                // Task 1 asks for seven before the others ask for one.
                let task = if i < 7 { 1 } else { i };
                let _turn = turns.acquire(task).await;
                order.lock().push(task);
            }
        });
        let all = tokio::spawn(futures::future::join_all(waiters.collect::<Vec<_>>()));
        tokio::task::yield_now().await;
        drop(held);
        all.await.unwrap();
        let place = |task| order.lock().iter().position(|done| *done == task).unwrap();
        assert!(place(7) <= 2 && place(8) <= 2, "{:?}", order.lock());
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_its_turn_to_others() {
        let turns = Turns::new(1);
        let held = turns.acquire(1).await;
        let mut gone = Box::pin(turns.acquire(2));
        assert!((&mut gone).now_or_never().is_none());
        let mut stays = Box::pin(turns.acquire(3));
        assert!((&mut stays).now_or_never().is_none());
        drop((gone, held));
        let turn = stays.now_or_never().expect("granted");
        drop(turn);
        let state = turns.0.lock();
        assert_eq!((state.free, state.shares.len()), (1, 0));
    }
}
