//! Which segment to empty next. Pure, apart from the segments' figures.
//!
//! 1. Segments of which so much is kept that emptying them gains next to nothing are passed over (see [`super::room`]), and so are those that could
//!    not be emptied in this round.
//! 2. Among those with little held in them the order is that of the head of [`super::reclaim`]; only when there is none of them
//!    goes the one that gains most.

use super::disk::{Disk, SegmentState};
use super::room::{Keep, gain, is_in_play, is_worth_emptying};
use crate::format::SegmentClass;

/// Share of a device that probation may keep while main is being emptied: one in this many segments.
const PROBATION_SHARE: u32 = 10;

/// The segment to empty next.
pub(super) fn choose(disk: &Disk, keep: Keep) -> Option<u32> {
    let segment = |number: &u32| &disk.segments[*number as usize];
    let sealed = |number: &u32| segment(number).state() == SegmentState::Sealed && !segment(number).stays();
    let sealed: Vec<u32> = (0..disk.geometry.segments).filter(sealed).collect();
    if let Some(dead) = sealed.iter().find(|number| segment(number).live_frames() == 0) {
        return Some(*dead);
    }
    let worth: Vec<u32> = sealed.into_iter().filter(|number| is_worth_emptying(disk, *number, keep)).collect();
    let light: Vec<u32> = worth.iter().filter(|number| is_light(disk, **number, keep)).copied().collect();
    in_order(disk, &light, keep).or_else(|| worth.into_iter().max_by_key(|number| gain(disk, *number, keep)))
}

/// Whether less than half of a segment is kept: emptying it moves less than it frees.
fn is_light(disk: &Disk, segment: u32, keep: Keep) -> bool {
    gain(disk, segment, keep) > disk.geometry.segment_bytes / 2
}

fn in_order(disk: &Disk, light: &[u32], keep: Keep) -> Option<u32> {
    let segment = |number: &u32| &disk.segments[*number as usize];
    let oldest = |class| {
        light.iter().filter(|number| segment(number).class() == class).min_by_key(|number| segment(number).seq()).copied()
    };
    let on_probation = (0..disk.geometry.segments)
        .filter(|number| segment(number).class() == SegmentClass::Probation && is_in_play(disk, *number, keep))
        .count() as u32;
    let share = (disk.geometry.segments / PROBATION_SHARE).max(1);
    match (oldest(SegmentClass::Probation), oldest(SegmentClass::Main)) {
        (Some(probation), None) => Some(probation),
        (Some(probation), Some(_)) if on_probation > share => Some(probation),
        (_, Some(main)) => Some(nearly_dead(disk, light).unwrap_or(main)),
        (None, None) => None,
    }
}

/// The main segment with the least left in it, if that is less than a quarter.
fn nearly_dead(disk: &Disk, light: &[u32]) -> Option<u32> {
    let segment = |number: &u32| &disk.segments[*number as usize];
    let main = light.iter().filter(|number| segment(number).class() == SegmentClass::Main);
    let least = main.min_by_key(|number| segment(number).live_bytes())?;
    (segment(least).live_bytes() < disk.geometry.segment_bytes / 4).then_some(*least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FrameSummary, Geometry};
    use crate::ids::DeviceId;
    use crate::units::MIB;

    /// A device of which each segment is sealed and has so many blocks of 128 KiB, of which so many are held.
    fn disk(segments: &[(SegmentClass, u32, u32)]) -> Disk {
        let geometry =
            Geometry { device: DeviceId(0), segment_bytes: MIB, segments: segments.len() as u32, block_size: 128 << 10 };
        let disk = Disk::new(geometry, 0);
        for (at, (class, blocks, held)) in segments.iter().enumerate() {
            disk.segments[at].begin(at as u64, *class, SegmentState::Sealed);
            (0..*blocks).for_each(|_| disk.add(at as u32, &frame()));
            (0..*held).for_each(|_| disk.hold(at as u32, &frame()));
        }
        disk
    }

    fn frame() -> FrameSummary {
        let local_only = false;
        let lens = 128 << 10;
        FrameSummary {
            fingerprint: 1,
            grain: 512,
            header_distance: 1,
            stored_len: lens,
            plain_len: lens,
            local_only,
            second: false,
        }
    }

    use SegmentClass::{Main, Probation};

    fn choose_held(disk: &Disk) -> Option<u32> {
        choose(disk, Keep::Held)
    }

    #[test]
    fn what_is_pinned_is_passed_over_until_nothing_else_is_left() {
        let disk = disk(&[(Main, 7, 0), (Main, 7, 0)]);
        (0..7).for_each(|_| disk.pin(0, &frame()));
        assert_eq!(choose(&disk, Keep::Pinned), Some(1));
        assert_eq!(choose(&disk, Keep::Held), Some(0));
        (0..7).for_each(|_| disk.pin(1, &frame()));
        assert_eq!(choose(&disk, Keep::Pinned), None);
        (0..7).for_each(|_| disk.unpin(0, &frame()));
        assert_eq!(choose(&disk, Keep::Pinned), Some(0));
    }

    #[test]
    fn what_is_nearly_all_held_is_passed_over() {
        assert_eq!(choose_held(&disk(&[(Main, 7, 7), (Main, 7, 6), (Probation, 7, 7)])), None);
        assert_eq!(choose_held(&disk(&[(Main, 7, 7), (Main, 7, 1), (Main, 7, 0)])), Some(1));
    }

    #[test]
    fn where_much_is_held_everywhere_the_most_is_gained() {
        assert_eq!(choose_held(&disk(&[(Main, 7, 5), (Main, 7, 4), (Probation, 7, 5)])), Some(1));
    }

    #[test]
    fn a_segment_full_of_held_blocks_does_not_count_as_probation() {
        let segments = [(Probation, 7, 7), (Probation, 7, 7), (Main, 7, 0), (Probation, 7, 0)];
        assert_eq!(choose_held(&disk(&segments)), Some(2));
    }

    #[test]
    fn the_dead_go_first_and_what_stays_not_at_all() {
        let disk = disk(&[(Main, 7, 0), (Main, 0, 0)]);
        assert_eq!(choose_held(&disk), Some(1));
        disk.segments[1].set_stays(true);
        assert_eq!(choose_held(&disk), Some(0));
    }
}
