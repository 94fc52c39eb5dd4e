//! How much room held and pinned frames take, and leave. Held ones never go, so a segment is worth emptying only for what it has beside them; pinned ones go
//! only where nothing else makes room ([`Keep`]).
//!
//! Invariants:
//! 1. [`packed`] is no less than what a frame really takes when frames are appended in the order of [`moving_order`], as reclaim does: gaps,
//!    extent headers and footer entries included.
//! 2. Emptying a segment that is worth it (see [`is_worth_emptying`]) therefore gains at least an eighth of a segment, besides the end of a segment that
//!    nothing fits into any more: emptying ends even where everything is held.
//! 3. While held frames leave room by [`room`], a device that has no free segment for puts has one worth emptying.

use super::disk::{Disk, SegmentState};
use crate::format::FrameSummary;
use crate::units::{SECTOR, sector_up};
use std::cmp::Reverse;

/// A segment is not emptied for less than one part in this many.
const LEAST_SHARE: u64 = 8;
/// Segment header, footer trailer, the last sector of the footer's table, and an extent cut short.
const SEGMENT_OVERHEAD: u64 = 5 * SECTOR as u64;
/// What is left at the end of a segment, beside less than a block, when it is closed: see `least_extent` of the lanes.
const TAIL_SECTORS: u64 = 3 * SECTOR as u64;
const FOOTER_ENTRY: u64 = 20;
/// What a frame takes of its extent's header sector, beside four bytes for each checksum.
const HEADER_ENTRY: usize = 48;
/// What the header sector has for entries.
const HEADER_ENTRIES: usize = SECTOR - 52;

/// What a frame takes among others, at most (invariant 1).
pub(super) fn packed(frame: &FrameSummary, extent_bytes: usize) -> u64 {
    let len = frame.stored_len as usize;
    // A frame of less than a sector goes on to the next sector where it would cross into it. Largest first, a frame of up to half a sector
    // leaves no more free than it takes.
    let space = if len <= SECTOR / 2 { 2 * len } else { sector_up(len) };
    // Likewise, what is in two extents in a row would not have fitted into one: for its bytes, or for its entries in the header.
    let by_bytes = (2 * space * SECTOR).div_ceil(extent_bytes - SECTOR);
    let by_entries = (2 * (HEADER_ENTRY + 4 * len.div_ceil(SECTOR)) * SECTOR).div_ceil(HEADER_ENTRIES);
    (space + by_bytes + by_entries) as u64 + FOOTER_ENTRY
}

/// The order in which frames are moved: so that small ones leave few gaps, and otherwise as they were.
pub(super) fn moving_order(frame: &FrameSummary) -> impl Ord + use<> {
    let small = frame.stored_len <= SECTOR as u32;
    (small, Reverse(if small { frame.stored_len } else { 0 }), frame.grain)
}

/// What of a segment may stay unused or clean for good, so that emptying it is not worth it.
fn slack(disk: &Disk) -> u64 {
    let tail = u64::from(disk.geometry.block_size) + TAIL_SECTORS;
    disk.geometry.segment_bytes / LEAST_SHARE + tail + SEGMENT_OVERHEAD
}

/// What is kept while segments are emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// What is held, and what is pinned: as long as that makes room.
    Pinned,
    /// What is held.
    Held,
}

impl Keep {
    /// What of a segment is kept.
    pub(super) fn of_segment(self, disk: &Disk, segment: u32) -> u64 {
        let figures = &disk.segments[segment as usize];
        figures.held() + if self == Keep::Pinned { figures.pinned() } else { 0 }
    }

    fn of_disk(self, disk: &Disk) -> u64 {
        disk.held() + if self == Keep::Pinned { disk.pinned() } else { 0 }
    }
}

/// What emptying a segment gains at least.
pub(super) fn gain(disk: &Disk, segment: u32, keep: Keep) -> u64 {
    disk.geometry.segment_bytes.saturating_sub(keep.of_segment(disk, segment))
}

/// Whether emptying a segment gets the device further (invariant 2).
pub(super) fn is_worth_emptying(disk: &Disk, segment: u32, keep: Keep) -> bool {
    gain(disk, segment, keep) > slack(disk)
}

/// Bytes that frames may still take and be kept, on this device (invariant 3).
pub(super) fn room(disk: &Disk, keep: Keep) -> u64 {
    // Kept free for reclaim, and the open segments of both classes.
    let kept = disk.low_water() as u64 + 2;
    let segments = u64::from(disk.geometry.segments).saturating_sub(disk.unbacked() + kept);
    let usable = disk.geometry.segment_bytes.saturating_sub(slack(disk));
    (segments * usable).saturating_sub(keep.of_disk(disk))
}

/// Whether a segment takes part in the order of reclaim: it is in use, and not one that stays for what is held in it.
pub(super) fn is_in_play(disk: &Disk, segment: u32, keep: Keep) -> bool {
    match disk.segments[segment as usize].state() {
        SegmentState::Free | SegmentState::Unbacked => false,
        SegmentState::Open | SegmentState::Closed => true,
        SegmentState::Sealed => is_worth_emptying(disk, segment, keep),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Encoding, ExtentBuilder, FrameSpec};
    use crate::ids::BlockId;
    use proptest::prelude::*;

    fn summary(stored_len: u32, encoding: Encoding) -> FrameSummary {
        let plain_len = stored_len + u32::from(encoding == Encoding::Lz4);
        FrameSummary { fingerprint: 0, grain: 512, header_distance: 1, stored_len, plain_len, local_only: true, second: false }
    }

    fn spec<'a>(frame: &FrameSummary, checks: &'a [u32]) -> FrameSpec<'a> {
        let encoding = if frame.is_compressed() { Encoding::Lz4 } else { Encoding::Raw };
        let checks = &checks[..encoding.checksums(frame.stored_len as usize)];
        let FrameSummary { stored_len, plain_len, local_only, .. } = *frame;
        FrameSpec { id: BlockId([0; 32]), encoding, stored_len, plain_len, local_only, second: false, checks }
    }

    /// Bytes of extents and footer entries for frames appended one behind the other.
    fn laid_out(frames: &[FrameSummary], extent_bytes: usize) -> u64 {
        let checks = vec![0; 128];
        let (mut total, mut extent) = (0, ExtentBuilder::new(extent_bytes));
        for frame in frames {
            if extent.push(&spec(frame, &checks)).is_none() {
                total += sector_up(extent.end()) as u64;
                extent = ExtentBuilder::new(extent_bytes);
                extent.push(&spec(frame, &checks)).expect("an empty extent holds any block");
            }
        }
        total + sector_up(extent.end()) as u64 + frames.len() as u64 * FOOTER_ENTRY
    }

    fn frame() -> impl Strategy<Value = FrameSummary> {
        let len = prop_oneof![1u32..300, 1u32..9000, 1900u32..2300, 4000u32..4200, 1u32..131_072, Just(131_072)];
        (len, any::<bool>()).prop_map(|(len, lz4)| summary(len, if lz4 { Encoding::Lz4 } else { Encoding::Raw }))
    }

    proptest! {
        #[test]
        fn frames_take_no_more_than_they_are_counted_for(
            pattern in proptest::collection::vec(frame(), 1..6),
            times in 1usize..200,
            extent_kib in prop_oneof![Just(256usize), Just(2048)],
        ) {
            let mut frames: Vec<_> = pattern.iter().copied().cycle().take(pattern.len() * times).collect();
            frames.sort_by_key(moving_order);
            let counted: u64 = frames.iter().map(|frame| packed(frame, extent_kib << 10)).sum();
            // The last extent and sector may be short, as any cut of a lane may.
            prop_assert!(laid_out(&frames, extent_kib << 10) <= counted + 2 * SECTOR as u64);
        }
    }
}
