//! Every byte on disk: what the block store writes to a device (superblock, segment header, extent header, footer), and the
//! rows of the metadata engine in [`rows`]. Keys of objects are [`located`]. What a snapshot is in a bucket is in [`manifest`]. Access control lists ([`acl`]) are values of extended attributes.
//! What a [`digest`] of a tree is of is written here as well.
//!
//! All integers are little-endian. Each structure starts with a four-byte magic and a CRC-32C of every byte that follows
//! the checksum, and carries the file system's id and (below the superblock) the sequence number of the segment it was
//! written for, so that what an earlier use of the same space left behind is never taken for current. Encoding and
//! decoding are pure, and decoders are total: any input gives a value or a [`FormatError`]. `docs/format.md` has the
//! diagrams.

pub mod acl;
pub mod digest;
pub mod extent;
pub mod geometry;
pub mod located;
pub mod manifest;
pub mod rows;
pub mod segment;
pub mod superblock;
pub mod text;

pub use extent::{Encoding, ExtentBuilder, ExtentHeader, FrameHeader, FrameSpec};
pub use geometry::Geometry;
pub use segment::{Footer, FooterTrailer, FrameSummary, SegmentClass, SegmentHeader};
pub use superblock::{Superblock, SuperblockError};

use crate::units::SECTOR;

/// The newest format this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// Positions inside a segment are counted in units of this many bytes.
pub const GRAIN: usize = 16;

/// Why bytes are not the structure they were taken for. None of these is a device error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Fewer bytes than the structure has.
    #[error("too short")]
    Short,
    /// Something else is here.
    #[error("magic number missing")]
    Magic,
    /// Torn or damaged.
    #[error("checksum mismatch")]
    Checksum,
    /// Intact, but of another file system, device, segment use or place.
    #[error("belongs to another place or an earlier use of it")]
    Foreign,
    /// Intact, but its fields contradict each other.
    #[error("field '{0}' is out of range")]
    Field(&'static str),
}

/// Where a structure below the superblock must be from; compared on decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The file system.
    pub fs: crate::ids::FsId,
    /// The device.
    pub device: crate::ids::DeviceId,
    /// The segment's number on the device.
    pub segment: u32,
    /// The segment's sequence number: how many segments the store had opened when this one was.
    pub seq: u64,
}

/// Bytes of a [`Stamp`] on disk.
pub(crate) const STAMP_LEN: usize = 32;

impl Stamp {
    pub(crate) fn put(&self, out: &mut [u8]) {
        out[..16].copy_from_slice(&self.fs.0);
        out[16..24].copy_from_slice(&self.seq.to_le_bytes());
        out[24..28].copy_from_slice(&self.segment.to_le_bytes());
        out[28] = self.device.0;
        out[29..STAMP_LEN].fill(0);
    }

    pub(crate) fn get(bytes: &[u8]) -> Self {
        Stamp {
            fs: crate::ids::FsId(bytes[..16].try_into().expect("16 bytes")),
            seq: get_u64(bytes, 16),
            segment: get_u32(bytes, 24),
            device: crate::ids::DeviceId(bytes[28]),
        }
    }
}

pub(crate) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Writes magic and checksum into a finished sector.
pub(crate) fn seal_sector(sector: &mut [u8], magic: &[u8; 4]) {
    debug_assert_eq!(sector.len(), SECTOR);
    sector[..4].copy_from_slice(magic);
    let crc = crc32c::crc32c(&sector[8..]);
    put_u32(sector, 4, crc);
}

/// Checks length, magic and checksum of a sector.
pub(crate) fn open_sector(sector: &[u8], magic: &[u8; 4]) -> Result<(), FormatError> {
    if sector.len() < SECTOR {
        return Err(FormatError::Short);
    }
    if &sector[..4] != magic {
        return Err(FormatError::Magic);
    }
    if get_u32(sector, 4) != crc32c::crc32c(&sector[8..SECTOR]) {
        return Err(FormatError::Checksum);
    }
    Ok(())
}
