//! A store in memory that can be told to refuse.

use super::{Fetched, KeyPage, ObjectStore, StoreFault};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

/// Keys on a page.
const PAGE: usize = 5;

#[derive(Default)]
pub(super) struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Refuses what begins so.
    pub(super) refuses: Mutex<Option<(&'static str, bool)>>,
}

impl MemoryStore {
    pub(super) fn keys(&self) -> Vec<String> {
        self.objects.lock().expect("no holder panics").keys().cloned().collect()
    }

    fn ask(&self, request: &'static str) -> Result<(), StoreFault> {
        match *self.refuses.lock().expect("no holder panics") {
            Some((refused, is_lasting)) if refused == request => Err(StoreFault { source: "refused".into(), is_lasting }),
            _ => Ok(()),
        }
    }
}

impl ObjectStore for MemoryStore {
    fn put(&self, key: &str, body: Bytes) -> Result<(), StoreFault> {
        self.ask("put")?;
        self.objects.lock().expect("no holder panics").insert(key.to_owned(), body);
        Ok(())
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Fetched, StoreFault> {
        self.ask("get")?;
        let objects = self.objects.lock().expect("no holder panics");
        let body = objects.get(key).ok_or_else(|| StoreFault { source: "no such key".into(), is_lasting: false })?;
        let bytes = body.slice(range.start as usize..range.end as usize).len() as u64;
        Ok(Fetched { bytes, first_byte: Duration::from_micros(1) })
    }

    fn list(&self, prefix: &str, token: Option<String>) -> Result<KeyPage, StoreFault> {
        self.ask("list")?;
        let after = token.unwrap_or_default();
        let all = self.keys().into_iter().filter(|key| key.starts_with(prefix) && *key > after);
        let keys: Vec<String> = all.take(PAGE).collect();
        let next = (keys.len() == PAGE).then(|| keys[PAGE - 1].clone());
        Ok(KeyPage { keys, next })
    }

    fn delete(&self, key: &str) -> Result<(), StoreFault> {
        self.ask("delete")?;
        self.objects.lock().expect("no holder panics").remove(key);
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
