//! Objects read whole, and ranges of large ones, as a cache reads them: with the time to the first byte apart from the whole.

use super::{ObjectStore, Of, Store};
use crate::error::Result;
use crate::meter::{Act, Worker, measure};
use crate::order::splitmix;
use crate::plan::Group;
use crate::row::{Recorder, RowId, Unit};
use std::sync::Arc;

/// A range is this part of the largest objects.
const RANGES: u64 = 8;

pub(super) fn round(store: &mut Store, to: &mut Recorder<'_>) -> Result<()> {
    for size in store.plan.blocks.clone() {
        let keys = store.objects_of(size, to)?;
        for threads in store.plan.stream_counts() {
            let id = Store::id(Group::Get, "GET", Some(size), threads, Unit::Bytes);
            gets(store, to, id, &keys, (size, size))?;
        }
    }
    let size = store.plan.blocks.iter().copied().max().unwrap_or(0);
    let range = size / RANGES;
    if range > 0 {
        let keys = store.objects_of(size, to)?;
        for threads in store.plan.stream_counts() {
            let id = Store::id(Group::Get, "GET range", Some(range), threads, Unit::Bytes);
            gets(store, to, id, &keys, (size, range))?;
        }
    }
    Ok(())
}

fn gets(store: &Store, to: &mut Recorder<'_>, id: RowId, keys: &[String], shape: (u64, u64)) -> Result<()> {
    let (stop, limit, threads) = (to.stop(), store.plan.limit, id.threads);
    let (size, range) = shape;
    to.row(id, || {
        let getter = |n| Getter { store: Arc::clone(&store.store), keys, size, range, at: n as u64, step: threads as u64 };
        Ok((measure((0..threads).map(getter).collect(), limit, stop)?, "sent before, read repeatedly".to_owned()))
    })
}

struct Getter<'a> {
    store: Arc<dyn ObjectStore>,
    keys: &'a [String],
    size: u64,
    range: u64,
    at: u64,
    step: u64,
}

impl Worker for Getter<'_> {
    fn ready(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn act(&mut self) -> Result<Act> {
        let key = &self.keys[(self.at % self.keys.len() as u64) as usize];
        let from = splitmix(self.at) % (self.size / self.range) * self.range;
        self.at += self.step;
        let fetched = self.store.get(key, from..from + self.range).of("get", key)?;
        Ok(Act { count: 1, bytes: fetched.bytes, first: Some(fetched.first_byte) })
    }
}
