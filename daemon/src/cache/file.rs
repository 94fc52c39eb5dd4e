//! One version of one object, shared by every handle and fetch that concerns it, and the state of its blocks in memory.

use super::export::Export;
use super::local::{LocalData, Packed};
use super::region::Piece;
use super::written::{WriteErrors, Written};
use crate::error::Error;
use crate::ids::Ino;
use crate::repository::Pin;
use crate::stripe::Layout;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What a [`CachedFile`] is made from.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// The inode.
    pub ino: Ino,
    /// The object's key.
    pub key: String,
    /// The version.
    pub pin: Pin,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that come from the object where no block is here; `None` for a file that is its object, unchanged.
    pub base: Option<u64>,
    /// Bytes that have something in them.
    pub allocated: u64,
    /// Whether it has set-ID bits.
    pub set_ids: bool,
    /// Whether its data is to stay here.
    pub norelease: bool,
    /// Where its blocks go.
    pub layout: Layout,
}

/// Called with a block's plain bytes, or with why there are none.
pub(super) type BlockWaiter = Box<dyn FnOnce(Result<Piece, Error>) + Send>;

/// A block that is in flight or in memory. Blocks in neither state are in the block store, or nowhere.
pub(super) enum BlockState {
    /// A GET is bringing it.
    Flying(Vec<BlockWaiter>),
    /// Here.
    Ready(ReadyBlock),
}

/// A block in memory.
pub(super) struct ReadyBlock {
    pub(super) bytes: Piece,
    /// The block store has it (or refused it): memory is not its only place.
    pub(super) settled: bool,
    /// Somebody read to its end.
    pub(super) consumed: bool,
}

/// The object that a file's bytes come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its key.
    pub key: Arc<str>,
    /// The version every fetch insists on.
    pub pin: Pin,
}

/// One version of one object, and what was written over it.
pub struct CachedFile {
    spec: FileSpec,
    source: RwLock<Source>,
    export: Export,
    size: AtomicU64,
    local: LocalData,
    /// Whether the file is, or is becoming, something else than its object.
    is_written: AtomicBool,
    written: Written,
    write_errors: WriteErrors,
    unlinked: AtomicBool,
    /// Whether the metadata says that the file is, or is becoming, something else than its object. Changed under `claims`.
    is_claimed: AtomicBool,
    /// Held for reading from a claim to the change it is for, for writing while the file becomes its object.
    claims: RwLock<()>,
    /// Whether it may have set-ID bits that a write takes away.
    set_ids: AtomicBool,
    /// Held for writing while the file is cut, for reading while a fetched block is entered in its map.
    map_gate: RwLock<()>,
    /// Whether its data is to stay here.
    pinned: AtomicBool,
    changed: AtomicBool,
    head_seen: AtomicBool,
    handles: AtomicUsize,
    /// Those of them that may map the file for writing.
    mapping_handles: AtomicUsize,
    /// Those of them that may write.
    writing_handles: AtomicUsize,
    blocks: Mutex<HashMap<u64, BlockState>>,
    /// Entries of `blocks`; lets the hit path skip the lock.
    resident: AtomicUsize,
}

impl CachedFile {
    pub(super) fn new(spec: FileSpec, block_size: u32) -> Self {
        let base = spec.base.unwrap_or(spec.size);
        let local = LocalData::Packed(Packed { ino: spec.ino, base: AtomicU64::new(base), block_size: block_size.into() });
        CachedFile {
            local,
            size: AtomicU64::new(spec.size),
            is_written: AtomicBool::new(spec.base.is_some()),
            is_claimed: AtomicBool::new(spec.base.is_some()),
            claims: RwLock::default(),
            source: RwLock::new(Source { key: spec.key.as_str().into(), pin: spec.pin.clone() }),
            export: Export::default(),
            written: Written::clean(spec.size, base, spec.allocated),
            write_errors: WriteErrors::default(),
            unlinked: AtomicBool::new(false),
            set_ids: AtomicBool::new(spec.set_ids),
            map_gate: RwLock::new(()),
            pinned: AtomicBool::new(spec.norelease),
            changed: AtomicBool::new(false),
            head_seen: AtomicBool::new(false),
            handles: AtomicUsize::new(0),
            mapping_handles: AtomicUsize::new(0),
            writing_handles: AtomicUsize::new(0),
            blocks: Mutex::default(),
            resident: AtomicUsize::new(0),
            spec,
        }
    }

    /// The inode.
    pub fn ino(&self) -> Ino {
        self.spec.ino
    }

    /// The object's key.
    pub fn key(&self) -> Arc<str> {
        Arc::clone(&self.source.read().key)
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(super) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// What was written and is not in the metadata yet.
    pub(super) fn written(&self) -> &Written {
        &self.written
    }

    /// Whether the file may be something else than its object.
    pub(super) fn is_written(&self) -> bool {
        self.is_written.load(Ordering::Acquire)
    }

    /// Whether the metadata says so, while nobody makes the file its object again.
    pub(super) fn claim(&self) -> (RwLockReadGuard<'_, ()>, bool) {
        let claim = self.claims.read();
        let is_claimed = self.is_claimed.load(Ordering::Acquire);
        (claim, is_claimed)
    }

    /// Whether the metadata says that the file is something else than its object; may change at any time but under [`Self::unclaimed`].
    pub(super) fn is_claimed_now(&self) -> bool {
        self.is_claimed.load(Ordering::Acquire)
    }

    /// The metadata says that the file is something else than its object. Called with a claim.
    pub(super) fn mark_claimed(&self) {
        self.is_claimed.store(true, Ordering::Release);
        self.is_written.store(true, Ordering::Release);
    }

    /// While this is held nobody begins to change the file.
    pub(super) fn unclaimed(&self) -> RwLockWriteGuard<'_, ()> {
        self.claims.write()
    }

    /// The file is its object. Called with the guard of [`Self::unclaimed`].
    pub(super) fn end_claims(&self) {
        self.is_claimed.store(false, Ordering::Release);
    }

    pub(super) fn map_gate(&self) -> &RwLock<()> {
        &self.map_gate
    }

    /// Notes that the file has no name any more: what is dirty of it need not be kept once nobody has it open.
    pub(super) fn note_unlinked(&self) {
        self.unlinked.store(true, Ordering::Release);
    }

    pub(super) fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::Acquire)
    }

    /// Notes that the file may have set-ID bits; after they are in its row.
    pub fn note_set_ids(&self) {
        self.set_ids.store(true, Ordering::Release);
    }

    /// Whether the file may have set-ID bits; whoever is told so sees to it that they go.
    pub fn take_set_ids(&self) -> bool {
        self.set_ids.load(Ordering::Acquire) && self.set_ids.swap(false, Ordering::AcqRel)
    }

    /// Whether its data is to stay here.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Acquire)
    }

    pub(super) fn set_pinned(&self, pinned: bool) {
        self.pinned.store(pinned, Ordering::Release);
    }

    /// Writes to devices that failed.
    pub(super) fn write_errors(&self) -> &WriteErrors {
        &self.write_errors
    }

    /// Where its blocks go.
    pub fn layout(&self) -> Layout {
        self.spec.layout
    }

    /// Where its local data is.
    pub fn local(&self) -> &LocalData {
        &self.local
    }

    /// Where its bytes come from where nothing else is here.
    pub fn source(&self) -> Source {
        self.source.read().clone()
    }

    /// From now on its bytes come from another object, or another version: as far as they came from one before, the same bytes.
    pub(super) fn set_source(&self, source: Source) {
        *self.source.write() = source;
        self.changed.store(false, Ordering::Release);
        self.head_seen.store(false, Ordering::Release);
    }

    /// Whether it is being exported.
    pub(super) fn export(&self) -> &Export {
        &self.export
    }

    /// Adds the version id that a response named, if the pin has none yet; says whether it did.
    pub(super) fn learn_version(&self, etag: &str, version: &str) -> bool {
        let pin = &mut self.source.write().pin;
        // It may come from another object by now.
        let new = pin.version.is_none() && pin.etag == etag;
        if new {
            pin.version = Some(version.to_owned());
        }
        new
    }

    /// True for the first response that brought headers: all responses of one version bring the same.
    pub(super) fn first_head(&self) -> bool {
        !self.head_seen.swap(true, Ordering::AcqRel)
    }

    /// Notes that the bucket no longer has this version; true the first time.
    pub(super) fn note_changed(&self) -> bool {
        !self.changed.swap(true, Ordering::AcqRel)
    }

    /// Whether the bucket is known to have replaced this version.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    pub(super) fn handle_opened(&self, may_map: bool) {
        self.mapping_handles.fetch_add(may_map.into(), Ordering::AcqRel);
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn handle_closed(&self, may_map: bool) {
        self.mapping_handles.fetch_sub(may_map.into(), Ordering::AcqRel);
        self.handles.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many handles may have mapped the file for writing. What is written through a mapping is the kernel's secret until it writes it back,
    /// at the latest when the mapping goes, which its handle outlives.
    pub(super) fn mapping_handles(&self) -> usize {
        self.mapping_handles.load(Ordering::Acquire)
    }

    /// A handle that may write is there from now on, or is no more.
    pub(super) fn count_writer(&self, is_there: bool) {
        match is_there {
            true => self.writing_handles.fetch_add(1, Ordering::AcqRel),
            false => self.writing_handles.fetch_sub(1, Ordering::AcqRel),
        };
    }

    /// Whether anybody has it open for writing.
    pub(super) fn has_writers(&self) -> bool {
        self.writing_handles.load(Ordering::Acquire) > 0
    }

    pub(super) fn has_handles(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }

    /// Whether any block is in flight or in memory.
    pub(super) fn has_resident(&self) -> bool {
        self.resident.load(Ordering::Acquire) > 0
    }

    /// Runs `f` on the states of the blocks, under the file's lock.
    pub(super) fn with_blocks<R>(&self, f: impl FnOnce(&mut HashMap<u64, BlockState>) -> R) -> R {
        let mut blocks = self.blocks.lock();
        let result = f(&mut blocks);
        self.resident.store(blocks.len(), Ordering::Release);
        result
    }

    /// Whether anybody waits for one of these blocks.
    pub(super) fn has_waiters(&self, indexes: std::ops::Range<u64>) -> bool {
        let blocks = self.blocks.lock();
        indexes.into_iter().any(|index| matches!(blocks.get(&index), Some(BlockState::Flying(waiters)) if !waiters.is_empty()))
    }

    /// A block arrived: answers its waiters and keeps it in memory until it is stored and read. `false` if the file became another object since it was
    /// asked for: then what arrived may be what the file was before it was written to. `read_by_nobody`: it need not stay in memory for a reader to come.
    pub(super) fn publish(&self, index: u64, bytes: &Piece, asked: u64, read_by_nobody: bool) -> bool {
        let waiters = self.with_blocks(|blocks| {
            if self.export.count() != asked {
                return None;
            }
            let waiters = match blocks.remove(&index) {
                Some(BlockState::Flying(waiters)) => waiters,
                _ => Vec::new(),
            };
            let consumed = read_by_nobody || !waiters.is_empty();
            let ready = ReadyBlock { bytes: bytes.clone(), settled: false, consumed };
            blocks.insert(index, BlockState::Ready(ready));
            Some(waiters)
        });
        let is_wanted = waiters.is_some();
        for waiter in waiters.into_iter().flatten() {
            waiter(Ok(bytes.clone()));
        }
        is_wanted
    }

    /// The file is another object from now on: what is in memory, and what is on its way, may be what it was before. Called with the map's gate held for
    /// writing.
    pub(super) fn become_another(&self) {
        self.with_blocks(|blocks| {
            blocks.retain(|_, state| matches!(state, BlockState::Flying(_)));
            self.export.add();
        });
    }

    /// Blocks that will not arrive: takes them out of flight and returns their waiters.
    pub(super) fn fail(&self, indexes: std::ops::Range<u64>) -> Vec<(u64, Vec<BlockWaiter>)> {
        self.with_blocks(|blocks| {
            let mut failed = Vec::new();
            for index in indexes {
                if matches!(blocks.get(&index), Some(BlockState::Flying(_)))
                    && let Some(BlockState::Flying(waiters)) = blocks.remove(&index)
                {
                    failed.push((index, waiters));
                }
            }
            failed
        })
    }

    /// The block store has (or refused) a block. Returns whether it stays in memory for a reader still to come.
    pub(super) fn settle(&self, index: u64) -> bool {
        self.with_blocks(|blocks| {
            let Some(BlockState::Ready(ready)) = blocks.get_mut(&index) else { return false };
            ready.settled = true;
            let keep = !ready.consumed;
            if !keep {
                blocks.remove(&index);
            }
            keep
        })
    }

    /// Drops a block from memory if it is settled.
    pub(super) fn drop_stored(&self, index: u64) {
        self.with_blocks(|blocks| {
            if matches!(blocks.get(&index), Some(BlockState::Ready(ready)) if ready.settled) {
                blocks.remove(&index);
            }
        });
    }

    /// Whether any of these blocks is in flight, or in memory and not stored yet.
    pub(super) fn is_on_its_way(&self, indexes: std::ops::Range<u64>) -> bool {
        let blocks = self.blocks.lock();
        let is_unsettled = |index: u64| match blocks.get(&index) {
            Some(BlockState::Flying(_)) => true,
            Some(BlockState::Ready(ready)) => !ready.settled,
            None => false,
        };
        !blocks.is_empty() && indexes.into_iter().any(is_unsettled)
    }

    /// Whether a block is in memory.
    pub(super) fn holds(&self, index: u64) -> bool {
        matches!(self.blocks.lock().get(&index), Some(BlockState::Ready(_)))
    }
}
