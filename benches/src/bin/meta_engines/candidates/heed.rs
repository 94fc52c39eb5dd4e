//! LMDB through heed, with `MDB_NOSYNC`: commits reach the kernel, and `flush` the disk. (A power cut between two flushes can
//! then damage the file; without the flag every commit waits for the disk.)

use super::{Candidate, Change, TABLES, Table, Visit};
use crate::Outcome;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, WithTls};
use std::path::Path;

const MAP_BYTES: usize = 16 << 30;

pub struct Heed {
    env: &'static Env<WithTls>,
    tables: Vec<(Table, Database<'static, Bytes, Bytes>)>,
}

impl Heed {
    pub fn open(dir: &Path) -> Outcome<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_dbs(TABLES.len() as u32);
        // SAFETY: without NOSYNC's durability, which the bench does not rely on; the file is ours alone while it is mapped.
        let env = unsafe { options.flags(EnvFlags::NO_SYNC).open(dir)? };
        // One database per process, and handles borrow from it.
        let env: &'static Env<WithTls> = Box::leak(Box::new(env));
        let mut tables = Vec::new();
        for table in TABLES {
            let created = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
                opener.create_database::<Bytes, Bytes>(txn, Some(table.name())).map(CommitOrAbort::<_, ()>::Commit)
            })?;
            tables.push((table, created.unwrap_commit()));
        }
        Ok(Heed { env, tables })
    }

    fn table(&self, table: Table) -> &Database<'static, Bytes, Bytes> {
        &self.tables.iter().find(|(of, _)| *of == table).expect("one of TABLES").1
    }
}

impl Candidate for Heed {
    fn commit(&mut self, changes: &[Change], durable: bool) -> Outcome<()> {
        let mut txn = self.env.write_txn()?;
        for (table, key, value) in changes {
            match value {
                Some(value) => self.table(*table).put(&mut txn, key, value)?,
                None => self.table(*table).delete(&mut txn, key).map(drop)?,
            }
        }
        txn.commit()?;
        if durable { self.flush() } else { Ok(()) }
    }

    fn get(&self, table: Table, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let txn = self.env.read_txn()?;
        Ok(self.table(table).get(&txn, key)?.map(<[u8]>::to_vec))
    }

    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Outcome<()> {
        let txn = self.env.read_txn()?;
        for row in self.table(table).iter(&txn)? {
            visit(row?.1)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        Ok(self.env.force_sync()?)
    }
}
