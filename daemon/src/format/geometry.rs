//! How a device is cut up: a reserved head for the superblock, then segments of one size.

use crate::ids::DeviceId;
use crate::units::{MIB, SECTOR};

/// Bytes reserved at the start of a device for the superblock copies and what may come beside them.
pub const HEAD_BYTES: u64 = 64 << 10;
/// The largest segment: positions inside one have 22 bits in units of [`super::GRAIN`].
pub const SEGMENT_MAX: u64 = 64 * MIB;
/// The smallest segment.
pub const SEGMENT_MIN: u64 = MIB;
/// Fewer segments than this leave no room to fill one while another is being freed.
pub const SEGMENTS_MIN: u64 = 4;
/// The largest block: stored lengths have 19 bits.
pub const BLOCK_MAX: u32 = 512 << 10;
/// The largest extent, header included.
pub const EXTENT_MAX: u64 = 2 * MIB;

/// The division of one device into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The device.
    pub device: DeviceId,
    /// Bytes per segment.
    pub segment_bytes: u64,
    /// Segments on the device.
    pub segments: u32,
    /// Largest plain block in bytes.
    pub block_size: u32,
}

impl Geometry {
    /// The segment size for a device of `len` bytes: about 64 segments, a power of two within the limits and large enough for
    /// eight blocks.
    pub fn segment_bytes_for(len: u64, block_size: u32) -> u64 {
        let wanted = (len / 64).max(1);
        let power = if wanted.is_power_of_two() { wanted } else { wanted.next_power_of_two() / 2 };
        let least = SEGMENT_MIN.max((8 * u64::from(block_size)).next_power_of_two());
        power.clamp(least, SEGMENT_MAX)
    }

    /// Cuts a device of `len` bytes; `None` if it is too small.
    pub fn cut(device: DeviceId, len: u64, segment_bytes: u64, block_size: u32) -> Option<Self> {
        let segments = len.saturating_sub(HEAD_BYTES) / segment_bytes;
        let segments = u32::try_from(segments).ok()?;
        (u64::from(segments) >= SEGMENTS_MIN).then_some(Geometry { device, segment_bytes, segments, block_size })
    }

    /// Where a segment starts on the device, in bytes.
    pub fn segment_offset(&self, segment: u32) -> u64 {
        HEAD_BYTES + u64::from(segment) * self.segment_bytes
    }

    /// Sectors of a segment.
    pub fn segment_sectors(&self) -> u32 {
        (self.segment_bytes / SECTOR as u64) as u32
    }

    /// Bytes of the largest extent, header included; always room for one block.
    pub fn extent_bytes(&self) -> usize {
        (self.segment_bytes / 4).min(EXTENT_MAX) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::GIB;

    #[test]
    fn segments_follow_the_device_within_limits() {
        for (len, bytes) in [(8 * MIB, MIB), (64 * MIB, MIB), (GIB, 16 * MIB), (3 * GIB / 2, 16 * MIB), (100 * GIB, 64 * MIB)] {
            assert_eq!(Geometry::segment_bytes_for(len, 128 << 10), bytes, "{len}");
        }
        assert_eq!(Geometry::segment_bytes_for(8 * MIB, BLOCK_MAX), 4 * MIB);
    }

    #[test]
    fn a_device_with_too_few_segments_is_refused() {
        assert_eq!(Geometry::cut(DeviceId(0), 4 * MIB, MIB, 4096), None);
        let cut = Geometry::cut(DeviceId(0), 4 * MIB + HEAD_BYTES, MIB, 4096).expect("four segments fit");
        assert_eq!((cut.segments, cut.segment_offset(3)), (4, HEAD_BYTES + 3 * MIB));
    }

    #[test]
    fn an_extent_always_holds_a_block() {
        for block in [4096, 128 << 10, BLOCK_MAX] {
            for len in [8 * MIB, GIB, 100 * GIB] {
                let bytes = Geometry::segment_bytes_for(len, block);
                let geometry = Geometry { device: DeviceId(0), segment_bytes: bytes, segments: 4, block_size: block };
                assert!(geometry.extent_bytes() >= block as usize + SECTOR, "{block} {len}");
            }
        }
    }
}
