//! Opening a store: superblocks, recovery, threads.

use super::attach::{AttachError, Expected, Head, geometry, guess_geometry, read_head, settle};
use super::core::{Chore, Core, Counters};
use super::disk::{Disk, SegmentState};
use super::ghost::Ghosts;
use super::header_cache::HeaderCache;
use super::held::Holds;
use super::index::{Index, SEGMENTS_MAX};
use super::keeper::{Bell, keeper_loop, linger_loop};
use super::mend::mend_loop;
use super::pins::Pins;
use super::put::{Desk, encode_loop};
use super::{BlockStats, BlockStore, BlockStoreConfig, OpenError, Running};
use crate::format::geometry::{BLOCK_MAX, SEGMENT_MAX, SEGMENT_MIN};
use crate::ids::{DeviceId, FsId};
use crate::io::BufferPool;
use crate::stripe::DeviceArray;
use crate::units::SECTOR;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Opens a store (see [`BlockStore::open`]). No device is written to before all have been looked at.
pub(super) fn open(
    array: Arc<DeviceArray>,
    pool: BufferPool,
    fs: FsId,
    config: BlockStoreConfig,
) -> Result<BlockStore, OpenError> {
    validate(&config);
    let heads = look_at_all(&array, &pool, fs, &config)?;
    let disks = lay_out(&array, &heads, fs, &config)?;
    for (disk, head) in disks.iter().zip(&heads) {
        bring_up(&array, &pool, fs, &config, disk, disks.len(), head.as_ref())?;
    }
    let (work, work_queue) = crossbeam_channel::unbounded();
    let (chores, chore_queue) = crossbeam_channel::unbounded();
    let capacity_blocks = disks.iter().map(|disk| disk.geometry.segment_bytes * u64::from(disk.geometry.segments)).sum::<u64>()
        / u64::from(config.block_size);
    let core = Arc::new(Core {
        pool,
        fs,
        disks,
        index: Index::new(false),
        seconds: Index::new(true),
        headers: HeaderCache::new(config.header_cache_bytes),
        ghosts: Ghosts::for_blocks(capacity_blocks),
        counters: Counters::default(),
        next_seq: AtomicU64::new(1),
        desk: Desk::new(config.put_bytes),
        flushing: Mutex::default(),
        tools: Mutex::default(),
        holds: Holds::new(!config.holds_follow),
        pins: Pins::default(),
        work,
        chores,
        keeper: Bell::default(),
        linger: Bell::default(),
        mender: Bell::default(),
        degraded: AtomicBool::new(false),
        housekeeping: Mutex::new(()),
        closing: AtomicBool::new(false),
        abandoned: AtomicBool::new(false),
        array,
        config,
    });
    recover_all(&core, &heads);
    watch_devices(&core);
    let threads = spawn_all(&core, &work_queue, &chore_queue);
    core.keeper.ring();
    core.mender.ring();
    Ok(BlockStore { running: Arc::new(Running { core, threads: Mutex::new(threads) }) })
}

fn validate(config: &BlockStoreConfig) {
    let block_ok = config.block_size > 0 && config.block_size <= BLOCK_MAX && (config.block_size as usize).is_multiple_of(SECTOR);
    assert!((1..=2).contains(&config.copies), "one copy of a held block, or two");
    assert!(block_ok, "the block size is a multiple of the sector size, at most {BLOCK_MAX}");
    if let Some(bytes) = config.segment_bytes {
        let fits = (SEGMENT_MIN..=SEGMENT_MAX).contains(&bytes) && bytes >= 8 * u64::from(config.block_size);
        assert!(fits && bytes.is_power_of_two(), "the segment size is a power of two from {SEGMENT_MIN} to {SEGMENT_MAX}");
    }
}

fn expected(fs: FsId, device: DeviceId, devices: usize, config: &BlockStoreConfig) -> Expected<'_> {
    Expected { fs, device, devices, config }
}

/// The head of every device; `None` for one that cannot be read now.
fn look_at_all(
    array: &DeviceArray,
    pool: &BufferPool,
    fs: FsId,
    config: &BlockStoreConfig,
) -> Result<Vec<Option<Head>>, OpenError> {
    let look = |at: usize| {
        let id = DeviceId(at as u8);
        match read_head(&**array.device(id), pool, &expected(fs, id, array.count(), config)) {
            Ok(head) => Ok(Some(head)),
            Err(AttachError::Refused(error)) => Err(error),
            Err(AttachError::Io(error)) => {
                tracing::warn!(device = %id, %error, "a cache device cannot be read; going on without it");
                array.record_error(id, &error);
                Ok(None)
            }
        }
    };
    (0..array.count()).map(look).collect()
}

fn lay_out(array: &DeviceArray, heads: &[Option<Head>], fs: FsId, config: &BlockStoreConfig) -> Result<Vec<Disk>, OpenError> {
    let mut first = 0u32;
    let mut disks = Vec::with_capacity(heads.len());
    for (at, head) in heads.iter().enumerate() {
        let id = DeviceId(at as u8);
        let device = &**array.device(id);
        let expected = expected(fs, id, heads.len(), config);
        let cut = match head {
            Some(head) => geometry(device, head, &expected)?,
            None => guess_geometry(device, &expected)?,
        };
        let next = first.checked_add(cut.segments).filter(|next| *next <= SEGMENTS_MAX);
        let Some(next) = next else {
            let why = format!("the devices together have more than {SEGMENTS_MAX} segments");
            return Err(OpenError::Unusable { device: device.name().to_owned(), why });
        };
        disks.push(Disk::new(cut, first));
        first = next;
    }
    Ok(disks)
}

fn bring_up(
    array: &DeviceArray,
    pool: &BufferPool,
    fs: FsId,
    config: &BlockStoreConfig,
    disk: &Disk,
    devices: usize,
    head: Option<&Head>,
) -> Result<(), OpenError> {
    let Some(head) = head else { return Ok(()) };
    let device = &**array.device(disk.id);
    match settle(device, pool, head, &disk.geometry, &expected(fs, disk.id, devices, config)) {
        Ok(()) => disk.set_attached(true),
        Err(AttachError::Io(error)) => array.record_error(disk.id, &error),
        Err(AttachError::Refused(error)) => return Err(error),
    }
    Ok(())
}

/// A device that left service is not served from before the keeper has seen its superblock again, however soon it is back.
fn watch_devices(core: &Arc<Core>) {
    let watched = Arc::downgrade(core);
    core.array.watch(move |device, in_service| {
        let Some(core) = watched.upgrade() else { return };
        if !in_service {
            core.disks[usize::from(device.0)].detach();
        }
        core.keeper.ring();
        core.mender.ring();
    });
}

/// Recovers all devices at once, each on a thread of its own.
fn recover_all(core: &Arc<Core>, heads: &[Option<Head>]) {
    std::thread::scope(|scope| {
        for (disk, head) in core.disks.iter().zip(heads) {
            match head {
                Some(Head::Ours(..)) if disk.is_attached() => {
                    scope.spawn(move || core.recover(disk, false));
                }
                Some(Head::Blank) => disk.set_recovered(),
                _ => {}
            }
        }
    });
}

fn spawn_all(
    core: &Arc<Core>,
    work: &crossbeam_channel::Receiver<super::put::Work>,
    chores: &crossbeam_channel::Receiver<Option<Chore>>,
) -> Vec<JoinHandle<()>> {
    let mut threads = Vec::new();
    for at in 0..core.config.encoder_threads.max(1) {
        let (core, work, chores) = (core.clone(), work.clone(), chores.clone());
        threads.push(spawn(format!("fb-encode-{at}"), move || encode_loop(&core, &work)));
        threads.push(spawn(format!("fb-verify-{at}"), move || chore_loop(&chores)));
    }
    let (keeper, linger) = (core.clone(), core.clone());
    threads.push(spawn("fb-keeper".to_owned(), move || keeper_loop(&keeper)));
    threads.push(spawn("fb-linger".to_owned(), move || linger_loop(&linger)));
    if core.config.copies > 1 {
        let mender = core.clone();
        threads.push(spawn("fb-mend".to_owned(), move || mend_loop(&mender)));
    }
    threads
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name).spawn(body).expect("a process that can start has threads to spare")
}

fn chore_loop(chores: &crossbeam_channel::Receiver<Option<Chore>>) {
    while let Ok(Some(chore)) = chores.recv() {
        chore();
    }
}

impl Core {
    pub(super) fn stats(&self) -> BlockStats {
        let reserved = |disk: &Disk| {
            let used =
                disk.segments.iter().filter(|segment| !matches!(segment.state(), SegmentState::Free | SegmentState::Unbacked));
            used.count() as u64 * disk.geometry.segment_bytes
        };
        let counters = &self.counters;
        BlockStats {
            blocks: (self.index.len() + self.seconds.len()) as u64,
            plain_bytes: counters.plain_bytes.load(Ordering::Relaxed),
            stored_bytes: counters.stored_bytes.load(Ordering::Relaxed),
            reserved_bytes: self.disks.iter().map(reserved).sum(),
            capacity_bytes: self.disks.iter().map(|disk| self.array.device(disk.id).len()).sum(),
            dedup_bytes: counters.dedup_bytes.load(Ordering::Relaxed),
            evicted_blocks: counters.evicted_blocks.load(Ordering::Relaxed),
            corrupt_blocks: counters.corrupt_blocks.load(Ordering::Relaxed),
            held_bytes: counters.held_bytes.load(Ordering::Relaxed),
            pinned_bytes: counters.pinned_bytes.load(Ordering::Relaxed),
            dropped_pins: counters.dropped_pins.load(Ordering::Relaxed),
            lost_local_blocks: counters.lost_local_blocks.load(Ordering::Relaxed),
            index_bytes: (self.index.memory_bytes() + self.seconds.memory_bytes() + self.ghosts.memory_bytes()) as u64,
        }
    }
}
