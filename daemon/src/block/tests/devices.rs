//! Whose device is it: formatting, healing, refusing; and one real device.

use super::*;
use crate::format::{Superblock, superblock::COPY_OFFSETS};
use crate::io::{UringDevice, UringOptions, read_blocking, write_blocking};
use crate::units::SECTOR;

fn write_sector(device: &dyn Device, offset: u64, bytes: &[u8]) {
    let mut buf = BufferPool::new(0).alloc(SECTOR);
    buf.fill(0);
    buf[..bytes.len()].copy_from_slice(bytes);
    write_blocking(device, offset, buf).expect("a good device");
}

fn superblock_at(device: &dyn Device, offset: u64) -> Result<Superblock, crate::format::SuperblockError> {
    Superblock::decode(&read_blocking(device, &BufferPool::new(0), offset, SECTOR).expect("a good device"))
}

#[test]
fn a_blank_device_is_formatted_with_two_superblocks() {
    let device = memory(64);
    drop(open(vec![device.clone()]));
    let copies = COPY_OFFSETS.map(|offset| superblock_at(&*device, offset).expect("formatted"));
    assert_eq!(copies[0], copies[1]);
    assert_eq!((copies[0].fs, copies[0].block_size, copies[0].segment_bytes), (FS, BLOCK as u32, MIB));
}

#[test]
fn a_damaged_superblock_copy_is_healed() {
    for offset in COPY_OFFSETS {
        let device = memory(64);
        let store = open(vec![device.clone()]);
        let plain = noise(1, 5000);
        put(&store, &plain);
        store.close();
        device.corrupt(offset + 20, |byte| *byte ^= 0x10);
        let store = open(vec![device.clone()]);
        assert_holds(&store, &[plain]);
        assert!(superblock_at(&*device, offset).is_ok(), "copy at {offset} was not healed");
    }
}

#[test]
fn two_damaged_superblocks_are_refused_and_left_alone() {
    let device = memory(64);
    open(vec![device.clone()]).close();
    COPY_OFFSETS.iter().for_each(|offset| device.corrupt(offset + 20, |byte| *byte ^= 0x10));
    let before = device.counters().writes;
    assert!(matches!(try_open(vec![device.clone()], small_config()), Err(OpenError::Unusable { .. })));
    assert_eq!(device.counters().writes, before);
}

#[test]
fn another_file_system_is_refused() {
    let device: Arc<dyn Device> = memory(64);
    open(vec![device.clone()]).close();
    let other = FsId([1; 16]);
    let opened = BlockStore::open(DeviceArray::new(vec![device]), BufferPool::new(0), other, small_config());
    assert!(matches!(opened, Err(OpenError::OtherFileSystem { found: FS, expected, .. }) if expected == other));
}

#[test]
fn a_newer_format_is_refused() {
    let device: Arc<dyn Device> = memory(64);
    open(vec![device.clone()]).close();
    let mut sector = superblock_at(&*device, 0).expect("formatted").encode();
    sector[8] = 9;
    let crc = crc32c::crc32c(&sector[8..]).to_le_bytes();
    sector[4..8].copy_from_slice(&crc);
    write_sector(&*device, 0, &sector);
    assert!(matches!(try_open(vec![device], small_config()), Err(OpenError::NewerFormat { found: 9, supported: 1, .. })));
}

#[test]
fn what_is_not_ours_is_never_written_to() {
    let device = memory(64);
    write_sector(&*device, 4 * SECTOR as u64, b"somebody's data");
    let before = device.counters().writes;
    assert!(matches!(try_open(vec![device.clone()], small_config()), Err(OpenError::Unusable { .. })));
    assert_eq!(device.counters().writes, before);
}

#[test]
fn a_good_device_is_not_formatted_beside_a_refused_one() {
    let (blank, foreign) = (memory(64), memory(64));
    write_sector(&*foreign, 0, b"somebody's data");
    assert!(try_open(vec![blank.clone(), foreign], small_config()).is_err());
    assert_eq!(blank.counters().writes, 0);
}

#[test]
fn devices_in_the_wrong_order_are_refused() {
    let (first, second) = (memory(64), memory(64));
    open(vec![first.clone(), second.clone()]).close();
    assert!(matches!(try_open(vec![second, first], small_config()), Err(OpenError::Unusable { .. })));
}

#[test]
fn another_block_size_and_a_tiny_device_are_refused() {
    let device: Arc<dyn Device> = memory(64);
    open(vec![device.clone()]).close();
    let config = BlockStoreConfig { block_size: 64 << 10, ..small_config() };
    assert!(matches!(try_open(vec![device], config), Err(OpenError::Unusable { .. })));
    assert!(matches!(try_open(vec![memory(4)], small_config()), Err(OpenError::Unusable { .. })));
}

#[test]
fn a_device_added_later_is_used() {
    let (first, second) = (memory(64), memory(64));
    let store = open(vec![first.clone()]);
    let old = noise(1, BLOCK);
    put(&store, &old);
    store.close();
    let store = open(vec![first, second]);
    let new = noise(2, BLOCK);
    start_put(&store, &new, 1).recv().expect("answered").expect("stored");
    assert_eq!(place_of(&store, &new).0, DeviceId(1));
    assert_holds(&store, &[old, new]);
}

#[test]
fn a_real_device_keeps_blocks_over_a_kill() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("cache");
    let pool = BufferPool::new(8 << 20);
    let open_real = || {
        let device = UringDevice::open(&path, 64 * MIB, &pool, UringOptions::default()).expect("the ring starts");
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(device)];
        BlockStore::open(DeviceArray::new(devices), pool.clone(), FS, small_config()).expect("a good device")
    };
    let blocks: Vec<Vec<u8>> = (0..150).map(|at| if at % 2 == 0 { noise(at, BLOCK) } else { text(at, 30_000) }).collect();
    let store = open_real();
    put_all(&store, &blocks);
    assert_holds(&store, &blocks);
    assert_sound(&store);
    kill(store);
    let store = open_real();
    assert_holds(&store, &blocks);
    let run = read(&store, blocks.iter().map(|plain| whole(plain)).collect()).expect("all are stored");
    assert!(run == blocks.concat());
    assert_sound(&store);
    store.close();
}
