//! Content-addressed blocks on an array of devices: hash, dedup, compress, append to segment logs, find, verify, reclaim.

use crate::ids::{BlockId, DeviceId, FsId};
use crate::io::{BufferPool, IoError};
use bytes::Bytes;
use std::sync::Arc;

/// Settings of a block store. `block_size` and `segment_bytes` are fixed when a cache is formatted.
#[derive(Clone, Debug)]
pub struct BlockStoreConfig {
    /// Largest plain block in bytes, a multiple of the sector size.
    pub block_size: u32,
    /// Whether frames may be LZ4.
    pub compress: bool,
    /// Whether a block that is already stored is referenced instead of stored again.
    pub dedup: bool,
    /// Memory for verified frame headers, in bytes.
    pub header_cache_bytes: usize,
    /// Threads that hash and compress.
    pub encoder_threads: usize,
}

/// A range of one block's plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockWant {
    /// Which block.
    pub id: BlockId,
    /// The block's plain length in bytes.
    pub plain_len: u32,
    /// First byte wanted.
    pub start: u32,
    /// Bytes wanted, at least 1.
    pub len: u32,
}

/// Why a block could not be read. The caller fetches it again from its origin where it has one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadFault {
    /// Not stored (never was, reclaimed, or its device is out of service).
    #[error("block {0:?} is not in the cache")]
    Missing(BlockId),
    /// Stored, but what the device returned does not match its checksum. The copy has been dropped from the index.
    #[error("block {id:?} on {device} is corrupt")]
    Corrupt {
        /// Which block.
        id: BlockId,
        /// Where it was.
        device: DeviceId,
    },
    /// The device failed.
    #[error("block {id:?} on {device} could not be read")]
    Io {
        /// Which block.
        id: BlockId,
        /// Where it is.
        device: DeviceId,
        /// The device's answer.
        source: IoError,
    },
}

/// Why a block was not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// No device can take it: all full of what must be kept, or out of service.
    #[error("no space in the cache")]
    NoSpace,
    /// The device failed.
    #[error("block could not be written to {device}")]
    Io {
        /// Where it was to go.
        device: DeviceId,
        /// The device's answer.
        source: IoError,
    },
    /// The store is shutting down.
    #[error("the cache is closing")]
    Closing,
}

/// Called once, from a device or worker thread; may do CPU work in the order of a reply, must not block on I/O.
/// The bytes of all wants, in order, contiguous; or every fault met, with the position of its want.
pub type ReadDone = Box<dyn FnOnce(Result<Bytes, Vec<(usize, ReadFault)>>) + Send>;

/// Called once, from a worker or device thread, when the block can be read back from its device (not yet: durable).
pub type PutDone = Box<dyn FnOnce(Result<BlockId, PutError>) + Send>;

/// What the block store holds and has done.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct BlockStats {
    /// Frames in the index.
    pub blocks: u64,
    /// Plain bytes of those frames.
    pub plain_bytes: u64,
    /// Bytes they take on devices, padding included.
    pub stored_bytes: u64,
    /// Device bytes reserved for segments.
    pub reserved_bytes: u64,
    /// Device bytes in all.
    pub capacity_bytes: u64,
    /// Plain bytes that were put and found already stored, since start.
    pub dedup_bytes: u64,
    /// Frames dropped to make room, since start.
    pub evicted_blocks: u64,
    /// Frames found corrupt, since start.
    pub corrupt_blocks: u64,
    /// Memory of the index, in bytes.
    pub index_bytes: u64,
}

/// The block store. Clones share it.
#[derive(Clone)]
pub struct BlockStore;

#[allow(unused_variables, reason = "signatures agreed before the bodies")]
impl BlockStore {
    /// Opens the store: formats blank devices, recovers the index of the others, and starts its threads.
    pub fn open(
        array: Arc<crate::stripe::DeviceArray>,
        pool: BufferPool,
        fs: FsId,
        config: BlockStoreConfig,
    ) -> Result<Self, OpenError> {
        todo!("helper B")
    }
    /// Whether a block is stored on a device in service.
    pub fn contains(&self, id: &BlockId) -> bool {
        todo!("helper B")
    }
    /// Reads ranges of blocks as one contiguous run of bytes, on all their devices at once.
    pub fn read(&self, wants: Vec<BlockWant>, done: ReadDone) {
        todo!("helper B")
    }
    /// Hashes, deduplicates, compresses and appends a block, preferably to `place`. Blocks the caller while too much is under way.
    pub fn put(&self, plain: Bytes, place: DeviceId, done: PutDone) {
        todo!("helper B")
    }
    /// Waits until everything put so far is on its device, then makes it durable.
    pub fn flush(&self) -> Result<(), PutError> {
        todo!("helper B")
    }
    /// Figures for status and metrics.
    pub fn stats(&self) -> BlockStats {
        todo!("helper B")
    }
    /// Flushes, seals, and stops the threads. Later calls answer `Closing` or `Missing`.
    pub fn close(&self) {
        todo!("helper B")
    }
}

/// Why a block store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A superblock belongs to another file system.
    #[error("{device} holds the cache of another file system ({found}); expected {expected}")]
    OtherFileSystem {
        /// The device's name.
        device: String,
        /// Whose it is.
        found: FsId,
        /// Whose it should be.
        expected: FsId,
    },
    /// Written by a newer version.
    #[error("{device} has format version {found}; this forebay reads up to {supported}")]
    NewerFormat {
        /// The device's name.
        device: String,
        /// Its version.
        found: u32,
        /// The newest version known.
        supported: u32,
    },
    /// Anything else that makes a device unusable.
    #[error("{device}: {why}")]
    Unusable {
        /// The device's name.
        device: String,
        /// What is wrong and the way out.
        why: String,
    },
}
