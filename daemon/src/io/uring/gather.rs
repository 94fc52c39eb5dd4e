//! Memory in several places, written as one: the list that the kernel is given of it.
//!
//! Invariants:
//! 1. The memory a list names lives as long as its [`Gather`]: it holds the pieces, and its flight holds the buffer in front of them.
//! 2. A list is changed only while the kernel has no entry with it.

use crate::io::IoBuf;
use bytes::Bytes;

/// What is written behind a flight's buffer.
#[derive(Default)]
pub(super) struct Gather {
    pieces: Vec<Bytes>,
    list: Vec<Span>,
}

/// An entry of a list: where, and how many bytes.
#[repr(transparent)]
struct Span(libc::iovec);

// SAFETY: only the kernel follows the address, to memory that nobody changes and that lives long enough (invariant 1).
unsafe impl Send for Span {}

impl Span {
    fn of(bytes: &[u8]) -> Self {
        Span(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() })
    }

    /// Takes in what lies right behind.
    fn join(&mut self, next: &Span) -> bool {
        let joins = self.0.iov_base.addr() + self.0.iov_len == next.0.iov_base.addr();
        self.0.iov_len += if joins { next.0.iov_len } else { 0 };
        joins
    }
}

impl Gather {
    pub(super) fn new(pieces: Vec<Bytes>) -> Self {
        Gather { pieces, list: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The list for `first` and what follows it, without the first `skip` bytes. Neighbours in memory are one entry: for the kernel an
    /// entry costs more than its bytes do.
    pub(super) fn list(&mut self, first: &IoBuf, mut skip: usize) -> (*const libc::iovec, u32) {
        self.list.clear();
        for bytes in std::iter::once(&first[..]).chain(self.pieces.iter().map(|piece| &piece[..])) {
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            let span = Span::of(&bytes[skipped..]);
            if span.0.iov_len > 0 && !self.list.last_mut().is_some_and(|last| last.join(&span)) {
                self.list.push(span);
            }
        }
        (self.list.as_ptr().cast(), u32::try_from(self.list.len()).expect("an extent has few frames"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::BufferPool;
    use crate::units::SECTOR;

    fn lengths(gather: &mut Gather, first: &IoBuf, skip: usize) -> Vec<usize> {
        let (list, count) = gather.list(first, skip);
        // SAFETY: the list has so many entries, and `gather` is not touched while they are read.
        unsafe { std::slice::from_raw_parts(list, count as usize) }.iter().map(|entry| entry.iov_len).collect()
    }

    #[test]
    fn neighbours_are_one_entry_and_what_was_written_is_left_out() {
        let first = BufferPool::new(0).alloc(SECTOR);
        let (one, other) = (Bytes::from(vec![1; 3 * SECTOR]), Bytes::from(vec![2; SECTOR]));
        let pieces = vec![one.slice(..SECTOR), one.slice(SECTOR..2 * SECTOR), other, one.slice(2 * SECTOR..)];
        let mut gather = Gather::new(pieces);
        assert_eq!(lengths(&mut gather, &first, 0), [SECTOR, 2 * SECTOR, SECTOR, SECTOR]);
        assert_eq!(lengths(&mut gather, &first, 2 * SECTOR), [SECTOR, SECTOR, SECTOR], "a short write goes on within an entry");
        assert_eq!(lengths(&mut gather, &first, 5 * SECTOR), [0_usize; 0]);
    }
}
