//! The devices of one file system: which there are, which are in service, and where stripes go.

use super::health::Health;
use super::layout::Layout;
use crate::ids::DeviceId;
use crate::io::{BufferPool, Device, DeviceCounters, IoError, IoOp, IoRequest};
use crate::units::SECTOR;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The devices of one file system, in formatting order, with their health.
pub struct DeviceArray {
    devices: Vec<Arc<dyn Device>>,
    weights: Vec<u64>,
    shared: Arc<Shared>,
    /// Memory for probes; they are rare, so it has no arena.
    pool: BufferPool,
}

/// What a probe's completion needs, whatever became of the array.
struct Shared {
    health: Vec<Health>,
    names: Vec<String>,
    generation: AtomicU64,
    /// The time of the last tick, in nanoseconds: precise enough for pauses of seconds.
    now_ns: AtomicU64,
    watchers: RwLock<Vec<Watcher>>,
}

/// Told that a device left (`false`) or entered (`true`) service.
type Watcher = Box<dyn Fn(DeviceId, bool) + Send + Sync>;

/// What there is to say about one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// Its place in the array.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// Bytes Forebay may use on it.
    pub capacity_bytes: u64,
    /// Whether it is in service.
    pub in_service: bool,
    /// Requests that failed since start.
    pub errors: u64,
    /// What it has done since start.
    pub counters: DeviceCounters,
}

impl DeviceArray {
    /// An array of devices, all in service.
    ///
    /// # Panics
    /// If there are more than 256.
    pub fn new(devices: Vec<Arc<dyn Device>>) -> Arc<Self> {
        assert!(devices.len() <= 256, "a device's number has 8 bits");
        let shared = Shared {
            health: devices.iter().map(|_| Health::new()).collect(),
            names: devices.iter().map(|device| device.name().to_owned()).collect(),
            generation: AtomicU64::new(0),
            now_ns: AtomicU64::new(0),
            watchers: RwLock::default(),
        };
        let weights = devices.iter().map(|device| device.len()).collect();
        Arc::new(DeviceArray { devices, weights, shared: Arc::new(shared), pool: BufferPool::new(0) })
    }

    /// How many devices there are, in service or not.
    pub fn count(&self) -> usize {
        self.devices.len()
    }

    /// All devices' ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = DeviceId> + use<> {
        (0..self.devices.len()).map(|index| DeviceId(index as u8))
    }

    /// A device, whatever its health.
    pub fn device(&self, id: DeviceId) -> &Arc<dyn Device> {
        &self.devices[usize::from(id.0)]
    }

    /// Whether a device is in service.
    pub fn in_service(&self, id: DeviceId) -> bool {
        self.health(id).in_service()
    }

    /// Changes whenever a device leaves or enters service.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Has `watcher` called whenever a device leaves (`false`) or enters (`true`) service: on the thread that found out, often
    /// a device's, so it must not block.
    pub fn watch(&self, watcher: impl Fn(DeviceId, bool) + Send + Sync + 'static) {
        self.shared.watchers.write().push(Box::new(watcher));
    }

    /// Counts a failed request; takes the device out of service when it fails too often. Corrupt data is not a failure of a
    /// request.
    pub fn record_error(&self, id: DeviceId, error: &IoError) {
        let Some(pause) = self.health(id).failed(error, self.shared.now()) else { return };
        let device = self.device(id).name();
        tracing::warn!(device, %error, probe_in = ?pause, "device taken out of service: what it holds is fetched again");
        self.shared.changed(id, false);
    }

    /// Counts a served request.
    pub fn record_ok(&self, id: DeviceId) {
        self.health(id).ok();
    }

    /// Where the block at `byte_offset` of a file goes: by its layout, weighted by capacity, passing over devices out of service.
    /// `file_seed` (the inode number) spreads the first devices of files. With no device in service, the one it would go to.
    pub fn place(&self, layout: Layout, file_seed: u64, byte_offset: u64) -> DeviceId {
        let stripe = layout.stripe_of(byte_offset);
        let usable = |index: usize| self.shared.health[index].in_service();
        let index = layout
            .usable_device_of(&self.weights, usable, file_seed, stripe)
            .or_else(|| layout.device_of(&self.weights, file_seed, stripe));
        DeviceId(index.unwrap_or(0) as u8)
    }

    /// Probes each device out of service whose pause is over: reads its first sector, and puts it back if that succeeds. Does
    /// not wait for the answer. `now` is the clock's monotonic time; call it about once a second.
    pub fn probe_tick(&self, now: Duration) {
        self.shared.now_ns.store(now.as_nanos() as u64, Ordering::Relaxed);
        self.ids().filter(|id| self.health(*id).start_probe(now)).for_each(|id| self.probe(id));
    }

    /// Every device, in order.
    pub fn report(&self) -> Vec<DeviceReport> {
        let report = |id: DeviceId| DeviceReport {
            id,
            name: self.device(id).name().to_owned(),
            capacity_bytes: self.device(id).len(),
            in_service: self.in_service(id),
            errors: self.health(id).errors(),
            counters: self.device(id).counters(),
        };
        self.ids().map(report).collect()
    }

    fn health(&self, id: DeviceId) -> &Health {
        &self.shared.health[usize::from(id.0)]
    }

    fn probe(&self, id: DeviceId) {
        let shared = self.shared.clone();
        let done = Box::new(move |outcome: crate::io::IoOutcome| shared.probed(id, outcome.result));
        self.device(id).submit(vec![IoRequest::new(IoOp::Read, 0, self.pool.alloc(SECTOR), done)]);
    }
}

impl Shared {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns.load(Ordering::Relaxed))
    }

    fn probed(&self, id: DeviceId, result: Result<(), IoError>) {
        let device = &self.names[usize::from(id.0)];
        if self.health[usize::from(id.0)].probed(result.is_ok(), self.now()) {
            tracing::info!(device, "device is back in service");
            self.changed(id, true);
        } else if let Err(error) = result {
            tracing::debug!(device, %error, "device still fails");
        }
    }

    fn changed(&self, id: DeviceId, in_service: bool) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.watchers.read().iter().for_each(|watcher| watcher(id, in_service));
    }
}

#[cfg(test)]
#[path = "array_tests.rs"]
mod tests;
