//! File maps in memory: rows that are in use, and changes on their way to the metadata engine.
//!
//! Changes are visible here at once and are committed in batches by a thread of its own: a file map is a hint, so what a
//! crash loses costs a fetch and nothing else.

use crate::ids::{BlockId, BlockIndex, Ino};
use crate::meta::{BLOCKS_PER_CHUNK, HOLE, MetaError, MetaStore};
use moka::sync::Cache;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Changes that are committed at once without waiting for more.
const BATCH: usize = 4096;
/// How long a change waits for company.
const LINGER: Duration = Duration::from_millis(100);
/// Memory of a row without its blocks, in bytes: three quarters are the concurrent cache's own (measured with a million rows of one block).
const ROW_BYTES: usize = 400;
const LOAD_GATES: usize = 16;

/// One row of a file map, shared by all readers of the file.
#[derive(Debug, Default)]
pub struct Chunk {
    blocks: RwLock<Vec<Option<BlockId>>>,
    /// Which of them were written here, a bit each; changed under the lock of `blocks`.
    local: AtomicU64,
}

impl Chunk {
    fn slot(index: BlockIndex) -> usize {
        (index.0 % BLOCKS_PER_CHUNK) as usize
    }

    /// What the map says of a block.
    pub fn mapped(&self, index: BlockIndex) -> Mapped {
        let blocks = self.blocks.read();
        let id = blocks.get(Self::slot(index)).copied().flatten();
        match id {
            Some(HOLE) if self.is_local(index) => Mapped::Hole,
            Some(id) if self.is_local(index) => Mapped::Local(id),
            id => Mapped::Origin(id),
        }
    }

    fn is_local(&self, index: BlockIndex) -> bool {
        self.local.load(Ordering::Acquire) >> Self::slot(index) & 1 == 1
    }

    /// Says whether it takes more memory now.
    fn set(&self, index: BlockIndex, id: BlockId) -> bool {
        let mut blocks = self.blocks.write();
        let slot = Self::slot(index);
        if self.is_local(index) {
            return false;
        }
        Self::grow_to(&mut blocks, slot, id)
    }

    /// Sets or clears a block written here.
    fn set_local(&self, index: BlockIndex, id: Option<BlockId>) -> bool {
        let mut blocks = self.blocks.write();
        let (slot, bit) = (Self::slot(index), 1 << Self::slot(index));
        match id {
            Some(id) => {
                self.local.fetch_or(bit, Ordering::AcqRel);
                Self::grow_to(&mut blocks, slot, id)
            }
            None => {
                self.local.fetch_and(!bit, Ordering::AcqRel);
                if let Some(block) = blocks.get_mut(slot) {
                    *block = None;
                }
                false
            }
        }
    }

    fn grow_to(blocks: &mut Vec<Option<BlockId>>, slot: usize, id: BlockId) -> bool {
        let grows = blocks.capacity() <= slot;
        if grows {
            let wanted = (slot + 1).next_power_of_two().min(BLOCKS_PER_CHUNK as usize);
            let more = wanted - blocks.len();
            blocks.reserve_exact(more);
        }
        if blocks.len() <= slot {
            blocks.resize(slot + 1, None);
        }
        blocks[slot] = Some(id);
        grows
    }

    fn bytes(&self) -> usize {
        self.blocks.read().capacity() * size_of::<Option<BlockId>>() + ROW_BYTES
    }

    fn forget(&self, index: BlockIndex, id: BlockId) {
        let mut blocks = self.blocks.write();
        if let Some(slot) = blocks.get_mut(Self::slot(index))
            && *slot == Some(id)
            && !self.is_local(index)
        {
            *slot = None;
        }
    }
}

/// What a file map says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// It was written here: nothing else is the file's content.
    Local(BlockId),
    /// Zeros, whatever the origin has.
    Hole,
    /// The origin's, if it has one there; and the copy of it that was cached, if one was.
    Origin(Option<BlockId>),
}

/// The rows that some blocks of a file are in.
pub struct Rows {
    first: u64,
    chunks: Vec<Arc<Chunk>>,
}

impl Rows {
    /// What the map says of one of the blocks.
    pub fn mapped(&self, index: u64) -> Mapped {
        self.chunks[(index / BLOCKS_PER_CHUNK - self.first) as usize].mapped(BlockIndex(index))
    }
}

#[derive(Default)]
struct Pending {
    blocks: Vec<(Ino, BlockIndex, BlockId)>,
    closing: bool,
}

/// Rows of an emptied file, by number.
type EmptyRows = Mutex<HashMap<u64, Arc<Chunk>>>;

/// The rows in use, and the writer of changes.
pub struct FileMaps {
    meta: Arc<MetaStore>,
    /// Held for reading while a row is loaded, for writing while what a transaction wrote is shown: a load that began before the
    /// transaction would bring back the row as it was.
    loads: [RwLock<()>; LOAD_GATES],
    rows: Cache<(Ino, u64), Arc<Chunk>>,
    /// Files that were emptied and whose rows still say what they were, with the rows that readers have instead: empty, but for what a round is just recording.
    emptied: RwLock<HashMap<Ino, EmptyRows>>,
    any_emptied: AtomicBool,
    pending: Mutex<Pending>,
    wake: Condvar,
    /// Held while a batch is taken and committed.
    committing: Mutex<()>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl FileMaps {
    pub(super) fn start(meta: Arc<MetaStore>, memory_bytes: u64) -> Arc<Self> {
        let rows = Cache::builder().max_capacity(memory_bytes).weigher(|_, chunk: &Arc<Chunk>| chunk.bytes() as u32).build();
        let loads = std::array::from_fn(|_| RwLock::default());
        let maps = Arc::new(FileMaps {
            meta,
            loads,
            rows,
            emptied: RwLock::default(),
            any_emptied: AtomicBool::new(false),
            pending: Mutex::default(),
            wake: Condvar::new(),
            committing: Mutex::default(),
            writer: Mutex::default(),
        });
        let shared = Arc::clone(&maps);
        let writer = std::thread::Builder::new().name("fby-maps".into()).spawn(move || shared.write_batches());
        *maps.writer.lock() = Some(writer.expect("the process can start a thread while starting up"));
        maps
    }

    /// A row, from memory or from the metadata engine; an empty one where none is stored.
    pub fn chunk(&self, ino: Ino, number: u64) -> Result<Arc<Chunk>, MetaError> {
        if let Some(row) = self.row_of_emptied(ino, number) {
            return Ok(row);
        }
        if let Some(row) = self.rows.get(&(ino, number)) {
            return Ok(row);
        }
        let _loading = self.gate(ino, number).read();
        if let Some(row) = self.row_of_emptied(ino, number) {
            return Ok(row);
        }
        let stored = self.meta.map_chunk(ino, number)?.unwrap_or_default();
        // Two loaders may race: both must end up with the same row, or one's changes would be invisible to the other.
        let chunk = || Arc::new(Chunk { blocks: RwLock::new(stored.blocks), local: AtomicU64::new(stored.local) });
        Ok(self.rows.get_with((ino, number), chunk))
    }

    /// Whether a file's rows are not its content any more.
    pub(super) fn is_emptied(&self, ino: Ino) -> bool {
        self.has_emptied() && self.emptied.read().contains_key(&ino)
    }

    fn row_of_emptied(&self, ino: Ino, number: u64) -> Option<Arc<Chunk>> {
        if !self.has_emptied() {
            return None;
        }
        self.emptied.read().get(&ino).map(|rows| Arc::clone(rows.lock().entry(number).or_default()))
    }

    /// Whether there are such files.
    pub(super) fn has_emptied(&self) -> bool {
        self.any_emptied.load(Ordering::Acquire)
    }

    /// Has a file's map, which has rows below a number, be empty, whatever these say, until [`FileMaps::is_recorded`].
    pub(super) fn empty(&self, ino: Ino, rows: u64) {
        {
            let mut emptied = self.emptied.write();
            emptied.insert(ino, Mutex::default());
            self.any_emptied.store(true, Ordering::Release);
        }
        // Loads that began before are waited for, and what they loaded is dropped.
        self.drop_rows(ino, 0..rows);
    }

    /// A file's rows are its content again.
    pub(super) fn is_recorded(&self, ino: Ino) {
        let mut emptied = self.emptied.write();
        emptied.remove(&ino);
        self.any_emptied.store(!emptied.is_empty(), Ordering::Release);
    }

    fn gate(&self, ino: Ino, number: u64) -> &RwLock<()> {
        &self.loads[ino.0.wrapping_add(number) as usize % LOAD_GATES]
    }

    /// The rows of some blocks; of at least one.
    pub fn rows(&self, ino: Ino, blocks: &Range<u64>) -> Result<Rows, MetaError> {
        let first = blocks.start / BLOCKS_PER_CHUNK;
        let chunks = (first..=(blocks.end - 1) / BLOCKS_PER_CHUNK).map(|number| self.chunk(ino, number));
        Ok(Rows { first, chunks: chunks.collect::<Result<_, _>>()? })
    }

    /// What the map says of one block.
    pub fn mapped(&self, ino: Ino, index: u64) -> Result<Mapped, MetaError> {
        Ok(self.chunk(ino, index / BLOCKS_PER_CHUNK)?.mapped(BlockIndex(index)))
    }

    /// Shows what a transaction has written of a file's blocks.
    pub(super) fn show_local(&self, ino: Ino, index: BlockIndex, id: Option<BlockId>) {
        let number = index.0 / BLOCKS_PER_CHUNK;
        if let Some(row) = self.row_of_emptied(ino, number) {
            // Who has it looks again once the round is over.
            row.set_local(index, id);
            return;
        }
        let _no_load = self.gate(ino, number).write();
        if let Some(row) = self.rows.get(&(ino, number))
            && row.set_local(index, id)
        {
            self.rows.insert((ino, number), row);
        }
    }

    /// Forgets rows in memory: the next reader takes them from the metadata.
    pub(super) fn drop_rows(&self, ino: Ino, numbers: Range<u64>) {
        let _no_loads: Vec<_> = self.loads.iter().map(RwLock::write).collect();
        if numbers.end - numbers.start <= self.rows.entry_count() {
            return numbers.for_each(|number| self.rows.invalidate(&(ino, number)));
        }
        let held = self.rows.iter().map(|(key, _)| *key).filter(|(of, number)| *of == ino && numbers.contains(number));
        held.collect::<Vec<_>>().iter().for_each(|key| self.rows.invalidate(key));
    }

    /// Records that a block of a file is stored under this identity.
    pub fn set(&self, ino: Ino, index: BlockIndex, id: BlockId) {
        if self.is_emptied(ino) {
            return;
        }
        let number = index.0 / BLOCKS_PER_CHUNK;
        match self.chunk(ino, number) {
            // Put in again, it is weighed again.
            Ok(row) if row.set(index, id) => self.rows.insert((ino, number), row),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%ino, block = index.0, %error, "file map row could not be read; the block will be fetched again");
                return;
            }
        }
        let mut pending = self.pending.lock();
        pending.blocks.push((ino, index, id));
        if pending.blocks.len() == 1 || pending.blocks.len() == BATCH {
            self.wake.notify_one();
        }
    }

    /// Forgets a block that turned out to be gone or corrupt. Only in memory: the stored row is a hint, and the block that
    /// is fetched instead overwrites it.
    pub fn forget(&self, ino: Ino, index: BlockIndex, id: BlockId) {
        if let Some(row) = self.rows.get(&(ino, index.0 / BLOCKS_PER_CHUNK)) {
            row.forget(index, id);
        }
    }

    /// Commits what is pending and stops the writer.
    pub fn close(&self) {
        self.pending.lock().closing = true;
        self.wake.notify_all();
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }

    fn write_batches(&self) {
        while self.wait_for_batch() {
            self.commit_pending();
        }
    }

    /// Commits all changes so far, and waits for those that somebody else is committing.
    pub(super) fn commit_pending(&self) {
        let _committing = self.committing.lock();
        let batch = std::mem::take(&mut self.pending.lock().blocks);
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.meta.map_blocks(&batch) {
            tracing::warn!(%error, blocks = batch.len(), "file maps could not be written; these blocks will be fetched again");
        }
    }

    /// Forgets changes of a file that are not committed yet, and keeps others from being committed while the guard is held.
    pub(super) fn without_pending(&self, ino: Ino) -> MutexGuard<'_, ()> {
        let guard = self.committing.lock();
        self.pending.lock().blocks.retain(|(of, ..)| *of != ino);
        guard
    }

    /// Waits for changes and lets them gather; `false` once closed and drained.
    fn wait_for_batch(&self) -> bool {
        let mut pending = self.pending.lock();
        while pending.blocks.is_empty() {
            if pending.closing {
                return false;
            }
            self.wake.wait(&mut pending);
        }
        while !pending.closing && pending.blocks.len() < BATCH {
            if self.wake.wait_for(&mut pending, LINGER).timed_out() {
                break;
            }
        }
        true
    }
}
