//! Devices that fail: what is lost, what is told, what goes elsewhere.

use super::*;
use crate::io::FaultyDevice;
use crate::io::faulty::{Fault, FaultOp, When};
use crate::units::SECTOR;

fn faulty(mib: u64) -> Arc<FaultyDevice> {
    Arc::new(FaultyDevice::new(memory(mib)))
}

const EVERYWHERE: std::ops::Range<u64> = 0..u64::MAX;

#[test]
fn a_flipped_bit_is_corrupt_once_and_then_missing() {
    for plain in [noise(1, BLOCK), text(2, BLOCK), noise(3, 900)] {
        let device = memory(64);
        let store = open(vec![device.clone()]);
        let beside = noise(4, 900);
        put_all(&store, &[plain.clone(), beside.clone()]);
        let (_, at) = place_of(&store, &plain);
        device.corrupt(at + 500, |byte| *byte ^= 4);
        let fault_met = fault(&store, &plain);
        assert!(matches!(fault_met, Some(ReadFault::Corrupt { device: DeviceId(0), .. })), "{fault_met:?}");
        assert!(matches!(fault(&store, &plain), Some(ReadFault::Missing(_))));
        assert_eq!(store.stats().corrupt_blocks, 1);
        assert_holds(&store, &[beside]);
        put(&store, &plain);
        assert_holds(&store, &[plain]);
    }
}

#[test]
fn a_flipped_bit_elsewhere_in_the_block_does_not_hurt_a_small_read() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    put(&store, &plain);
    let (_, at) = place_of(&store, &plain);
    device.corrupt(at + 10 * SECTOR as u64, |byte| *byte ^= 4);
    let got = read(&store, vec![want(&plain, SECTOR, 3 * SECTOR)]).expect("these sectors are intact");
    assert!(got == plain[SECTOR..4 * SECTOR]);
    let partly = read(&store, vec![want(&plain, 9 * SECTOR, 2 * SECTOR)]).expect_err("this one is not");
    assert!(matches!(partly[..], [(0, ReadFault::Corrupt { .. })]));
}

#[test]
fn a_damaged_extent_header_is_corrupt() {
    let device = memory(64);
    let config = BlockStoreConfig { header_cache_bytes: 0, ..small_config() };
    let store = try_open(vec![device.clone()], config).expect("a good device");
    let plain = noise(1, BLOCK);
    put(&store, &plain);
    let (_, at) = place_of(&store, &plain);
    device.corrupt(at - SECTOR as u64 + 60, |byte| *byte ^= 4);
    assert!(matches!(fault(&store, &plain), Some(ReadFault::Corrupt { .. })));
}

#[test]
fn a_read_error_is_told_and_keeps_the_block() {
    let device = faulty(64);
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    put(&store, &plain);
    device.script(FaultOp::Read, EVERYWHERE, When::Next, Fault::Errno(libc::EIO));
    assert!(matches!(fault(&store, &plain), Some(ReadFault::Io { device: DeviceId(0), .. })));
    assert_holds(&store, &[plain]);
}

#[test]
fn only_the_wants_on_the_failing_device_fail() {
    let (good, bad) = (memory(64), faulty(64));
    let store = open(vec![good, bad.clone()]);
    let blocks: Vec<Vec<u8>> = (0..4).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    bad.script(FaultOp::Read, EVERYWHERE, When::Every, Fault::Errno(libc::EIO));
    let faults = read(&store, blocks.iter().map(|plain| whole(plain)).collect()).expect_err("half of it fails");
    let named: Vec<usize> = faults.iter().map(|(at, _)| *at).collect();
    assert_eq!(named, [1, 3]);
    assert!(faults.iter().all(|(_, fault)| matches!(fault, ReadFault::Io { device: DeviceId(1), .. })), "{faults:?}");
}

#[test]
fn a_read_that_times_out_is_told() {
    let device = faulty(64);
    let (array, store) = open_array(vec![device.clone()]);
    let blocks = [noise(1, BLOCK), noise(2, BLOCK), text(3, BLOCK)];
    put_all(&store, &blocks);
    let (_, at) = place_of(&store, &blocks[0]);
    device.script(FaultOp::Read, at..at + 1, When::Next, Fault::Timeout);
    let faults = read(&store, blocks.iter().map(|plain| whole(plain)).collect()).expect_err("one has no answer");
    assert!(faults.iter().all(|(_, fault)| matches!(fault, ReadFault::Io { .. })) && !faults.is_empty(), "{faults:?}");
    device.release();
    probe_until(&array, || store.contains(&BlockId::of(&blocks[0])));
    assert_holds(&store, &blocks);
}

#[test]
fn a_failed_write_goes_to_another_device() {
    let (bad, good) = (faulty(64), memory(64));
    let store = open(vec![bad.clone(), good]);
    bad.script(FaultOp::Write, EVERYWHERE, When::Every, Fault::Errno(libc::EIO));
    let plain = noise(1, BLOCK);
    put(&store, &plain);
    assert_eq!(place_of(&store, &plain).0, DeviceId(1));
    assert_holds(&store, &[plain]);
}

#[test]
fn a_write_that_fails_everywhere_is_told() {
    let device = faulty(64);
    let store = open(vec![device.clone()]);
    device.script(FaultOp::Write, EVERYWHERE, When::Every, Fault::Errno(libc::EIO));
    assert!(matches!(try_put(&store, &noise(1, BLOCK)), Err(PutError::Io { device: DeviceId(0), .. })));
    device.heal();
    let plain = noise(2, BLOCK);
    put(&store, &plain);
    assert_holds(&store, &[plain]);
    assert_sound(&store);
}

#[test]
fn one_failed_write_among_many_loses_nothing_over_a_kill() {
    let (bad, good) = (faulty(64), memory(64));
    let devices: Vec<Arc<dyn Device>> = vec![bad.clone(), good];
    let store = open(devices.clone());
    bad.script(FaultOp::Write, EVERYWHERE, When::Nth(3), Fault::Short(8192));
    let blocks: Vec<Vec<u8>> = (0..100).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    assert_eq!(bad.struck(), 1);
    assert_holds(&store, &blocks);
    assert_sound(&store);
    kill(store);
    assert_holds(&open(devices), &blocks);
}

#[test]
fn a_cache_directory_without_space_is_refused_at_once() {
    let device = faulty(64);
    device.script(FaultOp::Allocate, EVERYWHERE, When::Every, Fault::Errno(libc::ENOSPC));
    assert!(matches!(try_open(vec![device], small_config()), Err(OpenError::Unusable { .. })));
}

#[test]
fn a_disk_that_fills_up_makes_the_cache_smaller_not_broken() {
    let device = faulty(64);
    let store = open(vec![device.clone()]);
    device.script(FaultOp::Allocate, 12 * MIB..u64::MAX, When::Every, Fault::Errno(libc::ENOSPC));
    let blocks: Vec<Vec<u8>> = (0..400).map(|at| noise(at, BLOCK)).collect();
    for part in blocks.chunks(20) {
        put_all(&store, part);
    }
    assert_holds(&store, &blocks[398..]);
    assert!(store.stats().reserved_bytes <= 12 * MIB);
    assert_sound(&store);
}
