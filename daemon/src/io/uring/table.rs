//! Every request a ring answers for: those the kernel has, by slot, and those that wait for a slot.
//!
//! Invariants:
//! 1. A slot's number is the `user_data` of its entry; it is freed only by the kernel's completion of that entry.
//! 2. At most `slots` requests are with the kernel, so the completion queue (twice as large) cannot overflow.
//! 3. A request is in exactly one place: a slot, the backlog, or (a slot as well) the list of those to be retried.

use super::flight::Flight;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests by slot, and the surplus.
pub(super) struct Table {
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
    backlog: VecDeque<Flight>,
}

impl Table {
    pub(super) fn new(slots: u32) -> Self {
        Table { slots: (0..slots).map(|_| None).collect(), free: (0..slots).rev().collect(), backlog: VecDeque::new() }
    }

    /// Takes a request in, behind those already waiting.
    pub(super) fn queue(&mut self, flight: Flight) {
        self.backlog.push_back(flight);
    }

    /// Moves the next waiting request to a slot, if both exist.
    pub(super) fn start_next(&mut self) -> Option<u32> {
        let slot = *self.free.last()?;
        let flight = self.backlog.pop_front()?;
        self.free.pop();
        self.slots[slot as usize] = Some(flight);
        Some(slot)
    }

    /// Whether a request waits and a slot is free.
    pub(super) fn can_start(&self) -> bool {
        !self.free.is_empty() && !self.backlog.is_empty()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Flight> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Frees a slot: the kernel is done with it.
    pub(super) fn retire(&mut self, slot: u32) -> Option<Flight> {
        let flight = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some(flight)
    }

    /// Requests the kernel has.
    pub(super) fn with_kernel(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.with_kernel() == 0 && self.backlog.is_empty()
    }

    /// Whether a caller still waits for an answer.
    pub(super) fn is_awaited(&self) -> bool {
        !self.backlog.is_empty() || self.slots.iter().flatten().any(|flight| flight.done.is_some())
    }

    /// Slots whose caller still waits, but no longer should.
    pub(super) fn overdue(&mut self, now: Instant, deadline: Duration) -> impl Iterator<Item = &mut Flight> {
        self.slots.iter_mut().flatten().filter(move |flight| flight.done.is_some() && flight.overdue(now, deadline))
    }

    /// The next request that waited for a slot beyond its deadline.
    pub(super) fn pop_overdue(&mut self, now: Instant, deadline: Duration) -> Option<Flight> {
        if self.backlog.front()?.overdue(now, deadline) { self.backlog.pop_front() } else { None }
    }

    /// Gives up the memory of what the kernel never answered: it may yet write there.
    pub(super) fn leak(&mut self) -> usize {
        let stuck = self.slots.iter_mut().filter_map(Option::take);
        stuck.map(std::mem::forget).count()
    }
}
