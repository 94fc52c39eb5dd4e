//! Looking at every frame: what is damaged is found, wherever the damage is; it is healed where that is possible, and nothing that may still be readable is dropped.

use super::*;
use crate::io::FaultyDevice;
use crate::io::faulty::{Fault, FaultOp, When};
use crate::units::SECTOR;
use std::sync::atomic::AtomicBool;

fn scrub(store: &BlockStore, heal: bool) -> (Scrubbed, Vec<DamagedFrame>) {
    let mut found = Vec::new();
    let done = store.scrub(heal, &mut |_| true, &mut |frame| found.push(frame));
    (done, found)
}

fn damage(found: &[DamagedFrame]) -> Vec<(u64, Damage)> {
    found.iter().map(|frame| (frame.fingerprint, frame.damage)).collect()
}

fn fingerprint(plain: &[u8]) -> u64 {
    BlockId::of(plain).fingerprint()
}

fn keep(store: &BlockStore, plain: &[u8]) {
    let (answer, stored) = mpsc::channel();
    store.put_local(Bytes::copy_from_slice(plain), DeviceId(0), Box::new(move |result| drop(answer.send(result))));
    store.flush().expect("good devices");
    store.keep(&stored.recv().expect("answered").expect("stored"));
}

fn some() -> Vec<Vec<u8>> {
    let mut blocks: Vec<Vec<u8>> = (0..40).map(|at| if at % 3 == 0 { text(at, BLOCK) } else { noise(at, BLOCK) }).collect();
    blocks.extend((100..140).map(|at| noise(at, 700)));
    blocks
}

fn twice() -> BlockStoreConfig {
    BlockStoreConfig { copies: 2, ..small_config() }
}

/// Places of both copies.
fn places(store: &BlockStore, plain: &[u8]) -> Vec<(usize, u64)> {
    let core = store.core();
    let place = |entry: super::super::index::Entry| {
        let (disk, segment) = core.locate(entry.segment).expect("on some device");
        let at = disk.offset(segment, 0) + u64::from(entry.frame.grain) * crate::format::GRAIN as u64;
        (usize::from(disk.id.0), at)
    };
    core.copies(fingerprint(plain)).map(place).collect()
}

#[test]
fn a_sound_store_is_read_whole_and_nothing_is_found() {
    let devices = [memory(64), memory(64)];
    let store = open(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
    put_all(&store, &some());
    let (done, found) = scrub(&store, true);
    assert_eq!((done.frames, found.len(), done.unread.len()), (80, 0, 0));
    assert!(done.bytes >= store.stats().stored_bytes, "{done:?}");
    store.close();
    // The same from sealed footers and after a start.
    let store = open(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect());
    assert_eq!(scrub(&store, true).0.frames, 80);
    assert_sound(&store);
}

#[test]
fn a_damaged_cached_block_is_dropped_and_without_healing_only_told_of() {
    for plain in [noise(1000, BLOCK), text(1001, BLOCK), noise(1002, 900)] {
        let device = memory(64);
        let store = open(vec![device.clone()]);
        put_all(&store, &some());
        put(&store, &plain);
        let (_, at) = place_of(&store, &plain);
        device.corrupt(at + 600, |byte| *byte ^= 1);
        let told = [(fingerprint(&plain), Damage::Cached)];
        assert_eq!(damage(&scrub(&store, false).1), told);
        assert!(store.contains(&BlockId::of(&plain)));
        assert_eq!(damage(&scrub(&store, true).1), told);
        assert!(!store.contains(&BlockId::of(&plain)));
        assert_eq!(damage(&scrub(&store, true).1), []);
        put(&store, &plain);
        assert_holds(&store, &some());
        assert_holds(&store, &[plain]);
        assert_sound(&store);
    }
}

#[test]
fn the_last_copy_of_a_held_block_stays_and_what_is_readable_of_it_is_read() {
    let device = memory(64);
    let store = open(vec![device.clone()]);
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    let (_, at) = place_of(&store, &plain);
    device.corrupt(at + 10 * SECTOR as u64, |byte| *byte ^= 1);
    for _ in 0..2 {
        assert_eq!(damage(&scrub(&store, true).1), [(fingerprint(&plain), Damage::Only)]);
    }
    let got = read(&store, vec![want(&plain, SECTOR, 3 * SECTOR)]).expect("these sectors are intact");
    assert!(got == plain[SECTOR..4 * SECTOR]);
}

#[test]
fn a_damaged_copy_is_made_anew_from_the_other() {
    for bad in 0..2 {
        let devices = [memory(64), memory(64)];
        let store = try_open(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect(), twice()).expect("opens");
        let blocks = some();
        blocks.iter().for_each(|plain| keep(&store, plain));
        let (device, at) = places(&store, &blocks[5])[bad];
        devices[device].corrupt(at + 5, |byte| *byte ^= 1);
        assert_eq!(damage(&scrub(&store, true).1), [(fingerprint(&blocks[5]), Damage::Copy)]);
        eventually(|| store.lacking_copies() == 0);
        assert_eq!(damage(&scrub(&store, true).1), []);
        let healed = places(&store, &blocks[5]);
        assert!(healed.len() == 2 && healed[0].0 != healed[1].0 && !healed.contains(&(device, at)), "{healed:?}");
        assert_holds(&store, &blocks);
        assert_sound(&store);
    }
}

#[test]
fn two_damaged_copies_are_both_kept() {
    let devices = [memory(64), memory(64)];
    let store = try_open(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect(), twice()).expect("opens");
    let plain = noise(1, BLOCK);
    keep(&store, &plain);
    let there = places(&store, &plain);
    // In different sectors, so that all of it could still be put together.
    for (sector, (device, at)) in there.iter().enumerate() {
        devices[*device].corrupt(at + (7 * sector * SECTOR) as u64, |byte| *byte ^= 1);
    }
    let only = (fingerprint(&plain), Damage::Only);
    assert_eq!(damage(&scrub(&store, true).1), [only, only]);
    assert_eq!(places(&store, &plain), there);
}

#[test]
fn a_damaged_description_costs_nothing_that_its_hash_can_prove() {
    for plain in [noise(1, BLOCK), text(2, BLOCK), noise(3, 900)] {
        let device = memory(64);
        let store = open(vec![device.clone()]);
        keep(&store, &plain);
        let core = store.core();
        let entry = core.index.get(fingerprint(&plain)).expect("stored");
        let (disk, segment) = core.locate(entry.segment).expect("on the device");
        device.corrupt(disk.offset(segment, entry.frame.header_sector()) + 90, |byte| *byte ^= 1);
        assert_eq!(damage(&scrub(&store, false).1), [(fingerprint(&plain), Damage::Only)]);
        assert_eq!(damage(&scrub(&store, true).1), [(fingerprint(&plain), Damage::Description)]);
        assert_eq!(damage(&scrub(&store, true).1), []);
        assert_holds(&store, std::slice::from_ref(&plain));
        store.close();
        let store = open(vec![device]);
        assert_holds(&store, &[plain]);
        assert_sound(&store);
    }
}

#[test]
fn a_place_that_cannot_be_read_hurts_only_what_is_there() {
    let device = Arc::new(FaultyDevice::new(memory(64)));
    let store = open(vec![device.clone()]);
    let blocks: Vec<Vec<u8>> = (0..6).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    store.flush().expect("good so far");
    let (_, at) = place_of(&store, &blocks[3]);
    device.script(FaultOp::Read, at + 8192..at + 8193, When::Every, Fault::Errno(libc::EIO));
    let (done, found) = scrub(&store, true);
    assert_eq!((damage(&found), done.frames), (vec![(fingerprint(&blocks[3]), Damage::Cached)], 6));
    assert!(store.core().serves(&store.core().disks[0]), "one bad place is no reason to do without the device");
    device.heal();
    let rest: Vec<Vec<u8>> = blocks.iter().enumerate().filter(|(at, _)| *at != 3).map(|(_, plain)| plain.clone()).collect();
    assert_holds(&store, &rest);
}

#[test]
fn a_device_that_does_not_answer_is_told_of_and_nothing_of_it_dropped() {
    let device = Arc::new(FaultyDevice::new(memory(64)));
    let store = open(vec![device.clone()]);
    put_all(&store, &some());
    device.set_offline(true);
    let (done, found) = scrub(&store, true);
    assert_eq!((done.frames, found.len(), done.unread.get(&DeviceId(0))), (0, 0, Some(&80)));
    device.set_offline(false);
    assert_eq!(store.stats().blocks, 80);
}

#[test]
fn it_ends_when_it_is_told_to() {
    let store = open(vec![memory(64)]);
    for at in 0..40 {
        put(&store, &noise(at, BLOCK));
    }
    let mut left = 3;
    let done = store.scrub(
        true,
        &mut |bytes| {
            assert!(bytes > 0);
            left -= 1;
            left > 0
        },
        &mut |_| {},
    );
    assert!(done.frames >= 3 && done.frames < 40, "{done:?}");
}

#[test]
fn a_footer_that_is_damaged_hides_nothing() {
    let device = memory(16);
    let store = open(vec![device.clone()]);
    let blocks: Vec<Vec<u8>> = (0..30).map(|at| noise(at, BLOCK)).collect();
    put_all(&store, &blocks);
    store.flush().expect("a good device");
    let core = store.core();
    let disk = &core.disks[0];
    eventually(|| disk.segments.iter().any(|segment| segment.state() == super::super::disk::SegmentState::Sealed));
    for segment in 0..disk.geometry.segments {
        device.corrupt(disk.offset(segment + 1, 0) - 100, |byte| *byte ^= 1);
    }
    let (_, at) = place_of(&store, &blocks[0]);
    device.corrupt(at, |byte| *byte ^= 1);
    let (done, found) = scrub(&store, true);
    assert_eq!((done.frames, damage(&found)), (30, vec![(fingerprint(&blocks[0]), Damage::Cached)]));
}

#[test]
fn nothing_is_called_damaged_because_it_moves() {
    let store = open(vec![memory(16), memory(16)]);
    let held: Vec<Vec<u8>> = (0..20).map(|at| noise(at, BLOCK)).collect();
    held.iter().for_each(|plain| keep(&store, plain));
    let is_over = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let scrubber = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over.load(Ordering::Acquire) {
                assert_eq!(damage(&scrub(&store, true).1), []);
                rounds += 1;
            }
            rounds
        });
        for seed in 0..12 {
            let blocks: Vec<Vec<u8>> = (0..100).map(|at| noise(5000 + seed * 100 + at, BLOCK)).collect();
            put_all(&store, &blocks);
            for plain in &blocks {
                let _ = fault(&store, plain);
            }
        }
        is_over.store(true, Ordering::Release);
        scrubber.join().expect("no damage was found")
    });
    assert!(rounds > 0 && store.stats().evicted_blocks > 100, "{rounds} rounds, {:?}", store.stats());
    assert_holds(&store, &held);
    assert_sound(&store);
}
