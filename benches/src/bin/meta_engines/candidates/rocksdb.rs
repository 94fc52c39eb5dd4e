//! RocksDB, all tables in one column family, with the same memory as fjall.

use super::{Candidate, Change, Table, Visit};
use crate::Outcome;
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, IteratorMode, Options, WriteBatch, WriteOptions};
use std::path::Path;

const WRITE_BUFFER_BYTES: usize = 8 << 20;
const WRITE_BUFFERS: i32 = 4;

pub struct Rocks(DB);

impl Rocks {
    pub fn open(dir: &Path, memory_bytes: usize) -> Outcome<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(memory_bytes.saturating_sub(5 * WRITE_BUFFER_BYTES)));
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        options.set_max_write_buffer_number(WRITE_BUFFERS);
        options.set_max_background_jobs(2);
        options.set_compression_type(DBCompressionType::Lz4);
        Ok(Rocks(DB::open(&options, dir)?))
    }
}

fn stored(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}

impl Candidate for Rocks {
    fn commit(&mut self, changes: &[Change], durable: bool) -> Outcome<()> {
        let mut batch = WriteBatch::default();
        for (table, key, value) in changes {
            match value {
                Some(value) => batch.put(stored(*table, key), value),
                None => batch.delete(stored(*table, key)),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durable);
        Ok(self.0.write_opt(batch, &options)?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Ok(self.0.get(stored(table, key))?)
    }

    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Outcome<()> {
        let start = [table as u8];
        for row in self.0.iterator(IteratorMode::From(&start, rocksdb::Direction::Forward)) {
            let (key, value) = row?;
            if !key.starts_with(&start) {
                break;
            }
            visit(&value)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        Ok(self.0.flush_wal(true)?)
    }
}
