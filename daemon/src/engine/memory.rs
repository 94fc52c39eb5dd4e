//! How `--memory-target` is divided, and the governor that keeps the process below it.

use crate::cache::Cache;
use std::sync::Weak;
use std::time::Duration;

/// Shares of the memory target, in bytes. What is left (about a quarter) covers code, stacks, connections and allocator slack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// Device buffers, registered with the rings.
    pub(super) arena: usize,
    /// Data in flight from the store and fetched ahead.
    pub(super) fetch: usize,
    /// Of that: handed to the block store and not yet on a device.
    pub(super) fill: usize,
    /// Data written and not yet on a device.
    pub(super) dirty: usize,
    /// Bodies on their way to the bucket.
    pub(super) export: usize,
    /// Verified frame headers.
    pub(super) headers: usize,
    /// File-map rows.
    pub(super) maps: usize,
    /// The metadata engine.
    pub(super) metadata: usize,
}

impl Shares {
    pub(super) fn of(target: u64, copies: u8) -> Self {
        let part = |divisor: u64| (target / divisor) as usize;
        Shares {
            arena: part(8),
            fetch: part(4),
            fill: part(16),
            // The data itself, and as much again in extents for each copy.
            dirty: part(4 * (1 + u64::from(copies))),
            export: part(16),
            headers: part(32),
            maps: part(16),
            metadata: part(8),
        }
    }
}

/// How often the governor looks.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// Resident memory of this process, in bytes.
pub(super) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Keeps resident memory below the target: read-ahead shrinks first, data fetched ahead goes next.
pub(super) async fn govern(cache: Weak<Cache>, target: u64, give_back: fn()) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(cache) = cache.upgrade() else { return };
        cache.trim();
        let percent = resident_bytes() * 100 / target.max(1);
        match percent {
            0..85 => cache.budget().scale(100),
            85..95 => cache.budget().scale(50),
            _ => {
                cache.budget().scale(10);
                cache.release_retained();
                give_back();
            }
        }
    }
}
