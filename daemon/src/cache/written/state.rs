//! What one file has dirty. Pure: no I/O, no threads.

use super::intent::{Logged, Unlogged};
use crate::meta::Reservation;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

/// A dirty block: its bytes up to the last one written; the rest of the block is zeros.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    data: Vec<u8>,
    /// What it counts for in the budget, in bytes.
    memory: usize,
}

/// A file as it was when a round began.
#[derive(Debug)]
pub struct Snapshot {
    /// Size in bytes.
    pub size: u64,
    /// Bytes that may come from the origin.
    pub base: u64,
    /// When it was last written, if since the last round.
    pub mtime_ns: Option<i64>,
    /// When it was last changed.
    pub ctime_ns: i64,
    /// Its dirty blocks, cut to the file's size.
    pub blocks: Vec<(u64, Bytes)>,
    /// Bytes of a block.
    pub block_size: u64,
    /// What quotas have reserved for it.
    pub reserved: Reservation,
    /// What of it is in the intent log.
    pub(super) log: Logged,
    times_set: u64,
    /// It was emptied before: nothing that is recorded of it is its content.
    pub anew: bool,
}

/// What the metadata says of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Size in bytes.
    pub size: u64,
    /// Bytes that have something in them.
    pub allocated: u64,
}

/// Which load of a block: what an earlier one brings is not the block as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load(u64);

/// The dirty state of a file.
#[derive(Debug, Default)]
pub struct State {
    /// Size in bytes.
    pub size: u64,
    /// Bytes below this come from the origin where the map names no block.
    pub base: u64,
    /// Set by a write, taken by a flush or by an explicit change of times.
    pub mtime_ns: Option<i64>,
    /// What a round took of it that is not recorded yet.
    flushing_mtime_ns: Option<i64>,
    /// The last change.
    pub ctime_ns: i64,
    /// How often times were set explicitly.
    times_set: u64,
    /// Whether size, base or times differ from the metadata's.
    pub changed: bool,
    /// Whether the flusher has the file on its list.
    pub queued: bool,
    /// What quotas have reserved for what is dirty.
    pub reservation: Reservation,
    /// What the next intent is to say.
    pub(super) unlogged: Unlogged,
    /// What the intent log has of it.
    pub(super) log: Logged,
    /// What is in the metadata.
    pub recorded: Recorded,
    /// It was emptied, and the metadata does not say so yet.
    pub anew: bool,
    slots: BTreeMap<u64, Slot>,
    /// Blocks of the round under way, with the memory they count for.
    flushing: BTreeMap<u64, (Bytes, usize)>,
    /// Blocks whose present content is being read, so that part of it can be written.
    loading: BTreeMap<u64, Load>,
    loads: u64,
}

/// The pieces of a byte range: block, position in it, position in the range.
pub fn pieces(range: Range<u64>, block_size: u64) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let blocks = range.start / block_size..range.end.div_ceil(block_size);
    blocks.map(move |index| {
        let start = index * block_size;
        let (from, to) = (range.start.max(start), range.end.min(start + block_size));
        let within = (from - start) as usize..(to - start) as usize;
        (index, within, (from - range.start) as usize..(to - range.start) as usize)
    })
}

impl State {
    /// The state of a file that nothing of is dirty.
    pub fn clean(size: u64, base: u64) -> Self {
        State { size, base, recorded: Recorded { size, allocated: 0 }, ..State::default() }
    }

    /// Whether there is something to flush.
    pub fn is_dirty(&self) -> bool {
        self.changed || !self.slots.is_empty()
    }

    /// Whether anything of it is dirty or on its way.
    pub fn is_busy(&self) -> bool {
        // Emptied and nothing written since, a round of it has no blocks.
        self.is_dirty() || self.anew || !self.flushing.is_empty() || !self.loading.is_empty()
    }

    /// A block whose content has to be in memory before a range can be written. `has_content` says whether a block has content
    /// outside of memory. The last block is needed, too, where bytes behind the file's end might show once the file is longer.
    pub fn need(
        &self,
        range: Range<u64>,
        block_size: u64,
        has_content: &dyn Fn(u64) -> bool,
        has_excess: &dyn Fn(u64) -> bool,
    ) -> Option<u64> {
        if let Some(last) = self.needed_to_grow(range.end, block_size, has_excess) {
            return Some(last);
        }
        let is_needed = |(index, within, _): (u64, Range<usize>, Range<usize>)| {
            let content = self.size.saturating_sub(index * block_size).min(block_size) as usize;
            let covers = within.start == 0 && within.end >= content;
            (!covers && !self.holds(index) && has_content(index)).then_some(index)
        };
        pieces(range, block_size).find_map(is_needed)
    }

    /// The last block, if it has to be in memory before the file gets longer.
    pub fn needed_to_grow(&self, size: u64, block_size: u64, has_excess: &dyn Fn(u64) -> bool) -> Option<u64> {
        let last = self.size / block_size;
        let grows = size > self.size && !self.size.is_multiple_of(block_size) && !self.holds(last);
        (grows && has_excess(last)).then_some(last)
    }

    /// Writes bytes; everything needed is there. Returns by how much the memory held has grown.
    pub fn write(&mut self, offset: u64, data: &[u8], block_size: u64, now_ns: i64) -> usize {
        let mut grown = 0;
        let end = offset + data.len() as u64;
        for (index, within, part) in pieces(offset..end, block_size) {
            grown += self.slot(index).write(within.start, &data[part], block_size as usize);
        }
        self.size = self.size.max(end);
        (self.mtime_ns, self.ctime_ns, self.changed) = (Some(now_ns), now_ns, true);
        self.unlogged.note(offset..end);
        grown
    }

    /// The dirty block at an index: made from the one being flushed, or empty.
    fn slot(&mut self, index: u64) -> &mut Slot {
        self.loading.remove(&index);
        let flushing = &self.flushing;
        self.slots
            .entry(index)
            .or_insert_with(|| Slot { memory: 0, data: flushing.get(&index).map_or_else(Vec::new, |(data, _)| data.to_vec()) })
    }

    /// Bytes of a block that memory has, zeros beyond what was written.
    pub fn held(&self, index: u64, within: Range<usize>) -> Option<Bytes> {
        let data = match (self.slots.get(&index), self.flushing.get(&index)) {
            (Some(slot), _) => &slot.data[..],
            (None, Some((data, _))) => &data[..],
            (None, None) => return None,
        };
        let mut bytes = vec![0; within.len()];
        let there = within.start.min(data.len())..within.end.min(data.len());
        bytes[..there.len()].copy_from_slice(&data[there]);
        Some(bytes.into())
    }

    /// Whether memory has a block.
    pub fn holds(&self, index: u64) -> bool {
        self.slots.contains_key(&index) || self.flushing.contains_key(&index)
    }

    /// Whether memory has bytes of a block, not only that it is to be zeros.
    pub fn has_bytes(&self, index: u64) -> bool {
        match (self.slots.get(&index), self.flushing.get(&index)) {
            (Some(slot), _) => !slot.data.is_empty(),
            (None, flushing) => flushing.is_some_and(|(data, _)| !data.is_empty()),
        }
    }

    /// Whether what memory has of a block is more than zeros, which no round would store.
    pub fn has_data(&self, index: u64) -> bool {
        let data = match (self.slots.get(&index), self.flushing.get(&index)) {
            (Some(slot), _) => &slot.data[..],
            (None, Some((data, _))) => &data[..],
            (None, None) => return false,
        };
        data.iter().any(|byte| *byte != 0)
    }

    /// The blocks that memory has, in any order.
    pub fn all_held(&self) -> impl Iterator<Item = u64> {
        let only_flushing = self.flushing.keys().filter(|index| !self.slots.contains_key(index));
        self.slots.keys().chain(only_flushing).copied()
    }

    /// The first block at or after an index that memory has.
    pub fn next_held(&self, from: u64) -> Option<u64> {
        let slot = self.slots.range(from..).next().map(|(index, _)| *index);
        let flushing = self.flushing.range(from..).next().map(|(index, _)| *index);
        slot.into_iter().chain(flushing).min()
    }

    /// Notes that a block is being read.
    pub fn begin_load(&mut self, index: u64) -> Load {
        self.loads += 1;
        *self.loading.entry(index).or_insert(Load(self.loads))
    }

    /// A block was read. It counts only if nobody wrote or cut it meanwhile. Returns by how much the memory held has grown.
    pub fn loaded(&mut self, index: u64, load: Load, bytes: Option<&[u8]>) -> usize {
        let still_wanted = self.loading.get(&index) == Some(&load);
        if still_wanted {
            self.loading.remove(&index);
        }
        match bytes {
            Some(bytes) if still_wanted && !self.holds(index) => {
                self.slots.insert(index, Slot { data: bytes.to_vec(), memory: bytes.len() });
                bytes.len()
            }
            _ => 0,
        }
    }

    /// Changes the size. The last block, if it is cut, is in memory (or was never more than the origin's). Returns the memory given back.
    pub fn resize(&mut self, size: u64, block_size: u64, now_ns: i64) -> usize {
        let mut freed = 0;
        if size < self.size {
            let beyond = size.div_ceil(block_size);
            for (_, slot) in self.slots.split_off(&beyond) {
                freed += slot.memory;
            }
            self.loading.split_off(&(size / block_size));
            if let Some(slot) = self.slots.get_mut(&(size / block_size)) {
                slot.data.truncate((size % block_size) as usize);
            }
            self.base = self.base.min(size);
            self.unlogged.lose();
        }
        self.unlogged.note(size..size);
        self.size = size;
        (self.mtime_ns, self.ctime_ns, self.changed) = (Some(now_ns), now_ns, true);
        freed
    }

    /// Makes whole blocks zeros. Returns the change of the memory held: what is given back.
    pub fn clear(&mut self, blocks: Range<u64>, now_ns: i64) -> usize {
        let mut freed = 0;
        for index in blocks {
            self.loading.remove(&index);
            freed += self.slots.insert(index, Slot::default()).map_or(0, |slot| slot.memory);
        }
        self.unlogged.lose();
        (self.mtime_ns, self.ctime_ns, self.changed) = (Some(now_ns), now_ns, true);
        freed
    }

    /// Blocks were recorded that take the place of what is dirty of them; the file reaches to `end` at least. Returns the memory given back.
    pub fn supersede(&mut self, blocks: Range<u64>, end: u64) -> usize {
        let mut behind = self.slots.split_off(&blocks.start);
        let mut kept = behind.split_off(&blocks.end);
        self.slots.append(&mut kept);
        self.loading.retain(|index, _| !blocks.contains(index));
        self.unlogged.lose();
        self.size = self.size.max(end);
        behind.into_values().map(|slot| slot.memory).sum()
    }

    /// Begins a round: what is dirty now is on its way. `None` if nothing is.
    pub fn begin_flush(&mut self, block_size: u64) -> Option<Snapshot> {
        debug_assert!(self.flushing.is_empty(), "one round at a time");
        if !self.is_dirty() {
            return None;
        }
        let size = self.size;
        let slots = std::mem::take(&mut self.slots);
        let cut = |(index, slot): (u64, Slot)| {
            let content = size.saturating_sub(index * block_size).min(block_size) as usize;
            let (mut data, memory) = (slot.data, slot.memory);
            data.resize(content, 0);
            (index, (Bytes::from(data), memory))
        };
        debug_assert!(slots.keys().next_back().is_none_or(|last| last * block_size < size), "a cut drops what is behind it");
        self.flushing = slots.into_iter().map(cut).collect();
        self.changed = false;
        self.unlogged = Unlogged::default();
        let blocks = self.flushing.iter().map(|(index, (data, _))| (*index, data.clone())).collect();
        self.flushing_mtime_ns = self.mtime_ns.take();
        Some(Snapshot {
            size,
            base: self.base,
            mtime_ns: self.flushing_mtime_ns,
            ctime_ns: self.ctime_ns,
            blocks,
            block_size,
            reserved: self.reservation.take(),
            log: self.log.clone(),
            times_set: self.times_set,
            anew: self.anew,
        })
    }

    /// Times were set explicitly.
    pub fn times_were_set(&mut self) {
        (self.mtime_ns, self.flushing_mtime_ns) = (None, None);
        self.times_set += 1;
    }

    /// When the file was last written, if the metadata does not say it: also while a round is to record it.
    pub fn unrecorded_mtime_ns(&self) -> Option<i64> {
        self.mtime_ns.or(self.flushing_mtime_ns)
    }

    /// When the file was last written before a round, unless times were set since.
    pub fn mtime_of(&self, snapshot: &Snapshot) -> Option<i64> {
        snapshot.mtime_ns.filter(|_| snapshot.times_set == self.times_set)
    }

    /// Ends a round: with success memory lets go of it, else it is dirty again. Returns the memory given back.
    pub fn end_flush(&mut self, snapshot: &Snapshot, done: bool) -> usize {
        let mut freed = 0;
        self.flushing_mtime_ns = None;
        for (index, (data, memory)) in std::mem::take(&mut self.flushing) {
            // What was written or cut meanwhile counts for more.
            if done || self.slots.contains_key(&index) || index * snapshot.block_size >= self.size {
                freed += memory;
            } else {
                self.slots.insert(index, Slot { data: data.to_vec(), memory });
            }
        }
        if done {
            self.anew &= !snapshot.anew;
            self.log.forget(&snapshot.log);
        } else {
            self.unlogged.lose();
            self.reservation.absorb(snapshot.reserved.clone());
            self.mtime_ns = self.mtime_ns.or(self.mtime_of(snapshot));
            self.changed = true;
        }
        freed
    }

    /// Drops everything dirty: the file is gone. Returns the memory given back.
    pub fn discard(&mut self) -> usize {
        (self.changed, self.anew) = (false, false);
        self.log = Logged::default();
        self.reservation.take().give_back();
        self.loading.clear();
        std::mem::take(&mut self.slots).into_values().map(|slot| slot.memory).sum()
    }
}

impl Slot {
    fn write(&mut self, at: usize, bytes: &[u8], block_size: usize) -> usize {
        let end = at + bytes.len();
        if end > self.data.capacity() {
            // Small files stay small; a stream gets its block at once.
            let wanted = if end > block_size / 4 { block_size } else { end.next_power_of_two() };
            self.data.reserve_exact(wanted - self.data.len());
        }
        if self.data.len() < at {
            self.data.resize(at, 0);
        }
        // A stream only appends: nothing is zeroed before it is written.
        let (over, beyond) = bytes.split_at(bytes.len().min(self.data.len() - at));
        self.data[at..at + over.len()].copy_from_slice(over);
        self.data.extend_from_slice(beyond);
        let counted = self.memory;
        self.memory = counted.max(self.data.capacity());
        self.memory - counted
    }
}

/// A file's dirty state, shared.
#[derive(Debug)]
pub struct Written {
    state: parking_lot::Mutex<State>,
}

impl Written {
    /// Nothing dirty.
    pub fn clean(size: u64, base: u64, allocated: u64) -> Self {
        let recorded = Recorded { size, allocated };
        Written { state: parking_lot::Mutex::new(State { recorded, ..State::clean(size, base) }) }
    }

    /// The state, locked.
    pub fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = 16;

    /// What lies behind the memory: content that rounds have recorded.
    #[derive(Default)]
    struct Behind {
        blocks: BTreeMap<u64, Vec<u8>>,
        size: u64,
    }

    impl Behind {
        fn load(&self, index: u64, size: u64) -> Vec<u8> {
            let content = size.saturating_sub(index * BLOCK).min(BLOCK) as usize;
            let mut bytes = self.blocks.get(&index).cloned().unwrap_or_default();
            bytes.resize(content, 0);
            bytes
        }
    }

    fn read(state: &State, behind: &Behind) -> Vec<u8> {
        let mut all = Vec::new();
        for (index, within, _) in pieces(0..state.size, BLOCK) {
            match state.held(index, within.clone()) {
                Some(bytes) => all.extend_from_slice(&bytes),
                None => all.extend_from_slice(&behind.load(index, state.size)[within]),
            }
        }
        all
    }

    #[derive(Clone, Debug)]
    enum Op {
        Write(u64, Vec<u8>),
        Resize(u64),
        Clear(u64),
        Begin,
        End(bool),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..100u64, proptest::collection::vec(1..255u8, 1..40)).prop_map(|(at, data)| Op::Write(at, data)),
            2 => (0..120u64).prop_map(Op::Resize),
            1 => (0..8u64).prop_map(Op::Clear),
            2 => Just(Op::Begin),
            2 => any::<bool>().prop_map(Op::End),
        ]
    }

    fn load(state: &mut State, behind: &Behind, index: u64, used: &mut usize) {
        let load = state.begin_load(index);
        let bytes = behind.load(index, state.size);
        *used += state.loaded(index, load, Some(&bytes));
    }

    proptest! {
        #[test]
        fn memory_and_what_rounds_recorded_are_the_file_at_every_moment(ops in proptest::collection::vec(op(), 1..60)) {
            let (mut state, mut behind, mut model) = (State::clean(0, 0), Behind::default(), Vec::<u8>::new());
            let (mut used, mut round): (usize, Option<Snapshot>) = (0, None);
            for op in ops {
                match op {
                    Op::Write(at, data) => {
                        let end = at + data.len() as u64;
                        let excess = |behind: &Behind, size: u64, index: u64| {
                            behind.blocks.get(&index).is_some_and(|data| data.len() as u64 > size % BLOCK)
                        };
                        let has = |behind: &Behind, index: u64| behind.blocks.contains_key(&index);
                        let need = |state: &State, behind: &Behind| {
                            state.need(at..end, BLOCK, &|index| has(behind, index), &|index| excess(behind, state.size, index))
                        };
                        while let Some(index) = need(&state, &behind) {
                            load(&mut state, &behind, index, &mut used);
                        }
                        used += state.write(at, &data, BLOCK, 1);
                        model.resize(model.len().max(end as usize), 0);
                        model[at as usize..end as usize].copy_from_slice(&data);
                    }
                    Op::Resize(size) => {
                        // A cut comes between rounds, with the last block in memory; growing wants it where there is more than shows.
                        if size < state.size && round.is_some() {
                            continue;
                        }
                        let last = size.min(state.size) / BLOCK;
                        if !size.min(state.size).is_multiple_of(BLOCK) && !state.holds(last) && behind.blocks.contains_key(&last) {
                            load(&mut state, &behind, last, &mut used);
                        }
                        used -= state.resize(size, BLOCK, 1);
                        behind.blocks.retain(|index, _| *index < size.div_ceil(BLOCK));
                        model.resize(size as usize, 0);
                    }
                    Op::Clear(index) => {
                        if (index + 1) * BLOCK <= state.size {
                            used -= state.clear(index..index + 1, 1);
                            model[(index * BLOCK) as usize..((index + 1) * BLOCK) as usize].fill(0);
                        }
                    }
                    Op::Begin if round.is_none() => round = state.begin_flush(BLOCK),
                    Op::End(done) => if let Some(snapshot) = round.take() {
                        if done {
                            behind.blocks.extend(snapshot.blocks.iter().map(|(index, data)| (*index, data.to_vec())));
                            behind.size = snapshot.size;
                        }
                        used -= state.end_flush(&snapshot, done);
                    },
                    Op::Begin => {}
                }
                prop_assert_eq!(read(&state, &behind), model.clone());
            }
            // At rest everything is recorded, and no memory is counted any more.
            while let Some(snapshot) = round.take().or_else(|| state.begin_flush(BLOCK)) {
                behind.blocks.extend(snapshot.blocks.iter().map(|(index, data)| (*index, data.to_vec())));
                used -= state.end_flush(&snapshot, true);
            }
            prop_assert_eq!((read(&state, &behind), used, state.is_busy()), (model, 0, false));
        }
    }

    #[test]
    fn what_is_written_meanwhile_is_not_undone_by_a_block_that_was_read() {
        let mut state = State::clean(BLOCK, 0);
        let load = state.begin_load(0);
        state.write(0, &[7; BLOCK as usize], BLOCK, 1);
        assert_eq!(state.loaded(0, load, Some(&[1; BLOCK as usize])), 0);
        assert_eq!(state.held(0, 0..2), Some(Bytes::from_static(&[7, 7])));
        let load = state.begin_load(0);
        state.resize(0, BLOCK, 1);
        assert_eq!(state.loaded(0, load, Some(&[1; BLOCK as usize])), 0);
        assert_eq!(state.held(0, 0..1), None);
    }

    #[test]
    fn a_load_that_was_overtaken_by_a_round_does_not_answer_a_later_one() {
        let mut state = State::clean(BLOCK, BLOCK);
        let (slow, quick) = (state.begin_load(0), state.begin_load(0));
        state.loaded(0, quick, Some(&[1; BLOCK as usize]));
        state.write(3, b"b", BLOCK, 1);
        let round = state.begin_flush(BLOCK).expect("dirty");
        state.end_flush(&round, true);
        let later = state.begin_load(0);
        assert_eq!(state.loaded(0, slow, Some(&[1; BLOCK as usize])), 0, "it brings what was before the round");
        assert!(!state.holds(0));
        assert!(state.loaded(0, later, Some(&round.blocks[0].1)) > 0);
        assert_eq!(state.held(0, 2..4), Some(Bytes::from_static(&[1, b'b'])));
    }

    #[test]
    fn times_that_were_set_count_for_more_than_a_write_before() {
        let mut state = State::clean(0, 0);
        state.write(0, b"x", BLOCK, 5);
        let snapshot = state.begin_flush(BLOCK).expect("dirty");
        assert_eq!(state.mtime_of(&snapshot), Some(5));
        state.times_were_set();
        assert_eq!(state.mtime_of(&snapshot), None);
        state.end_flush(&snapshot, false);
        assert_eq!(state.begin_flush(BLOCK).expect("dirty again").mtime_ns, None);
    }

    #[test]
    fn when_it_was_written_is_known_also_while_a_round_is_to_record_it() {
        let mut state = State::clean(0, 0);
        state.write(0, b"x", BLOCK, 5);
        let snapshot = state.begin_flush(BLOCK).expect("dirty");
        assert_eq!(state.unrecorded_mtime_ns(), Some(5));
        state.write(1, b"y", BLOCK, 7);
        assert_eq!(state.unrecorded_mtime_ns(), Some(7));
        state.end_flush(&snapshot, true);
        let snapshot = state.begin_flush(BLOCK).expect("dirty again");
        state.times_were_set();
        assert_eq!(state.unrecorded_mtime_ns(), None);
        state.end_flush(&snapshot, true);
        assert_eq!(state.unrecorded_mtime_ns(), None, "the metadata has it");
    }

    #[test]
    fn small_files_take_little_memory() {
        let mut state = State::clean(0, 0);
        assert_eq!(state.write(0, &[1; 4096], 128 << 10, 1), 4096);
    }
}
