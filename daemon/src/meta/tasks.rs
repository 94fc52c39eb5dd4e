//! Tasks, by number.

use super::engine::{KeyRange, Order, Table};
use super::rows::damaged;
use super::{MetaError, MetaStore, TaskRow};
use crate::format::rows::{RowError, key};
use std::ops::ControlFlow;

/// A task with its number, or why its row does not decode.
pub type FoundTask = Result<(u64, TaskRow), MetaError>;

impl MetaStore {
    /// Every task with its number, in order. A row that does not decode is an error of its own: it must not take the others with it.
    pub fn tasks(&self) -> Result<Vec<FoundTask>, MetaError> {
        let everything = KeyRange { start: Vec::new(), end: None };
        let mut found = Vec::new();
        self.reading().view.scan(Table::Tasks, &everything, Order::Ascending, &mut |key, row| {
            let id = key::split_task(key).ok_or(RowError::Field("key"));
            let task = id.and_then(|id| Ok((id, TaskRow::decode(row)?)));
            found.push(task.map_err(damaged(Table::Tasks)));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Records a task.
    pub fn save_task(&self, id: u64, task: &TaskRow) -> Result<(), MetaError> {
        let row = task.encode();
        self.transact(|txn| {
            txn.write_plain(Table::Tasks, &key::task(id), row.clone());
            Ok(())
        })
    }

    /// Forgets tasks.
    pub fn remove_tasks(&self, ids: &[u64]) -> Result<(), MetaError> {
        self.transact(|txn| {
            ids.iter().for_each(|id| txn.remove_plain(Table::Tasks, &key::task(*id)));
            Ok(())
        })
    }
}
