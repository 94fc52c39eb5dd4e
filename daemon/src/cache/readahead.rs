//! Read-ahead within one file: a pure planner, one per handle.
//!
//! It starts small (time to first byte), doubles while reads go on sequentially, tolerates the reordering that the kernel's
//! own read-ahead causes and small jumps, and collapses on random access.

use super::pipe::PART;
use std::ops::Range;

/// The first window, in bytes: what one round trip brings at about 90 MB/s per connection and 20 ms.
pub(super) const FIRST_WINDOW: u64 = 4 << 20;
/// Reads this far from where the last one ended still count as sequential: the kernel keeps several 1 MiB requests in
/// flight and its threads may deliver them out of order.
const SLACK: u64 = 8 << 20;
/// The smallest range of one GET, in bytes.
const LEAST_PART: u64 = 1 << 20;
/// Random reads in a row after which the pattern is called random.
const RANDOM_AFTER: u32 = 2;

/// What a stream may have under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Bytes ahead of the reader.
    pub window: u64,
    /// GETs that the window is cut into, as long as each is of a useful size.
    pub gets: u64,
}

/// The planner's state for one handle. Offsets and sizes in bytes.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Where the furthest sequential read ended.
    position: u64,
    /// Up to where fetching was planned.
    frontier: u64,
    /// How far ahead of `position` to plan; 0 = the pattern is not (yet) sequential.
    window: u64,
    misses: u32,
}

impl ReadAhead {
    /// Takes note of a read and returns what to fetch ahead of it, cut into the ranges of single GETs.
    pub(super) fn on_read(&mut self, read: &Range<u64>, file_size: u64, limit: Limit) -> Vec<Range<u64>> {
        if !self.note(read, limit.window) {
            return Vec::new();
        }
        let part = (self.window / limit.gets).clamp(LEAST_PART, PART);
        let goal = (self.position + self.window).min(file_size);
        self.frontier = self.frontier.max(read.end);
        // Whole parts only, unless the file ends first: many small GETs would cost more than they hide.
        let mut parts = Vec::new();
        while self.frontier < goal && (goal - self.frontier >= part || goal == file_size) {
            let end = self.part_end(part).min(goal);
            parts.push(self.frontier..end);
            self.frontier = end;
        }
        parts
    }

    /// Parts end on multiples of their size, so that streams over the same file ask for the same ranges.
    fn part_end(&self, part: u64) -> u64 {
        (self.frontier / part + 1) * part
    }

    /// Whether the window is open; true while a stream is running.
    pub(super) fn is_sequential(&self) -> bool {
        self.window > 0
    }

    /// Planned ranges that were not fetched (no memory): planning starts there again.
    pub(super) fn give_back(&mut self, from: u64) {
        self.frontier = self.frontier.min(from);
    }

    fn note(&mut self, read: &Range<u64>, max_window: u64) -> bool {
        let distance = read.start.abs_diff(self.position);
        if distance <= SLACK && (self.window > 0 || read.start <= self.position) {
            self.misses = 0;
            if read.end > self.position {
                self.position = read.end;
                self.window = (self.window * 2).clamp(FIRST_WINDOW.min(max_window), max_window);
            }
            return true;
        }
        self.misses += 1;
        if self.misses >= RANDOM_AFTER || self.window == 0 {
            // The next read may continue from here: remember it as a possible start of a stream.
            *self = ReadAhead { position: read.end, frontier: read.end, window: 0, misses: self.misses };
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    const fn up_to(window_mib: u64) -> Limit {
        Limit { window: window_mib * MIB, gets: 4 }
    }

    fn planned(parts: &[Range<u64>]) -> u64 {
        parts.iter().map(|part| part.end - part.start).sum()
    }

    #[test]
    fn a_stream_from_the_start_doubles_its_window_and_covers_the_file_once() {
        let mut ahead = ReadAhead::default();
        let size = 1024 * MIB;
        let mut covered = MIB;
        for read in 0..1024 {
            let range = read * MIB..(read + 1) * MIB;
            for part in ahead.on_read(&range, size, up_to(128)) {
                assert_eq!(part.start, covered.max(range.end), "no gap and no overlap");
                assert!(part.end - part.start <= 8 * MIB);
                covered = part.end;
            }
            assert!(covered <= range.end + 128 * MIB, "never further ahead than the window");
        }
        assert_eq!(covered, size);
    }

    #[test]
    fn requests_out_of_order_are_still_one_stream() {
        let mut ahead = ReadAhead::default();
        let order = [0, 2, 1, 4, 3, 5, 7, 6];
        let total: u64 = order.iter().map(|i| planned(&ahead.on_read(&(i * MIB..(i + 1) * MIB), 1024 * MIB, up_to(64)))).sum();
        assert!(total >= 32 * MIB, "window opened to {total}");
        assert!(ahead.is_sequential());
    }

    #[test]
    fn random_reads_fetch_nothing_ahead() {
        let mut ahead = ReadAhead::default();
        let mut offset = 77 * MIB;
        let mut total = 0;
        for _ in 0..100 {
            offset = offset.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407) % (1 << 36);
            total += planned(&ahead.on_read(&(offset..offset + 4096), 1 << 36, up_to(64)));
        }
        assert_eq!(total, 0);
    }

    #[test]
    fn a_stream_in_the_middle_is_found_by_its_second_read() {
        let mut ahead = ReadAhead::default();
        assert!(ahead.on_read(&(500 * MIB..501 * MIB), 1024 * MIB, up_to(64)).is_empty());
        assert!(!ahead.on_read(&(501 * MIB..502 * MIB), 1024 * MIB, up_to(64)).is_empty());
    }

    #[test]
    fn a_jump_ends_the_stream_after_two_reads() {
        let mut ahead = ReadAhead::default();
        for i in 0..8 {
            ahead.on_read(&(i * MIB..(i + 1) * MIB), 1024 * MIB, up_to(64));
        }
        ahead.on_read(&(700 * MIB..701 * MIB), 1024 * MIB, up_to(64));
        assert!(ahead.is_sequential(), "one stray read is forgiven");
        ahead.on_read(&(300 * MIB..301 * MIB), 1024 * MIB, up_to(64));
        assert!(!ahead.is_sequential());
    }

    #[test]
    fn what_was_given_back_is_planned_again() {
        let mut ahead = ReadAhead::default();
        let parts = ahead.on_read(&(0..MIB), 1024 * MIB, up_to(64));
        ahead.give_back(parts[0].start);
        let again = ahead.on_read(&(MIB..2 * MIB), 1024 * MIB, up_to(64));
        assert_eq!(again[0].start, 2 * MIB, "from the reader on, not behind it");
    }

    #[test]
    fn a_window_is_cut_into_as_many_gets_as_are_wanted_but_no_tiny_ones() {
        let parts_of = |gets| {
            let mut ahead = ReadAhead::default();
            let limit = Limit { window: 16 * MIB, gets };
            let planned = (0..64).flat_map(|read| ahead.on_read(&(read * MIB..(read + 1) * MIB), 1024 * MIB, limit)).last();
            planned.map(|part| (part.end - part.start) / MIB)
        };
        assert_eq!((parts_of(4), parts_of(16), parts_of(64)), (Some(4), Some(1), Some(1)));
    }
}
