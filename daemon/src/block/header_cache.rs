//! Verified extent headers in memory, so that a small read costs only the sectors it asks for.
//!
//! Bounded in bytes, sharded, second-chance replacement. A key includes the segment's sequence number: what belonged to an earlier
//! use of a segment is never found under the present one.

use super::index::SegmentNo;
use crate::format::ExtentHeader;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

const SHARDS: usize = 16;
/// What an entry costs beside the header itself: map slot, queue slot, reference counts.
const OVERHEAD_BYTES: usize = 96;

/// Which extent header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderKey {
    /// The segment.
    pub segment: SegmentNo,
    /// Which use of the segment.
    pub seq: u64,
    /// The header's sector in it.
    pub sector: u32,
}

struct Slot {
    header: Arc<ExtentHeader>,
    bytes: usize,
    used: bool,
}

#[derive(Default)]
struct Shard {
    slots: HashMap<HeaderKey, Slot>,
    order: VecDeque<HeaderKey>,
    bytes: usize,
}

/// The cache.
pub struct HeaderCache {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes: usize,
}

impl HeaderCache {
    /// A cache of at most `bytes`.
    pub fn new(bytes: usize) -> Self {
        HeaderCache { shards: std::array::from_fn(|_| Mutex::default()), shard_bytes: bytes / SHARDS }
    }

    fn shard(&self, key: &HeaderKey) -> &Mutex<Shard> {
        let mixed = (u64::from(key.segment.0) << 32 | u64::from(key.sector)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(mixed >> 60) as usize % SHARDS]
    }

    /// A header, if it is here.
    pub fn get(&self, key: &HeaderKey) -> Option<Arc<ExtentHeader>> {
        let mut shard = self.shard(key).lock();
        let slot = shard.slots.get_mut(key)?;
        slot.used = true;
        Some(slot.header.clone())
    }

    /// Keeps a verified header, dropping others as the bound demands.
    pub fn insert(&self, key: HeaderKey, header: Arc<ExtentHeader>) {
        let bytes = header.memory() + OVERHEAD_BYTES;
        let mut shard = self.shard(&key).lock();
        match shard.slots.insert(key, Slot { header, bytes, used: false }) {
            Some(old) => shard.bytes -= old.bytes,
            None => shard.order.push_back(key),
        }
        shard.bytes += bytes;
        shard.trim(self.shard_bytes);
    }

    /// Memory in use, in bytes.
    #[cfg(test)]
    pub fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }
}

impl Shard {
    fn trim(&mut self, limit: usize) {
        while self.bytes > limit {
            let Some(key) = self.order.pop_front() else { return };
            let slot = self.slots.get_mut(&key).expect("every queued key has a slot");
            if std::mem::take(&mut slot.used) {
                self.order.push_back(key);
                continue;
            }
            self.bytes -= slot.bytes;
            self.slots.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ExtentBuilder, Stamp};
    use crate::ids::{DeviceId, FsId};

    fn header() -> Arc<ExtentHeader> {
        let stamp = Stamp { fs: FsId([0; 16]), device: DeviceId(0), segment: 0, seq: 0 };
        Arc::new(ExtentBuilder::new(1 << 20).finish(stamp, 1))
    }

    fn key(sector: u32) -> HeaderKey {
        HeaderKey { segment: SegmentNo(1), seq: 1, sector }
    }

    #[test]
    fn memory_stays_within_the_bound_and_the_used_stay_longest() {
        let cache = HeaderCache::new(64 << 10);
        cache.insert(key(0), header());
        for sector in 1..5000 {
            assert!(cache.get(&key(0)).is_some(), "a header in use was dropped after {sector} others");
            cache.insert(key(sector), header());
            assert!(cache.memory_bytes() <= 64 << 10);
        }
        assert!(cache.get(&key(1)).is_none());
        assert!(cache.get(&key(4999)).is_some());
    }

    #[test]
    fn an_earlier_use_of_a_segment_is_not_found() {
        let cache = HeaderCache::new(64 << 10);
        cache.insert(key(3), header());
        assert!(cache.get(&HeaderKey { seq: 2, ..key(3) }).is_none());
    }
}
