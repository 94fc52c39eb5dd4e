//! What the parts of the store share: devices, index, caches, counters; and the bookkeeping of index entries.

use super::disk::{Disk, footprint};
use super::ghost::Ghosts;
use super::header_cache::{HeaderCache, HeaderKey};
use super::held::Holds;
use super::index::{Entry, Index, Replaced, SegmentNo};
use super::keeper::Bell;
use super::lane::{Site, Write};
use super::pins::Pins;
use super::put::{Desk, Tools, Work};
use super::{BlockStoreConfig, PutError};
use crate::format::{FrameSummary, SegmentClass};
use crate::ids::{BlockId, FsId};
use crate::io::{BufferPool, IoError, IoOp, IoRequest};
use crate::stripe::DeviceArray;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Work for the threads that verify and decompress large reads.
pub(super) type Chore = Box<dyn FnOnce() + Send>;

/// What becomes of extents that are not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// They are written.
    Written,
    /// A flush is to follow: where it would have nothing else to do they are written through, and it is saved.
    Durable,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) plain_bytes: AtomicU64,
    pub(super) stored_bytes: AtomicU64,
    pub(super) dedup_bytes: AtomicU64,
    pub(super) evicted_blocks: AtomicU64,
    pub(super) corrupt_blocks: AtomicU64,
    pub(super) held_bytes: AtomicU64,
    pub(super) lost_local_blocks: AtomicU64,
    pub(super) pinned_bytes: AtomicU64,
    pub(super) dropped_pins: AtomicU64,
}

/// The shared state of a store.
pub(super) struct Core {
    pub(super) array: Arc<DeviceArray>,
    pub(super) pool: BufferPool,
    pub(super) fs: FsId,
    pub(super) config: BlockStoreConfig,
    pub(super) disks: Vec<Disk>,
    /// First copies, which is where a block is looked for first.
    pub(super) index: Index,
    /// Second copies (see [`super::copies`]).
    pub(super) seconds: Index,
    pub(super) headers: HeaderCache,
    pub(super) ghosts: Ghosts,
    pub(super) counters: Counters,
    pub(super) next_seq: AtomicU64,
    pub(super) desk: Desk,
    /// One flush at a time: a second must not return before what the first has begun is done.
    pub(super) flushing: Mutex<()>,
    /// For blocks that are taken in on the thread that puts them.
    pub(super) tools: Mutex<Tools>,
    /// What is known about held blocks beside their flags in the index.
    pub(super) holds: Holds,
    /// What is to be dropped last.
    pub(super) pins: Pins,
    pub(super) work: Sender<Work>,
    pub(super) chores: Sender<Option<Chore>>,
    /// Wakes the thread that seals, reclaims and looks after devices.
    pub(super) keeper: Bell,
    /// Wakes the thread that writes extents which nobody fills up.
    pub(super) linger: Bell,
    /// Wakes the thread that makes missing copies.
    pub(super) mender: Bell,
    /// Something was stored with one copy that should have two, and this was said.
    pub(super) degraded: AtomicBool,
    /// Held while segments are sealed and emptied and devices attached; a check holds it to see none of that half done.
    pub(super) housekeeping: Mutex<()>,
    pub(super) closing: AtomicBool,
    /// Set when the store goes away without being closed: nothing more is published or written.
    pub(super) abandoned: AtomicBool,
}

impl Core {
    /// The device a segment is on, and its number there.
    pub(super) fn locate(&self, segment: SegmentNo) -> Option<(&Disk, u32)> {
        self.disks.iter().find_map(|disk| Some((disk, disk.local(segment)?)))
    }

    /// Whether blocks on a device are served.
    pub(super) fn serves(&self, disk: &Disk) -> bool {
        disk.is_attached() && self.array.in_service(disk.id)
    }

    /// Whether an entry's device is served from.
    pub(super) fn is_served(&self, entry: &Entry) -> bool {
        self.locate(entry.segment).is_some_and(|(disk, _)| self.serves(disk))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Puts an entry into the index if `decide` says so, and with the LOCAL flag that it says (not the entry's own), keeping every count right.
    pub(super) fn index_insert(&self, entry: &Entry, decide: impl FnOnce(Option<&Entry>) -> Option<bool>) {
        let clean = Entry { frame: FrameSummary { local_only: false, ..entry.frame }, ..*entry };
        let pins = self.pins.lock(entry.frame.fingerprint);
        let is_pinned = pins.has(entry.frame.fingerprint);
        self.count_in(&clean);
        let replaced = self.table(entry).replace(entry.frame.fingerprint, |now| {
            let local_only = decide(now)?;
            if local_only {
                self.count_held(&clean);
            } else if is_pinned {
                self.count_pinned(&clean);
            }
            Some(Entry { frame: FrameSummary { local_only, ..clean.frame }, ..clean })
        });
        match replaced {
            Replaced::Stored(Some(old)) => {
                self.count_out(&old);
                if is_pinned && !old.frame.local_only {
                    self.count_unpinned(&old);
                }
            }
            Replaced::Stored(None) => {}
            Replaced::Kept => self.count_out(&clean),
        }
    }

    /// Takes out the entry that is where this one should be if `decide` says so, keeping every count right.
    pub(super) fn index_remove(&self, entry: &Entry, decide: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let pins = self.pins.lock(entry.frame.fingerprint);
        let removed = self.table(entry).remove_if(entry.frame.fingerprint, decide);
        if let Some(entry) = &removed {
            self.count_out(entry);
            if !entry.frame.local_only && pins.has(entry.frame.fingerprint) {
                self.count_unpinned(entry);
            }
        }
        removed
    }

    /// Sets or clears the LOCAL flag of a block's entries, keeping every count right; `false` if there is none.
    pub(super) fn index_flag(&self, fingerprint: u64, local: bool) -> bool {
        let pins = self.pins.lock(fingerprint);
        let is_pinned = pins.has(fingerprint);
        let changed = |entry: &Entry| match (local, is_pinned) {
            (true, false) => self.count_held(entry),
            (false, false) => self.count_let_go(entry),
            (true, true) => {
                self.count_unpinned(entry);
                self.count_held(entry);
            }
            (false, true) => {
                self.count_let_go(entry);
                self.count_pinned(entry);
            }
        };
        let first = self.index.set_local(fingerprint, local, changed);
        self.seconds.set_local(fingerprint, local, changed) || first
    }

    /// The index that an entry belongs into.
    pub(super) fn table(&self, entry: &Entry) -> &Index {
        if entry.frame.second { &self.seconds } else { &self.index }
    }

    fn count_in(&self, entry: &Entry) {
        if let Some((disk, segment)) = self.locate(entry.segment) {
            disk.add(segment, &entry.frame);
        }
        self.counters.plain_bytes.fetch_add(u64::from(entry.frame.plain_len), Ordering::Relaxed);
        self.counters.stored_bytes.fetch_add(footprint(&entry.frame), Ordering::Relaxed);
    }

    fn count_out(&self, entry: &Entry) {
        if entry.frame.local_only {
            self.count_let_go(entry);
        }
        if let Some((disk, segment)) = self.locate(entry.segment) {
            disk.remove(segment, &entry.frame);
        }
        self.counters.plain_bytes.fetch_sub(u64::from(entry.frame.plain_len), Ordering::Relaxed);
        self.counters.stored_bytes.fetch_sub(footprint(&entry.frame), Ordering::Relaxed);
    }

    fn count_held(&self, entry: &Entry) {
        if let Some((disk, segment)) = self.locate(entry.segment) {
            disk.hold(segment, &entry.frame);
        }
        self.counters.held_bytes.fetch_add(footprint(&entry.frame), Ordering::Relaxed);
    }

    fn count_let_go(&self, entry: &Entry) {
        if let Some((disk, segment)) = self.locate(entry.segment) {
            disk.let_go(segment, &entry.frame);
        }
        self.counters.held_bytes.fetch_sub(footprint(&entry.frame), Ordering::Relaxed);
    }

    /// The entry of a block that can be served: same fingerprint and length, on a device in service. The header, if it happens
    /// to be in memory, must name the very block.
    pub(super) fn find_served(&self, id: &BlockId, plain_len: Option<u32>) -> Option<Entry> {
        let entry = self.served_copy(id.fingerprint())?;
        let (disk, segment) = self.locate(entry.segment)?;
        if plain_len.is_some_and(|len| len != entry.frame.plain_len) {
            return None;
        }
        let seq = disk.segments[segment as usize].seq();
        let key = HeaderKey { segment: entry.segment, seq, sector: entry.frame.header_sector() };
        let other =
            self.headers.get(&key).is_some_and(|header| header.frame_at(entry.frame.grain).is_some_and(|frame| frame.id != *id));
        (!other).then_some(entry)
    }

    /// What a lane of a device needs.
    pub(super) fn site<'a>(&'a self, disk: &'a Disk, class: SegmentClass, for_reclaim: bool) -> Site<'a> {
        let device = &**self.array.device(disk.id);
        Site { disk, device, class, fs: self.fs, pool: &self.pool, next_seq: &self.next_seq, for_reclaim }
    }

    /// Notes what a device answered.
    pub(super) fn record(&self, disk: &Disk, result: &Result<(), IoError>) {
        match result {
            Ok(()) => self.array.record_ok(disk.id),
            Err(error) => self.array.record_error(disk.id, error),
        }
    }

    /// Flushes a device. Where that fails, extents may be missing from the open segments: a scan would not find what is appended behind them.
    pub(super) fn flush_disk(&self, disk: &Disk) -> Result<(), IoError> {
        let flushed = self.array.device(disk.id).flush();
        self.record(disk, &flushed);
        if flushed.is_err() {
            disk.note_flush_failed();
            SegmentClass::ALL.into_iter().for_each(|class| disk.lane(class).give_up_segment());
        }
        flushed
    }

    /// Makes durable what was put before and is on its device, or says that this cannot be done. One device that cannot do it is an error unless whatever is
    /// held on it has a copy on another.
    pub(super) fn flush_disks(&self) -> Result<(), PutError> {
        let mut failed = Vec::new();
        let mut first = None;
        for disk in &self.disks {
            if disk.take_forgotten() {
                return Err(PutError::Io { device: disk.id, source: IoError::Offline });
            }
            if let Err(source) = self.flush_owed(disk) {
                failed.push(disk.id);
                first.get_or_insert(PutError::Io { device: disk.id, source });
            }
        }
        let Some(error) = first else { return Ok(()) };
        if !self.wants_two() || !self.all_held_beside(&failed) {
            return Err(error);
        }
        // Some of those copies may have come after their device was flushed.
        for disk in self.disks.iter().filter(|disk| !failed.contains(&disk.id)) {
            self.flush_owed(disk).map_err(|source| PutError::Io { device: disk.id, source })?;
        }
        tracing::warn!(%error, "a device could not be flushed; what it holds is durable on others");
        Ok(())
    }

    fn flush_owed(&self, disk: &Disk) -> Result<(), IoError> {
        let (owed, failed) = (disk.take_owed(), disk.take_flush_failed());
        if failed || (owed && disk.is_unflushed() && !self.serves(disk)) {
            return Err(IoError::Offline);
        }
        if self.serves(disk) && disk.begin_flush() {
            self.flush_disk(disk).inspect_err(|_| {
                disk.take_flush_failed();
            })?;
        }
        Ok(())
    }

    /// Starts the writes of a device's lanes.
    pub(super) fn launch(self: &Arc<Self>, disk_at: usize, op: IoOp, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let requests = writes.into_iter().map(|write| {
            let (core, segment, ticket) = (self.clone(), write.segment, write.ticket);
            IoRequest {
                op,
                offset: write.offset,
                buf: write.buf,
                behind: write.behind,
                done: Box::new(move |outcome| core.written(disk_at, op, &segment, ticket, outcome.result)),
            }
        });
        let requests = requests.collect();
        self.array.device(self.disks[disk_at].id).submit(requests);
    }

    /// Writes what is being filled on every lane.
    pub(super) fn cut_all(self: &Arc<Self>, cut: Cut) {
        for (at, disk) in self.disks.iter().enumerate() {
            let op = if cut == Cut::Durable && !disk.is_unflushed() { IoOp::WriteThrough } else { IoOp::Write };
            for class in SegmentClass::ALL {
                let mut writes = Vec::new();
                disk.lane(class).cut(self.site(disk, class, false), &mut writes);
                self.launch(at, op, writes);
            }
        }
    }

    /// Writes what is being filled on the lanes that nobody has; whether somebody has one. Who has one for long, because its device hangs, does not keep the
    /// others from being written.
    pub(super) fn cut_what_is_free(self: &Arc<Self>) -> bool {
        let mut is_any_taken = false;
        for (at, disk) in self.disks.iter().enumerate() {
            for class in SegmentClass::ALL {
                let mut writes = Vec::new();
                match disk.lane_if_free(class) {
                    Some(mut lane) => lane.cut(self.site(disk, class, false), &mut writes),
                    None => is_any_taken = true,
                }
                self.launch(at, IoOp::Write, writes);
            }
        }
        is_any_taken
    }
}
