//! redb. Its only commit that survives `kill -9` is the durable one; the other one is measured to know what it would cost.

use super::{Candidate, Change, Table, Visit};
use crate::Outcome;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: Table) -> Rows {
    TableDefinition::new(table.name())
}

pub struct Redb(Database);

impl Redb {
    pub fn open(dir: &Path, memory_bytes: usize) -> Outcome<Self> {
        let db = Database::builder().set_cache_size(memory_bytes).create(dir.join("redb"))?;
        let txn = db.begin_write()?;
        for table in super::TABLES {
            txn.open_table(definition(table))?;
        }
        txn.commit()?;
        Ok(Redb(db))
    }

    fn apply(&self, changes: &[Change], durability: Durability) -> Outcome<()> {
        let mut txn = self.0.begin_write()?;
        txn.set_durability(durability)?;
        for table in super::TABLES {
            let mut changes = changes.iter().filter(|(of, ..)| *of == table).peekable();
            if changes.peek().is_none() {
                continue;
            }
            let mut rows = txn.open_table(definition(table))?;
            for (_, key, value) in changes {
                match value {
                    Some(value) => rows.insert(key.as_slice(), value.as_slice()).map(drop)?,
                    None => rows.remove(key.as_slice()).map(drop)?,
                }
            }
        }
        Ok(txn.commit()?)
    }
}

impl Candidate for Redb {
    fn commit(&mut self, changes: &[Change], durable: bool) -> Outcome<()> {
        self.apply(changes, if durable { Durability::Immediate } else { Durability::None })
    }

    fn get(&self, table: Table, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let rows = self.0.begin_read()?.open_table(definition(table))?;
        let found = rows.get(key)?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Outcome<()> {
        let rows = self.0.begin_read()?.open_table(definition(table))?;
        for row in rows.iter()? {
            visit(row?.1.value())?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        self.apply(&[], Durability::Immediate)
    }
}
