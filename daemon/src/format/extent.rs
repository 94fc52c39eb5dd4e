//! An extent: one aligned write of frames behind one header sector that describes them all.
//!
//! The header is self-contained (own checksum, own stamp), so that one 4 KiB read is enough to verify any frame behind it,
//! and it carries the extent's length, so that extents form a chain which a scan can follow.
//!
//! Placement of frames, in units of [`GRAIN`]: a raw frame of a sector or more starts on a sector, so that a part of
//! it can be read straight into place; a frame shorter than a sector does not cross a sector boundary; a longer LZ4 frame, which is
//! always read whole, starts anywhere.

use super::{FormatError, FrameSummary, GRAIN, STAMP_LEN, Stamp, geometry, get_u16, get_u32, open_sector, put_u32, seal_sector};
use crate::ids::BlockId;
use crate::units::{SECTOR, sector_up};

const MAGIC: &[u8; 4] = b"FBEX";
const AT_STAMP: usize = 8;
const AT_SECTOR: usize = AT_STAMP + STAMP_LEN;
const AT_ENTRIES: usize = AT_SECTOR + 12;
const ENTRY_FIXED: usize = 48;
const LOCAL_ONLY: u8 = 1;
const SECOND: u8 = 2;

/// How a frame holds its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// The plain bytes, with a CRC-32C for each 4 KiB of them.
    Raw = 0,
    /// An LZ4 block, with one CRC-32C of its bytes.
    Lz4 = 1,
}

impl Encoding {
    /// How many checksums a frame of `stored_len` bytes has.
    pub fn checksums(self, stored_len: usize) -> usize {
        match self {
            Encoding::Raw => stored_len.div_ceil(SECTOR),
            Encoding::Lz4 => 1,
        }
    }
}

/// One frame, as its extent's header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whose bytes.
    pub id: BlockId,
    /// Position in the extent, in units of [`GRAIN`].
    pub grain: u32,
    /// Bytes on the device.
    pub stored_len: u32,
    /// Bytes of the block.
    pub plain_len: u32,
    /// How they are stored.
    pub encoding: Encoding,
    /// Exists nowhere else: never dropped.
    pub local_only: bool,
    /// The second copy of its block.
    pub second: bool,
    checks_at: u16,
}

/// A decoded extent header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentHeader {
    /// Where this is and which use of the segment.
    pub stamp: Stamp,
    /// The header's sector within its segment.
    pub sector: u32,
    /// Sectors of the extent, this one included.
    pub sectors: u32,
    /// The frames in order of position.
    pub frames: Vec<FrameHeader>,
    checks: Vec<u32>,
}

impl ExtentHeader {
    /// Reads one sector. The caller compares stamp and sector with where it read.
    pub fn decode(sector: &[u8]) -> Result<Self, FormatError> {
        open_sector(sector, MAGIC)?;
        let count = get_u16(sector, AT_SECTOR + 8) as usize;
        let mut header = ExtentHeader {
            stamp: Stamp::get(&sector[AT_STAMP..]),
            sector: get_u32(sector, AT_SECTOR),
            sectors: get_u32(sector, AT_SECTOR + 4),
            frames: Vec::with_capacity(count.min(SECTOR / ENTRY_FIXED)),
            checks: Vec::new(),
        };
        if header.sectors < 2 || header.sectors as usize * SECTOR > geometry::EXTENT_MAX as usize {
            return Err(FormatError::Field("extent length"));
        }
        let mut at = AT_ENTRIES;
        for _ in 0..count {
            at = header.decode_entry(sector, at)?;
        }
        Ok(header)
    }

    fn decode_entry(&mut self, sector: &[u8], at: usize) -> Result<usize, FormatError> {
        let entry =
            sector.get(at..at + ENTRY_FIXED).filter(|_| at + ENTRY_FIXED <= SECTOR).ok_or(FormatError::Field("frames"))?;
        let encoding = match entry[44] {
            0 => Encoding::Raw,
            1 => Encoding::Lz4,
            _ => return Err(FormatError::Field("encoding")),
        };
        let frame = FrameHeader {
            id: BlockId(entry[..32].try_into().expect("32 bytes")),
            grain: get_u32(entry, 32),
            stored_len: get_u32(entry, 36),
            plain_len: get_u32(entry, 40),
            encoding,
            local_only: entry[45] & LOCAL_ONLY != 0,
            second: entry[45] & SECOND != 0,
            checks_at: self.checks.len() as u16,
        };
        frame.validate(self.sectors)?;
        let checks = get_u16(entry, 46) as usize;
        let end = at + ENTRY_FIXED + 4 * checks;
        if checks != encoding.checksums(frame.stored_len as usize) || end > SECTOR {
            return Err(FormatError::Field("checksums"));
        }
        self.checks.extend(sector[at + ENTRY_FIXED..end].chunks_exact(4).map(|bytes| get_u32(bytes, 0)));
        self.frames.push(frame);
        Ok(end)
    }

    /// The frame that starts at a position of the segment (in units of [`GRAIN`]), if any does.
    pub fn frame_at(&self, segment_grain: u32) -> Option<&FrameHeader> {
        let base = self.sector * (SECTOR / GRAIN) as u32;
        let grain = segment_grain.checked_sub(base)?;
        let at = self.frames.binary_search_by_key(&grain, |frame| frame.grain).ok()?;
        Some(&self.frames[at])
    }

    /// Checks stored bytes of a frame: `bytes` begin at byte `from` of the frame, a whole number of sectors into it, and
    /// end on a sector or with the frame.
    pub fn verify(&self, frame: &FrameHeader, from: usize, bytes: &[u8]) -> bool {
        let checks = &self.checks[frame.checks_at as usize..][..frame.encoding.checksums(frame.stored_len as usize)];
        match frame.encoding {
            Encoding::Lz4 => from == 0 && bytes.len() == frame.stored_len as usize && crc32c::crc32c(bytes) == checks[0],
            Encoding::Raw => {
                let Some(checks) = checks.get(from / SECTOR..) else { return false };
                let whole = bytes.len().is_multiple_of(SECTOR) || from + bytes.len() == frame.stored_len as usize;
                from.is_multiple_of(SECTOR)
                    && whole
                    && bytes.len().div_ceil(SECTOR) <= checks.len()
                    && bytes.chunks(SECTOR).zip(checks).all(|(piece, check)| crc32c::crc32c(piece) == *check)
            }
        }
    }

    /// The checksums of a frame, as they were written.
    pub fn checksums(&self, frame: &FrameHeader) -> &[u32] {
        &self.checks[frame.checks_at as usize..][..frame.encoding.checksums(frame.stored_len as usize)]
    }

    /// The frames as the footer has them.
    pub fn summaries(&self) -> impl Iterator<Item = FrameSummary> {
        self.frames.iter().map(|frame| frame.summary(self.sector))
    }

    /// Memory this takes, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.frames.capacity() * size_of::<FrameHeader>() + self.checks.capacity() * 4
    }
}

impl FrameHeader {
    /// Byte offset in the extent.
    pub fn offset(&self) -> usize {
        self.grain as usize * GRAIN
    }

    /// The frame as the footer has it, given the sector of its extent's header.
    pub fn summary(&self, header_sector: u32) -> FrameSummary {
        let grain = header_sector * (SECTOR / GRAIN) as u32 + self.grain;
        FrameSummary {
            fingerprint: self.id.fingerprint(),
            grain,
            header_distance: (self.offset() / SECTOR) as u16,
            stored_len: self.stored_len,
            plain_len: self.plain_len,
            local_only: self.local_only,
            second: self.second,
        }
    }

    fn validate(&self, sectors: u32) -> Result<(), FormatError> {
        let lens_agree = match self.encoding {
            Encoding::Raw => self.stored_len == self.plain_len,
            Encoding::Lz4 => self.stored_len < self.plain_len,
        };
        if !lens_agree || self.stored_len == 0 || self.plain_len > geometry::BLOCK_MAX {
            return Err(FormatError::Field("frame length"));
        }
        let start = (self.grain as usize).saturating_mul(GRAIN);
        if start < SECTOR || start.saturating_add(self.stored_len as usize) > sectors as usize * SECTOR {
            return Err(FormatError::Field("frame position"));
        }
        Ok(())
    }
}

/// A frame to be added to an extent.
#[derive(Clone, Copy, Debug)]
pub struct FrameSpec<'a> {
    /// Whose bytes.
    pub id: BlockId,
    /// How they are stored.
    pub encoding: Encoding,
    /// Bytes on the device.
    pub stored_len: u32,
    /// Bytes of the block.
    pub plain_len: u32,
    /// Exists nowhere else.
    pub local_only: bool,
    /// The second copy of its block.
    pub second: bool,
    /// Its checksums.
    pub checks: &'a [u32],
}

impl FrameSpec<'_> {
    /// Bytes this takes in the header sector.
    fn entry_len(&self) -> usize {
        ENTRY_FIXED + 4 * self.checks.len()
    }
}

/// Lays out an extent as frames come in. Knows positions and the header; the caller has the bytes.
#[derive(Clone, Debug)]
pub struct ExtentBuilder {
    limit_bytes: usize,
    end: usize,
    entries_len: usize,
    frames: Vec<FrameHeader>,
    checks: Vec<u32>,
}

impl ExtentBuilder {
    /// An empty extent that may grow to `limit_bytes`, header included.
    pub fn new(limit_bytes: usize) -> Self {
        let limit_bytes = limit_bytes.min(geometry::EXTENT_MAX as usize);
        ExtentBuilder { limit_bytes, end: SECTOR, entries_len: 0, frames: Vec::new(), checks: Vec::new() }
    }

    /// Adds a frame and returns the byte offset in the extent at which its bytes belong, or `None` if the extent is full.
    pub fn push(&mut self, spec: &FrameSpec) -> Option<usize> {
        assert_eq!(
            spec.checks.len(),
            spec.encoding.checksums(spec.stored_len as usize),
            "one checksum per sector of a raw frame"
        );
        let offset = self.offset_for(spec.encoding, spec.stored_len as usize);
        let end = offset + spec.stored_len as usize;
        if sector_up(end) > self.limit_bytes || AT_ENTRIES + self.entries_len + spec.entry_len() > SECTOR {
            return None;
        }
        self.frames.push(FrameHeader {
            id: spec.id,
            grain: (offset / GRAIN) as u32,
            stored_len: spec.stored_len,
            plain_len: spec.plain_len,
            encoding: spec.encoding,
            local_only: spec.local_only,
            second: spec.second,
            checks_at: self.checks.len() as u16,
        });
        self.checks.extend_from_slice(spec.checks);
        self.entries_len += spec.entry_len();
        self.end = end;
        Some(offset)
    }

    fn offset_for(&self, encoding: Encoding, len: usize) -> usize {
        let free = self.end.next_multiple_of(GRAIN);
        let crosses = free % SECTOR + len > SECTOR;
        let must_align = crosses && (encoding == Encoding::Raw || len <= SECTOR);
        if must_align || (encoding == Encoding::Raw && len >= SECTOR) { sector_up(free) } else { free }
    }

    /// Bytes it may grow to.
    pub fn limit(&self) -> usize {
        self.limit_bytes
    }

    /// First byte behind the last frame.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Frames so far.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The finished header, for an extent written at `sector` of the segment that `stamp` names.
    pub fn finish(self, stamp: Stamp, sector: u32) -> ExtentHeader {
        let sectors = (sector_up(self.end) / SECTOR) as u32;
        ExtentHeader { stamp, sector, sectors, frames: self.frames, checks: self.checks }
    }
}

impl ExtentHeader {
    /// Writes the header sector.
    pub fn encode_into(&self, out: &mut [u8]) {
        out.fill(0);
        self.stamp.put(&mut out[AT_STAMP..]);
        put_u32(out, AT_SECTOR, self.sector);
        put_u32(out, AT_SECTOR + 4, self.sectors);
        put_u32(out, AT_SECTOR + 8, self.frames.len() as u32);
        let mut at = AT_ENTRIES;
        for frame in &self.frames {
            at = self.encode_entry(frame, out, at);
        }
        seal_sector(out, MAGIC);
    }

    fn encode_entry(&self, frame: &FrameHeader, out: &mut [u8], at: usize) -> usize {
        let checks = self.checksums(frame);
        let entry = &mut out[at..at + ENTRY_FIXED + 4 * checks.len()];
        entry[..32].copy_from_slice(&frame.id.0);
        put_u32(entry, 32, frame.grain);
        put_u32(entry, 36, frame.stored_len);
        put_u32(entry, 40, frame.plain_len);
        entry[44] = frame.encoding as u8;
        entry[45] = if frame.local_only { LOCAL_ONLY } else { 0 } | if frame.second { SECOND } else { 0 };
        entry[46..48].copy_from_slice(&(checks.len() as u16).to_le_bytes());
        for (bytes, check) in entry[ENTRY_FIXED..].chunks_exact_mut(4).zip(checks) {
            bytes.copy_from_slice(&check.to_le_bytes());
        }
        at + entry.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DeviceId, FsId};
    use proptest::prelude::*;

    fn stamp() -> Stamp {
        Stamp { fs: FsId([3; 16]), device: DeviceId(1), segment: 5, seq: 9 }
    }

    fn spec(encoding: Encoding, stored_len: u32, plain_len: u32, checks: &[u32]) -> FrameSpec<'_> {
        FrameSpec { id: BlockId([0xab; 32]), encoding, stored_len, plain_len, local_only: false, second: false, checks }
    }

    #[test]
    fn golden_bytes() {
        let mut builder = ExtentBuilder::new(1 << 20);
        assert_eq!(builder.push(&spec(Encoding::Raw, 5000, 5000, &[1, 2])), Some(SECTOR));
        assert_eq!(builder.push(&spec(Encoding::Lz4, 5000, 20000, &[3])), Some(SECTOR + 5008));
        let header = builder.finish(stamp(), 7);
        let mut bytes = [0xff; SECTOR];
        header.encode_into(&mut bytes);
        assert_eq!(&bytes[..4], b"FBEX");
        assert_eq!(bytes[24..37], [9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1]);
        assert_eq!(bytes[40..52], [7, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[52..84], [0xab; 32]);
        assert_eq!(bytes[84..108], [0, 1, 0, 0, 0x88, 0x13, 0, 0, 0x88, 0x13, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[140..160], [0x39, 2, 0, 0, 0x88, 0x13, 0, 0, 0x20, 0x4e, 0, 0, 1, 0, 1, 0, 3, 0, 0, 0]);
        assert!(bytes[160..].iter().all(|byte| *byte == 0));
        assert_eq!(ExtentHeader::decode(&bytes), Ok(header));
    }

    #[test]
    fn flags_of_a_frame_are_bits_of_one_byte() {
        for (local_only, second, flags) in [(true, false, 1), (false, true, 2), (true, true, 3)] {
            let mut builder = ExtentBuilder::new(1 << 20);
            builder.push(&FrameSpec { local_only, second, ..spec(Encoding::Raw, 16, 16, &[1]) }).expect("it fits");
            let header = builder.finish(stamp(), 1);
            let mut bytes = [0; SECTOR];
            header.encode_into(&mut bytes);
            assert_eq!(bytes[AT_ENTRIES + 45], flags);
            assert_eq!(ExtentHeader::decode(&bytes), Ok(header));
        }
    }

    #[test]
    fn small_frames_share_a_sector_without_crossing_it() {
        let mut builder = ExtentBuilder::new(1 << 20);
        let offsets: Vec<_> = [1000, 1000, 2000, 1000].map(|len| builder.push(&spec(Encoding::Raw, len, len, &[0]))).into();
        assert_eq!(offsets, [Some(4096), Some(5104), Some(6112), Some(8192)]);
    }

    #[test]
    fn an_extent_is_full_by_bytes_and_by_header_space() {
        let mut by_bytes = ExtentBuilder::new(4 * SECTOR);
        assert_eq!(by_bytes.push(&spec(Encoding::Raw, 8192, 8192, &[0, 0])), Some(SECTOR));
        assert_eq!(by_bytes.push(&spec(Encoding::Raw, 8192, 8192, &[0, 0])), None);
        let mut by_header = ExtentBuilder::new(1 << 20);
        let pushed = (0..1000).take_while(|_| by_header.push(&spec(Encoding::Raw, 16, 16, &[0])).is_some()).count();
        assert_eq!(pushed, (SECTOR - AT_ENTRIES) / (ENTRY_FIXED + 4));
    }

    #[test]
    fn verification_covers_whole_sectors_and_the_tail() {
        let plain: Vec<u8> = (0..10_000u32).map(|at| (at ^ at >> 8) as u8).collect();
        let checks: Vec<u32> = plain.chunks(SECTOR).map(crc32c::crc32c).collect();
        let mut builder = ExtentBuilder::new(1 << 20);
        builder.push(&spec(Encoding::Raw, 10_000, 10_000, &checks)).expect("it fits");
        let header = builder.finish(stamp(), 1);
        let frame = header.frames[0];
        assert!(header.verify(&frame, 0, &plain));
        assert!(header.verify(&frame, SECTOR, &plain[SECTOR..2 * SECTOR]));
        assert!(header.verify(&frame, 2 * SECTOR, &plain[2 * SECTOR..]));
        assert!(!header.verify(&frame, SECTOR, &plain[..SECTOR]));
        assert!(!header.verify(&frame, 0, &plain[..100]));
        assert!(!header.verify(&frame, 3 * SECTOR, &plain[..SECTOR]));
    }

    proptest! {
        #[test]
        fn any_sector_decodes_or_is_refused(mut bytes in proptest::collection::vec(any::<u8>(), SECTOR), count in 0u32..90, sane in any::<bool>()) {
            put_u32(&mut bytes, AT_SECTOR + 8, count);
            if sane {
                put_u32(&mut bytes, AT_SECTOR + 4, 100);
                bytes[AT_ENTRIES + 32..AT_ENTRIES + 48].copy_from_slice(&[0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0]);
            }
            seal_sector(&mut bytes, MAGIC);
            if let Ok(header) = ExtentHeader::decode(&bytes) {
                for frame in &header.frames {
                    prop_assert!(frame.offset() + frame.stored_len as usize <= header.sectors as usize * SECTOR);
                    let _ = header.verify(frame, 0, &bytes);
                }
            }
            let _ = ExtentHeader::decode(&bytes[..SECTOR / 2]);
        }

        #[test]
        fn frames_never_overlap_and_survive_the_disk(lens in proptest::collection::vec((1u32..40_000, any::<bool>()), 1..60)) {
            let mut builder = ExtentBuilder::new(2 << 20);
            let mut end = SECTOR;
            for (len, raw) in lens {
                let (encoding, plain) = if raw { (Encoding::Raw, len) } else { (Encoding::Lz4, len + SECTOR as u32) };
                let checks = vec![7; encoding.checksums(len as usize)];
                let Some(offset) = builder.push(&spec(encoding, len, plain, &checks)) else { break };
                prop_assert!(offset >= end && offset % GRAIN == 0);
                prop_assert!(!raw || (len as usize) < SECTOR || offset % SECTOR == 0);
                prop_assert!(len as usize > SECTOR || offset % SECTOR + len as usize <= SECTOR);
                end = offset + len as usize;
            }
            let header = builder.finish(stamp(), 3);
            let mut bytes = [0; SECTOR];
            header.encode_into(&mut bytes);
            prop_assert_eq!(ExtentHeader::decode(&bytes), Ok(header));
        }
    }
}
