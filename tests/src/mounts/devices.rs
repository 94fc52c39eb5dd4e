//! Devices that misbehave, and striping.

use crate::fixtures::mounted::{Mounted, Options, Site};
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
