//! Devices that fail while files are written: the right error, once, and nothing lost.

use crate::fixtures::mounted::{Mounted, Options, Site, eventually};
use forebay_daemon::io::{Device, FaultyDevice, MemoryDevice, faulty};
use forebay_loopback_s3::Texture;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

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
