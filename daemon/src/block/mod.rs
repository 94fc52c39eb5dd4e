//! Content-addressed blocks on an array of devices: hash, dedup, compress, append to segment logs, find, verify, reclaim.
//!
//! The way of a block in: [`put`] (hash, join, encode) -> [`lane`] (extents, ordered publication) -> [`index`].
//! The way out: [`read_plan`] -> [`read`] (verify, unpack). Around them: [`recover`] at the start, [`keeper`] (sealing, devices,
//! lingering extents), [`reclaim`], [`compact`] (space given back), [`scrub`] (frames looked at and healed), and [`check`] for everything that must hold. Each module's head numbers what it keeps.
//! What it guarantees as a whole:
//! 1. A read gives the bytes that were put under that identity, or a fault; never other bytes.
//! 2. A block whose put was answered `Ok` is found after `kill -9`; after a power cut, if a flush followed it.
//! 3. A put fails for lack of space only if nothing can be dropped that would make any: the device is full of held blocks, whose only copy
//!    may be here (see [`held`]).
//! 4. A held block is never dropped.
//! 5. A pinned block is dropped last (see [`pins`]).
//! 6. With two copies of held blocks ([`copies`]), the loss of one device loses none that was put and flushed while two were in service, or that
//!    [`mend`] has made a second copy of since.

mod attach;
mod audit;
mod check;
mod claim;
mod compact;
mod copies;
mod core;
mod disk;
mod ghost;
mod header_cache;
mod held;
mod index;
mod keeper;
mod lane;
mod mend;
mod now;
mod open;
mod pair;
mod pins;
mod put;
mod read;
mod read_plan;
mod reclaim;
mod recover;
mod room;
mod scrub;
mod sizes;
#[cfg(test)]
mod tests;
mod transfer;
mod verify;
mod victim;

pub use audit::Holding;
pub use check::{CheckReport, Violation};
pub use pins::PinSet;
pub use scrub::{Damage, DamagedFrame, Scrubbed};
pub use sizes::BlockSizes;

use self::core::{Core, Cut};
use self::put::{Put, Work};
use crate::ids::{BlockId, DeviceId, FsId};
use crate::io::{BufferPool, IoError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

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
    /// Threads that hash and compress; as many again verify and decompress large reads.
    pub encoder_threads: usize,
    /// Bytes per segment when a blank device is formatted, a power of two from 1 MiB to 64 MiB and at least eight blocks; `None` takes about a
    /// 64th of the device.
    pub segment_bytes: Option<u64>,
    /// Plain bytes of blocks put and not yet answered; more block the caller. Extents take about as much memory again.
    pub put_bytes: usize,
    /// Whether the caller knows better than the devices which blocks are held: it calls [`BlockStore::hold`] for each after the start, then
    /// [`BlockStore::holds_known`]. Until then nothing is dropped, and a full cache takes nothing. Otherwise the flags found on the devices count; those
    /// were true when the frames were written.
    pub holds_follow: bool,
    /// Copies of held blocks: 1, or 2 on different devices.
    pub copies: u8,
}

impl Default for BlockStoreConfig {
    fn default() -> Self {
        BlockStoreConfig {
            block_size: 128 << 10,
            compress: true,
            dedup: true,
            header_cache_bytes: 64 << 20,
            encoder_threads: 2,
            segment_bytes: None,
            put_bytes: 64 << 20,
            holds_follow: false,
            copies: 1,
        }
    }
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
    /// No device can take it: all in service are full of what must be kept.
    #[error("no space in the cache")]
    NoSpace,
    /// No device is in service.
    #[error("no device of the cache is in service")]
    NoDevice,
    /// The device failed.
    #[error("block could not be written to {device}")]
    Io {
        /// Where it was to go.
        device: DeviceId,
        /// The device's answer.
        source: IoError,
    },
    /// A held block of other bytes has an identity that begins alike: the index cannot tell them apart, and neither may displace the other.
    #[error("block {id:?} cannot be stored beside {other:?}")]
    Collision {
        /// Which block.
        id: BlockId,
        /// The one that is held.
        other: BlockId,
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
    /// Frames in the index, second copies included.
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
    /// Bytes that held blocks take on devices, padding included.
    pub held_bytes: u64,
    /// Held blocks whose bytes were found lost, since start.
    pub lost_local_blocks: u64,
    /// Bytes that pinned blocks take which are not held, padding included.
    #[serde(default)]
    pub pinned_bytes: u64,
    /// Pinned blocks dropped because nothing else made room, since start.
    #[serde(default)]
    pub dropped_pins: u64,
    /// Memory of the index and the ghost list, in bytes.
    pub index_bytes: u64,
}

/// The block store. Clones share it. When the last clone goes without [`BlockStore::close`], the store stops as if the process had been
/// killed: nothing more is written.
#[derive(Clone)]
pub struct BlockStore {
    running: Arc<Running>,
}

/// A store's shared state and its threads.
struct Running {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl BlockStore {
    /// Opens the store: formats blank devices, recovers the index of the others, and starts its threads.
    pub fn open(
        array: Arc<crate::stripe::DeviceArray>,
        pool: BufferPool,
        fs: FsId,
        config: BlockStoreConfig,
    ) -> Result<Self, OpenError> {
        open::open(array, pool, fs, config)
    }
    /// Whether a block is stored on a device in service.
    pub fn contains(&self, id: &BlockId) -> bool {
        !self.core().is_closing() && self.core().find_served(id, None).is_some()
    }
    /// Reads ranges of blocks as one contiguous run of bytes, on all their devices at once.
    pub fn read(&self, wants: Vec<BlockWant>, done: ReadDone) {
        self.core().read(wants, read::Before::default(), done);
    }
    /// Hashes, deduplicates, compresses and appends a block, preferably to `place`. Blocks the caller while too much is under way
    /// (see [`BlockStoreConfig::put_bytes`]), so it must not be called from a completion.
    ///
    /// # Panics
    /// If the block is empty or larger than the block size.
    pub fn put(&self, plain: Bytes, place: DeviceId, done: PutDone) {
        if let Some(put) = self.admit(plain, place, false, done) {
            self.core().take_in_elsewhere(put);
        }
    }
    /// The same for a thread that serves others as well: what would have to wait is left to other threads.
    ///
    /// # Panics
    /// If the block is empty or larger than the block size.
    pub fn put_now(&self, plain: Bytes, place: DeviceId, done: PutDone) {
        if let Some(put) = self.admit(plain, place, false, done) {
            self.core().take_in_now(put);
        }
    }
    /// Waits until everything put so far is on its device, then makes it durable.
    pub fn flush(&self) -> Result<(), PutError> {
        let core = self.core();
        let _one_at_a_time = core.flushing.lock();
        core.desk.drain(Cut::Durable, &|| core.cut_all(Cut::Durable));
        core.flush_disks()
    }
    /// Waits until everything put so far is on its device.
    pub fn drain(&self) -> Result<(), PutError> {
        let core = self.core();
        core.desk.drain(Cut::Written, &|| core.cut_all(Cut::Written));
        Ok(())
    }
    /// The plain length of a stored block, in bytes.
    pub fn plain_len(&self, id: &BlockId) -> Option<u32> {
        self.core().find_served(id, None).map(|entry| entry.frame.plain_len)
    }
    /// Figures for status and metrics.
    pub fn stats(&self) -> BlockStats {
        self.core().stats()
    }
    /// Checks the store's invariants against its devices; call it when no put is under way. Reads every extent header.
    pub fn check(&self) -> CheckReport {
        self.core().check()
    }
    /// Flushes, seals, and stops the threads. Later calls answer `Closing` or `Missing`.
    pub fn close(&self) {
        let core = self.core();
        if core.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        core.desk.drain(Cut::Written, &|| core.cut_all(Cut::Written));
        // A put admitted while the first drain began is in the second.
        core.desk.drain(Cut::Written, &|| core.cut_all(Cut::Written));
        self.running.stop();
        self.running.join();
        for disk in core.disks.iter().filter(|disk| core.serves(disk)) {
            if let Err(error) = core.checkpoint(disk) {
                tracing::warn!(device = %disk.id, %error, "the cache could not be closed cleanly; the next start scans it");
            }
        }
    }

    fn admit(&self, plain: Bytes, place: DeviceId, local: bool, done: PutDone) -> Option<Put> {
        let core = self.core();
        assert!(!plain.is_empty() && plain.len() <= core.config.block_size as usize, "a block has 1 to block_size bytes");
        match core.desk.admit(plain.len(), local, done, &|| core.is_closing()) {
            Ok(waiter) => Some(Put { plain, place, local, waiter }),
            Err(done) => {
                done(Err(PutError::Closing));
                None
            }
        }
    }

    fn core(&self) -> &Arc<Core> {
        &self.running.core
    }
}

impl Running {
    fn stop(&self) {
        let core = &self.core;
        for _ in 0..core.config.encoder_threads.max(1) {
            let _ = core.work.send(Work::Stop);
            let _ = core.chores.send(None);
        }
        core.keeper.stop();
        core.linger.stop();
        core.mender.stop();
    }

    fn join(&self) {
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The last clone may go away on one of these threads, in a callback.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.closing.store(true, Ordering::Release);
        self.core.abandoned.store(true, Ordering::Release);
        self.stop();
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
    #[error("{device} has format version {found}; this forebay knows up to {supported}: use a newer forebay, or another --cache")]
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
