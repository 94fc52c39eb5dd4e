//! Mounts that lose their power while they are written to: at every moment at which that could make a difference.

use crate::exercise::crash::{self, Kept, Rules};
use crate::fixtures::mounted::{Options, Site};
use crate::fixtures::power::{Left, Moment, Power};
use forebay_daemon::io::MemoryDevice;
use forebay_daemon::units::MIB;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Small enough that space is reclaimed while the writer runs.
const DEVICE_BYTES: u64 = 64 * MIB;
/// Where the writer works, below the mount.
const DIR: &str = "round";

/// What a power cut leaves: names up to the last sync, contents as of the last sync of each file.
const RULES: Rules = Rules { names: Kept::Synced, contents: Kept::Synced, sync_keeps_name: true, torn_writes: true };

/// A power cut, and what the writer had been told by then.
struct Cut {
    number: u64,
    moment: Moment,
    left: Left,
    log: String,
}

/// Cuts the power at every `each`th moment.
struct Cutter {
    power: Arc<Power>,
    log: PathBuf,
    each: u64,
    seed: u64,
    moments: AtomicU64,
    /// Has room for one: the writer waits for the checks.
    cuts: SyncSender<Cut>,
}

impl Cutter {
    fn at(&self, moment: Moment) {
        let number = self.moments.fetch_add(1, Ordering::Relaxed);
        if !number.is_multiple_of(self.each) {
            return;
        }
        let (left, log) = self.power.cut(self.seed + number, || std::fs::read_to_string(&self.log).unwrap_or_default());
        // Before the writer has begun there is nothing to compare.
        if log.contains("start") {
            let _ = self.cuts.send(Cut { number, moment, left, log });
        }
    }
}

fn options(left: Left, copies: u8) -> Options {
    Options {
        devices: left.devices.len(),
        dirty_copies: copies,
        replace_devices: Some(left.devices),
        replace_metadata: Some(left.metadata),
        ..Options::default()
    }
}

/// Mounts what each cut left and compares it with the log; how many cuts there were at each kind of moment, and synced files in them.
fn check(site: &Site, cuts: Receiver<Cut>, copies: u8) -> (BTreeMap<Moment, u64>, usize) {
    let (mut at, mut synced) = (BTreeMap::new(), 0);
    for Cut { number, moment, mut left, log } in cuts {
        if copies > 1 {
            // With two copies any one device may be lost as well.
            let lost = at.values().sum::<u64>() as usize % left.devices.len();
            left.devices[lost] = Arc::new(MemoryDevice::new(DEVICE_BYTES));
        }
        let elsewhere = site.place().elsewhere();
        let place = &elsewhere.place;
        let log_path = place.home.join("log");
        std::fs::write(&log_path, log).expect("writes the log");
        let mount = place.mount(&options(left, copies));
        let dir = mount.path(DIR);
        let survived = crash::check(&dir, &log_path, &RULES);
        let survived = survived.unwrap_or_else(|failure| panic!("power cut {number}, at {moment:?}: {failure}"));
        synced += survived.synced_files;
        *at.entry(moment).or_default() += 1;
        goes_on(&dir.join("afterwards"));
    }
    (at, synced)
}

/// What was left can be written to.
fn goes_on(path: &Path) {
    std::fs::write(path, b"goes on").expect("writes");
    std::fs::File::open(path).and_then(|file| file.sync_all()).expect("syncs");
    assert_eq!(std::fs::read(path).expect("reads"), b"goes on");
}

fn cut_power(seed: u64, operations: u64, devices: usize, each: u64, copies: u8) {
    let site = Site::new();
    let power = Power::new(devices, DEVICE_BYTES);
    let mount = site.mount(&options(power.supply(), copies));
    let dir = mount.path(DIR);
    std::fs::create_dir(&dir).expect("makes a directory");
    std::fs::File::open(&dir).and_then(|dir| dir.sync_all()).expect("syncs it");
    let home = tempfile::tempdir().expect("a temporary directory");
    let log = home.path().join("log");
    let (send, cuts) = sync_channel(1);
    let cutter = Cutter { power: power.clone(), log: log.clone(), each, seed, moments: AtomicU64::new(0), cuts: send };
    let cutter = Arc::new(Mutex::new(Some(Arc::new(cutter))));
    let watching = cutter.clone();
    power.watch(move |moment| {
        let cutter = watching.lock().expect("no panic below").clone();
        if let Some(cutter) = cutter {
            cutter.at(moment);
        }
    });
    let done = AtomicBool::new(false);
    let (at, synced) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| check(&site, cuts, copies));
        let churn = scope.spawn(|| {
            // Whatever was released is overwritten soon.
            let path = mount.path("churn");
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                std::fs::write(&path, crate::exercise::content::bytes(round, 0, 3 << 20)).expect("writes");
                std::fs::File::open(&path).and_then(|file| file.sync_all()).expect("syncs");
            }
        });
        let plan = crash::Plan { seed, operations, ..crash::Plan::default() };
        let ended = crash::Writer::new(&dir, &log, &plan).expect("a new log").run();
        ended.expect("the mount refuses nothing");
        done.store(true, Ordering::Relaxed);
        churn.join().expect("churns");
        *cutter.lock().expect("no panic below") = None;
        checking.join().expect("every power cut leaves what was promised")
    });
    println!("{operations} operations, power cuts at {at:?}, {synced} synced files");
    assert_eq!(at.len(), 7, "every kind of moment: {at:?}");
    assert!(synced > 0, "something was synced");
}

#[test]
fn a_power_cut_leaves_what_was_synced() {
    cut_power(1, 120, 1, 6, 1);
}

#[test]
fn a_power_cut_leaves_what_was_synced_to_two_devices() {
    cut_power(2, 120, 2, 7, 1);
}

#[test]
fn a_power_cut_that_takes_a_device_with_it_leaves_what_was_synced() {
    cut_power(3, 120, 2, 7, 2);
}

/// `cargo nextest run -p forebay-tests --run-ignored only power_cuts_everywhere`
#[test]
#[ignore = "takes minutes"]
fn power_cuts_everywhere() {
    (10..14).for_each(|seed| cut_power(seed, 200, 1 + seed as usize % 2, 1, 1));
    (14..16).for_each(|seed| cut_power(seed, 200, 2, 1, 2));
}

#[test]
fn what_nobody_synced_is_durable_after_a_second() {
    let site = Site::new();
    let power = Power::new(1, DEVICE_BYTES);
    let mount = site.mount(&options(power.supply(), 1));
    std::fs::write(mount.path("written"), b"by a round").expect("writes");
    std::fs::create_dir(mount.path("made")).expect("makes a directory");
    std::thread::sleep(Duration::from_millis(1600));
    std::fs::rename(mount.path("made"), mount.path("renamed")).expect("renames");
    std::thread::sleep(Duration::from_millis(1600));
    for seed in 0..8 {
        let (left, ()) = power.cut(seed, || ());
        let elsewhere = site.place().elsewhere();
        let after = elsewhere.place.mount(&options(left, 1));
        assert_eq!(after.read("written").expect("it is there"), b"by a round");
        assert!(after.path("renamed").is_dir() && !after.path("made").exists());
    }
}
