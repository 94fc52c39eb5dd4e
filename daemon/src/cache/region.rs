//! Memory for fetched bytes: regions that one fetch fills from front to back while readers already use the front.
//!
//! Neighbouring blocks lie in one region, so that an answer that spans them needs no copy; regions are used again, so that a
//! stream does not make the kernel clear a page for every page it reads.
//!
//! Invariants:
//! 1. One [`RegionWriter`] writes a region, always behind everything it gave out; a [`Piece`] names bytes already written.
//! 2. A region's share of the memory budget is given back with its last piece, not before.

use super::budget::Reservation;
use crate::repository::{Body, StoreError, read_into};
use crate::units::MIB;
use parking_lot::Mutex;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use tokio::io::ReadBuf;

/// Regions end on multiples of this many bytes of their file: what the kernel asks for at once.
pub(super) const REGION: u64 = MIB;
/// Alignment of a region in memory: a page, so that large copies take the fast way.
const ALIGN: usize = 4096;

/// Memory of a region, of one of the pool's sizes or any other.
struct Memory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to whoever holds this, on whatever thread.
unsafe impl Send for Memory {}
// SAFETY: nothing can be done with a shared reference but read its address.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        Memory { start, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(1), ALIGN).expect("a region is far below isize::MAX")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody has it any more.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) }
    }
}

/// Memory of past regions, for those to come.
pub(super) struct RegionPool {
    block_size: usize,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    memory: Vec<Memory>,
    bytes: usize,
    /// Whether somebody asked for any since the last [`RegionPool::trim`].
    used: bool,
}

impl RegionPool {
    pub(super) fn new(block_size: u32) -> Arc<Self> {
        let block_size = block_size as usize;
        assert!((REGION as usize).is_multiple_of(block_size), "blocks do not cross the end of a region");
        Arc::new(RegionPool { block_size, free: Mutex::default() })
    }

    /// A writer for a region of `len` bytes that holds `memory` of the budget.
    pub(super) fn region(self: &Arc<Self>, len: usize, memory: Reservation) -> RegionWriter {
        let size = self.size_class(len);
        let region = Region { memory: Some(self.take(size)), pool: Arc::clone(self), reservation: memory };
        RegionWriter { region: Arc::new(region), len, written: 0, given: 0 }
    }

    /// Whole regions and whole blocks are kept for use again; what is much smaller than a block is left to the allocator.
    fn size_class(&self, len: usize) -> usize {
        match len {
            _ if len > REGION as usize / 2 && len <= REGION as usize => REGION as usize,
            _ if len > self.block_size / 2 && len <= self.block_size => self.block_size,
            _ => len,
        }
    }

    fn is_kept(&self, size: usize) -> bool {
        size == REGION as usize || size == self.block_size
    }

    fn take(&self, size: usize) -> Memory {
        if self.is_kept(size) {
            let mut free = self.free.lock();
            free.used = true;
            if let Some(at) = free.memory.iter().rposition(|memory| memory.len == size) {
                free.bytes -= size;
                return free.memory.swap_remove(at);
            }
        }
        Memory::new(size)
    }

    /// Takes memory back if it and what is in use stay within the budget.
    fn give(&self, memory: Memory, reservation: &Reservation) {
        let budget = reservation.budget();
        if self.is_kept(memory.len) {
            let mut free = self.free.lock();
            if free.bytes + budget.used() <= budget.limit() {
                free.bytes += memory.len;
                free.memory.push(memory);
            }
        }
    }

    /// Gives the memory kept back to the allocator.
    pub(super) fn clear(&self) {
        // Freed once the lock is open again.
        let _all = std::mem::take(&mut *self.free.lock());
    }

    /// Gives the memory kept back if nobody asked for any since the last call.
    pub(super) fn trim(&self) {
        if !std::mem::take(&mut self.free.lock().used) {
            self.clear();
        }
    }
}

struct Region {
    /// Until dropped.
    memory: Option<Memory>,
    pool: Arc<RegionPool>,
    reservation: Reservation,
}

impl Region {
    fn start(&self) -> *mut u8 {
        self.memory.as_ref().expect("there until dropped").start.as_ptr()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.give(memory, &self.reservation);
        }
    }
}

/// The one writer of a region.
pub(super) struct RegionWriter {
    region: Arc<Region>,
    len: usize,
    written: usize,
    given: usize,
}

impl RegionWriter {
    /// What is not written yet.
    fn room(&mut self) -> ReadBuf<'_> {
        let len = self.len - self.written;
        // SAFETY: the region has room for `len` more bytes, and nobody reads or writes behind `written` but the one writer (invariant 1), which
        // is borrowed meanwhile.
        let room =
            unsafe { std::slice::from_raw_parts_mut(self.region.start().add(self.written).cast::<MaybeUninit<u8>>(), len) };
        ReadBuf::uninit(room)
    }

    /// Has a body go on where it was written to, which is not the region's end; `false` if the body has ended.
    pub(super) async fn read_from(&mut self, body: &mut Body) -> Result<bool, StoreError> {
        debug_assert!(self.written < self.len, "there is room as long as not all was given out");
        let mut room = self.room();
        read_into(body, &mut room).await?;
        let got = room.filled().len();
        self.written += got;
        Ok(got > 0)
    }

    #[cfg(test)]
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut room = self.room();
        let len = bytes.len().min(room.remaining());
        room.put_slice(&bytes[..len]);
        self.written += len;
        len
    }

    /// Gives out the next `len` bytes, if they have been written.
    pub(super) fn next(&mut self, len: usize) -> Option<Piece> {
        if self.written - self.given < len {
            return None;
        }
        let range = self.given..self.given + len;
        self.given = range.end;
        Some(Piece { region: Arc::clone(&self.region), range })
    }

    /// Whether all of it has been given out.
    pub(super) fn is_done(&self) -> bool {
        self.given == self.len
    }
}

/// Bytes of a region.
#[derive(Clone)]
pub(super) struct Piece {
    region: Arc<Region>,
    range: Range<usize>,
}

impl Piece {
    /// The part from `start`, `len` bytes long.
    pub(super) fn slice(&self, start: u32, len: u32) -> Piece {
        let from = self.range.start + start as usize;
        assert!(from + len as usize <= self.range.end, "a part lies within its piece");
        Piece { region: Arc::clone(&self.region), range: from..from + len as usize }
    }

    /// Both as one, if `next` lies right behind.
    pub(super) fn joined(&self, next: &Piece) -> Option<Piece> {
        let follows = Arc::ptr_eq(&self.region, &next.region) && self.range.end == next.range.start;
        follows.then(|| Piece { region: Arc::clone(&self.region), range: self.range.start..next.range.end })
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: these bytes were written before the piece was made, and are never written again (invariant 1).
        unsafe { std::slice::from_raw_parts(self.region.start().add(self.range.start), self.range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::MemoryBudget;
    use super::*;

    const BLOCK: usize = 128 << 10;

    #[test]
    fn pieces_are_given_out_while_the_rest_is_written_and_neighbours_join() {
        let budget = Arc::new(MemoryBudget::new(8 << 20));
        let pool = RegionPool::new(BLOCK as u32);
        let mut writer = pool.region(3 * BLOCK, budget.take(3 * BLOCK));
        assert!(writer.next(1).is_none(), "nothing is written yet");
        assert_eq!(writer.write(&vec![1; BLOCK + 5]), BLOCK + 5);
        let first = writer.next(BLOCK).expect("written");
        assert!(writer.next(BLOCK).is_none(), "only 5 bytes of it are there");
        assert_eq!(writer.write(&vec![2; 4 * BLOCK]), 2 * BLOCK - 5, "no more than fits");
        let second = writer.next(BLOCK).expect("written");
        assert!(first.as_ref().iter().all(|byte| *byte == 1) && second.as_ref()[..5] == [1; 5] && second.as_ref()[5] == 2);
        let both = first.joined(&second).expect("neighbours");
        assert_eq!(both.as_ref().len(), 2 * BLOCK);
        assert!(second.joined(&first).is_none());
        assert_eq!(both.slice(BLOCK as u32 + 5, 1).as_ref(), [2]);
        assert!(!writer.is_done());
    }

    #[test]
    fn memory_counts_until_the_last_piece_is_gone_and_is_used_again() {
        let budget = Arc::new(MemoryBudget::new(4 << 20));
        let pool = RegionPool::new(BLOCK as u32);
        let mut writer = pool.region(REGION as usize, budget.take(REGION as usize));
        writer.write(&vec![7; REGION as usize]);
        let piece = writer.next(1).expect("written");
        let address = piece.as_ref().as_ptr();
        drop(writer);
        assert_eq!(budget.used(), REGION as usize);
        drop(piece);
        assert_eq!((budget.used(), pool.free.lock().bytes), (0, REGION as usize));
        let mut again = pool.region(REGION as usize - 5, budget.take(REGION as usize));
        again.write(&[1]);
        assert_eq!(again.next(1).expect("written").as_ref().as_ptr(), address);
        drop(again);
        pool.trim();
        assert_eq!(pool.free.lock().bytes, REGION as usize, "used since the last look");
        pool.trim();
        assert_eq!(pool.free.lock().bytes, 0);
    }

    #[test]
    fn memory_beyond_the_budget_is_not_kept() {
        let budget = Arc::new(MemoryBudget::new(REGION as usize));
        let pool = RegionPool::new(BLOCK as u32);
        let regions: Vec<_> = (0..4).map(|_| pool.region(REGION as usize, budget.take(REGION as usize))).collect();
        drop(regions);
        assert!(pool.free.lock().bytes <= REGION as usize);
    }
}
