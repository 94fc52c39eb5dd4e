//! Small syncs, which are logged and not stored: what power cuts leave of them.

use crate::fixtures::mounted::{Mounted, Options, Site};
use crate::fixtures::power::{Left, Power};
use forebay_daemon::io::FaultyDevice;
use forebay_daemon::units::MIB;
use forebay_loopback_s3::Op;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const DEVICE_BYTES: u64 = 64 * MIB;

fn options(left: Left) -> Options {
    Options { replace_devices: Some(left.devices), replace_metadata: Some(left.metadata), ..Options::default() }
}

fn stored(mount: &Mounted) -> u64 {
    mount.fs.status().devices.iter().map(|device| device.written_bytes).sum()
}

/// Waits for a round of its own accord, so that none comes for a second.
fn after_a_round(mount: &Mounted) {
    let round = mount.path("round");
    std::fs::write(&round, vec![7; 300 << 10]).expect("writes");
    File::open(&round).and_then(|file| file.sync_all()).expect("syncs");
}

#[test]
fn small_syncs_store_no_block_and_outlive_power_cuts_in_a_row() {
    let site = Site::new();
    let power = Power::new(1, DEVICE_BYTES);
    let mount = site.mount(&options(power.supply()));
    after_a_round(&mount);
    let mut expected = Vec::new();
    let mut log = File::create(mount.path("log")).expect("creates");
    let before = stored(&mount);
    for number in 0..50_u32 {
        let line = format!("{number:0>width$}\n", width = 50 + number as usize);
        log.write_all(line.as_bytes()).expect("appends");
        log.sync_data().expect("syncs");
        expected.extend_from_slice(line.as_bytes());
    }
    log.write_all_at(b"over", 20).expect("overwrites");
    log.set_len(9000).expect("lengthens");
    log.sync_all().expect("syncs");
    expected[20..24].copy_from_slice(b"over");
    expected.resize(9000, 0);
    let mtime = log.metadata().expect("stats").mtime_nsec();
    // A round or two come by themselves where this machine is slow; fifty do not.
    assert!(stored(&mount) - before < 64 << 10, "{} bytes were stored", stored(&mount) - before);
    let once = power.after_cut(1);
    let second = site.place().elsewhere();
    let again = second.place.mount(&options(once.supply()));
    // The writes are dirty again now, and no round has come.
    let twice = once.after_cut(2);
    assert_eq!(again.read("log").expect("reads"), expected);
    let third = site.place().elsewhere();
    let at_last = third.place.mount(&options(twice.supply()));
    assert_eq!(at_last.read("log").expect("reads"), expected);
    assert_eq!(std::fs::metadata(at_last.path("log")).expect("stats").mtime_nsec(), mtime);
    assert_eq!(at_last.fs.status().devices[0].errors, 0);
}

#[test]
fn what_comes_after_a_logged_write_is_not_undone_by_it() {
    let site = Site::new();
    let power = Power::new(1, DEVICE_BYTES);
    let mount = site.mount(&options(power.supply()));
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for name in ["timed", "cut", "emptied", "punched", "gone", "renamed"] {
        let file = File::create(mount.path(name)).expect("creates");
        file.write_all_at(&[5; 3000], 0).expect("writes");
        file.sync_all().expect("syncs");
    }
    let open = |name| File::options().write(true).open(mount.path(name)).expect("opens");
    open("timed").set_modified(past).expect("sets the time");
    open("cut").set_len(1000).expect("cuts");
    open("emptied").set_len(0).expect("cuts");
    let punched = open("punched");
    rustix::fs::fallocate(&punched, rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE, 1000, 1000)
        .expect("punches");
    std::fs::remove_file(mount.path("gone")).expect("removes");
    std::fs::rename(mount.path("renamed"), mount.path("gone")).expect("renames");
    for name in ["timed", "cut", "emptied", "punched", "gone"] {
        open(name).sync_all().expect("syncs");
    }
    for seed in 0..4 {
        let after = power.after_cut(seed);
        let elsewhere = site.place().elsewhere();
        let mount = elsewhere.place.mount(&options(after.supply()));
        assert_eq!(std::fs::metadata(mount.path("timed")).expect("stats").modified().expect("a time"), past);
        assert_eq!(mount.read("timed").expect("reads"), [5; 3000]);
        assert_eq!(mount.read("cut").expect("reads"), [5; 1000]);
        assert!(mount.read("emptied").expect("reads").is_empty());
        assert_eq!(mount.read("punched").expect("reads"), [[5; 1000], [0; 1000], [5; 1000]].concat());
        assert_eq!(mount.read("gone").expect("reads"), [5; 3000]);
        assert!(!mount.path("renamed").exists());
    }
}

#[test]
fn a_write_over_what_only_the_bucket_has_is_stored_so_that_a_mount_needs_no_bucket_for_it() {
    let site = Site::new();
    site.bucket().put("object", vec![1; 100 << 10], []);
    let power = Power::new(1, DEVICE_BYTES);
    let mount = site.mount(&options(power.supply()));
    let object = File::options().write(true).open(mount.path("object")).expect("opens");
    object.write_all_at(b"written", 1000).expect("writes");
    let before = stored(&mount);
    object.sync_all().expect("syncs");
    assert!(stored(&mount) - before >= 4096, "the block is stored");
    let after = power.after_cut(1);
    let (elsewhere, fetched) = (site.place().elsewhere(), site.count(Op::GetObject));
    let mount = elsewhere.place.mount(&options(after.supply()));
    let mut bytes = [0; 9];
    File::open(mount.path("object")).and_then(|file| file.read_exact_at(&mut bytes, 999)).expect("reads");
    assert_eq!(&bytes, b"\x01written\x01");
    assert_eq!(site.count(Op::GetObject), fetched, "the block is here");
}

#[test]
fn a_file_that_a_missing_device_keeps_from_being_restored_is_refused_until_it_is_back() {
    let site = Site::new();
    let power = Power::new(2, DEVICE_BYTES);
    let mount = site.mount(&options(power.supply()));
    let names: Vec<String> = (0..12).map(|number| format!("file{number}")).collect();
    for (name, fill) in names.iter().zip(1..) {
        let file = File::create(mount.path(name)).expect("creates");
        file.write_all_at(&crate::exercise::content::bytes(fill, 0, 100 << 10), 0).expect("writes");
        file.sync_all().expect("syncs");
        file.write_all_at(b"logged", 50 << 10).expect("writes");
        file.sync_all().expect("syncs");
    }
    let after = power.after_cut(3);
    let expected = |fill: u64| {
        let mut bytes = crate::exercise::content::bytes(fill, 0, 100 << 10);
        bytes[50 << 10..][..6].copy_from_slice(b"logged");
        bytes
    };
    let left = after.supply();
    let missing = Arc::new(FaultyDevice::new(left.devices[1].clone()));
    missing.set_offline(true);
    let crippled = Left { devices: vec![left.devices[0].clone(), missing.clone()], metadata: left.metadata.clone() };
    let elsewhere = site.place().elsewhere();
    let mount = elsewhere.place.mount(&options(crippled));
    let mut refused = 0;
    for (name, fill) in names.iter().zip(1..) {
        match mount.read(name) {
            Ok(bytes) => assert!(bytes == expected(fill), "{name} is what was synced"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}: {error}");
                refused += 1;
            }
        }
    }
    assert!((1..names.len()).contains(&refused), "files are spread over the devices: {refused} refused");
    drop(mount);
    let mount = elsewhere.place.mount(&options(left));
    for (name, fill) in names.iter().zip(1..) {
        assert!(mount.read(name).expect("reads") == expected(fill), "{name} is what was synced");
    }
}
