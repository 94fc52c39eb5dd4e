//! The superblock: whose device this is and how it is cut. Two copies, in sector 0 and sector 8 of the device.

use super::{FORMAT_VERSION, FormatError, geometry, get_u16, get_u32, get_u64, open_sector, put_u32, put_u64, seal_sector};
use crate::ids::{DeviceId, FsId};
use crate::units::SECTOR;

const MAGIC: &[u8; 4] = b"FBSB";

/// Byte offsets of the copies on the device, far enough apart that one torn or misdirected write does not hit both.
pub const COPY_OFFSETS: [u64; 2] = [0, 8 * SECTOR as u64];

/// What a device says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The file system it belongs to.
    pub fs: FsId,
    /// Its place in the array.
    pub device: DeviceId,
    /// Devices in the array when this was written; information only.
    pub devices: u16,
    /// Largest plain block in bytes.
    pub block_size: u32,
    /// Bytes per segment.
    pub segment_bytes: u64,
    /// Bytes of the device in use, head included.
    pub capacity: u64,
}

/// Why a sector is not a superblock of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// Nothing was ever written here.
    #[error("blank")]
    Blank,
    /// Written by a later version, whose layout is unknown here.
    #[error("format version {0}")]
    Newer(u32),
    /// Not a superblock, or a damaged one.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl Superblock {
    /// One sector.
    pub fn encode(&self) -> [u8; SECTOR] {
        let mut out = [0; SECTOR];
        put_u32(&mut out, 8, FORMAT_VERSION);
        put_u32(&mut out, 12, SECTOR as u32);
        out[16..32].copy_from_slice(&self.fs.0);
        out[32] = self.device.0;
        out[34..36].copy_from_slice(&self.devices.to_le_bytes());
        put_u32(&mut out, 36, self.block_size);
        put_u64(&mut out, 40, self.segment_bytes);
        put_u64(&mut out, 48, self.capacity);
        seal_sector(&mut out, MAGIC);
        out
    }

    /// Reads a sector. Magic, checksum and version stand where they do in every version, so a newer one is told from damage.
    pub fn decode(sector: &[u8]) -> Result<Self, SuperblockError> {
        if sector.len() >= SECTOR && sector[..SECTOR].iter().all(|byte| *byte == 0) {
            return Err(SuperblockError::Blank);
        }
        open_sector(sector, MAGIC)?;
        let version = get_u32(sector, 8);
        if version > FORMAT_VERSION {
            return Err(SuperblockError::Newer(version));
        }
        if version == 0 || get_u32(sector, 12) != SECTOR as u32 {
            return Err(FormatError::Field("version").into());
        }
        let superblock = Superblock {
            fs: FsId(sector[16..32].try_into().expect("16 bytes")),
            device: DeviceId(sector[32]),
            devices: get_u16(sector, 34),
            block_size: get_u32(sector, 36),
            segment_bytes: get_u64(sector, 40),
            capacity: get_u64(sector, 48),
        };
        superblock.validate()?;
        Ok(superblock)
    }

    fn validate(&self) -> Result<(), FormatError> {
        if self.block_size == 0 || self.block_size > geometry::BLOCK_MAX || !(self.block_size as usize).is_multiple_of(SECTOR) {
            return Err(FormatError::Field("block_size"));
        }
        let segment_fits = (geometry::SEGMENT_MIN..=geometry::SEGMENT_MAX).contains(&self.segment_bytes)
            && self.segment_bytes.is_power_of_two()
            && self.segment_bytes >= 8 * u64::from(self.block_size);
        if !segment_fits {
            return Err(FormatError::Field("segment_bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Superblock {
        Superblock {
            fs: FsId([7; 16]),
            device: DeviceId(2),
            devices: 3,
            block_size: 128 << 10,
            segment_bytes: 64 << 20,
            capacity: 10 << 30,
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = sample().encode();
        assert_eq!(&bytes[..4], b"FBSB");
        assert_eq!(bytes[4..8], crc32c::crc32c(&bytes[8..]).to_le_bytes());
        assert_eq!(bytes[8..16], [1, 0, 0, 0, 0, 16, 0, 0]);
        assert_eq!(bytes[16..32], [7; 16]);
        assert_eq!(bytes[32..40], [2, 0, 3, 0, 0, 0, 2, 0]);
        assert_eq!(bytes[40..56], [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 128, 2, 0, 0, 0]);
        assert!(bytes[56..].iter().all(|byte| *byte == 0));
        assert_eq!(Superblock::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn blank_newer_and_damaged_are_told_apart() {
        assert_eq!(Superblock::decode(&[0; SECTOR]), Err(SuperblockError::Blank));
        let mut newer = sample().encode();
        newer[8] = 2;
        seal_sector(&mut newer, MAGIC);
        assert_eq!(Superblock::decode(&newer), Err(SuperblockError::Newer(2)));
        let mut damaged = sample().encode();
        damaged[4000] ^= 1;
        assert_eq!(Superblock::decode(&damaged), Err(FormatError::Checksum.into()));
        assert_eq!(Superblock::decode(&[1; SECTOR]), Err(FormatError::Magic.into()));
    }

    proptest! {
        #[test]
        fn any_sector_decodes_or_is_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..SECTOR + 8), reseal in any::<bool>()) {
            if reseal && bytes.len() >= 80 {
                bytes.resize(SECTOR, 0);
                seal_sector(&mut bytes, MAGIC);
            }
            if let Ok(superblock) = Superblock::decode(&bytes) {
                prop_assert!(superblock.block_size <= geometry::BLOCK_MAX);
            }
        }
    }
}
