//! Devices that fail while files are written: the right error, once, and nothing lost.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use crate::fixtures::power::Power;
use forebay_daemon::io::{Device, FaultyDevice, MemoryDevice, faulty};
use forebay_loopback_s3::Texture;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DEVICE: u64 = 128 << 20;
/// More than a small sync that is logged.
const LEN: usize = 1 << 20;

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    Texture::Noise.fill(seed, 0, &mut bytes);
    bytes
}

fn devices(count: usize) -> Vec<Arc<FaultyDevice>> {
    (0..count).map(|_| Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(DEVICE))))).collect()
}

fn mount(site: &Site, devices: &[Arc<FaultyDevice>]) -> Mounted {
    let replace = devices.iter().map(|device| Arc::clone(device) as Arc<dyn Device>).collect();
    site.mount(&Options { devices: devices.len(), replace_devices: Some(replace), ..Options::default() })
}

fn fail(device: &FaultyDevice, op: faulty::FaultOp, errno: i32) {
    device.script(op, 0..DEVICE, faulty::When::Every, faulty::Fault::Errno(errno));
}

#[test]
fn what_a_sync_could_not_do_is_told_once_to_each_handle_and_done_later() {
    let site = Site::new();
    let devices = devices(1);
    let mounted = mount(&site, &devices);
    let writer = File::create(mounted.path("f")).expect("creates");
    let reader = File::open(mounted.path("f")).expect("opens");
    writer.write_all_at(&noise(1), 0).expect("writes into memory");
    fail(&devices[0], faulty::FaultOp::Write, libc::EIO);
    assert_eq!(writer.sync_all().expect_err("the device fails").raw_os_error(), Some(libc::EIO));
    assert!(mounted.read("f").expect("reads") == noise(1), "memory has it");
    devices[0].heal();
    assert_eq!(reader.sync_all().expect_err("it was not told yet").raw_os_error(), Some(libc::EIO));
    // The device has to be found to be well first.
    eventually("it is stored", || writer.sync_all().is_ok());
    // The rounds before that may have failed as well, of which it is told once, too.
    let _ = reader.sync_all();
    reader.sync_all().expect("it was told");
    assert!(mounted.fs.status().dirty_bytes == 0 && devices[0].struck() > 0);
    drop((writer, reader, mounted));
    assert!(mount(&site, &devices).read("f").expect("reads") == noise(1));
}

#[test]
fn blocks_that_one_device_refuses_go_to_another() {
    for (op, errno) in [(faulty::FaultOp::Write, libc::EIO), (faulty::FaultOp::Allocate, libc::ENOSPC)] {
        let site = Site::new();
        let devices = devices(2);
        let mounted = mount(&site, &devices);
        fail(&devices[0], op, errno);
        for seed in 0..12 {
            std::fs::write(mounted.path(&format!("f{seed}")), noise(seed)).expect("writes");
            File::open(mounted.path(&format!("f{seed}"))).and_then(|file| file.sync_all()).expect("another takes it");
        }
        assert!(devices[0].struck() > 0, "it was asked");
        devices[0].heal();
        drop(mounted);
        let mounted = mount(&site, &devices);
        for seed in 0..12 {
            assert!(mounted.read(&format!("f{seed}")).expect("reads") == noise(seed), "f{seed} after {op:?} failed");
        }
    }
}

#[test]
fn a_sync_does_not_count_on_a_device_that_left_before_it_was_flushed() {
    for nth in 1..4 {
        let site = Site::new();
        let devices = devices(2);
        let mounted = mount(&site, &devices);
        let path = mounted.path("f");
        let content: Vec<u8> = (0..6).flat_map(noise).collect();
        std::fs::write(&path, &content).expect("writes into memory");
        // It hangs, so that it is out of service at once, and stays so.
        devices[0].script(faulty::FaultOp::Write, 0..DEVICE, faulty::When::Nth(nth), faulty::Fault::Timeout);
        let file = File::open(&path).expect("opens");
        let told = file.sync_all().is_err();
        devices[0].set_offline(true);
        eventually("the other takes it", || file.sync_all().is_ok());
        mounted.forget_pages("f");
        assert!(std::fs::read(&path).expect("it is there") == content, "hung at write {nth}; the first sync failed: {told}");
    }
}

#[test]
fn syncs_without_end_keep_no_round_waiting() {
    let site = Site::new();
    let power = Power::new(1, DEVICE);
    let left = power.supply();
    let mounted =
        site.mount(&Options { replace_devices: Some(left.devices), replace_metadata: Some(left.metadata), ..Options::default() });
    std::fs::write(mounted.path("other"), b"nobody syncs this").expect("writes");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (done, path) = (&done, mounted.path(&format!("synced{number}")));
            scope.spawn(move || {
                let file = File::create(path).expect("creates");
                while !done.load(Ordering::Relaxed) {
                    file.write_all_at(b"again", 0).and_then(|()| file.sync_all()).expect("syncs");
                }
            });
        }
        std::thread::sleep(Duration::from_secs(3));
        let after = power.after_cut(1);
        done.store(true, Ordering::Relaxed);
        let elsewhere = site.place().elsewhere();
        let left = after.supply();
        let options =
            Options { replace_devices: Some(left.devices), replace_metadata: Some(left.metadata), ..Options::default() };
        assert_eq!(elsewhere.place.mount(&options).read("other").expect("it is durable"), b"nobody syncs this");
    });
}

#[test]
fn a_flush_that_fails_is_no_sync() {
    let site = Site::new();
    let devices = devices(1);
    let mounted = mount(&site, &devices);
    let file = File::create(mounted.path("f")).expect("creates");
    file.write_all_at(&noise(3), 0).expect("writes");
    fail(&devices[0], faulty::FaultOp::Flush, libc::EIO);
    assert_eq!(file.sync_all().expect_err("nothing is durable").raw_os_error(), Some(libc::EIO));
    devices[0].heal();
    eventually("it is durable", || file.sync_all().is_ok());
    assert!(mounted.read("f").expect("reads") == noise(3));
}
