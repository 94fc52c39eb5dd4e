//! Devices that misbehave, and striping.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::io::{Device, FaultyDevice, MemoryDevice, ThrottledDevice, faulty};
use forebay_loopback_s3::{Op, Texture};
use std::sync::Arc;
use std::time::Instant;

const LEN: u64 = 24 << 20;
const DEVICE: u64 = 128 << 20;

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LEN as usize];
    Texture::Noise.fill(seed, 0, &mut bytes);
    bytes
}

/// A mount over faulty devices that has one object cached.
fn cached(site: &Site, count: usize) -> (Mounted, Vec<Arc<FaultyDevice>>) {
    site.bucket().put_synthetic("f", 1, LEN, Texture::Noise);
    site.bucket().put_synthetic("g", 2, LEN, Texture::Noise);
    let memory = || Arc::new(MemoryDevice::new(DEVICE)) as Arc<dyn Device>;
    let devices: Vec<_> = (0..count).map(|_| Arc::new(FaultyDevice::new(memory()))).collect();
    let replace = devices.iter().map(|device| Arc::clone(device) as Arc<dyn Device>).collect();
    let mount = site.mount(&Options { devices: count, replace_devices: Some(replace), ..Options::default() });
    assert!(mount.read("f").unwrap() == noise(1));
    mount.settle();
    mount.forget_pages("f");
    site.server.requests().reset();
    (mount, devices)
}

#[test]
fn read_errors_are_healed_from_the_bucket() {
    let site = Site::new();
    let (mount, devices) = cached(&site, 1);
    devices[0].script(faulty::FaultOp::Read, 0..DEVICE, faulty::When::Every, faulty::Fault::Errno(libc::EIO));
    assert!(mount.read("f").unwrap() == noise(1));
    assert!(devices[0].struck() > 0 && site.count(Op::GetObject) > 0);
}

#[test]
fn flipped_bits_are_noticed_and_healed_from_the_bucket() {
    let site = Site::new();
    let (mount, devices) = cached(&site, 1);
    let flip = faulty::Fault::FlipBit { byte: 100, bit: 3 };
    devices[0].script(faulty::FaultOp::Read, 0..DEVICE, faulty::When::Every, flip);
    assert!(mount.read("f").unwrap() == noise(1));
    assert!(devices[0].struck() > 0 && site.count(Op::GetObject) > 0);
}

#[test]
fn a_device_that_cannot_be_written_costs_the_cache_and_no_read() {
    let site = Site::new();
    let (mount, devices) = cached(&site, 1);
    devices[0].script(faulty::FaultOp::Write, 0..DEVICE, faulty::When::Every, faulty::Fault::Errno(libc::EIO));
    assert!(mount.read("g").unwrap() == noise(2));
    assert!(devices[0].struck() > 0, "it was tried");
    assert!(mount.read("f").unwrap() == noise(1));
}

#[test]
fn one_of_two_devices_gone_costs_fetching_its_blocks_again() {
    let site = Site::new();
    let (mount, devices) = cached(&site, 2);
    devices[0].set_offline(true);
    assert!(mount.read("f").unwrap() == noise(1));
    let gets = site.count(Op::GetObject);
    assert!(gets > 0, "the blocks of the lost device were fetched");
    assert!(mount.fs.status().fetched_bytes < 2 * LEN, "and not those of the other one");
}

/// Writes a file of its own noise and has it durable.
fn write_synced(mount: &Mounted, name: &str, seed: u64) {
    std::fs::write(mount.path(name), noise(seed)).unwrap();
    std::fs::File::open(mount.path(name)).and_then(|file| file.sync_all()).unwrap();
}

fn assert_reads(mount: &Mounted, files: &[(&str, u64)]) {
    for (name, seed) in files {
        mount.forget_pages(name);
        assert!(mount.read(name).unwrap() == noise(*seed), "{name}");
    }
}

#[test]
fn one_of_two_devices_fails_and_nothing_written_is_lost() {
    for bad in 0..2 {
        let site = Site::new();
        let memory = || Arc::new(MemoryDevice::new(4 * DEVICE)) as Arc<dyn Device>;
        let devices: Vec<_> = (0..2).map(|_| Arc::new(FaultyDevice::new(memory()))).collect();
        let replace = devices.iter().map(|device| Arc::clone(device) as Arc<dyn Device>).collect();
        let mount = site.mount(&Options { devices: 2, dirty_copies: 2, replace_devices: Some(replace), ..Options::default() });
        let lacking = || mount.fs.status().lacking_copies;
        write_synced(&mount, "before", 10);
        assert_eq!((lacking(), mount.fs.status().cache.held_bytes), (0, 2 * LEN));
        devices[bad].set_offline(true);
        assert_reads(&mount, &[("before", 10)]);
        write_synced(&mount, "during", 11);
        assert_reads(&mount, &[("before", 10), ("during", 11)]);
        assert!(lacking() >= 2 * LEN / (128 << 10), "{} blocks lack a copy", lacking());
        devices[bad].set_offline(false);
        eventually("everything has two copies", || lacking() == 0);
        devices[1 - bad].set_offline(true);
        assert_reads(&mount, &[("before", 10), ("during", 11)]);
        assert_eq!(mount.fs.status().cache.lost_local_blocks, 0);
    }
}

#[test]
fn a_files_stripes_are_on_all_devices_and_read_from_all_at_once() {
    let site = Site::new();
    let (mount, _devices) = cached(&site, 4);
    let before: Vec<_> = mount.fs.status().devices.iter().map(|device| device.read_bytes).collect();
    assert!(mount.read("f").unwrap() == noise(1));
    let after = mount.fs.status().devices;
    for (device, before) in after.iter().zip(before) {
        let read = device.read_bytes - before;
        assert!((LEN / 5..LEN / 3).contains(&read), "{read} of {LEN} bytes from {}", device.path);
        assert!((LEN / 5..LEN / 3).contains(&device.written_bytes), "{} bytes to {}", device.written_bytes, device.path);
    }
    assert_eq!(site.count(Op::GetObject), 0);
}

/// Seconds for a cached read of the object from devices that give 8 MB/s each.
fn seconds_with(count: usize) -> f64 {
    let site = Site::new();
    site.bucket().put_synthetic("f", 1, LEN, Texture::Noise);
    let device = || Arc::new(ThrottledDevice::new(Arc::new(MemoryDevice::new(DEVICE)), 8 << 20)) as Arc<dyn Device>;
    let replace = Some((0..count).map(|_| device()).collect());
    let mount = site.mount(&Options { devices: count, replace_devices: replace, ..Options::default() });
    mount.read("f").unwrap();
    mount.settle();
    mount.forget_pages("f");
    let started = Instant::now();
    assert!(mount.read("f").unwrap() == noise(1));
    started.elapsed().as_secs_f64()
}

#[test]
fn four_slow_devices_are_together_faster_than_one() {
    // The devices' rate is the test's own, 3 s against 0.75 s: far from what scheduling noise can turn round.
    let (one, four) = (seconds_with(1), seconds_with(4));
    assert!(four < one * 0.6, "one device: {one:.2} s, four: {four:.2} s");
}
