//! Whose device is this: reading, healing and writing superblocks. Nothing is written to a device that is not blank or ours.

use super::{BlockStoreConfig, OpenError};
use crate::format::geometry::{HEAD_BYTES, SEGMENTS_MIN};
use crate::format::superblock::COPY_OFFSETS;
use crate::format::{FORMAT_VERSION, Geometry, Superblock, SuperblockError};
use crate::ids::{DeviceId, FsId};
use crate::io::{BufferPool, Device, IoError, read_blocking, write_blocking};
use crate::units::SECTOR;

/// A device as its head shows it.
pub(super) enum Head {
    /// All zeros.
    Blank,
    /// Ours, and whether a copy of the superblock is damaged or out of date.
    Ours(Superblock, bool),
}

/// What a device should be.
pub(super) struct Expected<'a> {
    pub(super) fs: FsId,
    pub(super) device: DeviceId,
    pub(super) devices: usize,
    pub(super) config: &'a BlockStoreConfig,
}

/// Why a device is not attached.
pub(super) enum AttachError {
    /// It cannot be read or written now; it may come back.
    Io(IoError),
    /// It is not one for this store.
    Refused(OpenError),
}

impl From<IoError> for AttachError {
    fn from(error: IoError) -> Self {
        AttachError::Io(error)
    }
}

impl From<OpenError> for AttachError {
    fn from(error: OpenError) -> Self {
        AttachError::Refused(error)
    }
}

fn unusable(device: &dyn Device, why: impl Into<String>) -> OpenError {
    OpenError::Unusable { device: device.name().to_owned(), why: why.into() }
}

/// Reads the head of a device and says whose it is.
pub(super) fn read_head(device: &dyn Device, pool: &BufferPool, expected: &Expected) -> Result<Head, AttachError> {
    if device.len() < HEAD_BYTES {
        return Err(unusable(device, format!("too small for a cache: {} bytes", device.len())).into());
    }
    let head = read_blocking(device, pool, 0, HEAD_BYTES as usize)?;
    if head.iter().all(|byte| *byte == 0) {
        return Ok(Head::Blank);
    }
    let copies = COPY_OFFSETS.map(|offset| Superblock::decode(&head[offset as usize..][..SECTOR]));
    let newer = copies.iter().find_map(|copy| match copy {
        Err(SuperblockError::Newer(version)) => Some(*version),
        _ => None,
    });
    if let Some(found) = newer {
        return Err(OpenError::NewerFormat { device: device.name().to_owned(), found, supported: FORMAT_VERSION }.into());
    }
    let Some(superblock) = copies.iter().find_map(|copy| copy.as_ref().ok()).copied() else {
        return Err(unusable(device, why_not(&copies)).into());
    };
    accept(device, &superblock, expected)?;
    Ok(Head::Ours(superblock, copies.iter().any(|copy| *copy != Ok(superblock))))
}

fn why_not(copies: &[Result<Superblock, SuperblockError>; 2]) -> String {
    let ours = copies
        .iter()
        .any(|copy| matches!(copy, Err(SuperblockError::Format(error)) if *error != crate::format::FormatError::Magic));
    if ours {
        "both copies of its superblock are damaged; remove the file to start with an empty cache".to_owned()
    } else {
        "it is not empty and not a Forebay cache; nothing was written to it".to_owned()
    }
}

fn accept(device: &dyn Device, found: &Superblock, expected: &Expected) -> Result<(), OpenError> {
    if found.fs != expected.fs {
        let device = device.name().to_owned();
        return Err(OpenError::OtherFileSystem { device, found: found.fs, expected: expected.fs });
    }
    if found.device != expected.device {
        let why = format!(
            "it is {} of this cache, not {}; give the cache directories in the order they were first given in",
            found.device, expected.device
        );
        return Err(unusable(device, why));
    }
    if found.block_size != expected.config.block_size {
        let why = format!("it was formatted for blocks of {} bytes, not {}", found.block_size, expected.config.block_size);
        return Err(unusable(device, why));
    }
    Ok(())
}

/// How a device is (or is to be) cut.
pub(super) fn geometry(device: &dyn Device, head: &Head, expected: &Expected) -> Result<Geometry, OpenError> {
    let segment_bytes = match head {
        Head::Ours(superblock, _) => superblock.segment_bytes,
        Head::Blank => default_segment_bytes(device, expected.config),
    };
    cut(device, segment_bytes, expected)
}

/// The cut of a device whose superblock cannot be read now.
pub(super) fn guess_geometry(device: &dyn Device, expected: &Expected) -> Result<Geometry, OpenError> {
    cut(device, default_segment_bytes(device, expected.config), expected)
}

fn default_segment_bytes(device: &dyn Device, config: &BlockStoreConfig) -> u64 {
    config.segment_bytes.unwrap_or_else(|| Geometry::segment_bytes_for(device.len(), config.block_size))
}

fn cut(device: &dyn Device, segment_bytes: u64, expected: &Expected) -> Result<Geometry, OpenError> {
    Geometry::cut(expected.device, device.len(), segment_bytes, expected.config.block_size).ok_or_else(|| {
        let least = HEAD_BYTES + SEGMENTS_MIN * segment_bytes;
        unusable(device, format!("{} bytes are too few for a cache; it takes at least {least}", device.len()))
    })
}

/// Brings both superblock copies up to date where they are not, and makes sure that there is space to begin with.
pub(super) fn settle(
    device: &dyn Device,
    pool: &BufferPool,
    head: &Head,
    geometry: &Geometry,
    expected: &Expected,
) -> Result<(), AttachError> {
    let superblock = Superblock {
        fs: expected.fs,
        device: expected.device,
        devices: expected.devices as u16,
        block_size: expected.config.block_size,
        segment_bytes: geometry.segment_bytes,
        capacity: geometry.segment_offset(geometry.segments),
    };
    let first = geometry.segment_offset(SEGMENTS_MIN as u32);
    device.allocate(0, first).map_err(|error| unusable(device, format!("there is no space for a cache: {error}")))?;
    if matches!(head, Head::Ours(found, false) if *found == superblock) {
        return Ok(());
    }
    for offset in COPY_OFFSETS {
        let mut sector = pool.alloc(SECTOR);
        sector.copy_from_slice(&superblock.encode());
        write_blocking(device, offset, sector)?;
        // One copy is always whole.
        device.flush()?;
    }
    Ok(())
}
