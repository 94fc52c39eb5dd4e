//! A device in memory with two images: what was written, and what a power cut would leave.
//!
//! Invariants:
//! 1. A completed write is in the live image; only `flush` (or luck, at a power cut) takes it to the durable one. One written through is in both.
//! 2. A power cut keeps or loses each sector written since the last flush by itself: writes may be torn at sectors.
//! 3. Memory is taken only for pages that were written.

use super::counters::LiveCounters;
use super::worker::Worker;
use super::{Device, DeviceCounters, IoError, IoOp, IoOutcome, IoRequest, complete};
use crate::units::SECTOR;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PAGE: usize = 64 << 10;
const SECTORS_PER_PAGE: u64 = (PAGE / SECTOR) as u64;

/// A sparse image: zeros where nothing was written. Copies share pages until they are written.
#[derive(Clone, Default)]
struct Image {
    pages: BTreeMap<u64, Arc<[u8]>>,
}

impl Image {
    fn sector(&self, sector: u64) -> Option<&[u8]> {
        let at = (sector % SECTORS_PER_PAGE) as usize * SECTOR;
        Some(&self.pages.get(&(sector / SECTORS_PER_PAGE))?[at..at + SECTOR])
    }

    fn sector_mut(&mut self, sector: u64) -> &mut [u8] {
        let at = (sector % SECTORS_PER_PAGE) as usize * SECTOR;
        let page = self.pages.entry(sector / SECTORS_PER_PAGE).or_insert_with(|| vec![0; PAGE].into());
        &mut Arc::make_mut(page)[at..at + SECTOR]
    }

    fn copy_sector(&mut self, sector: u64, from: &Image) {
        match from.sector(sector) {
            Some(bytes) => self.sector_mut(sector).copy_from_slice(bytes),
            None => self.sector_mut(sector).fill(0),
        }
    }
}

#[derive(Default)]
struct Images {
    live: Image,
    durable: Image,
    /// Sectors in which the two may differ.
    unflushed: BTreeSet<u64>,
}

impl Images {
    fn read(&self, offset: u64, buf: &mut [u8]) {
        let first = offset / SECTOR as u64;
        for (sector, bytes) in (first..).zip(buf.chunks_mut(SECTOR)) {
            match self.live.sector(sector) {
                Some(held) => bytes.copy_from_slice(held),
                None => bytes.fill(0),
            }
        }
    }

    fn write(&mut self, offset: u64, buf: &[u8]) {
        let first = offset / SECTOR as u64;
        for (sector, bytes) in (first..).zip(buf.chunks(SECTOR)) {
            self.live.sector_mut(sector).copy_from_slice(bytes);
            self.unflushed.insert(sector);
        }
    }

    fn write_through(&mut self, offset: u64, buf: &[u8]) {
        self.write(offset, buf);
        let first = offset / SECTOR as u64;
        for sector in first..first + (buf.len() / SECTOR) as u64 {
            self.unflushed.remove(&sector);
            self.durable.copy_sector(sector, &self.live);
        }
    }

    fn flush(&mut self) {
        for sector in std::mem::take(&mut self.unflushed) {
            self.durable.copy_sector(sector, &self.live);
        }
    }

    fn discard(&mut self, sectors: std::ops::Range<u64>) {
        let pages = sectors.start / SECTORS_PER_PAGE..sectors.end.div_ceil(SECTORS_PER_PAGE);
        let held: Vec<u64> = self.live.pages.range(pages).map(|(page, _)| *page).collect();
        for page in held {
            let first = page * SECTORS_PER_PAGE;
            for sector in first.max(sectors.start)..(first + SECTORS_PER_PAGE).min(sectors.end) {
                self.live.sector_mut(sector).fill(0);
                self.unflushed.insert(sector);
            }
        }
    }
}

#[derive(Default)]
struct Shared {
    images: Mutex<Images>,
    counters: LiveCounters,
}

/// A device in memory.
pub struct MemoryDevice {
    len: u64,
    shared: Arc<Shared>,
    worker: Worker<IoRequest>,
}

impl MemoryDevice {
    /// A device of `len` bytes, all zero. It takes memory as it is written.
    pub fn new(len: u64) -> Self {
        Self::over(len, Images::default())
    }

    fn over(len: u64, images: Images) -> Self {
        let shared = Arc::new(Shared { images: Mutex::new(images), counters: LiveCounters::default() });
        let served = shared.clone();
        let worker = Worker::start("fby-memory", move |request| serve(&served, len, request));
        MemoryDevice { len, shared, worker }
    }

    /// The device a power cut now would leave: what was flushed, and of each sector written since, by the seed, the old bytes
    /// or the new. This device goes on unharmed.
    pub fn power_cut(&self, seed: u64) -> MemoryDevice {
        let images = self.shared.images.lock();
        let mut left = images.durable.clone();
        let mut luck = StdRng::seed_from_u64(seed);
        for sector in images.unflushed.iter().filter(|_| luck.random()) {
            left.copy_sector(*sector, &images.live);
        }
        Self::over(self.len, Images { live: left.clone(), durable: left, unflushed: BTreeSet::new() })
    }

    /// Changes bytes behind everybody's back, in both images: what a failing disk does.
    pub fn corrupt(&self, offset: u64, change: impl Fn(&mut u8)) {
        let sector = offset / SECTOR as u64;
        let within = (offset % SECTOR as u64) as usize;
        let Images { live, durable, .. } = &mut *self.shared.images.lock();
        change(&mut live.sector_mut(sector)[within]);
        change(&mut durable.sector_mut(sector)[within]);
    }
}

fn serve(shared: &Shared, len: u64, mut request: IoRequest) {
    let result = request.check(len);
    if result.is_ok() {
        let mut images = shared.images.lock();
        let through = request.op == IoOp::WriteThrough;
        let mut put =
            |offset, bytes: &[u8]| if through { images.write_through(offset, bytes) } else { images.write(offset, bytes) };
        match request.op {
            IoOp::Read => images.read(request.offset, &mut request.buf),
            IoOp::Write | IoOp::WriteThrough => {
                put(request.offset, &request.buf);
                let mut offset = request.offset + request.buf.len() as u64;
                for piece in &request.behind {
                    put(offset, piece);
                    offset += piece.len() as u64;
                }
            }
        }
        drop(images);
        shared.counters.transferred(request.op, request.bytes());
    }
    shared.counters.completed();
    complete(request.done, IoOutcome { buf: Some(request.buf), result });
}

impl Device for MemoryDevice {
    fn name(&self) -> &str {
        "memory"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn submit(&self, batch: Vec<IoRequest>) {
        self.shared.counters.submitted(batch.len());
        batch.into_iter().for_each(|request| self.worker.send(request));
    }

    fn flush(&self) -> Result<(), IoError> {
        self.shared.images.lock().flush();
        Ok(())
    }

    fn allocate(&self, _offset: u64, _len: u64) -> Result<(), IoError> {
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), IoError> {
        let sector = SECTOR as u64;
        self.shared.images.lock().discard(offset.div_ceil(sector)..(offset + len) / sector);
        Ok(())
    }

    fn counters(&self) -> DeviceCounters {
        self.shared.counters.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{BufferPool, read_blocking, write_blocking};

    fn write(device: &MemoryDevice, offset: u64, sectors: usize, mark: u8) {
        let mut buf = BufferPool::new(0).alloc(sectors * SECTOR);
        buf.fill(mark);
        write_blocking(device, offset, buf).expect("a write in range succeeds");
    }

    fn marks(device: &MemoryDevice, sectors: usize) -> Vec<u8> {
        let buf = read_blocking(device, &BufferPool::new(0), 0, sectors * SECTOR).expect("a read in range succeeds");
        buf.chunks(SECTOR)
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is never torn");
                sector[0]
            })
            .collect()
    }

    #[test]
    fn flushed_writes_survive_every_power_cut() {
        let device = MemoryDevice::new(1 << 20);
        write(&device, 0, 16, 1);
        device.flush().unwrap();
        for seed in 0..20 {
            assert_eq!(marks(&device.power_cut(seed), 16), vec![1; 16]);
        }
    }

    #[test]
    fn unflushed_writes_survive_a_power_cut_sector_by_sector() {
        let device = MemoryDevice::new(1 << 20);
        write(&device, 0, 64, 1);
        device.flush().unwrap();
        write(&device, 0, 64, 2);
        let left = marks(&device.power_cut(7), 64);
        assert!(left.contains(&1) && left.contains(&2), "{left:?}");
        assert_eq!(left, marks(&device.power_cut(7), 64), "the seed decides");
        assert_eq!(marks(&device, 64), vec![2; 64], "the device itself goes on");
    }

    #[test]
    fn what_is_written_through_survives_every_power_cut_and_nothing_else_with_it() {
        let device = MemoryDevice::new(1 << 20);
        write(&device, 0, 16, 1);
        let mut buf = BufferPool::new(0).alloc(8 * SECTOR);
        buf.fill(2);
        let through = crate::io::transfer_blocking(&device, IoOp::WriteThrough, 4 * SECTOR as u64, buf);
        through.expect("a write in range succeeds");
        let left: Vec<_> = (0..20).map(|seed| marks(&device.power_cut(seed), 16)).collect();
        assert!(left.iter().all(|marks| marks[4..12] == [2; 8]), "{left:?}");
        assert!(left.iter().any(|marks| marks[..4] != [1; 4]), "the rest was not made durable: {left:?}");
    }

    #[test]
    fn a_power_cut_starts_a_new_life() {
        let device = MemoryDevice::new(1 << 20);
        write(&device, 0, 8, 1);
        let after = device.power_cut(3);
        let left = marks(&after, 8);
        assert_eq!(marks(&after.power_cut(99), 8), left, "what survived once is durable");
    }

    #[test]
    fn discarded_ranges_read_as_zeros() {
        let device = MemoryDevice::new(1 << 30);
        write(&device, 0, 32, 5);
        device.discard(4 * SECTOR as u64, 1 << 29).unwrap();
        assert_eq!(marks(&device, 6), vec![5, 5, 5, 5, 0, 0]);
    }

    #[test]
    fn a_huge_device_costs_only_what_is_written() {
        let device = MemoryDevice::new(100 << 40);
        write(&device, (100 << 40) - SECTOR as u64, 1, 9);
        assert_eq!(device.shared.images.lock().live.pages.len(), 1);
    }
}
