//! A segment's header (its first sector) and its footer (the table of its frames, at its end).
//!
//! The footer is a checkpoint: it names every frame up to its `end`. A sealed segment holds nothing after that; in another
//! one, extents may follow and are found by scanning on from `end`.

use super::{FormatError, GRAIN, STAMP_LEN, Stamp, get_u32, get_u64, open_sector, put_u32, put_u64, seal_sector};
use crate::units::{SECTOR, sector_up};

const HEADER_MAGIC: &[u8; 4] = b"FBSG";
const FOOTER_MAGIC: &[u8; 4] = b"FBFT";
const AT_STAMP: usize = 8;
const AT_BODY: usize = AT_STAMP + STAMP_LEN;
const SEALED: u8 = 1;

/// Which queue of the reclaim order a segment is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SegmentClass {
    /// New fills, of which most are never read again.
    Probation = 0,
    /// Frames that have been read while on probation, or soon after they were dropped.
    Main = 1,
}

impl SegmentClass {
    /// Both classes.
    pub const ALL: [SegmentClass; 2] = [SegmentClass::Probation, SegmentClass::Main];

    fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            0 => Ok(SegmentClass::Probation),
            1 => Ok(SegmentClass::Main),
            _ => Err(FormatError::Field("class")),
        }
    }
}

/// The first sector of a segment in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Where this is and which use of the segment.
    pub stamp: Stamp,
    /// Its reclaim class.
    pub class: SegmentClass,
}

impl SegmentHeader {
    /// Writes one sector.
    pub fn encode_into(&self, sector: &mut [u8]) {
        sector.fill(0);
        self.stamp.put(&mut sector[AT_STAMP..]);
        sector[AT_BODY] = self.class as u8;
        seal_sector(sector, HEADER_MAGIC);
    }

    /// Reads one sector. The caller compares the stamp's place with where it read.
    pub fn decode(sector: &[u8]) -> Result<Self, FormatError> {
        open_sector(sector, HEADER_MAGIC)?;
        let stamp = Stamp::get(&sector[AT_STAMP..]);
        Ok(SegmentHeader { stamp, class: SegmentClass::from_byte(sector[AT_BODY])? })
    }
}

/// One frame as the footer (and the in-memory index) knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSummary {
    /// First eight bytes of the block's identity.
    pub fingerprint: u64,
    /// Position of the frame in its segment, in units of [`GRAIN`].
    pub grain: u32,
    /// Sectors from the extent header to the sector the frame starts in; 1 to 1023.
    pub header_distance: u16,
    /// Bytes on the device.
    pub stored_len: u32,
    /// Bytes of the block.
    pub plain_len: u32,
    /// Exists nowhere else: never dropped.
    pub local_only: bool,
    /// The second copy of its block.
    pub second: bool,
}

const ENTRY_LEN: usize = 20;
const GRAIN_BITS: u32 = 22;
const LOCAL_BIT: u32 = 1 << 31;
const SECOND_BIT: u32 = 1 << 30;

impl FrameSummary {
    /// Sector of the segment in which the frame starts.
    pub fn sector(&self) -> u32 {
        (self.grain as usize * GRAIN / SECTOR) as u32
    }

    /// Sector of the segment that holds the frame's extent header.
    pub fn header_sector(&self) -> u32 {
        self.sector() - u32::from(self.header_distance)
    }

    /// Whether the frame is LZ4; raw frames are as long as their block.
    pub fn is_compressed(&self) -> bool {
        self.stored_len < self.plain_len
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        out.extend_from_slice(&(self.grain | u32::from(self.header_distance) << GRAIN_BITS).to_le_bytes());
        let local = if self.local_only { LOCAL_BIT } else { 0 };
        let second = if self.second { SECOND_BIT } else { 0 };
        out.extend_from_slice(&(self.stored_len | local | second).to_le_bytes());
        out.extend_from_slice(&self.plain_len.to_le_bytes());
    }

    fn get(bytes: &[u8], segment_sectors: u32) -> Result<Self, FormatError> {
        let place = get_u32(bytes, 8);
        let lens = get_u32(bytes, 12);
        let frame = FrameSummary {
            fingerprint: get_u64(bytes, 0),
            grain: place & ((1 << GRAIN_BITS) - 1),
            header_distance: (place >> GRAIN_BITS) as u16,
            stored_len: lens & !(LOCAL_BIT | SECOND_BIT),
            plain_len: get_u32(bytes, 16),
            local_only: lens & LOCAL_BIT != 0,
            second: lens & SECOND_BIT != 0,
        };
        frame.validate(segment_sectors)?;
        Ok(frame)
    }

    fn validate(&self, segment_sectors: u32) -> Result<(), FormatError> {
        let max = super::geometry::BLOCK_MAX;
        if self.stored_len == 0 || self.plain_len > max || self.stored_len > self.plain_len {
            return Err(FormatError::Field("frame length"));
        }
        if self.header_distance == 0 || u32::from(self.header_distance) >= self.sector() {
            return Err(FormatError::Field("frame header"));
        }
        let end = self.grain as usize * GRAIN + self.stored_len as usize;
        if end > segment_sectors as usize * SECTOR {
            return Err(FormatError::Field("frame position"));
        }
        Ok(())
    }
}

/// The table at the end of a segment: `[frames, 20 bytes each][zeros to a sector][trailer sector]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Where this is and which use of the segment.
    pub stamp: Stamp,
    /// Nothing follows `end`.
    pub sealed: bool,
    /// First sector of the segment that no frame of the table touches.
    pub end_sector: u32,
    /// The frames.
    pub frames: Vec<FrameSummary>,
}

/// The trailer, before its table has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterTrailer {
    /// Where this is and which use of the segment.
    pub stamp: Stamp,
    sealed: bool,
    end_sector: u32,
    frames: u32,
    table_crc: u32,
}

impl Footer {
    /// Bytes of a footer with this many frames, whole sectors.
    pub fn encoded_len(frames: usize) -> usize {
        sector_up(frames * ENTRY_LEN) + SECTOR
    }

    /// Writes the footer; `out` has exactly [`Footer::encoded_len`] bytes.
    pub fn encode_into(&self, out: &mut [u8]) {
        assert_eq!(out.len(), Self::encoded_len(self.frames.len()), "a footer fills its buffer");
        let mut table = Vec::with_capacity(out.len());
        self.frames.iter().for_each(|frame| frame.put(&mut table));
        let (head, trailer) = out.split_at_mut(out.len() - SECTOR);
        head.fill(0);
        head[..table.len()].copy_from_slice(&table);
        trailer.fill(0);
        self.stamp.put(&mut trailer[AT_STAMP..]);
        trailer[AT_BODY] = if self.sealed { SEALED } else { 0 };
        put_u32(trailer, AT_BODY + 4, self.end_sector);
        put_u32(trailer, AT_BODY + 8, self.frames.len() as u32);
        put_u32(trailer, AT_BODY + 12, crc32c::crc32c(&table));
        put_u64(trailer, AT_BODY + 16, 0);
        seal_sector(trailer, FOOTER_MAGIC);
    }
}

impl FooterTrailer {
    /// Reads the last sector of a segment of `segment_sectors` sectors.
    pub fn decode(sector: &[u8], segment_sectors: u32) -> Result<Self, FormatError> {
        open_sector(sector, FOOTER_MAGIC)?;
        let trailer = FooterTrailer {
            stamp: Stamp::get(&sector[AT_STAMP..]),
            sealed: sector[AT_BODY] & SEALED != 0,
            end_sector: get_u32(sector, AT_BODY + 4),
            frames: get_u32(sector, AT_BODY + 8),
            table_crc: get_u32(sector, AT_BODY + 12),
        };
        let table_sectors = (trailer.frames as usize).saturating_mul(ENTRY_LEN).div_ceil(SECTOR) + 1;
        if trailer.end_sector == 0 || trailer.end_sector as usize + table_sectors > segment_sectors as usize {
            return Err(FormatError::Field("footer length"));
        }
        Ok(trailer)
    }

    /// Bytes of table and trailer, which end where the segment ends.
    pub fn footer_len(&self) -> usize {
        Footer::encoded_len(self.frames as usize)
    }

    /// Reads the table; `bytes` are the last [`FooterTrailer::footer_len`] bytes of the segment.
    pub fn decode_table(&self, bytes: &[u8], segment_sectors: u32) -> Result<Footer, FormatError> {
        let table = bytes.get(..self.frames as usize * ENTRY_LEN).ok_or(FormatError::Short)?;
        if crc32c::crc32c(table) != self.table_crc {
            return Err(FormatError::Checksum);
        }
        let frames = table.chunks_exact(ENTRY_LEN).map(|entry| FrameSummary::get(entry, segment_sectors));
        let frames = frames.collect::<Result<Vec<_>, _>>()?;
        Ok(Footer { stamp: self.stamp, sealed: self.sealed, end_sector: self.end_sector, frames })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DeviceId, FsId};
    use proptest::prelude::*;

    fn stamp() -> Stamp {
        Stamp { fs: FsId([3; 16]), device: DeviceId(1), segment: 5, seq: 0x0102 }
    }

    fn frame() -> FrameSummary {
        FrameSummary {
            fingerprint: 0x1122334455667788,
            grain: 512,
            header_distance: 1,
            stored_len: 4096,
            plain_len: 131072,
            local_only: false,
            second: false,
        }
    }

    #[test]
    fn header_golden_bytes() {
        let mut bytes = [0xff; SECTOR];
        let header = SegmentHeader { stamp: stamp(), class: SegmentClass::Main };
        header.encode_into(&mut bytes);
        assert_eq!(&bytes[..4], b"FBSG");
        assert_eq!(bytes[8..24], [3; 16]);
        assert_eq!(bytes[24..44], [2, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    }

    #[test]
    fn footer_golden_bytes() {
        let footer = Footer { stamp: stamp(), sealed: true, end_sector: 40, frames: vec![frame()] };
        let mut bytes = vec![0xff; Footer::encoded_len(1)];
        footer.encode_into(&mut bytes);
        assert_eq!(bytes.len(), 2 * SECTOR);
        let entry = [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 2, 64, 0, 0, 16, 0, 0, 0, 0, 2, 0];
        assert_eq!(bytes[..ENTRY_LEN], entry);
        let trailer = &bytes[SECTOR..];
        assert_eq!(&trailer[..4], b"FBFT");
        assert_eq!(trailer[40..52], [1, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(trailer[52..56], crc32c::crc32c(&entry).to_le_bytes());
        let decoded = FooterTrailer::decode(trailer, 256).and_then(|trailer| trailer.decode_table(&bytes, 256));
        assert_eq!(decoded, Ok(footer));
    }

    #[test]
    fn flags_are_the_highest_bits_of_the_stored_length() {
        for (local_only, second, byte) in [(false, false, 0), (true, false, 0x80), (false, true, 0x40), (true, true, 0xc0)] {
            let frame = FrameSummary { local_only, second, ..frame() };
            let mut entry = Vec::new();
            frame.put(&mut entry);
            assert_eq!(entry[12..16], [0, 16, 0, byte]);
            assert_eq!(FrameSummary::get(&entry, 256), Ok(frame));
        }
    }

    #[test]
    fn a_flipped_table_bit_is_seen() {
        let footer = Footer { stamp: stamp(), sealed: true, end_sector: 40, frames: vec![frame(); 3] };
        let mut bytes = vec![0; Footer::encoded_len(3)];
        footer.encode_into(&mut bytes);
        bytes[25] ^= 4;
        let trailer = FooterTrailer::decode(&bytes[SECTOR..], 256).expect("the trailer is intact");
        assert_eq!(trailer.decode_table(&bytes, 256), Err(FormatError::Checksum));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 3 * SECTOR), count in 0u32..500) {
            put_u32(&mut bytes[2 * SECTOR..], AT_BODY + 8, count);
            let crc = crc32c::crc32c(bytes.get(..count as usize * ENTRY_LEN).unwrap_or(&[]));
            put_u32(&mut bytes[2 * SECTOR..], AT_BODY + 12, crc);
            put_u32(&mut bytes[2 * SECTOR..], AT_BODY + 4, 1);
            seal_sector(&mut bytes[2 * SECTOR..], FOOTER_MAGIC);
            let trailer = FooterTrailer::decode(&bytes[2 * SECTOR..], 256);
            if let Ok(footer) = trailer.and_then(|trailer| trailer.decode_table(&bytes, 256)) {
                prop_assert!(footer.frames.iter().all(|frame| frame.header_sector() >= 1));
            }
            seal_sector(&mut bytes[..SECTOR], HEADER_MAGIC);
            let _ = SegmentHeader::decode(&bytes[..SECTOR]);
        }
    }
}
