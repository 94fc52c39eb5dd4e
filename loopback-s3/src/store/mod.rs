//! What is stored: buckets, objects, versions, uploads. No HTTP, no async.
//!
//! 1. Readers hold `Arc`s: what a GET has begun to read stays whole, whatever is written meanwhile.

mod body;
mod bucket;
mod direct;
mod error;
mod list;
mod object;
mod spill;
mod synthetic;
#[cfg(test)]
mod tests;

mod upload;

pub use body::Body;
pub(crate) use bucket::WriteCondition;
pub use bucket::{Bucket, Deletion, Versioning};
pub use direct::BucketHandle;
pub use error::Refusal;
pub use list::{Listed, Page, PageRequest, Start};
pub use object::{Etag, Object, ObjectHeaders, Revision, UnixMs, VersionId};
pub(crate) use spill::{SpillWriter, read_cached};
pub use synthetic::Texture;
pub(crate) use synthetic::mix;
pub(crate) use upload::{Part, WantedPart};

use crate::config::{EtagKind, LoopbackConfig};
use parking_lot::RwLock;
use spill::SpillDir;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All buckets, and how their objects are kept.
#[derive(Debug)]
pub(crate) struct Store {
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    spill: Option<(u64, Arc<SpillDir>)>,
    pub(crate) etags: EtagKind,
}

impl Store {
    pub(crate) fn new(config: &LoopbackConfig) -> std::io::Result<Store> {
        let spill = match &config.spill {
            Some(spill) => Some((spill.threshold_bytes, SpillDir::create(spill.directory.as_deref())?)),
            None => None,
        };
        Ok(Store { buckets: RwLock::default(), spill, etags: config.etags })
    }

    pub(crate) fn bucket(&self, name: &str) -> Result<Arc<Bucket>, Refusal> {
        self.buckets.read().get(name).cloned().ok_or(Refusal::NoSuchBucket)
    }

    pub(crate) fn create_bucket(&self, name: &str) -> Result<Arc<Bucket>, Refusal> {
        let mut buckets = self.buckets.write();
        if buckets.contains_key(name) {
            return Err(Refusal::BucketExists);
        }
        let bucket = Arc::new(Bucket::new(name));
        buckets.insert(name.to_owned(), bucket.clone());
        Ok(bucket)
    }

    pub(crate) fn delete_bucket(&self, name: &str) -> Result<(), Refusal> {
        let mut buckets = self.buckets.write();
        let bucket = buckets.get(name).ok_or(Refusal::NoSuchBucket)?;
        if !bucket.is_vacant() {
            return Err(Refusal::BucketNotEmpty);
        }
        buckets.remove(name);
        Ok(())
    }

    pub(crate) fn all_buckets(&self) -> Vec<Arc<Bucket>> {
        self.buckets.read().values().cloned().collect()
    }

    /// From this many bytes on, bodies go to files.
    pub(crate) fn spill_threshold(&self) -> u64 {
        self.spill.as_ref().map_or(u64::MAX, |(threshold, _)| *threshold)
    }

    /// A new spill file. Only where `spill_threshold` can be reached.
    pub(crate) fn spill_writer(&self) -> std::io::Result<SpillWriter> {
        let (_, directory) = self.spill.as_ref().expect("nothing reaches the threshold without a spill directory");
        directory.writer()
    }
}
