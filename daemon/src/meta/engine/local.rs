//! The metadata engine of one machine: a journal, rows of recent commits in memory, and a B-tree (redb) that takes them in.
//!
//! A commit checks its preconditions, appends one record to the journal file (in the kernel's hands when `write` returns), and
//! adds its rows to the active memtable. When that is full it is frozen, a new memtable and journal file begin, and the
//! checkpointer takes the frozen one into the tree in one durable transaction; then its journal file goes. Commits wait only
//! when both memtables are full. Opening replays what the tree does not hold: two memtables at most.
//!
//! Why not an engine alone: see `docs/decisions/0001-metadata-engine.md`.

mod journal;
mod memtable;
mod tree;
mod view;

#[cfg(test)]
mod tests;

use super::{Batch, Durability, Engine, EngineError, View, Write, expectations_hold};
use crate::format::rows::journal::{JournalWrite, encode_record};
use arc_swap::ArcSwap;
use journal::Journal;
use memtable::Memtable;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tree::Tree;
use view::{LocalView, State};

/// Bytes of keys and values in a memtable before it is frozen: large enough that a checkpoint's sync is little per row, small
/// enough that replaying two takes well below a tenth of a second.
const MEMTABLE_BYTES: usize = 4 << 20;
/// What two memtables take in all, with the nodes around small rows.
const MEMTABLES_MEMORY: usize = 6 * MEMTABLE_BYTES;
/// The least page cache, in bytes, however little memory is granted.
const CACHE_MIN_BYTES: usize = 8 << 20;

/// Why the engine takes no commits any more.
#[derive(Clone, Debug, thiserror::Error)]
#[error("an earlier write failed, and no more are taken until a restart: {0}")]
struct Broken(String);

/// What only the holder of the lock may do: write the journal, change the state.
struct Writer {
    journal: Journal,
    broken: Option<Broken>,
    stopping: bool,
}

impl Writer {
    fn check(&self) -> Result<(), EngineError> {
        match &self.broken {
            None => Ok(()),
            Some(broken) => Err(EngineError::Failed { engine: "local", source: Box::new(broken.clone()) }),
        }
    }
}

struct Shared {
    tree: Tree,
    state: ArcSwap<State>,
    /// The last commit that views may show.
    visible: AtomicU64,
    writer: Mutex<Writer>,
    /// There is a frozen memtable, or the engine stops.
    work: Condvar,
    /// The frozen memtable is gone.
    room: Condvar,
    /// The last commit that is durable. One flush at a time, so that each returns only when what it saw is.
    flushed: Mutex<u64>,
}

/// The engine of one machine.
pub struct LocalEngine {
    shared: Arc<Shared>,
    checkpointer: Option<JoinHandle<()>>,
}

impl LocalEngine {
    /// Opens or creates the engine's files in a directory; caches and memtables together stay near `memory_bytes`.
    pub fn open(dir: &Path, memory_bytes: usize) -> Result<Self, EngineError> {
        std::fs::create_dir_all(dir).map_err(journal::failed)?;
        let cache = memory_bytes.saturating_sub(MEMTABLES_MEMORY).max(CACHE_MIN_BYTES);
        // The tree's lock guards the journal too.
        let tree = Tree::open(&dir.join("tree.redb"), cache)?;
        let replayed = Memtable::default();
        let (journal, last) = Journal::recover(dir, tree.applied()?, &mut |record| {
            for write in record.writes {
                let key = stored_key(write.table, write.key);
                replayed.insert(key, record.sequence, write.value.map(<[u8]>::to_vec));
            }
        })?;
        let frozen = (replayed.bytes() > 0).then(|| (Arc::new(replayed), last));
        let state = State { active: Arc::default(), frozen, tree: tree.snapshot()? };
        let shared = Arc::new(Shared {
            tree,
            state: ArcSwap::from_pointee(state),
            visible: AtomicU64::new(last),
            writer: Mutex::new(Writer { journal, broken: None, stopping: false }),
            work: Condvar::new(),
            room: Condvar::new(),
            // What was replayed may be in the kernel's hands only.
            flushed: Mutex::new(0),
        });
        let checkpointer = std::thread::Builder::new()
            .name("meta-checkpoint".into())
            .spawn({
                let shared = shared.clone();
                move || shared.checkpoint_until_stopped()
            })
            .map_err(journal::failed)?;
        Ok(LocalEngine { shared, checkpointer: Some(checkpointer) })
    }
}

#[cfg(test)]
impl LocalEngine {
    /// Waits until no checkpoint is due: the files change no more before the next commit.
    pub fn settle(&self) {
        while self.shared.state.load().frozen.is_some() {
            std::thread::yield_now();
        }
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        self.shared.writer.lock().stopping = true;
        self.shared.work.notify_all();
        if let Some(thread) = self.checkpointer.take() {
            // A checkpoint under way is finished; one not begun is the next start's replay.
            let _ = thread.join();
        }
    }
}

impl Engine for LocalEngine {
    fn view(&self) -> Box<dyn View + '_> {
        Box::new(self.shared.open_view())
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.shared.commit(batch)?;
        match durability {
            Durability::Process => Ok(()),
            Durability::Durable => self.shared.flush(),
        }
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.shared.flush()
    }
}

impl Shared {
    fn open_view(&self) -> LocalView {
        loop {
            let state = self.state.load_full();
            let sequence = self.visible.load(Ordering::Acquire);
            // Were it frozen in between, commits up to `sequence` could be in a memtable that this state does not have.
            if Arc::ptr_eq(&state, &self.state.load()) {
                return LocalView { state, sequence };
            }
        }
    }

    fn commit(&self, batch: Batch) -> Result<(), EngineError> {
        let mut writer = self.lock_with_room()?;
        if !batch.expects.is_empty() && !expectations_hold(&self.open_view(), &batch)? {
            return Err(EngineError::Conflict);
        }
        let sequence = self.visible.load(Ordering::Acquire) + 1;
        let writes = last_writes(batch.writes);
        let recorded = writes.iter().map(|w| JournalWrite { table: w.table as u8, key: &w.key, value: w.value.as_deref() });
        writer.journal.append(&encode_record(sequence, writes.len(), recorded))?;
        let active = self.state.load_full().active.clone();
        for write in writes {
            active.insert(stored_key(write.table as u8, &write.key), sequence, write.value);
        }
        self.visible.store(sequence, Ordering::Release);
        self.freeze_if_full(&mut writer);
        Ok(())
    }

    /// The writer's lock, once there is room for a commit.
    fn lock_with_room(&self) -> Result<MutexGuard<'_, Writer>, EngineError> {
        let mut writer = self.writer.lock();
        loop {
            writer.check()?;
            let state = self.state.load();
            if state.active.bytes() < MEMTABLE_BYTES || state.frozen.is_none() {
                return Ok(writer);
            }
            drop(state);
            self.room.wait(&mut writer);
        }
    }

    /// Begins a new memtable and journal file when the active one is full and no other is being taken in.
    fn freeze_if_full(&self, writer: &mut Writer) {
        let state = self.state.load_full();
        if state.active.bytes() < MEMTABLE_BYTES || state.frozen.is_some() {
            return;
        }
        let last = self.visible.load(Ordering::Acquire);
        if let Err(error) = writer.journal.begin_segment(last + 1) {
            // A full disk, perhaps: the next commit tries again, and fails by itself if there is no space for it.
            tracing::warn!(%error, "the metadata journal could not begin a new file");
            return;
        }
        let tree = match self.tree.snapshot() {
            Ok(tree) => tree,
            Err(error) => return self.break_down(writer, &error),
        };
        self.state.store(Arc::new(State { active: Arc::default(), frozen: Some((state.active.clone(), last)), tree }));
        self.work.notify_one();
    }

    fn checkpoint_until_stopped(&self) {
        while let Some((frozen, last)) = self.next_frozen() {
            let taken_in = self.tree.checkpoint(&frozen, last).and_then(|()| self.tree.snapshot());
            let mut writer = self.writer.lock();
            match taken_in {
                Ok(tree) => {
                    let active = self.state.load().active.clone();
                    self.state.store(Arc::new(State { active, frozen: None, tree }));
                    writer.journal.forget(last);
                    self.freeze_if_full(&mut writer);
                }
                Err(error) => self.break_down(&mut writer, &error),
            }
            let broken = writer.broken.is_some();
            drop(writer);
            self.room.notify_all();
            if broken {
                return;
            }
        }
    }

    /// Waits for a frozen memtable; `None` when the engine stops.
    fn next_frozen(&self) -> Option<(Arc<Memtable>, u64)> {
        let mut writer = self.writer.lock();
        loop {
            if writer.stopping {
                return None;
            }
            if let Some(frozen) = self.state.load().frozen.clone() {
                return Some(frozen);
            }
            self.work.wait(&mut writer);
        }
    }

    fn break_down(&self, writer: &mut Writer, error: &EngineError) {
        tracing::error!(%error, "metadata can be read but no longer changed until a restart");
        writer.broken = Some(Broken(error.to_string()));
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut flushed = self.flushed.lock();
        let (files, dir, last) = {
            let mut writer = self.writer.lock();
            writer.check()?;
            let last = self.visible.load(Ordering::Acquire);
            if last == *flushed {
                return Ok(());
            }
            writer.journal.write_ahead();
            let (files, dir) = writer.journal.unsynced();
            (files, dir, last)
        };
        // Commits go on meanwhile. The files first: a name without its content would only be replayed as an empty end.
        let files_synced = files.iter().try_for_each(|file| file.sync_data());
        let synced = files_synced.and_then(|()| dir.map_or(Ok(()), |dir| journal::sync_dir(&dir)));
        synced.map_err(|error| {
            // The kernel may have dropped the pages it could not write: nothing in these files is certain any more.
            let error = journal::failed(error);
            self.break_down(&mut self.writer.lock(), &error);
            error
        })?;
        *flushed = last;
        Ok(())
    }
}

/// A key as memtables and tree hold it: the table's number in front.
fn stored_key(table: u8, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(table);
    stored.extend_from_slice(key);
    stored
}

/// Drops all but the last write to each row, and sorts them: a memtable holds one state of a row per commit.
fn last_writes(mut writes: Vec<Write>) -> Vec<Write> {
    writes.reverse();
    writes.sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
    writes.dedup_by(|later, kept| (later.table, &later.key) == (kept.table, &kept.key));
    writes
}
