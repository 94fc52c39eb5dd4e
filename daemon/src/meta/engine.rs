//! The seam to the metadata engine: tables of ordered keys, atomic batches with preconditions, consistent views.
//!
//! Nothing above knows which engine runs below. The logic assumes that anybody may commit between its reading and its
//! writing, so a distributed engine fits too: what a batch depends on stands in it as preconditions, and a commit either
//! finds all of them true and applies the whole batch, or changes nothing and answers [`EngineError::Conflict`].
//!
//! Invariants:
//! 1. A view shows whole commits only, and the same ones for as long as it lives.
//! 2. A commit that returned is in every view opened afterwards, and survives the death of the process.
//! 3. What survives a power cut is a prefix of the commits in their order, and includes all that were there at the last
//!    [`Engine::flush`] (or commit with [`Durability::Durable`]).
//! 4. Views neither block commits nor wait for them.

pub mod faulty;
pub mod local;
pub mod memory;

#[cfg(test)]
mod conformance;

use std::ops::ControlFlow;
use std::sync::Arc;

/// The tables. The number is stored; it never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Inodes, by number.
    Inodes = 1,
    /// Directory entries, by directory and name.
    Dirents = 2,
    /// Which block holds which part of a file, by inode and chunk.
    FileMap = 3,
    /// How far a directory has been listed.
    Listing = 4,
    /// Keys that no POSIX tree can hold, by directory.
    Hidden = 5,
    /// Targets of symbolic links.
    Symlinks = 6,
    /// Inodes without a name, not freed yet.
    Orphans = 7,
    /// Small named values.
    Settings = 8,
    /// Extended attributes, by inode and name.
    Xattrs = 9,
    /// Names removed here that the store still has, by directory and name.
    Whiteouts = 10,
    /// Names of a file beyond the one in its inode, by inode, directory and name.
    Links = 11,
    /// How many rows of file maps refer to a block written here, by fingerprint.
    Refs = 12,
    /// Limits, by user, group or project.
    Quotas = 13,
    /// What is used, by user, group or project, in parts.
    Usage = 14,
    /// For whom an inode counts, by inode.
    Charges = 15,
    /// Small writes that were synced before their blocks were stored, by inode and place.
    Intents = 16,
    /// Inodes that are not what the bucket says, by inode.
    Changes = 17,
    /// Objects whose names were taken away here, by key.
    Doomed = 18,
    /// Writes of objects under way, by inode and key.
    Uploads = 19,
    /// Tasks, by number.
    Tasks = 20,
    /// Links between directories and buckets, by number.
    Associations = 21,
    /// Files whose data is to stay here, by inode.
    Pins = 22,
    /// Snapshots, by name.
    Snapshots = 23,
    /// Which rows were written in an epoch over those of older ones, while there were snapshots.
    Rewritten = 24,
    /// Directories of clones whose entries are not all made yet, by directory.
    Clones = 25,
    /// What files with several names have become in a clone, by its root and the file.
    Twins = 26,
    /// Files whose content comes from another file's object, by the object's key and the file.
    Borrowers = 27,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 27] = [
        Table::Inodes,
        Table::Dirents,
        Table::FileMap,
        Table::Listing,
        Table::Hidden,
        Table::Symlinks,
        Table::Orphans,
        Table::Settings,
        Table::Xattrs,
        Table::Whiteouts,
        Table::Links,
        Table::Refs,
        Table::Quotas,
        Table::Usage,
        Table::Charges,
        Table::Intents,
        Table::Changes,
        Table::Doomed,
        Table::Uploads,
        Table::Tasks,
        Table::Associations,
        Table::Pins,
        Table::Snapshots,
        Table::Rewritten,
        Table::Clones,
        Table::Twins,
        Table::Borrowers,
    ];

    /// Whether its rows are kept by epoch.
    pub fn is_versioned(self) -> bool {
        matches!(
            self,
            Table::Inodes
                | Table::Dirents
                | Table::FileMap
                | Table::Listing
                | Table::Symlinks
                | Table::Xattrs
                | Table::Whiteouts
                | Table::Links
        )
    }

    /// The table of a stored number.
    pub fn from_number(number: u8) -> Option<Table> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// The table's name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Table::Inodes => "inodes",
            Table::Dirents => "dirents",
            Table::FileMap => "filemap",
            Table::Listing => "listing",
            Table::Hidden => "hidden",
            Table::Symlinks => "symlinks",
            Table::Orphans => "orphans",
            Table::Settings => "settings",
            Table::Xattrs => "xattrs",
            Table::Whiteouts => "whiteouts",
            Table::Links => "links",
            Table::Refs => "refs",
            Table::Quotas => "quotas",
            Table::Usage => "usage",
            Table::Charges => "charges",
            Table::Intents => "intents",
            Table::Changes => "changes",
            Table::Doomed => "doomed",
            Table::Uploads => "uploads",
            Table::Tasks => "tasks",
            Table::Associations => "associations",
            Table::Pins => "pins",
            Table::Snapshots => "snapshots",
            Table::Rewritten => "rewritten",
            Table::Clones => "clones",
            Table::Twins => "twins",
            Table::Borrowers => "borrowers",
        }
    }
}

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the hands of the kernel: survives the process.
    Process,
    /// On the device: survives a power cut.
    Durable,
}

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A precondition did not hold; nothing was changed.
    #[error("a precondition did not hold")]
    Conflict,
    /// Another process has the store open.
    #[error("another process has the metadata open")]
    Locked,
    /// Anything else. Whether a commit that failed like this was applied is not known.
    #[error("{engine}: {source}")]
    Failed {
        /// The engine's name.
        engine: &'static str,
        /// Its error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A change to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub table: Table,
    pub key: Vec<u8>,
    /// `None` removes the row.
    pub value: Option<Vec<u8>>,
}

/// What a row must be for a batch to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expectation {
    pub table: Table,
    pub key: Vec<u8>,
    /// `None`: there must be no such row.
    pub value: Option<Vec<u8>>,
}

/// Changes that are applied together or not at all. A later change to the same row wins.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) writes: Vec<Write>,
    pub(crate) expects: Vec<Expectation>,
    pub(crate) read_at: Option<u64>,
}

impl Batch {
    /// Writes a row.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push(Write { table, key: key.into(), value: Some(value.into()) });
    }

    /// Removes a row; it need not exist.
    pub fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.writes.push(Write { table, key: key.into(), value: None });
    }

    /// Makes the batch depend on a row: it must have this value, or not exist for `None`.
    pub fn expect(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Option<Vec<u8>>) {
        self.expects.push(Expectation { table, key: key.into(), value });
    }

    /// Says at which [`View::stamp`] all preconditions held, so that an engine that saw no commit since need not check them.
    pub fn read_at(&mut self, stamp: u64) {
        self.read_at = Some(stamp);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// A half-open range of keys: `start` inclusive, `end` exclusive (`None` = to the end of the table).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Vec<u8>,
    /// The first key beyond.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        KeyRange { start: prefix.to_vec(), end: crate::format::rows::key::after_prefix(prefix) }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key up.
    Ascending,
    /// From the greatest key down.
    Descending,
}

/// Called with each row's key and value; breaks to stop.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A consistent state of all tables.
pub trait View: Send + Sync {
    /// A row's value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;
    /// The rows of a range, one after the other.
    fn scan(&self, table: Table, range: &KeyRange, order: Order, visit: &mut Visit<'_>) -> Result<(), EngineError>;
    /// Which commits the view shows: two views with the same stamp show the same, and a batch may name it in [`Batch::read_at`].
    fn stamp(&self) -> u64;
}

impl<V: View + ?Sized> View for &V {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        (**self).get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, order: Order, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        (**self).scan(table, range, order, visit)
    }

    fn stamp(&self) -> u64 {
        (**self).stamp()
    }
}

/// A metadata engine.
pub trait Engine: Send + Sync + 'static {
    /// A view of everything committed.
    fn view(&self) -> Box<dyn View + '_>;
    /// Checks the batch's preconditions and applies it, atomically.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError>;
    /// Makes everything committed durable.
    fn flush(&self) -> Result<(), EngineError>;
}

impl<E: Engine + ?Sized> Engine for Arc<E> {
    fn view(&self) -> Box<dyn View + '_> {
        (**self).view()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        (**self).commit(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        (**self).flush()
    }
}

/// Whether every precondition holds in a view.
pub(crate) fn expectations_hold(view: &dyn View, batch: &Batch) -> Result<bool, EngineError> {
    if batch.read_at == Some(view.stamp()) {
        return Ok(true);
    }
    for expect in &batch.expects {
        if view.get(expect.table, &expect.key)? != expect.value {
            return Ok(false);
        }
    }
    Ok(true)
}
