//! The memory that fetches may hold: one budget for all handles, and the data in it that may be dropped early.

use super::file::CachedFile;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on bytes in flight and fetched ahead. Guesses must fit; a demanded block always gets its memory, so that a
/// full budget slows read-ahead and never blocks a reader.
pub struct MemoryBudget {
    full: usize,
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl MemoryBudget {
    pub(super) fn new(bytes: usize) -> Self {
        MemoryBudget { full: bytes, limit: AtomicUsize::new(bytes), used: AtomicUsize::new(0) }
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The bound now.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Lowers the bound to a share (in percent) of its full size, or restores it with 100.
    pub fn scale(&self, percent: usize) {
        self.limit.store(self.full / 100 * percent, Ordering::Relaxed);
    }

    /// Memory for a demanded block.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Reservation {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Reservation { budget: Arc::clone(self), bytes }
    }

    /// Memory for a guess, if it fits.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let limit = self.limit();
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Reservation { budget: Arc::clone(self), bytes })
    }
}

/// Bytes of the budget, given back when dropped.
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Reservation {
    /// Splits off the share of some blocks.
    pub(super) fn split(&mut self, bytes: usize) -> Reservation {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Reservation { budget: Arc::clone(&self.budget), bytes }
    }

    /// The budget it is part of.
    pub(super) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Blocks kept at most, however small: an entry pins its file's state, some hundred bytes.
const RETAINED_MAX: usize = 16 << 10;

/// Blocks fetched ahead that are on a device but not yet read: kept in memory while there is room, oldest out first.
#[derive(Default)]
pub(super) struct Retained {
    queue: Mutex<VecDeque<(Arc<CachedFile>, u64)>>,
}

impl Retained {
    /// Keeps a block until it is read or memory is needed. Entries whose block was read meanwhile leave from the front,
    /// so the queue stays about as short as what it keeps; a hard bound covers read-ahead that nobody came for.
    pub(super) fn keep(&self, file: Arc<CachedFile>, index: u64) {
        let mut queue = self.queue.lock();
        queue.push_back((file, index));
        while queue.len() > RETAINED_MAX || queue.front().is_some_and(|(file, index)| !file.holds(*index)) {
            if let Some((file, index)) = queue.pop_front() {
                file.drop_stored(index);
            }
        }
    }

    /// Drops the oldest blocks until the budget has `bytes` to spare. Returns whether it has.
    pub(super) fn make_room(&self, budget: &MemoryBudget, bytes: usize) -> bool {
        loop {
            if budget.used() + bytes <= budget.limit() {
                return true;
            }
            let Some((file, index)) = self.queue.lock().pop_front() else { return false };
            file.drop_stored(index);
        }
    }

    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.queue.lock());
        for (file, index) in all {
            file.drop_stored(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_must_fit_and_demand_always_does() {
        let budget = Arc::new(MemoryBudget::new(100));
        let mut held = budget.try_take(80).expect("fits");
        assert!(budget.try_take(30).is_none());
        let demanded = budget.take(50);
        assert_eq!(budget.used(), 130);
        drop(held.split(30));
        assert_eq!(budget.used(), 100);
        drop((held, demanded));
        assert_eq!(budget.used(), 0);
    }
}
