//! Objects sent: each size by one connection and by several.

use super::{ObjectStore, Of, Store};
use crate::data::Objects;
use crate::error::Result;
use crate::meter::{Act, Sample, Worker, for_each, measure};
use crate::plan::Group;
use crate::row::{Recorder, RowId, Unit};
use std::sync::{Arc, Mutex};

pub(super) fn round(store: &mut Store, to: &mut Recorder<'_>) -> Result<()> {
    for size in store.plan.blocks.clone() {
        for threads in store.plan.stream_counts() {
            let keys = store.keys_of(size, threads);
            let id = Store::id(Group::Put, "PUT", Some(size), threads, Unit::Bytes);
            let made = puts(store, to, id, keys, size)?;
            // The last ones stay, to be read.
            let before = store.objects.insert(size, made).unwrap_or_default();
            store.delete(&before, to.stop())?;
        }
    }
    Ok(())
}

/// Measures PUTs of these keys; those that were made before the time was up.
pub(super) fn puts(store: &Store, to: &mut Recorder<'_>, id: RowId, keys: Vec<(u64, String)>, size: u64) -> Result<Vec<String>> {
    let made = Mutex::new(Vec::new());
    let (threads, stop, limit) = (id.threads, to.stop(), store.plan.limit);
    to.row(id, || {
        let putter = |n: usize| {
            let keys = keys.iter().skip(n).step_by(threads).cloned().collect();
            Putter { store: Arc::clone(&store.store), content: store.content.clone(), keys, size: size as usize, made: &made }
        };
        let sample: Sample = measure((0..threads).map(putter).collect(), limit, stop)?;
        Ok((sample, "one request each".to_owned()))
    })?;
    Ok(made.into_inner().expect("no holder panics"))
}

impl Store {
    /// New keys for objects of a size: as many as the plan has bytes for, and not more than it has files.
    pub(super) fn keys_of(&mut self, size: u64, threads: usize) -> Vec<(u64, String)> {
        let count = (self.plan.size_bytes / size).min(self.plan.files).max(threads as u64);
        self.new_keys(&size.to_string(), count)
    }

    /// Objects to read, made off the clock if no row made them.
    pub(super) fn objects_of(&mut self, size: u64, to: &Recorder<'_>) -> Result<Vec<String>> {
        if self.objects.get(&size).is_none_or(|keys| keys.is_empty()) {
            to.doing("sending objects to read");
            let threads = self.plan.threads;
            let mut keys = self.keys_of(size, threads);
            keys.truncate(threads * 4);
            let put =
                |(number, key): &(u64, String)| self.store.put(key, self.content.object(*number, size as usize)).of("put", key);
            for_each(&keys, threads, to.stop(), put)?;
            self.objects.insert(size, keys.into_iter().map(|(_, key)| key).collect());
        }
        Ok(self.objects[&size].clone())
    }
}

struct Putter<'a> {
    store: Arc<dyn ObjectStore>,
    content: Objects,
    keys: Vec<(u64, String)>,
    size: usize,
    made: &'a Mutex<Vec<String>>,
}

impl Worker for Putter<'_> {
    fn ready(&mut self) -> Result<bool> {
        Ok(!self.keys.is_empty())
    }

    fn act(&mut self) -> Result<Act> {
        let (number, key) = self.keys.pop().expect("ready said that there is one");
        self.store.put(&key, self.content.object(number, self.size)).of("put", &key)?;
        self.made.lock().expect("no holder panics").push(key);
        Ok(Act::moved(self.size))
    }
}
