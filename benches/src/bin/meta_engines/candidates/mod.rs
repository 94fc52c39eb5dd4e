//! The engines behind one small trait, each set up as the daemon would set it up: caches bounded, and the cheapest commit that
//! still survives `kill -9` where the engine has one.

mod fjall;
mod heed;
mod local;
mod redb;

use crate::{Engine, Outcome};
use std::path::Path;

pub use forebay_daemon::meta::engine::Table;

/// A row written, or removed for `None`.
pub type Change = (Table, Vec<u8>, Option<Vec<u8>>);

/// Called with each row's value.
pub type Visit<'a> = dyn FnMut(&[u8]) -> Outcome<()> + 'a;

/// An engine as the workloads use it.
pub trait Candidate {
    /// Applies changes atomically; durably if `durable`.
    fn commit(&mut self, changes: &[Change], durable: bool) -> Outcome<()>;
    /// A row.
    fn get(&self, table: Table, key: &[u8]) -> Outcome<Option<Vec<u8>>>;
    /// All rows of a table in order.
    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Outcome<()>;
    /// Makes everything durable.
    fn flush(&mut self) -> Outcome<()>;
}

/// The tables the workloads use.
const TABLES: [Table; 3] = [Table::Inodes, Table::Dirents, Table::Settings];

/// Opens or creates a database.
pub fn open(engine: Engine, dir: &Path, memory_bytes: usize) -> Outcome<Box<dyn Candidate>> {
    std::fs::create_dir_all(dir)?;
    Ok(match engine {
        Engine::Local => Box::new(local::Local::open(dir, memory_bytes)?),
        Engine::Fjall => Box::new(fjall::Fjall::open(dir, memory_bytes)?),
        Engine::Redb => Box::new(redb::Redb::open(dir, memory_bytes)?),
        Engine::Heed => Box::new(heed::Heed::open(dir)?),
    })
}
