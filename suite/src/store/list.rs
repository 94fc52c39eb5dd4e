//! Many tiny objects: sent, listed, deleted one by one.

use super::put::puts;
use super::{ObjectStore, Of, Store};
use crate::error::Result;
use crate::meter::{Act, Worker, measure};
use crate::plan::Group;
use crate::row::{Recorder, Unit};
use std::sync::Arc;

/// Bytes in each object: requests, not bytes, are what is counted.
pub(super) const TINY: u64 = 128;

pub(super) fn round(store: &mut Store, to: &mut Recorder<'_>) -> Result<()> {
    let threads = store.plan.threads;
    let keys = store.new_keys("tiny", store.plan.files);
    let id = Store::id(Group::List, "PUT", Some(TINY), threads, Unit::Files);
    let made = puts(store, to, id, keys, TINY)?;
    let prefix = format!("{}tiny/", store.prefix);
    for threads in store.plan.stream_counts() {
        lists(store, to, &prefix, threads)?;
    }
    deletes(store, to, &made)?;
    // What the time did not suffice for would be listed in the next round.
    store.clean(&prefix, to.stop())
}

fn lists(store: &Store, to: &mut Recorder<'_>, prefix: &str, threads: usize) -> Result<()> {
    let (stop, limit) = (to.stop(), store.plan.limit);
    to.row(Store::id(Group::List, "LIST", None, threads, Unit::Names), || {
        let lister = |_| Lister { store: Arc::clone(&store.store), prefix: prefix.to_owned(), token: None };
        let sample = measure((0..threads).map(lister).collect(), limit, stop)?;
        Ok((sample, "names a second; latency of a page".to_owned()))
    })
}

fn deletes(store: &Store, to: &mut Recorder<'_>, keys: &[String]) -> Result<()> {
    let (stop, limit, threads) = (to.stop(), store.plan.limit, store.plan.threads);
    to.row(Store::id(Group::List, "DELETE", None, threads, Unit::Files), || {
        let deleter = |n: usize| {
            let keys = keys.iter().skip(n).step_by(threads).cloned().collect();
            Deleter { store: Arc::clone(&store.store), keys }
        };
        Ok((measure((0..threads).map(deleter).collect(), limit, stop)?, "one request each".to_owned()))
    })
}

/// Page by page, and again from the front.
struct Lister {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    token: Option<String>,
}

impl Worker for Lister {
    fn ready(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn act(&mut self) -> Result<Act> {
        let page = self.store.list(&self.prefix, self.token.take()).of("list", &self.prefix)?;
        self.token = page.next;
        Ok(Act { count: page.keys.len() as u64, ..Act::default() })
    }
}

struct Deleter {
    store: Arc<dyn ObjectStore>,
    keys: Vec<String>,
}

impl Worker for Deleter {
    fn ready(&mut self) -> Result<bool> {
        Ok(!self.keys.is_empty())
    }

    fn act(&mut self) -> Result<Act> {
        let key = self.keys.pop().expect("ready said that there is one");
        self.store.delete(&key).of("delete", &key)?;
        Ok(Act::done())
    }
}
