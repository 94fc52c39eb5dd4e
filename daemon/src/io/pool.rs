//! The memory behind [`IoBuf`](super::IoBuf)s: an arena with a free list per size class, and the heap when it is used up.
//!
//! Invariants:
//! 1. Every [`Block`] covers memory no other block covers, for as long as it lives; dropping it gives the memory back.
//! 2. All memory is initialised before it is first handed out (zero pages, zeroed heap).
//! 3. Free lists hold only what merging would slow down; they are emptied into the buddy allocator before the heap is asked,
//!    so that no class starves because another one once had all.

use super::arena::Arena;
use super::buddy::{Buddy, MAX_ORDER};
use crate::units::SECTOR;
use parking_lot::Mutex;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes one free list may keep from being merged.
const LIST_BYTES: usize = 2 << 20;

/// The largest registered buffer the kernel takes; a larger arena is registered in several.
pub(super) const REGION_BYTES: usize = 1 << 30;

/// Figures of a pool, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Size of the arena.
    pub arena_bytes: u64,
    /// Of the arena, handed out.
    pub arena_in_use_bytes: u64,
    /// Taken from the heap because the arena had no room, and not yet given back.
    pub heap_in_use_bytes: u64,
    /// Buffers that came from the heap, since start.
    pub heap_allocations: u64,
}

/// What all clones of a pool share.
pub(super) struct Shared {
    arena: Option<Arena>,
    buddy: Mutex<Buddy>,
    /// Free runs of exactly `2^order` units, most recently used last.
    lists: [Mutex<Vec<u32>>; MAX_ORDER as usize + 1],
    arena_in_use: AtomicU64,
    heap_in_use: AtomicU64,
    heap_allocations: AtomicU64,
}

impl Shared {
    pub(super) fn new(arena_bytes: usize) -> Self {
        let units = (arena_bytes / SECTOR).min(u32::MAX as usize / 2) as u32;
        let arena = (units > 0).then(|| Arena::map(units as usize * SECTOR)).and_then(|mapped| {
            mapped.inspect_err(|error| tracing::warn!(%error, arena_bytes, "no memory for the buffer arena: using the heap")).ok()
        });
        let units = arena.as_ref().map_or(0, |arena| (arena.len() / SECTOR) as u32);
        Shared {
            arena,
            buddy: Mutex::new(Buddy::new(units)),
            lists: Default::default(),
            arena_in_use: AtomicU64::new(0),
            heap_in_use: AtomicU64::new(0),
            heap_allocations: AtomicU64::new(0),
        }
    }

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            arena_bytes: self.arena.as_ref().map_or(0, |arena| arena.len() as u64),
            arena_in_use_bytes: self.arena_in_use.load(Relaxed),
            heap_in_use_bytes: self.heap_in_use.load(Relaxed),
            heap_allocations: self.heap_allocations.load(Relaxed),
        }
    }

    /// The arena's address range.
    pub(super) fn arena_range(&self) -> Option<(NonNull<u8>, usize)> {
        self.arena.as_ref().map(|arena| (arena.start(), arena.len()))
    }

    /// Memory of `units` sectors (at least 1).
    pub(super) fn take(self: &Arc<Self>, units: u32) -> Block {
        match self.take_units(units) {
            Some(unit) => {
                self.arena_in_use.fetch_add(u64::from(units) * SECTOR as u64, Relaxed);
                let arena = self.arena.as_ref().expect("units come from the arena");
                // SAFETY: the buddy allocator hands out units below the arena's size only.
                let start = unsafe { arena.start().add(unit as usize * SECTOR) };
                Block { start, units, unit: Some(unit), pool: self.clone() }
            }
            None => self.take_heap(units),
        }
    }

    fn take_units(&self, units: u32) -> Option<u32> {
        if units > 1 << MAX_ORDER || self.arena.is_none() {
            return None;
        }
        if units.is_power_of_two()
            && let Some(unit) = self.lists[units.trailing_zeros() as usize].lock().pop()
        {
            return Some(unit);
        }
        let taken = self.buddy.lock().take(units);
        taken.or_else(|| {
            self.merge_lists();
            self.buddy.lock().take(units)
        })
    }

    fn give_units(&self, unit: u32, units: u32) {
        if units.is_power_of_two() {
            let mut list = self.lists[units.trailing_zeros() as usize].lock();
            if list.len() * units as usize * SECTOR < LIST_BYTES {
                list.push(unit);
                return;
            }
        }
        self.buddy.lock().release(unit, units);
    }

    /// Empties the free lists into the buddy allocator, which can cut the memory anew.
    fn merge_lists(&self) {
        for (order, list) in self.lists.iter().enumerate() {
            let units = std::mem::take(&mut *list.lock());
            let mut buddy = self.buddy.lock();
            units.into_iter().for_each(|unit| buddy.release(unit, 1 << order));
        }
    }

    fn take_heap(self: &Arc<Self>, units: u32) -> Block {
        let layout = heap_layout(units);
        // SAFETY: a block has at least one unit, so the layout is not of size zero.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        let start = NonNull::new(memory).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        self.heap_in_use.fetch_add(layout.size() as u64, Relaxed);
        self.heap_allocations.fetch_add(1, Relaxed);
        Block { start, units, unit: None, pool: self.clone() }
    }
}

fn heap_layout(units: u32) -> Layout {
    Layout::from_size_align(units as usize * SECTOR, SECTOR).expect("a buffer is far smaller than the address space")
}

/// Memory that goes back to its pool when dropped.
pub(super) struct Block {
    pub(super) start: NonNull<u8>,
    units: u32,
    /// Where in the arena; `None` if from the heap.
    unit: Option<u32>,
    pool: Arc<Shared>,
}

// SAFETY: a block owns its memory alone (invariant 1), and hands out only its address.
unsafe impl Send for Block {}
// SAFETY: as above; no method of a shared block touches the memory.
unsafe impl Sync for Block {}

impl Block {
    /// Which registered region of the arena it lies in; blocks are at most 4 MiB and aligned, so they never span two.
    pub(super) fn region(&self) -> Option<u16> {
        self.unit.map(|unit| (unit as usize * SECTOR / REGION_BYTES) as u16)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        match self.unit {
            Some(unit) => {
                self.pool.arena_in_use.fetch_sub(u64::from(self.units) * SECTOR as u64, Relaxed);
                self.pool.give_units(unit, self.units);
            }
            None => {
                let layout = heap_layout(self.units);
                self.pool.heap_in_use.fetch_sub(layout.size() as u64, Relaxed);
                // SAFETY: allocated by `take_heap` with this layout, freed once.
                unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
            }
        }
    }
}
