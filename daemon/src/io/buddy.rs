//! Which parts of an arena are free: a buddy allocator over 4 KiB units that never touches the memory itself.
//!
//! Invariants:
//! 1. A unit is either part of exactly one free block or handed out.
//! 2. A free block of order `o` starts at a multiple of `2^o` units; no two free buddies of one order exist side by side
//!    (they have been merged), so any class can be served again once its neighbours come back.
//! 3. A run hands out exactly the units asked for: the tail of the power of two it was cut from stays free.

/// The largest block: `2^MAX_ORDER` units (4 MiB).
pub(super) const MAX_ORDER: u32 = 10;
const NONE: u32 = u32::MAX;
const NOT_FREE: u8 = u8::MAX;

/// The free units of an arena.
pub(super) struct Buddy {
    units: u32,
    free_units: u32,
    heads: [u32; MAX_ORDER as usize + 1],
    next: Vec<u32>,
    prev: Vec<u32>,
    /// The order of the free block that starts at a unit, or [`NOT_FREE`].
    order_at: Vec<u8>,
}

impl Buddy {
    /// All of `units` free.
    pub(super) fn new(units: u32) -> Self {
        let n = units as usize;
        let mut buddy = Buddy {
            units,
            free_units: 0,
            heads: [NONE; MAX_ORDER as usize + 1],
            next: vec![NONE; n],
            prev: vec![NONE; n],
            order_at: vec![NOT_FREE; n],
        };
        buddy.release(0, units);
        buddy
    }

    /// How many units are free.
    #[cfg(test)]
    pub(super) fn free_units(&self) -> u32 {
        self.free_units
    }

    /// A run of `units` (at least 1, at most `2^MAX_ORDER`), or `None` when no block is large enough.
    pub(super) fn take(&mut self, units: u32) -> Option<u32> {
        let wanted = units.next_power_of_two().trailing_zeros();
        let order = (wanted..=MAX_ORDER).find(|&order| self.heads[order as usize] != NONE)?;
        let start = self.heads[order as usize];
        self.unlink(start, order);
        let tail = (1 << order) - units;
        if tail > 0 {
            self.release(start + units, tail);
        }
        Some(start)
    }

    /// Gives a run back, whole or in parts.
    pub(super) fn release(&mut self, mut start: u32, mut units: u32) {
        while units > 0 {
            let aligned = if start == 0 { MAX_ORDER } else { start.trailing_zeros() };
            let order = aligned.min(units.ilog2()).min(MAX_ORDER);
            self.insert(start, order);
            start += 1 << order;
            units -= 1 << order;
        }
    }

    fn insert(&mut self, mut start: u32, mut order: u32) {
        while order < MAX_ORDER {
            let buddy = start ^ (1 << order);
            if buddy >= self.units || u32::from(self.order_at[buddy as usize]) != order {
                break;
            }
            self.unlink(buddy, order);
            start = start.min(buddy);
            order += 1;
        }
        self.link(start, order);
    }

    fn link(&mut self, start: u32, order: u32) {
        let head = std::mem::replace(&mut self.heads[order as usize], start);
        self.next[start as usize] = head;
        self.prev[start as usize] = NONE;
        if head != NONE {
            self.prev[head as usize] = start;
        }
        self.order_at[start as usize] = order as u8;
        self.free_units += 1 << order;
    }

    fn unlink(&mut self, start: u32, order: u32) {
        let (next, prev) = (self.next[start as usize], self.prev[start as usize]);
        match prev {
            NONE => self.heads[order as usize] = next,
            prev => self.next[prev as usize] = next,
        }
        if next != NONE {
            self.prev[next as usize] = prev;
        }
        self.order_at[start as usize] = NOT_FREE;
        self.free_units -= 1 << order;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Take(u32),
        Release(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![(1u32..=256).prop_map(Step::Take), (1u32..=4).prop_map(Step::Take), any::<usize>().prop_map(Step::Release)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn runs_never_overlap_and_all_come_back(units in 1u32..3000, steps in prop::collection::vec(step(), 1..200)) {
            let mut buddy = Buddy::new(units);
            let mut owned = vec![false; units as usize];
            let mut runs: Vec<(u32, u32)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(n) => if let Some(start) = buddy.take(n) {
                        for unit in start..start + n {
                            prop_assert!(!std::mem::replace(&mut owned[unit as usize], true), "unit {unit} was handed out twice");
                        }
                        runs.push((start, n));
                    },
                    Step::Release(which) => if !runs.is_empty() {
                        let (start, n) = runs.swap_remove(which % runs.len());
                        owned[start as usize..(start + n) as usize].fill(false);
                        buddy.release(start, n);
                    },
                }
                prop_assert_eq!(buddy.free_units() as usize, owned.iter().filter(|o| !**o).count());
            }
            for (start, n) in runs {
                buddy.release(start, n);
            }
            let whole = 1u32 << units.ilog2().min(MAX_ORDER);
            prop_assert!(buddy.take(whole).is_some(), "free neighbours were not merged");
        }
    }
}
